"""docs/scaling.md and its curves: drawn from figures alone; and the simulation is what it says."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bench.scaling import HASH, IDEAL, LEAST, POLICIES, TWO, simulate
from bench.scaling_draw import embed, plot

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "scaling.md").read_text(encoding="utf-8")


@pytest.fixture
def figures() -> Any:
    """Return what was measured last."""
    return json.loads((DOCS / "scaling.json").read_text(encoding="utf-8"))


def test_curves_and_tables_in_the_documents_are_those_of_the_figures(figures: Any) -> None:
    drawn = plot(figures)
    assert (DOCS / "scaling.svg").read_text(encoding="utf-8") == drawn
    ET.fromstring(drawn)
    assert "(scaling.svg)" in PAGE
    assert PAGE.count("<!-- scaling: ") == 4
    assert embed(PAGE, figures) == PAGE


def test_other_figures_make_other_curves_and_tables(figures: Any) -> None:
    for rows in figures["simulated"].values():
        for row in rows:
            row["p99" if "p99" in row else "worth"] = 3.21
    figures["overhead"]["added_ms"] = 77.0
    figures["machines"] = [{"what": "a test", "requests": 4242}]
    assert plot(figures) != (DOCS / "scaling.svg").read_text(encoding="utf-8")
    page = embed(PAGE, figures)
    assert all(text in page for text in ("3.21", "3.2 |", "77.00 ms more", "4242"))


def test_the_figures_in_the_documents_show_no_lost_run(figures: Any) -> None:
    rows = figures.get("machines", ())
    assert [row for row in rows if row["lost"] or row["twice"]] == []


@pytest.mark.slow
def test_a_balancer_is_never_better_than_one_queue_and_a_hash_is_the_worst() -> None:
    p99 = {policy: simulate(policy, 4, 0.8, 7).p99 for policy in POLICIES}
    assert p99[IDEAL] <= p99[LEAST] < p99[TWO] < p99[HASH]


def test_with_one_server_there_is_nothing_to_choose() -> None:
    assert len({simulate(policy, 1, 0.7, 7) for policy in POLICIES}) == 1


@pytest.mark.parametrize(("load", "throughput"), [(0.5, 0.5), (1.5, 1.0)])
def test_a_fleet_serves_what_is_asked_for_up_to_what_it_can(load: float, throughput: float) -> None:
    assert simulate(LEAST, 2, load, 7).throughput == pytest.approx(throughput, rel=0.03)
