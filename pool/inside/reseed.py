"""Seed again, in each child, what imports have seeded in PID 1 for all children alike.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from itertools import compress
from typing import Any, Callable

_seeders: list[Callable[[], object]] = []
"""One call for each generator of random numbers that every child has inherited."""


def prepare() -> None:
    """Find the generators that there are, and try to seed them. Raises what that raises."""
    objects = gc.get_objects()
    own = random.seed.__self__  # type: ignore[attr-defined] # each fork seeds it
    kinds = list(map(type, objects))
    drawing = {kind for kind in set(kinds) if issubclass(kind, random.Random)}
    generators: Any = compress(objects, map(drawing.__contains__, kinds))
    _seeders.extend(one.seed for one in generators if one is not own)
    if "numpy.random" in sys.modules:
        _seeders.extend(_of_numpy(sys.modules["numpy.random"], objects))
    if "multiprocessing.process" in sys.modules:
        process = sys.modules["multiprocessing.process"].current_process()
        _seeders.append(lambda: setattr(process, "authkey", os.urandom(32)))
    seed()


def seed() -> None:
    """Seed them all, from the kernel's randomness."""
    for seeder in _seeders:
        seeder()


def _of_numpy(numpy_random: Any, objects: list[object]) -> list[Callable[[], object]]:  # noqa: ANN401
    """Return seeders of all that draws, and of what they were seeded by, for that has children."""
    found: list[Any] = objects
    seeds = [one for one in found if isinstance(one, numpy_random.SeedSequence)]
    sources = [one for one in found if isinstance(one, numpy_random.BitGenerator)]
    states = [one for one in found if isinstance(one, numpy_random.RandomState)]
    return [
        *(one.__init__ for one in seeds),
        *(_of_bit_generator(one) for one in sources),
        *(_of_random_state(one) for one in states),
    ]


def _of_bit_generator(one: Any) -> Callable[[], object]:  # noqa: ANN401
    def seeder() -> None:
        one.state = type(one)(one.seed_seq).state

    return seeder


def _of_random_state(one: Any) -> Callable[[], object]:  # noqa: ANN401
    """Return what makes it forget the second of a pair of numbers; its source is seeded before."""

    def seeder() -> None:
        one.set_state({**one.get_state(legacy=False), "has_gauss": 0, "gauss": 0.0})

    return seeder
