"""What counts as an address that a run has left in the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pool.inside.traces import Traces

if TYPE_CHECKING:
    import pytest


def test_a_neighbour_in_place_of_one_that_has_gone_is_a_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It leaves their number as it was."""
    there = {b"\xcb\x00\x71\x01"}
    monkeypatch.setattr(Traces, "_neighbours", lambda _: set(there))
    traces = Traces()
    assert traces.count()[1] == 0
    there.clear()
    assert traces.count()[1] == 0
    there.add(b"\xcb\x00\x71\x4d")
    assert traces.count()[1] == 1
