"""Make immortal what lives before the first fork, so that using it writes to no page of memory.

CPython counts references inside each object. After a fork the mere use of an object thus writes
to its page, and the first write on either side is a fault and a copy. From 3.12 on there are
objects whose references are not counted, `None` for one (PEP 683); a garbage collector that meets
more of them lets them be (docs/adr/0010).

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import gc
import sys
from types import FunctionType
from typing import Any

from pool.inside.callbacks import ctypes

_COUNT_SIZE = 4


def immortalize(mortal: set[int]) -> None:
    """Make all objects immortal and freeze them, but those whose `id` is in `mortal`.

    An immortal object never lets go of what it refers to: `mortal` names what must, and all that
    leads to it. Left alone are also objects with a finaliser, which a snippet may see at work.
    Where the interpreter knows no immortal objects, or counts elsewhere than expected, all are
    left alone.
    """
    gc.unfreeze()
    objects = gc.get_objects()
    count = _count_of_immortals()
    if count:
        finalized = {kind for kind in set(map(type, objects)) if hasattr(kind, "__del__")}
        objects += [one.__code__ for one in objects if type(one) is FunctionType]
        lowest, highest = min(map(id, objects)), max(map(id, objects))
        size = (highest - lowest) // _COUNT_SIZE + 1
        counts: Any = memoryview((ctypes.c_uint32 * size).from_address(lowest)).cast("B").cast("I")
        # Not a list of addresses: what is freed before a fork is copied by it all the same.
        for one in objects:
            if type(one) not in finalized and id(one) not in mortal:
                counts[(id(one) - lowest) // _COUNT_SIZE] = count
    gc.freeze()


def _count_of_immortals() -> int:
    """Return what is in the place of an immortal object's count; 0 where that is not known."""
    if sys.version_info >= (3, 12) and ctypes and sys.implementation.name == "cpython":
        count = ctypes.c_uint32.from_address(id(None)).value
        if count == sys.getrefcount(None):
            return count
    return 0
