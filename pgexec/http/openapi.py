"""The HTTP contract as an OpenAPI 3.1 document, made from the models that validate requests."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import to_json

from pgexec.contract import (
    MAX_REQUIREMENT_CHARS,
    MAX_USER_CHARS,
    BatchEnd,
    BatchRefusal,
    BatchResult,
    BatchRunResult,
    CollectedFile,
    InstallerLine,
    OutputText,
    QueuePlace,
    Refusal,
    RunRequest,
    RunResult,
    StreamRefusal,
)
from pgexec.http.errors import COME_BACK, MAX_LINE_BYTES
from pgexec.http.limits import MIN_TIMEOUT_S
from pgexec.http.parsing import ALIASES
from pgexec.http.record import NAME_HEADER
from pgexec.http.sse import EVENT_STREAM
from pgexec.http.surroundings import VARIABLE
from pgexec.server_state import ServerStatus
from pgexec.session_contract import (
    CELL_FIELDS,
    SESSION_FIELDS,
    CellRequest,
    CellResult,
    OpenedSession,
    OpenRequest,
    RichForm,
    SessionState,
    SessionStates,
)
from pgexec.telemetry.metrics import version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel

    from pgexec.http.limits import RequestLimits

Json = dict[str, Any]

_REF = "#/components/schemas/{model}"
_MODELS = (
    RunRequest,
    RunResult,
    Refusal,
    StreamRefusal,
    QueuePlace,
    InstallerLine,
    OutputText,
    CollectedFile,
    ServerStatus,
    BatchResult,
    BatchEnd,
    BatchRunResult,
    BatchRefusal,
    OpenRequest,
    OpenedSession,
    SessionState,
    SessionStates,
    CellRequest,
    CellResult,
    RichForm,
)
_EVENTS: dict[str, tuple[type[BaseModel], ...]] = {
    "queue": (QueuePlace,),
    "install": (InstallerLine,),
    "stdout": (OutputText,),
    "stderr": (OutputText,),
    "file": (CollectedFile,),
    "result": (RunResult, BatchRunResult, BatchRefusal),
    "end": (BatchEnd,),
    "error": (StreamRefusal,),
}
_NO_NUL = r"^[^\x00]*$"
_STREAM = (
    "With Accept: text/event-stream, each event; the last one is result or error. With stdins, "
    "there is a result for each, as it comes, and the last one is end or error."
)

_REFUSALS = {
    400: "The request is wrong: JSON, a field, or HTTP itself.",
    401: "There is no valid API key.",
    403: "The API key is none that may name a user.",
    404: "There is no such session, or it is another tenant's.",
    408: "The request did not arrive in time.",
    409: "A cell runs in the session already.",
    410: "The session has ended; the reason says why.",
    413: "The body, the code or the stdin is too large.",
    414: f"The request line is over {MAX_LINE_BYTES} bytes.",
    415: "The body is not JSON in UTF-8.",
    417: "The only expectation that can be met is 100-continue.",
    421: "The Host is no address, nor a name of the server's; only without API keys.",
    422: "The dependencies cannot be installed; the installer's last lines say why.",
    429: "The tenant has as many runs in progress or waiting, and sessions, as it may have.",
    431: "The headers are too large or too many.",
    500: "A bug; the log knows more under the request's id.",
    502: "The snippet had begun, or may have, and was lost: its container, the engine or a drain.",
    503: "Nothing ran: pool or server have as much as they may, are draining, or have no engine.",
}
_ANYWHERE = (400, 408, 414, 417, 431, 500)
"""Any request may get one of these, by HTTP itself or by a bug."""
_HEADERS = {
    "X-Request-ID": "The client's own id if it sent one that is fit, else one that was made up.",
    "Server-Timing": "Where the time went: queue, install, start, lease, run, total.",
    NAME_HEADER: "The server's name, where PGEXEC_SERVER_NAME gives it one.",
    "Retry-After": "In how many seconds to come back.",
    "WWW-Authenticate": "How to authenticate.",
}


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002
        """Leave out the titles, which only repeat the names."""
        return False


class Described(Protocol):
    """A route that can describe itself."""

    def document(self, *, keyed: bool) -> Json:
        """Return the operation object; `keyed` is true if the route needs an API key."""
        ...


@dataclass(frozen=True, slots=True)
class RouteDescription:
    """The purpose of a route, its answer of status 200, its refusals, and its request's body.

    `status` is that of an answer in place of 200. `refusals` need not have 401 and the statuses of
    `_ANYWHERE`.
    """

    summary: str
    answer: Json
    refusals: tuple[int, ...] = ()
    body: Json | None = None
    status: int = 200
    parameters: tuple[Json, ...] = ()

    def document(self, *, keyed: bool) -> Json:
        """Return the operation object; `keyed` is true if the route needs an API key."""
        refusals = {*_ANYWHERE, *self.refusals}
        if keyed:
            # A server with keys refuses no host name; see `check_host`.
            refusals = refusals - {HTTPStatus.MISDIRECTED_REQUEST} | {HTTPStatus.UNAUTHORIZED}
        others = {
            str(int(status)): {"$ref": f"#/components/responses/{int(status)}"}
            for status in sorted(refusals)
        }
        answers = {str(self.status): self.answer} | others
        operation: Json = {"summary": self.summary, "responses": answers}
        if self.parameters:
            operation["parameters"] = list(self.parameters)
        if keyed:
            operation["security"] = [{"key": []}]
        if self.body is not None:
            operation["requestBody"] = self.body
        return operation


def describe_api(
    operations: Iterable[tuple[str, str, Described, bool]], limits: RequestLimits
) -> bytes:
    """Return the document. An operation is a method, a path, its route, and if it needs a key."""
    paths: dict[str, Json] = {}
    keyed_at_all = False
    for method, path, operation, keyed in operations:
        paths.setdefault(path, {})[method.lower()] = operation.document(keyed=keyed)
        keyed_at_all |= keyed
    document: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "pgexec",
            "version": version(),
            "description": "Runs code snippets in containers that are already warm.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(limits),
            "responses": {str(status): _refusal(status) for status in _REFUSALS},
            "headers": {name: _header(name) for name in _HEADERS},
        },
    }
    if keyed_at_all:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return to_json(document)


def _schemas(limits: RequestLimits) -> Json:
    """Return the models' schemas, with the further conditions of `parse_run`."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in _MODELS],
        ref_template=_REF,
        schema_generator=_Untitled,
    )
    schemas: Json = definitions["$defs"]
    for model in ("RunRequest", "OpenRequest", "CellRequest"):
        _limit(schemas[model]["properties"], limits)
    for model, kept in (("OpenRequest", SESSION_FIELDS), ("CellRequest", CELL_FIELDS)):
        fields = schemas[model]["properties"]
        schemas[model]["properties"] = {name: fields[name] for name in fields if name in kept}
    number, _ = schemas["OpenRequest"]["properties"]["idle_timeout_s"]["anyOf"]
    number |= {"minimum": MIN_TIMEOUT_S, "maximum": limits.session_idle_s}
    schemas["GivenFile"]["properties"]["name"] |= {"minLength": 1, "pattern": _NO_NUL}
    return schemas


