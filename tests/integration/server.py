"""The real server as a process of its own, seen by its clients and by the engine."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession, ClientTimeout, UnixConnector
from prometheus_client.parser import text_string_to_metric_families

from pgexec.telemetry.labels import OTHER
from pool.engine.address import find_engine
from pool.engine.ownership import _machine, _start_time
from pool.engine.spec import LABEL_INSTANCE, LABEL_ROLE, ROLE_VOLUME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

WITHIN_S = 60.0
"""Outer bound of everything that is waited for: what takes this long does not come."""
GATE = "import os, time\nwhile not os.path.exists('/tmp/open'):\n    time.sleep(0.005)\n"
"""A snippet that begins so goes on when `Server.open_gates` says so."""

_numbers = itertools.count(1)


async def until(
    condition: Callable[[], Awaitable[Any]], what: str, *, within_s: float = WITHIN_S
) -> Any:
    """Ask again and again until the answer is true, and return it."""
    answer = None
    try:
        async with asyncio.timeout(within_s):
            while not (answer := await condition()):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {within_s:g} s: {what}") from None
    return answer


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    request_id: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["code"])

    @property
    def error(self) -> str:
        return str(self.json["error"])


class EngineClient:
    """The engine's API as the tests need it, past everything that pgexec has for it."""

    def __init__(self) -> None:
        self.socket = find_engine("").removeprefix("unix://")

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        connector = UnixConnector(self.socket)
        async with (
            ClientSession(connector=connector, timeout=ClientTimeout(WITHIN_S)) as session,
            session.request(method, f"http://engine{path}", json=body) as response,
        ):
            text = await response.text()
            return response.status, json.loads(text) if text.strip() else None

    async def containers(self, instance: str, *, role_left_out: str = "nobody") -> dict[str, str]:
        """Return the state of each container of one server, by its id."""
        wanted = json.dumps({"label": [f"{LABEL_INSTANCE}={instance}"]})
        _, listed = await self.call("GET", f"/containers/json?all=1&filters={wanted}")
        return {
            entry["Id"]: entry["State"]
            for entry in listed
            if entry["Labels"].get(LABEL_ROLE) != role_left_out
        }

    async def inspect(self, container_id: str) -> Any:
        return (await self.call("GET", f"/containers/{container_id}/json"))[1]

    async def create(self, image: str, command: list[str], labels: Mapping[str, str]) -> str:
        """Create a container and leave it at that."""
        document = {"Image": image, "Cmd": command, "Labels": labels, "OpenStdin": True}
        status, created = await self.call("POST", "/containers/create", document)
        assert status == 201, created
        return str(created["Id"])

    async def exit_code(self, image: str, command: list[str]) -> int:
        """Run a command in an ordinary container and return its exit status."""
        container = await self.create(image, command, {})
        try:
            await self.call("POST", f"/containers/{container}/start")
            _, ended = await self.call("POST", f"/containers/{container}/wait")
            return int(ended["StatusCode"])
        finally:
            await self.remove(container)

    async def gateway(self, image: str) -> str:
        """Return the address by which containers of the default network reach this machine.

        A running container is asked, because the network does not always know: at the very
        first start of Docker 20.10, `GET /networks/bridge` has a Subnet and no Gateway.
        """
        container = await self.create(image, ["python3", "-c", "input()"], {})
        try:
            status, answer = await self.call("POST", f"/containers/{container}/start")
            assert status == 204, answer
            networks = (await self.inspect(container))["NetworkSettings"]["Networks"]
        finally:
            await self.remove(container)
        (network,) = networks.values()
        return str(network["Gateway"])

    async def output(self, image: str, command: list[str], volume: str) -> str:
        """Run a command as root with a volume at /volume, and return what it printed."""
        document = {
            "Image": image,
            "Cmd": command,
            "Tty": True,
            "HostConfig": {"Binds": [f"{volume}:/volume"], "NetworkMode": "none"},
        }
        _, created = await self.call("POST", "/containers/create", document)
        container = str(created["Id"])
        try:
            await self.call("POST", f"/containers/{container}/start")
            await self.call("POST", f"/containers/{container}/wait")
            connector = UnixConnector(self.socket)
            async with (
                ClientSession(connector=connector, timeout=ClientTimeout(WITHIN_S)) as session,
                session.get(f"http://engine/containers/{container}/logs?stdout=1") as response,
            ):
                return (await response.text()).replace("\r\n", "\n")
        finally:
            await self.remove(container)

    async def remove(self, container_id: str) -> None:
        await self.call("DELETE", f"/containers/{container_id}?force=1")

    async def exec(self, container_id: str, *command: str) -> None:
        """Run a command in a container as root; it need not have ended."""
        status, made = await self.call(
            "POST", f"/containers/{container_id}/exec", {"Cmd": command, "User": "0:0"}
        )
        if status == 201:
            await self.call("POST", f"/exec/{made['Id']}/start", {"Detach": True})

    async def processes(self, container_id: str) -> str:
        """Return the command lines of what runs in a container, one a line."""
        _, top = await self.call("GET", f"/containers/{container_id}/top")
        return "\n".join(entry[-1] for entry in (top or {}).get("Processes") or ())


