"""The figures of a run are measured, and not believed: no snippet can make them up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pool.job import Status

if TYPE_CHECKING:
    from tests.abuse.sandbox import Sandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_BYTES = 256 << 20  # of `Limits`
BURN = """
import os, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
"""
FORGE = """
import ctypes, os, struct
def forge(*words):
    for line in open("/proc/self/maps"):
        where, access, *_ = line.split()
        if access == "rw-s":
            begin, end = (int(address, 16) for address in where.split("-"))
            said = struct.pack("=" + "Q" * len(words), *words)
            ctypes.memmove(begin, said, len(said))
    os.close(1)
    os.close(2)
    os._exit(0)
"""
HIDDEN = {
    "by itself": "burn(0.4)",
    "in a child that it waits for": "if os.fork() == 0: burn(0.4); os._exit(0)\nos.wait()",
    "in a child that it abandons": """
r, w = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        burn(0.4)
        os.write(w, b"x")
    os._exit(0)
os.wait()
os.read(r, 1)
""",
    "in threads": """
import threading
threads = [threading.Thread(target=burn, args=(0.4,)) for _ in range(2)]
[thread.start() for thread in threads]
""",
    "in a program": """
import subprocess
subprocess.run(["python3", "-c", "import time\\nwhile time.process_time() < 0.4: pass"])
""",
    "before it lies": FORGE + "burn(0.4)\nforge(1, 0, 0, 0)",
    "before it is killed": "burn(0.4)\nos.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("how", HIDDEN)
async def test_all_processor_time_of_a_run_is_counted(sandbox: Sandbox, how: str) -> None:
    outcome = await sandbox.attack(BURN + HIDDEN[how])
    result = outcome.result
    assert 0.3 < result.cpu_s <= result.duration_s + 0.1


async def test_a_run_that_sleeps_takes_next_to_nothing(sandbox: Sandbox) -> None:
    result = (await sandbox.attack("import time; time.sleep(0.5)")).result
    assert 0 < result.cpu_s < 0.2


@pytest.mark.parametrize("word", [10**15, 1 << 40, 1 << 63, (1 << 64) - 1])
async def test_no_figure_is_what_a_snippet_makes_up(sandbox: Sandbox, word: int) -> None:
    for words in ((1, word, word, word), (1 << 32 | 1, word, word), (word, word, word, word)):
        outcome = await sandbox.attack(f"{FORGE}forge{words}")
        assert outcome.status in (Status.OK, Status.ERROR)
        assert outcome.result.cpu_s < 0.2
        assert outcome.result.duration_s < 20
        assert outcome.result.peak_memory_bytes <= LIMIT_BYTES


async def test_the_memory_of_an_abandoned_child_counts(sandbox: Sandbox) -> None:
    outcome = await sandbox.attack("""
import os, time
r, w = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        kept = b"x" * (100 << 20)
        os.close(w)
    os._exit(0)
os.close(w)
os.wait()
os.read(r, 1)
time.sleep(0.1)
""")
    assert 100 << 20 < outcome.result.peak_memory_bytes < LIMIT_BYTES


@pytest.mark.parametrize("size", [0, 5, 200, 4000, (1 << 32) - 1])
@pytest.mark.parametrize("text", [b"A\nb: c", b"\xff\x00\x1b[31m", b"x" * 4000, b"ValueError"])
async def test_the_name_of_an_exception_can_be_forged_into_a_name_alone(
    sandbox: Sandbox, size: int, text: bytes
) -> None:
    outcome = await sandbox.attack(f"""{FORGE}
for line in open("/proc/self/maps"):
    where, access, *_ = line.split()
    if access == "rw-s":
        begin = int(where.split("-")[0], 16)
        said = (struct.pack("=iiQI", 1, 1, 9, {size}) + {text!r})[:4096]
        ctypes.memmove(begin, said, len(said))
os.close(1)
os.close(2)
os._exit(1)
""")
    result = outcome.result
    assert (result.status, result.exit_code) == (Status.ERROR, 1)
    assert len(result.exception) <= 200
    assert result.exception in ("", "A", "x" * size, "x" * 200, "ValueError"[:size])


@pytest.mark.parametrize("mib", [100, 255])
async def test_no_run_has_had_memory_that_it_only_claims(sandbox: Sandbox, mib: int) -> None:
    outcome = await sandbox.attack(f"{FORGE}forge(1, {mib << 10})")
    assert outcome.status is Status.OK
    assert outcome.result.peak_memory_bytes < 64 << 20
    assert outcome.result.duration_s < 5


@pytest.mark.parametrize("where", ["{}", "if os.fork() == 0: {}; os._exit(0)\nos.wait()"])
async def test_memory_that_a_run_has_had_counts(sandbox: Sandbox, where: str) -> None:
    outcome = await sandbox.attack("import os\n" + where.format("b'x' * (100 << 20)"))
    assert outcome.result.peak_memory_bytes > 100 << 20
