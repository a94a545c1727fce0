"""The server of the drawing page: one session, for browsers on this machine alone.

Every address begins with a token that only the page's owner knows; `guard.py` refuses all else.
"""

import secrets
import socket
import webbrowser
from contextlib import suppress
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from common.errors import UserError
from teacher.page.events import Events
from teacher.page.guard import Guard, error_response
from teacher.page.journal import NotSaved
from teacher.page.routes import Routes
from teacher.page.session import NoSample, Session

# What Starlette says by itself.
_PLAIN = {
    "Not Found": "there is nothing at this address.",
    "Method Not Allowed": "this address does not take such a request.",
}
_KEPT = ".address"  # port and token; for the owner's eyes only


def serve(session: Session, port: int, opens: bool, folder: Path | None = None) -> None:
    """Start a session and serve its page until Ctrl-C.

    Args:
        port: 0 for the one that was used before, or any that is free.
        opens: whether the browser is to open the page.
        folder: where port and token are kept, so that an open page goes on after the server has ended;
            none to keep them nowhere.

    Raises:
        UserError: the port is taken.
    """
    kept = folder / _KEPT if folder else None
    port_before, token = _read_kept(kept)
    try:
        listener = listen(port or port_before)
    except UserError:
        if port:
            raise
        listener = listen(0)
    port = listener.getsockname()[1]
    if kept:
        _keep(kept, port, token)
    address = f"http://127.0.0.1:{port}/{token}/"
    session.start()
    print(f"The page is at {address} (Ctrl-C ends).", flush=True)
    if opens:
        with suppress(webbrowser.Error):
            webbrowser.open(address)
    with suppress(KeyboardInterrupt):
        Server(session, token, listener).run()


def _read_kept(path: Path | None) -> tuple[int, str]:
    """Port and token of the last time; any free port and a new token where there was none."""
    try:
        port, token = (path.read_text() if path else "").split()
        return int(port), token
    except (OSError, ValueError):
        return 0, secrets.token_urlsafe(24)


def _keep(path: Path, port: int, token: str) -> None:
    with suppress(OSError):  # a full disk; the page works without
        path.touch(0o600)
        path.write_text(f"{port} {token}\n")


def listen(port: int) -> socket.socket:
    """A socket on the loopback interface; connections wait in it until a `Server` takes them.

    Args:
        port: 0 for any that is free.

    Raises:
        UserError: the port is taken.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise UserError(
            f"port {port} of this machine cannot be had ({error.strerror}); choose another --port."
        ) from error
    listener.listen()
    return listener


class Server(uvicorn.Server):
    """Serves a session on a socket; `run` lasts until Ctrl-C, or until `should_exit` is set."""

    def __init__(self, session: Session, token: str, listener: socket.socket) -> None:
        self._listener, self._events = listener, Events(session)
        app = create_app(session, token, listener.getsockname()[1], self._events)
        # A request that is at work has three seconds to end; none takes that long.
        super().__init__(
            uvicorn.Config(
                app, http="h11", ws="none", lifespan="off", log_level="warning", access_log=False,
                server_header=False, timeout_graceful_shutdown=3,
            )
        )  # fmt: skip

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run(sockets or [self._listener])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._events.end()  # uvicorn waits for all responses, and these have no end of their own
        await super().shutdown(sockets)


def create_app(session: Session, token: str, port: int, events: Events | None = None) -> ASGIApp:
    """The application, behind its guard.

    Args:
        port: at which browsers reach it.
    """
    app = Starlette(
        routes=Routes(session, events or Events(session)).all(),
        exception_handlers={
            UserError: _bad_input,
            NotSaved: _not_saved,
            NoSample: _no_sample,
            HTTPException: _refused,
            Exception: _failed,
        },
    )
    app.router.redirect_slashes = False
    return Guard(app, token, port)


async def _bad_input(request: Request, error: Exception) -> Response:
    return error_response(400, str(error))


async def _not_saved(request: Request, error: Exception) -> Response:
    return error_response(507, str(error))


async def _no_sample(request: Request, error: Exception) -> Response:
    return error_response(404, str(error))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, _PLAIN.get(error.detail, error.detail))


async def _failed(request: Request, error: Exception) -> Response:
    return error_response(500, "the server has failed here; its terminal says more.")
