"""The document of `GET /status`, for whoever reads it; the page is the first to."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PoolStates(_Model):
    """Containers of one pool by state, and the requests that wait for one."""

    starting: Count
    idle: Count
    leased: Count
    resetting: Count
    destroying: Count
    waiting: Count


class Percentiles(_Model):
    """Of the last runs, by nearest rank."""

    p50: Seconds
    p99: Seconds


class Latency(_Model):
    """How long the caller's last runs took, in seconds; null when there were none."""

    window_s: Annotated[Seconds, Field(description="Older runs do not count.")]
    runs: Annotated[int, Field(ge=0, description="How many count.")]
    queue: Annotated[Percentiles | None, Field(description="Waiting for a container.")]
    run: Annotated[Percentiles | None, Field(description="The snippet alone.")]
    total: Annotated[Percentiles | None, Field(description="The whole request.")]


class RecentRun(_Model):
    """One run that got a container."""

    time: Annotated[float, Field(description="Its end, in seconds since 1970.")]
    request_id: str
    language: str
    status: Annotated[str, Field(description="The run's status, or the error's code.")]
    queue_s: Seconds | None
    run_s: Annotated[Seconds | None, Field(description="null when it did not end by itself.")]
    total_s: Seconds
    container: str


class ServerStatus(_Model):
    """How the pools are doing, and what became of the caller's own requests lately."""

    unready: Annotated[str | None, Field(description="Why a run would not be served now.")]
    languages: list[str]
    pools: dict[str, PoolStates]
    ran: Annotated[int, Field(ge=0, description="Runs since the start.")]
    refused: Annotated[
        dict[str, int], Field(description="Requests that got no container, by the error's code.")
    ]
    latency: Latency
    recent: Annotated[list[RecentRun], Field(description="The last runs, the newest first.")]
