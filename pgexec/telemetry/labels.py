"""The values of labels: few, and known beforehand.

Each value comes from an enum of the pool, from the settings (`profile`), or from `known`. So no
client can create a series, and a server has the same series from its start to its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

OTHER = "other"
"""The label for every other value."""
METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS"})
START_FAILURES = (
    *("engine_error", "engine_unavailable", "image_missing", "container_lost"),
    *("runner_protocol_error", "lost", "timeout", "unexpected", OTHER),
)


def known(value: str, values: Container[str]) -> str:
    """Return `value` if it is one of `values`, else `other`."""
    return value if value in values else OTHER
