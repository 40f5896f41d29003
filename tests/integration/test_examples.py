"""The examples, and the README's own, against a real server: what they show is what happens."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.browser import browsing
from tests.conftest import ROOT
from tests.integration.server import GATE, WITHIN_S, until
from tests.integration.test_dependencies import running_with_index

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.browser import Page
    from tests.integration.server import Server, StartServer

INSTALLED_WITHIN_S = 300
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """Copy the examples: what they write lands beside them."""
    return Path(shutil.copytree(ROOT / "examples", tmp_path / "examples"))


async def command(
    server: Server, directory: Path, *arguments: str, stdin: bytes = b""
) -> tuple[int | None, str, str]:
    """Run a program beside a server; return its exit status and what it wrote."""
    pipe = asyncio.subprocess.PIPE
    own = {
        "PGEXEC_URL": f"http://127.0.0.1:{server.port}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
    }
    process = await asyncio.create_subprocess_exec(
        *arguments,
        cwd=directory,
        env={**os.environ, **own},
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
    )
    async with asyncio.timeout(WITHIN_S):
        stdout, stderr = await process.communicate(stdin)
    return process.returncode, stdout.decode(), stderr.decode()


@pytest.fixture(scope="module")
def plotting(first_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server with what the plots need, where there is a way to the package index."""
    settings = {
        "IMAGE": first_image,
        "POOL_MIN_IDLE": "1",
        "POOL_MAX_CONTAINERS": "1",
        "DEPENDENCY_PRELOAD": "pandas,matplotlib",
        "INSTALL_TIMEOUT_S": str(INSTALLED_WITHIN_S),
    }
    with running_with_index(tmp_path_factory.mktemp("plotting"), settings) as server:

        async def installed() -> bool:
            return (await server.metrics())["pgexec_dependency_sets"] == 1

        asyncio.run(until(installed, "pandas and matplotlib", within_s=INSTALLED_WITHIN_S))
        yield server


