"""What is told of a run's parts, however far it got."""

from __future__ import annotations

from pgexec.http.tracing import parts
from pgexec.service import Timings
from pool.observer import Source


def test_every_part_has_its_place() -> None:
    timings = Timings(
        source=Source.STARTED,
        install_at=10.0,
        install_s=2.0,
        queue_s=0.5,
        lease_at=12.5,
        lease_s=1.0,
        run_s=0.75,
    )
    assert list(parts(timings, 13.5)) == [
        ("install", 10.0, 2.0),
        ("start", 12.0, 0.5),
        ("run", 12.5, 0.75),
    ]


def test_a_wait_for_others_is_a_queue_and_no_wait_is_nothing() -> None:
    waited = Timings(source=Source.WAITED, queue_s=0.5, lease_at=2.0, run_s=1.0)
    assert list(parts(waited, 3.0)) == [("queue", 1.5, 0.5), ("run", 2.0, 1.0)]
    at_once = Timings(source=Source.IDLE, queue_s=0.0, lease_at=2.0, run_s=1.0)
    assert list(parts(at_once, 3.0)) == [("run", 2.0, 1.0)]


def test_what_failed_on_its_way_has_what_it_came_to() -> None:
    assert list(parts(Timings(), 9.0)) == []
    assert list(parts(Timings(install_at=1.0, install_s=8.0), 9.0)) == [("install", 1.0, 8.0)]
    assert list(parts(Timings(queue_s=2.0), 9.0)) == [("queue", 7.0, 2.0)]
