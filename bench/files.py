"""Files in and out of one run, against `docker cp` of the same both ways, in turns."""

from __future__ import annotations

import base64
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.client import ClientConnection, post_run
from bench.errors import AnswerError
from bench.pings import pinging
from bench.report import Section, median, milliseconds
from bench.server import serving

if TYPE_CHECKING:
    from aiodocker.containers import DockerContainer

    from bench.bed import Bed

SIZE_MIB = 16
ROUNDS = 7
SNIPPET = "import shutil; shutil.copyfile('in.bin', 'out.bin')"
WANTED_OF_CP, WANTED_OF_MEMORY, WANTED_PING_MS = 1.5, 4.0, 20.0


async def measure(bed: Bed) -> Section:
    """Measure a run that gets a file and gives one back, and what the server needs for it."""
    section = Section(f"{SIZE_MIB} MiB into a run and {SIZE_MIB} MiB out of it")
    data = os.urandom(SIZE_MIB << 20)
    given = {"name": "in.bin", "content": base64.b64encode(data).decode(), "encoding": "base64"}
    request = post_run(SNIPPET, files=[given], collect=["out.bin"])
    took: list[float] = []
    copied: list[float] = []
    floor: list[float] = []
    pings: list[float] = []
    async with serving() as server, bed.flows.warm(bed.stock) as plain:
        connection = await ClientConnection.open(server.port)
        before_mib = server.usage().rss_mib
        _forget_peak(server.pid)
        for number in range(ROUNDS + 1):
            await server.settled()
            async with pinging(server.port, pings if number else []):
                began = time.perf_counter()
                _, body = await connection.ask(request)
                seconds = time.perf_counter() - began
            _check(body, data)
            cp_s = await _copy_both_ways(bed, plain, data)
            floor_s = await bed.flows.stream_both_ways(bed.stock, SIZE_MIB << 20)
            if number:  # the first one warms up
                took.append(seconds)
                copied.append(cp_s)
                floor.append(floor_s)
        risen = (_peak_mib(server.pid) - before_mib) / SIZE_MIB
        connection.close()
    section.row("HTTP /run with files and collect", **milliseconds(took))
    section.row("docker cp in, docker cp out", **milliseconds(copied))
    section.row("the engine's stream, in and out", **milliseconds(floor))
    section.row("/ping meanwhile", **milliseconds(pings))
    section.note(
        "the stream alone is the least that a run's files take: no file, no JSON, no base64"
    )
    section.note(
        "a run counts from the first byte of its request, with its base64 and JSON made before, "
        "to the last byte of its answer, before its JSON is read"
    )
    section.note("/ping is asked by a process of its own; it waits for a processor as all do")
    section.note(f"the server's memory rose by {risen:.2g} times the size of one file")
    section.want_at_most(
        "run / docker cp both ways, p50", median(took) / median(copied), WANTED_OF_CP
    )
    section.want_at_most("memory risen / size", risen, WANTED_OF_MEMORY)
    section.want_at_most("longest /ping meanwhile, ms", max(pings) * 1000, WANTED_PING_MS)
    return section


def _check(body: bytes, data: bytes) -> None:
    answer = json.loads(body)
    files = answer.get("files") or [{}]
    if base64.b64decode(files[0].get("content", "")) != data:
        raise AnswerError(f"the file did not come back: {answer.get('error')}")


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def _copy_both_ways(bed: Bed, plain: DockerContainer, data: bytes) -> float:
    with tempfile.TemporaryDirectory(prefix="pgexec-bench-") as directory:
        source = Path(directory) / "in.bin"
        source.write_bytes(data)
        began = time.perf_counter()
        await bed.flows.copy(str(source), f"{plain.id}:/in.bin")
        await bed.flows.copy(f"{plain.id}:/in.bin", f"{directory}/out.bin")
        return time.perf_counter() - began
