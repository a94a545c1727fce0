"""A session on the tiny generator's samples, and its page served as `draw` serves it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch

from datasets.labels import LabelSet, Mask
from teacher.generators.registry import load_generator
from teacher.generators.sampling import latents_of_seed
from teacher.page.candidates import Candidates
from teacher.page.journal import Journal
from teacher.page.output import FOLDER, AnnotatedFolder
from teacher.page.server import Server, listen
from teacher.page.session import Session
from tests.conftest import SIZE, Chain

TOKEN = "a-token"
COUNT = 12
HEAD = {"samples": "of this test"}


@dataclass(frozen=True)
class Served:
    """A page that is served.

    Attributes:
        folder: where its strokes are.
        session: what it is a page of.
        port: where it is reached on this machine.
        token: what its addresses begin with.
    """

    folder: Path
    session: Session
    port: int
    token: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.token}/"

    def ask(
        self,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        token: str = TOKEN,
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of an answer; a request with a body is a POST."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        method = "GET" if data is None else "POST"
        connection.request(method, f"/{token}/{path}", data, headers or {})
        answer = connection.getresponse()
        found = answer.status, answer.read(), dict(answer.headers)
        connection.close()
        return found

    def json(self, path: str, body: object = None) -> Any:
        status, data, _ = self.ask(path, body)
        assert status == 200, (status, data)
        return json.loads(data)


@contextmanager
def serve(
    chain: Chain, labels: LabelSet, folder: Path, port: int = 0, token: str = TOKEN
) -> Iterator[Served]:
    """Open the strokes of a folder and serve their page, until the block ends."""
    generator = load_generator(chain.generator, torch.device("cpu"))
    source = latents_of_seed(generator, 5, 1.0)
    with Journal(folder, HEAD, COUNT, SIZE, len(labels)) as journal:
        candidates = Candidates(generator, source, COUNT, None)
        output = AnnotatedFolder(folder / FOLDER, labels, candidates, "hash", {})
        session = Session(candidates, journal, output, labels)
        listener = listen(port)
        session.start()
        server = Server(session, token, listener)
        thread = Thread(target=server.run)
        thread.start()
        try:
            until(lambda: session.setup()["ready"] == COUNT)
            yield Served(folder, session, listener.getsockname()[1], token)
        finally:
            server.should_exit = True
            thread.join()
            session.end()
            if session.error:
                raise session.error


def until(done: Any, patience: float = 60) -> None:
    """Wait for something that becomes true."""
    end = time.monotonic() + patience
    while not done():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def saved_mask(folder: Path, labels: LabelSet, sample: int) -> Mask:
    """What the strokes on disk make of a sample's mask."""
    copy = folder.with_name(f"{folder.name} copy")
    copy.mkdir(exist_ok=True)
    (copy / "strokes.jsonl").write_bytes((folder / "strokes.jsonl").read_bytes())
    with Journal(copy, HEAD, COUNT, SIZE, len(labels)) as journal:
        drawing = journal.drawings.get(sample)
        return np.full((SIZE, SIZE), 255, np.uint8) if drawing is None else drawing.mask(SIZE)


def line(label: int, row: float) -> dict[str, Any]:
    """A stroke across a sample, as the page sends it."""
    points = [[2, row], [13, row]]
    return {"kind": "line", "class": label, "size": 2, "points": points}
