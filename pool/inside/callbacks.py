"""Import `ctypes` in a way that makes libffi keep no file open.

A libffi with static trampolines maps its own file to make callbacks, and keeps this file open: in
CPython 3.14 and later from the import of `_ctypes` on, in older versions from the first callback
on. But a child of PID 1 closes all files of PID 1. Later libffi would map whatever file of the
snippet's has the same number, and the snippet would crash. If libffi cannot open its file at its
first attempt, it makes callbacks in anonymous memory instead, in this process and in all its forks.

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
    """Make each attempt to open a file fail.

    `lowest` is the lowest free descriptor: all numbers below it are in use, so no number below
    the new limit is free.
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
    """Return `ctypes`, or None if the interpreter has none.

    The first step, to load `_ctypes`, needs files. The second, to initialise it, must open none.
    """
    importer: Any = _bootstrap  # not `importlib.util`: it would stay imported
    spec = importer._find_spec("_ctypes", None)  # noqa: SLF001
    if spec and "_ctypes" not in sys.modules:
        try:
            module = sys.modules["_ctypes"] = importer.module_from_spec(spec)
            with _no_more_files():
                spec.loader.exec_module(module)
        except Exception:  # noqa: BLE001 - the ordinary import below then tries again
            sys.modules.pop("_ctypes", None)
    try:
        import ctypes  # noqa: PLC0415
    except ImportError:
        return None
    return ctypes


def settle() -> None:
    """Make a callback while no file can be opened, so that libffi chooses anonymous memory now.

    Call this before an import that could make the first callback.
    """
    if ctypes is not None:
        with _no_more_files(), contextlib.suppress(MemoryError):
            ctypes.CFUNCTYPE(None)(id)


ctypes: Any = _import_ctypes()
