"""Whose containers are left over, and whose are not."""

from __future__ import annotations

import os
import time

import pytest

from pool.engine.api import Owned
from pool.engine.ownership import instance_name, is_abandoned, is_left_over, labels

HOUR_S = 3600.0
ELSEWHERE = f"elsewhere/{instance_name().partition('/')[2]}"
GONE = instance_name().replace(f"/{os.getpid()}/", "/4194305/")  # no pid is as large


def owned(instance: str, expires_in_s: float = HOUR_S, *, up: bool = True) -> Owned:
    return Owned("c0ffee", labels(instance, time.time() + expires_in_s), up)


@pytest.mark.parametrize("jump_s", [0.0, -HOUR_S * 24, HOUR_S * 24])
def test_a_clock_that_is_set_makes_no_leftovers_of_what_a_living_server_has(jump_s: float) -> None:
    assert not is_left_over(owned(instance_name()), now=time.time() + jump_s)


@pytest.mark.parametrize("jump_s", [0.0, -HOUR_S * 24, HOUR_S * 24])
def test_what_a_dead_server_had_is_left_over_whatever_the_clock_says(jump_s: float) -> None:
    assert is_left_over(owned(GONE), now=time.time() + jump_s)


def test_what_a_server_has_that_cannot_be_seen_from_here_is_left_over_when_it_expires() -> None:
    assert not is_left_over(owned(ELSEWHERE), now=time.time())
    assert is_left_over(owned(ELSEWHERE, -1.0), now=time.time())


def test_only_our_own_that_should_have_come_up_by_now_are_abandoned() -> None:
    def abandoned(container: Owned, *, later_s: float = 2 * HOUR_S) -> bool:
        expires_before = time.time() + later_s
        return is_abandoned(container, instance_name(), expires_before=expires_before)

    assert abandoned(owned(instance_name(), up=False))
    assert not abandoned(owned(instance_name(), up=True))
    assert not abandoned(owned(ELSEWHERE, up=False))
    assert not abandoned(owned(instance_name(), up=False), later_s=0)
