"""A visitor of the page: what he does with it, and what he sees."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.browser import browsing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.browser import Browser, Page
    from tests.integration.server import Server

WATCH = "window.alert = () => { window.hacked = true; }"
CODE = "$editor.readCode()"
OUTPUT = "document.querySelector('#output').textContent"
VERDICT = "document.querySelector('#verdict').textContent"
ENDED = f"{VERDICT} && document.querySelector('#stop').disabled"
"""True if a run has ended; not yet after a click that has not begun one."""
SHOWN = "!document.querySelector('#content').hidden"
PASTE = """((text) => {
  const clipboardData = new DataTransfer();
  clipboardData.setData("text/plain", text);
  document.activeElement.dispatchEvent(
    new ClipboardEvent("paste", {clipboardData, bubbles: true, cancelable: true}));
})(%r)"""


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browsing(tmp_path) as browser:
        yield browser


@contextlib.asynccontextmanager
async def visit(browser: Browser, server: Server, fragment: str = "") -> AsyncIterator[Page]:
    """Open the page, and show in the end that it had nothing to complain of or from elsewhere."""
    url = f"http://127.0.0.1:{server.port}/"
    page = await browser.open(url + fragment)
    await page.evaluate(WATCH)
    yield page
    assert page.complaints == []
    assert [one for one in page.requests if not one.startswith((url, "data:", f"blob:{url}"))] == []
    assert not await page.evaluate("window.hacked")


async def write_code(page: Page, code: str) -> None:
    """Replace the code by another, as from the clipboard."""
    await page.click(".cm-content")
    await page.press("a", control=True)
    await page.evaluate(PASTE % code)


async def run(page: Page, code: str) -> None:
    await write_code(page, code)
    await page.evaluate(f"{VERDICT} = ''")
    await page.click("#run")


async def ran(page: Page, code: str) -> str:
    """Run code to its end, and return the verdict."""
    await run(page, code)
    await page.until(ENDED)
    return await page.text("#verdict")
