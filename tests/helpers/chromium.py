"""Headless Chromium by the WebDriver protocol, plain HTTP: pages as a reader sees them, with console and network."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps"),
    *("--disable-extensions", "--hide-scrollbars", "--force-color-profile=srgb"),
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's key of a reference to an element


class Page:
    """A tab of a browser: scripts run in it and return JSON values."""

    def __init__(self, session: str) -> None:
        self.session = session

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """One request of the protocol, a POST if it has a body; RuntimeError with the driver's words."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.session}{path}", content, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode(errors="replace")[:500]) from None

    def open(self, path: Path) -> None:
        self.call("/url", {"url": path.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that the body of a function returns."""
        return self.call("/execute/sync", {"script": script, "args": list(arguments)})

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self.call("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def press(self, keys: str) -> None:
        """Keys to whatever has the focus."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def console(self) -> list[str]:
        """Messages of the console since the last call, with their level."""
        return [f"{entry['level']}: {entry['message']}" for entry in self.call("/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last call, without those that the page's own policy forbade."""
        entries = [json.loads(e["message"])["message"] for e in self.call("/se/log", {"type": "performance"})]
        failed = [e["params"] for e in entries if e["method"] == "Network.loadingFailed"]
        forbidden = {f["requestId"] for f in failed if f.get("blockedReason") == "csp"}
        sent = [e["params"] for e in entries if e["method"] == "Network.requestWillBeSent"]
        return [p["request"]["url"] for p in sent if p["requestId"] not in forbidden]

    def look(self, width: int, height: int, dark: bool = False) -> None:
        """The size of the window and the reader's colour scheme."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("/screenshot")))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A page of a fresh browser with an empty profile; both programs end with the block."""
    assert CHROMIUM and DRIVER
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    driver = subprocess.Popen([DRIVER, f"--port={port}"], env=env, **quiet)  # type: ignore[call-overload]
    try:
        page = Page(f"http://127.0.0.1:{port}")
        wait(page)
        chrome = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        logs = {"browser": "ALL", "performance": "ALL"}
        wanted = {"goog:chromeOptions": chrome, "goog:loggingPrefs": logs}
        page.session += f"/session/{page.call('/session', {'capabilities': {'alwaysMatch': wanted}})['sessionId']}"
        try:
            yield page
        finally:
            urllib.request.urlopen(urllib.request.Request(page.session, method="DELETE"), timeout=60).close()
    finally:
        driver.terminate()
        driver.wait(timeout=30)


def wait(page: Page, seconds: float = 30) -> None:
    """Until the driver answers."""
    end = time.monotonic() + seconds
    while True:
        try:
            if page.call("/status")["ready"]:
                return
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)
