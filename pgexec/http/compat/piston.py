"""Piston's API, version 2: https://github.com/engineer-man/piston/blob/master/docs/api-v2.md."""

from __future__ import annotations

import base64
import binascii
import re
import signal

from pgexec.http.compat.call import (
    Call,
    Json,
    PeerOperation,
    Unfit,
    language_of,
    object_of,
    text_of,
)

ALIASES = {"python": ["py", "python3"]}
_STATUS = {"ok": None, "error": "RE", "timeout": "TO", "cpu_time": "TO", "output_limit": "OL"}
_COMPARISON = re.compile(r"(>=|<=|>|<|=|\^|~)?\s*v?(\d+|[x*])(?:\.(\d+|[x*]))?(?:\.(\d+|[x*]))?")


async def runtimes(call: Call) -> object:
    """List the languages."""
    return [
        {"language": name, "version": await call.version(name), "aliases": ALIASES.get(name, [])}
        for name in call.languages
    ]


async def execute(call: Call) -> object:
    """Run a program."""
    body = object_of(call.body)
    asked, wanted = text_of(body, "language", needed=True), text_of(body, "version", needed=True)
    language = language_of(call, asked)
    version = await call.version(language) if language is not None else ""
    if language is None or not satisfies(version, wanted):
        raise Unfit(f"{asked}-{wanted} runtime is unknown")
    stdin = text_of(body, "stdin")
    fields: Json = {
        "language": language,
        **_program(body.get("files")),
        "stdin": stdin if not stdin or stdin.endswith("\n") else stdin + "\n",
        "args": body.get("args") or [],
    }
    for name, field, most, unit in (
        ("run_timeout", "timeout_s", call.run_timeout_s, 1000),
        ("run_cpu_time", "cpu_time_s", None, 1000),
        ("run_memory_limit", "memory_limit_bytes", call.memory_limit_bytes[language], 1),
    ):
        if (limit := _limit(body, name, most, unit)) is not None:
            fields[field] = limit
    return {"language": language, "version": version, "run": _stage(await call.run(fields))}


def refuse(status: int, code: str, sentence: str) -> tuple[int, object]:  # noqa: ARG001
    """Return Piston's form of an error."""
    return status, {"message": sentence}


def satisfies(version: str, wanted: str) -> bool:
    """Return True if a version is in a range of npm's semver: `*`, `3.x`, `^3.10.0`, `>=3.8 <4`."""
    have = tuple(map(int, version.split(".")))
    return any(
        all(_compare(have, *match.groups()) for match in matches)
        for part in wanted.split("||")
        if (matches := list(_COMPARISON.finditer(part))) and not _COMPARISON.sub("", part).strip()
    )


def _compare(have: tuple[int, ...], sign: str | None, *parts: str | None) -> bool:
    low: list[int] = []
    for part in parts:
        if part is None or not part.isdigit():
            break
        low.append(int(part))
    given, want = have[: len(low)], tuple(low)
    return {
        ">=": have >= want,
        ">": given > want,
        "<=": given <= want,
        "<": have < want,
        "^": have >= want and have[:1] == want[:1],
        "~": have >= want and have[:2] == want[:2],
    }.get(sign or "", given == want)


def _program(files: object) -> Json:
    """Return the code, which is the first file of text, and the other files."""
    if not isinstance(files, list) or not files:
        raise Unfit("files is required as an array")
    code, others = None, []
    for number, file in enumerate(files):
        if not isinstance(file, dict) or not isinstance(file.get("content"), str):
            raise Unfit(f"files[{number}].content is required as a string")
        encoding = file.get("encoding") or "utf8"
        if encoding not in ("utf8", "base64", "hex"):
            raise Unfit(f"files[{number}].encoding must be one of utf8, base64, hex")
        if code is None and encoding == "utf8":
            code = file["content"]
            continue
        content = file["content"]
        if encoding == "hex":
            try:
                encoding, content = "base64", base64.b64encode(bytes.fromhex(content)).decode()
            except (ValueError, binascii.Error):
                raise Unfit(f"files[{number}].content is not hex") from None
        name = file.get("name") or f"file{number}.code"
        others.append({"name": name, "content": content, "encoding": encoding})
    if code is None:
        raise Unfit("files must include at least one utf8 encoded file")
    return {"code": code, "files": others} if others else {"code": code}


def _limit(body: Json, name: str, most: float | None, unit: int) -> float | None:
    """Return a limit in our unit, or `None` if there is none. Raises `Unfit`."""
    value = body.get(name)
    if value is None or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unfit(f"if specified, {name} must be a number")
    if value <= 0:
        raise Unfit(f"{name} must be above 0")
    if most is not None and value / unit > most:
        raise Unfit(f"{name} cannot exceed the configured limit of {most * unit:g}")
    return value / unit if unit != 1 else int(value)


def _stage(result: Json) -> Json:
    status = result["status"]
    killed = "SIGKILL" if status in ("timeout", "cpu_time", "output_limit") else None
    if killed is None and result["signal"] is not None:
        killed = _signal_name(result["signal"])
    return {
        "stdout": result["stdout"],
        "stderr": result["stderr"],
        "output": result["data"],
        "code": None if killed else result["exit_code"],
        "signal": killed,
        "message": result["error"],
        "status": _STATUS.get(status, "SG"),
        "cpu_time": round(result["cpu_s"] * 1000),
        "wall_time": round(result["duration_s"] * 1000),
        "memory": result["peak_memory_bytes"],
    }


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


_FILE: Json = {
    "type": "object",
    "required": ["content"],
    "properties": {
        "name": {"type": ["string", "null"]},
        "content": {"type": "string"},
        "encoding": {"enum": ["utf8", "base64", "hex"]},
    },
}
_BODY: Json = {
    "type": "object",
    "required": ["language", "version", "files"],
    "properties": {
        "language": {"type": "string"},
        "version": {"type": "string", "description": "A range of npm's semver."},
        "files": {"type": "array", "minItems": 1, "items": _FILE},
        "stdin": {"type": "string"},
        "args": {"type": "array", "items": {"type": "string"}},
        "run_timeout": {"type": "number", "description": "In milliseconds; -1 for none."},
        "run_cpu_time": {"type": "number", "description": "In milliseconds; -1 for none."},
        "run_memory_limit": {"type": "number", "description": "In bytes; -1 for none."},
    },
}
OPERATIONS = tuple(
    operation
    for prefix in ("/api/v2", "/api/v2/piston")
    for end in ("", "/")
    for operation in (
        PeerOperation("GET", f"{prefix}/runtimes{end}", "Piston: the languages", runtimes),
        PeerOperation("POST", f"{prefix}/execute{end}", "Piston: run a program", execute, _BODY),
    )
)
