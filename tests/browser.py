"""Chromium without a window, driven over a pipe by its own protocol, with no machine to reach but this."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--use-fake-device-for-media-stream",
    "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 120  # seconds
Place = tuple[float, float]  # CSS pixels from the left and from the top
_MODIFIERS = {"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8}
_CODES = {"Backspace": 8, "Enter": 13, "Escape": 27}


class Pipe:
    """The protocol's two ends.

    Attributes:
        events: what the browser told by itself.
    """

    def __init__(self, commands: int, replies: int) -> None:
        self._commands, self._replies, self._pending, self._count = commands, replies, b"", 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: dict[str, str], parameters: object) -> dict[str, Any]:
        self._count += 1
        asked = {"id": self._count, "method": method, "params": parameters, **session}
        os.write(self._commands, json.dumps(asked).encode() + b"\0")
        while (reply := self._next()).get("id") != self._count:
            self.events.append(reply)
        assert "error" not in reply, (method, reply["error"])
        return reply["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            assert select.select([self._replies], [], [], PATIENCE)[0], "the browser is silent"
            read = os.read(self._replies, 1 << 20)
            assert read, "the browser has ended"
            self._pending += read
        message, self._pending = self._pending.split(b"\0", 1)
        return json.loads(message)


class Page:
    """A page of a browser.

    Attributes:
        events: what the browser told by itself, of all its pages.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe, self._session = pipe, dict[str, str]()
        self.events = pipe.events

    def open(self, url: str) -> None:
        """Open an address in a new tab, which this page is from now on."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.go(url)

    def go(self, url: str) -> None:
        """Open an address in this tab."""
        self.call("Page.navigate", url=url)
        self.wait(
            f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'"
        )

    def reload(self) -> None:
        """Load this page again."""
        before = len(self.events)
        self.call("Page.reload")

        def is_loaded() -> bool:
            self._pipe.call("Browser.getVersion", {}, {})  # hears what the browser has to tell
            return any(e["method"] == "Page.loadEventFired" for e in self.events[before:])

        self.until(is_loaded, "the page again")

    def another(self) -> "Page":
        """Another page of the same browser, for another tab."""
        return Page(self._pipe)

    def close(self) -> None:
        """Close this tab."""
        self.call("Page.close")
        self._session = {}

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._pipe.call(method, self._session, parameters)

    def run(self, script: str) -> Any:
        """The value of a script; promises are awaited."""
        made = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in made, made
        return made["result"].get("value")

    def wait(self, script: str) -> None:
        """Until the script's value is true; it may fail while the page is not there yet."""

        def is_true() -> bool:
            made = self.call("Runtime.evaluate", expression=script, awaitPromise=True)
            return made["result"].get("value") is True

        self.until(is_true, script)

    @staticmethod
    def until(done: Callable[[], object], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < end, f"never came: {what}"
            time.sleep(0.05)

    def screen(self, width: int, height: int, density: float = 1, touch: bool = False) -> None:
        """Be a screen of a size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=density, mobile=touch,
        )  # fmt: skip
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)

    def drag(self, *places: Place, button: str = "left") -> None:
        """Press a button of the mouse, go through places, and release it."""
        held = {"button": button, "buttons": {"left": 1, "right": 2, "middle": 4}[button]}
        self.mouse("mouseMoved", places[0])
        self.mouse("mousePressed", places[0], clickCount=1, **held)
        for place in places[1:]:
            self.mouse("mouseMoved", place, **held)
        self.mouse("mouseReleased", places[-1], clickCount=1, button=button)

    def mouse(self, kind: str, place: Place, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], **more)

    def touch(self, kind: str, *places: Place, first: int = 0) -> None:
        """Say where fingers are, or which are lifted by `touchEnd`: all if none is named.

        Args:
            first: number of the first of these fingers.
        """
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places, first)]
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    def press(self, *keys: str) -> None:
        """Press keys one after another, as `a`, `Enter` or `Control+Shift+z`."""
        for name in keys:
            *held, key = name.split("+") if len(name) > 1 else [name]
            modifiers = sum(_MODIFIERS[modifier] for modifier in held)
            text = {"text": key} if len(key) == 1 and not held else {}
            code = {
                "windowsVirtualKeyCode": ord(key.upper()[0])
                if len(key) == 1
                else _CODES.get(key, 0)
            }
            told = {"key": key, "modifiers": modifiers, **code}
            self.call("Input.dispatchKeyEvent", type="keyDown", **told, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **told)

    def screenshot(self, path: Path) -> None:
        """Write what is seen as PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def drop(self, path: Path) -> None:
        """Drop a file on the page."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=300, y=300, data=data)

    def choose(self, selector: str, path: Path) -> None:
        """Give a file to the input of a form."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A new browser with an empty profile in `folder`; it is gone afterwards."""
    ends = {name: folder / name for name in ("commands", "replies")}
    for path in ends.values():
        os.mkfifo(path)
    # The protocol reads from descriptor 3 and writes to 4.
    script = f'exec "$@" 3<"{ends["commands"]}" 4>"{ends["replies"]}"'
    command = ["sh", "-c", script, "sh", str(PROGRAM), *FLAGS, f"--user-data-dir={folder / 'user'}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
    commands = os.open(ends["commands"], os.O_WRONLY)
    replies = os.open(ends["replies"], os.O_RDONLY)
    try:
        page = Page(Pipe(commands, replies))
        yield page
        page._session = {}
        page.call("Browser.close")
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(commands)
        os.close(replies)
