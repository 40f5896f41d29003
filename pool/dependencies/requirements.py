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

    Names and extras are spelled as PEP 503 has it, versions as PEP 440 has it; the order of
    items, extras and versions does not count. Raises `InvalidRequirement`.
    """
    return tuple(sorted({_canonical(Requirement(item)) for item in items}))


def key_of(requirements: Requirements, *about: str) -> str:
    """Return a digest of normalised requirements and of whatever else a layer depends on."""
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
    # ~=2.0 is not ~=2: the number of parts says how far up it may go.
    strip = specifier.operator != "~="
    return specifier.operator + canonicalize_version(specifier.version, strip_trailing_zero=strip)


@dataclass(frozen=True, slots=True)
class PackageList:
    """Packages that may be asked for, if any are named, and packages that may not be."""

    allowed: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()

    def refuses(self, item: str) -> str | None:
        """Return why a requirement may not be asked for, `None` where it may."""
        name = canonicalize_name(Requirement(item).name)
        if name in self.denied:
            return "is denied on this server"
        if self.allowed and name not in self.allowed:
            return "is not among the packages that this server allows"
        return None


EVERY_PACKAGE = PackageList()
