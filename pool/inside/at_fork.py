"""Spare each run what `threading` would do after the fork from PID 1, where it is for nothing.

`threading` goes through all threads, and makes their locks anew, in every forked child: 0.15 ms,
most of it for copies of the pages of memory that it touches. PID 1 has but one thread and holds no
lock, so that a child finds all as it should be, but for the kernel's number of that thread.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from itertools import chain, repeat, starmap
from typing import Any, Callable

_hooks: list[Callable[[], object]] = []
"""What `threading` wants to have called in children; nothing where it was imported before."""
_renumber: list[Callable[[], object]] = []
"""What has the main thread ask the kernel for its number anew; nothing where there are none."""


def import_threading() -> None:
    """Import `threading`, and have what it registers called in the forks of a snippet alone."""
    module: Any = os
    if "threading" not in sys.modules and hasattr(module, "register_at_fork"):
        register = module.register_at_fork

        def register_later(**hooks: Callable[[], object]) -> None:
            if list(hooks) == ["after_in_child"]:
                hook = hooks["after_in_child"]
                _hooks.append(hook)
                # Nothing the first time, which is in a child of PID 1. Functions of C alone: no
                # tracer of the snippet's sees them.
                calls = chain((None,), starmap(hook, repeat(())))
                hooks = {"after_in_child": partial(next, calls)}
            register(**hooks)

        module.register_at_fork = register_later
        try:
            import threading  # noqa: PLC0415 - here, and first of all
        finally:
            module.register_at_fork = register
    else:
        import threading  # noqa: PLC0415
    renumber = getattr(threading.main_thread(), "_set_native_id", None)
    if renumber:  # before 3.13 no hook does it; not every system has such numbers
        _renumber.append(renumber)


def tidy() -> None:
    """Let `threading` forget, in PID 1, the threads that imports have started and ended."""
    for hook in _hooks:
        hook()


def in_child() -> None:
    """Do in a child of PID 1 the little that is left to do."""
    for renumber in _renumber:
        renumber()
