"""Layers on the real engine, of packages that the test serves: made once, kept, taken care of."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import uuid
from typing import TYPE_CHECKING

import pytest

from pool.engine.spec import LAYERS_DIR
from tests.integration.package_index import PackageIndex, sdist, wheel
from tests.integration.server import EngineClient, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.integration.server import Server, StartServer

PASSWORD = "s3cret-of-the-index"
KEYS = "a:key-of-a,b:key-of-b"
A, B = "key-of-a", "key-of-b"


@pytest.fixture(scope="module")
def index(first_image: str) -> Iterator[PackageIndex]:
    """Serve packages, harmless ones and others."""
    served = PackageIndex(asyncio.run(EngineClient().gateway(first_image)), f"user:{PASSWORD}")
    for version in ("1.0", "2.0"):
        served.add(wheel("plain", version))
    served.add(wheel("needsone", requires=("plain==1.0",)))
    served.add(wheel("needstwo", requires=("plain==2.0",)))
    served.add(wheel("withpth", files={"withpth.pth": "import sys; sys.from_pth = 'yes'\n"}))
    served.add(sdist("built", "print('building')"))
    served.add(sdist("unbuildable", "raise SystemExit('no way')"))
    served.add(sdist("slow", "import time\ntime.sleep(600)"))
    served.add(wheel("private", files={"private_data.py": "DATA = 'of a'\n"}))
    yield served
    served.close()


def settings_of(index: PackageIndex, volume: str) -> dict[str, str]:
    """Return settings of servers whose snippets have no network, and whose installers have."""
    return {
        "NETWORK": "none",
        "DEPENDENCY_NETWORK": "bridge",
        "DEPENDENCY_INDEX_URL": index.url,
        "DEPENDENCY_INDEX_CREDENTIALS": f"user:{PASSWORD}",
        "DEPENDENCY_VOLUME": volume,
    }


async def remove_volume(volume: str) -> None:
    status, _ = await EngineClient().call("DELETE", f"/volumes/{volume}")
    assert status in (204, 404)


@pytest.fixture
async def volume() -> AsyncIterator[str]:
    """Name a volume of the test's own."""
    name = f"pgexec-test-{uuid.uuid4().hex}"
    yield name
    await remove_volume(name)


@pytest.fixture(scope="module")
def shared_volume() -> Iterator[str]:
    """Name the volume of the module's server."""
    name = f"pgexec-test-{uuid.uuid4().hex}"
    yield name
    asyncio.run(remove_volume(name))


