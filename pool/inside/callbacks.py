"""Import `ctypes` so that no file is left open for the callbacks that are to come.

Where libffi has static trampolines it makes room for callbacks by mapping its own file, and
keeps that open: from the import of `_ctypes` on in CPython 3.14 and later, from the first callback
on before. A child of PID 1 closes what PID 1 has open, and libffi would then map whatever file
of the snippet's has that number. A libffi that cannot open its file when it first tries to makes
callbacks in anonymous memory instead, for as long as the process and its forks live.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import os
import sys
from importlib import _bootstrap
from resource import RLIMIT_NOFILE, getrlimit, setrlimit
from typing import Any, Iterator


@contextlib.contextmanager
def _no_more_files() -> Iterator[None]:
    """Let nothing be opened for a while.

    `lowest` is the lowest number that a file could have: below it all are taken.
    """
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    limit, most = getrlimit(RLIMIT_NOFILE)
    setrlimit(RLIMIT_NOFILE, (lowest, most))
    try:
        yield
    finally:
        setrlimit(RLIMIT_NOFILE, (limit, most))


def _import_ctypes() -> Any:  # noqa: ANN401
    """Return `ctypes`, or None where there is none.

    To load `_ctypes` takes files; to initialise it, which is a step of its own, must not.
    """
    importer: Any = _bootstrap  # as importlib.util does it, which would stay imported
    spec = importer._find_spec("_ctypes", None)  # noqa: SLF001
    if spec and "_ctypes" not in sys.modules:
        try:
            module = sys.modules["_ctypes"] = importer.module_from_spec(spec)
            with _no_more_files():
                spec.loader.exec_module(module)
        except Exception:  # noqa: BLE001 - then the ordinary way
            sys.modules.pop("_ctypes", None)
    try:
        import ctypes  # noqa: PLC0415
    except ImportError:
        return None
    return ctypes


def settle() -> None:
    """Make a callback, so that libffi makes its choice before any import makes one."""
    if ctypes is not None:
        with _no_more_files(), contextlib.suppress(MemoryError):
            ctypes.CFUNCTYPE(None)(id)


ctypes: Any = _import_ctypes()
