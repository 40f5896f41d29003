"""Prometheus' text format. The loop's only thread writes it, so it must not take long.

`prometheus_client.generate_latest` checks and escapes each name and label again at every scrape,
which takes longer than all the rest. This module does it once for each series.
https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Exposition:
    """Renders a registry of counters, gauges and histograms.

    It keeps the text of each series' name and labels, so its memory is bounded as long as the
    number of series is.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._series: dict[tuple[str, ...], str] = {}
        self._heads: dict[str, str] = {}

    def render(self) -> bytes:
        """Return every sample."""
        series, heads, lines = self._series, self._heads, []
        for family in self._registry.collect():
            head = heads.get(family.name)
            if head is None:
                head = heads[family.name] = _head(family.name, family.type, family.documentation)
            lines.append(head)
            for sample in family.samples:
                key = (sample.name, *sample.labels, *sample.labels.values())
                named = series.get(key)
                if named is None:
                    named = series[key] = _named(sample.name, sample.labels)
                value = floatToGoString(sample.value)  # type: ignore[no-untyped-call]
                lines.append(f"{named} {value}\n")
        return "".join(lines).encode()


def _head(name: str, kind: str, text: str) -> str:
    if kind == "counter":
        name += "_total"
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _named(name: str, labels: Mapping[str, str]) -> str:
    pairs = ",".join(
        f'{label}="{value.translate(_ESCAPES)}"' for label, value in sorted(labels.items())
    )
    return f"{name}{{{pairs}}}" if pairs else name
