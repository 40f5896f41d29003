"""A Docker engine of our own that never ran before, on a small disk, to be used or broken.

Engine, containerd, shims and containers live in PID, mount, network and UTS namespaces that one
process holds, and no other engine feels any of it. Its death is the death of them all, and takes
their mounts along.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector

from pool.engine.ownership import _start_time
from tests.integration.server import EngineClient, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DISK_BYTES = 1 << 30
CGROUP = "pgexec-tests"
STOP_S = 60.0
OK = 200
STUCK_S = 30.0
"""Longer than Docker takes to give up on a container that outlives its kill, twice 10 s."""
SOCKET_PATH_BYTES = 107
_HOLD = """
import signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whom their parents left is reaped
print("up", flush=True)
sys.stdin.read()
"""
_UNSHARE = (
    *("unshare", "--mount", "--net", "--pid", "--uts"),
    *("--fork", "--kill-child", "--mount-proc"),
)


def unusable() -> str | None:
    """Say why no engine of our own can be had here, if so."""
    if os.geteuid() != 0:
        return "only root can start an engine of its own"
    needed = ("dockerd", "containerd", "unshare", "nsenter", "mkfs.ext4", "mount", "ip")
    missing = [name for name in needed if not shutil.which(name)]
    return f"not installed: {', '.join(missing)}" if missing else None


class OwnEngineClient(EngineClient):
    """Knows what is a container and what only its ghost."""

    async def containers(self, instance: str, *, role_left_out: str = "nobody") -> dict[str, str]:
        """Return those that exist: a killed engine may list for ever what it had just removed."""
        listed = await super().containers(instance, role_left_out=role_left_out)
        return {
            one: state
            for one, state in listed.items()
            if state != "dead" or (await self.call("GET", f"/containers/{one}/json"))[0] != 404
        }


class PrivateEngine:
    """One engine, from `create` to `close`; what is not running can be started again."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "docker.sock"
        self.client = OwnEngineClient()
        self.client.socket = str(self.socket)
        self._directory = directory
        self._root = directory / "root"
        self._config = directory / "daemon.json"
        longest = directory / "exec/containerd/containerd.sock.ttrpc"
        assert len(bytes(longest)) <= SOCKET_PATH_BYTES, f"too long for a socket: {longest}"
        self._holder: subprocess.Popen[bytes] | None = None
        self._dockerd: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Of the process that holds the namespaces."""

    @property
    def log(self) -> str:
        """What dockerd and containerd have said so far."""
        return (self._directory / "dockerd.log").read_text()

    # --- the beginning and the end ------------------------------------------------------------

    def create(self) -> None:
        """Make the namespaces and, inside, mount the disk."""
        self._root.mkdir(parents=True)
        self._config.write_text("{}")
        disk = self._directory / "disk"
        with disk.open("wb") as file:
            file.truncate(DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", disk], check=True)
        self._holder = subprocess.Popen(
            [*_UNSHARE, sys.executable, "-S", "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what unshare says of its child's end
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"up\n"
        self.pid = _child(self._holder.pid)
        subprocess.run(self.inside("mount", "-o", "loop", disk, self._root), check=True)
        subprocess.run(self.inside("ip", "link", "set", "lo", "up"), check=True)

    def start(self) -> None:
        """Start dockerd; `answers` tells when it does."""
        # Killed ones leave these, and others may have their numbers by now.
        for name in ("docker.pid", "exec/containerd/containerd.pid"):
            if not self.pids("containerd" if "containerd" in name else "dockerd"):
                (self._directory / name).unlink(missing_ok=True)
        command = (
            "dockerd",
            *("--data-root", self._root / "docker"),
            *("--exec-root", self._directory / "exec"),
            *("--pidfile", self._directory / "docker.pid"),
            *("--host", f"unix://{self.socket}"),
            *("--cgroup-parent", f"/{CGROUP}"),
            *("--storage-driver", "overlay2"),
            *("--config-file", self._config),
        )
        with (self._directory / "dockerd.log").open("ab") as log:
            self._dockerd = subprocess.Popen(
                self.inside(*command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def answers(self) -> None:
        """Wait until the engine answers."""
        try:
            await until(self.is_up, "the engine answers")
        except AssertionError as error:
            raise AssertionError(f"{error}, which said\n{self.log[-4000:]}") from None

    async def is_up(self) -> bool:
        """Tell whether the engine answers within a second."""
        try:
            async with asyncio.timeout(1):
                return (await self.client.call("GET", "/version"))[0] == 200
        except (OSError, ClientError, TimeoutError, ValueError):
            return False

    async def stuck(self) -> bool:
        """Tell whether the engine is wrong for half a minute about a container that has ended."""
        try:
            async with asyncio.timeout(STUCK_S):
                while not await self._is_right():
                    await asyncio.sleep(0.5)
        except TimeoutError:
            return True
        return False

    async def _is_right(self) -> bool:
        _, listed = await self.client.call("GET", "/containers/json")
        tops = [await self.client.call("GET", f"/containers/{one['Id']}/top") for one in listed]
        _, then = await self.client.call("GET", "/containers/json")
        ended = {one["Id"] for one, (status, _) in zip(listed, tops, strict=True) if status != OK}
        return not ended & {one["Id"] for one in then}

    def close(self) -> None:
        """End all that is in the namespaces, and with them the mounts."""
        self.thaw()
        if self._holder is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._holder.communicate()
        if self._dockerd is not None:
            self._dockerd.wait(STOP_S)
        # Killed shims leave their containers' behind; what comes last is the deepest.
        for cgroup in sorted(_cgroups(), reverse=True):
            with contextlib.suppress(OSError):  # of another run that goes on
                cgroup.rmdir()
        shutil.rmtree(self._directory, ignore_errors=True)

    def inside(self, *command: str | Path) -> list[str]:
        """Return the command line that runs a command in the engine's namespaces."""
        enter = ("nsenter", "-t", str(self.pid), "--mount", "--net", "--pid", "--uts")
        return [*enter, "--", *map(str, command)]

    # --- images -------------------------------------------------------------------------------

    async def copy_image(self, source: str, name: str) -> None:
        """Take an image over from another engine, whose socket is `source`."""
        limits = ClientTimeout(STOP_S)
        async with (
            ClientSession(connector=UnixConnector(source), timeout=limits) as there,
            ClientSession(connector=UnixConnector(str(self.socket)), timeout=limits) as here,
            there.get(f"http://engine/images/{name}/get") as archive,
        ):
            assert archive.status == 200, await archive.text()

            async def parts() -> AsyncIterator[bytes]:
                async for part in archive.content.iter_any():
                    yield part

            async with here.post("http://engine/images/load", data=parts()) as loaded:
                assert loaded.status == 200, await loaded.text()
                await loaded.read()

    # --- what can be done to it ---------------------------------------------------------------

    def pids(self, name: str) -> list[int]:
        """Return the processes with a name (its first 15 letters) in our namespace.

        One that such a process has forked has its name, too, until it runs what it is to run.
        """
        ours = _namespace(self.pid)
        named = {
            pid: _read(pid, "status")
            for pid in _processes()
            if _namespace(pid) == ours and _read(pid, "comm") == f"{name[:15]}\n"
        }
        return [
            pid
            for pid, status in named.items()
            if not any(f"\nPPid:\t{parent}\n" in status for parent in named)
        ]

    def send(self, name: str, number: signal.Signals) -> int:
        """Send a signal to all processes of a name; return how many there were."""
        pids = self.pids(name)
        for pid in pids:
            self.send_to(pid, number)
        return len(pids)

    @staticmethod
    def send_to(pid: int, number: signal.Signals) -> None:
        """Send a signal to one process, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def freeze(self) -> None:
        """Stop dockerd in its tracks."""
        assert self.send("dockerd", signal.SIGSTOP) == 1

    def thaw(self) -> None:
        """Let dockerd go on, and nsenter, which stops and dies as its child does."""
        self.send("dockerd", signal.SIGCONT)
        if self._dockerd is not None and self._dockerd.poll() is None:
            self._dockerd.send_signal(signal.SIGCONT)

    def reload(self, *, live_restore: bool) -> None:
        """Have dockerd keep its containers, or not, when it ends next time."""
        self._config.write_text(json.dumps({"live-restore": live_restore}))
        self.send("dockerd", signal.SIGHUP)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End dockerd with a signal and wait for its end."""
        assert self.send("dockerd", number) == 1, self.log[-2000:]
        assert self._dockerd is not None
        await asyncio.to_thread(self._dockerd.wait, STOP_S)

    @staticmethod
    def expose(container_id: str) -> None:
        """Have the kernel kill a container's first process, its runner, when memory is short."""
        found = [pid for pid in _processes() if container_id in _read(pid, "cgroup")]
        runner = min(found, key=lambda pid: int(_start_time(pid)))
        Path(f"/proc/{runner}/oom_score_adj").write_text("1000")

    def fill_disk(self) -> None:
        """Leave no free block on the engine's disk."""
        ballast = self._seen_inside(self._root / "ballast")
        with ballast.open("ab", buffering=0) as file:
            for size in (1 << 26, 1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)

    def free_disk(self) -> None:
        """Undo `fill_disk`."""
        self._seen_inside(self._root / "ballast").unlink(missing_ok=True)

    def _seen_inside(self, path: Path) -> Path:
        return Path(f"/proc/{self.pid}/root") / path.relative_to("/")


def _cgroups() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    places = (root, *(entry for entry in root.iterdir() if entry.is_dir()))  # version 2, 1
    return [one for place in places for one in place.glob(f"{CGROUP}/**/") if one.is_dir()]


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _child(parent: int) -> int:
    return next(pid for pid in _processes() if f"\nPPid:\t{parent}\n" in _read(pid, "status"))


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115 - not a path
    except OSError:
        return ""
