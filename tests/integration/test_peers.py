"""Clients of peers work unchanged: the real packages, and requests as Dify sends them."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import pytest
import sandbox_fusion
import ultra_piston

if TYPE_CHECKING:
    from tests.integration.server import Server, StartServer

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
