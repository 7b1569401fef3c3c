"""What somebody who means harm sends: odd and endless requests, other sites, other files."""

from __future__ import annotations

import http.client
import json
import logging
import secrets
import socket
import time

import numpy as np
import pytest
from drawn_runs import QUICK, draw
from networks import Brightness
from PIL import Image

from gradcut import RECIPES, Classifier, Segmenter, images
from gradcut.files import Folder
from gradcut.listening import listen
from gradcut.runs.job import Job
from gradcut.runs.segment import segment_all

pytest.importorskip("starlette", reason="needs gradcut[web]")
pytest.importorskip("uvicorn", reason="needs gradcut[web]")
from gradcut.web import Limits, Server, create_app
from gradcut.web.state import Shelf, Upload

TAB = "t" * 48


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A run's, which has all endpoints."""
    classifier = Classifier(
        Brightness().eval(), ("red", "blue"), size=64, mean=(0, 0, 0), std=(1, 1, 1), multilabel=True, name="tiny"
    )
    folder = tmp_path_factory.mktemp("safety")
    segmenter = Segmenter(classifier, QUICK)
    list(segment_all(Job(segmenter, Folder(str(folder / "run")), pictures=False), draw(folder / "in", 1)))
    Image.new("RGB", (8, 8)).save(folder / "secret.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, QUICK.name, QUICK)
        patch.setattr("gradcut.web.guard.SECONDS", 0.3)
        app = create_app({"tiny": classifier}, QUICK.name, run=(str(folder / "run"), segmenter), token="a-token")
        with Server(app, listen(port=0)) as running:
            yield running


@pytest.fixture
def ask(server):
    """Send a request, on one connection as long as the server keeps it."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)

    def send(method, path, body=None, **headers):
        headers = {"x-tab": TAB, "x-token": "a-token"} | {
            name.replace("_", "-"): text for name, text in headers.items()
        }
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    yield send
    connection.close()


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def drawn(radius, point, kind="foreground"):
    return {"red": [{"kind": kind, "radius": radius, "points": [point]}]}


ODD = [
    None, True, -1, 0, 10**400, -1e308, float("nan"), float("inf"), "", "\ud800", "x\ny", 300 * "x", "../../secret.png",
    [], [[]], [None], ["\ud800"], deep(90), 1000 * [0], {}, {"a": None}, {"\ud800": []}, {"red": deep(90)},
    drawn(10**400, [0, 0]), drawn(1, [10**400, 0]), drawn(1, []), drawn(1, [0, 0], kind=[]),
]  # fmt: skip


def test_odd_values_are_refused_in_one_line(server, ask, caplog):
    """In every place of every request; none ends in a traceback."""
    status, data = ask("POST", "/api/photograph", images.encode_png(np.zeros((9, 9, 3), np.uint8)))
    single = {
        "photograph": json.loads(data)["photograph"], "classifier": "tiny", "words": None, "recipe": QUICK.name,
        "label": None, "threshold": 0.5, "foreground": None, "background": None, "strokes": {},
    }  # fmt: skip
    (name,) = (line["name"] for line in json.loads(ask("GET", "/api/run")[1])["photographs"])
    key = json.loads(ask("POST", "/api/run/open", json.dumps({"name": name}))[1])["photograph"]
    edit = {"photograph": key, "removed": [], "added": [], "strokes": {}}
    requests = {
        "/api/segment": single, "/api/download/mask": single, "/api/run/open": {"name": name}, "/api/run/prepare": edit,
        "/api/run/look": edit, "/api/run/save": edit | {"state": "corrected", "revision": 0},
    }  # fmt: skip
    seen = set()
    for path, asked in requests.items():
        for place in asked:
            for value in ODD:
                caplog.clear()
                body = json.dumps(asked | {place: value})
                status, data = ask("POST", path, body)
                assert status in (200, 204, 400, 404), (path, place, value, data)
                seen.add(status)
                records = [record for record in caplog.records if record.levelno >= logging.WARNING]
                assert len(records) == (status >= 400), (path, place, value)
                assert all(record.exc_info is None and record.getMessage().isprintable() for record in records)
                if status >= 400:
                    assert len(json.loads(data)["message"]) < 500
                    assert "Traceback" not in data.decode()
    assert {200, 400, 404} <= seen
    digits, nested = b'{"a": ' + 5000 * b"9" + b"}", 100_000 * b'{"a":'
    for body in (b"", b"\xff", b"{", b"[]", b"nul", digits, nested, 100_000 * b"[", b"\x00" * 99):
        caplog.clear()
        status, data = ask("POST", "/api/run/look", body)
        assert (status, len(caplog.records)) == (400, 1), body[:20]
    for path in ("/api/photograph/%0aWARNING%0d%1b[2J", "/" + 3000 * "a", "/api/example/..%2fx", "/api/example/%ff"):
        caplog.clear()
        assert ask("GET", path)[0] in (400, 404)
        (record,) = caplog.records
        assert record.getMessage().isprintable()
        assert len(record.getMessage()) < 400


@pytest.mark.parametrize(
    "name",
    ["../secret", "..%2Fsecret.png", "%2e%2e/secret", "/etc/passwd", "in/000", "run.json", "%00", "manifest.jsonl"],
)
def test_only_the_photographs_of_the_run_are_read(ask, name):
    status, data = ask("GET", f"/api/run/thumbnail/{name}")
    assert status in (400, 404), data
    assert b"PNG" not in data
    assert b"root:" not in data
    assert ask("POST", "/api/run/open", json.dumps({"name": name}))[0] == 400


def test_other_pages_may_not_ask(server, ask):
    host = server.url.removeprefix("http://")
    for origin in ("http://evil.example", f"http://{host}.evil.example", "null", "http://[", "http://127.0.0.1:1", ""):
        for method, path in (("GET", "/api/run"), ("POST", "/api/run/save"), ("DELETE", "/api/photographs")):
            status, data = ask(method, path, origin=origin)
            assert status == 403, origin
            assert b"its own page only" in data
    assert ask("GET", "/api/run", origin=server.url)[0] == 200


def test_the_token_is_compared_in_constant_time(ask, monkeypatch):
    compared = []
    compare = secrets.compare_digest
    monkeypatch.setattr(secrets, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    for token in ("a-toke", "a-tokem", "", "\xff"):
        assert ask("GET", "/api/run", x_token=token)[0] == 403
    assert [given for given, _ in compared] == [b"a-toke", b"a-tokem", b"", b"\xff"]
    assert {own for _, own in compared} == {b"a-token"}


def opened(server, sent):
    connection = socket.create_connection(server.url.removeprefix("http://").split(":"), timeout=10)
    connection.sendall(sent)
    return connection


def rest(connection):
    """What comes until the server closes, and after how many seconds."""
    started, data = time.monotonic(), b""
    while part := connection.recv(65536):
        data += part
    return data, time.monotonic() - started


def dribble(connection):
    for _ in range(100):
        connection.sendall(b"1\r\nP\r\n")
        time.sleep(0.05)


HEAD = b"POST /api/photograph HTTP/1.1\r\nhost: localhost\r\nx-token: a-token\r\nx-tab: " + TAB.encode() + b"\r\n"


def test_who_is_slow_is_not_waited_for(server, ask, monkeypatch):
    """Neither for a request's head, before the first or after it, nor for its body."""
    for sent in (b"", b"GET / HT", HEAD):
        data, seconds = rest(opened(server, sent))
        assert data == b""
        assert seconds < 20
    connection = opened(server, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert connection.recv(20).startswith(b"HTTP/1.1 200")
    connection.sendall(b"GET / HTTP/1.1\r\nx-slow: ")
    data, seconds = rest(connection)
    assert b"HTTP/1.1" not in data
    assert seconds < 20
    monkeypatch.setattr("gradcut.web.requests.SECONDS", 0.5)
    connection = opened(server, HEAD + b"content-length: 9999\r\n\r\nPNG")
    assert b" 400 " in connection.recv(4096)
    connection.close()
    # One drop after another keeps nothing open.
    connection = opened(server, HEAD + b"transfer-encoding: chunked\r\n\r\n")
    with pytest.raises(OSError):  # noqa: PT011  a closed connection has several names
        dribble(connection)
    assert ask("GET", "/api/run")[0] == 200


def test_more_connections_than_there_is_room_for_are_turned_away(server, ask, monkeypatch):
    idle = [opened(server, b"GET / HT") for _ in range(140)]
    assert ask("GET", "/api/run")[0] == 503
    for connection in idle:
        assert rest(connection)[0] == b""
    assert ask("GET", "/api/run")[0] == 200, "as soon as they are gone"


def test_tabs_are_bounded():
    shelf = Shelf(Limits(in_all=5))
    pixels = np.zeros((1, 1, 3), np.uint8)
    for number in range(20):
        shelf.put(Upload(f"{number:040}", "x", pixels, pixels, b""))
    assert len(shelf) == 5
    assert shelf.forget(f"{19:040}") is None
    assert len(shelf) == 4
