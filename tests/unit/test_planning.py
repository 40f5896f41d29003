"""The decisions, without a pool: what they depend on and what they never do."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pool.config import PoolConfig
from pool.sizing.planning import (
    LINGER_S,
    View,
    pick,
    plan,
)
from pool.sizing.recycling import Reason

CONFIG = PoolConfig(max_uses=10, max_age_s=100, min_idle=2, max_containers=4, start_concurrency=2)
KEEPING = replace(CONFIG, tenant_share=3, user_share=2, users_share=3)


@dataclass(frozen=True)
class Idle:
    tenant: str | None = None
    uses: int = 0
    started_at: float = 0.0
    idle_since: float = 0.0


@dataclass(frozen=True)
class Waiter:
    tenant: str = ""
    fresh: bool = False


# --- which one ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("idle", "waiter", "index"),
    [
        ([], Waiter(), None),
        ([Idle(), Idle()], Waiter(), 1),
        ([Idle("a", 1), Idle("a", 2)], Waiter("a"), 1),
        ([Idle("a", 1), Idle()], Waiter("a"), 0),
        ([Idle("a", 1), Idle()], Waiter("b"), 1),
        ([Idle("a", 1)], Waiter("b"), None),
        ([Idle(), Idle("a", 1)], Waiter("a", fresh=True), 0),
        ([Idle("a", 1)], Waiter("a", fresh=True), None),
    ],
)
def test_the_last_used_of_the_same_tenant_is_taken_and_else_an_unused(
    idle: list[Idle], waiter: Waiter, index: int | None
) -> None:
    assert pick(idle, waiter) == index


@pytest.mark.parametrize(
    ("idle", "waiter", "index"),
    [
        ([Idle()], Waiter("a/x"), None),
        ([Idle()], Waiter("a/x", fresh=True), None),
        ([Idle()], Waiter("a"), 0),
        ([Idle(), Idle()], Waiter("a/x"), 1),
        ([Idle(), Idle("a/x", 1)], Waiter("a/x"), 1),
        ([Idle(), Idle("a/x", 1)], Waiter("a/y"), None),
        ([Idle(), Idle("a/x", 1)], Waiter("b"), 0),
    ],
)
def test_the_last_unused_one_is_for_no_user_of_a_tenant_where_it_is_kept(
    idle: list[Idle], waiter: Waiter, index: int | None
) -> None:
    assert pick(idle, waiter, keep=True) == index


# --- how many to start, which to evict ----------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "start"),
    [
        (View(), 2),
        (View(starting=1), 1),
        (View(starting=2), 0),
        (View(idle=[Idle()]), 1),
        (View(resetting=["a"]), 1),
        (View(idle=[Idle(), Idle()]), 0),
        (View(leased=3), 1),
        (View(leased=4), 0),
        (View(leased=3, destroying=1), 0),
        (View(leased=1, waiting=[Waiter()] * 9), 2),
        (View(starting=1, waiting=[Waiter()] * 9), 1),
        (View(failures=1, retry_at=51), 0),
        (View(failures=1, retry_at=50), 1),
        (View(failures=1, retry_at=50, starting=1), 0),
    ],
)
def test_what_is_missing_is_started(view: View[Idle, Waiter], start: int) -> None:
    assert plan(view, CONFIG, 50.0).start == start


def test_who_waits_comes_before_min_idle() -> None:
    view: View[Idle, Waiter] = View(leased=3, waiting=[Waiter()])
    decided = plan(view, CONFIG, 0.0)
    assert decided.start == 1


def test_a_place_that_is_becoming_free_is_not_made_twice() -> None:
    view = View(idle=[Idle("a", 1)], leased=2, destroying=1, waiting=[Waiter("b")])
    assert plan(view, CONFIG, 0.0).evict == []
    stuck = View(idle=[Idle("a", 1)], leased=2, destroying=1, stuck=1, waiting=[Waiter("b")])
    assert plan(stuck, CONFIG, 0.0).evict == [(Idle("a", 1), Reason.EVICTED)]


def test_a_place_that_is_becoming_free_is_promised_to_one_waiter_only() -> None:
    idle = Idle("a", 1)
    view = View(idle=[idle], leased=2, destroying=1, waiting=[Waiter("b"), Waiter("c")])
    assert plan(view, CONFIG, 0.0).evict == [(idle, Reason.EVICTED)]


def test_the_least_recently_used_is_evicted_for_another_tenant() -> None:
    idle = [Idle("a", 1), Idle("b", 1)]
    decided = plan(View(idle=idle, leased=2, waiting=[Waiter("c")]), CONFIG, 0.0)
    assert decided.evict == [(idle[0], Reason.EVICTED)]


def test_a_later_waiter_does_not_take_the_container_that_makes_room_for_an_earlier_one() -> None:
    decided = plan(
        View(idle=[Idle("a", 1)], leased=3, waiting=[Waiter("b"), Waiter("a")]), CONFIG, 0.0
    )
    assert (decided.serve, decided.evict) == ([], [(Idle("a", 1), Reason.EVICTED)])


def test_a_later_waiter_is_served_when_the_earlier_ones_need_is_on_its_way() -> None:
    view = View(idle=[Idle("a", 1)], leased=2, starting=1, waiting=[Waiter("b"), Waiter("a")])
    assert plan(view, CONFIG, 0.0).serve == [(Waiter("a"), Idle("a", 1))]


MANY = 1000.0  # long after anything in the views below was used last


@pytest.mark.parametrize(
    ("waiter", "holders", "evicted"),
    [
        (Waiter("b"), "aaa", True),  # who has none
        (Waiter("b"), "aab", True),  # two fewer
        (Waiter("b"), "abb", False),  # as many
        (Waiter("b"), "bbb", False),  # more
        (Waiter("b", fresh=True), "bbb", True),  # no use for its own
    ],
)
def test_a_container_that_may_soon_be_needed_goes_to_whom_has_less_than_its_share(
    waiter: Waiter, holders: str, *, evicted: bool
) -> None:
    idle = [Idle("a", 1, MANY, MANY)]
    view = View(idle=idle, leased=3, holders=iter(holders), waiting=[waiter])
    decided = plan(view, CONFIG, MANY)
    assert decided.evict == ([(idle[0], Reason.EVICTED)] if evicted else [])
    assert evicted or decided.wake_at == MANY + LINGER_S


def test_a_container_that_its_tenant_has_not_needed_for_a_while_goes_to_whoever_waits() -> None:
    idle = [Idle("a", 1, MANY, MANY)]
    view = View(idle=idle, leased=3, holders=list("bbb"), waiting=[Waiter("b"), Waiter("b")])
    decided = plan(view, CONFIG, MANY + LINGER_S)
    assert decided.evict == [(idle[0], Reason.EVICTED)]


def test_who_has_its_share_holds_up_nobody_behind_it() -> None:
    idle = [Idle("a", 1, MANY, MANY)]
    view = View(
        idle=idle, leased=3, holders=list("bbb"), waiting=[Waiter("b"), Waiter("b"), Waiter("a")]
    )
    decided = plan(view, CONFIG, MANY)
    assert (decided.serve, decided.evict) == ([(Waiter("a"), idle[0])], [])


def test_what_is_on_its_way_to_a_tenant_counts_as_its_own() -> None:
    idle = [Idle("a", 1, MANY, MANY), Idle("a", 2, MANY, MANY)]
    view = View(idle=idle, leased=1, holders="c", destroying=1, waiting=[Waiter("b")] * 2)
    assert plan(view, CONFIG, MANY).evict == []
    view = View(idle=idle, leased=2, holders="cc", waiting=[Waiter("b")] * 2)
    assert plan(view, CONFIG, MANY).evict == [(idle[0], Reason.EVICTED)]


def test_what_a_tenant_loses_counts_as_its_own_no_more() -> None:
    idle = [Idle("a", uses, MANY, MANY) for uses in (1, 2, 3)]
    view = View(idle=idle, leased=1, holders="c", waiting=[Waiter("b")] * 3)
    assert plan(view, CONFIG, MANY).evict == [(idle[0], Reason.EVICTED)]


def test_one_is_made_unused_at_the_cost_of_users_and_of_nobody_else() -> None:
    used = [Idle("b", 1), Idle("a/x", 1), Idle("a/y", 1), Idle("c", 1)]
    assert plan(View(idle=used), KEEPING, 0.0).evict == [(used[1], Reason.EVICTED)]
    assert plan(View(idle=used), CONFIG, 0.0).evict == []
    assert plan(View(idle=[Idle("b", 1)] * 4), KEEPING, 0.0).evict == []
    assert plan(View(idle=[*used[:3], Idle()]), KEEPING, 0.0).evict == []
    assert plan(View(idle=used[:3], starting=1), KEEPING, 0.0).evict == []
    assert plan(View(idle=used[:3]), KEEPING, 0.0).start == 1
    assert plan(View(idle=used[:3]), CONFIG, 0.0).start == 0


def test_a_user_takes_the_slot_of_another_user_of_its_tenant_first() -> None:
    idle = [Idle("b", 1), Idle("a/x", 1), Idle("a/y", 1), Idle()]
    decided = plan(View(idle=idle, waiting=[Waiter("a/z")]), KEEPING, 0.0)
    assert (decided.serve, decided.evict) == ([], [(idle[1], Reason.EVICTED)])


def test_a_tenant_counts_with_its_users_against_another() -> None:
    idle = [Idle("a/x", 1), Idle("a/y", 1), Idle("a/z", 1), Idle("b", 1, idle_since=1.0)]
    waiting = [Waiter("b"), Waiter("b")]
    decided = plan(View(idle=idle, waiting=waiting), KEEPING, LINGER_S / 2)
    assert decided.serve == [(waiting[0], idle[3])]
    assert idle[0] in [container for container, _ in decided.evict]


def test_nobody_is_evicted_while_starts_are_held_back() -> None:
    view = View(
        idle=[Idle("a", 1)], leased=3, waiting=[Waiter("b"), Waiter("a")], failures=1, retry_at=9
    )
    decided = plan(view, CONFIG, 0.0)
    assert decided.evict == []
    assert decided.serve == [(Waiter("a"), Idle("a", 1))]


def test_what_has_been_idle_for_long_goes_but_for_min_idle() -> None:
    idle = [Idle(started_at=900, idle_since=900 + number) for number in range(4)]
    config = PoolConfig(min_idle=2, max_containers=4, idle_timeout_s=50)
    assert plan(View(idle=idle), config, 951.5).evict == [
        (idle[0], Reason.IDLE_TIMEOUT),
        (idle[1], Reason.IDLE_TIMEOUT),
    ]
    assert plan(View(idle=idle), config, 940).evict == []
    assert plan(View(idle=idle), config, 940).wake_at == 950


@given(st.floats(0, 1e6), st.floats(0.1, 1e4))
def test_at_its_alarm_a_plan_does_what_the_alarm_was_set_for(since: float, limit_s: float) -> None:
    """Whatever floating point makes of the sum: else nothing would happen before another event."""
    idle = [Idle("a", 1, since, since)]
    idling = PoolConfig(min_idle=0, max_age_s=1e9, idle_timeout_s=limit_s)
    ageing = PoolConfig(min_idle=0, max_age_s=limit_s, idle_timeout_s=1e9)
    for config in (idling, ageing):
        when = plan(View(idle=idle), config, since).wake_at
        assert len(plan(View(idle=idle), config, when).evict) == 1


def test_what_is_too_old_goes_one_at_a_time() -> None:
    idle = [Idle(started_at=0, idle_since=number) for number in range(2)]
    full: View[Idle, Waiter] = View(idle=idle)
    assert plan(full, CONFIG, 99.0).wake_at == 100
    decided = plan(full, CONFIG, 100.0)
    assert decided.evict == [(idle[0], Reason.MAX_AGE)]
    assert plan(View(idle=idle[1:], destroying=1), CONFIG, 100.0).evict == []
    assert plan(View(idle=idle[1:], starting=1), CONFIG, 100.0).evict == []


def test_what_is_too_old_stays_while_starts_are_held_back_and_no_longer() -> None:
    idle = [Idle(started_at=0, idle_since=number) for number in range(2)]
    failing: View[Idle, Waiter] = View(idle=idle, failures=3, retry_at=150)
    assert (plan(failing, CONFIG, 149.0).evict, plan(failing, CONFIG, 149.0).wake_at) == ([], 150)
    assert plan(failing, CONFIG, 150.0).evict == [(idle[0], Reason.MAX_AGE)]


def test_without_anything_to_wait_for_no_alarm_is_set() -> None:
    view: View[Idle, Waiter] = View(leased=4)
    assert plan(view, CONFIG, 0.0).wake_at == math.inf


tenants = st.sampled_from(["a", "b", "a/x", "a/y"])
waiters = st.builds(Waiter, tenants, st.booleans())
idles = st.one_of(
    st.builds(Idle, st.none(), st.just(0), st.floats(0, 200), st.floats(0, 200)),
    st.builds(Idle, tenants, st.integers(1, 9), st.floats(0, 200)),
)
views = st.builds(
    View,
    idle=st.lists(idles, max_size=3, unique_by=id),
    waiting=st.lists(waiters, max_size=5),
    resetting=st.lists(tenants, max_size=2),
    starting=st.integers(0, 2),
    leased=st.integers(0, 3),
    holders=st.lists(tenants, max_size=3),
    destroying=st.integers(0, 2),
    failures=st.integers(0, 2),
    retry_at=st.floats(0, 200),
)


configs = st.sampled_from([CONFIG, KEEPING])


@given(views, st.floats(0, 300), configs)
def test_no_plan_exceeds_the_pools_bounds_or_gives_one_thing_to_two(
    view: View[Idle, Waiter], now: float, config: PoolConfig
) -> None:
    if view.total > config.max_containers:
        return
    decided = plan(view, config, now)
    assert view.total + decided.start <= CONFIG.max_containers
    assert decided.start == 0 or view.starting + decided.start <= CONFIG.start_concurrency
    given_away = [id(one) for _, one in decided.serve] + [id(one) for one, _ in decided.evict]
    assert len(given_away) == len(set(given_away))
    assert decided.wake_at > now
    for waiter, container in decided.serve:
        assert container.uses == 0 or container.tenant == waiter.tenant
        assert container.uses == 0 or not waiter.fresh


@given(views, st.floats(0, 300), configs, tenants)
@example(
    View(idle=[Idle("b", 1, idle_since=0.0), Idle("a/x", 1, idle_since=0.0)], leased=2),
    0.0,
    CONFIG,
    "a",
)
def test_who_waits_alone_is_never_left_without_hope(
    view: View[Idle, Waiter], now: float, config: PoolConfig, tenant: str
) -> None:
    alone = View(idle=view.idle, waiting=[Waiter(tenant)], leased=view.leased)
    if alone.total > config.max_containers:
        return
    decided = plan(alone, config, now)
    if not (decided.serve or decided.start or decided.evict) and decided.wake_at < math.inf:
        decided = plan(alone, config, decided.wake_at)  # its tenant has its share: it waited
    kept = config is KEEPING and "/" in tenant
    assert decided.serve or decided.start or decided.evict or alone.leased >= 4 - kept
