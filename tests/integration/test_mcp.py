"""`pgexec mcp`, seen by the clients that agents have, over both transports."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.server import WITHIN_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.server import Server, StartServer

HERE = Path(__file__).parent / "mcp_clients"
TOOLS = Path(__file__).parents[2] / ".tools"
SDK1 = TOOLS / "mcp-sdk1"
NPM = TOOLS / "mcp-npm" / "node_modules" / "@modelcontextprotocol" / "client"
CLIENTS = ("sdk2", "sdk1", "npm", "npm-legacy")
STATELESS = "2026-07-28"
PIXEL = base64.b64encode(b"\x89PNG, or nearly").decode()
PLOTS = (
    f"import base64\nopen('plot.png', 'wb').write(base64.b64decode({PIXEL!r}))\n"
    "print(open('in.txt').read())\nopen('out.csv', 'w').write('1,2')"
)
LINGERS = "import time\nprint('begun', flush=True)\ntime.sleep(25)"


class McpClient:
    """A program of one of the SDKs, which takes a step a line and answers in one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def step(self, op: str, **fields: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"op": op, **fields}).encode() + b"\n")
        async with asyncio.timeout(WITHIN_S):
            line = await self._process.stdout.readline()
        assert line, await self._process.stderr.read() if self._process.stderr else None
        return json.loads(line)

    async def call(self, tool: str = "run_python", /, **arguments: object) -> Any:
        return await self.step("call", name=tool, arguments=arguments)

    async def cancel(self, tool: str = "run_python", /, **arguments: object) -> Any:
        return await self.step("cancel", name=tool, arguments=arguments)


def program(client: str) -> tuple[list[str], dict[str, str]]:
    """Return the command of a client's program, and what it needs in its environment."""
    if client == "sdk2":
        return [sys.executable, str(HERE / "sdk2.py")], {}
    if client == "sdk1":
        if not SDK1.is_dir():
            pytest.skip("the SDK of 1.x is not there: deploy/setup/mcp_clients.sh gets it")
        return [sys.executable, "-S", str(HERE / "sdk1.py")], {"PYTHONPATH": str(SDK1)}
    if not NPM.is_dir() or not shutil.which("node"):
        pytest.skip("npm's client is not there: deploy/setup/mcp_clients.sh gets it")
    mode = "legacy" if client == "npm-legacy" else "auto"
    return ["node", str(HERE / "npm.mjs")], {"MCP_CLIENT": str(NPM), "MCP_MODE": mode}


@asynccontextmanager
async def started(
    command: list[str], environment: dict[str, str], cwd: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        limit=1 << 24,
    )
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()  # its end, for a client and for stdio
        if command[-1] != "--port=0":
            async with asyncio.timeout(WITHIN_S):
                await process.wait()
        else:
            process.terminate()
            await process.wait()
        transport = process._transport  # type: ignore[attr-defined]
        transport.close()


@asynccontextmanager
async def over_http(url: str, cwd: Path, **environment: str) -> AsyncIterator[str]:
    """Start `pgexec mcp --http` for a server, and yield its address."""
    command = [sys.executable, "-m", "pgexec", "mcp", "--http", "--port=0"]
    async with started(command, {"PGEXEC_URL": url, **environment}, cwd) as process:
        assert process.stderr is not None
        async with asyncio.timeout(WITHIN_S):
            line = (await process.stderr.readline()).decode()
        assert line.startswith("pgexec: serving MCP at "), line
        yield line.split()[-1]


@asynccontextmanager
async def connected(
    client: str, transport: str, url: str, cwd: Path, **environment: str
) -> AsyncIterator[McpClient]:
    """Connect a client to `pgexec mcp` over a transport."""
    command, own = program(client)
    environment = {"PGEXEC_URL": url, **environment}
    if transport == "stdio":
        command += [sys.executable, "-m", "pgexec", "mcp"]
        async with started(command, {**environment, **own}, cwd) as process:
            yield McpClient(process)
    else:
        async with (
            over_http(url, cwd, **environment) as address,
            started([*command, address], own, cwd) as process,
        ):
            yield McpClient(process)


