"""What the page may ask of a session, and the files that it consists of.

No part of an address ever becomes a path on the disk: the files are a fixed table.
"""

import asyncio
import json
import math
import re
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from common.errors import UserError
from teacher.page.events import Events
from teacher.page.session import Session

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

# What a browser may have of the disk, by name.
FILES = (
    "page.html", "page.css", "icon.svg", "page.js", "easel.js", "sample.js", "server.js", "queue.js",
    "raster.js", "paint.js", "view.js", "pointers.js", "tools.js", "legend.js", "strip.js", "keys.js",
)  # fmt: skip
_KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_LARGEST_BODY = 4 << 20
_REMEMBERED = 1000  # strokes
_FOR_GOOD = {"Cache-Control": "private, max-age=604800, immutable"}


class Routes:
    """The answers to all requests. What the session does may take its time, so threads wait for it."""

    def __init__(self, session: Session, events: Events) -> None:
        self._session, self._events = session, events
        self._adding = asyncio.Lock()
        # Names that browsers gave to what they sent.
        self._added: deque[str] = deque(maxlen=_REMEMBERED)

    def all(self) -> list[Route]:
        files = {f"/{name}": name for name in FILES[1:]} | {"/": FILES[0]}
        gets: dict[str, Handler] = {path: _file(name) for path, name in files.items()}
        gets |= {
            "/setup": self.setup,
            "/overview": self.overview,
            "/events": self.events,
            "/next": self.next,
            "/samples/{n}/image.png": self.image,
            "/samples/{n}/state": self.state,
            "/samples/{n}/mask": self.mask,
            "/samples/{n}/answer": self.answer,
        }
        posts: dict[str, Handler] = {
            "/samples/{n}/strokes": self.stroke,
            "/samples/{n}/undo": self.undo,
            "/samples/{n}/redo": self.undo,
            "/wanted": self.wanted,
        }
        return [
            *(Route(path, handler, methods=["GET"]) for path, handler in gets.items()),
            *(Route(path, handler, methods=["POST"]) for path, handler in posts.items()),
        ]

    async def setup(self, request: Request) -> Response:
        found = await run_in_threadpool(self._session.setup)
        if error := self._session.error:  # of which a page that is opened now was not told
            found |= {"problem": f"The answers have stopped: {error}"}
        return JSONResponse(found)

    async def overview(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._session.overview))

    async def events(self, request: Request) -> Response:
        return StreamingResponse(self._events.stream(), media_type="text/event-stream")

    async def next(self, request: Request) -> Response:
        number = _number(request.query_params.get("sample", ""))
        return JSONResponse(await run_in_threadpool(self._session.next, number))

    async def image(self, request: Request) -> Response:
        data = await self._of(request, self._session.image)
        return Response(data, media_type="image/png", headers=_FOR_GOOD)

    async def state(self, request: Request) -> Response:
        return JSONResponse(await self._of(request, self._session.state))

    async def mask(self, request: Request) -> Response:
        """The mask, and in a header which edition of it this is."""
        edition, data = await self._of(request, self._mask)
        return _bytes(data, {"X-Edition": str(edition)})

    def _mask(self, number: int) -> tuple[int, bytes]:
        while True:
            edition = self._session.state(number)["edition"]
            data = self._session.mask(number)
            if self._session.state(number)["edition"] == edition:  # nothing changed in between
                return edition, data

    async def answer(self, request: Request) -> Response:
        """The teacher's answer, of which small images need but every k-th pixel of every k-th row."""
        step = _number(request.query_params.get("every", "1")) or 1
        found = await self._of(request, self._session.answer)
        if found is None:
            return Response(status_code=204)
        version, data = found
        if step > 1:
            data = await run_in_threadpool(_thin_out, data, step)
        return _bytes(data, {"X-Version": str(version)})

    async def stroke(self, request: Request) -> Response:
        values = await _json(request)
        if not isinstance(values, dict):
            raise UserError("a stroke is a mapping of names to values.")
        return await self._add(request, values)

    async def undo(self, request: Request) -> Response:
        return await self._add(request, request.url.path.rpartition("/")[2])

    async def _add(self, request: Request, what: dict[str, Any] | str) -> Response:
        # A browser that did not hear the answer, as it was reloaded, sends the same once more.
        name = request.query_params.get("act")
        async with self._adding:
            if name in self._added:
                return await self.state(request)
            state = await self._of(request, partial(self._session.add, done=what))
            if name:
                self._added.append(name)
        return JSONResponse(state)

    @staticmethod
    async def _of(request: Request, ask: Callable[[int], Any]) -> Any:
        """What the session says of the sample in the address."""
        return await run_in_threadpool(ask, _number(request.path_params["n"]))

    async def wanted(self, request: Request) -> Response:
        numbers = await _json(request)
        if not isinstance(numbers, list) or any(type(n) is not int or n < 0 for n in numbers):
            raise UserError("wanted samples are a list of their numbers.")
        await run_in_threadpool(self._session.wanted, numbers)
        return Response(status_code=204)


def _file(name: str) -> Handler:
    path = Path(__file__).parent / "static" / name
    data, kind = path.read_bytes(), _KINDS[path.suffix]

    async def give(request: Request) -> Response:
        return Response(data, media_type=kind)

    return give


def _number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise HTTPException(404, "a number from 0 belongs here.")
    return int(text)


async def _json(request: Request) -> object:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > _LARGEST_BODY:
            raise HTTPException(413, "this is more than a stroke can be: four million bytes.")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError("the request is no JSON.") from error


def _bytes(data: bytes, headers: dict[str, str]) -> Response:
    return Response(data, media_type="application/octet-stream", headers=headers)


def _thin_out(data: bytes, step: int) -> bytes:
    """Every k-th pixel of every k-th row of two square images, k being the step."""
    side = math.isqrt(len(data) // 2)
    images = np.frombuffer(data, np.uint8).reshape(2, side, side)
    return images[:, ::step, ::step].tobytes()
