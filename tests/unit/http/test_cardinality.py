"""Whatever clients send, the number of series stays what it was."""

from __future__ import annotations

import random
import re
import string
from typing import TYPE_CHECKING, Any

from tests.unit.http.rig import make_result

if TYPE_CHECKING:
    from tests.unit.http.rig import Running, Serve

_SERIES = re.compile(r"^(pgexec_\w+(?:\{.*\})?) \S+$", re.MULTILINE)
KEYS = "alice:secret,bob:hidden"
REQUESTS = 25


def hostile(chance: random.Random) -> str:
    """Return a word that nobody has sent before, with what text formats stumble over."""
    return "".join(chance.choices(string.ascii_letters + string.digits, k=12)) + '"},\\ü'


async def attack(server: Running, chance: random.Random) -> None:
    """Send every part of a request that may become a label, each with values of its own."""
    quoted = {"Authorization": "Bearer secret"}
    for _ in range(REQUESTS):
        word = hostile(chance)
        name = word.encode().hex()
        body: dict[str, Any] = {"language": "python", "code": "x"}
        await server.post(body | {"language": word}, **quoted)
        await server.post(body | {word: word}, **quoted)
        await server.post(body, Authorization=f"Bearer {name}")
        await server.post(body, **quoted, **{"X-Request-ID": name, "User-Agent": name})
        await server.get(f"/{name}")
        await server.get(f"/run/{name}")
        await server.get(f"/run?{name}={name}", "POST")
        await server.get("/run", name.upper())
        await server.raw(f"GET /{name} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        await server.raw(f"{name} nonsense\r\n\r\n".encode())


async def series(server: Running) -> set[str]:
    text = (await server.get("/metrics", Authorization="Bearer secret")).body.decode()
    return set(_SERIES.findall(text))


async def test_hostile_clients_make_no_series(serve: Serve) -> None:
    server = await serve(api_keys=KEYS)
    server.service.result = make_result()
    chance = random.Random(46661)
    await series(server)
    await attack(server, chance)
    after_one = await series(server)
    await attack(server, chance)
    assert await series(server) == after_one
    paths = {one for one in after_one if one.startswith("pgexec_requests_total")}
    assert 4 <= len(paths) <= 20
    assert not [one for one in after_one if "alice" in one or "bob" in one]
