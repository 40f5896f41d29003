"""Bound the figures of a run by the limits of its container.

The figures come from the runner, and a snippet can forge its memory. One forged figure would spoil
sums and histograms for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pool.engine.api import CreateDocument
    from pool.inside.protocol import Exit

_PERIOD_S = 0.1
"""In each period of so many seconds, a container gets its share of the processors anew. A shorter
run may use the whole share at once."""

_ANY_CPUS, _ANY_MEMORY_BYTES = 4096.0, 1 << 50
"""More than any machine has, for a container without limits."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The limits of a container: processors, and bytes of memory."""

    cpus: float
    memory_bytes: int

    @classmethod
    def of(cls, document: CreateDocument) -> Ceiling:
        """Return the limits of a container with this document."""
        host = document.get("HostConfig")
        limits = host if isinstance(host, dict) else {}
        return cls(
            cpus=limits.get("NanoCpus", 0) / 1e9 or _ANY_CPUS,
            memory_bytes=limits.get("Memory", 0) or _ANY_MEMORY_BYTES,
        )

    def bound(self, ending: Exit, wall_s: float) -> Exit:
        """Return the end of a run of at most `wall_s` seconds, with its figures bounded.

        Example: with 2 processors, a run of 1 s has used at most 2.2 s of processor time.
        """
        duration_us = min(ending.duration_us, round(wall_s * 1e6))
        cpu_us = min(ending.cpu_us, round((duration_us + _PERIOD_S * 1e6) * self.cpus))
        memory_bytes = min(ending.peak_memory_bytes, self.memory_bytes)
        bounded = duration_us, cpu_us, memory_bytes
        if bounded == (ending.duration_us, ending.cpu_us, ending.peak_memory_bytes):
            return ending
        return ending._replace(
            duration_us=duration_us, cpu_us=cpu_us, peak_memory_bytes=memory_bytes
        )
