"""Find the known container escapes to which a version of runc or containerd is open. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Version = tuple[int, int, int, float]

# The escapes, and the first release of each branch that has the fix. Later branches have it.
# https://github.com/opencontainers/runc/security/advisories
RUNC_FIXES: Mapping[str, tuple[str, ...]] = {
    "CVE-2019-5736": ("1.0.0-rc7",),
    "CVE-2021-30465": ("1.0.0-rc95",),
    "CVE-2024-21626": ("1.1.12",),
    "CVE-2025-31133": ("1.2.8", "1.3.3", "1.4.0-rc.3"),
    "CVE-2025-52565": ("1.2.8", "1.3.3", "1.4.0-rc.3"),
    "CVE-2025-52881": ("1.2.8", "1.3.3", "1.4.0-rc.3"),
}
# https://github.com/containerd/containerd/security/advisories
CONTAINERD_FIXES: Mapping[str, tuple[str, ...]] = {
    "CVE-2020-15257": ("1.3.9", "1.4.3"),
    "CVE-2022-23648": ("1.4.13", "1.5.10", "1.6.1"),
}

# Two of Docker's network locks may wait for each other for ever when containers join and leave in
# numbers; after that the engine starts none. https://github.com/moby/moby/issues/46661
DEADLOCK_FIXES = ("20.10.27", "23.0.0")

# Distributions keep a version and add fixes to it. These packages have the fix.
BACKPORTS: Mapping[str, str] = {
    # https://security-tracker.debian.org/tracker/CVE-2024-21626
    "CVE-2024-21626": r"1\.1\.5\+ds1-1\+deb12u[1-9]|1\.0\.0~rc93\+ds1-5\+deb11u[3-9]",
}

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:[-~.]?rc[.-]?(\d+))?")


def parse(text: str) -> Version | None:
    """Return a version as numbers, in order: a release candidate comes before its release."""
    found = _VERSION.match(text.strip())
    if not found:
        return None
    major, minor, patch, candidate = found.groups()
    return int(major), int(minor), int(patch or 0), float(candidate or "inf")


def open_escapes(text: str, fixes: Mapping[str, Iterable[str]]) -> list[str] | None:
    """Return the escapes to which a version is open, or `None` if it cannot be read.

    `text` is the version of the release or, better, of the distribution's package, which tells
    some of the fixes that were backported.
    """
    version = parse(text)
    if version is None:
        return None
    return [
        escape
        for escape, fixed in fixes.items()
        if not _has_fix(version, fixed) and not _is_backported(text, escape)
    ]


def has_fix(text: str, fixed: Iterable[str]) -> bool | None:
    """Return True if a version has a fix, `None` if the version cannot be read.

    `fixed` is the first version of each branch with the fix; later branches have it, too.
    """
    version = parse(text)
    return None if version is None else _has_fix(version, fixed)


def _has_fix(version: Version, fixed: Iterable[str]) -> bool:
    firsts = [first for first in map(parse, fixed) if first is not None]
    if version[:2] > max(firsts)[:2]:
        return True
    return any(version[:2] == first[:2] and version >= first for first in firsts)


def _is_backported(text: str, escape: str) -> bool:
    return escape in BACKPORTS and re.match(BACKPORTS[escape], text) is not None