@pytest.fixture(scope="module")
def mill(
    first_image: str,
    index: PackageIndex,
    shared_volume: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """Run a server with two tenants that installs from the index."""
    settings = {
        "IMAGE": first_image,
        "POOL_MIN_IDLE": "1",
        "POOL_MAX_CONTAINERS": "3",
        "API_KEYS": KEYS,
        "INSTALL_TIMEOUT_S": "20",
        "DEPENDENCY_SIZE_LIMIT": "48MiB",
        "DEPENDENCY_DENY": "denied",
        **settings_of(index, shared_volume),
    }
    with running(tmp_path_factory.mktemp("mill"), settings) as server:
        yield server


async def listing(image: str, volume: str) -> list[str]:
    """Return what lies on a volume, its server's own left out."""
    command = ["sh", "-c", "cd /volume && find . -mindepth 1 -path ./.owners -prune -o -print"]
    return (await EngineClient().output(image, command, volume)).splitlines()


async def layers_on(image: str, volume: str) -> set[str]:
    return {path for path in await listing(image, volume) if path.count("/") == 1}


# --- used as `site` would ------------------------------------------------------------------------


async def test_a_layer_is_a_site_directory_with_pth_files_and_without_shadowing_the_library(
    mill: Server,
) -> None:
    code = """
import json, site, subprocess, sys
probe = "import sys; print(sys.from_pth, sys.path)"
here = [path for path in sys.path if path.startswith("/opt/layers/")]
packages = next(at for at, path in enumerate(sys.path) if path in site.getsitepackages())
library = sys.path.index(json.__file__.rpartition("/json/")[0])
print(len(here), sys.from_pth, library < sys.path.index(here[0]) < packages)
print(subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout[:3])
"""
    answer = await mill.run(code, key=A, dependencies=["withpth"])
    assert answer.json["stdout"] == "1 yes True\nyes\n", answer.json


async def test_bytecode_is_there_and_believed_without_a_look_at_the_source(mill: Server) -> None:
    code = """
import plain
with open(plain.__cached__, "rb") as file:
    print(file.read(8)[4:])
"""
    answer = await mill.run(code, key=A, dependencies=["plain"])
    assert answer.json["stdout"] == "b'\\x01\\x00\\x00\\x00'\n", answer.json


async def test_a_package_that_has_to_be_built_is(mill: Server) -> None:
    answer = await mill.run("import built; print(built.HERE)", key=A, dependencies=["built"])
    assert answer.json["data"] == "1\n", answer.json


# --- once ----------------------------------------------------------------------------------------


async def test_concurrent_first_requests_install_once(mill: Server, index: PackageIndex) -> None:
    index.add(wheel("popular"))
    wanted = ["popular", "plain==1.0"]
    answers = await asyncio.gather(
        *(
            mill.run("import popular; print(1)", key=key, dependencies=wanted[::way])
            for key in (A, B)
            for way in (1, -1)
        )
    )
    assert [answer.status for answer in answers] == [200] * 4
    downloads = [path for path in index.asked if path.startswith("/files/popular/")]
    assert len(downloads) == 1


async def test_the_cache_survives_a_restart_and_what_was_changed_meanwhile_is_made_anew(
    volume: str, start: StartServer, index: PackageIndex, first_image: str
) -> None:
    settings = settings_of(index, volume)
    code = "import plain; print(plain.VERSION)"
    first = await start(**settings)
    assert await first.output(code, dependencies=["plain==1.0"]) == "1.0\n"
    assert await first.output(code, dependencies=["plain==2.0"]) == "2.0\n"
    await first.stop()
    (kept, _) = sorted(await layers_on(first_image, volume))
    damage = f"echo VERSION=6666 > $(find /volume/{kept} -name plain.py)"
    await EngineClient().output(first_image, ["sh", "-c", damage], volume)
    index.asked.clear()
    second = await start(**settings)
    await second.sees("pgexec_dependency_sets", 1)
    assert await second.output(code, dependencies=["plain==1.0"]) == "1.0\n"
    assert await second.output(code, dependencies=["plain==2.0"]) == "2.0\n"
    assert len([path for path in index.asked if path.startswith("/files/")]) == 1
    names = await layers_on(first_image, volume)
    assert len(names) == 2
    assert kept not in names


async def test_a_layer_that_vanishes_under_a_running_server_is_made_anew(
    volume: str, start: StartServer, index: PackageIndex, first_image: str
) -> None:
    server = await start(**settings_of(index, volume))
    code = "import plain; print(plain.VERSION)"
    await server.output(code, dependencies=["plain"])
    await EngineClient().output(first_image, ["sh", "-c", "rm -rf /volume/?*"], volume)
    assert await server.output(code, dependencies=["plain"]) == "2.0\n"
    assert (await server.metrics())["pgexec_dependency_damages_total"] == 1


async def test_the_least_recently_used_make_room(
    volume: str, start: StartServer, index: PackageIndex, first_image: str
) -> None:
    server = await start(DEPENDENCY_CACHE_LIMIT="100KiB", **settings_of(index, volume))
    for wanted in ("plain==1.0", "plain==2.0", "needsone", "plain==1.0"):
        await server.output("import plain", dependencies=[wanted])
    assert (await server.metrics())["pgexec_dependency_evictions_total"] >= 1

    async def within() -> bool:
        kept = await server.metrics()
        on_disk = len(await layers_on(first_image, volume))
        return on_disk == kept["pgexec_dependency_sets"] and (
            kept["pgexec_dependency_bytes"] <= 100 << 10
        )

    await until(within, "the volume is within its limit")


async def test_servers_share_a_volume_and_take_over_from_the_dead(
    volume: str, start: StartServer, index: PackageIndex, first_image: str
) -> None:
    settings = {**settings_of(index, volume), "POOL_MIN_IDLE": 1, "POOL_MAX_CONTAINERS": 1}
    one, two = await start(**settings), await start(**settings)
    for server in (one, two):
        await server.output("import plain", dependencies=["plain"])
    assert len(await layers_on(first_image, volume)) == 2
    one.process.kill()
    await one.ended()
    await one.no_container_left()
    index.asked.clear()
    three = await start(**settings)
    await three.sees("pgexec_dependency_sets", 1)
    for server in (two, three):
        await server.output("import plain", dependencies=["plain"])
    assert index.asked == []


async def test_what_is_to_be_preloaded_is_there_before_anybody_asks(
    volume: str, start: StartServer, index: PackageIndex
) -> None:
    preload = "plain>=1,<2,withpth;needstwo"
    server = await start(DEPENDENCY_PRELOAD=preload, **settings_of(index, volume))
    await server.sees("pgexec_dependency_sets", 2)
    found = "pgexec_dependency_requests_total{found=yes}"
    before = (await server.metrics())[found]
    await server.output("import plain, withpth", dependencies=["withpth", "Plain <2, >=1.0"])
    assert (await server.metrics())[found] == before + 1


# --- installed by the snippet itself -------------------------------------------------------------


@pytest.mark.parametrize("dependencies", [[], ["plain==1.0"]])
async def test_what_a_snippet_installs_with_pip_is_there_for_that_run(
    mill: Server, dependencies: list[str]
) -> None:
    name, content = wheel("brought", files={"brought_more.py": "X = 1"})
    code = f"""
import base64, subprocess, sys
with open("/tmp/{name}", "wb") as file:
    file.write(base64.b64decode({base64.b64encode(content)!r}))
install = [sys.executable, "-m", "pip", "install", "--no-index", "--break-system-packages"]
subprocess.run([*install, "/tmp/{name}"], check=True, stdout=subprocess.DEVNULL)
import brought, brought_more
print(brought.VERSION, {"__import__('plain').VERSION" if dependencies else "'1.0'"})
tell = "import brought{", plain" if dependencies else ""}; print(brought.VERSION)"
print(subprocess.run([sys.executable, "-c", tell], capture_output=True, text=True).stdout)
"""
    answer = await mill.run(code, key=A, dependencies=dependencies)
    assert answer.json["stdout"] == "1.0 1.0\n1.0\n\n", answer.json
    again = await mill.run("import brought", key=A, dependencies=dependencies)
    assert "No module named 'brought'" in again.json["stderr"]


# --- what fails ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (["missing"], "there is no such package"),
        (["plain==9"], "there is no matching version"),
        (["needsone", "needstwo"], "its requirements conflict with each other"),
        (["unbuildable"], "it cannot be built"),
    ],
)
async def test_a_failure_is_a_422_with_a_sentence_and_leaves_nothing_behind(
    mill: Server, first_image: str, shared_volume: str, wanted: list[str], sentence: str
) -> None:
    before = await listing(first_image, shared_volume)
    answer = await mill.run("pass", key=A, dependencies=wanted)
    assert (answer.status, answer.code) == (422, "install_failed")
    first, *log = answer.error.splitlines()
    assert first == f"could not install {', '.join(wanted)}: {sentence}"
    assert 0 < len(log) <= 20
    assert PASSWORD not in answer.error
    assert await listing(first_image, shared_volume) == before


