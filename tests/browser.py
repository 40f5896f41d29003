"""A real browser without a window, driven through its DevTools protocol.

The protocol: https://chromedevtools.github.io/devtools-protocol/. Nothing is faked: pages run in
Chromium as a visitor's would, and what they ask for and complain of is written down.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, ClientTimeout

from tests.integration.server import WITHIN_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import ClientWebSocketResponse

    Json = dict[str, Any]

NAMES = ("chromium", "chromium-browser", "google-chrome")
REBOUND = "rebound.example"
"""A name that the browser believes to be this machine: what DNS rebinding comes to."""
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which needs what root in a container has not
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--remote-debugging-port=0",
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
SHOWS = """new Promise((found) => {
  const told = (drawn) => found(JSON.stringify({
    drawn, visibility: document.visibilityState, focus: document.activeElement?.outerHTML,
    text: document.body.innerText}));
  requestAnimationFrame(() => told(true));
  setTimeout(() => told(false), 3000);
})"""
"""What a page that does not come to what is waited for shows, and if it is drawn at all."""
PLACE = """(async () => {
  const it = document.querySelector(%r);
  const frame = () => new Promise(requestAnimationFrame);
  it.scrollIntoView({block: 'center'});
  await frame();  // in which an editor scrolls to what was pasted into it
  const before = it.getBoundingClientRect();
  await frame();
  const box = it.getBoundingClientRect();
  return box.width && box.x === before.x && box.y === before.y
    && [box.x + box.width / 2, box.y + box.height / 2];
})()"""
"""Where the middle of an element is, if that was the same for two frames."""


class Browser:
    """One browser process and the connection to it."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Json]] = {}
        self._pages: dict[str, Page] = {}

    async def call(self, method: str, session: str = "", **parameters: Any) -> Json:
        number = next(self._numbers)
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        message: Json = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        await self._socket.send_json(message)
        async with asyncio.timeout(WITHIN_S):
            return await answer

    async def listen(self) -> None:
        """Hand out what comes from the browser, until it ends."""
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                answer = self._answers.pop(said["id"])
                if answer.done():
                    continue
                if "error" in said:
                    answer.set_exception(AssertionError(said["error"]))
                else:
                    answer.set_result(said["result"])
            elif (page := self._pages.get(said.get("sessionId", ""))) is not None:
                page.hear(said["method"], said["params"])

    async def open(self, url: str, *, width: int = 1200, height: int = 900) -> Page:
        """Open a page with nothing stored and wait until it has loaded."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = await self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = Page(self, attached["sessionId"])
        self._pages[attached["sessionId"]] = page
        for domain in ("Page", "Runtime", "Network", "Log"):
            await page.call(f"{domain}.enable")
        await page.resize(width, height)
        await page.go(url)
        return page


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.requests: list[str] = []
        self.complaints: list[str] = []
        """What the console shows as wrong: exceptions, errors and warnings."""

    async def call(self, method: str, **parameters: Any) -> Json:
        return await self._browser.call(method, self._session, **parameters)

    def hear(self, method: str, said: Json) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(said["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and said["type"] in {"error", "warning"}:
            self.complaints.append(str(said["args"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(str(said["entry"]))

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def evaluate(self, script: str) -> Any:
        """Return the value of an expression, awaited where it is a promise."""
        said = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait until an expression is true, and return it.

        Raises AssertionError with what the page shows if that does not come.
        """
        try:
            return await until(lambda: self.evaluate(script), script)
        except AssertionError as missed:
            shown = await self.evaluate(SHOWS)
            raise AssertionError(f"{missed}; {shown}; {self.complaints}") from None

    async def text(self, selector: str) -> str:
        return str(await self.evaluate(f"document.querySelector({selector!r}).textContent"))

    async def click(self, selector: str) -> None:
        """Click where the element is as soon as it is visible and stays there, as a mouse would."""
        x, y = await self.until(PLACE % selector)
        for kind in ("mousePressed", "mouseReleased"):
            await self.call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    async def write(self, selector: str, text: str) -> None:
        """Replace what is in a field by what is typed into it."""
        await self.click(selector)
        await self.evaluate("document.activeElement.select()")
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, *, control: bool = False) -> None:
        text = {"text": "\r"} if key == "Enter" and not control else {}
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, "a": 65, "z": 90}
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
                modifiers=2 if control else 0,
                **(text if kind == "keyDown" else {}),
            )

    async def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    async def prefer(self, scheme: str, *, calm: bool = False) -> None:
        """Have the visitor prefer `light` or `dark`, and less motion if `calm`."""
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"},
        ]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def choose(self, selector: str, *paths: Path) -> None:
        """Choose files for a field of files, as its dialogue would."""
        said = await self.call(
            "Runtime.evaluate", expression=f"document.querySelector({selector!r})"
        )
        await self.call(
            "DOM.setFileInputFiles",
            files=[str(path) for path in paths],
            objectId=said["result"]["objectId"],
        )

    async def screenshot(self) -> bytes:
        return base64.b64decode((await self.call("Page.captureScreenshot"))["data"])


@contextlib.asynccontextmanager
async def browsing(directory: Path) -> AsyncIterator[Browser]:
    """Run a browser with a profile of its own, or skip the test where there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("there is no browser: deploy/setup/chromium.sh installs Debian's")
    with (directory / "chromium.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220  # starts at once
            [program, *FLAGS, f"--user-data-dir={directory / 'profile'}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"HOME": str(directory), "PATH": "/usr/bin:/bin"},
        )
    try:
        where = directory / "profile/DevToolsActivePort"

        async def listening() -> list[str] | None:
            said = (directory / "chromium.log").read_text(errors="replace")
            assert process.poll() is None, said
            lines = where.read_text().split("\n") if where.exists() else []
            return lines if len(lines) > 1 else None

        port, path, *_ = await until(listening, "the browser listens")
        async with (
            ClientSession(timeout=ClientTimeout(total=None)) as session,
            session.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0) as socket,
        ):
            browser = Browser(socket)
            listening_task = asyncio.create_task(browser.listen(), name="listen to the browser")
            yield browser
            with contextlib.suppress(AssertionError, TimeoutError):
                await browser.call("Browser.close")
            listening_task.cancel()
            await asyncio.wait([listening_task])
    finally:
        if process.poll() is None:
            try:
                await asyncio.to_thread(process.wait, 10)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
