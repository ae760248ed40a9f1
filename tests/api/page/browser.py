"""A headless Chromium, driven by its DevTools protocol over one websocket: enough to look at a page and press keys.

What the page logs and asks for is collected. Also takes pictures: `python -m tests.api.page.browser URL FILE`.
"""

import asyncio
import base64
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

BINARIES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--remote-debugging-port=0",
)  # fmt: skip
START_S_MAX = 60.0
TRUE_S_MAX = 120.0
POLL_S = 0.05
MESSAGE_BYTES_MAX = 64 << 20

KEYS = {"Tab": 9, "Enter": 13, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


def installed() -> str | None:
    """The program, if there is one."""
    return next((found for name in BINARIES if (found := shutil.which(name))), None)


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._session = ""
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._last = 0
        self.said: list[str] = []
        """Warnings and errors of the console, exceptions, and what the browser refused to do."""
        self.asked: list[str] = []
        """URLs."""

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)

    async def call(self, method: str, **parameters: Any) -> Any:
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._replies[self._last] = asyncio.get_running_loop().create_future()
        await self._socket.send_json(message)
        return await asyncio.wait_for(self._replies[self._last], TRUE_S_MAX)

    async def value(self, expression: str) -> Any:
        """What JavaScript makes of it."""
        reply = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    async def until(self, expression: str) -> None:
        """Asks until it is true; fails after the deadline."""
        try:
            async with asyncio.timeout(TRUE_S_MAX):
                while not await self.value(f"Boolean({expression})"):
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise AssertionError(f"never true: {expression}; the page said {self.said}") from None

    async def press(self, key: str) -> None:
        known = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **known)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    async def look(self, width: int, height: int, theme: str, *, still: bool = False) -> None:
        """As on a screen of that size, by a person who likes it light or dark, and still or not."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        wanted = [{"name": "prefers-color-scheme", "value": theme}]
        wanted.append({"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"})
        await self.call("Emulation.setEmulatedMedia", features=wanted)

    async def picture(self, file: Path, *, whole: bool = False) -> None:
        """A PNG of what is seen, or of the whole page."""
        reply = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(reply["data"]))

    async def attach(self) -> None:
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        self._session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.call(f"{domain}.enable")

    async def listen(self) -> None:
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                reply = self._replies.pop(told["id"])
                if not reply.done():
                    reply.set_result(told.get("result", told))
            else:
                self._note(told["method"], told["params"])

    def _note(self, method: str, told: Any) -> None:
        match method:
            case "Network.requestWillBeSent":
                self.asked.append(told["request"]["url"])
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "warning", "assert"):
                self.said.append(" ".join(str(part.get("value", part.get("description"))) for part in told["args"]))
            case "Runtime.exceptionThrown":
                self.said.append(str(told["exceptionDetails"]))
            case "Log.entryAdded" if told["entry"]["level"] in ("error", "warning"):
                self.said.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")


@asynccontextmanager
async def browsing(program: str) -> AsyncIterator[Page]:
    """A browser with a profile of its own and an empty tab; both are gone afterwards."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port, path = await _address(Path(folder) / "DevToolsActivePort", child)
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=MESSAGE_BYTES_MAX) as socket,
            ):
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                await page.attach()
                yield page
                listening.cancel()
        finally:
            child.terminate()
            child.wait(START_S_MAX)


async def _address(file: Path, child: "subprocess.Popen[bytes]") -> tuple[str, str]:
    """Port and path that the browser writes down once it listens."""
    async with asyncio.timeout(START_S_MAX):
        while True:
            assert child.poll() is None, f"the browser ended with {child.returncode}"
            lines = file.read_text().splitlines() if file.exists() else []
            if len(lines) == 2:
                return lines[0], lines[1]
            await asyncio.sleep(POLL_S)


async def _show(url: str, file: str, theme: str = "dark", width: str = "1440", height: str = "1100") -> None:
    program = installed()
    assert program is not None, "there is no Chromium"
    async with browsing(program) as page:
        await page.look(int(width), int(height), theme, still=True)
        await page.open(url)
        await page.until("document.querySelectorAll('#map .dot').length")
        await page.picture(Path(file))


if __name__ == "__main__":
    asyncio.run(_show(*sys.argv[1:]))
