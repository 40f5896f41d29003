"""The peers' APIs of `PGEXEC_COMPAT` as routes: access, body and errors around a translation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from aiohttp import web
from pydantic_core import to_json

from pgexec.http.access import check_host, tenant_of_key
from pgexec.http.answers import LONG_BYTES
from pgexec.http.body import SMALL_BYTES, check_json, cut, read_body
from pgexec.http.compat import dify, piston, sandboxfusion
from pgexec.http.compat.call import Call, Unfit
from pgexec.http.delivery import deliver, joined
from pgexec.http.errors import JSON_HEADERS, RequestError
from pgexec.http.excerpt import parse_json
from pgexec.http.record import RECORD
from pgexec.http.refusals import BAD
from pgexec.http.texts import json_value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from pgexec.http.compat.call import Json, Peer, PeerOperation
    from pgexec.http.openapi import Described
    from pgexec.http.routes import Context

    Expect = Callable[[web.Request], Awaitable[None]]
    Run = Callable[[web.Request, bytearray], Awaitable[bytearray]]

PEERS: dict[str, Peer] = {
    "dify": cast("Peer", dify),
    "piston": cast("Peer", piston),
    "sandboxfusion": cast("Peer", sandboxfusion),
}
VERSION = "import sys; print(*sys.version_info[:3], sep='.', end='')"


@dataclass(frozen=True, slots=True)
class PeerDescription:
    """An operation of a peer in the OpenAPI document."""

    operation: PeerOperation

    def document(self, *, keyed: bool) -> Json:
        """Return the operation object; see `RouteDescription`."""
        answers = {"200": "The peer's answer.", "default": "An error in the peer's form."}
        content: Json = {"application/json": {"schema": {}}}
        document: Json = {
            "summary": self.operation.summary,
            "responses": {
                status: {"description": text, "content": content}
                for status, text in answers.items()
            },
        }
        if keyed:
            document["security"] = [{"key": []}]
        if self.operation.fields is not None:
            schema = {"application/json": {"schema": self.operation.fields}}
            document["requestBody"] = {"required": True, "content": schema}
        return document


def operations(names: tuple[str, ...]) -> Iterator[tuple[Peer, PeerOperation]]:
    """Yield the operations of the peers that are named."""
    for name in dict.fromkeys(names):
        for operation in PEERS[name].OPERATIONS:
            yield PEERS[name], operation


def describe_peers(
    names: tuple[str, ...], *, keys: bool
) -> Sequence[tuple[str, str, Described, bool]]:
    """Return the operations of the peers for `describe_api`."""
    return [
        (operation.method, operation.path, PeerDescription(operation), keys and not operation.open)
        for _, operation in operations(names)
    ]


def add_peers(app: web.Application, context: Context, run: Run, expect: Expect) -> None:
    """Add the routes of the peers that the settings name.

    `run` runs the snippet in a body of `/run`, `expect` answers the header `Expect`.
    """
    versions: dict[str, str] = {}
    for peer, operation in operations(context.settings.compat):
        route = PeerRoute(peer, operation, context, run, versions)
        app.router.add_route(operation.method, operation.path, route.handle, expect_handler=expect)


@dataclass(frozen=True, slots=True)
class PeerRoute:
    """The handler of one operation of a peer; `versions` is shared and has those asked for."""

    peer: Peer
    operation: PeerOperation
    context: Context
    run: Run
    versions: dict[str, str]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer in the peer's form, whatever happens."""
        try:
            parts = await json_value(await self._answer(request))
        except Exception as error:  # noqa: BLE001  # whatever it is, the client gets its form
            told = RequestError(BAD, "invalid_field", str(error))
            problem = request[RECORD].fail(told if isinstance(error, Unfit) else error)
            status, document = self.peer.refuse(problem.status, problem.code, problem.sentence)
            headers = {**JSON_HEADERS, **problem.headers}
            response = web.Response(status=status, body=to_json(document), headers=headers)
            if not request.content.is_eof():
                response.force_close()  # the next bytes may not be a request
            return response
        if sum(map(len, parts)) > LONG_BYTES:  # nobody who takes nothing of it holds it for free
            return await deliver(request, parts, self.context.answers)
        return web.Response(body=await joined(parts), headers=JSON_HEADERS)

    async def _answer(self, request: web.Request) -> object:
        record, settings = request[RECORD], self.context.settings
        if settings.api_keys and not self.operation.open:
            record.tenant = tenant_of_key(request, settings.api_keys)
        # A page's own GET has no Origin, even where its site points its name here.
        telling = self.operation.fields is None and not self.operation.open
        if telling or "Origin" in request.headers:
            check_host(request, settings)
        with self.context.bodies.hold(record.tenant) as held:
            body: object = None
            if self.operation.fields is not None:
                check_json(request)
                sent = await read_body(
                    request, settings.body_limit, settings.request_timeout_s, held
                )
                if len(sent) > SMALL_BYTES and cut(sent) is not None:
                    raise Unfit("the body has more values than a request can have")
                body = await parse_json(sent)
            return await self.operation.answer(self._call(request, body))

    def _call(self, request: web.Request, body: object) -> Call:
        async def run(fields: Json) -> Json:
            answer = await self.run(request, await joined(await json_value(fields)))
            return cast("Json", await parse_json(answer))

        async def version(language: str) -> str:
            if language not in self.versions:
                told = await run({"language": language, "code": VERSION})
                if told["status"] != "ok":
                    sentence = f"the version of {language} is not known yet: {told['error']}"
                    raise RequestError(503, "version_unknown", sentence, Retry_After="1")
                self.versions[language] = str(told["stdout"])
            return self.versions[language]

        limits = self.context.limits_of
        return Call(
            body=body,
            run=run,
            version=version,
            languages=self.context.limits.languages,
            run_timeout_s=self.context.settings.run_timeout_s,
            memory_limit_bytes={name: limits[name].memory_limit_bytes for name in limits},
        )
