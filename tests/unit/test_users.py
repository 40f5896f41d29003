"""The user ids of a container: a block that no other container has."""

from __future__ import annotations

import itertools

import pytest

from pool.inside.users import block

ALL = "         0          0 4294967295\n"
REMAPPED = "0 100000 65536\n"
ROOTLESS = "0 1000 1\n1 100000 65535\n"


@pytest.mark.parametrize(
    ("uid_map", "containers"), [(ALL, 262_016), (REMAPPED, 13_884), (ROOTLESS, 13_884)]
)
def test_no_two_containers_share_a_user(uid_map: str, containers: int) -> None:
    blocks = [block(number, uid_map) for number in range(containers)]
    blocks.sort(key=lambda one: one.start)
    assert all(one.stop <= after.start for one, after in itertools.pairwise(blocks))
    assert blocks[0].start >= 10_000
    assert all(len(one) > 1 for one in blocks)


def test_all_users_are_ones_that_the_engine_maps() -> None:
    assert max(block(number, REMAPPED)[-1] for number in range(1 << 15)) < 65_536
    assert max(block(number, ALL)[-1] for number in range(1 << 19)) < 1 << 31


def test_a_container_has_users_although_few_are_mapped() -> None:
    assert block(7, "0 1000 2") == range(4)  # the second fork fails, and says so
