"""What the table of routes says of each is what the server does."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from pgexec.http.access import Access
from pgexec.http.routes import PATHS, ROUTES

if TYPE_CHECKING:
    from pgexec.http.routes import Route
    from tests.unit.http.rig import Running, Serve

KEYED = {"/run": Access.KEY, "/status": Access.METRICS, "/metrics": Access.METRICS}
QUIET = {"/ping", "/healthz", "/readyz", "/metrics", "/status"}


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    logged = [one for one in caplog.records if one.name == "pgexec.request"]
    return [(vars(one)["fields"]["path"], one.levelno) for one in logged]


async def test_what_machines_poll_is_logged_at_debug_where_it_succeeds(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pgexec.request")
    polled = [route.path for route in ROUTES if route.method == "GET"]
    for path in polled:
        assert (await server.get(path)).status == 200
    server.service.reason = "the engine is away"
    assert (await server.get("/readyz")).status == 503
    await server.get("/ping")  # the line above follows its answer
    expected = [(path, logging.DEBUG if path in QUIET else logging.INFO) for path in polled]
    assert lines(caplog)[: len(polled) + 1] == [*expected, ("/readyz", logging.INFO)]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
@pytest.mark.parametrize("metrics_open", [True, False])
async def test_a_key_is_asked_for_where_the_table_says_so(
    serve: Serve, route: Route, metrics_open: Any
) -> None:
    server = await serve(api_keys="alice:one", metrics_open=metrics_open)
    assert route.access is KEYED.get(route.path, Access.OPEN)
    asked = route.access is Access.KEY or (route.access is Access.METRICS and not metrics_open)
    assert ((await server.get(route.path, route.method)).status == 401) is asked
    with_one = await server.get(route.path, route.method, Authorization="Bearer one")
    assert with_one.status != 401


async def test_paths_that_nobody_counts_by_name_are_the_page_only() -> None:
    assert {route.path for route in ROUTES} - PATHS == {"/", "/editor.js"}


async def test_without_the_page_its_routes_are_not_there(serve: Serve) -> None:
    server = await serve(page=False)
    missing = {
        route.path for route in ROUTES if (await server.get(route.path, route.method)).status == 404
    }
    assert missing == {"/", "/editor.js"}
