"""Why no build of a package fits an image, and what would help. Pure."""

from __future__ import annotations

import json
import re
from math import prod
from typing import TYPE_CHECKING

from packaging.utils import parse_sdist_filename, parse_wheel_filename

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.tags import Tag
    from packaging.version import Version

_ELSEWHERE = "as PGEXEC_IMAGE or that of a profile"
_LIBCS = {
    "musl": ("manylinux", "glibc", "python:slim"),
    "glibc": ("musllinux", "musl", "python:alpine"),
}
MAX_BUILDS = 500
"""As many as `look` tells at the most."""
_MAX_TAGS = 64
"""Of one file. A name stands for the product of its parts: 200 characters can stand for 35,937."""
_LINUX = ("any", "linux", "manylinux", "musllinux")


def unfit_builds(wanted: Requirement, answer: bytes) -> str | None:
    """Return a sentence on builds that do not fit, `None` if there are none.

    `answer` is what `look` of `pool/inside/pip_install.py` printed. Foreign code may have a hand in
    it, so it counts only if it has the right form.
    """
    try:
        told = json.loads(answer)
        python, libc, machine = str(told["python"]), str(told["libc"]), str(told["machine"])
        builds = [(str(file), str(reason)) for file, reason in told["builds"][:MAX_BUILDS]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not re.fullmatch(r"\d\.\d+", python) or libc not in _LIBCS or not machine.isidentifier():
        return None
    known = [(*parsed, reason) for file, reason in builds if (parsed := _parsed(file))]
    fitting = [
        (tags, reason)
        for version, tags, reason in known
        if wanted.specifier.contains(version, prereleases=True)
    ]
    if not fitting:
        return f"{wanted.name} exists, but no version of it matches {wanted}" if known else None
    return (
        f"{wanted} exists, but none of its {len(fitting)} builds is for Python {python} on {libc}; "
        f"{_help(fitting, python, libc, machine)}"
    )


def _help(builds: list[tuple[frozenset[Tag], str]], python: str, libc: str, machine: str) -> str:
    if all(reason == "source" for _, reason in builds):
        return "they are sources, which PGEXEC_DEPENDENCY_BINARY_ONLY lets nobody build"
    wheels = [(tag, reason) for tags, reason in builds for tag in tags]
    linux = [(tag, reason) for tag, reason in wheels if tag.platform.startswith(_LINUX)]
    if wheels and not linux:
        return "they are for other systems than Linux"
    here = [(tag, reason) for tag, reason in linux if tag.platform.endswith((machine, "any"))]
    if linux and not here:
        return f"they are for other processors than {machine}"
    platform, other, image = _LIBCS[libc]
    if any(
        reason == "tags" and tag.platform.startswith((platform, "linux")) and _is_for(tag, python)
        for tag, reason in here
    ):
        return f"an image with {other}, such as {image}, may have one, {_ELSEWHERE}"
    return f"an image with another Python may have one, {_ELSEWHERE}"


def _is_for(tag: Tag, python: str) -> bool:
    """Return True if the tag is for this version of CPython, whatever the platform."""
    if tag.abi == "abi3" and (lowest := re.fullmatch(r"cp3(\d+)", tag.interpreter)):
        return int(lowest[1]) <= int(python.partition(".")[2])
    return tag.interpreter in (f"cp{python.replace('.', '')}", "py3")


def _parsed(file: str) -> tuple[Version, frozenset[Tag]] | None:
    """Return the version and the tags of a build; a source has no tags."""
    try:
        if file.endswith(".whl"):
            if prod(part.count(".") + 1 for part in file[:-4].split("-")[-3:]) > _MAX_TAGS:
                return None
            _, version, _, tags = parse_wheel_filename(file)
            return version, tags
        return parse_sdist_filename(file)[1], frozenset()
    except ValueError:  # what packaging raises, and int() for too many digits
        return None
