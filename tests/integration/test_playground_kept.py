"""What of the playground survives a reload, and what a link carries."""

from __future__ import annotations

import json
import zlib
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

import pytest

from tests.integration.visitor import CODE, OUTPUT, SHOWN, VERDICT, browser, ran, visit, write_code

if TYPE_CHECKING:
    from tests.browser import Browser, Page
    from tests.integration.server import Server

__all__ = ["browser"]

FIELDS = {"dependencies": "six", "args": "--x", "timeout": "5", "stdin": "typed"}
SAVED = "(localStorage.getItem('pgexec-code') || '').includes(%s)"
NOTICE = "document.querySelector('#from-link').checkVisibility()"


def fragment_of(texts: object) -> str:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(json.dumps(texts).encode()) + packer.flush()
    return "#code=" + urlsafe_b64encode(packed).decode().rstrip("=")


async def again(page: Page, url: str) -> None:
    await page.call("Page.navigate", url="about:blank")
    await page.until("location.href === 'about:blank'")
    await page.go(url)
    await page.until(SHOWN)


async def test_the_code_survives_a_reload(browser: Browser, server: Server) -> None:
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        await page.click("#stdin-box summary")
        for name, value in FIELDS.items():
            await page.write(f"#{name}", value)
        await write_code(page, "print('kept ü')")
        await page.until(SAVED % json.dumps("kept ü"))
        await again(page, f"http://127.0.0.1:{server.port}/")
        assert await page.evaluate(CODE) == "print('kept ü')"
        for name, value in FIELDS.items():
            assert await page.evaluate(f"document.querySelector('#{name}').value") == value
        assert await page.text("#output") == ""


async def test_what_is_stored_may_be_anything(browser: Browser, server: Server) -> None:
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        default = await page.evaluate(CODE)
        for stored in ("not json", "null", "[]", '{"code": 3}'):
            await page.evaluate(f"localStorage.setItem('pgexec-code', {json.dumps(stored)})")
            await again(page, f"http://127.0.0.1:{server.port}/")
            assert await page.evaluate(CODE) == default


async def test_a_link_carries_code_and_fields_and_runs_nothing(
    browser: Browser, server: Server
) -> None:
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        await write_code(page, "print('from a link ü')\n" * 50)
        for name in ("dependencies", "args", "timeout"):
            await page.write(f"#{name}", FIELDS[name])
        await page.click("#link")
        url = await page.until("location.hash && location.href")
        assert len(url) < 400
        await page.until("document.querySelector('#link-said').textContent")
        assert not [one for one in page.requests if "#" in one]
        await page.evaluate("localStorage.clear()")
    async with visit(
        browser, server, url.partition("/")[2].partition("/")[2].partition("/")[2]
    ) as other:
        await other.until(NOTICE)
        assert await other.evaluate(CODE) == "print('from a link ü')\n" * 50
        for name in ("dependencies", "args", "timeout"):
            assert await other.evaluate(f"document.querySelector('#{name}').value") == FIELDS[name]
        assert "Nothing has run" in await other.text("#linked")
        await other.until("document.querySelector('#ran').textContent")
        assert await other.evaluate(VERDICT) == await other.evaluate(OUTPUT) == ""
        assert not [one for one in other.requests if one.endswith("/run")]
        assert await other.evaluate("localStorage.length") == 0
        for name in ("dependencies", "args"):
            await other.write(f"#{name}", "")
        assert (await ran(other, "print('mine')")).startswith("ok")


async def test_a_link_leaves_the_visitors_own_code_alone(browser: Browser, server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/"
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        await write_code(page, "print('my own')")
        await page.until(SAVED % json.dumps("my own"))
        await again(page, url + fragment_of({"code": "print('theirs')"}))
        await page.until(NOTICE)
        assert await page.evaluate(CODE) == "print('theirs')"
        assert await page.evaluate(SAVED % json.dumps("my own"))
        await again(page, url)
        assert await page.evaluate(CODE) == "print('my own')"
        await again(page, url + fragment_of({"code": "print('theirs')"}))
        await page.until(NOTICE)
        await write_code(page, "print('theirs, changed')")
        assert await page.evaluate("location.hash") == ""
        await page.until(SAVED % json.dumps("theirs, changed"))
        await page.click("#back")
        assert await page.evaluate(CODE) == "print('my own')"
        assert not await page.evaluate(NOTICE)
        await again(page, url)
        assert await page.evaluate(CODE) == "print('my own')"


@pytest.mark.parametrize(
    "fragment",
    [
        "#code=",
        "#code=%%%",
        "#code=AAAA",
        fragment_of({"code": 1}),
        fragment_of(["code"]),
        fragment_of(None),
        fragment_of({"code": "x" * (5 << 20)}),
    ],
    ids=["empty", "no base64", "no deflate", "number", "list", "null", "bomb"],
)
async def test_a_damaged_link_is_said_to_be_one(
    browser: Browser, server: Server, fragment: str
) -> None:
    async with visit(browser, server, fragment) as page:
        await page.until(NOTICE)
        assert (await page.text("#linked")).startswith("The link is damaged")
        assert "and this is stderr" in await page.evaluate(CODE)
