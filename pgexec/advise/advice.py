"""Advise which settings to change, and why, from the figures of a server (`sources`). Pure."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from pool.sizing.demand import COLD_SHARE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENOUGH = 100
"""With fewer leases than this, there is no advice."""
FULL_SHARE = 0.001
"""This share of all arrivals may need more containers than `max_containers`."""
OOM_SHARE = 0.01
START_SHARE = 0.05
"""The start of a container's replacement may take this share of the container's working time."""
MOST_USES = 10_000
LEAST_MEMORY = 64 << 20
SPARE_MEMORY = 4
"""A memory limit of so many times the highest peak, or more, is too high."""

Counts = dict[float, float]
"""The number of cases by upper bound, not cumulated; the last bound is `math.inf`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The figures of a server over some time; sizes are bytes.

    `waited` counts the leases that had to wait for a container, `refused` those that got none.
    `levels` and `rises` are the fields of `pool.sizing.demand.DemandReport`. `peaks` counts the
    snippets by their highest memory; it is empty if that is not known.
    """

    min_idle: int
    max_containers: int
    autoscale: bool
    max_uses: int
    memory_limit: int
    leases: float
    waited: float
    refused: float
    mean_wait_s: float
    start_s: float
    held_s: float
    worn_out: float  # containers destroyed after their last use
    runs: float
    out_of_memory: float
    levels: Counts
    rises: Counts
    peaks: Counts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """One setting, in the unit in which it is set, and the reason without a full stop."""

    setting: str
    now: str
    advised: str
    why: str


@dataclass(frozen=True, slots=True)
class Advice:
    """The settings to change, and the effect to expect; shares are between 0 and 1."""

    leases: int
    waited_share: float
    mean_wait_s: float
    changes: list[Change]
    expected_waited_share: float
    expected_mean_wait_s: float

    @property
    def enough(self) -> bool:
        """True if there were enough leases for advice."""
        return self.leases >= ENOUGH


_OF_ALL = ("min_idle", "max_containers", "autoscale", "max_uses", "memory_limit")
_SUMS = ("leases", "waited", "refused", "worn_out", "runs", "out_of_memory")


class DifferentError(Exception):
    """Servers have different settings, so that no advice fits all of them."""


def together(seen: Sequence[Evidence]) -> Evidence:
    """Return the evidence of several servers as if it were of one; its advice is for each of them.

    `seen` has at least one. Raises `DifferentError` if their settings differ.
    """
    first = seen[0]
    for name in _OF_ALL:
        if len(values := {getattr(one, name) for one in seen}) > 1:
            many = " and ".join(map(str, sorted(values)))
            raise DifferentError(f"the servers differ in {name} ({many}): ask for each alone")
    by_leases = [one.leases for one in seen]
    return replace(
        first,
        **{name: sum(getattr(one, name) for one in seen) for name in _SUMS},
        mean_wait_s=_mean([one.mean_wait_s for one in seen], by_leases),
        start_s=_mean([one.start_s for one in seen], by_leases),
        held_s=_mean([one.held_s for one in seen], [one.runs for one in seen]),
        levels=_all([one.levels for one in seen]),
        rises=_all([one.rises for one in seen]),
        peaks=_all([one.peaks for one in seen]),
    )


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    total = sum(weights)
    if not total:
        return values[0]
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / total


def _all(counts: Sequence[Counts]) -> Counts:
    bounds = sorted({bound for one in counts for bound in one})
    return {bound: sum(one.get(bound, 0.0) for one in counts) for bound in bounds}


def advise(seen: Evidence) -> Advice:
    """Return the settings to change."""
    waited_share = seen.waited / seen.leases if seen.leases else 0.0
    changes: list[Change] = []
    expected = waited_share, seen.mean_wait_s
    if seen.leases >= ENOUGH:
        idle, most = _min_idle(seen, waited_share), _max_containers(seen)
        changes += filter(None, (idle, most, _memory(seen), _max_uses(seen)))
        if any(change in (idle, most) for change in changes):
            after = _above(seen.rises, float(idle.advised) if idle else seen.min_idle)
            share = min(after, waited_share) if seen.waited else after
            wait_s = seen.mean_wait_s / waited_share if waited_share else seen.start_s
            expected = share, share * wait_s
    return Advice(round(seen.leases), waited_share, seen.mean_wait_s, changes, *expected)


def render(advice: Advice) -> str:
    """Return the lines for people."""
    waited = f"{advice.waited_share:.1%} waited for a container"
    lines = [f"{advice.leases} leases: {waited}, {_milliseconds(advice.mean_wait_s)} on average"]
    if not advice.enough:
        return f"{lines[0]}\nToo few to say anything: {ENOUGH} are needed"
    lines += [
        f"{one.setting}={one.advised} instead of {one.now}: {one.why}" for one in advice.changes
    ]
    if not advice.changes:
        return f"{lines[0]}\nNothing to change"
    share, wait = advice.expected_waited_share, _milliseconds(advice.expected_mean_wait_s)
    return "\n".join((*lines, f"Expected then: {share:.1%} wait, {wait} on average"))


def render_json(advice: Advice) -> str:
    """Return the document for machines: the fields of `Advice`."""
    return json.dumps({**asdict(advice), "enough": advice.enough}, indent=2)


def least(counts: Mapping[float, float], share: float) -> float:
    """Return the lowest bound that at most `share` of all cases exceed."""
    allowed, above, found = share * sum(counts.values()), 0.0, 0.0
    for bound in sorted(counts, reverse=True):
        above += counts[bound]
        if above > allowed:
            found = bound
            break
    return found


def _min_idle(seen: Evidence, waited_share: float) -> Change | None:
    wanted = least(seen.rises, COLD_SHARE)
    wanted = seen.max_containers if wanted > seen.max_containers else int(wanted)
    if wanted > seen.min_idle and (waited_share > COLD_SHARE or not seen.autoscale):
        why = (
            f"{1 - COLD_SHARE:.0%} of arrivals need at most {wanted} more containers than a second "
            f"or two before, but {_above(seen.rises, seen.min_idle):.1%} more than {seen.min_idle}"
        )
    elif wanted < seen.min_idle:
        why = f"{1 - COLD_SHARE:.0%} of arrivals need no more; an idle container takes 13 MiB"
    else:
        return None
    return Change("PGEXEC_POOL_MIN_IDLE", str(seen.min_idle), str(wanted), why)


def _max_containers(seen: Evidence) -> Change | None:
    now = seen.max_containers
    above = _above(seen.levels, now)
    if above <= FULL_SHARE:
        return None
    wanted = least(seen.levels, FULL_SHARE)
    wanted = math.ceil(1.5 * now) if math.isinf(wanted) else int(wanted)
    gib = wanted * seen.memory_limit / (1 << 30)
    why = (
        f"{above:.1%} of arrivals needed more than {now} at once, and {seen.refused:.0f} were "
        f"refused; {wanted} containers may take {gib:.3g} GiB of memory"
    )
    return Change("PGEXEC_POOL_MAX_CONTAINERS", str(now), str(wanted), why)


def _memory(seen: Evidence) -> Change | None:
    if not seen.runs or not seen.memory_limit:
        return None
    killed = seen.out_of_memory / seen.runs
    highest = least(seen.peaks, FULL_SHARE) if seen.peaks else math.inf
    if killed > OOM_SHARE:
        wanted = 2 * seen.memory_limit
        why = f"{killed:.1%} of runs ran out of memory"
    elif not killed and SPARE_MEMORY * highest <= seen.memory_limit:
        wanted = max(LEAST_MEMORY, 1 << math.ceil(math.log2(2 * max(1.0, highest))))
        why = f"of a thousand runs, 999 took at most {_mib(highest)}"
    else:
        return None
    if wanted == seen.memory_limit:
        return None
    total = f"{seen.max_containers} containers may then take"
    why = f"{why}; {total} {seen.max_containers * wanted / (1 << 30):.3g} GiB"
    return Change("PGEXEC_MEMORY_LIMIT", _mib(seen.memory_limit), _mib(wanted), why)


def _max_uses(seen: Evidence) -> Change | None:
    if not (seen.worn_out and seen.held_s and seen.start_s):
        return None
    share = seen.start_s / (seen.max_uses * seen.held_s)
    wanted = min(MOST_USES, _round_up(seen.start_s / (START_SHARE * seen.held_s)))
    if share <= START_SHARE or wanted <= seen.max_uses:
        return None
    why = (
        f"starting a container takes {_milliseconds(seen.start_s)}, {share:.0%} of what its "
        f"{seen.max_uses} runs take"
    )
    if seen.max_uses == 1:
        why += "; keep 1 if nobody may ever get a used one"
    return Change("PGEXEC_MAX_USES", str(seen.max_uses), str(wanted), why)


def _above(counts: Mapping[float, float], limit: float) -> float:
    total = sum(counts.values())
    above = sum(many for bound, many in counts.items() if bound > limit)
    return above / total if total else 0.0


def _round_up(value: float) -> int:
    """Return `value` or the next higher of 1, 2, 5, 10, 20, 50 and so on."""
    scale = int(10 ** math.floor(math.log10(max(1.0, value))))
    return next(scale * step for step in (1, 2, 5, 10) if scale * step >= value)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


def _mib(size: float) -> str:
    return f"{size / (1 << 20):g}MiB" if size >= 1 << 20 else f"{size:g}"
