"""Packages that a request asks for, installed for real from the index."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.integration.server import WITHIN_S, EngineClient, run_request, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.server import Server, StartServer

# pip knows where its index is.
INDEX = "from pip._internal.models.index import PyPI"
PROBE = [
    "python3",
    "-c",
    f"import socket; {INDEX}; socket.create_connection((PyPI.netloc, 443), 10)",
]


@contextlib.contextmanager
def running_with_index(
    directory: Path, settings: dict[str, str], *, within_s: float = WITHIN_S
) -> Iterator[Server]:
    """Run a server as `running` does, with a volume of its own, where pip reaches its index."""
    if asyncio.run(EngineClient().exit_code(settings["IMAGE"], PROBE)) != 0:
        pytest.skip("an ordinary container of this engine cannot reach pip's index")
    volume = f"pgexec-test-{uuid.uuid4().hex}"
    with running(directory, {**settings, "DEPENDENCY_VOLUME": volume}, within_s=within_s) as server:
        yield server
    asyncio.run(EngineClient().call("DELETE", f"/volumes/{volume}"))


@pytest.fixture(scope="module")
def installing(first_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server whose containers reach the package index, where there is a way to it."""
    settings = {"IMAGE": first_image, "POOL_MIN_IDLE": "1", "POOL_MAX_CONTAINERS": "4"}
    with running_with_index(tmp_path_factory.mktemp("installing"), settings) as server:
        yield server


async def test_a_dependency_is_there_and_reaches_the_network(installing: Server) -> None:
    code = f"import requests; {INDEX}; print(requests.get(PyPI.simple_url + '/six/').status_code)"
    assert await installing.output(code, dependencies=["requests"]) == "200\n"


async def test_the_network_is_there_without_dependencies_and_trusts_the_ca_bundle(
    installing: Server,
) -> None:
    code = """
import urllib.request
from pip._internal.models.index import PyPI
with urllib.request.urlopen(PyPI.simple_url + "/six/") as page:
    print(page.status, b"six" in page.read())
"""
    assert await installing.output(code) == "200 True\n"


async def test_a_pinned_old_version_is_the_one_that_is_imported(installing: Server) -> None:
    code = "import six; print(six.__version__)"
    assert await installing.output(code, dependencies=["six==1.15.0"]) == "1.15.0\n"


async def test_a_c_extension_comes_as_a_wheel_for_the_libc_of_the_image(installing: Server) -> None:
    code = "from markupsafe import _speedups; print(_speedups.__file__.endswith('.so'))"
    assert await installing.output(code, dependencies=["markupsafe"]) == "True\n"


async def test_extras_are_installed_with_the_package(installing: Server) -> None:
    code = "import httpx, h2; print(httpx.Client(http2=True) is not None)"
    assert await installing.output(code, dependencies=["httpx[http2]"]) == "True\n"


async def test_a_console_script_is_on_the_path(installing: Server) -> None:
    code = """
import subprocess
print(subprocess.run(["tabulate"], input="a b", capture_output=True, text=True, check=True).stdout)
"""
    assert "a  b" in await installing.output(code, dependencies=["tabulate"])


async def test_a_package_that_does_not_exist_is_a_422_with_the_last_lines_of_pip(
    installing: Server,
) -> None:
    wanted = "pgexec-no-such-package-9f27"
    answer = await installing.run("pass", dependencies=["six", wanted])
    assert (answer.status, answer.code) == (422, "install_failed")
    assert answer.error.startswith(f"could not install {wanted}, six: there is no such package\n")
    assert f"No matching distribution found for {wanted}" in answer.error
    assert answer.json["data"] is None
    assert "Traceback" not in answer.error


async def test_requirements_that_contradict_each_other_are_a_422(installing: Server) -> None:
    answer = await installing.run("pass", dependencies=["six==1.16.0", "six==1.15.0"])
    assert (answer.status, answer.code) == (422, "install_failed")
    assert "conflict" in answer.error.lower() or "double requirement" in answer.error.lower()