async def test_a_failure_is_remembered_for_a_while(mill: Server, index: PackageIndex) -> None:
    answers = [await mill.run("pass", key=A, dependencies=["comeslater"])]
    asked = len(index.asked)
    answers.append(await mill.run("pass", key=B, dependencies=["comeslater"]))
    assert [answer.status for answer in answers] == [422, 422]
    assert answers[0].error == answers[1].error
    assert len(index.asked) == asked


async def test_what_takes_too_long_is_a_422(
    volume: str, start: StartServer, index: PackageIndex
) -> None:
    server = await start(INSTALL_TIMEOUT_S=3, **settings_of(index, volume))
    answer = await server.run("pass", dependencies=["slow"])
    assert answer.status == 422
    assert answer.error.startswith("slow took over 3 s to install; PGEXEC_INSTALL_TIMEOUT_S")
    await server.at_rest()


async def test_an_index_that_is_away_is_a_422_that_says_so(
    volume: str, start: StartServer, index: PackageIndex
) -> None:
    settings = {**settings_of(index, volume), "DEPENDENCY_INDEX_URL": "http://127.0.0.1:9/simple"}
    server = await start(**settings)
    answer = await server.run("pass", dependencies=["plain"])
    assert answer.status == 422
    assert answer.error.startswith("could not install plain: the package index cannot be reached")


async def test_what_the_settings_do_not_allow_is_refused(
    volume: str, start: StartServer, index: PackageIndex
) -> None:
    settings = settings_of(index, volume)
    server = await start(
        DEPENDENCY_ALLOW="needsone,built", DEPENDENCY_BINARY_ONLY="true", **settings
    )
    answer = await server.run("pass", dependencies=["plain"])
    assert (answer.status, answer.code) == (400, "bad_requirement")
    assert "'plain' is not among the packages" in answer.error
    await server.output("import plain", dependencies=["needsone"])
    assert (await server.run("pass", dependencies=["built"])).status == 422


