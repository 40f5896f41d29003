"""What pgexec is held against: the same snippet by the engine's own means.

All of it through plain aiodocker or the docker CLI, nothing through `pool`, so that no
weakness of ours slows the rivals down.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import uuid
from time import perf_counter
from typing import TYPE_CHECKING

from aiodocker.exceptions import DockerError

from bench.errors import FlowError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiodocker import Docker
    from aiodocker.containers import DockerContainer
    from aiodocker.types import JSONObject

LABEL = "pgexec.bench"
"""Not the pool's own label: no server's sweep and no count of leaks shall see these."""
SNIPPET = "print(1)"
EXPECTED = b"1"
# Ends by itself, should the bench be killed before it can clean up.
SLEEP = ("sleep", "900")


_SENT_BYTES = 256 << 10
_POURING = """
import os, sys
os.write(1, b"r")
size = left = int(sys.argv[1])
area = memoryview(bytearray(1 << 18))
while left:
    left -= os.readv(0, [area])
while size:
    size -= os.write(1, area[:size])
sys.stdin.read()
"""


class EngineFlows:
    """Flows without pgexec; `docker` is an aiodocker client, `url` its engine's address.

    `runtime` starts their containers, as it does the pool's; if empty, the engine's own default.
    """

    def __init__(self, docker: Docker, url: str, runtime: str = "") -> None:
        self.docker = docker
        self._runtime = runtime
        self.cli = shutil.which("docker")
        self._environment = {**os.environ, "DOCKER_HOST": url}

    @contextlib.asynccontextmanager
    async def warm(self, image: str) -> AsyncIterator[DockerContainer]:
        """Keep a plain container of an image running: no limits, no network guard."""
        config: JSONObject = {
            "Image": image,
            "Entrypoint": [],
            "Cmd": SLEEP,
            "Labels": {LABEL: ""},
            "HostConfig": {"AutoRemove": True, "NetworkMode": "none", "Runtime": self._runtime},
        }
        container = await self.docker.containers.create(config=config)
        try:
            await container.start()
            yield container
        finally:
            await _remove(container)

    async def execute(self, container: DockerContainer, *command: str, fails: bool = False) -> None:
        """Run a snippet (or another command) by `docker exec`, up to its exit code.

        Raises FlowError unless that is 0, or another one where the command `fails`.
        """
        execution = await container.exec(command or ("python3", "-c", SNIPPET))
        output = b""
        async with execution.start(detach=False) as stream:
            while message := await stream.read_out():
                output += message.data
        about = await execution.inspect()
        if (about["ExitCode"] != 0) is not fails or (not command and output.strip() != EXPECTED):
            raise FlowError(f"exec: {output!r}, exit code {about['ExitCode']}")

    async def copy(self, source: str, target: str) -> None:
        """Copy a file between this machine and a container, by `docker cp`."""
        await self._docker("cp", source, target)

    async def stream_both_ways(self, image: str, size: int) -> float:
        """Send `size` bytes into a container and as many out of it, by its attached streams alone.

        Returns the seconds, without those of its start.
        """
        config: JSONObject = {
            "Image": image,
            "Entrypoint": [],
            "Cmd": ("python3", "-c", _POURING, str(size)),
            "Labels": {LABEL: ""},
            "OpenStdin": True,
            "StdinOnce": True,
            "HostConfig": {
                "NetworkMode": "none",
                "LogConfig": {"Type": "none"},
                "Runtime": self._runtime,
            },
        }
        container = await self.docker.containers.create(config=config)
        try:
            async with container.attach(stdin=True, stdout=True) as stream:
                await container.start()
                await stream.read_out()
                began, data = perf_counter(), memoryview(bytes(size))
                for start in range(0, size, _SENT_BYTES):
                    await stream.write_in(bytes(data[start : start + _SENT_BYTES]))
                while size > 0 and (message := await stream.read_out()):
                    size -= len(message.data)
                return perf_counter() - began
        finally:
            await _remove(container)

    async def classic(self, image: str, clock: list[float]) -> None:
        """Run a snippet in a container of its own, as the seed does for each request.

        Appends two times to `clock`: when the output is there, and when the container has
        been removed.
        """
        flow = self._classic_by_cli if self.cli else self._classic_by_api
        await flow(image, clock)

    async def fresh(self, document: JSONObject) -> None:
        """Create, start, and remove a container; nothing runs in it."""
        container = await self.docker.containers.create(config=document)
        try:
            await container.start()
        finally:
            await _remove(container)

    async def _classic_by_cli(self, image: str, clock: list[float]) -> None:
        name = f"pgexec-bench-{uuid.uuid4().hex[:12]}"
        write = f"echo '{SNIPPET}' > /home/code/Main.py"
        run = ("run", "-itd", "--label", LABEL, "--name", name)
        runtime = (f"--runtime={self._runtime}",) if self._runtime else ()
        try:
            await self._docker(*run, *runtime, image)
            await self._docker("exec", name, "mkdir", "-p", "/home/code")
            await self._docker("exec", name, "sh", "-c", write)
            output = await self._docker("exec", name, "python3", "/home/code/Main.py")
            clock.append(perf_counter())
        finally:
            await self._docker("rm", "-f", name)
        clock.append(perf_counter())
        if output.strip() != EXPECTED:
            raise FlowError(f"classic flow: {output!r}")

    async def _classic_by_api(self, image: str, clock: list[float]) -> None:
        config: JSONObject = {
            "Image": image,
            "Tty": True,
            "OpenStdin": True,
            "Labels": {LABEL: ""},
            "HostConfig": {"AutoRemove": False, "Runtime": self._runtime},
        }
        container = await self.docker.containers.create(config=config)
        try:
            await container.start()
            await self.execute(container, "mkdir", "-p", "/home/code")
            await self.execute(container, "sh", "-c", f"echo '{SNIPPET}' > /home/code/Main.py")
            await self.execute(container, "python3", "/home/code/Main.py")
            clock.append(perf_counter())
        finally:
            await _remove(container)
        clock.append(perf_counter())

    async def _docker(self, *arguments: str) -> bytes:
        assert self.cli is not None
        process = await asyncio.create_subprocess_exec(
            self.cli,
            *arguments,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        if process.returncode:
            raise FlowError(f"docker {arguments[0]}: {errors.decode(errors='replace').strip()}")
        return output


def bare(document: JSONObject) -> JSONObject:
    """Return the create document of a container like the pool's that only sleeps."""
    return {**document, "Cmd": SLEEP, "Entrypoint": [], "Labels": {LABEL: ""}}


async def _remove(container: DockerContainer) -> None:
    try:
        await container.delete(force=True, v=True)
    except DockerError as error:
        if error.status not in (404, 409):  # gone, or going
            raise
