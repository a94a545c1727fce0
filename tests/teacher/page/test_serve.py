"""The page's server from its start to its end."""

import stat
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from teacher.page import server as server_module
from teacher.page.server import listen, serve


class Idle:
    """A session in which nothing happens."""

    def __init__(self) -> None:
        self.started = False

    def start(self) -> None:
        self.started = True

    def subscribe(self, listener: object) -> Any:
        return lambda: None


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Servers stop as by Ctrl-C, while a browser listens; gives the addresses of their pages."""
    opened: list[str] = []

    def run(self: server_module.Server) -> None:
        thread = threading.Thread(
            target=super(server_module.Server, self).run, args=([self._listener],)
        )
        thread.start()
        connection = HTTPConnection("127.0.0.1", self._listener.getsockname()[1], timeout=30)
        path = opened[-1].split("/", 3)[3]
        connection.request("GET", f"/{path}events")
        stream = connection.getresponse()
        assert b"open" in stream.readline()
        begun = time.monotonic()
        self.should_exit = True
        thread.join()
        assert time.monotonic() - begun < 2
        connection.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(server_module.Server, "run", run)
    monkeypatch.setattr("webbrowser.open", opened.append)
    return opened


def test_an_open_page_finds_the_server_again(
    stopped: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Port and token stay the same for a folder, for its owner's eyes only."""
    session: Any = Idle()
    for folder in (tmp_path, tmp_path, tmp_path / "other", None):
        if folder:
            folder.mkdir(exist_ok=True)
        serve(session, 0, True, folder)
        assert stopped[-1] in capsys.readouterr().out
    assert stopped[0] == stopped[1] and len({*stopped}) == 3
    assert session.started and stat.S_IMODE((tmp_path / ".address").stat().st_mode) == 0o600

    with listen(int(stopped[0].split(":")[2].split("/")[0])) as taken:
        serve(session, 0, True, tmp_path)  # at another port then
        assert stopped[-1] not in stopped[:-1]
        with pytest.raises(UserError, match=r"cannot be had .* choose another --port"):
            serve(session, taken.getsockname()[1], True, tmp_path)
