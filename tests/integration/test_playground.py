"""The playground in a real browser: a run from the keys to the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.package_index import sdist
from tests.integration.server import GATE
from tests.integration.test_layers import A, index, mill, shared_volume
from tests.integration.visitor import (
    CODE,
    ENDED,
    OUTPUT,
    SHOWN,
    browser,
    ran,
    run,
    visit,
    write_code,
)

if TYPE_CHECKING:
    from tests.browser import Browser
    from tests.integration.package_index import PackageIndex
    from tests.integration.server import Server, StartServer

__all__ = ["browser", "index", "mill", "shared_volume"]

FOREVER = "import time\nprint('on', flush=True)\nwhile True:\n    time.sleep(60)\n"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
SPANS = """[...document.querySelectorAll('#output span')]
  .map((span) => [span.className, span.textContent])"""
IN_EDITOR = "document.querySelector('#code-editor').contains(document.activeElement)"
OPEN = "document.querySelector('#stdin-box').open"


async def test_output_streams_in_its_order_with_stderr_apart(
    browser: Browser, server: Server
) -> None:
    code = (
        "import sys\nprint('one')\nprint('two', file=sys.stderr)\nprint('three', input())\n"
        + GATE
        + "print('four')"
    )
    async with visit(browser, server) as page:
        await write_code(page, code)
        await page.write("#stdin", "typed in")
        await page.click("#run")
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
        await write_code(page, "import sys\nsys.exit(3)")
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
        await write_code(page, "if True:")
        await page.press("Enter")
        await page.call("Input.insertText", text="x = 1")
        await page.press("Enter")
        await page.press("Tab")
        assert await page.evaluate(CODE) == "if True:\n    x = 1\n        "
        await page.press("Escape")
        await page.press("Tab")
        assert not await page.evaluate(IN_EDITOR)
        assert await page.evaluate(CODE) == "if True:\n    x = 1\n        "


async def test_a_long_output_arrives_whole(browser: Browser, server: Server) -> None:
    code = (
        "import sys\nfor n in range(20000): print('o'); print('e', file=sys.stderr)\nprint('last')"
    )
    async with visit(browser, server) as page:
        await run(page, code)
        await page.until(ENDED)
        assert await page.evaluate(f"{OUTPUT} === 'o\\ne\\n'.repeat(20000) + 'last\\n'")


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


async def test_the_editor_numbers_lines_and_colours_python(
    browser: Browser, server: Server
) -> None:
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        await write_code(page, "def f():\n    return 'text'  # why\n")
        assert (await page.evaluate(NUMBERS))[1:] == ["1", "2", "3"]
        colours = set()
        for kind in ("keyword", "string", "comment"):
            colours.add(await page.evaluate(COLOUR % f".cm-line .tok-{kind}"))
        assert len(colours | {await page.evaluate(COLOUR % ".cm-line")}) == 4
        await page.press("z", control=True)
        assert "and this is stderr" in await page.evaluate(CODE)


NUMBERS = """[...document.querySelectorAll(".cm-lineNumbers .cm-gutterElement")]
  .map((one) => one.textContent)"""
COLOUR = "getComputedStyle(document.querySelector('%s')).color"


async def test_the_page_works_without_its_editor(browser: Browser, server: Server) -> None:
    page = await browser.open(f"http://127.0.0.1:{server.port}/ping")
    await page.call("Network.setBlockedURLs", urls=["*editor.js*"])
    await page.go(f"http://127.0.0.1:{server.port}/")
    await page.until(SHOWN)
    await page.write("#code", "print('plain', input())")
    assert await page.evaluate(OPEN)
    await page.write("#stdin", "text")
    await page.press("Enter", control=True)
    await page.until(ENDED)
    assert await page.evaluate(OUTPUT) == "plain text\n"


@pytest.mark.parametrize("code", ["name = input('who? ')", "import sys\nsys . stdin.read()"])
async def test_standard_input_opens_where_the_code_reads_it(
    browser: Browser, server: Server, code: str
) -> None:
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        await write_code(page, f"# {code.splitlines()[-1]}\nprint('put in')")
        assert not await page.evaluate(OPEN)
        await write_code(page, code)
        assert await page.evaluate(OPEN)
        await page.click("#stdin-box summary")
        await write_code(page, code + "\nprint(1)")
        assert not await page.evaluate(OPEN)  # its visitor has closed it


async def test_standard_input_opens_when_the_run_has_missed_it(
    browser: Browser, server: Server
) -> None:
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        said = await ran(page, "read = __builtins__.__dict__['in' + 'put']\nread()")
        assert said.startswith("EOFError: EOF when reading a line · the code reads standard input")
        assert await page.evaluate(OPEN)


async def test_arguments_timeout_and_a_wrong_one(browser: Browser, server: Server) -> None:
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        await page.write("#args", "--flag 'two words' \"\" a\\ b")
        await ran(page, "import sys\nprint(sys.argv[1:])")
        assert await page.evaluate(OUTPUT) == "['--flag', 'two words', '', 'a b']\n"
        await page.write("#timeout", "0.5")
        assert (await ran(page, "while True: pass")).startswith("timed out after 0.5 s · ")
        for wrong in ("31", "0", "-1", "soon"):
            await page.write("#timeout", wrong)
            said = await ran(page, "print(1)")
            assert said == "the time limit must be above 0 and at most 30 seconds"
        await page.write("#timeout", "")
        await page.write("#args", "'open")
        assert await ran(page, "print(1)") == "the arguments have a ' too few"


async def test_a_key_stops_the_run_and_time_goes_by_meanwhile(
    browser: Browser, server: Server
) -> None:
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        await write_code(page, FOREVER)
        await page.press("Enter", control=True)
        await page.until(f"{OUTPUT} === 'on\\n'")
        elapsed = "document.querySelector('#elapsed').textContent"
        first = await page.until(elapsed)
        await page.until(f"{elapsed} !== '{first}'")
        assert await page.text("#verdict") == "running"
        await page.press("Escape")
        await page.until(ENDED)
        assert (await page.text("#verdict")).startswith("stopped after ")
        assert await page.evaluate(elapsed) == ""
        await server.logged("request", path="/run", status=499)
        await server.at_rest()


async def test_who_wants_calm_sees_whole_seconds(browser: Browser, server: Server) -> None:
    async with visit(browser, server) as page:
        await page.prefer("light", calm=True)
        await run(page, FOREVER)
        await page.until(f"{OUTPUT} === 'on\\n'")
        elapsed = await page.until("document.querySelector('#elapsed').textContent")
        assert elapsed.removesuffix(" s").isdigit()
        await page.press("Escape")
        await page.until(ENDED)


NONE = "\N{EN DASH}"
RECORD = """(() => {
  window.seen = [];
  for (const id of ["verdict", "installing"]) {
    const it = document.getElementById(id);
    new MutationObserver(() => window.seen.push(id + ": " + it.textContent))
      .observe(it, {childList: true, characterData: true, subtree: true});
  }
})()"""


async def test_an_installation_is_told_while_it_lasts_and_has_its_latency(
    browser: Browser, mill: Server, index: PackageIndex
) -> None:
    index.add(sdist("forpage", "print('building')"))
    async with visit(browser, mill) as page:
        await page.until("!document.querySelector('#door').hidden")
        await page.write("#key", A)
        await page.press("Enter")
        await page.until(SHOWN)
        assert await page.text("#latency-install td") == NONE
        await page.evaluate(RECORD)
        await page.write("#dependencies", "forpage >= 1.0, <2 plain")
        said = await ran(page, "import forpage, plain\nprint(forpage.HERE, plain.VERSION)")
        assert said.startswith("ok · "), said
        assert await page.evaluate(OUTPUT) == "1 2.0\n"
        seen = await page.evaluate("window.seen")
        assert "verdict: installing dependencies" in seen
        assert any(one.startswith("installing: Collecting") for one in seen), seen
        assert await page.text("#installing") == ""
        await page.until(f"document.querySelector('#latency-install td').textContent !== '{NONE}'")
        assert (await page.text("#recent tr td:nth-child(4)")).endswith("s")


async def test_a_terminals_colours_are_drawn_and_nothing_else_of_it(
    browser: Browser, server: Server
) -> None:
    code = r"""
