"""The values that labels take: few, and known beforehand.

Each value comes from an enum of the pool's, from the settings (`profile`), or through `known`.
So no client can make series up, and a server has the same series from its start to its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

OTHER = "other"
"""Stands for every value that is not foreseen."""
METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS"})
START_FAILURES = (
    *("engine_error", "engine_unavailable", "image_missing", "container_lost"),
    *("runner_protocol_error", "lost", "timeout", "unexpected", OTHER),
)


def known(value: str, values: Container[str]) -> str:
    """Return a value that is among the values foreseen, and `other` in place of any else."""
    return value if value in values else OTHER
