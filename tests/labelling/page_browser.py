"""A real browser without a window, driven over its own DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

#: Where Debian and others install it; the script in front of it only adds settings of the desktop.
_PROGRAMS = ("/usr/lib/chromium/chromium", "chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions"),
    *("--disable-component-update", "--mute-audio", "--remote-debugging-port=0"),
    *("--disable-site-isolation-trials", "--renderer-process-limit=2"),
)
_WAIT = 60


def find_program():
    """The browser's path; None where none is installed."""
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


class Browser:
    """The browser; its pages are contexts of their own.

    Args:
        profile: An empty folder for its files.
    """

    def __init__(self, profile: Path):
        command = [find_program(), *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        environment = {**os.environ, "HOME": str(profile)}
        self._process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
        )
        from websockets.sync.client import connect

        address = next(
            line.split()[-1]
            for line in self._process.stderr
            if line.startswith("DevTools listening")
        )
        self._connection = connect(address, max_size=None, proxy=None)
        self._socket = self._connection.__enter__()
        self._numbers = itertools.count(1)

    def call(self, method, session=None, /, **parameters):
        """One command of the protocol; gives its result. Events in between are passed over."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self._socket.recv(timeout=_WAIT))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def open(self, address, *, width=1280, height=800, ratio=1.0, dark=False, touch=False):
        """A page in a context of its own: nothing is shared with others, not even storage."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        return Tab(self, context, address, width, height, ratio, dark, touch)

    def close(self):
        """End it."""
        with suppress(Exception):
            self.call("Browser.close")
        self._connection.__exit__(None, None, None)
        self._process.wait(_WAIT)
        self._process.stderr.close()


class Tab:
    """A page."""

    def __init__(self, browser, context, address, width, height, ratio, dark, touch):
        self.browser, self.context = browser, context
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)
        self._target = target["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        self.call("Page.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=ratio,
            mobile=touch,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.go(address)

    def call(self, method, **parameters):
        return self.browser.call(method, self._session, **parameters)

    def second(self, address):
        """Another tab of the same context."""
        return Tab(self.browser, self.context, address, 1280, 800, 1.0, False, False)

    def go(self, address):
        """Open an address and wait until the page has opened its first frame."""
        self.call("Page.navigate", url=address)
        self.until("window.labelPage?.mask && labelPage.outbox && labelPage.view.mask")

    def run(self, script):
        """The value of an expression, or of the promise that it is."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(
                f"{script}: {answer['exceptionDetails']['exception']['description']}"
            )
        return answer["result"].get("value")

    def until(self, condition):
        """Wait, in the page itself, until a condition holds."""
        script = (
            "new Promise((done, fail) => { const end = performance.now() + %d; const look = () => {"
            "let met; try { met = %s } catch (error) { fail(error) }"
            "if (met) done(true); else if (performance.now() > end) fail(new Error('timeout'));"
            "else setTimeout(look, 20) }; look() })"
        )
        for _ in range(20):  # a page that is being replaced forgets the question
            with suppress(RuntimeError):
                return self.run(script % (_WAIT * 1000, condition))
        raise AssertionError(condition)

    def idle(self):
        """Wait until every edit is acknowledged."""
        self.until("labelPage.outbox.idle")

    def place(self, x, y):
        """Where a pixel of the picture lies in the window."""
        return self.run(
            "(() => { const v = labelPage.view, b = v.canvas.getBoundingClientRect();"
            f"const [x, y] = v.toCanvas([{x} + 0.5, {y} + 0.5]);"
            "const s = v.canvas.width / b.width; return [x / s + b.left, y / s + b.top] })()"
        )

    def drag(self, *pixels, modifiers=0):
        """Press at the first pixel of the picture, move over the others, let go."""
        places = [self.place(*pixel) for pixel in pixels]
        steps = [("mousePressed", places[0]), *(("mouseMoved", place) for place in places[1:])]
        for kind, (x, y) in [*steps, ("mouseReleased", places[-1])]:
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button="left",
                buttons=1,
                clickCount=1,
                modifiers=modifiers,
            )

    def press(self, *keys):
        """Press keys, one after the other, by the names that the page gets them under."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {}
            for kind in ("keyDown", "keyUp"):
                more = text if kind == "keyDown" else {}
                self.call("Input.dispatchKeyEvent", type=kind, key=key, **more)

    def click(self, name):
        """Click an element by its id."""
        self.run(f"document.getElementById({name!r}).click()")

    def ids(self):
        """The mask in the page: rows of ids."""
        return self.run(
            "(() => { const m = labelPage.mask; return Array.from({length: m.height}, (_, y) =>"
            "Array.from(m.ids.subarray(y * m.width, (y + 1) * m.width))) })()"
        )

    def picture(self, path):
        """A screenshot."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def close(self):
        self.browser.call("Target.disposeBrowserContext", browserContextId=self.context)
