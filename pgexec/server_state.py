"""The wire contract of `GET /status`: what the server has, and the caller's last runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pgexec.contract import Count, Seconds


class _StatusModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PoolStates(_StatusModel):
    """Containers of one pool by state, their limit, and the requests that wait for one."""

    capacity: Count
    starting: Count
    idle: Count
    leased: Count
    session: Count
    resetting: Count
    destroying: Count
    waiting: Count


class SessionFigures(_StatusModel):
    """The sessions of all pools: the living by state, and those that have ended since the start."""

    idle: Count
    busy: Annotated[int, Field(ge=0, description="With a cell that runs.")]
    ended: Annotated[dict[str, int], Field(description="How many, by reason.")]


class Percentiles(_StatusModel):
    """Of the last runs, by nearest rank."""

    p50: Seconds
    p99: Seconds


class Latency(_StatusModel):
    """How long the caller's last runs took, in seconds; null when there were none."""

    window_s: Annotated[Seconds, Field(description="Older runs do not count.")]
    runs: Annotated[int, Field(ge=0, description="How many count.")]
    queue: Annotated[Percentiles | None, Field(description="Waiting for a container.")]
    install: Annotated[
        Percentiles | None,
        Field(description="Waiting for dependencies, of the runs that had any to wait for."),
    ]
    run: Annotated[Percentiles | None, Field(description="The snippet alone.")]
    total: Annotated[Percentiles | None, Field(description="The whole request.")]


class RecentRun(_StatusModel):
    """One run that got a container."""

    time: Annotated[float, Field(description="Its end, in seconds since 1970.")]
    request_id: str
    language: str
    status: Annotated[str, Field(description="The run's status, or the error's code.")]
    queue_s: Seconds | None
    install_s: Annotated[
        Seconds | None, Field(description="null when there was nothing to wait for.")
    ]
    run_s: Annotated[Seconds | None, Field(description="null when it did not end by itself.")]
    total_s: Seconds
    container: str


class ServerStatus(_StatusModel):
    """The load of the server, its pools, and what became of the caller's own requests lately.

    What is of the caller alone is missing for one without a key, and on a server without the page.
    """

    server: Annotated[str, Field(description="PGEXEC_SERVER_NAME.")]
    unready: Annotated[str | None, Field(description="Why a run would not be served now.")]
    capacity: Annotated[int, Field(ge=0, description="How many runs there may be at once.")]
    in_use: Annotated[int, Field(ge=0, description="Containers with a run, or after it in reset.")]
    waiting: Annotated[int, Field(ge=0, description="Requests that wait for a container.")]
    sessions: SessionFigures | None
    languages: list[str]
    pools: dict[str, PoolStates]
    ran: Annotated[int | None, Field(ge=0, description="Runs since the start.")] = None
    refused: Annotated[
        dict[str, int] | None,
        Field(description="Requests that got no container, by the error's code."),
    ] = None
    latency: Latency | None = None
    recent: Annotated[
        list[RecentRun] | None, Field(description="The last runs, the newest first.")
    ] = None
