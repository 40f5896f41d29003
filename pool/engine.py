"""What the pool needs of a container engine; `docker_engine` is the real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

CreateDocument = Mapping[str, object]


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
    """A container engine. Every method maps its failures to `EngineError` and its children."""

    async def start(self, document: CreateDocument) -> tuple[str, Stream]:
        """Create, attach to, and start a container; return its id and its stream.

        A failure, or a cancellation, at any point ends only when no container is left.
        """
        ...

    async def remove(self, container_id: str) -> None:
        """Kill and remove a container; one that is already gone is a success."""
        ...

    async def owned(self, label: str) -> Sequence[Owned]:
        """List the containers that carry the label, running or not."""
        ...

    async def execute(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        user: str,
        environment: Mapping[str, str],
    ) -> ExecResult:
        """Run a command in a running container and wait for its end (no timeout of its own)."""
        ...

    async def limit_memory(self, container_id: str, limit_bytes: int) -> None:
        """Change the memory limit of a running container, swap included."""
        ...
