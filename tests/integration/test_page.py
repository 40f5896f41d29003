"""The page in a real browser, from a real server with real containers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.browser import REBOUND, browsing
from tests.conftest import ROOT
from tests.integration.server import GATE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.browser import Browser, Page
    from tests.integration.server import Server, StartServer

FOREVER = "import time\nprint('on', flush=True)\nwhile True:\n    time.sleep(60)\n"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
WATCH = "window.alert = () => { window.hacked = true; }"
ENDED = "document.querySelector('#stop').disabled && !document.querySelector('#run').disabled"
ROW = """[...document.querySelectorAll('#recent tbody tr')]
  .map((row) => [...row.cells].map((cell) => cell.textContent))
  .find((cells) => cells.at(-1) === '%s')"""
SPANS = """[...document.querySelectorAll('#output span')]
  .map((span) => [span.className, span.textContent])"""
CODE = "document.querySelector('#code').value"
OUTPUT = "document.querySelector('#output').textContent"


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browsing(tmp_path) as browser:
        yield browser


@contextlib.asynccontextmanager
async def visit(browser: Browser, server: Server) -> AsyncIterator[Page]:
    """Open the page, and show in the end that it had nothing to complain of or from elsewhere."""
    url = f"http://127.0.0.1:{server.port}/"
    page = await browser.open(url)
    await page.evaluate(WATCH)
    yield page
    assert page.complaints == []
    assert [one for one in page.requests if not one.startswith((url, "data:"))] == []
    assert not await page.evaluate("window.hacked")


def count_of(state: str) -> str:
    return f"document.querySelector('[data-state={state}]')?.textContent"


async def run(page: Page, code: str) -> None:
    await page.write("#code", code)
    await page.click("#run")


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
        assert cells[5:] == ["python", await server.container_of(answer), answer.request_id]
        assert (await page.text("#latency-run td")).endswith("s")


async def test_output_streams_in_its_order_with_stderr_apart(
    browser: Browser, server: Server
) -> None:
    code = (
        "import sys\nprint('one')\nprint('two', file=sys.stderr)\nprint('three', input())\n"
        + GATE
        + "print('four')"
    )
    async with visit(browser, server) as page:
        await page.click("summary")
        await page.write("#stdin", "typed in")
        await run(page, code)
        await page.until(f"{OUTPUT} === 'one\\ntwo\\nthree typed in\\n'")
        assert not await page.evaluate(ENDED)  # it came before the end, which nobody let come yet
        await server.open_gates()
        await page.until(ENDED)
        assert await page.evaluate(SPANS) == [
            ["stdout", "one\n"],
            ["stderr", "two\n"],
            ["stdout", "three typed in\nfour\n"],
        ]
        assert (await page.text("#verdict")).startswith("ok · snippet ")


async def test_how_a_run_failed_is_said(browser: Browser, server: Server) -> None:
    async with visit(browser, server) as page:
        await page.write("#code", "import sys\nsys.exit(3)")
        await page.press("Enter", control=True)
        await page.until("document.querySelector('#verdict').textContent.includes('exit status 3')")
        assert await page.evaluate("document.querySelector('#verdict').classList.contains('bad')")


async def test_stop_ends_the_run(browser: Browser, start: StartServer) -> None:
    server = await start(POOL_MIN_IDLE=1, POOL_MAX_CONTAINERS=1)
    async with visit(browser, server) as page:
        await run(page, FOREVER)
        await page.until(f"{OUTPUT} === 'on\\n'")
        assert await page.evaluate("document.activeElement.id") == "stop"
        await page.click("#stop")
        await page.until(ENDED)
        assert (await page.text("#verdict")).startswith("stopped after ")
        entry = await server.logged("request", path="/run")
        assert (entry["status"], entry["code"]) == (499, "client_gone")
        await server.works()  # in the one place that there is
        await page.until("document.querySelector('#recent').textContent.includes('client gone')")
        # The poll that showed this may have come before the run above.
        only = "the only run of 5 minutes"
        await page.until(f"document.querySelector('#window').textContent === '{only}'")


async def test_the_keyboard_indents_and_gets_away(browser: Browser, server: Server) -> None:
    async with visit(browser, server) as page:
        await page.write("#code", "if True:")
        await page.press("Enter")
        await page.call("Input.insertText", text="x = 1")
        await page.press("Enter")
        await page.press("Tab")
        assert await page.evaluate(CODE) == "if True:\n    x = 1\n        "
        await page.press("Escape")
        await page.press("Tab")
        assert await page.evaluate("document.activeElement.id") != "code"
        assert await page.evaluate(CODE) == "if True:\n    x = 1\n        "


async def test_a_long_output_arrives_whole(browser: Browser, server: Server) -> None:
    code = (
        "import sys\nfor n in range(20000): print('o'); print('e', file=sys.stderr)\nprint('last')"
    )
    async with visit(browser, server) as page:
        await run(page, code)
        await page.until(ENDED)
        assert await page.evaluate(f"{OUTPUT} === 'o\\ne\\n'.repeat(20000) + 'last\\n'")


async def test_the_page_says_when_nothing_answers(browser: Browser, start: StartServer) -> None:
    server = await start()
    page = await browser.open(f"http://127.0.0.1:{server.port}/")
    await page.until("document.querySelector('#health').textContent === 'ready'")
    await server.stop()
    await page.until("document.querySelector('#health').textContent.startsWith('no answer')")


async def test_without_the_playground_the_page_lives(browser: Browser, start: StartServer) -> None:
    server = await start(PLAYGROUND="false")
    async with visit(browser, server) as page:
        await page.until("document.querySelector('#health').textContent === 'ready'")
        assert await page.evaluate("document.querySelector('#playground')") is None


async def test_markup_in_output_and_ids_is_text(browser: Browser, server: Server) -> None:
    headers = {"X-Request-ID": HOSTILE}
    body = {"language": "python", "code": "print(1)"}
    assert (await server.request("POST", "/run", json=body, headers=headers)).status == 200
    async with visit(browser, server) as page:
        await run(page, f"import sys\nprint({HOSTILE!r})\nprint({HOSTILE!r}, file=sys.stderr)")
        await page.until(ENDED)
        assert await page.text("#output") == f"{HOSTILE}\n{HOSTILE}\n"
        await page.until(f"document.querySelector('#recent').textContent.includes({HOSTILE!r})")
        assert await page.evaluate("document.querySelectorAll('main img, main script').length") == 0


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
        assert await page.evaluate("localStorage.length + document.cookie.length") == 0
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
    arrived = [entry for entry in server.log if entry.get("path") == "/run"]
    assert {entry["status"] for entry in arrived if "run_status" not in entry} >= {405, 415}
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


@pytest.mark.parametrize("width", [320, 1200])
async def test_the_page_fits_phones_and_desks(browser: Browser, server: Server, width: int) -> None:
    async with visit(browser, server) as page:
        await page.resize(width, 800, mobile=width < 600)
        await page.until("!document.querySelector('#content').hidden")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_both_colour_schemes_can_be_read(browser: Browser, server: Server) -> None:
    async with visit(browser, server) as page:
        for scheme in ("light", "dark"):
            await page.prefer(scheme)
            await page.until("!document.querySelector('#content').hidden")
            for selector in ("body", ".faint", "button.main", "#health"):
                assert await page.evaluate(CONTRAST % selector) >= 4.5, (scheme, selector)


CONTRAST = """((selector) => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((part) => part / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const element = document.querySelector(selector);
  const ground = (it) => {
    const colour = getComputedStyle(it).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" ? ground(it.parentElement) : colour;
  };
  const both = [light(getComputedStyle(element).color), light(ground(element))];
  return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
})('%s')"""


async def test_the_picture_in_the_documents_can_be_taken(
    browser: Browser, start: StartServer
) -> None:
    """With PGEXEC_SCREENSHOT=1 in the environment it takes the place of `docs/page.png`."""
    server = await start(POOL_MIN_IDLE=3)
    codes = ["print(sum(range(10**6)))", "1 / 0", "import time; time.sleep(0.2)", "print('hi')"]
    for number in range(24):
        await server.run(codes[number % len(codes)])
    running = asyncio.create_task(server.run(GATE))
    async with visit(browser, server) as page:
        await page.until(f"{count_of('leased')} === '1'")
        await page.resize(1200, 1100)
        await page.click("#run")
        await page.until(ENDED)
        await page.until("document.querySelector('#ran').textContent.startsWith('25')")
        await page.until(f"{count_of('idle')} === '3'")
        await page.evaluate("scrollTo(0, 0)")
        picture = await page.screenshot()
    await server.open_gates()
    await running
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 300_000
    if "PGEXEC_SCREENSHOT" in os.environ:
        (ROOT / "docs/page.png").write_bytes(picture)
