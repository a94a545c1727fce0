"""Chromium without a window, driven over a pipe by its own protocol, with no network to reach."""

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
    "--host-resolver-rules=MAP * ~NOTFOUND", "--use-fake-device-for-media-stream",
    "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 120  # seconds


class Page:
    """A page of a browser.

    Attributes:
        events: what the browser told by itself.
    """

    def __init__(self, commands: int, replies: int) -> None:
        self._commands, self._replies, self._pending = commands, replies, b""
        self._count, self._session = 0, dict[str, str]()
        self.events: list[dict[str, Any]] = []

    def open(self, url: str) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        self.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        asked = {"id": self._count, "method": method, "params": parameters, **self._session}
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

    def run(self, script: str) -> Any:
        """The value of a script; promises are awaited."""
        made = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in made, made
        return made["result"].get("value")

    def wait(self, script: str) -> None:
        """Until the script's value is true."""
        self.until(lambda: self.run(script), script)

    @staticmethod
    def until(done: Callable[[], object], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < end, f"never came: {what}"
            time.sleep(0.05)

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
        page = Page(commands, replies)
        yield page
        page._session = {}
        page.call("Browser.close")
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(commands)
        os.close(replies)
