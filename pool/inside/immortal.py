"""Make the objects of PID 1 immortal before the first fork, so that children copy fewer pages.

CPython keeps the count of references inside each object. So a child writes to the page of an
object when it merely uses the object, and the first write to a page after a fork costs a fault and
a copy. From 3.12 on, CPython does not count the references of immortal objects, such as `None`
(PEP 683). This module writes the count that `None` has into other objects; the garbage collector
leaves them alone (docs/adr/0010).

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import codecs
import encodings
import gc
import sys
from types import FunctionType
from typing import Any

from pool.inside import at_fork
from pool.inside.callbacks import ctypes

_COUNT_SIZE = 4
_SIMPLE = frozenset((str, bytes, int, float, tuple))


def immortalize(mortal: set[int], hot: list[FunctionType]) -> None:
    """Make immortal all objects that the collector tracks and the code of functions; freeze them.

    `hot` are the functions that run for each job: texts and numbers that the collector does not
    track become immortal if these, or the runner's modules, use them. `mortal` has the `id` of each
    object that stays as it is: an immortal object never releases
    the objects to which it refers. Objects with a finaliser stay, too, because a snippet may see
    the finaliser run. If the interpreter has no immortal objects, or keeps its counts elsewhere,
    this only freezes.

    `counts` is all memory from the first object to the last, as an array of 4-byte counts. Example:
    for an object 64 bytes after the first, `counts[16]` is its count of references.
    """
    gc.unfreeze()
    count = count_of_immortals()
    if count:
        objects = gc.get_objects()
        objects += _simple_parts(hot, objects)
        spared = mortal | _registries()
        finalized = {kind for kind in set(map(type, objects)) if hasattr(kind, "__del__")}
        objects += [one.__code__ for one in objects if type(one) is FunctionType]
        lowest, highest = min(map(id, objects)), max(map(id, objects))
        size = (highest - lowest) // _COUNT_SIZE + 1
        counts: Any = memoryview((ctypes.c_uint32 * size).from_address(lowest)).cast("B").cast("I")
        # No list of addresses is made: the fork would copy its pages, even after it is freed.
        for one in objects:
            if type(one) not in finalized and id(one) not in spared:
                counts[(id(one) - lowest) // _COUNT_SIZE] = count
    gc.freeze()


def _simple_parts(hot: list[FunctionType], objects: list[Any]) -> list[object]:
    """Return the texts, numbers and tuples that the runner uses; the collector does not know them.

    They are constants and names in the code of `hot`, and in `objects` the attributes of the
    runner's modules, of their classes, and of the instances of these.
    """
    spaces = [vars(module) for name, module in sys.modules.items() if name.startswith("pool.")]
    classes = {one for space in spaces for one in space.values() if isinstance(one, type)}
    own = {one for one in classes if one.__module__.startswith("pool.")}
    instances = [one for one in objects if type(one) in own]
    parts = [*sys.modules, *gc.get_referents(*spaces, *own, *instances)]
    for function in hot:
        code = function.__code__
        parts += (code.co_names, code.co_consts, code.co_name, code.co_filename)
    for one in parts:
        if type(one) is tuple:
            parts += one  # what it holds comes after it
    return [one for one in parts if type(one) in _SIMPLE]


def _registries() -> set[int]:
    """Return the `id` of each list and dict in which the interpreter keeps codecs and fork hooks.

    At its end, after all modules, the interpreter frees them, and with them a codec or a hook of
    the snippet's. Each is found by a member that was registered at the start.
    """
    members = [
        encodings.search_function,
        codecs.lookup("utf-8"),
        codecs.lookup_error("strict"),
        *at_fork.registered,
    ]
    holders = gc.get_referrers(*members)
    # No namespace of a module: the interpreter clears those, even immortal ones. A list is not
    # searched: that would compare the objects of a library that is pre-imported.
    return {
        id(one)
        for one in holders
        if type(one) is list or (type(one) is dict and "__name__" not in one)
    }


def count_of_immortals() -> int:
    """Return the count that stands in an immortal object; 0 if it is not known."""
    if sys.version_info >= (3, 12) and ctypes and sys.implementation.name == "cpython":
        count = ctypes.c_uint32.from_address(id(None)).value
        if count == sys.getrefcount(None):
            return count
    return 0
