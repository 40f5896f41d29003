"""Keep modules that are imported already until the snippet imports them, and hand them out then.

A waiting child imports modules ahead (`ahead`). They are not in `sys.modules`: the snippet must not
see them before it imports them. When it does, the interpreter looks for the module as always, so
that a file of the snippet's own comes first. Only the step that would make and run a new module is
replaced: `importlib` gets the one on the shelf, and all that its code would have imported and
registered is put in place, in the order in which its code would have done so (docs/adr/0020).

Whatever could make a new import differ from the one that was made ahead is looked at before. If
anything does, the interpreter runs the module's code as always.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import builtins
import os
import sys
from _thread import allocate_lock
from importlib import _bootstrap
from itertools import islice
from os import getcwd, getpid, listdir
from sys import getprofile, gettrace
from typing import Any, Callable, Iterable

# This module runs in the midst of the snippet, which may have replaced builtins.
__builtins__: Any = dict(vars(builtins))  # type: ignore[no-redef]

_importlib: Any = _bootstrap
CURRENT_DIRECTORY = ""
"""Stands for the current directory among the variables of the environment that a module reads."""
_CHANGING = ("sys", "builtins", "__main__", "importlib._bootstrap", "_frozen_importlib")
"""Modules whose attributes change all the time. What matters of them is looked at separately."""


class Hidden:
    """A module on the shelf, and all that the import of it did besides making it.

    - `origin`: the file that it comes from, as its spec says it
    - `attributes`: the first of its attributes, those that it had when its own code had ended
    - `requests`: what its code imported, by whole names, in this order, also if it was there
    - `absent`: what its code tried to import and did not find
    - `aliases`: what else its code put into `sys.modules`
    - `effects`: calls that its code made to register something, to be made again
    - `loggers`: the loggers that its code made
    - `reads`: the variables of the environment that its code read, and their values
    - `is_late`: true if its package was complete before: only then is it an attribute that the
      package has not got from its own code
    - `finder`: the entry of `sys.path_importer_cache` by which it was found in its package
    """

    __slots__ = (
        "absent",
        "aliases",
        "attributes",
        "effects",
        "finder",
        "is_late",
        "loggers",
        "module",
        "origin",
        "reads",
        "requests",
    )

    def __init__(self, origin: object) -> None:
        self.origin = origin
        self.module: Any = None
        self.attributes: tuple[object, ...] = ()
        self.requests: dict[str, None] = {}
        self.absent: dict[str, None] = {}
        self.aliases: dict[str, Any] = {}
        self.effects: list[tuple[Callable[..., object], Any, Any]] = []
        self.loggers: dict[str, Any] = {}
        self.reads: dict[str, str | None] = {}
        self.is_late = False
        self.finder: tuple[str, Any] | None = None

    def note_attributes(self, size: int) -> None:
        """Note the values of the first `size` attributes; see `is_unchanged`."""
        self.attributes = tuple(islice(vars(self.module).values(), size))

    def is_unchanged(self) -> bool:
        """Return True if no attribute has been replaced or deleted. New ones are no change."""
        values = vars(self.module).values()
        return tuple(islice(values, len(self.attributes))) == self.attributes


class _Plan:
    """What the import of a module comes to as long as nothing is imported.

    `members` are the hidden modules that it loads, in the order in which they are complete. `older`
    are the modules that these need and that were there before. `absent` are those that they did
    not find.
    """

    __slots__ = ("absent", "members", "older")

    def __init__(self) -> None:
        self.members: dict[str, Hidden] = {}
        self.older: dict[str, Hidden] = {}
        self.absent: set[str] = set()


class _Loaded:
    """The loader of a module that is loaded already."""

    create_module = exec_module = staticmethod(id)


class Shelf:
    """The modules that are imported ahead, by name.

    `older` are those that were imported before, which stay in `sys.modules`.
    """

    def __init__(self, older: dict[str, Hidden]) -> None:
        self.hidden: dict[str, Hidden] = {}
        self._older = older
        self._taken: dict[str, Hidden] = {}
        self.libraries: set[str] = set()
        """The directories that the hidden modules come from."""
        self.main: Any = None
        self._plans: dict[str, _Plan] = {}
        self.log_start: Callable[[], float] | None = None
        self._wishes: set[str] = set()
        self._page: Any = None
        self._written = 0
        self._lock = allocate_lock()
        self._pid = getpid()
        self._modules = sys.modules
        self._around = _around()
        self._original = _importlib.module_from_spec

    def open(self) -> None:
        """Let `importlib` take modules from the shelf from now on."""
        give, get, original = self._give, self.hidden.get, self._original
        wishes, wish = self._wishes, self._wish

        def module_from_spec(spec: Any) -> Any:  # noqa: ANN401 - any object that has a spec's parts
            name = spec.name
            if name in wishes:
                wish(name)
            hidden = get(name)
            if hidden is not None and give(hidden, spec):
                return hidden.module
            return original(spec)

        # Tracebacks leave out what belongs to importlib.
        own, theirs = module_from_spec.__code__, original.__code__
        module_from_spec.__code__ = own.replace(
            co_filename=theirs.co_filename, co_firstlineno=theirs.co_firstlineno
        )
        module_from_spec.__module__ = original.__module__
        module_from_spec.__qualname__ = original.__qualname__
        _importlib.module_from_spec = module_from_spec

    def wish(self, page: Any, names: Iterable[str]) -> None:  # noqa: ANN401 - an `mmap`
        """Note on `page` which of the modules `names` the snippet imports."""
        self._page = page
        self._wishes.update(names)

    def _wish(self, name: str) -> None:
        self._wishes.discard(name)
        end = self._written + len(name)
        if end < len(self._page):
            self._page[self._written : end] = name.encode()
            self._written = end + 1

    def _give(self, hidden: Hidden, spec: Any) -> bool:  # noqa: ANN401 - as above
        """Put a module and all that it imports in place. Returns False if its code has to run."""
        # Two threads could take the same modules; the one that comes second runs their code.
        if not self._lock.acquire(False):  # noqa: FBT003
            return False
        try:
            if spec.origin != hidden.origin or not self._is_undisturbed():
                return False
            plan = self._plans.get(spec.name) or self._plan(spec.name)
            if not self._holds(plan):
                return False
            for name, one in plan.members.items():
                if name in self.hidden:
                    self._place(name, one)
            spec.loader = _Loaded
        except Exception:  # noqa: BLE001 - what the snippet has replaced may raise anything
            return False
        finally:
            self._lock.release()
        return True

    def _is_undisturbed(self) -> bool:
        """Return True if nobody watches or changes imports, and this is no fork of the child.

        A fork would share what a module has drawn at random.
        """
        if gettrace() is not None or getprofile() is not None or getpid() != self._pid:
            return False
        tracing = sys.modules.get("_tracemalloc")
        if tracing is not None and tracing.is_tracing():
            return False
        monitoring = getattr(sys, "monitoring", None)
        if monitoring is not None and any(map(monitoring.get_tool, range(6))):
            return False
        return sys.modules is self._modules and _around() == self._around

    def _shadows(self) -> set[str] | None:
        """Return what could be found before the libraries; None if that cannot be said."""
        found: set[str] = set()
        path = sys.path
        for last in range(len(path) - 1, -1, -1):
            if path[last] in self.libraries:
                break
        else:
            return None
        for directory in path[:last]:
            if type(directory) is not str:
                return None
            if directory not in self.libraries:
                try:
                    names = listdir(directory or ".")
                except NotADirectoryError:
                    return None
                except OSError:
                    continue
                found.update(name.partition(".")[0] for name in names)
        return found

    def plan(self, name: str) -> None:
        """Prepare to give a module, if it is here, so that it takes less time then."""
        if name in self.hidden:
            self._plans[name] = self._plan(name)

    def _plan(self, name: str) -> _Plan:
        plan = _Plan()
        self._visit(name, plan, set())
        return plan

    def _visit(self, name: str, plan: _Plan, visited: set[str]) -> None:
        """Add a module to the plan after all that it imports."""
        visited.add(name)
        hidden = self.hidden.get(name)
        if hidden is None:
            if name not in _CHANGING:
                plan.older[name] = self._find(name)
            return
        parent = name.rpartition(".")[0]
        if parent and parent not in visited:
            self._visit(parent, plan, visited)
        for request in hidden.requests:
            if request not in visited:
                self._visit(request, plan, visited)
        plan.absent.update(hidden.absent)
        plan.members[name] = hidden

    def _holds(self, plan: _Plan) -> bool:
        """Return True if the import comes to now what it came to when it was made."""
        shadows = self._shadows()
        modules = self._modules
        pending = [name for name in plan.members if name in self.hidden]
        if shadows is None or not modules.keys().isdisjoint(pending):
            return False
        if not shadows.isdisjoint(pending) or not shadows.isdisjoint(plan.absent):
            return False
        taken = {name: one for name, one in plan.members.items() if name not in self.hidden}
        for name, one in (*plan.older.items(), *taken.items()):
            if modules.get(name) is not one.module or not one.is_unchanged():
                return False
        return all(map(self._finds_the_same, map(self.hidden.__getitem__, pending)))

    def _finds_the_same(self, hidden: Hidden) -> bool:
        """Return True if the module would find around it what it found when it was imported."""
        if not (hidden.aliases or hidden.reads or hidden.loggers):
            return True
        if not self._modules.keys().isdisjoint(hidden.aliases):
            return False
        if any(value != _read(name) for name, value in hidden.reads.items()):
            return False
        if not hidden.loggers:
            return True
        logging = self._find("logging").module
        return hidden.loggers.keys().isdisjoint(logging.root.manager.loggerDict)

    def _find(self, name: str) -> Hidden:
        return self.hidden.get(name) or self._taken.get(name) or self._older[name]

    def _place(self, name: str, hidden: Hidden) -> None:
        """Put a module where its import would have put it, and make its effects happen."""
        module = hidden.module
        modules = self._modules
        for alias, value in hidden.aliases.items():
            modules[alias] = modules["__main__"] if value is self.main else value
        modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent and hidden.is_late:
            setattr(self._find(parent).module, child, module)
        if hidden.finder is not None:
            sys.path_importer_cache.setdefault(*hidden.finder)
        for register, arguments, keywords in hidden.effects:
            register(*arguments, **keywords)
        if hidden.loggers:
            modules["logging"].root.manager.loggerDict.update(hidden.loggers)
        if name == "logging" and self.log_start is not None:
            module._startTime = self.log_start()  # noqa: SLF001 - it is what `relativeCreated` tells
            hidden.note_attributes(len(hidden.attributes))
        self._taken[name] = hidden
        del self.hidden[name]


def _around() -> list[int]:
    """Return what must be the same objects as when the modules were imported."""
    parts = (*sys.meta_path, None, *sys.path_hooks, None, builtins.__import__, sys.platform)
    return list(map(id, parts))


def _read(name: str) -> str | None:
    return getcwd() if name == CURRENT_DIRECTORY else os.environ.get(name)
