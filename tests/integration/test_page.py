"""The page in a real browser, from a real server with real containers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

from aiohttp import web

from tests.browser import REBOUND
from tests.integration.server import GATE
from tests.integration.visitor import OUTPUT, browser, run, visit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.browser import Browser
    from tests.integration.server import Server, StartServer

__all__ = ["browser"]

ROW = """[...document.querySelectorAll('#recent tbody tr')]
  .map((row) => [...row.cells].map((cell) => cell.textContent))
  .find((cells) => cells.at(-1) === '%s')"""
HEALTH = "document.querySelector('#health').textContent"


def count_of(state: str) -> str:
    return f"document.querySelector('[data-state={state}]')?.textContent"


async def test_the_pools_states_are_live(browser: Browser, server: Server) -> None:
    await server.at_rest()
    async with visit(browser, server) as page:
        await page.until("document.querySelector('#health').textContent === 'ready'")
        await page.until(f"{count_of('leased')} === '0' && {count_of('idle')} >= '2'")
        running = asyncio.create_task(server.run(GATE))
        await page.until(f"{count_of('leased')} === '1'")
        await server.open_gates()
        answer = await running
        await page.until(f"{count_of('leased')} === '0'")
        cells = await page.until(ROW % answer.request_id)
        assert cells[1] == "ok"
        assert cells[3] == "\u2013"
        assert cells[6:] == ["python", await server.container_of(answer), answer.request_id]
        assert (await page.text("#latency-run td")).endswith("s")


async def test_the_page_shows_sessions_once_there_was_one(
    browser: Browser, start: StartServer
) -> None:
    server = await start()
    hidden = "document.querySelector('#sessions').hidden"
    texts = "[...document.querySelectorAll('#%s > div')].map((one) => one.textContent).join()"
    page = await browser.open(f"http://127.0.0.1:{server.port}/")
    await page.until(f"{HEALTH} === 'ready'")
    assert await page.evaluate(hidden)
    opened = await server.request("POST", "/sessions", json={})
    await page.until(f"!{hidden} && {texts % 'living'} === 'idle1,busy0'")
    assert await page.evaluate("document.querySelector('#ended').hidden")
    path = f"/sessions/{opened.json['id']}"
    running = asyncio.create_task(server.request("POST", f"{path}/run", json={"code": GATE}))
    await page.until(f"{texts % 'living'} === 'idle0,busy1'")
    await server.request("DELETE", path)
    await running
    await page.until(f"{texts % 'living'} === 'idle0,busy0' && {texts % 'ended'} === 'deleted1'")
    assert not await page.evaluate(hidden)


async def test_the_page_says_when_nothing_answers_and_comes_back(
    browser: Browser, start: StartServer
) -> None:
    server = await start()
    page = await browser.open(f"http://127.0.0.1:{server.port}/")
    await page.until(f"{HEALTH} === 'ready'")
    colour = "getComputedStyle(document.querySelector('#pools dd')).color"
    before = await page.evaluate(colour)
    await server.stop()
    await page.until(f"{HEALTH}.startsWith('no answer')")
    assert await page.evaluate("document.querySelector('#gone').checkVisibility()")
    assert "The server does not answer" in await page.text("#gone")
    assert await page.evaluate(colour) != before
    filters = "getComputedStyle(document.querySelector('#pools')).filter"
    assert await page.evaluate(filters) == "grayscale(1)"
    await page.click("#run")
    await page.until("document.querySelector('#verdict').className === 'bad'")
    assert (
        await page.text("#verdict") == "no answer from the server: it is not known if anything ran"
    )
    await start(PORT=server.port)
    await page.until(f"{HEALTH} === 'ready'")
    assert not await page.evaluate("document.querySelector('#gone').checkVisibility()")
    assert await page.evaluate(colour) == before
    assert await page.evaluate(filters) == "none"


async def test_without_the_playground_the_page_lives(browser: Browser, start: StartServer) -> None:
    server = await start(PLAYGROUND="false")
    async with visit(browser, server) as page:
        await page.until("document.querySelector('#health').textContent === 'ready'")
        assert await page.evaluate("document.querySelector('#playground')") is None


async def test_the_policy_stops_scripts_that_are_not_the_pages(
    browser: Browser, server: Server
) -> None:
    page = await browser.open(f"http://127.0.0.1:{server.port}/")
    attempt = "document.body.innerHTML = '<img src=x onerror=hacked=true>'"
    assert await page.evaluate(f"(() => {{ try {{ {attempt} }} catch (e) {{ return e.name }} }})()")
    await page.evaluate(
        "(() => { const s = document.createElementNS('http://www.w3.org/1999/xhtml', 'b');"
        "s.setAttribute('style', 'color: red'); document.body.append(s); window.colour = "
        "getComputedStyle(s).color; })()"
    )
    assert await page.evaluate("window.colour") != "rgb(255, 0, 0)"
    assert await page.evaluate("window.hacked === undefined")
    assert "Content Security Policy" in " ".join(page.complaints)


async def test_the_key_opens_the_page_and_stays_in_the_tab(
    browser: Browser, start: StartServer
) -> None:
    server = await start(API_KEYS="alice:one,bob:two")
    theirs = await server.run("print(1)", key="two")
    async with visit(browser, server) as page:
        await page.until("!document.querySelector('#door').hidden")
        assert await page.evaluate("document.querySelector('#content').hidden")
        await page.write("#key", "one")
        await page.press("Enter")
        await page.until("!document.querySelector('#content').hidden")
        await run(page, "print('hers')")
        await page.until(f"{OUTPUT} === 'hers\\n'")
        await page.until("document.querySelectorAll('#recent td.code').length === 2")
        assert theirs.request_id not in await page.text("#recent")
        await page.go(f"http://127.0.0.1:{server.port}/?again")
        await page.until("!document.querySelector('#content').hidden")
        assert "one" not in await page.evaluate("JSON.stringify(localStorage) + document.cookie")
        await page.click("#forget")
        await page.until("document.querySelector('#content').hidden")
        assert await page.evaluate("sessionStorage.length") == 0


async def test_a_wrong_key_is_refused(browser: Browser, start: StartServer) -> None:
    server = await start(API_KEYS="alice:one")
    page = await browser.open(f"http://127.0.0.1:{server.port}/")
    await page.until("!document.querySelector('#door').hidden")
    await page.write("#key", "three ¡é!")
    await page.press("Enter")
    await page.until("document.querySelector('#refusal').textContent !== ''")
    assert await page.evaluate("document.querySelector('#content').hidden")


ATTACKS = """(async (url, body) => {
  const failed = [];
  const json = {method: "POST", body, headers: {"Content-Type": "application/json"}};
  const tries = [
    () => fetch(url, json),
    () => fetch(url, {...json, mode: "no-cors"}),
    () => fetch(url, {method: "POST", body}),
    () => fetch(url, {method: "POST", body, mode: "no-cors"}),
    () => navigator.sendBeacon(url, new Blob([body], {type: "application/json"})),
    () => navigator.sendBeacon(url, body),
  ];
  for (const one of tries) {
    try { failed.push(String((await one()).type)); } catch (error) { failed.push(error.name); }
  }
  return failed;
})(%s, %s)"""


@contextlib.asynccontextmanager
async def other_site() -> AsyncIterator[str]:
    """Serve an empty page of somebody else's."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="<title>evil</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def ran_until_now(server: Server) -> float:
    samples = await server.metrics()
    return sum(value for name, value in samples.items() if name.startswith("pgexec_runs_total"))


