"""Clients with sessions: what is lost is said, and no cell of a session runs beside another."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.chaos.load import ANSWER_S, PAUSE_S, RUN_TIMEOUT_S, Fate, Line, Load, Request

if TYPE_CHECKING:
    from tests.integration.server import Answer

AT_ONCE = 2
CELL = """
import time
count = globals().get("count", 0)
time.sleep(0.02)
count += 1
(count, {token!r})
"""
"""Counts the cells of a session. A cell beside another one would count the same number."""


@dataclass
class Held:
    """A session as its client knows it: its path, and how far it has counted."""

    path: str
    count: int = 0
    unsure: int = 0
    """So many cells have no answer that says if they counted."""
    lost: bool = False
    """Whether an answer was 502: then the session has ended, and says so."""


@dataclass
class SessionLoad(Load):
    """Clients that each hold a session, and send it two cells at a time: one of them is too many.

    A session that has ended is replaced by a new one.
    """

    clients: int = 1
    ends: frozenset[str] = frozenset({"lost"})
    """The reasons for which a session may end."""
    ended: Counter[str] = field(default_factory=Counter)
    """How many answers have said that a session has ended, by reason."""
    held: dict[int, Held] = field(default_factory=dict)
    _lines: list[Line] = field(default_factory=list)

    async def _client(self, number: int) -> None:
        while not self._stopped:
            held = self.held.get(number)
            if held is None:
                path = await self._open()
                if path:
                    self.held[number] = Held(path)
                else:
                    await asyncio.sleep(PAUSE_S)
            elif not await self._count(held):
                del self.held[number]
        held = self.held.get(number)
        if held is not None:
            await self._delete(held)
        while self._lines:
            self._lines.pop().close()

    async def _open(self) -> str:
        """Return the path of a new session, or nothing if there is none."""
        request, answer = await self._send("POST", "/sessions", {})
        if answer is None:
            return ""
        if answer.status == 201:
            request.fate = Fate.RAN
            return answer.headers["Location"]
        request.fate = Fate.REFUSED if _is_clean(answer) else Fate.WRONG
        return ""

    async def _count(self, held: Held) -> bool:
        """Send two cells at once; return False if the session has ended."""
        asked = [self._cell(held) for _ in range(AT_ONCE)]
        answered = await asyncio.gather(*asked)
        ran = sorted(one for one in answered if isinstance(one, tuple))
        for count, request in ran:
            fine = range(held.count + 1, held.count + held.unsure + 2)
            if count not in fine:
                request.fate = Fate.WRONG
                request.detail += f"; not in {fine}"
            held.count, held.unsure = count, 0
        if None in answered:
            await asyncio.sleep(PAUSE_S)
        return False not in answered

    async def _cell(self, held: Held) -> tuple[int, Request] | bool | None:
        """Return the number and the request of a cell that ran.

        False if its session has ended, True if another cell runs, and None for any other answer.
        """
        token = secrets.token_hex(8)
        body = {"code": CELL.format(token=token), "timeout_s": RUN_TIMEOUT_S}
        request, answer = await self._send("POST", f"{held.path}/run", body)
        if answer is None:
            held.unsure += 1
            return None
        request.fate = Fate.REFUSED
        if self._says_ended(answer):
            return False
        if answer.status == 409 and answer.code == "session_busy":
            request.fate = Fate.BUSY
            return True
        if answer.status == 200 and answer.json["status"] != "ok":
            held.unsure += 1  # its container was starved, say
            return None
        if answer.status != 200 or held.lost:
            request.fate = Fate.REFUSED if _is_clean(answer) and not held.lost else Fate.WRONG
            held.lost |= answer.status == 502
            return None
        request.fate = Fate.RAN
        count, own = answer.json["value"].strip("()").split(", ")
        if own.strip("'") != token:
            request.fate = Fate.CROSSED
        if answer.json["restarted"]:
            held.count = held.unsure = 0
        return int(count), request

    async def _delete(self, held: Held) -> None:
        request, answer = await self._send("DELETE", held.path, None)
        if answer is not None:
            ended = answer.status == 204 or self._says_ended(answer)
            request.fate = Fate.RAN if ended else Fate.WRONG

    def _says_ended(self, answer: Answer) -> bool:
        if answer.status != 410 or answer.json["reason"] not in self.ends:
            return False
        self.ended[answer.json["reason"]] += 1
        return True

    async def _send(self, method: str, path: str, body: object) -> tuple[Request, Answer | None]:
        """Send a request on a kept connection, and note it; its fate is then to be said."""
        request = Request(secrets.token_hex(8), time.monotonic())
        while self._lines and self._lines[-1].ended:
            self._lines.pop().close()
        try:
            line = self._lines.pop() if self._lines else await Line.open(self.server.port)
        except OSError:  # nobody listens: nothing was asked
            await asyncio.sleep(PAUSE_S)
            return request, None
        self.in_flight[request.token] = request
        answer = None
        content = b"" if body is None else json.dumps(body).encode()
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await line.ask(method, path, request.token, content)
        except TimeoutError:
            request.detail = f"no answer in {ANSWER_S:g} s to {method} {path}"
        except (OSError, EOFError) as error:
            request.fate, request.detail = Fate.CUT, repr(error)
        else:
            request.detail = f"{method} {path} got {answer.status} {answer.body[:300]!r}"
            if answer.headers.get("X-Request-Id") != request.token:
                request.fate, answer = Fate.CROSSED, None
            self._lines.append(line)
        finally:
            if line not in self._lines:
                line.close()
            del self.in_flight[request.token]
            request.ended = time.monotonic()
            self.done.append(request)
        return request, answer


def _is_clean(answer: Answer) -> bool:
    """Return True for an error that says what it should: a 503 that nothing ran, and no 502."""
    return (answer.status, "Retry-After" in answer.headers) in ((502, False), (503, True))
