"""What the routes need of whatever runs snippets, and the pool in that role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pool.job import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgexec.schemas import RunRequest
    from pool.job import Result
    from pool.lease import Launcher
    from pool.manager import PoolManager


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run's result and how it came about; `waited_s` is the time in the pool's queue."""

    result: Result
    timeout_s: float
    container_id: str
    source: str
    waited_s: float


class Service(Protocol):
    """Runs snippets. Raises `PoolError`; what a snippet does is never an error."""

    async def run(self, request: RunRequest, tenant: str) -> Outcome:
        """Run a request's snippet on behalf of a tenant. Cancelling ends the run."""
        ...

    def unready(self) -> str | None:
        """Return why a run would not be served now, `None` when it would."""
        ...


class PoolService:
    """Runs snippets in the containers of a pool.

    `with_dependencies` turns requirements into a launcher of containers that have them; it
    raises `InstallError` from the launch.
    """

    def __init__(
        self,
        pool: PoolManager,
        with_dependencies: Callable[[Sequence[str]], Launcher],
        *,
        run_timeout_s: float,
        output_limit_bytes: int,
    ) -> None:
        self._pool = pool
        self._with_dependencies = with_dependencies
        self._run_timeout_s = run_timeout_s
        self._output_limit_bytes = output_limit_bytes

    async def run(self, request: RunRequest, tenant: str) -> Outcome:
        """Lease a container, run the snippet in it, and leave it to the pool."""
        requirements = request.dependencies
        timeout_s = self._run_timeout_s if request.timeout_s is None else request.timeout_s
        job = Job(
            code=request.code.encode(),
            stdin=request.stdin.encode(),
            timeout_s=timeout_s,
            output_limit_bytes=self._output_limit_bytes,
            layered=bool(requirements),
        )
        dedicated = self._with_dependencies(requirements) if requirements else None
        async with self._pool.lease(
            tenant=tenant, fresh=request.fresh, dedicated=dedicated
        ) as lease:
            result = await lease.run(job)
            return Outcome(result, timeout_s, lease.container.id, lease.source, lease.waited_s)

    def unready(self) -> str | None:
        """Return the pool's own reason."""
        return self._pool.snapshot().unready
