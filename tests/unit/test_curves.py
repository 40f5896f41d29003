"""docs/tuning.md and its curves: nothing forgotten, nothing drawn by hand."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from bench.curves_draw import embed, plots
from bench.load import arrivals
from bench.plot import Axis

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
    assert mentioned(TUNING) - set(SETTINGS) == set()


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


def test_an_axis_ends_at_its_outer_ticks() -> None:
    axis = Axis("", (1, 10, 100))
    assert [axis.share(value) for value in (0.5, 1, 10, 100, 500)] == [0, 0, 0.5, 1, 1]
    assert Axis("", (0, 4), logarithmic=False).share(1) == 0.25
