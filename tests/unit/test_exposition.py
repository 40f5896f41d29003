"""The text of a scrape is what `prometheus_client` itself would write, to the byte."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pgexec.telemetry.exposition import Exposition
from pgexec.telemetry.metrics import Metrics
from pool.job import Status

HOSTILE = ('quo"te', "back\\slash", "two\nlines", "ünï ❤", "", 'a="b"} 1 #')


def test_the_text_is_that_of_the_client_library() -> None:
    metrics = Metrics(("python", "data"))
    metrics.pool("python").started(0.1)
    metrics.canary.expect("python", ["read-only root"], 300)  # which is NaN as yet
    for status in (200, 404):
        metrics.answered("/run", status, 0.002)
        assert _without_process(metrics.render()) == _without_process(
            generate_latest(metrics.registry)
        )
        metrics.ran("python", Status.OK, 0.5, 0.25)


def test_labels_and_values_are_escaped_and_written_as_they_should_be() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("a_gauge", 'Backslash \\ "quotes"\nand lines', ["b", "a"], registry=registry)
    counter = Counter("one_total", "Without labels", registry=registry)
    histogram = Histogram("some_seconds", "Buckets", ["a"], buckets=(0.5, 1), registry=registry)
    values = (0, -1.5, 1e21, 1e-9, math.inf, -math.inf)
    for number, (word, value) in enumerate(zip(HOSTILE, values, strict=True)):
        gauge.labels(word, str(number)).set(value)
        histogram.labels(word).observe(value)
    exposition = Exposition(registry)
    for _ in range(2):
        assert exposition.render() == generate_latest(registry)
        counter.inc(0.25)
        gauge.labels("later", "").set(math.nan)


def _without_process(text: bytes) -> list[bytes]:
    """Leave out what the process does by itself between two renderings."""
    return [line for line in text.split(b"\n") if not line.startswith(b"process_")]
