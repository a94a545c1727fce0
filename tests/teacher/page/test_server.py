"""The page's server, asked by all who should get an answer and by all who should not."""

import json
import socket
import threading
from collections.abc import Generator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets.labels import LabelSet
from teacher.page import server as server_module
from teacher.page.journal import NotSaved
from teacher.page.routes import FILES
from tests.conftest import SIZE
from tests.teacher.page.serving import COUNT, TOKEN, Served, saved_mask, until

LINE = {"kind": "line", "class": 1, "size": 3, "points": [[4.5, 4.5], [8, 9]]}


def sentence(data: bytes) -> str:
    """The one sentence of a refusal."""
    said = json.loads(data)["error"]
    assert said.rstrip().endswith(".") and "\n" not in said
    return said


# ---- what the page asks for


def test_the_page_and_its_files_are_given(served: Served) -> None:
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
    kinds[".svg"] = "image/svg+xml"
    folder = Path(server_module.__file__).parent / "static"
    assert {path.name for path in folder.iterdir()} == {*FILES}
    for name in FILES:
        status, data, headers = served.ask("" if name == "page.html" else name)
        assert (status, data) == (200, (folder / name).read_bytes())
        assert headers["content-type"].startswith(kinds[Path(name).suffix])


def test_a_sample_has_an_image_a_state_a_mask_and_an_answer(
    served: Served, labels: LabelSet, tmp_path: Path
) -> None:
    setup = served.json("setup")
    assert (setup["resolution"], setup["samples"]) == (SIZE, COUNT)
    assert served.ask("samples/2/answer")[0] in (200, 204)
    status, image, headers = served.ask("samples/2/image.png")
    (tmp_path / "image.png").write_bytes(image)
    with Image.open(tmp_path / "image.png") as opened:
        assert opened.size == (SIZE, SIZE)
    assert status == 200 and "immutable" in headers["cache-control"]

    state = served.json("samples/2/strokes", LINE)
    assert (state["strokes"], state["undo"], state["redo"]) == (1, True, False)
    _, mask, headers = served.ask("samples/2/mask")
    assert headers["x-edition"] == str(state["edition"])
    drawn = saved_mask(served.folder, labels, 2)
    assert mask == drawn.tobytes() and (drawn == 1).sum() == state["pixels"] > 0

    assert served.ask("wanted", [2, 0])[0] == 204
    until(lambda: served.ask("samples/2/answer")[0] == 200)
    _, whole, headers = served.ask("samples/2/answer")
    _, thinned, again = served.ask("samples/2/answer?every=4")
    if headers["x-version"] == again["x-version"]:
        images = np.frombuffer(whole, np.uint8).reshape(2, SIZE, SIZE)
        assert thinned == images[:, ::4, ::4].tobytes()
    row = next(row for row in served.json("overview") if row["sample"] == 2)
    assert row["strokes"] == 1 and row["pixels"] == state["pixels"]
    assert served.json("next?sample=2")["sample"] != 2

    assert served.json("samples/2/undo", {})["redo"]
    assert set(served.ask("samples/2/mask")[1]) == {255}
    assert served.json("samples/2/redo", {})["pixels"] == state["pixels"]


def test_what_is_sent_twice_is_done_once(served: Served) -> None:
    assert served.json("samples/3/strokes?act=first", LINE)["strokes"] == 1
    assert served.json("samples/3/strokes?act=first", LINE)["strokes"] == 1
    assert served.json("samples/3/strokes?act=second", LINE)["strokes"] == 2
    assert served.json("samples/3/undo?act=third", {})["strokes"] == 1
    assert served.json("samples/3/undo?act=third", {})["strokes"] == 1


def test_events_come_as_they_happen_to_all_who_listen(served: Served) -> None:
    streams = [events(served) for _ in range(2)]
    assert [next(stream) for stream in streams] == [{"event": "open"}] * 2
    state = served.json("samples/5/strokes", LINE)
    for stream in streams:
        told = next(event for event in stream if event["event"] == "sample")
        assert told["state"] == state
    answer = next(event for event in streams[0] if event["event"] == "answer")
    assert answer["version"] >= 1
    for stream in streams:
        stream.close()


def test_a_stream_says_now_and_then_that_it_lives_and_ends_with_its_browser(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("teacher.page.events._BEAT", 0.05)
    listeners = served.session._listeners
    until(lambda: not listeners)  # those of the test before
    connection = HTTPConnection("127.0.0.1", served.port, timeout=30)
    with closing(connection):
        connection.request("GET", f"/{TOKEN}/events")
        with connection.getresponse() as answer:
            until(lambda: answer.readline() == b": nothing new\n")
            assert len(listeners) == 1
    until(lambda: not listeners)


def events(served: Served) -> Generator[dict[str, Any]]:
    """What a browser hears."""
    connection = HTTPConnection("127.0.0.1", served.port, timeout=30)
    connection.request("GET", f"/{TOKEN}/events")
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    with closing(connection), answer:
        while line := answer.readline():
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))


# ---- what is refused


@pytest.mark.parametrize("token", ["", "a-toke", "a-token2", "A-TOKEN", "%61-token", "samples"])
def test_without_the_token_there_is_nothing(served: Served, token: str) -> None:
    for end in ("", "setup", "samples/0/image.png", "page.js"):
        status, data, headers = raw(served, f"GET /{token}/{end} HTTP/1.1", host(served))
        assert status == 403 and "token" in sentence(data)
        assert "default-src 'none'" in headers


