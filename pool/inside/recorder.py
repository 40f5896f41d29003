"""Notice what the import of each module does, so that it can be undone and made to happen again.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import os
import sys
import threading
import time
import warnings
from importlib import _bootstrap
from types import ModuleType
from typing import Any, Callable, Iterator

from pool.inside.shelf import CURRENT_DIRECTORY, Hidden, Shelf

_importlib: Any = _bootstrap
_READ_IN_C = {
    "_hashlib": ("OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES"),
    "_ssl": ("OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES"),
}
"""Variables of the environment that modules of C read, unseen, when they are imported."""


def note_older() -> dict[str, Hidden]:
    """Return what is in `sys.modules` now, by name: what a module needs that is not loaded anew."""
    older: dict[str, Hidden] = {}
    for name, module in sys.modules.items():
        one = older[name] = Hidden("")
        one.module = module
        if isinstance(module, ModuleType):
            one.note_attributes(len(vars(module)))
    return older


class Recorder:
    """Notes what the import of each module does."""

    def __init__(self, older: dict[str, Hidden], step: Callable[[], None]) -> None:
        self._step = step
        self._older = older
        self._finders = set(sys.path_importer_cache)
        self._sizes: dict[str, int] = {}
        """The numbers of attributes: of what is loaded, when its own code had ended; of older
        packages, before they got a new submodule."""
        self._loaded: dict[str, Hidden] = {}
        self._loading: list[Hidden] = []
        self._names: list[str] = []
        self._known = len(sys.modules)
        self._aliases = sys.modules.keys() - older.keys()
        self._loggers: set[str] = set(self._logger_dict())
        self._filters = list(warnings.filters)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Watch imports until the block ends."""
        module: Any = os
        environ = type(os.environ)
        forks = hasattr(module, "register_at_fork")
        with contextlib.ExitStack() as stack:
            watched: tuple[tuple[Any, str, Callable[[Any], Any]], ...] = (
                (_importlib, "_load_unlocked", self._load),
                (builtins, "__import__", self._import),
                (environ, "__getitem__", self._read_variable),
                (module, "getcwd", self._read_directory),
                (atexit, "register", self._register),
                *([(module, "register_at_fork", self._register)] if forks else []),
                (threading, "_register_atexit", self._register),
            )
            for holder, name, own in watched:
                if hasattr(holder, name):
                    original = getattr(holder, name)
                    stack.callback(setattr, holder, name, original)
                    setattr(holder, name, own(original))
            yield

    def _load(self, load: Callable[..., Any]) -> Any:  # noqa: ANN401 - a function of importlib's
        def load_and_note(spec: Any) -> Any:  # noqa: ANN401 - as importlib's own
            self._step()
            name: str = spec.name
            hidden = Hidden(spec.origin)
            if self._loading:
                self._loading[-1].requests[name] = None
            parent = name.rpartition(".")[0]
            if parent in self._older:
                self._sizes.setdefault(parent, len(vars(sys.modules[parent])))
            self._loading.append(hidden)
            self._names.append(name)
            try:
                module = load(spec)
            finally:
                self._loading.pop()
                self._names.pop()
            hidden.is_late = parent not in self._names
            self._note(name, module, hidden)
            return module

        return load_and_note

    def _note(self, name: str, module: Any, hidden: Hidden) -> None:  # noqa: ANN401 - a module?
        if not isinstance(module, ModuleType):
            return  # what needs it stays off the shelf, too
        self._loaded[name] = hidden
        hidden.module = module
        self._sizes[name] = len(vars(module))
        for variable in _READ_IN_C.get(name, ()):
            hidden.reads[variable] = os.environ.get(variable)
        loggers = self._logger_dict()
        if len(loggers) != len(self._loggers):
            hidden.loggers = {key: loggers[key] for key in loggers if key not in self._loggers}
            self._loggers.update(loggers)
        modules = sys.modules
        self._known += 1
        if len(modules) > self._known + len(self._loading):
            hidden.aliases = {
                key: modules[key]
                for key in modules
                if not (key in self._older or key in self._loaded or key in self._aliases)
                and not self._is_loading(key)
            }
            self._aliases.update(hidden.aliases)
            self._known += len(hidden.aliases)

    def _is_loading(self, name: str) -> bool:
        spec: Any = getattr(sys.modules[name], "__spec__", None)
        return bool(getattr(spec, "_initializing", False)) and spec.name == name

    def _import(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def import_and_note(
            name: str,
            globals: Any = None,  # noqa: A002, ANN401 - as builtins.__import__
            locals: Any = None,  # noqa: A002, ANN401
            fromlist: Any = (),  # noqa: ANN401
            level: int = 0,
        ) -> Any:  # noqa: ANN401
            try:
                module = original(name, globals, locals, fromlist, level)
            except ImportError:
                if self._loading and not level:
                    self._loading[-1].absent[name.partition(".")[0]] = None
                raise
            if self._loading:
                requests = self._loading[-1].requests
                whole = name
                if level:
                    package = globals["__spec__"].parent.split(".")
                    whole = ".".join([*package[: len(package) - level + 1], *filter(None, [name])])
                requests[whole] = None
                for item in fromlist or ():
                    if f"{whole}.{item}" in sys.modules:
                        requests[f"{whole}.{item}"] = None
            return module

        return import_and_note

    def _read_variable(self, original: Callable[[Any, str], str]) -> Callable[[Any, str], str]:
        def read_and_note(environ: Any, key: str) -> str:  # noqa: ANN401 - os._Environ
            try:
                value = original(environ, key)
            except KeyError:
                self._note_read(key, None)
                raise
            self._note_read(key, value)
            return value

        return read_and_note

    def _read_directory(self, original: Callable[[], str]) -> Callable[[], str]:
        def read_and_note() -> str:
            directory = original()
            self._note_read(CURRENT_DIRECTORY, directory)
            return directory

        return read_and_note

    def _note_read(self, key: str, value: str | None) -> None:
        if self._loading:
            self._loading[-1].reads[key] = value

    def _register(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def note(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - any function's
            if not self._loading:
                return original(*arguments, **keywords)
            self._loading[-1].effects.append((original, arguments, keywords))
            return arguments[0] if arguments else None

        return note

    def _logger_dict(self) -> dict[str, Any]:
        logging = sys.modules.get("logging")
        root = getattr(logging, "root", None)
        return {} if root is None else root.manager.loggerDict

    def hide(self, shelf: Shelf) -> None:
        """Take what was loaded out of `sys.modules`, and put it on the shelf if it is whole."""
        loaded = self._loaded
        loggers = self._logger_dict()
        for name, hidden in loaded.items():
            for key in (name, *hidden.aliases):
                sys.modules.pop(key, None)
            for key in hidden.loggers:
                loggers.pop(key, None)
        self._take_back_attributes()
        finders = sys.path_importer_cache
        directories = {path: finders.pop(path) for path in set(finders) - self._finders}
        if self._filters == list(warnings.filters):
            for name in loaded.keys() - self._broken():
                hidden = shelf.hidden[name] = loaded[name]
                directory = self._directory(name)
                if directory in directories and str(hidden.origin).startswith(directory):
                    hidden.finder = directory, directories[directory]
                hidden.note_attributes(self._sizes[name])
            self._describe(shelf)
        else:
            filters: Any = warnings.filters
            filters[:] = self._filters

    def _directory(self, name: str) -> str:
        """Return the directory of the package that a module is in; `""` if it is in none."""
        parent = name.rpartition(".")[0]
        package = self._loaded.get(parent) or self._older.get(parent)
        return next(iter(getattr(package.module, "__path__", ())), "") if package else ""

    def _describe(self, shelf: Shelf) -> None:
        """Tell the shelf what is around its modules."""
        shelf.main = self._older["__main__"].module
        shelf.libraries.add(os.path.dirname(os.__file__))
        shelf.libraries.update(one for one in sys.path if one.endswith("lib-dynload"))
        if "logging" in shelf.hidden:
            start = getattr(shelf.hidden["logging"].module, "_startTime", None)
            shelf.log_start = time.time_ns if type(start) is int else time.time

    def _take_back_attributes(self) -> None:
        """Remove from packages the submodules that they got after their own code had ended."""
        for name, hidden in self._loaded.items():
            parent, _, child = name.rpartition(".")
            if parent in self._sizes:
                holder = self._loaded.get(parent)
                attributes = vars(holder.module if holder else self._older[parent].module)
                later = list(attributes)[self._sizes[parent] :]
                if child in later and attributes[child] is hidden.module:
                    del attributes[child]

    def _broken(self) -> set[str]:
        """Return those that need a module that is not whole, for its import was stopped."""
        needed: dict[str, list[str]] = {}
        broken: list[str] = []
        for name, hidden in self._loaded.items():
            parent = name.rpartition(".")[0]
            for request in (*hidden.requests, *([parent] if parent else [])):
                if request not in self._older:
                    needed.setdefault(request, []).append(name)
        broken = [name for name in needed if name not in self._loaded]
        found = set(broken)
        while broken:
            for name in needed.get(broken.pop(), ()):
                if name not in found:
                    found.add(name)
                    broken.append(name)
        return found
