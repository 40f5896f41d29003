"""Skip the work of `threading` in the children of PID 1, which do not need it.

In every forked child, `threading` visits all threads and makes their locks anew. This takes 0.15
ms, most of it to copy the memory pages that it touches. PID 1 has one thread only and holds no
lock, so in its child only one thing is wrong: the kernel's number of that thread. A fork of the
snippet's own still needs, and gets, the whole work.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from itertools import chain, repeat, starmap
from typing import Any, Callable

_hooks: list[Callable[[], object]] = []
"""The functions that `threading` wants to be called in children. Empty if an earlier import of
`threading` has registered them already."""
registered: list[object] = []
"""The functions registered for `threading`. By these, `immortal` finds the interpreter's list."""
_renumber: list[Callable[[], object]] = []
"""The function by which the main thread asks the kernel for its number again. Empty if the
interpreter has none."""


def import_threading() -> None:
    """Import `threading`; the functions that it registers run in the forks of a snippet only."""
    module: Any = os
    if "threading" not in sys.modules and hasattr(module, "register_at_fork"):
        register = module.register_at_fork

        def register_later(**hooks: Callable[[], object]) -> None:
            if list(hooks) == ["after_in_child"]:
                hook = hooks["after_in_child"]
                _hooks.append(hook)
                # The first call, in a child of PID 1, does nothing; each later one calls `hook`.
                # All these are functions of C: no tracer of the snippet's sees them.
                calls = chain((None,), starmap(hook, repeat(())))
                hooks = {"after_in_child": partial(next, calls)}
                registered.extend(hooks.values())
            register(**hooks)

        module.register_at_fork = register_later
        try:
            import threading  # noqa: PLC0415 - with `register_later` in place
        finally:
            module.register_at_fork = register
    else:
        import threading  # noqa: PLC0415
    renumber = getattr(threading.main_thread(), "_set_native_id", None)
    if renumber:  # not every system has such numbers; before 3.13 no hook renews them
        _renumber.append(renumber)


def tidy() -> None:
    """Make `threading` forget, in PID 1, the threads that imports have started and ended."""
    for hook in _hooks:
        hook()


def in_child() -> None:
    """Renew the number of the main thread, in a child of PID 1."""
    for renumber in _renumber:
        renumber()
