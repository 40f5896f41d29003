"""A server under load, what is done to it, and the promises that it must keep all the while."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from tests.chaos.load import Fate, Load, Usage, Watch
from tests.chaos.sessions import SessionLoad
from tests.integration.server import Server, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.chaos.report import Report, Row
    from tests.private_engine import PrivateEngine

SETTINGS = {
    "NETWORK": "none",
    "POOL_MIN_IDLE": "2",
    "POOL_MAX_CONTAINERS": "4",
    "LEASE_TIMEOUT_S": "3",
    "START_TIMEOUT_S": "2.5",
    "DRAIN_TIMEOUT_S": "30",
    "RUN_TIMEOUT_S": "10",
    "CANARY_INTERVAL_S": "0",
}
ABANDONED_S = 8.0
"""What the engine made while nobody heard of it goes after twice START_TIMEOUT_S and a look."""
GONE_S = 5.0
"""How long a container may outlive its owner."""
CAPACITY_S = 60.0
SESSIONS = ", sessions"
"""What the row of a fault's sessions is called behind the name of the fault."""
MORE_DESCRIPTORS = 24
MORE_MIB = 16.0


class Bed:
    """One server on an engine that is ours to break."""

    def __init__(
        self,
        engine: PrivateEngine,
        report: Report,
        directory: Path,
        image: str,
        **settings: object,
    ) -> None:
        self.engine = engine
        self.report = report
        self.long = False
        self.settings = {
            **SETTINGS,
            "IMAGE": image,
            "DOCKER_HOST": f"unix://{engine.socket}",
            **{name: str(value) for name, value in settings.items()},
        }
        self.server = self.make_server(directory / "first")
        self.load: Load | None = None
        self.sessions = SessionLoad(self.server)
        self.watch = Watch(self.server)
        self.row: Row | None = None
        self.session_row: Row | None = None
        self._first: Usage | None = None

    def make_server(self, directory: Path, **settings: object) -> Server:
        """Return a server on this engine that is not started yet."""
        changed = {name: str(value) for name, value in settings.items()}
        return Server(directory, {**self.settings, **changed}, engine=self.engine.client)

    async def open(self) -> None:
        self.server.start()
        await self.server.listening()
        await self.server.ready()

    async def close(self) -> None:
        await self.server.stop()

    # --- one fault ----------------------------------------------------------------------------

    async def suffers(
        self, name: str, fault: Callable[[Bed], Awaitable[None]], *, clients: int = 0
    ) -> None:
        """Cause a fault, which ends by itself, and hold the server to its promises.

        One client has a session all the while.
        """
        self.row, self.session_row = self.report.row(name), self.report.row(name + SESSIONS)
        await self._capacity()
        warmed = Usage.of(self.server.process.pid)
        self._first = self._first or warmed
        async with Watch(self.server) as self.watch:
            self.sessions = SessionLoad(self.server)
            async with self._load(clients) as self.load, self.sessions:
                await self.sessions.ran(more=5)
                await fault(self)
                seconds = await self._capacity()
                if self.load is not None:
                    await self.load.ran(more=5)
                await self.sessions.ran(more=5)
            await self.watch.says(ready=True)
        problems = self.watch.problems(self.load) + self.sessions.problems
        count(self.sessions, self.session_row)
        if self.load is not None:
            problems += self.load.problems
            count(self.load, self.row)
        self.row.capacity_s = max(self.row.capacity_s, seconds)
        leaked = await self._leaked()
        self.row.leaked += len(leaked)
        problems += [f"leaked: {one}" for one in leaked]
        problems += await self._growth()
        problems += ["a traceback in the log"] * ("Traceback" in self.server.stderr)
        assert not problems, "\n".join([*problems, *self._said()])

    def injected(self, times: int = 1) -> None:
        """Count a fault at the moment that it is caused."""
        assert self.row is not None
        assert self.session_row is not None
        self.row.times += times
        self.session_row.times += times
        self.session_row.in_flight += len(self.sessions.in_flight)
        if self.load is not None:
            self.row.in_flight += len(self.load.in_flight)

    def injected_before(self, times: int) -> None:
        """Count faults of which the requests in flight are counted already."""
        for row in (self.row, self.session_row):
            assert row is not None
            row.times += times

    @property
    def hold_s(self) -> float:
        """How long a fault lasts."""
        return 30.0 if self.long else 1.5

    def _said(self) -> list[str]:
        """Return what the server and the engine have logged of late, but for the requests."""
        lines = self.server.stderr.splitlines()
        server = [one for one in lines if '"event": "request"' not in one]
        engine = [one for one in self.engine.log.splitlines() if "level=info" not in one]
        return ["--- the server:", *server[-25:], "--- the engine:", *engine[-15:]]

    @contextlib.asynccontextmanager
    async def _load(self, clients: int) -> AsyncIterator[Load | None]:
        if not clients:
            yield None
            return
        async with Load(self.server, clients) as load:
            await load.ran(more=5)
            yield load

    # --- promises -----------------------------------------------------------------------------

    async def _capacity(self) -> float:
        """Wait until as many containers as configured can be used; return how long it took."""
        began = time.monotonic()
        wanted = int(self.settings["POOL_MIN_IDLE"])

        async def full() -> bool:
            states = await self.server.by_state()
            usable = states["idle"] + states["leased"] + states["resetting"]
            return usable >= wanted and (await self.server.get("/readyz")).status == 200

        try:
            await until(full, "full capacity", within_s=CAPACITY_S)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self._said()])) from None
        return time.monotonic() - began

    async def _leaked(self) -> list[str]:
        """Return what the engine has of this server and the pool does not know of."""
        there: dict[str, str] = {}
        known = -1

        async def agree() -> bool:
            nonlocal there, known
            there, known = await self.server.containers(), (await self.server.by_state())["idle"]
            return len(there) == known

        try:
            await until(agree, "no leak", within_s=GONE_S + ABANDONED_S)
        except AssertionError:
            extra = len(there) - known
            return [f"{len(there)} containers, {known} idle: {there}"] * max(1, extra)
        return []

    async def _growth(self) -> list[str]:
        assert self._first is not None
        now = Usage.of(self.server.process.pid)
        found = []
        if now.descriptors > self._first.descriptors + MORE_DESCRIPTORS:
            found.append(f"descriptors: {self._first.descriptors}, now {now.descriptors}")
        if now.rss_mib > self._first.rss_mib + MORE_MIB:
            found.append(f"memory: {self._first.rss_mib:.0f} MiB, now {now.rss_mib:.0f} MiB")
        return found


def count(load: Load, row: Row | None) -> None:
    """Add to a row what came of the requests of a load that has ended."""
    assert row is not None
    fates = load.fates
    row.once += fates[Fate.RAN] + fates[Fate.REFUSED] + fates[Fate.BUSY]
    row.refused += fates[Fate.REFUSED]
    row.cut += fates[Fate.CUT] if load.may_cut else 0
    row.twice += fates[Fate.TWICE] + fates[Fate.CROSSED]
    row.lost += fates[Fate.LOST] + fates[Fate.WRONG] + (0 if load.may_cut else fates[Fate.CUT])
