"""What both clients send and understand: the body of a request, and errors; no I/O.

A refusal that says that nothing ran may be sent again. What may have run is never sent again by
itself.
"""

from __future__ import annotations

import base64
import json
import os
import random
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from urllib.parse import quote

import httpx

from pgexec.client.batch import CompletedBatch
from pgexec.client.errors import PgexecError, RunLost, RunRefused
from pgexec.client.result import CompletedRun

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_URL = "http://localhost:8080"
CONNECT_S = 10.0
ANSWER_WITHIN_S = 600.0
"""The server is silent while a run waits, installs and runs: of this, `timeout_s` comes on top."""
RETRY_WITHIN_S = 30.0
STREAM = {"Accept": "text/event-stream"}
JITTER = 0.25
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)
_NOTHING_RAN = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


class CellOptions(TypedDict, total=False):
    """The options of a run in a session; see `RunOptions`."""

    stdin: str
    timeout_s: float
    args: Sequence[str]
    env: Mapping[str, str]
    files: Mapping[str, str | bytes | Path]
    collect: Sequence[str]
    memory_limit_bytes: int
    cpu_time_s: float
    output_limit_bytes: int
    user: str


class RunOptions(CellOptions, total=False):
    """The options of a run; see `POST /run` in the README.

    `files` are contents by name: text, bytes, or the `Path` of a file here.
    """

    language: str
    dependencies: Sequence[str]
    fresh: bool


class SessionOptions(TypedDict, total=False):
    """The options of a session; see `RunOptions`.

    `idle_timeout_s`: the session ends when it was idle for so many seconds, if not before.
    """

    language: str
    dependencies: Sequence[str]
    env: Mapping[str, str]
    files: Mapping[str, str | bytes | Path]
    idle_timeout_s: float
    user: str


class BatchOptions(RunOptions, total=False):
    """The options of a run with many inputs: `stdin` is not one of them."""

    expected: Sequence[str]
    compare: Literal["exact", "ignore_trailing_space"]
    stop_on: Literal["first_failure"]


def body_of(code: str, options: RunOptions, stdins: Sequence[str] | None = None) -> bytes:
    """Return the JSON body of a request. Raises `OSError` for a file that cannot be read."""
    return _body({"language": "python", "code": code, "stdins": stdins, **options})


def cell_body_of(code: str, options: CellOptions) -> bytes:
    """Return the JSON body of a run in a session. Raises as `body_of` does."""
    return _body({"code": code, **options})


def session_body_of(options: SessionOptions) -> bytes:
    """Return the JSON body of a request for a session. Raises as `body_of` does."""
    return _body({"language": "python", **options})


def session_path(session_id: str) -> str:
    """Return the path of a session, whose id may be any text."""
    return f"/sessions/{quote(session_id, safe='')}"


def _body(given: Mapping[str, Any]) -> bytes:
    fields = {name: value for name, value in given.items() if value is not None}
    if "files" in fields:
        fields["files"] = [_file(*item) for item in fields["files"].items()]
    for name in ("dependencies", "args", "collect", "stdins", "expected"):
        if name in fields:
            fields[name] = list(fields[name])
    return json.dumps(fields).encode()


def _file(name: str, content: str | bytes | Path) -> dict[str, str]:
    if isinstance(content, str):
        return {"name": name, "content": content, "encoding": "utf8"}
    data = content.read_bytes() if isinstance(content, Path) else content
    return {"name": name, "content": base64.b64encode(data).decode(), "encoding": "base64"}


def http_options(url: str | None, key: str | None) -> dict[str, Any]:
    """Return the arguments of an httpx client.

    The environment has the defaults, `PGEXEC_URL` and `PGEXEC_API_KEY`. Raises `RunRefused` for a
    URL or a key that is none.
    """
    url = url or os.environ.get("PGEXEC_URL") or DEFAULT_URL
    key = os.environ.get("PGEXEC_API_KEY", "") if key is None else key
    headers = {"Content-Type": "application/json"}
    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        raise RunRefused(f"the address {url!r} is wrong: {error}", code="unreachable") from error
    if not (key.isascii() and key.isprintable()):
        raise RunRefused("an API key has printable ASCII only", code="unauthorized")
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return {
        "base_url": url,
        "headers": headers,
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=100),
    }


def timeout_of(options: CellOptions, answer_within_s: float, runs: int = 1) -> httpx.Timeout:
    """Return the timeouts of a request."""
    read_s = answer_within_s + (options.get("timeout_s") or 0) * runs
    return httpx.Timeout(CONNECT_S, read=read_s, write=answer_within_s, pool=None)


def result_of(response: httpx.Response) -> CompletedRun:
    """Return the result in an answer that has been read. Raises `PgexecError`."""
    return CompletedRun.of(_document_of(response))


def batch_of(response: httpx.Response) -> CompletedBatch:
    """Return the results of many inputs in an answer. Raises `PgexecError`."""
    return CompletedBatch.of(_document_of(response))


def session_id_of(response: httpx.Response) -> str:
    """Return the id in the answer to a request for a session. Raises `PgexecError`."""
    return str(_document_of(response, HTTPStatus.CREATED)["id"])


def check_ended(response: httpx.Response) -> None:
    """Raise `PgexecError` unless an answer says that a session has been ended."""
    if response.status_code != HTTPStatus.NO_CONTENT:
        _document_of(response)


def _document_of(response: httpx.Response, status: int = HTTPStatus.OK) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError:
        document = None
    if response.status_code == status and isinstance(document, dict):
        return document
    after = response.headers.get("Retry-After", "")
    raise failure(response.status_code, document, int(after) if after.isdecimal() else 0)


def failure(status: int, document: object, retry_after_s: int = 0) -> PgexecError:
    """Return the error that an answer stands for; of a proxy's answer, only the status is known."""
    fields = document if isinstance(document, dict) else {}
    sentence = str(fields.get("error") or f"the server answered with the status {status}")
    code = str(fields.get("code") or f"http_{status}")
    runs_once = status < HTTPStatus.INTERNAL_SERVER_ERROR or status in _NOTHING_RAN
    kind = RunRefused if runs_once and status != HTTPStatus.OK else RunLost
    return kind(sentence, code=code, status=status, retry_after_s=retry_after_s)


def transport_failure(error: httpx.HTTPError) -> PgexecError:
    """Return the error for a connection that could not be made, or broke, or fell silent."""
    reason = str(error) or type(error).__name__
    if isinstance(error, _NEVER_SENT):
        return RunRefused(f"the server cannot be reached: {reason}", code="unreachable")
    return RunLost(f"the connection was cut, and the snippet may have run: {reason}", code="cut")


class Patience:
    """How long a refused request is tried again: within `within_s` seconds from now."""

    def __init__(self, within_s: float) -> None:
        self._until = time.monotonic() + within_s

    def wait_s(self, refusal: RunRefused) -> float:
        """Return the seconds to wait before the next try, or raise the refusal itself.

        They are what the server said and up to a quarter more, or else all that it refused at once
        would come back at once.
        """
        wait_s = refusal.retry_after_s * (1 + JITTER * random.random())  # noqa: S311  # no secret
        again = refusal.status in _NOTHING_RAN and refusal.retry_after_s > 0
        if not again or time.monotonic() + wait_s > self._until:
            raise refusal
        return wait_s
