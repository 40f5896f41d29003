"""Plan the pool's next steps: serve waiters, start and evict containers. Pure."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from pool.sizing import target as tuning
from pool.sizing.recycling import Reason
from pool.tenant import is_user, owner

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pool.config import PoolConfig
    from pool.sizing.target import Demand

LINGER_S = 1.0
"""An idle container stays so many seconds for its own tenant, before a tenant that already has its
share may take the slot."""


class Warm(Protocol):
    """The part of an idle container that a plan depends on."""

    @property
    def tenant(self) -> str | None: ...
    @property
    def uses(self) -> int: ...
    @property
    def started_at(self) -> float: ...
    @property
    def idle_since(self) -> float: ...


class Need(Protocol):
    """The part of a waiting lease that a plan depends on."""

    @property
    def tenant(self) -> str: ...
    @property
    def fresh(self) -> bool: ...


W = TypeVar("W", bound=Warm)
N = TypeVar("N", bound=Need)


@dataclass(slots=True, kw_only=True)
class View(Generic[W, N]):
    """The facts about the pool at one moment on which `plan` depends.

    `idle` has the least recently used container first; `waiting` is in the order of service.
    `resetting` and `holders` are the tenants of the containers that are being reset or are leased.
    `sessions` are leased, too, but do not count in `leased`.
    `stuck` counts those of `destroying` that the engine has failed to remove. After `failures`
    in a row, no container is started before `retry_at`. `demand` determines how many containers
    should be idle.
    """

    idle: Sequence[W] = ()
    waiting: Iterable[N] = ()
    resetting: Sequence[str | None] = ()
    starting: int = 0
    leased: int = 0
    sessions: int = 0
    holders: Iterable[str | None] = ()
    destroying: int = 0
    stuck: int = 0
    failures: int = 0
    retry_at: float = -math.inf
    demand: Demand | None = None

    @property
    def total(self) -> int:
        """Slots in use: every container that exists or is being started."""
        held = self.leased + self.sessions + self.starting + self.destroying
        return len(self.idle) + len(self.resetting) + held


@dataclass(slots=True)
class Plan(Generic[W, N]):
    """The next steps of the pool.

    `serve` pairs a waiter with its container, `evict` a container with the reason. `start` is the
    number of containers to start. If nothing happens before `wake_at`, the pool plans again then:
    for example, the next container reaches `max_age_s`.
    """

    serve: list[tuple[N, W]] = field(default_factory=list)
    evict: list[tuple[W, Reason]] = field(default_factory=list)
    start: int = 0
    wake_at: float = math.inf


def pick(idle: Sequence[W], need: Need, *, keep: bool = False) -> int | None:
    """Return the index of the idle container that suits `need`, or `None`.

    A container that the tenant has used before comes first, so that unused ones remain for others.
    Among equals, the most recently used comes first: its caches are warm, and the others can age.
    Example: of [unused, used by a, unused, used by b], tenant `a` gets index 1 and tenant `c`
    index 2. If `keep`, the last unused one is not for the users of a tenant: there are as many of
    them as it names, and other tenants would find none unused.
    """
    kept = keep and is_user(need.tenant) and sum(one.uses == 0 for one in idle) == 1
    unused = None
    for index in range(len(idle) - 1, -1, -1):
        container = idle[index]
        if container.uses == 0:
            if kept:
                continue
            if need.fresh:
                return index
            unused = index if unused is None else unused
        elif container.tenant == need.tenant and not need.fresh:
            return index
    return unused


def plan(view: View[W, N], config: PoolConfig, now: float) -> Plan[W, N]:
    """Return the next steps. `now` is a time of the pool's clock, as `started_at` is.

    Example: the only slot has an idle container of tenant a, and b waits. The plan evicts this
    container; when it has gone, the next plan starts one for b.
    """
    planner = _Planner(view, config, now)
    planner.retire()
    planner.keep_one()
    planner.serve()
    planner.replenish()
    planner.shrink()
    planner.set_alarm()
    return planner.plan


class _Planner(Generic[W, N]):
    """The ledger of one plan: it counts the idle, coming and free slots that are left.

    `coming` counts the starts that no waiter was promised yet, `freeing` the removals, `free` the
    free slots, and `returning`, by tenant, the containers that are being reset. `patient` are the
    waiters whose tenants have their share.
    """

    def __init__(self, view: View[W, N], config: PoolConfig, now: float) -> None:
        self.view = view
        self.config = config
        self.now = now
        self.plan: Plan[W, N] = Plan()
        self.idle = list(view.idle)
        self.patient: list[N] = []
        self.coming = view.starting
        self.returning: dict[str | None, int] = {}  # a Counter takes longer than all of this
        for tenant in view.resetting:
            self.returning[tenant] = self.returning.get(tenant, 0) + 1
        self.promised = 0
        self.free = config.max_containers - view.total
        self.freeing = view.destroying - view.stuck
        self.keep = config.users_share > 0
        self.wanted = tuning.wanted(view.demand, config)
        self.blocked = view.failures > 0 and now < view.retry_at
        self.quiet = not (self.coming or self.freeing)
        # While starts fail, evict at most one container, to make room for the next try.
        self.evictable = int(self.quiet) if view.failures else len(self.idle)
        if self.blocked or view.stuck > 1:
            self.evictable = 0

    def retire(self) -> None:
        """Evict containers older than `max_age_s`: the surplus at once, the rest one by one."""
        if self.blocked:
            return
        surplus = len(self.idle) - self._target()
        allowed = max(surplus, int(self.quiet and (surplus == 0 or self.free <= 0)))
        # The same sum as in `set_alarm`: a difference may round to the other side of the alarm.
        limit_s = self.config.max_age_s
        old = [one for one in self.idle if one.started_at + limit_s <= self.now]
        for container in old[:allowed]:
            self.idle.remove(container)
            self._evict(container, Reason.MAX_AGE)

    def keep_one(self) -> None:
        """See to it that one container is unused, or will be, which no user of a tenant gets."""
        if not self.keep or any(one.uses == 0 for one in self.idle):
            return
        if not self._claim() and self.evictable:
            used = (one for one in self.idle if is_user(one.tenant or ""))
            if (victim := next(used, None)) is not None:
                self._take(victim)

    def serve(self) -> None:
        """Give each waiter, in order, a container that suits, or promise one; else make room.

        A tenant that has its share waits until its own containers come back. If it took the slot
        of another tenant, nearly every run would cost a start.
        """
        for need in self.view.waiting:
            if self._serve(need) or self._promise(need):
                continue
            if not self._is_due(need):
                self.patient.append(need)
            elif self._make_room(need):
                continue
            if not self.idle:
                return
        for need in self.patient:
            victim = self._victim(need)
            if victim is not None and victim.idle_since + LINGER_S <= self.now:
                self._make_room(need)

    def replenish(self) -> None:
        """Start containers up to the target, besides those that waiters were promised."""
        plan, config = self.plan, self.config
        spare = len(self.idle) + self.coming + sum(self.returning.values())
        plan.start += max(0, min(self._target() - spare, self.free))
        at_once = 1 if self.view.failures else config.start_concurrency
        limit = 0 if self.blocked else max(0, at_once - self.view.starting)
        plan.start = min(plan.start, limit)

    def shrink(self) -> None:
        """Evict containers beyond the target that have been idle for `idle_timeout_s`."""
        limit_s, target = self.config.idle_timeout_s, self._target()
        while len(self.idle) > target and self.idle[0].idle_since + limit_s <= self.now:
            self._evict(self.idle.pop(0), Reason.IDLE_TIMEOUT)

    def set_alarm(self) -> None:
        """Set `wake_at` to the first time at which time alone changes the plan."""
        times = [one.started_at + self.config.max_age_s for one in self.idle]
        if len(self.idle) > self._target():
            times.append(self.idle[0].idle_since + self.config.idle_timeout_s)
        if self.patient:
            times.extend(one.idle_since + LINGER_S for one in self.idle)
        if self.blocked:
            times.append(self.view.retry_at)
        if self.view.demand is not None and self.config.autoscale:
            times.append(self.view.demand.until)
        # An overdue step waits for an event, such as the end of another replacement.
        self.plan.wake_at = min((time for time in times if time > self.now), default=math.inf)

    def _serve(self, need: N) -> bool:
        index = pick(self.idle, need, keep=self.keep)
        if index is None:
            return False
        self.plan.serve.append((need, self.idle.pop(index)))
        return True

    def _promise(self, need: N) -> bool:
        if not need.fresh and self.returning.get(need.tenant):
            self.returning[need.tenant] -= 1
            self.promised += 1
            return True
        if not self._claim():
            return False
        self._count(need.tenant, 1)
        self.promised += 1
        return True

    def _claim(self) -> bool:
        """Claim a container that starts, or else a slot: a free one, or one that will be."""
        if self.coming > 0:
            self.coming -= 1
        elif self.free > 0:
            self.free -= 1
            self.plan.start += 1
        elif self.freeing > 0:
            self.freeing -= 1
        else:
            return False
        return True

    def _target(self) -> int:
        """Return how many containers should be idle, besides those that leases have or will get."""
        in_use = self.view.leased + len(self.plan.serve) + self.promised
        return max(self.config.min_idle, self.wanted - in_use)

    @cached_property
    def held(self) -> Counter[str | None]:
        """The number of containers, by tenant, that it has or is promised in this plan."""
        view = self.view
        return Counter(chain(view.holders, view.resetting, (one.tenant for one in view.idle)))

    @cached_property
    def held_with_users(self) -> Counter[str]:
        """The same by tenant, with the containers of its users."""
        counted: Counter[str] = Counter()
        for tenant, containers in self.held.items():
            counted[owner(tenant or "")] += containers
        return counted

    def _count(self, tenant: str | None, by: int) -> None:
        self.held_with_users[owner(tenant or "")] += by
        self.held[tenant] += by

    def _victim(self, need: N) -> W | None:
        """Return the idle container that would make room for a waiter.

        It is the one idle for the longest; for a user of a tenant, of the other users of the same
        tenant if they have one, and never an unused one that is kept for others.
        """
        if not (self.keep and is_user(need.tenant)):
            return self.idle[0] if self.idle else None
        used = [one for one in self.idle if one.uses]
        own = (one for one in used if owner(one.tenant or "") == owner(need.tenant))
        return next(own, used[0] if used else None)

    def _is_due(self, need: N) -> bool:
        """Return True if a waiter may take the slot of another tenant now.

        It may if its tenant has no container, or at least two fewer than the tenant that would
        lose one; so may a user of that same tenant. Otherwise a tenant counts with all its users.
        A `fresh` waiter always may: it cannot use the containers of its own tenant.
        """
        victim = self._victim(need)
        if victim is None or need.fresh:
            return True
        mine, theirs = owner(need.tenant), owner(victim.tenant or "")
        if mine == theirs:
            held, other = self.held[need.tenant], self.held[victim.tenant]
        else:
            held, other = self.held_with_users[mine], self.held_with_users[theirs]
        return held == 0 or held + 1 < other

    def _make_room(self, need: N) -> bool:
        victim = self._victim(need)
        if victim is None or not self.evictable:
            return False
        self._count(victim.tenant, -1)
        self._count(need.tenant, 1)
        self._take(victim)
        return True

    def _take(self, victim: W) -> None:
        """Evict a container whose slot has a purpose already."""
        self.evictable -= 1
        self.idle.remove(victim)
        self._evict(victim, Reason.EVICTED, promised=True)

    def _evict(self, container: W, reason: Reason, *, promised: bool = False) -> None:
        self.plan.evict.append((container, reason))
        if not promised:
            self.freeing += 1
