"""How the page looks: on phones and desks, in light and dark, and to those who do not see it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.integration.server import GATE
from tests.integration.visitor import ENDED, SHOWN, browser, ran, run, visit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser import Browser, Page
    from tests.integration.server import Server, StartServer

__all__ = ["browser"]

AXE = ROOT / "editor/node_modules/axe-core/axe.min.js"
WIDE = (
    "import sys\n"
    "# a comment that is much wider than any phone that a pupil may have in his hand\n"
    "open('a-name-without-any-place-to-break-it-in-all-its-length.txt', 'w').write('x' * 900)\n"
    "svg = \"<svg xmlns='http://www.w3.org/2000/svg' width='900' height='90'/>\"\n"
    "open('chart.svg', 'w').write(svg)\n"
    "print('y' * 900)\n"
    "print('\\x1b[31mred\\x1b[0m', '\\x1b[42mgreen\\x1b[0m', '\\x1b[2;34mdim\\x1b[0m')\n"
    "print(1 / 0)\n"
)


@pytest.mark.parametrize("width", [320, 1280])
async def test_the_page_fits_phones_and_desks(browser: Browser, server: Server, width: int) -> None:
    async with visit(browser, server) as page:
        await page.resize(width, 800, mobile=width < 600)
        await page.until(SHOWN)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        await page.click("#stdin-box summary")
        assert (await ran(page, WIDE)).startswith("ZeroDivisionError")
        await page.until("document.querySelectorAll('#files-out li').length === 2")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_both_colour_schemes_can_be_read(browser: Browser, server: Server) -> None:
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        await ran(page, COLOURS)
        for scheme in ("light", "dark"):
            await page.prefer(scheme)
            for selector in (
                "body",
                ".faint",
                "button.main",
                "#health",
                ".cm-gutters",
                ".tok-keyword",
            ):
                assert await page.evaluate(CONTRAST % selector) >= 4.5, (scheme, selector)
            assert await page.evaluate(LEAST) >= 4.5, scheme


COLOURS = """
for back in range(40, 48):
    for fore in (*range(30, 38), *range(90, 98), 39):
        print(f"\\x1b[{fore};{back}mx\\x1b[0m", end="")
"""
MEASURES = """
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((part) => part / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (it) => {
    const colour = getComputedStyle(it).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" ? ground(it.parentElement) : colour;
  };
  const contrast = (one, other) => {
    const both = [light(one), light(other)];
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  };
"""
CONTRAST = f"""((selector) => {{ {MEASURES}
  const element = document.querySelector(selector);
  return contrast(getComputedStyle(element).color, ground(element));
}})('%s')"""
LEAST = f"""(() => {{ {MEASURES}
  return Math.min(...[...document.querySelectorAll("#output span")]
    .map((it) => contrast(getComputedStyle(it).color, ground(it))));
}})()"""
BORDERS = f"""(() => {{ {MEASURES}
  const fields = ":is(input, textarea, #link, #pick, #code-editor, #output):not([hidden])";
  return [...document.querySelectorAll("#playground " + fields)].map((it) => {{
    const border = getComputedStyle(it).borderTopColor;
    const grounds = [ground(it.parentElement), ground(it)];
    return [it.id, Math.min(...grounds.map((one) => contrast(border, one)))];
  }});
}})()"""


async def test_fields_have_borders_that_can_be_seen(browser: Browser, server: Server) -> None:
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        for scheme in ("light", "dark"):
            await page.prefer(scheme)
            found = dict(await page.evaluate(BORDERS))
            assert {"dependencies", "args", "timeout", "stdin", "code-editor"} <= set(found)
            assert min(found.values()) >= 3, (scheme, found)


async def violations(page: Page) -> list[str]:
    """Return what axe finds wrong, each rule with an element."""
    found = await page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations"
        ".map((one) => `${one.id}: ${one.nodes[0].html} ${one.nodes[0].failureSummary}`))"
    )
    return [str(one) for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
async def test_axe_finds_nothing_wrong(
    browser: Browser, start: StartServer, scheme: str, width: int
) -> None:
    if not AXE.exists():
        pytest.skip("axe is not there: deploy/setup/editor.sh fetches it")
    server = await start()
    page = await browser.open(f"http://127.0.0.1:{server.port}/")
    await page.evaluate(AXE.read_text())
    await page.resize(width, 900, mobile=width < 600)
    await page.prefer(scheme)
    await page.until(SHOWN)
    assert await violations(page) == []
    await ran(page, WIDE)
    await page.choose("#picker", ROOT / "LICENSE", ROOT / "README.md")
    await page.until("document.querySelectorAll('#files-in li').length === 2")
    await page.click("#stdin-box summary")
    assert await violations(page) == []
    await run(page, "import time\nprint('on', flush=True)\ntime.sleep(600)")
    await page.until("document.querySelector('#output').textContent === 'on\\n'")
    assert await violations(page) == []
    await page.press("Escape")
    await page.until(ENDED)
    await server.stop()
    await page.until("document.body.classList.contains('stale')")
    assert await violations(page) == []


async def test_axe_finds_nothing_wrong_with_the_door(browser: Browser, start: StartServer) -> None:
    if not AXE.exists():
        pytest.skip("axe is not there: deploy/setup/editor.sh fetches it")
    server = await start(API_KEYS="alice:one")
    page = await browser.open(f"http://127.0.0.1:{server.port}/")
    await page.evaluate(AXE.read_text())
    await page.until("!document.querySelector('#door').hidden")
    assert await violations(page) == []


PICTURE = """import csv, json

rows = list(csv.DictReader(open("sales.csv")))
total = sum(int(row["sum"]) for row in rows)

bars = "".join(
    f'<rect x="{60 * n}" width="48" y="{100 - int(row["sum"])}" height="{row["sum"]}"/>'
    for n, row in enumerate(rows)
)
with open("sales.svg", "w") as file:
    size = 'fill="#0b6e4f" width="420" height="100"'
    file.write(f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{bars}</svg>')
print("days:", len(rows))
print(f"total: \\x1b[1;32m{total}\\x1b[0m")
"""


async def test_the_picture_in_the_documents_can_be_taken(
    browser: Browser, start: StartServer, tmp_path: Path
) -> None:
    """With PGEXEC_SCREENSHOT=1 in the environment it takes the place of `docs/page.png`."""
    server = await start(POOL_MIN_IDLE=3)
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    sums = (34, 52, 41, 78, 96, 63, 22)
    sales = "day,sum\n" + "".join(f"{day},{sum_}\n" for day, sum_ in zip(days, sums, strict=True))
    (tmp_path / "sales.csv").write_text(sales)
    codes = ["print(sum(range(10**6)))", "1 / 0", "import time; time.sleep(0.2)", "print('hi')"]
    for number in range(24):
        await server.run(codes[number % len(codes)])
    running = asyncio.create_task(server.run(GATE))
    async with visit(browser, server) as page:
        await page.until("document.querySelector('[data-state=leased]')?.textContent === '1'")
        await page.resize(1280, 1250)
        await page.choose("#picker", tmp_path / "sales.csv")
        assert (await ran(page, PICTURE)).startswith("ok")
        await page.until("document.querySelector('#ran').textContent.startsWith('25')")
        await page.until("document.querySelector('[data-state=idle]').textContent === '3'")
        await page.evaluate("scrollTo(0, 0)")
        picture = await page.screenshot()
    await server.open_gates()
    await running
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 300_000
    if "PGEXEC_SCREENSHOT" in os.environ:
        (ROOT / "docs/page.png").write_bytes(picture)
