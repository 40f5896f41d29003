"""The Grafana dashboard as a document: Grafana's own schema, and a layout without holes in it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.prometheus import DASHBOARD


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(DASHBOARD.read_text())


def differences(sent: Any, kept: Any, path: str = "") -> list[str]:
    """Return where a document has something that did not survive the schema."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        names = [*sent]
        pairs = [(f"{path}.{name}", sent[name], kept.get(name, "nothing")) for name in names]
    elif isinstance(sent, list) and isinstance(kept, list) and len(sent) == len(kept):
        pairs = [(f"{path}[{n}]", *both) for n, both in enumerate(zip(sent, kept, strict=True))]
    else:
        return [] if sent == kept else [f"{path}: {sent!r} became {kept!r}"]
    return [one for where, a, b in pairs for one in differences(a, b, where)]


def test_the_schema_knows_every_field(document: Any) -> None:
    register_default_plugins()
    kept = json.loads(JSONEncoder().encode(Dashboard.from_json(document)))
    assert differences(document, kept) == []


def test_panels_have_ids_of_their_own_and_do_not_overlap(document: Any) -> None:
    panels = document["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    rows = [panel["gridPos"]["y"] for panel in panels if panel["type"] == "row"]
    assert all(above < below for above, below in pairwise(rows))


def test_every_panel_says_what_it_shows_and_asks_the_chosen_source(document: Any) -> None:
    for panel in document["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith("."), panel["title"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"
            assert 'instance=~"$instance"' in target["expr"], panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
