"""Start a container in which a request's dependencies are installed.

Each such container serves one run: it has a mount for the packages, a network to fetch them
by, and pip runs in it as a user of its own through an exec, which may be slow.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pool.container import Container
from pool.errors import EngineError, InstallError
from pool.spec import LAYER_DIR, create_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pool.engine import Engine
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
            await self._install(container, requirements)
        except BaseException:
            cleanup = asyncio.create_task(container.destroy())
            with contextlib.suppress(EngineError):
                await asyncio.shield(cleanup)
            raise
        return container

    async def _install(self, container: Container, requirements: Sequence[str]) -> None:
        wanted = ", ".join(requirements)
        make_room = ("mkdir", "-p", TEMPORARY)
        environment = {"HOME": TEMPORARY, "TMPDIR": TEMPORARY, **self.environment}
        try:
            async with asyncio.timeout(self.timeout_s):
                for command in (make_room, (*PIP, *requirements)):
                    done = await self.engine.execute(
                        container.id, command, user=INSTALLER, environment=environment
                    )
                    if done.exit_code != 0:
                        log = "\n".join(
                            done.output.decode("utf-8", "replace").splitlines()[-LOG_LINES:]
                        )
                        raise InstallError(f"could not install {wanted}", log=log)
        except TimeoutError as error:
            message = f"installing {wanted} took over {self.timeout_s:g} s"
            raise InstallError(message, log="") from error
