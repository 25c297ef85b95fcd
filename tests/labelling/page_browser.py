"""The labelling page in a real browser, used as somebody would."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from browser import Browser, Tab

_WAIT = 60
_CONTROL, _SHIFT = 2, 8  # as the protocol has them


def open_page(browser: Browser, address, *, width=1280, height=800, **look):
    """The page in a context of its own: nothing is shared with others, not even storage."""
    context = browser.call("Target.createBrowserContext")["browserContextId"]
    tab = PageTab(browser, context)
    tab.look(width=width, height=height, **look)
    tab.go(address)
    return tab


class PageTab(Tab):
    """The page."""

    def __init__(self, browser, context):
        super().__init__(browser, context)
        self.context = context

    def second(self, address):
        """Another tab of the same context."""
        tab = PageTab(self.browser, self.context)
        tab.look(width=1280, height=800)
        tab.go(address)
        return tab

    def go(self, address):
        """Open an address and wait until the page has opened its first frame."""
        self.call("Page.navigate", url=address)
        self.until("window.labelPage?.mask && labelPage.outbox && labelPage.view.mask")

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
                return self.evaluate(script % (_WAIT * 1000, condition))
        raise AssertionError(condition)

    def idle(self):
        """Wait until every edit is acknowledged."""
        self.until("labelPage.outbox.idle")

    def place(self, x, y):
        """Where a pixel of the picture lies in the window."""
        return self.evaluate(
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

    def press(self, *keys, caps_lock=False, control=False):
        """Press keys by the names that the page gets them under, a capital letter with Shift.

        With Caps Lock it is the small letters that Shift is held for.
        """
        for key in keys:
            text = {"text": key} if len(key) == 1 else {}
            is_shifted = len(key) == 1 and (key.islower() if caps_lock else key.isupper())
            modifiers = _SHIFT * is_shifted + _CONTROL * control
            for kind in ("keyDown", "keyUp"):
                more = text if kind == "keyDown" and not control else {}
                self.call("Input.dispatchKeyEvent", type=kind, key=key, modifiers=modifiers, **more)

    def click(self, name):
        """Click an element by its id."""
        self.evaluate(f"document.getElementById({name!r}).click()")

    def ids(self):
        """The mask in the page: rows of ids."""
        return self.evaluate(
            "(() => { const m = labelPage.mask; return Array.from({length: m.height}, (_, y) =>"
            "Array.from(m.ids.subarray(y * m.width, (y + 1) * m.width))) })()"
        )

    def picture(self, path):
        """A screenshot."""
        Path(path).write_bytes(self.screenshot())

    def close(self):
        """End it and its context."""
        self.browser.call("Target.disposeBrowserContext", browserContextId=self.context)
