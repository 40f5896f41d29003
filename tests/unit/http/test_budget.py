"""The budget for what clients make the server hold: the greediest gives way, nobody else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pgexec.http.budget import FREE_BYTES, Budget, Held

SIZE = 100_000


def holding(budget: Budget, tenant: str, size: int, dropped: list[Held]) -> Held:
    held = budget.hold(tenant, lambda: dropped.append(held))
    held.resize(size)
    return held


def test_the_greediest_tenant_gives_way_and_of_its_clients_the_one_that_held_longest() -> None:
    budget, dropped = Budget(10 * SIZE), list[Held]()
    greedy = [holding(budget, "greedy", SIZE, dropped) for _ in range(7)]
    modest = [holding(budget, "modest", SIZE, dropped) for _ in range(3)]
    assert not dropped
    holding(budget, "modest", SIZE, dropped)
    assert dropped == [greedy[0]]
    holding(budget, "third", SIZE, dropped)
    assert dropped == greedy[:2]
    assert budget.held_bytes == 10 * SIZE
    assert not [one for one in modest if one.dropped]


def test_one_tenant_leaves_a_quarter_to_others() -> None:
    budget, dropped = Budget(8 * SIZE), list[Held]()
    alone = [holding(budget, "", SIZE, dropped) for _ in range(9)]
    assert dropped == alone[:3]
    assert budget.held_bytes == 6 * SIZE


def test_a_tenant_gains_nothing_by_many_users_and_of_these_the_greediest_gives_way() -> None:
    budget, dropped = Budget(8 * SIZE), list[Held]()
    other = [holding(budget, "other", SIZE, dropped) for _ in range(2)]
    greedy = [holding(budget, "front/greedy", SIZE, dropped) for _ in range(2)]
    users = [holding(budget, f"front/{number}", SIZE, dropped) for number in range(4)]
    assert not dropped
    users.append(holding(budget, "front/new", SIZE, dropped))
    assert dropped == greedy[:1]
    assert not [one for one in (*other, *users) if one.dropped]


def test_one_that_has_caught_up_is_the_last_to_give_way_again() -> None:
    budget, dropped = Budget(8 * SIZE), list[Held]()
    first, second = (holding(budget, "", SIZE, dropped) for _ in range(2))
    first.resize(0)
    first.resize(SIZE)
    holding(budget, "", 5 * SIZE, dropped)
    assert dropped == [second]


def test_what_is_small_is_not_counted() -> None:
    budget, dropped = Budget(SIZE), list[Held]()
    for _ in range(100):
        holding(budget, "", FREE_BYTES, dropped)
    assert (budget.held_bytes, dropped) == (0, [])


def test_where_nobody_can_give_way_there_is_no_room() -> None:
    budget = Budget(4 * SIZE)
    kept = budget.hold("kept")
    assert kept.resize(3 * SIZE)
    new = budget.hold("new")
    assert new.resize(SIZE)
    assert not new.resize(SIZE + 1)
    kept.resize(0)
    assert new.resize(SIZE + 1)


def test_one_that_has_left_is_forgotten() -> None:
    budget = Budget(4 * SIZE)
    with budget.hold("", lambda: None) as held:
        held.resize(SIZE)
    assert (budget.held_bytes, budget._held, budget._bytes) == (0, {}, {})


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from("abc"), st.integers(0, 5 * FREE_BYTES)),
        max_size=60,
    )
)
def test_the_books_add_up_and_no_more_is_held_than_may_be(
    steps: list[tuple[int, str, int]],
) -> None:
    budget, dropped = Budget(10 * FREE_BYTES), list[Held]()
    clients: dict[tuple[int, str], Held] = {}
    for number, tenant, size in steps:
        if (number, tenant) not in clients or clients[number, tenant].dropped:
            clients[number, tenant] = holding(budget, tenant, 0, dropped)
        held = clients[number, tenant]
        room = held.resize(size)
        assert room is not held.dropped
        assert budget.held_bytes == sum(one.size for one in clients.values())
        assert budget.held_bytes <= budget.limit_bytes
        assert len(set(dropped)) == len(dropped)
        for name in "abc":
            own = sum(one.size for (_, of), one in clients.items() if of == name)
            assert own <= budget.limit_bytes * 3 // 4
