"""Clients of peers work unchanged: the real packages, and requests as Dify sends them."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import sandbox_fusion
import ultra_piston

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.server import Server, StartServer

AIOPYSTON = (
    "aiopyston==1.2.1"
    " --hash=sha256:3d8816a052ee5cc871cc3545a6c871d1517fcc049a2084804c01707bd20b7852\n"
)
"""It comes as sources only, which the lock of this project does not allow."""
PYSTON = """
import asyncio, sys
from pyston import File, PystonClient
from pyston.exceptions import ExecutionError

async def main():
    client = PystonClient("secret", base_url=sys.argv[1])
    print(sorted(await client.languages()), (await client.get_runtimes("py"))[0].language)
    code = File("import sys; print(input(), sys.argv[1:], open('b').read())", "")
    done = await client.execute("py", [code, File("x", "b")], stdin="in", args=["a"])
    print(done.run_stage.stdout, done.run_stage.code, end="")
    try:
        await client.execute("perl", [code])
    except ExecutionError as error:
        print(str(error).partition(",")[0])
    await client.close_session()

asyncio.run(main())
"""
DIFY = {"language": "python3", "preload": "", "enable_network": True}


async def test_clients_of_peers_work_unchanged(start: StartServer) -> None:
    server = await start(COMPAT="piston,sandboxfusion,dify", API_KEYS="alice:secret")
    await asyncio.to_thread(piston_runs, server)
    await dify_runs(server)
    refused = await server.request("POST", "/api/v2/execute", json={})
    assert (refused.status, refused.json) == (401, {"message": "an API key is needed"})
    text = await server.request("POST", "/api/v2/execute", data="{}", headers=key("secret"))
    assert text.status == 415
    assert set(text.json) == {"message"}
    files = await server.request(
        "POST",
        "/api/v2/piston/execute/",
        headers=key("secret"),
        json={
            "language": "py",
            "version": "*",
            "files": [
                {"name": "", "content": "print(open('a').read(), open('b').read())"},
                {"name": "a", "content": "YQ==", "encoding": "base64"},
                {"name": "b", "content": "62", "encoding": "hex"},
            ],
        },
    )
    assert files.json["run"]["stdout"] == "a b\n"


async def test_sandbox_fusion_works_unchanged(start: StartServer) -> None:
    server = await start(COMPAT="sandboxfusion")
    await asyncio.to_thread(fusion_runs, server)
    wrong = await server.request("POST", "/run_code", json={"language": "python"})
    assert (wrong.status, wrong.json["detail"][0]["msg"]) == (422, "code is required as a string")
    assert (await server.get("/api/v2/runtimes")).status == 404


@pytest.fixture
def pyston(tmp_path: Path) -> Path:
    """Build aiopyston in an environment of its own, where there is a way to the package index."""
    (tmp_path / "requirements.txt").write_text(AIOPYSTON)
    environment = tmp_path / "pyston"
    python = environment / "bin/python"
    install = ("install", "-q", "--no-deps", "--require-hashes", "-r", "requirements.txt")
    for command in ((sys.executable, "-m", "venv", environment), (python, "-m", "pip", *install)):
        made = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=200, check=False)
        if made.returncode:
            pytest.skip(f"aiopyston cannot be built here: {made.stderr.decode()[-500:]}")
    return next(environment.glob("lib/*/site-packages"))


async def test_aiopyston_works_unchanged(start: StartServer, pyston: Path) -> None:
    server = await start(COMPAT="piston", API_KEYS="alice:secret")
    (pyston / "try.py").write_text(PYSTON)
    tried = await asyncio.to_thread(
        subprocess.run,
        (sys.executable, pyston / "try.py", f"http://127.0.0.1:{server.port}/api/v2/piston/"),
        env={"PYTHONPATH": os.pathsep.join((str(pyston), *sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert tried.returncode == 0, tried.stderr
    assert tried.stdout == ("['python'] python\nin ['a'] x\n 0perl-* runtime is unknown\n")


def key(text: str) -> dict[str, str]:
    return {"Authorization": text}


def piston_runs(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/api/v2/"
    client = ultra_piston.PistonClient(api_key="secret", base_url=url)
    (runtime,) = client.get_runtimes()
    assert (runtime.language, runtime.aliases) == ("python", ["py", "python3"])

    def run(code: str, **options: Any) -> Any:
        file = ultra_piston.File(content=code)
        return client.post_execute("py", options.pop("version", runtime.version), file, **options)

    done = run("import sys; print(input(), sys.argv[1:])", stdin="in", args=["a"])
    assert (done.run.stdout, done.run.code, done.version) == ("in ['a']\n", 0, runtime.version)
    assert run("while True: pass", run_timeout=200).run.signal == "SIGKILL"
    assert run("raise SystemExit(3)").run.code == 3
    for wrong in ({"version": "2.7.18"}, {"run_timeout": 10**6}):
        with pytest.raises(ultra_piston.errors.BadRequestError):
            run("1", **wrong)


def fusion_runs(server: Server) -> None:
    sandbox_fusion.set_endpoint(f"http://127.0.0.1:{server.port}")

    def run(code: str, **fields: Any) -> Any:
        request = sandbox_fusion.RunCodeRequest(code=code, language="python", **fields)
        return sandbox_fusion.run_code(request, max_attempts=1)

    done = run(
        "print(input(), open('d/in').read()); open('out', 'w').write('x')",
        stdin="a",
        files={"d/in": base64.b64encode(b"b").decode()},
        fetch_files=["out"],
    )
    assert (done.status, done.run_result.stdout, done.run_result.return_code) == (
        "Success",
        "a b\n",
        0,
    )
    assert done.files == {"out": base64.b64encode(b"x").decode()}
    failed = run("1/0")
    assert (failed.status, failed.run_result.status, failed.run_result.return_code) == (
        "Failed",
        "Finished",
        1,
    )
    assert run("while True: pass", run_timeout=0.2).run_result.status == "TimeLimitExceeded"


async def dify_runs(server: Server) -> None:
    async def run(code: str, **changes: Any) -> Any:
        body = {**DIFY, "code": code, **changes}
        headers = {"X-Api-Key": "secret"}
        answer = await server.request("POST", "/v1/sandbox/run", json=body, headers=headers)
        assert answer.status == 200
        return answer.json

    done = await run("print(x)", preload="x = 1")
    assert (done["code"], done["data"]["stdout"], done["data"]["error"]) == (0, "1\n", "")
    assert "ZeroDivisionError" in (await run("1/0"))["data"]["error"]
    assert (await run("1", language="nodejs"))["code"] == -400
