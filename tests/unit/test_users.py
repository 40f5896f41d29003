"""The user ids of a container: a block that no other container has."""

from __future__ import annotations

import itertools

import pytest

from pool.inside.users import block, rooms

ALL = "         0          0 4294967295\n"
REMAPPED = "0 100000 65536\n"
ROOTLESS = "0 1000 1\n1 100000 65535\n"
FEW = "0 1000 1\n1 100000 2000\n"
FEWEST = "0 100000 200\n"


@pytest.mark.parametrize(
    ("uid_map", "containers"),
    [(ALL, 262_016), (REMAPPED, 13_884), (ROOTLESS, 13_884), (FEW, 250), (FEWEST, 25)],
)
def test_no_two_containers_share_a_user(uid_map: str, containers: int) -> None:
    blocks = [block(number, uid_map) for number in range(containers)]
    blocks.sort(key=lambda one: one.start)
    assert all(one.stop <= after.start for one, after in itertools.pairwise(blocks))
    assert blocks[0].start >= (10_000 if containers > 250 else 100)
    assert rooms(uid_map) == containers
    assert all(len(one) > 1 for one in blocks)


@pytest.mark.slow
def test_all_users_are_ones_that_the_engine_maps() -> None:
    assert max(block(number, REMAPPED)[-1] for number in range(1 << 15)) < 65_536
    assert max(block(number, FEW)[-1] for number in range(1 << 12)) < 2001
    assert max(block(number, ALL)[-1] for number in range(1 << 19)) < 1 << 31


@pytest.mark.parametrize("uid_map", ["0 1000 1", "0 1000 2"])
def test_no_snippet_is_root_however_few_users_are_mapped(uid_map: str) -> None:
    assert block(7, uid_map) == range(1, 5)  # a fork fails, and says so
