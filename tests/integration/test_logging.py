"""The log file: what is in it, what never is, and when there is none."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.server import StartServer


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_requests_and_errors_are_in_the_file_and_what_users_sent_is_not(
    start: StartServer,
) -> None:
    server = await start(API_KEYS="alice:s3cret-key")
    secret = "k9-marker-of-the-user"
    code = f"import sys; print('{secret}'); print(sys.stdin.read()); 1 / 0"
    ran = await server.run(code, stdin=f"{secret} in stdin", key="s3cret-key")
    assert ran.json["status"] == "error"
    refused = await server.run(secret, key="s3cret-key", language=secret)
    assert refused.status == 400
    unknown = await server.run("pass", key=f"Bearer {secret}")
    assert unknown.status == 401
    await server.request("GET", f"/{'p' * 5000}")
    await server.stop()

    text = (server.directory / "logs.txt").read_text()
    assert secret not in text
    assert "s3cret-key" not in text
    assert "ZeroDivisionError" not in text
    assert "ppp" in text
    log = entries(server.directory / "logs.txt")
    by_id = {entry.get("request_id"): entry for entry in log if entry["event"] == "request"}
    one = by_id[ran.request_id]
    assert (one["method"], one["path"], one["status"]) == ("POST", "/run", 200)
    assert (one["tenant"], one["run_status"], one["source"]) == ("alice", "error", "idle")
    assert one["ms"] >= one["run_ms"] > 0
    assert len(one["container"]) == 12
    assert by_id[refused.request_id]["code"] == "unsupported_language"
    assert by_id[unknown.request_id]["code"] == "unauthorized"
    for entry in log:
        assert {"time", "level", "logger", "event"} <= set(entry)
    assert [log[0]["event"], log[-1]["event"]] == ["listening", "stopped"]
    assert max(map(len, text.splitlines())) < 1000


async def test_the_log_and_the_answer_agree_on_where_the_time_went(
    start: StartServer,
) -> None:
    server = await start()
    answer = await server.run("print(1)")
    entry = await server.logged("request", request_id=answer.request_id)
    assert answer.headers["X-Request-ID"] == answer.request_id
    shown: dict[str, Any] = {}
    for item in answer.headers["Server-Timing"].split(", "):
        name, _, milliseconds = item.partition(";dur=")
        shown[name] = float(milliseconds)
    assert list(shown) == ["queue", "lease", "run", "total"]
    for name in ("queue", "lease", "run"):
        assert shown[name] == entry[f"{name}_ms"]
    assert shown["run"] == round(answer.json["duration_s"] * 1000, 3)
    assert shown["run"] <= shown["lease"] <= shown["total"] <= entry["ms"]


async def test_who_waits_for_a_start_is_told_how_long_that_took(start: StartServer) -> None:
    server = await start(POOL_MIN_IDLE=0, POOL_MAX_CONTAINERS=1)
    answer = await server.run("print(1)")
    entry = await server.logged("request", request_id=answer.request_id)
    assert entry["source"] == "started"
    assert 0 < entry["start_ms"] <= entry["queue_ms"] <= entry["ms"]
    assert f"start;dur={entry['start_ms']:.3f}" in answer.headers["Server-Timing"]
    assert "start;" not in (await server.run("print(1)")).headers["Server-Timing"]


async def test_at_debug_level_what_users_sent_is_still_not_there(start: StartServer) -> None:
    server = await start(LOG_LEVEL="debug")
    await server.output("print('k9-marker')", stdin="k9-marker")
    await server.stop()
    assert "k9-marker" not in (server.directory / "logs.txt").read_text()


async def test_what_goes_wrong_is_logged_with_its_reason(start: StartServer) -> None:
    server = await start(RUNTIME="no-such-runtime", LEASE_TIMEOUT_S=0.3, ready=False)
    refusal = await server.run("pass")
    entry = await server.logged("request", request_id=refusal.request_id)
    assert (entry["status"], entry["code"]) == (503, "engine_unavailable")
    await server.stop()
    warnings = [
        entry["event"]
        for entry in entries(server.directory / "logs.txt")
        if entry["level"] == "warning"
    ]
    assert [one for one in warnings if "no-such-runtime" in one]


async def test_the_file_is_written_where_the_setting_says(
    start: StartServer, tmp_path: Path
) -> None:
    file = tmp_path / "elsewhere.log"
    file.write_text('{"event": "kept"}\n')
    server = await start(LOG_FILE=file)
    await server.works()
    await server.stop()
    assert [entry["event"] for entry in entries(file)][:2] == ["kept", "listening"]
    assert not list(server.directory.glob("*.txt"))


async def test_without_a_file_the_log_goes_to_standard_error_alone(start: StartServer) -> None:
    server = await start(GENERATE_LOG_FILE="false")
    await server.works()
    await server.stop()
    assert [path.name for path in server.directory.iterdir()] == ["stderr"]
    assert [entry for entry in server.log if entry["event"] == "request"]


async def test_above_info_requests_are_not_logged(start: StartServer) -> None:
    server = await start(LOG_LEVEL="warning", PORT=free_port(), listening=False, ready=False)
    server.port = int(server.settings["PORT"])
    await server.responds()
    await server.works()
    await server.stop()
    assert not (server.directory / "logs.txt").read_text()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