def _limit(fields: Json, limits: RequestLimits) -> None:
    """Add the server's limits to the fields of a request."""
    fields["language"]["enum"] = list(dict.fromkeys((*limits.languages, *ALIASES)))
    fields["code"] |= {
        "minLength": 1,
        "maxLength": limits.code_limit_bytes,
        "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$",
    }
    fields["stdin"]["maxLength"] = limits.stdin_limit_bytes
    texts, _ = fields["stdins"]["anyOf"]
    texts |= {"minItems": 1, "maxItems": limits.batch_max}
    texts["items"]["maxLength"] = limits.stdin_limit_bytes
    fields["dependencies"]["items"] |= {
        "maxLength": MAX_REQUIREMENT_CHARS,
        "pattern": r"^ *[A-Za-z0-9][ -~]*$",
    }
    number, _ = fields["timeout_s"]["anyOf"]
    number |= {"minimum": MIN_TIMEOUT_S, "maximum": limits.run_timeout_s}
    number, _ = fields["cpu_time_s"]["anyOf"]
    number["minimum"] = MIN_TIMEOUT_S
    fields["args"]["items"]["pattern"] = fields["env"]["additionalProperties"]["pattern"] = _NO_NUL
    fields["env"]["propertyNames"] = {"pattern": f"^{VARIABLE.pattern}$"}
    fields["memory_limit_bytes"]["anyOf"][0]["minimum"] = 1
    fields["files"]["maxItems"] = limits.files_max
    whole, _ = fields["output_limit_bytes"]["anyOf"]
    whole |= {"minimum": 1, "maximum": limits.output_limit_bytes}
    if limits.users:
        text, _ = fields["user"]["anyOf"]
        text |= {"minLength": 1, "maxLength": MAX_USER_CHARS, "pattern": "^[ -~]+$"}
    else:
        del fields["user"]  # no key may send it