async def test_what_is_denied_is_not_installed_for_another_either(
    mill: Server, index: PackageIndex
) -> None:
    index.add(wheel("denied"))
    index.add(wheel("needsdenied", requires=("denied",)))
    direct = await mill.run("pass", key=A, dependencies=["Denied>=1"])
    assert (direct.status, direct.code) == (400, "bad_requirement")
    indirect = await mill.run("pass", key=A, dependencies=["needsdenied"])
    assert indirect.status == 422
    assert "denied is denied on this server" in indirect.error.splitlines()[0]
    assert not [path for path in index.asked if path.startswith("/files/denied/")]


async def test_a_server_that_ends_tells_who_waits_for_an_installation(
    volume: str, start: StartServer, index: PackageIndex
) -> None:
    server = await start(**settings_of(index, volume))
    asked = len(index.asked)
    waiting = asyncio.create_task(server.run("pass", dependencies=["slow"]))

    async def installs() -> bool:
        return len(index.asked) > asked

    await until(installs, "the index is asked")
    server.process.send_signal(signal.SIGTERM)
    answer = await waiting
    assert (answer.status, answer.code) == (503, "draining")
    await server.stop()


# --- one tenant and another ----------------------------------------------------------------------


async def test_a_tenant_can_neither_list_nor_find_the_layer_of_another(
    mill: Server, first_image: str, shared_volume: str
) -> None:
    code = "import sys; print([path for path in sys.path if 'layers' in path][0])"
    private = (await mill.run(code, key=A, dependencies=["private"])).json["stdout"].strip()
    name = private.removeprefix(f"{LAYERS_DIR}/").partition("/")[0]
    assert f"./{name}" in await layers_on(first_image, shared_volume)
    search = f"""
import json, os, sys
print(os.stat({LAYERS_DIR!r}).st_mode & 0o777 == 0o711)
for attempt in (os.listdir, os.scandir, lambda path: os.open(path, os.O_RDONLY)):
    for path in ({LAYERS_DIR!r}, "{LAYERS_DIR}/.owners", "{LAYERS_DIR}/.owners/.."):
        try:
            print("listed", attempt(path))
        except PermissionError:
            pass
seen = dict(os.environ)
for root, _, files in os.walk("/proc", onerror=None):
    if root.count("/") > 4 or "/task" in root:
        continue
    for file in files:
        try:
            with open(os.path.join(root, file), "rb") as opened:
                os.set_blocking(opened.fileno(), False)
                seen[root + "/" + file] = repr(opened.read(200_000) or b"")
        except (OSError, ValueError):
            pass
name = "{name[:8]}" + "{name[8:]}"  # in two, so that this script is not found
print(len(seen) > 50, [where for where, text in seen.items() if name in text])
"""
    found = await mill.run(search, key=B, dependencies=["plain"])
    assert found.json["stdout"].splitlines() == ["True", "True []"], found.json


async def test_a_snippet_cannot_change_its_layer(mill: Server) -> None:
    code = """
import os, plain
for attempt in (
    lambda: open(plain.__file__, "w"),
    lambda: open(os.path.dirname(plain.__file__) + "/new.py", "w"),
    lambda: os.unlink(plain.__file__),
    lambda: os.chmod(plain.__file__, 0o777),
    lambda: os.rename(plain.__file__, "/tmp/plain.py"),
    lambda: os.mkdir("/opt/layers/mine"),
):
    try:
        print("done", attempt())
    except OSError:
        pass
"""
    answer = await mill.run(code, key=A, dependencies=["plain"])
    assert (answer.json["status"], answer.json["data"]) == ("ok", ""), answer.json


async def test_the_credentials_are_not_to_be_seen(mill: Server, index: PackageIndex) -> None:
    code = "import os\nraise SystemExit(repr(os.environ.get('PIP_INDEX_URL')))"
    index.add(sdist("envious", code))
    refused = await mill.run("pass", key=A, dependencies=["envious"])
    assert refused.status == 422
    assert "PIP_INDEX_URL" not in refused.error
    assert PASSWORD not in refused.error
    assert "****@" in refused.error
    answer = await mill.run("import os; print(dict(os.environ))", key=A, dependencies=["plain"])
    assert PASSWORD not in answer.json["data"]
    for container in await mill.engine.containers(mill.instance):
        assert PASSWORD not in json.dumps(await mill.engine.inspect(container))
    assert PASSWORD not in mill.stderr
