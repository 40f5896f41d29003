"""docs/tuning.md and its curves: nothing forgotten, nothing drawn by hand."""

from __future__ import annotations

import asyncio
import json
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from bench import memory
from bench.client import get
from bench.curves_draw import embed, plots
from bench.load import arrivals, open_loop
from bench.plot import Axis
from pgexec.settings.sources import OF_CLIENTS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TUNING = (DOCS / "tuning.md").read_text(encoding="utf-8")
SETTINGS = sorted(dotenv_values(ROOT / "settings.env"))


@pytest.fixture
def figures() -> Any:
    """Return what was measured last."""
    return json.loads((DOCS / "curves.json").read_text(encoding="utf-8"))


def mentioned(text: str) -> set[str]:
    return set(re.findall(r"PGEXEC_[A-Z_]*[A-Z]", text))


def test_every_setting_is_in_the_documents() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(SETTINGS) - mentioned(TUNING + readme) == set()


def test_the_page_on_tuning_names_no_setting_that_does_not_exist() -> None:
    assert mentioned(TUNING) - set(SETTINGS) - OF_CLIENTS == set()


def test_the_plots_in_the_documents_are_those_of_the_figures(figures: Any) -> None:
    for name, svg in plots(figures).items():
        assert (DOCS / name).read_text(encoding="utf-8") == svg
        assert f"({name})" in TUNING
        ET.fromstring(svg)


def test_the_tables_in_the_documents_are_those_of_the_figures(figures: Any) -> None:
    assert TUNING.count("<!-- curves: ") == 5
    assert embed(TUNING, figures) == TUNING


def test_other_figures_make_other_plots_and_tables(figures: Any) -> None:
    before = plots(figures)
    for row in (figures["load"][0], figures["uses"][0], figures["variants"][0]):
        for name in row.keys() & {"p99_ms", "runs_per_s", "start_ms"}:
            row[name] += 7
    figures["memory"][0]["shim"] += 7
    after = plots(figures)
    assert all(before[name] != after[name] for name in before)
    assert embed(TUNING, figures) != TUNING


def test_arrivals_come_in_order_at_their_rate_and_again_at_the_same_times() -> None:
    found = arrivals(50, 200, seed=1)
    assert found == arrivals(50, 200, seed=1) != arrivals(50, 200, seed=2)
    assert len(found) == 200
    assert all(earlier <= later for earlier, later in pairwise(found))
    assert 0 <= found[0] < found[-1] <= 4


def test_intervals_between_arrivals_vary_as_those_of_a_poisson_process() -> None:
    found = arrivals(100, 10_000, seed=1)
    intervals = [later - earlier for earlier, later in pairwise(found)]
    mean = sum(intervals) / len(intervals)
    variance = sum((one - mean) ** 2 for one in intervals) / len(intervals)
    assert variance / mean**2 == pytest.approx(1, abs=0.1)


async def test_an_open_loop_waits_for_no_answer_and_counts_what_is_refused() -> None:
    readers = 0
    all_there, ended = asyncio.Event(), asyncio.Semaphore(0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal readers
        try:
            await reader.readuntil(b"\r\n\r\n")
            readers += 1
            refused = readers % 4 == 0
            if readers == 40:
                all_there.set()
            await all_there.wait()  # for ever, if the client waited for an answer first
            body = b"" if refused else b'{"data":"1\\n"}'
            status = b"503 Service Unavailable" if refused else b"200 OK"
            head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
            writer.write(head + body)
            await reader.read()
        except asyncio.IncompleteReadError:
            pass  # a connection that was not needed
        finally:
            writer.close()
            ended.release()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, asyncio.timeout(30):
        port = server.sockets[0].getsockname()[1]
        found = await open_loop(port, get("/"), arrivals(1000, 40, seed=1))
        for _ in range(40):
            await ended.acquire()
    assert (len(found.latencies_s), found.refused, len(found.late_s)) == (30, 10, 40)


@pytest.mark.parametrize(
    ("directory", "files"),
    [
        (
            "memory/docker/c0ffee",
            {
                "memory.stat": "cache 2097152\nrss 3145728\n",
                "memory.kmem.usage_in_bytes": "1048576",
            },
        ),
        (
            "docker/c0ffee",
            {"memory.stat": "anon 3145728\nfile 2097152\n", "memory.current": "6291456"},
        ),
        (
            "system.slice/docker-c0ffee.scope",
            {
                "memory.stat": "anon 3145728\nfile 2097152\nkernel 1048576\n",
                "memory.current": "7000000",
            },
        ),
    ],
)
def test_memory_is_read_from_either_version_of_cgroups(
    directory: str, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_ROOT", tmp_path)
    (tmp_path / directory).mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / directory / name).write_text(text)
    assert memory._charged("c0ffee") == ((3.0, 2.0, 1.0), tmp_path / directory)


def test_an_axis_ends_at_its_outer_ticks() -> None:
    axis = Axis("", (1, 10, 100))
    assert [axis.share(value) for value in (0.5, 1, 10, 100, 500)] == [0, 0, 0.5, 1, 1]
    assert Axis("", (0, 4), logarithmic=False).share(1) == 0.25