async def test_the_readmes_request_brings_a_table_and_takes_a_picture_and_sums_away(
    plotting: Server,
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    recipe = readme.partition("A CSV in, pandas over it")[2].partition("```sh\n")[2]
    body = shlex.split(recipe.partition("```")[0])[-1]
    answer = (await plotting.run(**json.loads(body))).json
    assert (answer["status"], answer["data"]) == ("ok", "")
    sums, picture = answer["files"]
    assert (sums["name"], json.loads(sums["content"])) == ("sums.json", {"mon": 8, "tue": 4})
    assert (picture["name"], picture["encoding"]) == ("sums.png", "base64")
    assert base64.b64decode(picture["content"]).startswith(PNG)


async def test_an_agent_gets_text_for_the_model_and_a_plot_for_the_user(
    plotting: Server, examples: Path
) -> None:
    (examples / "sales.csv").write_text("day,sum\nmon,3\ntue,4\nmon,5\n")
    asked = (sys.executable, "agent_tool.py", "sales.csv")
    status, stdout, stderr = await command(plotting, examples, *asked)
    assert (status, stderr) == (0, "")
    assert stdout.splitlines() == ["day", "mon    8", "tue    4", "", "[files] plot.png"]
    assert (examples / "plot.png").read_bytes().startswith(PNG)


NOTEBOOK = """
import json, os
os.environ["IPYTHONDIR"] = os.getcwd()
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
shell = InteractiveShell.instance()
shell.displayhook.write_output_prompt = lambda: None  # a notebook has it beside the cell
for cell in json.load(open("notebook.ipynb"))["cells"]:
    if cell["cell_type"] == "code":
        with capture_output() as shown:
            shell.run_cell("".join(cell["source"])).raise_error()
        print(json.dumps([shown.stdout, [sorted(output.data) for output in shown.outputs]]))
"""


async def test_a_cell_of_a_notebook_shows_what_a_run_wrote_and_drew(
    plotting: Server, examples: Path
) -> None:
    status, stdout, _ = await command(plotting, examples, sys.executable, "-c", NOTEBOOK)
    assert status == 0
    opened, drawn, failed = map(json.loads, stdout.splitlines())
    assert opened == ["", []]
    assert drawn == ["drawn\n", [["image/png", "text/plain"]]]
    assert failed[0].endswith("ZeroDivisionError: division by zero\n")
    assert failed[1] == []


async def test_a_grader_judges_each_test_of_a_folder(server: Server, examples: Path) -> None:
    tests = {"1": ("1 2", "3"), "2": ("5 5", "10\n\n"), "3": ("2 2", "5"), "4": ("one two", "3")}
    (examples / "tests").mkdir()
    for name, (given, wanted) in tests.items():
        (examples / "tests" / f"{name}.in").write_text(given)
        (examples / "tests" / f"{name}.out").write_text(wanted)
    (examples / "solution.py").write_text("print(sum(map(int, input().split())), ' ')")
    asked = (sys.executable, "grader.py", "solution.py", "tests")
    status, stdout, stderr = await command(server, examples, *asked)
    assert (status, stderr) == (1, "")
    assert stdout.splitlines() == [
        "1: accepted",
        "2: accepted",
        "3: wrong answer",
        "4: error: ValueError: invalid literal for int() with base 10: 'one'",
        "2 of 4 passed",
    ]
    (examples / "tests" / "3.in").unlink()
    (examples / "tests" / "4.in").unlink()
    status, stdout, _ = await command(server, examples, *asked)
    assert (status, stdout.splitlines()[-1]) == (0, "2 of 2 passed")


async def test_a_pipeline_goes_through_the_server(server: Server, examples: Path) -> None:
    status, stdout, stderr = await command(
        server, examples, "./pipeline.sh", stdin=b"To be or not to be\nBE"
    )
    assert (status, stdout, stderr) == (0, "be 3\nto 2\n", "")
    assert json.loads((examples / "report.json").read_text()) == {"words": 7}


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[str]:
    """Serve the example's page from an origin of its own."""
    app = web.Application()
    app.router.add_static("/", ROOT / "examples")
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


STATUS = "document.querySelector('#status').textContent"
STEPS = f"print('one', flush=True)\n{GATE}print('two')"


async def test_a_page_of_a_listed_origin_streams_and_one_of_another_is_refused_by_the_browser(
    start: StartServer, tmp_path: Path
) -> None:
    async with site() as listed, site() as foreign, browsing(tmp_path) as browser:
        server = await start(
            API_KEYS="alice:secret", CORS_ORIGINS=listed, POOL_MIN_IDLE=1, POOL_MAX_CONTAINERS=1
        )
        address = f"/browser.html?server=http://127.0.0.1:{server.port}"

        async def submit(page: Page, key: str) -> None:
            await page.write("#code", STEPS)
            await page.write("#key", key)
            await page.click("#run")

        page = await browser.open(listed + address)
        await submit(page, "secret")
        await page.until("document.querySelector('#output').textContent === 'one\\n'")
        assert await page.evaluate(STATUS) == "runs"  # it came while the run went on
        await server.open_gates()
        await page.until(f"{STATUS} === 'ok'")
        assert await page.text("#output") == "one\ntwo\n"
        assert page.complaints == []
        await submit(page, "wrong")
        await page.until(f"{STATUS} === 'an API key is needed: Authorization: Bearer …'")

        await server.logged("request", method="POST", status=401)
        before = [entry for entry in server.log if entry.get("path") == "/run"]
        asked = [(entry["method"], entry["status"]) for entry in before]
        assert asked[:2] == [("OPTIONS", 204), ("POST", 200)]
        page = await browser.open(foreign + address)
        await submit(page, "secret")
        await page.until(f"{STATUS} === 'Failed to fetch'")
        assert "CORS" in " ".join(page.complaints)
        assert await server.output("print(1)", key="secret") == "1\n"

        async def after() -> list[str]:
            entries = [entry for entry in server.log if entry.get("path") == "/run"][len(before) :]
            methods = [entry["method"] for entry in entries]
            return methods if "POST" in methods else []

        assert await until(after, "the last run is logged") == ["OPTIONS", "POST"]


async def test_an_agent_goes_on_in_the_session_that_it_began(
    server: Server, examples: Path
) -> None:
    status, stdout, stderr = await command(server, examples, sys.executable, "mcp_agent.py")
    assert (status, stderr) == (0, "")
    assert stdout.splitlines() == [
        "tools: run_python, run_in_session, read_file, end_session",
        "rows: 2",
        "total: 42",
    ]


async def test_a_session_keeps_state_through_streams_limits_and_a_new_interpreter(
    server: Server, examples: Path
) -> None:
    status, stdout, stderr = await command(server, examples, sys.executable, "session.py")
    assert (status, stderr) == (0, "")
    assert stdout.splitlines() == [
        "value: 42",
        *(f"it prints {n}" for n in range(3)),
        "awaited: 84",
        "shown: text/html <ol><li>20</li><li>22</li></ol>",
        "late: timeout - but there is still [20, 22]",
        "restarted: True (['sales.txt'], False)",
    ]


async def test_plots_of_a_session_come_back_as_pictures(plotting: Server, examples: Path) -> None:
    status, stdout, stderr = await command(plotting, examples, sys.executable, "session_plot.py")
    assert (status, stderr) == (0, "")
    assert stdout.splitlines() == [
        "table: ['text/html']",
        "drawn: image/png plot-0.png",
        "drawn: image/png plot-1.png",
    ]
    for number in range(2):
        assert (examples / f"plot-{number}.png").read_bytes().startswith(PNG)