def url_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


def text_of(answer: Any) -> str:
    return "\n".join(block["text"] for block in answer["content"] if block["type"] == "text")


@pytest.mark.parametrize("transport", ["stdio", "http"])
@pytest.mark.parametrize("client", CLIENTS)
async def test_every_client_runs_code_sees_plots_and_progress_and_cancels(
    client: str, transport: str, server: Server, tmp_path: Path
) -> None:
    async def nobody_runs() -> bool:
        return (await server.by_state())["leased"] == 0

    async with connected(client, transport, url_of(server), tmp_path) as mcp:
        assert (await mcp.step("revision") == STATELESS) is (client in ("sdk2", "npm"))
        tools = await mcp.step("list")
        assert "Installed: Python 3." in tools["run_python"]["description"]
        answer = await mcp.call(code=PLOTS, files={"in.txt": "gr\u00fc\u00df"}, collect=["*.csv"])
        assert not answer.get("isError")
        assert "gr\u00fc\u00df\n" in text_of(answer)
        assert "out.csv:\n1,2" in text_of(answer)
        (image,) = (block for block in answer["content"] if block["type"] == "image")
        assert (image["mimeType"], image["data"]) == ("image/png", PIXEL)
        assert answer["structuredContent"]["status"] == "ok"
        answer = await mcp.call(
            code="import time\nfor n in range(3):\n    print(n, flush=True)\n    time.sleep(0.4)"
        )
        assert answer["progress"]
        assert set(answer["progress"]) <= {"0", "1", "2"}
        answer = await mcp.call(cod="1")
        assert answer["isError"]
        assert text_of(answer).startswith("Nothing ran: the argument `code` is missing")
        assert await mcp.cancel(code=LINGERS) == {"cancelled": True}
        await until(nobody_runs, "the run has ended", within_s=10)
        assert text_of(await mcp.call(code="print(6 * 7)")) == "42"
        await use_a_session(mcp)


async def use_a_session(mcp: McpClient) -> None:
    """Begin a session, cancel a call in it, go on with its state, and end it."""
    answer = await mcp.call("run_in_session", code="x = 20\nx + 1")
    record = answer["structuredContent"]
    assert record["value"] == "21"
    own = {"session_id": record["session_id"]}
    assert own["session_id"] in text_of(answer)
    assert await mcp.cancel("run_in_session", code=LINGERS, **own) == {"cancelled": True}

    async def goes_on() -> Any:
        code = "open('a.txt', 'w').write('gr\u00fc\u00df')\nx"
        answer = await mcp.call("run_in_session", code=code, **own)
        return not answer.get("isError") and answer

    answer = await until(goes_on, "the cancelled cell has ended", within_s=10)
    assert answer["structuredContent"]["value"] == "20"
    assert not answer["structuredContent"]["restarted"]
    assert text_of(await mcp.call("read_file", name="./a.txt", **own)) == "gr\u00fc\u00df"
    assert not (await mcp.call("end_session", **own)).get("isError")
    answer = await mcp.call("run_in_session", code="x", **own)
    assert answer["isError"]
    assert "leave out session_id to begin a new one" in text_of(answer)


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_the_end_of_the_tool_ends_its_runs(
    transport: str, server: Server, tmp_path: Path
) -> None:
    async def runs(number: int) -> bool:
        return (await server.by_state())["leased"] == number

    async with connected("sdk2", transport, url_of(server), tmp_path) as mcp:
        call = asyncio.create_task(mcp.call(code=LINGERS))
        await until(lambda: runs(1), "the run has begun")
        mcp._process.kill()
        with pytest.raises(AssertionError):
            await call
        await until(lambda: runs(0), "the run has ended", within_s=10)


