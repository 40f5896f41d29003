"""The series of the container engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from pool.engine.api import EngineObserver, Failure, Leak, Operation

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

CALL_BUCKETS_S = (0.001, 0.0025, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0)


class EngineMetrics(EngineObserver):
    """Counts the calls of the engine, their seconds, and the bytes of its streams."""

    def __init__(self, registry: CollectorRegistry) -> None:
        call_s = Histogram(
            "pgexec_engine_call_duration_seconds",
            "Calls of the container engine, however they ended",
            ["operation"],
            buckets=CALL_BUCKETS_S,
            registry=registry,
        )
        errors = Counter(
            "pgexec_engine_errors_total",
            "Calls of the container engine that failed",
            ["operation", "reason"],
            registry=registry,
        )
        leaked = Counter(
            "pgexec_leaked_containers_total",
            "Containers that nothing but the sweep would have removed",
            ["kind"],
            registry=registry,
        )
        self._received = Counter(
            "pgexec_stream_received_bytes_total",
            "Bytes that came from containers' streams",
            registry=registry,
        )
        self._sent = Counter(
            "pgexec_stream_sent_bytes_total",
            "Bytes that were sent to containers' streams",
            registry=registry,
        )
        self._counted_received = self._counted_sent = 0
        self._call_s = {operation: call_s.labels(operation) for operation in Operation}
        self._errors = {
            (operation, failure): errors.labels(operation, failure)
            for operation in Operation
            for failure in Failure
        }
        self._leaked = {leak: leaked.labels(leak) for leak in Leak}

    def called(self, operation: Operation, seconds: float, failure: Failure | None) -> None:
        """Count a call, and its failure."""
        self._call_s[operation].observe(seconds)
        if failure is not None:
            self._errors[operation, failure].inc()

    def leaked(self, leak: Leak) -> None:
        """Count a container that the sweep found."""
        self._leaked[leak].inc()

    def refresh(self) -> None:
        """Take over the streams' sums of bytes."""
        self._received.inc(self.received_bytes - self._counted_received)
        self._sent.inc(self.sent_bytes - self._counted_sent)
        self._counted_received, self._counted_sent = self.received_bytes, self.sent_bytes
