"""Make an interpreter use a layer of dependencies.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import os
import site
import sys


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
    first = next((at for at, path in enumerate(sys.path) if path in packages), len(sys.path))
    sys.path[first:] = sorted(sys.path[first:], key=before.__contains__)  # stable: new ones first


def installed() -> list[str]:
    """Return the distributions of the layer on the path, sorted, as `name==version`."""
    suffix = ".dist-info"
    entries = os.listdir(site.getusersitepackages())
    names = [name[: -len(suffix)] for name in entries if name.endswith(suffix)]
    return sorted(name.replace("-", "==", 1) for name in names)
