"""One server, load without end, and faults at random: for as long as it is asked for."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.chaos.conftest import SOAK_MINUTES
from tests.chaos.load import Usage
from tests.chaos.test_engine_faults import FAULTS

if TYPE_CHECKING:
    from tests.chaos.bed import Bed

CLIENTS = 5
MOST_GROWTH = 1.25


@pytest.mark.skipif(not SOAK_MINUTES, reason="PGEXEC_CHAOS_SOAK_MINUTES is not set")
async def test_a_server_outlives_faults_at_random(bed: Bed) -> None:
    seed = os.environ.get("PGEXEC_CHAOS_SEED") or str(random.getrandbits(32))
    bed.report.notes.append(f"soak: {SOAK_MINUTES:g} minutes, PGEXEC_CHAOS_SEED={seed}")
    chance = random.Random(seed)
    bed.long = False  # many short ones instead
    used: list[Usage] = []
    deadline = time.monotonic() + SOAK_MINUTES * 60
    while time.monotonic() < deadline:
        fault = chance.choice(FAULTS)
        clients = chance.choice((0, CLIENTS, CLIENTS))
        await bed.suffers(f"soak: {fault.__name__.replace('_', ' ')}", fault, clients=clients)
        used.append(Usage.of(bed.server.process.pid))
    for what in ("rss_mib", "descriptors"):
        values = [getattr(one, what) for one in used]
        quarter = max(1, len(values) // 4)
        first, last = (sorted(part)[quarter // 2] for part in (values[:quarter], values[-quarter:]))
        bed.report.notes.append(f"soak: {what}: first quarter {first:g}, last quarter {last:g}")
        assert last <= first * MOST_GROWTH, values