@dataclass
class Server:
    """One server process. `settings` are those of the environment, without their prefix.

    `environment` are further variables.
    """

    directory: Path
    settings: dict[str, str]
    engine: EngineClient = field(default_factory=EngineClient)
    port: int = 0
    instance: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start the process; `listening` waits until it can be talked to."""
        self.directory.mkdir(exist_ok=True)
        settings = {
            "HOST": "127.0.0.1",
            "PORT": "0",
            "LOG_FILE": str(self.directory / "logs.txt"),
            **self.settings,
        }
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **{name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ},
            **{f"PGEXEC_{name}": value for name, value in settings.items()},
            **self.environment,
        }
        with (self.directory / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pgexec", "serve"],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stderr=stderr,
            )
        pid = self.process.pid
        self.instance = "/".join((*_machine(), str(pid), _start_time(pid)))

    @property
    def stderr(self) -> str:
        return (self.directory / "stderr").read_text()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The events logged so far, as standard error shows them."""
        lines = self.stderr.split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    async def logged(self, event: str, **fields: object) -> Any:
        """Wait for an event with these fields, and return it."""

        async def find() -> dict[str, Any] | None:
            found = (
                entry
                for entry in self.log
                if entry["event"] == event
                and all(entry.get(name) == value for name, value in fields.items())
            )
            entry = next(found, None)
            assert entry or self.process.poll() is None, self.stderr
            return entry

        return await until(find, f"{event} {fields} in the log")

    async def logged_start(self, beginning: str) -> None:
        """Wait for an event whose text begins so."""

        async def find() -> bool:
            return any(entry["event"].startswith(beginning) for entry in self.log)

        await until(find, f"{beginning} in the log")

    async def listening(self) -> None:
        self.port = (await self.logged("listening"))["port"]

    async def responds(self) -> None:
        async def pings() -> bool:
            try:
                return (await self.get("/ping")).status == 200
            except OSError:
                return False

        await until(pings, "an answer to /ping")

    async def ready(self, *, within_s: float = WITHIN_S) -> None:
        async def is_ready() -> bool:
            return (await self.get("/readyz")).status == 200

        try:
            await until(is_ready, "ready", within_s=within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}, after\n{self.stderr}") from None

    # --- as a client --------------------------------------------------------------------------

    async def request(self, method: str, path: str, **options: Any) -> Answer:
        """Send one request on a connection of its own."""
        async with (
            ClientSession(timeout=ClientTimeout(WITHIN_S)) as session,
            session.request(method, f"http://127.0.0.1:{self.port}{path}", **options) as response,
        ):
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str) -> Answer:
        return await self.request("GET", path)

    async def run(self, code: str, *, key: str = "", **fields: object) -> Answer:
        """Ask for a run, under an id by which the log knows it."""
        request_id = f"test-{os.getpid()}-{next(_numbers)}"
        headers = {"X-Request-ID": request_id, "Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        body = json.dumps({"language": "python", "code": code, **fields}).encode()
        answer = await self.request("POST", "/run", data=BytesIO(body), headers=headers)
        return Answer(answer.status, answer.headers, answer.body, request_id)

    async def output(self, code: str, **fields: Any) -> str:
        """Run what must end well, and return what it printed."""
        answer = await self.run(code, **fields)
        assert answer.status == 200, answer.body
        assert answer.json["status"] == "ok", answer.json
        return str(answer.json["data"])

    async def works(self) -> None:
        """Show that a normal run is served."""
        assert await self.output("print(6 * 7)") == "42\n"

    async def container_of(self, answer: Answer) -> str:
        """Return the short id of the container that served a run."""
        entry = await self.logged("request", request_id=answer.request_id)
        return str(entry["container"])

    @contextlib.asynccontextmanager
    async def connection(
        self, data: bytes = b""
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connect, send bytes as they are, and hang up in the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            await writer.drain()
            yield reader, writer
        finally:
            writer.transport.abort()

    async def raw(self, data: bytes) -> Answer:
        """Send bytes as they are and return the first answer."""
        async with self.connection(data) as (reader, _):
            return await read_answer(reader)

    # --- what it says of itself, and what the engine says -------------------------------------

    async def metrics(self) -> dict[str, float]:
        """Return every sample: `name` or `name{label=value,…}` to its value.

        There is one pool, so that its name, the label `profile`, is left out, and with it what
        would count for profiles that do not exist.
        """
        text = (await self.get("/metrics")).body.decode()
        samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.labels.get("profile") == OTHER:
                    continue
                told = {name: value for name, value in sample.labels.items() if name != "profile"}
                labels = ",".join(f"{name}={value}" for name, value in told.items())
                samples[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
        return samples

    async def by_state(self) -> dict[str, int]:
        """Return how many containers are in each state."""
        prefix = "pgexec_containers{state="
        return {
            name.removeprefix(prefix)[:-1]: int(value)
            for name, value in (await self.metrics()).items()
            if name.startswith(prefix)
        }

    async def sees(self, name: str, value: float) -> None:
        """Wait until a sample of the metrics has a value."""

        async def has_it() -> bool:
            return (await self.metrics()).get(name, 0.0) == value

        await until(has_it, f"{name} is {value}")

    async def containers(self) -> dict[str, str]:
        """Return what the engine has of this server, but for the server of the volume."""
        return await self.engine.containers(self.instance, role_left_out=ROLE_VOLUME)

    async def at_rest(self) -> None:
        """Wait until nothing is on its way and the books are what the engine has.

        Then nobody holds or awaits a container, and there are as many as there should be.
        """
        wanted = int(self.settings["POOL_MIN_IDLE"])

        async def rests() -> bool:
            states = await self.by_state()
            idle = states.pop("idle")
            waiting = (await self.metrics())["pgexec_waiters"]
            there = await self.containers()
            return not any(states.values()) and not waiting and len(there) == idle >= wanted

        await until(rests, "at rest", within_s=240)

    async def no_container_left(self, *, within_s: float = WITHIN_S) -> None:
        left: dict[str, str] = {}

        async def none() -> bool:
            nonlocal left
            left = await self.engine.containers(self.instance)
            return not left

        try:
            await until(none, "no container is left", within_s=within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}, but {left}") from None

    async def open_gates(self) -> None:
        """Let every snippet that waits at a gate go on."""
        await asyncio.gather(
            *(self.engine.exec(one, "touch", "/tmp/open") for one in await self.containers())
        )

    # --- its end ------------------------------------------------------------------------------

    async def ended(self) -> int:
        """Wait for the process to end and return its exit status."""
        return await asyncio.to_thread(self.process.wait, WITHIN_S)

    async def stop(self) -> None:
        """End the process, kindly if it is still there, and show that nothing is left of it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                status = await self.ended()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
            assert status == 0, self.stderr
        assert "Traceback" not in self.stderr, self.stderr
        await self.no_container_left()


@contextlib.contextmanager
def running(
    directory: Path, settings: dict[str, str], *, within_s: float = WITHIN_S
) -> Iterator[Server]:
    """Run a server that several tests share, and show in the end that nothing is left of it."""
    server = Server(directory, settings)
    server.start()

    async def up() -> None:
        await server.listening()
        await server.ready(within_s=within_s)

    try:
        asyncio.run(up())
        yield server
    finally:
        asyncio.run(server.stop())


StartServer = Callable[..., Awaitable[Server]]
"""Start a server with these settings and wait until it is `ready`, or at least `listening`."""


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read one HTTP answer with a Content-Length."""
    async with asyncio.timeout(WITHIN_S):
        head = await reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.title(): value for name, _, value in (x.partition(": ") for x in lines)}
        body = await reader.readexactly(int(headers.get("Content-Length", 0)))
    return Answer(int(status.split()[1]), headers, body)


def run_request(code: str, **fields: object) -> bytes:
    """Return the bytes of a request to /run."""
    return _request("/run", {"language": "python", "code": code, **fields})


def cell_request(path: str, code: str) -> bytes:
    """Return the bytes of a request to run a cell."""
    return _request(path, {"code": code})


def _request(path: str, fields: object) -> bytes:
    body = json.dumps(fields).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
