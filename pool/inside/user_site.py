"""Make an interpreter use a layer of dependencies.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import site
import sys
from importlib.machinery import FileFinder, PathFinder
from typing import Any

_MAX_EXTRAS = 32 << 10
"""The characters that all lines about extras together may have: they become an argument."""
_layers: list[str] = []


def put_on_path(layer: str) -> None:
    """Make the directory `layer` the user's site directory, by the means of `site`.

    So it comes after the standard library and before the image's own packages, and its `.pth`
    files count. Every interpreter that the snippet starts uses it, too (PYTHONUSERBASE).
    """
    os.environ["PYTHONUSERBASE"] = layer
    os.environ["PATH"] = f"{layer}/bin:{os.environ.get('PATH', os.defpath)}"
    site.USER_BASE = site.USER_SITE = None
    site.ENABLE_USER_SITE = True
    before = set(sys.path)
    packages = site.getsitepackages()
    site.addsitedir(site.getusersitepackages())
    _layers.append(site.getusersitepackages())
    _before_the_images_own(before, packages)


def open_home() -> None:
    """Let the snippet install packages of its own, on top of the layers on the path.

    A layer is read-only. So the user's site directory is one in the snippet's home, which the reset
    wipes; a `.pth` file in it names the layers to every interpreter that the snippet starts. Does
    nothing without a layer: `watch` is enough then.
    """
    if not _layers or not (home := os.environ.get("HOME")):
        return
    layer = os.environ["PYTHONUSERBASE"]
    base = f"{home}/.local"
    own = site.getusersitepackages().replace(layer, base, 1)
    try:
        os.makedirs(own)
        with open(f"{own}/pgexec-layers.pth", "w", encoding="utf-8") as file:
            file.writelines(
                f"import site, sys; {one!r} in sys.path or site.addsitedir({one!r})\n"
                for one in reversed(_layers)
            )
    except OSError:
        return
    os.environ["PYTHONUSERBASE"] = base
    os.environ["PATH"] = f"{base}/bin:{os.environ['PATH']}"
    site.USER_BASE, site.USER_SITE = base, own
    sys.path.insert(sys.path.index(_layers[-1]), own)


def watch() -> None:
    """Find the packages that a snippet installs for itself, although there were none at its start.

    An interpreter has the user's site directory on `sys.path` only if it exists at the start, so a
    snippet that runs `pip install` would not find what that installed. Here the last directory of
    the path looks there when it has not found a module. Until then nothing is different.
    """
    for path in reversed(sys.path):
        finder: Any = sys.path_importer_cache.get(path)
        if type(finder) is FileFinder:
            finder.__class__ = _Finder
            return


class _Finder(FileFinder):
    def find_spec(self, fullname: str, target: Any = None) -> Any:  # noqa: ANN401 - as its base
        spec = super().find_spec(fullname, target)
        if spec is None and _found_user_site():
            return PathFinder.find_spec(fullname, [site.getusersitepackages()], target)
        return spec


_Finder.__name__ = _Finder.__qualname__ = FileFinder.__name__
_Finder.__module__ = FileFinder.__module__


def _found_user_site() -> bool:
    """Put the user's site directory on the path; return False if it is there, or does not exist."""
    with contextlib.suppress(OSError):
        where = site.getusersitepackages()
        if site.ENABLE_USER_SITE and where not in sys.path and os.path.isdir(where):
            before = set(sys.path)
            site.addsitedir(where)
            _before_the_images_own(before, site.getsitepackages())
            return True
    return False


def _before_the_images_own(before: set[str], packages: list[str]) -> None:
    """Move what was added to the path since `before` to its place before the image's packages."""
    first = next((at for at, path in enumerate(sys.path) if path in packages), len(sys.path))
    sys.path[first:] = sorted(sys.path[first:], key=before.__contains__)  # stable: new ones first


def installed() -> list[str]:
    """Return the distributions of the layer on the path, sorted, as `name==version`."""
    suffix = ".dist-info"
    entries = os.listdir(site.getusersitepackages())
    names = [name[: -len(suffix)] for name in entries if name.endswith(suffix)]
    return sorted("==".join(name.rsplit("-", 1)) for name in names)


def extras() -> dict[str, list[str]]:
    """Return the lines of metadata about extras, by distribution as in `installed`.

    Distributions whose lines are very many are left out.
    """
    found: dict[str, list[str]] = {}
    left = _MAX_EXTRAS
    for one in installed():
        path = os.path.join(site.getusersitepackages(), "-".join(one.split("==")) + ".dist-info")
        with contextlib.suppress(OSError, ValueError):
            with open(os.path.join(path, "METADATA"), encoding="utf-8") as file:
                head = [line.rstrip() for line in itertools.takewhile(str.strip, file)]
            lines = [line for line in head if _is_of_extras(line)]
            size = sum(map(len, lines))
            if lines and size <= left:
                found[one], left = lines, left - size
    return found


def _is_of_extras(line: str) -> bool:
    return line.startswith("Provides-Extra:") or (
        line.startswith("Requires-Dist:") and "extra" in line.partition(";")[2]
    )
