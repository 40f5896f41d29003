"""No two runs draw the same random numbers, though all are forked from one process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pool.job import Job

if TYPE_CHECKING:
    from pool.container import Container
    from tests.conftest import StartContainer

DRAW = b"""
import json, os, random, secrets, tempfile, threading, uuid
def in_child():
    r, w = os.pipe()
    if os.fork() == 0:
        os.write(w, str(random.random()).encode())
        os._exit(0)
    os.wait()
    return os.read(r, 100).decode()
print(json.dumps({
    "random": random.random(),
    "randbytes": random.randbytes(8).hex(),
    "own generator": random.Random().random(),
    "system": random.SystemRandom().random(),
    "shuffled": str(random.sample(range(1000), 20)),
    "child": in_child(),
    "uuid1": str(uuid.uuid1()),
    "uuid4": str(uuid.uuid4()),
    "secrets": secrets.token_hex(8),
    "urandom": os.urandom(8).hex(),
    "getrandom": os.getrandom(8).hex(),
    "file": tempfile.mkdtemp(),
    "candidate": next(tempfile._get_candidate_names()),
}))
"""
RUNS = 20


async def _draws(container: Container, times: int) -> list[dict[str, object]]:
    draws = []
    for _ in range(times):
        result = await container.run(Job(DRAW))
        assert result.exit_code == 0, result.stderr
        draws.append(json.loads(result.stdout))
        assert (await container.reset(timeout_s=10)).clean
    return draws


@pytest.mark.parametrize("preimport", [(), ("random", "secrets", "tempfile", "uuid")], ids=str)
async def test_runs_never_draw_the_same_numbers(
    start_container: StartContainer, preimport: tuple[str, ...]
) -> None:
    """Neither in one recycled container nor in several, modules imported before or not."""
    containers = [await start_container(preimport=preimport, sequence=i) for i in range(3)]
    draws = await _draws(containers[0], RUNS)
    for other in containers[1:]:
        draws += await _draws(other, 3)
    for source in draws[0]:
        drawn = [draw[source] for draw in draws]
        assert len(set(drawn)) == len(drawn), source
