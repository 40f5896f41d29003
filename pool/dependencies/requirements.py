"""Requirements in one spelling, so that equal sets have one layer. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, canonicalize_version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.specifiers import Specifier

Requirements = tuple[str, ...]
"""Normalised by `normalise`: each item in its canonical spelling, sorted, none twice."""


def normalise(items: Iterable[str]) -> Requirements:
    """Return requirements (PEP 508, without addresses) in one spelling for all equal sets.

    Names and extras follow PEP 503, versions PEP 440. The order of items, extras and versions
    does not count. Example: `Flask >=2.0` and `flask>=2` both give `flask>=2`. Raises
    `InvalidRequirement`.
    """
    return tuple(sorted({_canonical(Requirement(item)) for item in items}))


def key_of(requirements: Requirements, *about: str) -> str:
    """Return a digest of normalised requirements and of `about`: all that the layer depends on."""
    return hashlib.sha256(json.dumps([requirements, about]).encode()).hexdigest()


def _canonical(requirement: Requirement) -> str:
    name = canonicalize_name(requirement.name)
    extras = ",".join(sorted(map(canonicalize_name, requirement.extras)))
    versions = ",".join(sorted({_version(one) for one in requirement.specifier}))
    marker = f"; {requirement.marker}" if requirement.marker else ""
    return f"{name}[{extras}]{versions}{marker}" if extras else f"{name}{versions}{marker}"


def _version(specifier: Specifier) -> str:
    if specifier.operator == "===":  # compared as text
        return str(specifier)
    # ~=2.0 is not ~=2: the number of parts limits the versions that match.
    strip = specifier.operator != "~="
    return specifier.operator + canonicalize_version(specifier.version, strip_trailing_zero=strip)


@dataclass(frozen=True, slots=True)
class PackageList:
    """The packages that requests may name: `allowed`, or all if it is empty, without `denied`."""

    allowed: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()

    def refuses(self, item: str) -> str | None:
        """Return the reason why a request may not name `item`, or `None` if it may."""
        name = canonicalize_name(Requirement(item).name)
        if name in self.denied:
            return "is denied on this server"
        if self.allowed and name not in self.allowed:
            return "is not among the packages that this server allows"
        return None


EVERY_PACKAGE = PackageList()
