"""What every container of a language has, and what of a request is left to be installed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pool.dependencies.requirements import normalise
from pool.errors import InstallError, InstallFailure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pool.dependencies.requirements import Requirements

_IMPLEMENTATIONS = {"cpython": "CPython", "pypy": "PyPy"}


@dataclass(frozen=True, slots=True)
class Stock:
    """What a language's containers have: their interpreter, and the packages of their profile.

    `environment` holds the values of markers (PEP 508). By the names of the packages, `versions`
    holds their versions, and `extras` the lines of their metadata about extras.
    """

    environment: Mapping[str, str]
    versions: Mapping[str, Version] = field(default_factory=dict)
    extras: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, runner: Mapping[str, object]) -> Stock:
        """Return the stock of a container, from what its runner said of itself."""
        python, implementation = str(runner["python"]), str(runner["implementation"])
        environment = {
            "implementation_name": implementation,
            "implementation_version": python,
            "os_name": "posix",
            "platform_machine": str(runner.get("machine", "")),
            "platform_python_implementation": _IMPLEMENTATIONS.get(implementation, implementation),
            "platform_system": "Linux",
            "python_full_version": python,
            "python_version": ".".join(python.split(".")[:2]),
            "sys_platform": "linux",
        }
        versions: dict[str, Version] = {}
        extras: dict[str, Sequence[str]] = {}
        told = cast("Mapping[str, Sequence[str]]", runner.get("extras", {}))
        for one in cast("Sequence[str]", runner.get("installed", ())):
            name, _, version = one.partition("==")
            try:
                versions[canonicalize_name(name)] = Version(version)
            except InvalidVersion:
                continue
            if one in told:
                extras[canonicalize_name(name)] = told[one]
        return cls(environment, versions, extras)

    @property
    def pins(self) -> tuple[str, ...]:
        """The packages as requirements, such as `numpy==2.1.0`."""
        return tuple(sorted(f"{name}=={version}" for name, version in self.versions.items()))

    def lacks(self, requirements: Requirements) -> Requirements:
        """Return what has to be installed: without what does not apply, or is there already.

        Raises `InstallError` for a requirement that the version of a package contradicts.
        """
        left = []
        for item in requirements:
            requirement = Requirement(item)
            if not self._applies(requirement):
                continue
            requirement.marker = None
            version = self.versions.get(canonicalize_name(requirement.name))
            if version is None:
                left.append(str(requirement))
            elif not requirement.specifier.contains(version, prereleases=True):
                raise InstallError(
                    f"could not install {item}: the language has {requirement.name} {version}, "
                    "which a run cannot replace",
                    InstallFailure.CONFLICT,
                )
            elif requirement.extras:
                left.append(str(requirement))
        return normalise(left)

    def _applies(self, requirement: Requirement) -> bool:
        if requirement.marker is None:
            return True
        try:
            return requirement.marker.evaluate(dict(self.environment))
        except (UndefinedComparison, UndefinedEnvironmentName):
            return True  # pip says what is wrong with it
