"""An idle container imports, for its tenant, what the last run of its dependencies imported."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.integration.package_index import PackageIndex, wheel
from tests.integration.server import EngineClient, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.integration.server import Server, StartServer

SLOW = "import time\ntime.sleep(0.05)\nCOUNT = []\n"
IMPORT = "import slow\nslow.COUNT.append(1)\nprint(len(slow.COUNT))"
ONE = {"POOL_MIN_IDLE": 1, "POOL_MAX_CONTAINERS": 1}
A, B = "key-of-a", "key-of-b"


@pytest.fixture(scope="module")
def index(first_image: str) -> Iterator[PackageIndex]:
    served = PackageIndex(asyncio.run(EngineClient().gateway(first_image)), "user:secret")
    served.add(wheel("slow", files={"slow.py": SLOW}))
    served.add(wheel("loud", files={"loud.py": "print('loud')"}))
    yield served
    served.close()


@pytest.fixture
async def settings(index: PackageIndex) -> AsyncIterator[dict[str, str]]:
    volume = f"pgexec-test-{uuid.uuid4().hex}"
    yield {
        "NETWORK": "none",
        "DEPENDENCY_NETWORK": "bridge",
        "DEPENDENCY_INDEX_URL": index.url,
        "DEPENDENCY_INDEX_CREDENTIALS": "user:secret",
        "DEPENDENCY_VOLUME": volume,
    }
    status, _ = await EngineClient().call("DELETE", f"/volumes/{volume}")
    assert status in (204, 404)


async def outcomes(server: Server) -> dict[str, float]:
    name = "pgexec_imports_ahead_total{outcome=%s}"
    seen = await server.metrics()
    return {one: seen[name % one] for one in ("ready", "hit", "miss", "refused")}


async def has(server: Server, **wanted: int) -> None:
    async def there() -> bool:
        seen = await outcomes(server)
        return all(seen[name] == count for name, count in wanted.items())

    await until(there, f"the imports ahead are {wanted}")


async def held_bytes(server: Server) -> float:
    return (await server.metrics())["pgexec_imports_ahead_bytes"]


async def test_the_second_run_of_a_set_finds_it_imported(
    settings: dict[str, str], start: StartServer
) -> None:
    server = await start(**settings, **ONE)
    for ready in range(1, 4):
        assert await server.output(IMPORT, dependencies=["slow"]) == "1\n"
        await has(server, ready=ready, hit=ready - 1, miss=0, refused=0)
        assert await held_bytes(server) > 1 << 20
    assert await server.output("import sys; print('slow' in sys.modules)") == "False\n"
    await has(server, ready=3, hit=2, miss=1)
    assert await held_bytes(server) == 0


async def test_a_package_that_prints_is_imported_by_each_run(
    settings: dict[str, str], start: StartServer
) -> None:
    server = await start(**settings, **ONE)
    for _ in range(2):
        assert await server.output("import loud", dependencies=["loud"]) == "loud\n"
        await has(server, ready=0, hit=0, refused=1)


async def test_no_other_tenant_gets_it(settings: dict[str, str], start: StartServer) -> None:
    two = {"POOL_MIN_IDLE": 2, "POOL_MAX_CONTAINERS": 2, "TENANT_MAX_RUNNING": 2}
    server = await start(**settings, **two, API_KEYS=f"a:{A},b:{B}")
    answer = await server.run(IMPORT, key=A, dependencies=["slow"])
    assert answer.json["stdout"] == "1\n"
    await has(server, ready=1)
    answer = await server.run(IMPORT, key=B, dependencies=["slow"])
    assert answer.json["stdout"] == "1\n"
    await has(server, ready=2, hit=0)
    answer = await server.run(IMPORT, key=A, dependencies=["slow"])
    assert answer.json["stdout"] == "1\n"
    await has(server, hit=1, miss=0)


async def test_a_run_goes_where_its_own_imports_are(
    settings: dict[str, str], start: StartServer
) -> None:
    server = await start(**settings, POOL_MIN_IDLE=2, POOL_MAX_CONTAINERS=2)
    wait = "import time; time.sleep(0.3)"
    await asyncio.gather(server.output(wait), server.output(wait))
    assert await server.output(IMPORT, dependencies=["slow"]) == "1\n"
    await has(server, ready=1)
    for _ in range(3):
        assert await server.output("print(2)") == "2\n"
        await server.at_rest()  # else the other one may be the only one that is not being reset
    assert await server.output(IMPORT, dependencies=["slow"]) == "1\n"
    await has(server, hit=1, miss=0)


async def test_a_setting_switches_it_off(settings: dict[str, str], start: StartServer) -> None:
    server = await start(**settings, **ONE, AHEAD_MEMORY="0")
    assert await server.output(IMPORT, dependencies=["slow"]) == "1\n"
    await asyncio.sleep(0.5)
    assert await server.output(IMPORT, dependencies=["slow"]) == "1\n"
    await has(server, ready=0, hit=0, miss=0, refused=0)


async def test_a_session_begins_in_a_container_that_has_imported_ahead(
    settings: dict[str, str], start: StartServer
) -> None:
    server = await start(**settings, **ONE)
    await server.output(IMPORT, dependencies=["slow"])
    await has(server, ready=1)
    opened = await server.request("POST", "/sessions", json={"language": "python"})
    path = f"/sessions/{opened.json['id']}/run"
    ran = await server.request("POST", path, json={"code": "import sys\n'slow' in sys.modules"})
    assert ran.json["value"] == "False", ran.json
