"""A real browser without a window, driven over the DevTools protocol's pipe.

Chromium reads commands from file descriptor 3 and answers on 4, each a JSON
text that a zero byte ends, so no further package is needed:
https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: Names under which systems install it.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

_SWITCHES = (
    "--headless=new",
    # Continuous integration runs as root, where the sandbox cannot start.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--mute-audio",
    # Pages are of this machine alone, and few at a time.
    "--disable-site-isolation-trials",
    "--renderer-process-limit=2",
    "--remote-debugging-pipe",
)

# The pipes' ends go to 3 and 4 by way of numbers that are neither; then it becomes the browser.
_LAUNCH = """
import os, sys
ends = [os.dup2(int(end), 60 + k) for k, end in enumerate(sys.argv[1:3])]
os.dup2(ends[0], 3), os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

_SECONDS = 180.0


def find_browser() -> str | None:
    """The browser's program, None where none is installed."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """A browser with a profile of its own, until it is closed.

    Args:
        program: Of :func:`find_browser`.
        profile: An empty folder for its files.

    Attributes:
        events: What its pages reported between answers.
    """

    def __init__(self, program: str, profile: Path) -> None:
        their_commands, self._commands = os.pipe()
        self._answers, their_answers = os.pipe()
        arguments = [program, *_SWITCHES, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, str(their_commands), str(their_answers), *arguments],
            pass_fds=(their_commands, their_answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(their_commands)
        os.close(their_answers)
        self._number = 0
        self._pending = b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, /, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def wait_for(self, method: str) -> None:
        """Wait for an event, unless it has come already."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._read())

    def close(self) -> None:
        """End it with all its processes."""
        os.close(self._commands)
        os.close(self._answers)
        # Its own session: the group holds this browser and its children, nothing else.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        end = time.monotonic() + _SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while b"\0" not in self._pending:
                if not selector.select(end - time.monotonic()):
                    raise TimeoutError(f"the browser said nothing for {_SECONDS:.0f} s")
                piece = os.read(self._answers, 1 << 20)
                if not piece:
                    raise RuntimeError("the browser ended")
                self._pending += piece
        message, _, self._pending = self._pending.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


class Tab:
    """One page in the browser.

    Args:
        browser: The browser.
        context: Of the browser, whose storage it shares; None is that of the profile.
        domains: Of the protocol, whose events it reports.
    """

    def __init__(
        self, browser: Browser, context: str | None = None, domains: Sequence[str] = ("Page",)
    ) -> None:
        self.browser = browser
        place = {} if context is None else {"browserContextId": context}
        target = browser.call("Target.createTarget", url="about:blank", **place)["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in domains:
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send the page one command and wait for its answer."""
        return self.browser.call(method, self._session, **parameters)

    def look(
        self,
        *,
        width: int,
        height: int = 900,
        ratio: float = 1,
        dark: bool = False,
        media: str = "",
        mobile: bool = False,
    ) -> None:
        """Be on a screen of that size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=ratio,
            mobile=mobile,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def show(self, page: Path, **look: Any) -> None:
        """Load a page from a file, on a screen as of :meth:`look`."""
        self.browser.events.clear()
        self.look(**look)
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.browser.wait_for("Page.loadEventFired")

    def evaluate(self, script: str) -> Any:
        """The value of a script's expression, or of the promise that it is, as plain data."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def screenshot(self, *, whole: bool = False) -> bytes:
        """A PNG of what is seen, or of the whole length of the page."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def pdf(self) -> bytes:
        """The page as it is printed on A4."""
        made = self.call(
            "Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False
        )
        return base64.b64decode(made["data"])

    def failures(self) -> list[str]:
        """What could not be loaded, and every error that the page logged."""
        told = []
        for event in self.browser.events:
            method, parameters = event.get("method"), event.get("params", {})
            if method == "Network.loadingFailed":
                told.append(str(parameters.get("errorText")))
            elif method == "Runtime.exceptionThrown":
                told.append(str(parameters.get("exceptionDetails")))
            elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                told.append(str(parameters["entry"]["text"]))
        return told

    def requests(self) -> list[str]:
        """Every address that the page asked for."""
        sent = [e for e in self.browser.events if e.get("method") == "Network.requestWillBeSent"]
        return [str(event["params"]["request"]["url"]) for event in sent]
