"""SandboxFusion's `/run_code`: https://bytedance.github.io/SandboxFusion/docs/api/run-code-run-code-post."""

from __future__ import annotations

import base64
import re
from http import HTTPStatus

from pgexec.http.compat.call import (
    Call,
    Json,
    PeerOperation,
    Unfit,
    language_of,
    object_of,
    text_of,
)
from pool.turns import turn

MIB = 1 << 20
_PIECE_BYTES = 24 << 10
"""Of a file that becomes base64 at once; three bytes become four characters."""
_WILD = re.compile(r"[*?\[]")
"""A path that is fetched has no wildcards; a pattern of ours has these."""
_TIME_LIMITS = frozenset({"timeout", "cpu_time"})


async def run_code(call: Call) -> object:
    """Run a program.

    Its limits are wishes there, which a trainer sends without knowing the server: above the
    server's own, these hold.
    """
    body = object_of(call.body)
    asked = text_of(body, "language", needed=True)
    language = language_of(call, asked)
    if language is None:
        raise Unfit(f"language {asked!r} is not supported, only {', '.join(call.languages)}")
    fields: Json = {
        "language": language,
        "code": text_of(body, "code", needed=True),
        "stdin": text_of(body, "stdin"),
        "timeout_s": min(_number(body, "run_timeout", 10), call.run_timeout_s),
    }
    memory = _number(body, "memory_limit_MB", -1)
    if 0 < memory * MIB < call.memory_limit_bytes[language]:
        fields["memory_limit_bytes"] = int(memory * MIB)
    files, fetch = body.get("files") or {}, body.get("fetch_files") or []
    if not isinstance(files, dict) or not isinstance(fetch, list):
        raise Unfit("files must be an object, and fetch_files a list")
    given = {name.removeprefix("./"): content for name, content in files.items() if content}
    if given:
        fields["files"] = [
            {"name": name, "content": content, "encoding": "base64"}
            for name, content in given.items()
        ]
    if fetch:
        fields["collect"] = [_WILD.sub(r"[\g<0>]", str(name).removeprefix("./")) for name in fetch]
    result = await call.run(fields)
    return {
        "status": "Success" if result["status"] == "ok" else "Failed",
        "message": result["error"] or "",
        "compile_result": None,
        "run_result": _run_result(result),
        "executor_pod_name": None,
        "files": {file["name"]: await _base64(file) for file in result.get("files", ())},
    }


def refuse(status: int, code: str, sentence: str) -> tuple[int, object]:
    """Return SandboxFusion's form of an error, which is FastAPI's.

    Trainers try again after a 504 and nothing else, so that this stands for what did not run.
    """
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        return HTTPStatus.GATEWAY_TIMEOUT, {"detail": sentence}
    if status == HTTPStatus.BAD_REQUEST:
        found = {"loc": ["body"], "msg": sentence, "type": code}
        return HTTPStatus.UNPROCESSABLE_ENTITY, {"detail": [found]}
    return status, {"detail": sentence}


def _run_result(result: Json) -> Json:
    late = result["status"] in _TIME_LIMITS
    code = result["exit_code"]
    if code is None and result["signal"] is not None:
        code = -result["signal"]
    return {
        "status": "TimeLimitExceeded" if late else "Finished",
        "execution_time": result["duration_s"],
        "return_code": None if late else code,
        "stdout": result["stdout"],
        "stderr": result["stderr"],
    }


def _number(body: Json, name: str, default: float) -> float:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unfit(f"{name} must be a number")
    return value


async def _base64(file: Json) -> str:
    content = str(file.get("content") or "")
    if file.get("encoding") == "base64":
        return content
    data, parts = content.encode(), list[bytes]()
    for start in range(0, len(data), _PIECE_BYTES):
        if start:
            await turn()
        parts.append(base64.b64encode(data[start : start + _PIECE_BYTES]))
    return b"".join(parts).decode()


_BODY: Json = {
    "type": "object",
    "required": ["code", "language"],
    "properties": {
        "code": {"type": "string"},
        "language": {"type": "string"},
        "stdin": {"type": ["string", "null"]},
        "run_timeout": {"type": "number", "description": "In seconds, the server's at most."},
        "memory_limit_MB": {"type": "number", "description": "The server's at most; -1 for none."},
        "files": {"type": "object", "description": "Contents in base64 by path."},
        "fetch_files": {"type": "array", "items": {"type": "string"}},
    },
}
OPERATIONS = (PeerOperation("POST", "/run_code", "SandboxFusion: run a program", run_code, _BODY),)
