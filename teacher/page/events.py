"""Server-sent events: what the session tells by itself, to every browser that listens."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from teacher.page.session import Session

Event = dict[str, Any]

_BEAT = 15  # seconds after which a stream that has nothing to say shows that it lives
_MOST_WAITING = 1000  # events; a browser that takes none is cut off, and asks again for everything


class Events:
    """The streams that are open."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._listeners = set[asyncio.Queue[Event | None]]()

    async def stream(self) -> AsyncIterator[str]:
        """Server-sent events, from now on. The first says that none will be missed any more."""
        queue, loop = asyncio.Queue[Event | None](), asyncio.get_running_loop()

        def tell(event: Event) -> None:
            with suppress(RuntimeError):  # the server has ended, and its loop
                loop.call_soon_threadsafe(queue.put_nowait, event)

        self._listeners.add(queue)
        unsubscribe = self._session.subscribe(tell)
        try:
            queue.put_nowait({"event": "open"})
            while queue.qsize() < _MOST_WAITING:
                try:
                    event = await asyncio.wait_for(queue.get(), _BEAT)
                except TimeoutError:
                    yield ": nothing new\n\n"
                    continue
                if event is None:
                    break
                yield f"data: {json.dumps(event)}\n\n"
        finally:
            unsubscribe()
            self._listeners.discard(queue)

    def end(self) -> None:
        """Let all streams end."""
        for queue in self._listeners:
            queue.put_nowait(None)
