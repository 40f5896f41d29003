"""The interface of the container engine: calls, streams, and the observer of both.

`DockerEngine` in `docker.py` implements it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

CreateDocument = Mapping[str, object]


class Operation(StrEnum):
    """A call of the engine. Starting a container takes `create`, `attach` and `start`."""

    VERSION = "version"
    INFO = "info"
    CREATE = "create"
    ATTACH = "attach"
    START = "start"
    REMOVE = "remove"
    LIST = "list"
    INSPECT = "inspect"
    PULL = "pull"
    COMMIT = "commit"
    LIST_IMAGES = "list_images"
    NETWORK = "network"
    VOLUME = "volume"
    EXEC = "exec"
    EVENTS = "events"


class Failure(StrEnum):
    """How a call of the engine failed. `cancelled`: the caller did not wait for the answer."""

    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    CANCELLED = "cancelled"


class Leak(StrEnum):
    """The origin of a container that the sweep removed.

    `LEFT_OVER`: its server has gone. `NEVER_CAME_UP`: this server asked for it, but the pool never
    got it.
    """

    LEFT_OVER = "left_over"
    NEVER_CAME_UP = "never_came_up"


class EngineObserver:
    """Hears of every call of the engine. This class does nothing; others derive from it.

    Its methods must not raise, block, or call the engine. The streams add their bytes to the
    attributes: a call for each message would slow down every run.
    """

    received_bytes = 0
    sent_bytes = 0

    def called(self, operation: Operation, seconds: float, failure: Failure | None) -> None:
        """Hear that a call has ended, and how. The answer "not found" is no failure."""

    def leaked(self, leak: Leak) -> None:
        """Hear that the sweep has found a leaked container, and will remove it."""


class Stream(Protocol):
    """The attached standard streams of one container."""

    async def read(self) -> bytes:
        """Return the next bytes that the container wrote, `b""` once the stream has ended."""
        ...

    async def write(self, data: bytes | memoryview) -> None:
        """Send bytes to the container's stdin.

        Raises `ContainerLost` when the other end is gone.
        """
        ...

    async def close(self) -> None:
        """Close the stream, and with it the container's stdin. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Owned:
    """A container with our label, as the engine lists it; `up` from its start to its exit."""

    id: str
    labels: Mapping[str, str]
    up: bool


@dataclass(frozen=True, slots=True)
class ExecResult:
    """The end of a command in a running container; `output` is stdout and stderr together."""

    exit_code: int
    output: bytes


class Engine(Protocol):
    """Starts and removes containers.

    Every method raises `EngineError` or one of its children, and nothing else.
    """

    async def start(self, document: CreateDocument) -> tuple[str, Stream]:
        """Create, attach to, and start a container; return its id and its stream.

        After a failure or a cancellation, it raises only when no container is left.
        """
        ...

    async def remove(self, container_id: str) -> None:
        """Kill and remove a container; one that is already gone is a success."""
        ...

    async def ran_out_of_memory(self, container_id: str, since: float) -> bool:
        """Return True if a container has run out of memory since `since`, by `time.time()`.

        The container may have gone already.
        """
        ...