import sys
sys.stdout.write("\x1b[1;31mred\x1b[0m plain \x1b[38;5;196mbright\x1b[39m ")
sys.stdout.write("\x1b[48;2;0;200;0mgreen\x1b[m\n")
sys.stdout.write("\x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x07\x1b]0;title\x1b\\")
sys.stdout.write("\x1b[2J\x1b[10;10Hhere\n")
sys.stdout.write("\x1b[3"); sys.stdout.flush()
import time; time.sleep(0.3)
sys.stdout.write("4mblue\n")
"""
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        await ran(page, code)
        assert await page.evaluate(SPANS) == [
            ["stdout bold fg1", "red"],
            ["stdout", " plain "],
            ["stdout fg9", "bright"],
            ["stdout", " "],
            ["stdout bg2", "green"],
            ["stdout", "\nlinkhere\n"],
            ["stdout fg4", "blue\n"],
        ]
        red = await page.evaluate(COLOUR % "#output .fg1")
        assert red != await page.evaluate(COLOUR % "#output")
        assert await page.evaluate("document.title") == "pgexec"


CUTS = """((text) => {
  const whole = new $ansi.Terminal().read(text);
  const join = (pieces) => pieces.reduce((all, [text, look]) => {
    if (all.length && all.at(-1)[1] === look) all.at(-1)[0] += text;
    else all.push([text, look]);
    return all;
  }, []);
  for (let at = 0; at <= text.length; at++) {
    const cut = new $ansi.Terminal();
    const pieces = [...cut.read(text.slice(0, at)), ...cut.read(text.slice(at))];
    if (JSON.stringify(join(pieces)) !== JSON.stringify(join(whole))) return [at, pieces, whole];
  }
  return join(whole);
})(%r)"""


async def test_colours_do_not_depend_on_where_output_is_cut(
    browser: Browser, server: Server
) -> None:
    page = await browser.open(f"http://127.0.0.1:{server.port}/")
    text = "a\x1b[1mb\x1b[22;4;38:5:21mc\x1b]0;t\x07d\x1b(B\x1b[7me\x1b[?25l\x1b[27mf\x1bMg"
    assert await page.evaluate(CUTS % text) == [
        ["a", ""],
        ["b", "bold"],
        ["cd", "underline fg4"],
        ["e", "underline inverse fg4"],
        ["fg", "underline fg4"],
    ]
    assert (await page.evaluate(FLOOD))[-1] == ["y", "bold"]
    assert await page.evaluate(HELD) == [["b", ""]]


FLOOD = r"""new $ansi.Terminal()
  .read("\x1b[" + "1;".repeat(500000) + "mx" + "\x1b]".repeat(300000) + "\x07y")"""
HELD = r"""(() => {
  const terminal = new $ansi.Terminal();
  terminal.read("\x1b]" + "a".repeat(100000));
  return terminal.read("b");
})()"""


async def test_a_refusal_is_said_in_the_servers_words(browser: Browser, server: Server) -> None:
    async with visit(browser, server) as page:
        await page.until(SHOWN)
        await page.write("#dependencies", "--index-url=x")
        page.complaints.clear()
        said = await ran(page, "print(1)")
        assert "--index-url=x" in said
        page.complaints.clear()  # a browser shows each 400


SPLIT = "$words.splitRequirements(%r)"


async def test_requirements_are_told_apart(browser: Browser, server: Server) -> None:
    page = await browser.open(f"http://127.0.0.1:{server.port}/")
    for text, expected in (
        ("requests numpy", ["requests", "numpy"]),
        ("requests,numpy ,  six", ["requests", "numpy", "six"]),
        ("numpy>=2, <3 six", ["numpy>=2, <3", "six"]),
        (
            "requests[socks, use_chardet_on_py3]==2.32.0, six",
            ["requests[socks, use_chardet_on_py3]==2.32.0", "six"],
        ),
        (
            "a ~= 1.0\nb; python_version < '3.12'\nc",
            ["a ~= 1.0", "b; python_version < '3.12'", "c"],
        ),
        (" , ", []),
        ("==1", ["==1"]),
    ):
        assert await page.evaluate(SPLIT % text) == expected
