"""What the pool asks of a container engine, and what it hears; `docker_engine` is the real one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

CreateDocument = Mapping[str, object]


class Operation(StrEnum):
    """What is asked of the engine; a start of a container is `create`, `attach` and `start`."""

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
    """A container that the sweep found: another server's, or one of ours that nobody knew."""

    LEFT_OVER = "left_over"
    NEVER_CAME_UP = "never_came_up"


class EngineObserver:
    """Hears what is asked of the engine; does nothing itself. Must not raise, block or call back.

    The bytes that went through the streams to the containers are added up in attributes,
    since a call for each message would cost every run.
    """

    received_bytes = 0
    sent_bytes = 0

    def called(self, operation: Operation, seconds: float, failure: Failure | None) -> None:
        """Hear that a call has ended, and how; "there is none" is an answer, no failure."""

    def leaked(self, leak: Leak) -> None:
        """Hear that the sweep found a container which nobody else would have removed."""


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
    """What starting and removing containers takes.

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
