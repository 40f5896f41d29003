"""Spare each run what `threading` would do after the fork from PID 1, where it is for nothing.

`threading` goes through all threads, and makes their locks anew, in every forked child: 0.15 ms,
most of it for copies of the pages of memory that it touches. PID 1 has but one thread and holds no
lock, so that a child finds all as it should be, but for the kernel's number of that thread.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Callable

_hooks: list[Callable[[], object]] = []
"""What `threading` wants to have called in children; nothing where it was imported before."""


def import_threading() -> None:
    """Import `threading`, and keep what it registers for the forks that a snippet makes."""
    if "threading" in sys.modules or not hasattr(os, "register_at_fork"):
        return
    module: Any = os
    register = module.register_at_fork

    def keep(**hooks: Callable[[], object]) -> None:
        if list(hooks) == ["after_in_child"]:
            _hooks.append(hooks["after_in_child"])
        else:
            register(**hooks)

    module.register_at_fork = keep
    try:
        import threading  # noqa: F401, PLC0415 - for its effect
    finally:
        module.register_at_fork = register


def in_child() -> None:
    """Do in a child of PID 1 the little that is left to do; its own forks get everything."""
    for hook in _hooks:
        os.register_at_fork(after_in_child=hook)
        threading: Any = sys.modules["threading"]
        threading.main_thread()._set_native_id()  # noqa: SLF001 - as the hook does