@pytest.mark.parametrize(
    "hosts",
    [[], ["evil.example"], ["127.0.0.1"], ["localhost:1"], ["127.0.0.1:{port}", "evil.example"]],
)
def test_another_host_is_refused(served: Served, hosts: list[str]) -> None:
    lines = [f"Host: {name.format(port=served.port)}" for name in hosts]
    status, _, _ = raw(served, f"GET /{TOKEN}/setup HTTP/1.1", *lines)
    assert status in (400, 403)  # 400 where HTTP itself forbids it


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "https://127.0.0.1:{port}", "http://127.0.0.1"]
)
@pytest.mark.parametrize("path", ["setup", "page.js"])
def test_another_site_is_refused(served: Served, origin: str, path: str) -> None:
    told = {"Origin": origin.format(port=served.port)}
    status, data, _ = served.ask(path, headers=told)
    assert status == 403 and "another site" in sentence(data)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_page_itself_is_not_refused(served: Served, name: str) -> None:
    told = {"Host": f"{name}:{served.port}", "Origin": f"http://{name}:{served.port}"}
    assert served.ask("setup", headers=told)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "../server.py", "..%2fserver.py", "%2e%2e/server.py", "..\\server.py", "page%2ehtml", "page.html",
        "./page.css", "/page.css", "page.css/", "static/page.css", "//etc/passwd", "samples/0/../1/state",
        "samples/0%2fstate", "setup%00", "setup/", "server.py", "samples/-1/state", "samples/1e0/state",
        "samples/%D9%A1/state", f"samples/{'9' * 5000}/state", "samples/0", "samples//state",
    ],
)  # fmt: skip
def test_no_path_reaches_anything_else(served: Served, path: str) -> None:
    status, data, _ = raw(served, f"GET /{TOKEN}/{path} HTTP/1.1", host(served))
    assert status in (403, 404), data
    sentence(data)


def test_a_sample_that_is_not_there_is_not_found(served: Served) -> None:
    for end in ("image.png", "state", "mask", "answer"):
        status, data, _ = served.ask(f"samples/{COUNT}/{end}")
        assert status == 404 and f"no sample {COUNT}" in sentence(data)
    for end in ("strokes", "undo", "redo"):
        assert served.ask(f"samples/{COUNT}/{end}", LINE)[0] == 404
    assert served.ask("wanted", [0, COUNT])[0] == 404
    assert served.ask("next?sample=many")[0] == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "no JSON"), (b"[" * 100_000, "no JSON"), (b"\xff", "no JSON"), ([], "a mapping"),
        ({}, "a line, an area or agreed"), (LINE | {"class": 8}, "a class from 0 to 7"),
        (LINE | {"size": 0}, "size above 0"), (LINE | {"points": []}, "1 to 20000 points"),
        (LINE | {"points": [[1, 1e9]]}, "far outside"), (LINE | {"kind": "area"}, "3 to 20000 points"),
        (b'{"kind": "line", "class": 1, "size": NaN, "points": [[1, 1]]}', "size above 0"),
        ({"kind": "agreed", "runs": [[0, 0, SIZE * SIZE + 1]]}, "in order"), ("undo", "a mapping"),
    ],
)  # fmt: skip
def test_a_bad_stroke_is_refused_with_one_sentence(served: Served, body: object, said: str) -> None:
    before = served.json("samples/7/state")
    status, data, _ = served.ask("samples/7/strokes", body)
    assert status == 400 and said in sentence(data)
    assert served.json("samples/7/state") == before


@pytest.mark.parametrize("body", [{}, [1.5], ["1"], [True], [-1], b"1,"])
def test_wanted_samples_are_numbers(served: Served, body: object) -> None:
    assert served.ask("wanted", body)[0] == 400


def test_a_body_that_is_too_large_is_not_read(served: Served) -> None:
    lines = (host(served), "Transfer-Encoding: chunked")
    chunk = "100000\r\n" + " " * 0x100000 + "\r\n"
    status, data, _ = raw(
        served, f"POST /{TOKEN}/samples/7/strokes HTTP/1.1", *lines, body=chunk * 5
    )
    assert status == 413
    sentence(data)


def test_other_methods_are_refused(served: Served) -> None:
    for request in (
        "POST /{}/setup",
        "GET /{}/samples/0/strokes",
        "DELETE /{}/",
        "PUT /{}/page.js",
    ):
        status, data, _ = raw(served, request.format(TOKEN) + " HTTP/1.1", host(served))
        assert status == 405
        sentence(data)


def test_a_full_disk_and_a_failure_of_the_server_are_told(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise NotSaved("the disk is full.")

    monkeypatch.setattr(served.session, "add", full)
    status, data, _ = served.ask("samples/0/strokes", LINE)
    assert (status, sentence(data)) == (507, "the disk is full.")

    monkeypatch.setattr(served.session, "add", lambda *_, **__: 1 / 0)
    status, data, headers = served.ask("samples/0/strokes", LINE)
    assert status == 500 and "terminal" in sentence(data)
    assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"


def host(served: Served) -> str:
    return f"Host: 127.0.0.1:{served.port}"


def raw(served: Served, request: str, *headers: str, body: str = "") -> tuple[int, bytes, str]:
    """Send exactly this; status, body and head of the answer."""
    text = "\r\n".join([request, *headers, "Connection: close", "", body])
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        sender = threading.Thread(target=send, args=(connection, text.encode("latin-1")))
        sender.start()
        answer = b""
        with suppress(ConnectionResetError):  # for the rest of a body that nobody reads
            while part := connection.recv(1 << 16):
                answer += part
        sender.join()
    head, _, data = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), data, head.decode()


def send(connection: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # the server has read enough
        connection.sendall(data)
