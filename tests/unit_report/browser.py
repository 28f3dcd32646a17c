"""Headless Chromium, driven over its own debugging protocol: Debian's package is all it needs."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

LIMIT_S = 120
"""Generous: a cold browser on a loaded machine."""


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Page:
    """One tab. `errors` collects what its console complains of, and exceptions of its scripts."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self.errors: list[str] = []
        self._events: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Raises `AssertionError` with the browser's words."""
        self._number += 1
        number = self._number
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self._receive()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result

    async def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(self._socket.receive_str(), LIMIT_S))
        method = message.get("method", "")
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(message["params"]["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.errors.append(message["params"]["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and message["params"]["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(message["params"]["args"]))
        return message

    async def open(self, url: str) -> None:
        """Load a report and wait until its script has done its work."""
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)
        await self.until("document.documentElement?.dataset.ready === 'yes'")

    async def value(self, expression: str) -> Any:
        """Raises `AssertionError` if it throws."""
        done = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, f"{expression}: {done['exceptionDetails']}"
        return done["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait until it is true. Raises `AssertionError`."""
        for _ in range(LIMIT_S * 20):
            if value := await self.value(expression):
                return value
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within {LIMIT_S} s: {expression}; the console says {self.errors}")

    async def click(self, selector: str) -> None:
        """With the mouse, in its middle, where a person would."""
        await self.value(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = await self.value(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    async def key(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key)

    async def look(self, width: int, height: int, scheme: str = "light") -> None:
        """Size of the window and the person's preference, `light` or `dark`."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def screenshot(self, whole: bool = False) -> bytes:
        """PNG of the window, or of the whole page."""
        done = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(done["data"])

    async def paper(self) -> bytes:
        """PDF on A4."""
        done = await self.call("Page.printToPDF", preferCSSPageSize=True, paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(done["data"])


@asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """A page in a browser of its own, with a profile of its own; both end with the block."""
    program = chromium()
    assert program is not None, "asked for only where there is one"
    with tempfile.TemporaryDirectory(prefix="hafsm-browser-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            program,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--remote-debugging-port=0",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            "about:blank",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            port = await _port(Path(profile) / "DevToolsActivePort", process)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    targets = await answer.json()
                address = next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    yield Page(socket)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _port(file: Path, process: asyncio.subprocess.Process) -> str:
    for _ in range(LIMIT_S * 20):
        if port := _first_line(file):
            return port
        assert process.returncode is None, f"chromium ended with status {process.returncode}"
        await asyncio.sleep(0.05)
    raise AssertionError(f"chromium named no port within {LIMIT_S} s")


def _first_line(file: Path) -> str:
    """Empty while the line is not complete."""
    text = file.read_text() if file.exists() else ""
    return text.split("\n")[0] if "\n" in text else ""