@pytest.mark.parametrize(
    "item",
    [
        "-r /etc/passwd",
        "--index-url=http://127.0.0.1/",
        " -e .",
        "git+https://github.com/benjaminp/six",
        "https://example.com/six.whl",
        "six @ file:///tmp/six",
        "./six",
        "/tmp/six",
        "../six.whl",
        "six.whl; rm -rf /",
        "six\n--pre",
        "$(id)",
        "",
    ],
)
async def test_options_addresses_and_paths_are_refused_before_anything_starts(
    server: Server, item: str
) -> None:
    before = await server.containers()
    answer = await server.run("pass", dependencies=[item])
    assert (answer.status, answer.code) == (400, "bad_requirement")
    assert "\n" not in answer.error
    assert await server.containers() == before


async def test_what_is_installed_serves_warm_containers_and_only_those_who_ask(
    installing: Server,
) -> None:
    await installing.run("import six", dependencies=["six"])
    await installing.at_rest()
    before = await installing.metrics()
    await installing.output("import six", dependencies=["six"])
    missing = await installing.run("import six")
    assert missing.json["stderr"].endswith("ModuleNotFoundError: No module named 'six'\n")
    after = await installing.metrics()
    idle = "pgexec_leases_total{source=idle}"
    found = "pgexec_dependency_requests_total{found=yes}"
    assert (after[idle] - before[idle], after[found] - before[found]) == (2, 1)


async def test_a_failed_installation_leaves_nothing_behind(installing: Server) -> None:
    await installing.run("pass", dependencies=["pgexec-no-such-package-9f27"])
    await installing.at_rest()
    await installing.works()


async def test_a_snippet_with_dependencies_has_the_limits_of_any_other(installing: Server) -> None:
    code = "kept = []\nwhile True: kept.append(b'x' * (8 << 20))"
    answer = await installing.run(code, dependencies=["six"])
    assert answer.json["status"] == "memory_limit"


async def test_a_client_that_hangs_up_leaves_the_installation_to_the_next(
    installing: Server,
) -> None:
    await installing.at_rest()
    before = set(await installing.containers())

    async def installs() -> bool:
        started = set(await installing.containers()) - before
        commands = [await installing.engine.processes(one) for one in started]
        return any("pip install" in command for command in commands)

    async with installing.connection(run_request("pass", dependencies=["sortedcontainers"])):
        await until(installs, "pip runs")
    await installing.logged("request", status=499, code="client_gone")
    await installing.logged_start("installed sortedcontainers")
    await installing.output("import sortedcontainers", dependencies=["sortedcontainers"])
    await installing.at_rest()


async def test_without_a_network_dependencies_are_a_422_that_says_so(start: StartServer) -> None:
    server = await start(NETWORK="none")
    answer = await server.run("pass", dependencies=["six"])
    assert (answer.status, answer.code) == (422, "install_failed")
    assert answer.error.startswith("dependencies need a network, and PGEXEC_NETWORK is none;")
    await server.works()
    await server.at_rest()


async def test_a_session_has_its_dependencies_and_files_in_every_cell(installing: Server) -> None:
    body = {"dependencies": ["six==1.16.0"], "files": [{"name": "a.txt", "content": "1"}]}
    opened = await installing.request("POST", "/sessions", json=body)
    assert opened.status == 201, opened.body
    assert "install;dur=" in opened.headers["Server-Timing"]
    path = f"{opened.headers['Location']}/run"
    for code, value in (
        ("import six; six.__version__, open('a.txt').read()", "('1.16.0', '1')"),
        ("import os; os._exit(0)", None),
        ("import six; six.__version__", "'1.16.0'"),  # in the interpreter that follows, too
    ):
        ran = await installing.request("POST", path, json={"code": code})
        assert ran.json["value"] == value, ran.body
    assert (await installing.request("DELETE", opened.headers["Location"])).status == 204
    body = {"dependencies": ["pgexec-no-such-package-9f27"]}
    refused = await installing.request("POST", "/sessions", json=body)
    assert (refused.status, refused.code) == (422, "install_failed")
