"""Debian's Chromium, without a window, driven through its own protocol: what it shows, says and asks for."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import connect

from tests.patience import PATIENCE_S
from tests.programs import end_family

CHROMIUM = shutil.which("chromium")


class Chromium:
    """A browser's process, which serves many tests."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        self._profile = profile
        self._command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-color-profile=srgb",
            # Pages that were left would live on: a third of its work.
            "--disable-features=BackForwardCache,RenderDocument",
            f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank",
        ]  # fmt: skip

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        end_family(self._process)

    def address(self) -> str:
        """Where it is asked, once it can be."""
        told = self._profile / "DevToolsActivePort"
        deadline = time.monotonic() + PATIENCE_S
        while not (told.exists() and "/" in told.read_text()):
            assert time.monotonic() < deadline, "the browser does not start"
            time.sleep(0.05)
        port, path = told.read_text().split("\n")[:2]
        return f"ws://127.0.0.1:{port}{path}"


class Browser:
    """One page, with nothing in common with others: no cookie, no memory. ``complaints`` is what its console has to say: errors, and what the policy forbids."""

    def __init__(self, chromium: Chromium) -> None:
        self._chromium = chromium
        self._id = 0
        self._session = ""
        self.complaints: list[str] = []
        self.asked: list[str] = []
        """The addresses of everything that was fetched."""
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as running:
            self._socket = running.enter_context(
                connect(self._chromium.address(), max_size=None, proxy=None, open_timeout=PATIENCE_S)
            )
            # It ends with this connection.
            own = self.call("Target.createBrowserContext", disposeOnDetach=True)["browserContextId"]
            page = self.call("Target.createTarget", url="about:blank", browserContextId=own)["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
            for name in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{name}.enable")
            self._running = running.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def call(self, method: str, **params: Any) -> Any:
        """Let the browser do something, and return what it says."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if answer.get("id") == self._id:
                assert "error" not in answer, answer
                return answer["result"]
            self._hear(answer)

    def _hear(self, event: dict[str, Any]) -> None:
        name, told = event.get("method"), event.get("params", {})
        if name == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(told["entry"]["text"])
        elif name == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))
        elif name == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(told["args"]))
        elif name == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])

    def run(self, script: str) -> Any:
        """Return the value of an expression on the page."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def bring(self, script: str) -> None:
        """Run this at the beginning of each page from now on; a large one costs less so than with each page anew."""
        self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def until(self, script: str) -> Any:
        """Wait until an expression on the page is true; return its value."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                value = self.run(script)
            except AssertionError:  # a page on its way to the next
                value = None
            if value:
                return value
            assert time.monotonic() < deadline, f"never true: {script}"
            time.sleep(0.05)

    def go(self, url: str) -> None:
        """Open an address, and wait for the page."""
        # A mark on the old page tells it from the new one.
        self.run("window.isOld = true; 1")
        self.call("Page.navigate", url=url)
        self.until("!window.isOld && document.readyState === 'complete' && 1")

    def click(self, words: str) -> None:
        """Press the link or button with these words, and wait for the page that it leads to."""
        self.run("window.isOld = true; 1")
        self.run(
            "[...document.querySelectorAll('a, button')].find((e) => e.textContent.trim() === "
            f"{json.dumps(words)}).click(); 1"
        )
        self.until("!window.isOld && document.readyState === 'complete' && 1")

    def text(self) -> str:
        """What is to be read in the main part."""
        return str(self.run("document.getElementById('main').innerText.replace(/\\s+/g, ' ')"))

    def look(
        self, width: int, *, dark: bool = False, scripts: bool = True, height: int = 900, wants: Mapping[str, str] = {}, thumb: bool = False
    ) -> None:  # fmt: skip
        """Be a window of this width, in these colours, of somebody who ``wants`` more (media features), and has a ``thumb`` and no mouse."""
        phone = width < 700
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        features = {"prefers-color-scheme": "dark" if dark else "light"} | dict(wants)
        told = [{"name": name, "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=told)
        self.call("Emulation.setTouchEmulationEnabled", enabled=thumb)
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)

    def picture(self, *, whole: bool = False) -> bytes:
        """Return a picture of the page as PNG."""
        told = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(told["data"])
