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


def immortalize(mortal: set[int]) -> None:
    """Make immortal all objects that the collector tracks and the code of functions; freeze them.

    `mortal` has the `id` of each object that stays as it is: an immortal object never releases
    the objects to which it refers. Objects with a finaliser stay, too, because a snippet may see
    the finaliser run. If the interpreter has no immortal objects, or keeps its counts elsewhere,
    this only freezes.

    `counts` is all memory from the first object to the last, as an array of 4-byte counts. Example:
    for an object 64 bytes after the first, `counts[16]` is its count of references.
    """
    gc.unfreeze()
    objects = gc.get_objects()
    count = _count_of_immortals()
    if count:
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


def _count_of_immortals() -> int:
    """Return the count that stands in an immortal object; 0 if it is not known."""
    if sys.version_info >= (3, 12) and ctypes and sys.implementation.name == "cpython":
        count = ctypes.c_uint32.from_address(id(None)).value
        if count == sys.getrefcount(None):
            return count
    return 0
