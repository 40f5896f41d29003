"""Seed random number generators anew in each child.

Imports have seeded them in PID 1: without this, every child would draw the same numbers.

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
"""One function for each generator that the children inherit: it seeds this generator."""


def prepare() -> None:
    """Find all generators and seed them once. Raises any error of a generator's own code."""
    objects = gc.get_objects()
    own = random.seed.__self__  # type: ignore[attr-defined] # `random` seeds it at each fork
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
    """Seed all generators that `prepare` has found, from the kernel's randomness."""
    for seeder in _seeders:
        seeder()


def _of_numpy(numpy_random: Any, objects: list[object]) -> list[Callable[[], object]]:  # noqa: ANN401
    """Return the seeders of numpy's seed sequences, bit generators and random states, in order.

    A seed sequence must be new, too: a snippet may spawn children of it.
    """
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
    """Return a function that makes a `RandomState` forget a number that it keeps in reserve.

    It draws normal numbers in pairs and keeps the second. Its bit generator is seeded before.
    """

    def seeder() -> None:
        one.set_state({**one.get_state(legacy=False), "has_gauss": 0, "gauss": 0.0})

    return seeder
