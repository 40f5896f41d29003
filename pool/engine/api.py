"""The container engine as the pool sees it: calls, streams, and the observer of both.

`DockerEngine` in `docker.py` is the real one.
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


class Failure(StrEnum):
    """How a call of the engine failed; `cancelled` is one whose caller lost patience."""

    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    CANCELLED = "cancelled"


class Leak(StrEnum):
    """Where a container that the sweep removed came from.

    `LEFT_OVER`: its server is gone. `NEVER_CAME_UP`: this server's, but the pool never got it.
    """

    LEFT_OVER = "left_over"
    NEVER_CAME_UP = "never_came_up"


class EngineObserver:
    """Hears of every call of the engine; this one does nothing.

    Its methods must not raise, block, or call the engine.

    The bytes that went through the streams to the containers are added up in attributes,
    since a call for each message would cost every run.
    """

    received_bytes = 0
    sent_bytes = 0

    def called(self, operation: Operation, seconds: float, failure: Failure | None) -> None:
        """Hear that a call has ended, and how; "there is none" is an answer, no failure."""

    def leaked(self, leak: Leak) -> None:
        """Hear that the sweep found a container that was leaked, and will remove it."""


class Stream(Protocol):
    """The attached standard streams of one container."""

    async def read(self) -> bytes:
        """Return the next bytes that the container wrote, `b""` once the stream has ended."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes to the container's stdin.

        Raises `ContainerLost` when the other end is gone.
        """
        ...

    async def close(self) -> None:
        """Close the stream, and with it the container's stdin. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Owned:
    """One container that carries our label, as the engine lists it; `up` from start to exit."""

    id: str
    labels: Mapping[str, str]
    up: bool


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command ended that was executed in a running container."""

    exit_code: int
    output: bytes


class Engine(Protocol):
    """Starts and removes containers.

    Every method raises `EngineError` or one of its children, and nothing else.
    """

    async def start(self, document: CreateDocument) -> tuple[str, Stream]:
        """Create, attach to, and start a container; return its id and its stream.

        A failure, or a cancellation, at any point ends only when no container is left.
        """
        ...

    async def remove(self, container_id: str) -> None:
        """Kill and remove a container; one that is already gone is a success."""
        ...
