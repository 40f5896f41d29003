"""The sandbox of Dify: https://github.com/langgenius/dify-sandbox, as Dify's own code calls it."""

from __future__ import annotations

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


async def run(call: Call) -> object:
    """Run a snippet. The server's settings say if it has a network, not `enable_network`."""
    body = object_of(call.body)
    asked = text_of(body, "language", needed=True)
    language = language_of(call, asked)
    if language is None:
        raise Unfit("unsupported language")
    code, preload = text_of(body, "code", needed=True), text_of(body, "preload")
    result = await call.run(
        {"language": language, "code": f"{preload}\n{code}" if preload else code}
    )
    error = result["error"]
    data = {
        "stdout": result["stdout"],
        "stderr": result["stderr"],
        "error": "" if error is None else result["stderr"] or error,
        "exit_code": result["exit_code"],
    }
    return _success(data)


async def dependencies(_call: Call) -> object:
    """List the packages that snippets have without asking: those of the image, which has none."""
    return _success({"dependencies": []})


async def health(_call: Call) -> object:
    """Say that the server is there."""
    return "ok"


def refuse(status: int, code: str, sentence: str) -> tuple[int, object]:  # noqa: ARG001
    """Return the sandbox's form of an error: a wrong request is a 200 with a code below 0."""
    document = {"code": -status, "message": sentence, "data": None}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return HTTPStatus.SERVICE_UNAVAILABLE, document
    wrong = status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.UNAUTHORIZED
    return HTTPStatus.OK if wrong else status, document


def _success(data: Json) -> Json:
    return {"code": 0, "message": "success", "data": data}


_BODY: Json = {
    "type": "object",
    "required": ["language", "code"],
    "properties": {
        "language": {"type": "string"},
        "code": {"type": "string"},
        "preload": {"type": "string", "description": "Code that runs before it."},
        "enable_network": {"type": "boolean", "description": "Has no effect."},
    },
}
OPERATIONS = (
    PeerOperation("POST", "/v1/sandbox/run", "Dify: run a snippet", run, _BODY),
    PeerOperation("GET", "/v1/sandbox/dependencies", "Dify: packages", dependencies),
    PeerOperation("GET", "/health", "Dify: live", health, open=True),
)
