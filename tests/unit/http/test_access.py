"""No site that somebody visits gets to run code on a server that the visitor's browser reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgexec.http.routes import ROUTES

if TYPE_CHECKING:
    from tests.unit.http.rig import Running, Serve

CODE = {"language": "python", "code": "x"}
OURS = ["localhost:8080", "127.0.0.1", "192.0.2.7:80", "[::1]:8080", "box:9000", "a.localhost"]
STRANGE = ["evil.example", "127.0.0.1.evil.example:8080", "localhost.evil.example", "1.2.3", ""]
TELLING = ["/", "/status", "/metrics", "/readyz", "/openapi.json"]


async def test_a_strange_site_cannot_become_the_servers_origin_by_its_name(
    serve: Serve,
) -> None:
    server = await serve(browser_hosts="run.example.com")
    for host in [*OURS, "run.example.com", "RUN.example.com:8443"]:
        for path in TELLING:
            assert (await server.get(path, Host=host)).status == 200, (path, host)
        ran = await server.post(CODE, Host=host, Origin=f"http://{host}")
        assert ran.status == 200, host
    ran_so_far = len(server.service.requests)
    for host in STRANGE:
        for path in TELLING:
            answer = await server.get(path, Host=host)
            assert (answer.status, answer.json["code"]) == (421, "unknown_host"), host
        answer = await server.post(CODE, Host=host, Origin=f"http://{host}")
        assert (answer.status, answer.json["code"]) == (421, "unknown_host"), host
    assert len(server.service.requests) == ran_so_far


async def test_a_scraper_that_comes_by_a_strange_name_reads_what_to_set(server: Running) -> None:
    scrape = {"Host": "pgexec.prod.svc:8080", "User-Agent": "Prometheus/3.0"}
    answer = await server.get("/metrics", **scrape)
    assert answer.status == 421
    assert "'pgexec.prod.svc:8080'" in answer.json["error"]
    assert "PGEXEC_BROWSER_HOSTS" in answer.json["error"]


async def test_a_health_check_of_http_1_0_needs_no_host(server: Running) -> None:
    assert (await server.raw(b"GET /readyz HTTP/1.0\r\n\r\n")).status == 200


async def test_every_route_that_tells_of_the_server_is_held_to_its_names(serve: Serve) -> None:
    server = await serve()
    open_to_all = {
        route.path
        for route in ROUTES
        if (await server.get(route.path, route.method, Host="evil.example")).status != 421
    }
    assert open_to_all == {"/run", "/ping", "/healthz"}


async def test_clients_that_are_no_browsers_may_use_any_name(server: Running) -> None:
    assert (await server.post(CODE, Host="evil.example")).status == 200


async def test_with_keys_any_name_will_do(serve: Serve) -> None:
    server = await serve(api_keys="alice:one")
    key = {"Authorization": "Bearer one", "Host": "run.example.com"}
    for path in TELLING:
        assert (await server.get(path, **key)).status == 200, path
    assert (await server.post(CODE, Origin="http://run.example.com", **key)).status == 200


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""],
)
async def test_what_browsers_send_anywhere_unasked_is_no_run(
    server: Running, content_type: str
) -> None:
    answer = await server.post(
        CODE, **{"Content-Type": content_type, "Origin": "http://evil.example"}
    )
    assert answer.status == 415
    assert not server.service.requests


async def test_other_origins_get_no_leave_to_send_json_or_to_read(server: Running) -> None:
    preflight = {
        "Origin": "http://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
        "Access-Control-Request-Private-Network": "true",
    }
    answers = [
        await server.get("/run", "OPTIONS", **preflight),
        await server.get("/status", Origin="http://evil.example"),
        await server.get("/", Origin="http://evil.example"),
    ]
    assert answers[0].status == 405
    for answer in answers:
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
