"""Tell whether the end of a snippet's objects could show anything.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import builtins
import gc
import sys
import warnings
from gc import get_objects
from io import BytesIO, StringIO
from itertools import compress
from types import BuiltinFunctionType, ModuleType
from typing import Any
from weakref import CallableProxyType, ProxyType, ref

from pool.inside.callbacks import ctypes

try:
    from _ctypes import CFuncPtr

    _OF_C: tuple[type, ...] = (ctypes.CDLL, CFuncPtr)
except (ImportError, AttributeError):
    _OF_C = ()

# This module runs after the snippet, which may have replaced builtins: so it uses a copy.
__builtins__: Any = dict(vars(builtins))  # type: ignore[no-redef]

_MANY_OBJECTS = 20_000
_HEAP_TYPE = 1 << 9
_COLLECTED = 1 << 14

_WATCHED = (type, ref, ModuleType)
_WITH_HIDDEN_ENDINGS = (ProxyType, CallableProxyType, *_OF_C)
_IN_MEMORY = (BytesIO, StringIO)
"""Classes whose finaliser shows nothing: it closes what no other process can see."""
_SUBINTERPRETERS = ("_interpreters", "_xxsubinterpreters")

# These read attributes without asking the class: a class of the snippet's may print when asked.
_mro: Any = type.__dict__["__mro__"].__get__
_class_attributes: Any = type.__dict__["__dict__"].__get__
_class_flags: Any = type.__dict__["__flags__"].__get__
_weakref_callback: Any = ref.__dict__["__callback__"].__get__
_module_attributes: Any = vars(ModuleType)["__dict__"].__get__


class Teardown:
    """Knows whether the finalisation of the snippet's objects could show anything."""

    def __init__(self) -> None:
        self.harmless: set[int] = set()
        for kind in set(map(type, get_objects())):
            changeable = _class_flags(kind) & _HEAP_TYPE
            if not changeable and not issubclass(kind, _WATCHED) and not _has_finalizer(kind):
                self.harmless.add(id(kind))
        # The operator, who pre-imports a package, answers for its code of C (ADR 8).
        self.trusted = {name.partition(".")[0] for name in sys.modules}
        self.inscrutable = not self.trusted.isdisjoint(_SUBINTERPRETERS) or any(
            map(_hides_its_endings, _all_classes())
        )
        self.filters = list(map(id, warnings.filters))
        self.marker: list[object] = []

    def look_at_new_classes(self) -> None:
        """Be `inscrutable` if a class that is not frozen yet hides its endings."""
        kinds: Any = (one for one in get_objects() if isinstance(one, type))
        self.inscrutable = self.inscrutable or any(map(_hides_its_endings, kinds))

    def trust_packages(self) -> None:
        """Trust the packages that were imported since the fork, as those that PID 1 has imported.

        What they have made is hidden from the collector, unless any of it has a finaliser: that
        would never be called.
        """
        self.look_at_new_classes()
        gc.collect()
        kinds = set(map(type, get_objects())).difference(_IN_MEMORY)
        if self.inscrutable or any(map(_has_finalizer, kinds)):
            return
        self.trusted.update(name.partition(".")[0] for name in sys.modules)
        self.filters = list(map(id, warnings.filters))
        gc.freeze()

    def begin(self) -> None:
        """Make an object that the collector tracks.

        If it is missing later, the snippet has called `gc.freeze()`, which hides all objects.
        """
        self.marker = [object()]

    def shows(self) -> bool:
        """Return True if a finaliser, a callback of a weak reference or foreign code would run."""
        objects = get_objects()
        if len(objects) > _MANY_OBJECTS or self.inscrutable:
            return True
        if gc.callbacks or gc.garbage or gc.get_debug():
            return True
        if list(map(id, warnings.filters)) != self.filters:
            return True  # an object that the collector does not track may raise a ResourceWarning
        kinds = list(map(type, objects))
        ids = list(map(id, kinds))  # not the classes: a metaclass may define __hash__ and __eq__
        watched = set()
        for key, kind in dict(zip(ids, kinds)).items():
            if key not in self.harmless:
                if _has_finalizer(kind) or issubclass(kind, _WITH_HIDDEN_ENDINGS):
                    return True
                if issubclass(kind, _WATCHED):
                    watched.add(key)
        shows = map(self._ends_visibly, compress(objects, map(watched.__contains__, ids)))
        return any(shows) or id(self.marker) not in map(id, objects)

    def _ends_visibly(self, thing: object) -> bool:
        """Return True if the end of a class, a weak reference or a module could show."""
        kind = type(thing)
        if issubclass(kind, type):
            # If the collector does not track the instances of a class, some may exist unseen.
            return not _class_flags(thing) & _COLLECTED and _has_finalizer(thing)  # type: ignore[arg-type]
        if issubclass(kind, ref):
            callback = _weakref_callback(thing)
            return callback is not None and not _cleans_abc_cache(callback)
        return self._is_foreign(thing)

    def _is_foreign(self, module: object) -> bool:
        """Return True if `module` makes subinterpreters, or is of C and not trusted."""
        if not issubclass(type(module), ModuleType):
            return False
        attributes = _module_attributes(module)
        name, path = attributes.get("__name__"), attributes.get("__file__")
        if type(path) is not str or not path.endswith(".so") or "/lib-dynload/" in path:
            return name in _SUBINTERPRETERS
        return type(name) is not str or name.partition(".")[0] not in self.trusted


def _has_finalizer(kind: type) -> bool:
    return any("__del__" in _class_attributes(base) for base in _mro(kind))


def _all_classes() -> set[type]:
    found: set[type] = set()
    new = {object}
    while new:
        found |= new
        new = {sub for one in new for sub in type.__subclasses__(one)} - found
    return found


def _hides_its_endings(kind: type) -> bool:
    """Return True if `kind` has a finaliser and the collector does not track its instances."""
    if _class_flags(kind) & _COLLECTED or kind.__module__ in sys.builtin_module_names:
        return False
    return _has_finalizer(kind)


def _cleans_abc_cache(callback: object) -> bool:
    return (
        type(callback) is BuiltinFunctionType
        and callback.__name__ == "_destroy"
        and type(callback.__self__) is ref
    )