def _ran(schema: Json, *results: type[BaseModel]) -> Json:
    # OpenAPI 3.2 has itemSchema for this. Before it, `schema` describes each event.
    models = _EVENTS | {"result": results}
    events = {"description": _STREAM, "oneOf": [_event(*event) for event in models.items()]}
    content = {
        "application/json": {"schema": schema},
        EVENT_STREAM: {"schema": events},
    }
    return _response("The snippet ran, whatever it did.", content)


def _event(name: str, models: tuple[type[BaseModel], ...]) -> Json:
    first, *others = map(reference, models)
    data = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"anyOf": [first, *others]} if others else first,
    }
    return {
        "type": "object",
        "properties": {"event": {"const": name}, "data": data},
        "required": ["event", "data"],
    }


def _refusal(status: int) -> Json:
    response = json_answer(_REFUSALS[status], reference(Refusal))
    if status in COME_BACK:
        response["headers"] |= _headers("Retry-After")
    if status == HTTPStatus.UNAUTHORIZED:
        response["headers"] |= _headers("WWW-Authenticate")
    return response


def _response(description: str, content: Json) -> Json:
    headers = _headers("X-Request-ID", "Server-Timing", NAME_HEADER)
    return {"description": description, "headers": headers, "content": content}


def json_answer(description: str, schema: Json) -> Json:
    """Return a response object of JSON."""
    return _response(description, {"application/json": {"schema": schema}})


def text_answer(description: str) -> Json:
    """Return a response object of plain text."""
    return _response(description, {"text/plain": {"schema": {"type": "string"}}})


def constant(**fields: str) -> Json:
    """Return the schema of an object that is always the same."""
    return {
        "type": "object",
        "properties": {name: {"const": value} for name, value in fields.items()},
        "required": list(fields),
        "additionalProperties": False,
    }


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _header(name: str) -> Json:
    schema = {"type": "integer", "minimum": 1} if name == "Retry-After" else {"type": "string"}
    return {"description": _HEADERS[name], "required": name != NAME_HEADER, "schema": schema}


def reference(model: type[BaseModel]) -> Json:
    """Return a reference to the schema of a model, which must be one of `_MODELS`."""
    return {"$ref": _REF.format(model=model.__name__)}


def body_of(model: type[BaseModel], example: Json) -> Json:
    """Return a request's body: a model, which must be one of `_MODELS`."""
    content = {"schema": reference(model), "example": example}
    return {"required": True, "content": {"application/json": content}}


def path_parameter(name: str, description: str) -> Json:
    """Return a parameter in the path."""
    schema = {"type": "string"}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": schema,
    }


def query_parameter(name: str, value: str, description: str) -> Json:
    """Return a parameter behind the path that may have one value, or be left out."""
    schema = {"type": "string", "enum": [value]}
    return {"name": name, "in": "query", "description": description, "schema": schema}


def no_content(description: str) -> Json:
    """Return an answer without a body."""
    response = _response(description, {})
    del response["content"]
    return response


RUN_ANSWER = _ran({"anyOf": [reference(RunResult), reference(BatchResult)]}, *_EVENTS["result"])
CELL_ANSWER = _ran(reference(CellResult), CellResult)
RUN_BODY = body_of(RunRequest, {"language": "python", "code": "print('Hello from pgexec!')"})
