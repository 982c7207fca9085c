"""A small client of chromedriver over its HTTP interface (W3C WebDriver), with the standard library alone."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_START_SECONDS = 60.0


def missing() -> str:
    """Return what has to be installed, or an empty text."""
    if shutil.which("chromedriver") and _browser():
        return ""
    return "no headless Chromium: apt-get install chromium chromium-driver"


def _browser() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


class Chromium:
    """One browser window of a given size; used in a `with` statement.

    Args:
        width, height: of the window, CSS pixels.
        touch: behave as a phone.
        dark: prefer dark pages.
    """

    def __init__(self, width: int, height: int, *, touch: bool = False, dark: bool = False) -> None:
        self.width, self.height, self.touch, self.dark = width, height, touch, dark
        self._profile = tempfile.TemporaryDirectory(prefix="chromium_")

    def __enter__(self) -> Chromium:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._address = f"http://127.0.0.1:{port}"
        self._wait_for_driver()
        flags = [*FLAGS, f"--user-data-dir={self._profile.name}"]
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": _browser(), "args": flags},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        found = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._address += f"/session/{found['sessionId']}"
        size = {"width": self.width, "height": self.height, "deviceScaleFactor": 1, "mobile": self.touch}
        self.devtools("Emulation.setDeviceMetricsOverride", size)
        self.devtools("Emulation.setTouchEmulationEnabled", {"enabled": self.touch})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if self.dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.devtools("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        self.devtools("Network.emulateNetworkConditions", offline)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._ask("DELETE", "", None)
        finally:
            self._driver.terminate()
            self._driver.wait(20)
            self._profile.cleanup()

    def open(self, address: str) -> None:
        """Load a page."""
        self._ask("POST", "/url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what the body of a JavaScript function returns, awaited."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, condition: str, seconds: float = 20.0) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.05)

    def log(self) -> list[str]:
        """Return what the console has said since the last call."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def keys(self, selector: str, *keys: str) -> None:
        """Type keys into an element; special ones as WebDriver codes."""
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        self._ask("POST", f"/element/{found[_ELEMENT]}/value", {"text": "".join(keys)})

    def wheel(self, x: float, y: float, delta: int, ctrl: bool = False) -> None:
        """Turn the wheel over a place of the window; a positive delta scrolls down."""
        modifiers = 2 if ctrl else 0
        event = {"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": delta, "modifiers": modifiers}
        self.devtools("Input.dispatchMouseEvent", event)

    def drag(self, places: Sequence[tuple[float, float]]) -> None:
        """Press the mouse at the first place, move through all, and let go at the last."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*places, places[-1]], strict=True):
            self.devtools("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1})

    def fingers(self, steps: Sequence[Sequence[tuple[float, float]]]) -> None:
        """Put fingers down at the places of the first step, move them through the others, and lift them."""
        kinds = ["touchStart", *["touchMove"] * (len(steps) - 1), "touchEnd"]
        for kind, places in zip(kinds, [*steps, []], strict=True):
            points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
            self.devtools("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Write a PNG of the page, or of what the window shows."""
        found = self.devtools("Page.captureScreenshot", {"captureBeyondViewport": whole, **self._clip(whole)})
        path.write_bytes(base64.b64decode(found["data"]))

    def devtools(self, command: str, parameters: Mapping[str, Any]) -> Any:
        """Return the answer of a DevTools command."""
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": dict(parameters)})

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        height = self.run("return document.documentElement.scrollHeight")
        return {"clip": {"x": 0, "y": 0, "width": self.width, "height": height, "scale": 1}}

    def _wait_for_driver(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._ask("GET", "/status", None)
            except OSError:
                assert time.monotonic() < end, "chromedriver does not answer"
                time.sleep(0.1)
            else:
                return

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._address + path, data, {"Content-Type": "application/json"}, method=method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the loopback needs no proxy
        try:
            with opener.open(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from error