async def test_what_the_server_refuses_is_an_error_of_the_tool(
    start: StartServer, tmp_path: Path
) -> None:
    keyed = await start(API_KEYS="us:right", TENANT_MAX_RUNNING="1", OUTPUT_LIMIT="100k")
    async with connected("sdk2", "stdio", url_of(keyed), tmp_path, PGEXEC_API_KEY="right") as mcp:
        for arguments, sentence in (
            ({"code": "1", "timeout_s": 1000}, "Nothing ran: "),
            ({"code": "1", "files": {"../a": ""}}, "Nothing ran: "),
            ({"code": "1", "dependencies": ["no such name!"]}, "Nothing ran: "),
        ):
            answer = await mcp.call(**arguments)
            assert answer["isError"], arguments
            assert text_of(answer).startswith(sentence)
            assert "Traceback" not in text_of(answer)
        answer = await mcp.call(code="while True: print('x' * 1000)")
        assert "the rest is lost" in text_of(answer)
        assert "left out here" in text_of(answer)
        answer = await mcp.call(code="while True: pass", timeout_s=0.2)
        assert "timed out after 0.2 s" in text_of(answer)
        await keyed.stop()
        answer = await mcp.call(code="1")
        assert answer["isError"]
        assert text_of(answer).startswith("Nothing ran: the server cannot be reached")
        assert "run_python" in await mcp.step("list")


async def test_over_http_every_caller_s_own_key_counts(start: StartServer, tmp_path: Path) -> None:
    keyed = await start(API_KEYS="us:right")
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": "run_python",
            "arguments": {"code": "print(6 * 7)"},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": STATELESS,
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    }
    headers = {
        "Accept": "application/json, text/event-stream",
        "Mcp-Protocol-Version": STATELESS,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "run_python",
    }
    async with over_http(url_of(keyed), tmp_path, PGEXEC_API_KEY="wrong") as address:
        elsewhere = keyed.__class__(tmp_path, {}, port=int(address.split(":")[2].split("/")[0]))

        async def ask(**more: str) -> str:
            answer = await elsewhere.request("POST", "/mcp", json=body, headers={**headers, **more})
            return answer.body.decode()

        refused = await ask()
        assert '"isError":true' in refused
        assert "Nothing ran: " in refused
        assert "PGEXEC_API_KEY" in refused
        assert "42" in await ask(Authorization="Bearer right")
        assert "must be Bearer" in await ask(Authorization="Basic right")
        assert "other sites" in await ask(Origin="https://evil.example")


async def test_base64_goes_in_and_files_that_are_no_text_come_out(
    server: Server, tmp_path: Path
) -> None:
    async with connected("sdk2", "stdio", url_of(server), tmp_path) as mcp:
        answer = await mcp.call(
            code="open('b.bin', 'wb').write(open('a.bin', 'rb').read() * 2)",
            files_base64={"a.bin": base64.b64encode(b"\xff\x00").decode()},
            collect=["*.bin"],
        )
    (resource,) = (block for block in answer["content"] if block["type"] == "resource")
    assert base64.b64decode(resource["resource"]["blob"]) == b"\xff\x00\xff\x00"


async def test_what_cannot_be_served_is_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pgexec", "mcp"]
    async with started(command, {"PGEXEC_URL": "http://a:b"}, tmp_path) as process:
        _, stderr = await process.communicate()
    assert process.returncode == 1
    assert stderr == b"pgexec: the address 'http://a:b' is wrong: Invalid port: 'b'\n"


async def test_the_end_of_a_client_over_stdio_ends_its_sessions(
    server: Server, tmp_path: Path
) -> None:
    async def sessions() -> list[Any]:
        found: list[Any] = (await server.get("/sessions")).json["sessions"]
        return found

    async def none() -> bool:
        return not await sessions()

    async with connected("sdk2", "stdio", url_of(server), tmp_path) as mcp:
        answer = await mcp.call(
            "run_in_session", code="class P:\n    _repr_png_ = lambda self: b'P'\nP()"
        )
        assert [block["type"] for block in answer["content"]] == ["text", "image"]
        assert len(await sessions()) == 1
    await until(none, "the session has ended", within_s=10)