async def test_another_site_cannot_have_a_visitor_run_code(
    browser: Browser, server: Server
) -> None:
    before = await ran_until_now(server)
    body = json.dumps({"language": "python", "code": "print(1)"})
    url = json.dumps(f"http://127.0.0.1:{server.port}/run")
    async with other_site() as site:
        page = await browser.open(site)
        results = await page.evaluate(ATTACKS % (url, json.dumps(body)))
    assert results[0] == "TypeError"  # the preflight was refused
    for status in (405, 415):
        await server.logged("request", path="/run", status=status)
    await server.works()
    assert await ran_until_now(server) == before + 1


async def test_a_rebound_name_cannot_have_a_visitor_run_code(
    browser: Browser, server: Server
) -> None:
    before = await ran_until_now(server)
    body = json.dumps(json.dumps({"language": "python", "code": "print(1)"}))
    page = await browser.open(f"http://{REBOUND}:{server.port}/ping")
    assert "pong" in await page.evaluate("document.body.textContent")  # of one origin with it
    status = await page.evaluate(
        "fetch('/run', {method: 'POST', headers: {'Content-Type': 'application/json'},"
        f" body: {body}}}).then((answer) => answer.status)"
    )
    assert status == 421
    assert await page.evaluate("fetch('/status').then((answer) => answer.status)") == 421
    await server.works()
    assert await ran_until_now(server) == before + 1
