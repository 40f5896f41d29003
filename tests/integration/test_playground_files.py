"""Files into a run and out of it, in a real browser; and what hostile ones come to."""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING

from tests.integration.server import until
from tests.integration.visitor import ENDED, OUTPUT, SHOWN, browser, ran, visit, write_code

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser import Browser, Page
    from tests.integration.server import Server, StartServer

__all__ = ["browser"]

GIVEN = """[...document.querySelectorAll("#files-in li")]
  .map((item) => [...item.children].map((part) => part.textContent))"""
FOUND = """[...document.querySelectorAll("#files-out li")]
  .map((item) => [...item.children].slice(0, 2).map((part) => part.textContent))"""
IMAGE = """(() => {
  const image = document.querySelector("#files-out img");
  return image && image.complete && [image.naturalWidth, image.naturalHeight];
})()"""
MARKUP = "document.querySelectorAll('#content :is(script, iframe, svg, a)').length"


def png(width: int, height: int) -> bytes:
    """Return a picture in one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = zlib.compress((b"\0" + b"\x0b\x6e\x4f" * width) * height)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


async def drop(page: Page, selector: str, *paths: Path) -> None:
    """Drag files over an element and let go."""
    x, y = await page.evaluate(
        f"(() => {{ const box = document.querySelector({selector!r}).getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        await page.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)


async def saved_as(directory: Path, *names: str) -> None:
    """Wait until a browser has saved as many files, with these names but for `*`."""

    async def saved() -> bool:
        there = {path.name for path in directory.glob("*") if path.stat().st_size}  # noqa: ASYNC240
        done = {name for name in there if not name.endswith(".crdownload")}
        return len(done) >= len(names) and set(names) <= done | {"*"}

    await until(saved, f"{names} are saved")


async def test_files_are_chosen_or_dropped_and_reach_the_run(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_text("1,2\n")
    (tmp_path / "raw.bin").write_bytes(bytes(range(256)) * 8)
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        assert await page.text("#files-limit") == "or drop them here: up to 100, 16 MiB together"
        await page.choose("#picker", tmp_path / "data.csv")
        await page.until("document.querySelectorAll('#files-in li').length === 1")
        before = await page.evaluate("$editor.readCode()")
        await drop(page, ".cm-content", tmp_path / "raw.bin", tmp_path / "data.csv")
        await page.until("document.querySelectorAll('#files-in li').length === 2")
        assert await page.evaluate("$editor.readCode()") == before
        assert await page.evaluate(GIVEN) == [
            ["data.csv", "4 bytes", "Remove"],
            ["raw.bin", "2 KiB", "Remove"],
        ]
        code = (
            "print(open('data.csv').read(), open('raw.bin', 'rb').read() == bytes(range(256)) * 8)"
        )
        assert (await ran(page, code)).startswith("ok")
        assert await page.evaluate(OUTPUT) == "1,2\n True\n"
        assert await page.evaluate("document.querySelector('#given').hidden")  # unchanged inputs
        await page.click("#files-in button")
        assert await page.evaluate(GIVEN) == [["raw.bin", "2 KiB", "Remove"]]
        assert await page.evaluate("document.activeElement.id") == "pick"
        assert (await ran(page, "open('data.csv')")).startswith("FileNotFoundError")


async def test_what_misses_the_playground_does_not_take_the_pages_place(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "evil.html").write_text("<script>alert(1)</script>")
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        await drop(page, "#pools", tmp_path / "evil.html")
        assert await page.evaluate(GIVEN) == []
        assert await page.evaluate("location.pathname") == "/"
        (tmp_path / "folder").mkdir()
        await drop(page, "#output", tmp_path / "folder")
        await page.until("document.querySelector('#files-refused').textContent")
        assert (await page.text("#files-refused")).startswith("A folder is not taken")


async def test_more_than_the_server_takes_is_not_taken(
    browser: Browser, start: StartServer, tmp_path: Path
) -> None:
    server = await start(FILES_MAX=2, FILES_LIMIT="4KiB")
    for name, size in (("a", 3000), ("b", 3000), ("c", 10), ("d", 10)):
        (tmp_path / name).write_bytes(bytes(size))
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        assert "up to 2, 4 KiB together" in await page.text("#files-limit")
        await page.choose("#picker", *(tmp_path / name for name in "abcd"))
        await page.until("document.querySelector('#files-refused').textContent")
        assert [row[0] for row in await page.evaluate(GIVEN)] == ["a", "c"]
        assert await page.text("#files-refused") == (
            "Not taken: b (2.9 KiB): more than 4 KiB together; d: more than 2 files"
        )


async def test_files_come_back_images_as_images_and_can_be_saved(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    picture = png(7, 5)
    code = (
        f"import json, os\nos.mkdir('out')\nopen('out/plot.png', 'wb').write({picture!r})\n"
        "json.dump({'total': 7}, open('total.json', 'w'))"
    )
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        await ran(page, "open('old.txt', 'w').write('old')")
        await ran(page, code)  # the next run's files take the place of the last one's
        assert await page.evaluate(FOUND) == [
            ["out/plot.png", f"{len(picture)} bytes"],
            ["total.json", "12 bytes"],
        ]
        assert await page.until(IMAGE) == [7, 5]
        assert await page.text("#files-out pre") == '{"total": 7}'
        saved = tmp_path / "saved"
        await page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(saved))
        for number, (name, content) in enumerate(
            (("plot.png", picture), ("total.json", b'{"total": 7}')), start=1
        ):
            await page.click(f"#files-out li:nth-child({number}) button")
            await saved_as(saved, name)
            assert (saved / name).read_bytes() == content


SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9' onload='parent.alert(1)'>"
    "<script>parent.alert(2); window.hacked = true</script>"
    "<image href='http://127.0.0.1:9/leak.png'/>"
    "<foreignObject><iframe src='/'/></foreignObject></svg>"
)
NAMES = [
    "<img src=x onerror=alert(1)>.txt",
    'a\\"><script>alert(2)<\\/script>.png',
    "evil.html",
    "evil.svg",
    "javascript:alert(3).svg",
    "\u202egnp.exe",
]


async def test_hostile_files_never_run_and_ask_for_nothing(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    html = "<script>opener.alert(4)</script><meta http-equiv=refresh content='0;url=http://127.0.0.1:9'>"
    contents = {name: SVG if name.endswith(".svg") else html for name in NAMES}
    contents = {name.replace("/", "|"): content for name, content in contents.items()}
    code = f"for name, text in {json.dumps(contents)}.items():\n    open(name, 'w').write(text)"
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        assert (await ran(page, code)).startswith("ok")
        names = [name for name, _ in await page.evaluate(FOUND)]
        assert sorted(names) == sorted(contents)
        await page.until(
            "[...document.querySelectorAll('#files-out img')].every((it) => it.complete)"
        )
        assert await page.evaluate("document.querySelectorAll('#files-out img').length") == 2
        assert "this is no image" in await page.text("#files-out")  # the HTML that is called .png
        assert await page.evaluate(MARKUP) == 0
        saved = tmp_path / "saved"
        await page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(saved))
        for number in range(1, len(contents) + 1):
            await page.click(f"#files-out li:nth-child({number}) button")
        await saved_as(saved, *(["*"] * len(contents)))
        assert await page.evaluate("location.pathname") == "/"


async def test_a_file_that_does_not_fit_says_so(browser: Browser, start: StartServer) -> None:
    server = await start(COLLECT_LIMIT="1KiB")
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        await ran(page, "open('big', 'w').write('x' * 5000); open('s', 'w').write('small')")
        assert await page.evaluate("document.querySelectorAll('#files-out li').length") == 2
        assert await page.evaluate("document.querySelectorAll('#files-out li .bad').length") == 1
        assert await page.text("#files-out pre") == "small"


async def test_a_large_file_does_not_stop_the_page(browser: Browser, server: Server) -> None:
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        await write_code(
            page, "import os\nopen('big', 'wb').write(os.urandom(12 << 20))\nprint('done')"
        )
        await page.press("Enter", control=True)
        await page.until(ENDED)
        assert await page.evaluate(FOUND) == [["big", "12 MiB"]]
