"""Start a container in which a request's dependencies are installed.

Each such container serves one run: it has a mount for the packages, a network to fetch them
by, and pip runs in it as a user of its own through an exec, which may be slow.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pool.cleanup import see_through, until_removed
from pool.container import Container
from pool.errors import EngineError, InstallError
from pool.spec import LAYER_DIR, create_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pool.engine import Engine, ExecResult
    from pool.spec import ContainerSpec

LAYER_BYTES = 512 << 20
INSTALLER = "9999:9999"
TEMPORARY = f"{LAYER_DIR}/.installing"
LOG_LINES = 20

PIP = (
    *("python3", "-I", "-m", "pip", "install", "--target", LAYER_DIR),
    *("--no-input", "--no-cache-dir", "--no-compile", "--disable-pip-version-check"),
    *("--no-warn-script-location", "--progress-bar", "off", "--"),
)


# The packages are the snippet's to read. They lie in memory, which is not the snippet's to pay.
SEAL = f"""
import os
os.chmod({LAYER_DIR!r}, 0o755)
about = os.statvfs({LAYER_DIR!r})
print((about.f_blocks - about.f_bfree) * about.f_frsize)
"""


@dataclass(frozen=True, slots=True)
class Installer:
    """Starts containers with packages; `environment` is pip's, `timeout_s` bounds its run."""

    engine: Engine
    environment: Mapping[str, str]
    timeout_s: float
    start_timeout_s: float = 30.0

    async def start(
        self,
        spec: ContainerSpec,
        requirements: Sequence[str],
        *,
        labels: Mapping[str, str],
        sequence: int,
    ) -> Container:
        """Start a container and install the requirements in it.

        Raises `InstallError` with pip's last lines when they cannot be installed, and what
        `Container.start` raises. A failure or cancellation leaves no container behind.
        """
        if spec.network == "none":
            raise InstallError("dependencies need a network, and PGEXEC_NETWORK is none", log="")
        roomy = replace(spec, layer_bytes=LAYER_BYTES)
        document = create_document(roomy, labels=labels, sequence=sequence)
        container = await Container.start(self.engine, document, timeout_s=self.start_timeout_s)
        try:
            await self._install(container, spec, requirements)
        except BaseException:
            await see_through(until_removed(container.id, container.destroy))
            raise
        return container

    async def _install(
        self, container: Container, spec: ContainerSpec, requirements: Sequence[str]
    ) -> None:
        wanted = ", ".join(requirements)
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._execute(container, ("mkdir", "-p", TEMPORARY), INSTALLER)
                done = await self._execute(container, (*PIP, *requirements), INSTALLER)
                if done.exit_code != 0:
                    lines = done.output.decode("utf-8", "replace").splitlines()[-LOG_LINES:]
                    raise InstallError(f"could not install {wanted}", log="\n".join(lines))
                layer = await self._execute(container, ("python3", "-I", "-c", SEAL), "0:0")
        except TimeoutError as error:
            message = f"installing {wanted} took over {self.timeout_s:g} s"
            raise InstallError(message, log="") from error
        if layer.exit_code != 0:
            raise EngineError(f"could not seal the dependencies of {container.id[:12]}")
        limit_bytes = spec.limits.memory_bytes + int(layer.output)
        await self.engine.limit_memory(container.id, limit_bytes)

    async def _execute(self, container: Container, command: Sequence[str], user: str) -> ExecResult:
        environment = {"HOME": TEMPORARY, "TMPDIR": TEMPORARY, **self.environment}
        return await self.engine.execute(container.id, command, user=user, environment=environment)
