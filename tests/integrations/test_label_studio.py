"""The ML backend speaks Label Studio's JSON, and fetches photographs from named hosts only."""

from __future__ import annotations

import base64
import http.client
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from networks import placed
from PIL import Image, ImageDraw

from gradcut import Classifier, GradcutError, Segmenter
from gradcut.formats.label_studio import brush_mask, brush_rle
from gradcut.labels import imagenet_labels
from gradcut.listening import listen

pytest.importorskip("starlette", reason="needs gradcut[web]")
pytest.importorskip("uvicorn", reason="needs gradcut[web]")
from gradcut.integrations.label_studio import Backend, Photographs, create_app, read_interface
from gradcut.web import Server

BRUSH = """<View>
  <Image name="picture" value="$photo"/>
  <BrushLabels name="tag" toName="picture"><Label value="Red"/><Label value="blue"/><Label value="tree"/></BrushLabels>
  <KeyPointLabels name="tag2" toName="picture" smart="true"><Label value="Red"/></KeyPointLabels>
</View>"""
POLYGON = BRUSH.replace("BrushLabels", "PolygonLabels")


def png(photograph: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photograph).save(file, "PNG")
    return file.getvalue()


def inline(photograph: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(png(photograph)).decode()


def asking(*photographs: str, config: str = BRUSH, painted: list | None = None) -> dict:
    """A request to /predict as Label Studio's ``MLApi`` makes it."""
    context = None if painted is None else {"result": painted}
    return {
        "tasks": [{"id": number, "data": {"photo": url}} for number, url in enumerate(photographs, start=1)],
        "project": "1.1700000000",
        "label_config": config,
        "params": {"login": None, "password": None, "context": context},
    }


@pytest.fixture
def segmenter(brightness) -> Segmenter:
    return Segmenter(placed(brightness))


@pytest.fixture
def backend(segmenter) -> Backend:
    return Backend(segmenter, Photographs("http://127.0.0.1:1"))


def masks_of(prediction: dict, size: tuple[int, int] = (64, 64)) -> dict[str, np.ndarray]:
    """By label, what Label Studio's own converter reads of the regions; polygons as Pillow fills them."""
    brush = pytest.importorskip("label_studio_converter.brush", reason="needs label-studio-converter")
    masks: dict[str, np.ndarray] = {}
    for region in prediction["result"]:
        kind, value = region["type"], region["value"]
        assert (region["original_height"], region["original_width"]) == size
        (label,) = value[kind]
        if kind == "brushlabels":
            mask = brush.decode_rle(value["rle"]).reshape(*size, 4)[:, :, 3] > 0
        else:
            canvas = Image.new("1", size[::-1])
            ImageDraw.Draw(canvas).polygon([(x / 100 * size[1], y / 100 * size[0]) for x, y in value["points"]], fill=1)
            mask = np.array(canvas)
        masks[label] = masks.get(label, False) | mask
    return masks


# predictions ----------------------------------------------------------------------------------------------------------


def test_brush_holds_the_segmenters_masks_exactly(backend, segmenter, drawn):
    (prediction,) = backend.predict(asking(inline(drawn[0])))
    expected = {item.label: item.mask for item in segmenter(drawn[0]).objects}
    masks = masks_of(prediction)
    assert {label.casefold() for label in masks} == set(expected) == {"red", "blue"}
    assert "Red" in masks  # the labelling interface's spelling
    for label, mask in masks.items():
        np.testing.assert_array_equal(mask, expected[label.casefold()])
    names = {(region["from_name"], region["to_name"], region["image_rotation"]) for region in prediction["result"]}
    assert names == {("tag", "picture", 0)}
    assert prediction["model_version"] == backend.version
    scores = [region["score"] for region in prediction["result"]]
    assert prediction["score"] == min(scores) > 0
    assert len({region["id"] for region in prediction["result"]}) == len(prediction["result"])


def test_polygons_where_the_interface_has_them(segmenter, drawn):
    exact = Backend(segmenter, Photographs("http://127.0.0.1:1"), tolerance=0)
    loose = Backend(segmenter, Photographs("http://127.0.0.1:1"), tolerance=2)
    (prediction,) = exact.predict(asking(inline(drawn[0]), config=POLYGON))
    (fewer,) = loose.predict(asking(inline(drawn[0]), config=POLYGON))
    masks = masks_of(prediction)
    for label, mask in {item.label: item.mask for item in segmenter(drawn[0]).objects}.items():
        (drawn_mask,) = (masks[own] for own in masks if own.casefold() == label)
        assert (drawn_mask & mask).sum() / (drawn_mask | mask).sum() > 0.85  # Pillow paints the border, too
    points = [sum(len(region["value"]["points"]) for region in p["result"]) for p in (prediction, fewer)]
    assert points[1] < points[0] / 2
    assert exact.version != loose.version


def test_a_bad_photograph_costs_a_line_and_no_other_prediction(backend, drawn, caplog):
    elsewhere = "http://192.0.2.1/cat.jpg"
    broken = "data:image/png;base64," + base64.b64encode(b"nothing").decode()
    answers = backend.predict(asking(elsewhere, inline(drawn[0]), broken))
    assert [bool(answer) for answer in answers] == [False, True, False]
    assert [record.message.count("\n") for record in caplog.records] == [0, 0]
    assert "task 1: photograph: http://192.0.2.1:80 is none of the hosts that were named" in caplog.text
    assert "task 3: data: not an image that can be read" in caplog.text


def test_nothing_found_is_a_prediction_without_regions(backend):
    dark = np.zeros((20, 30, 3), dtype=np.uint8)
    assert backend.predict(asking(inline(dark))) == [{"model_version": backend.version, "result": []}]


def test_limits_are_the_segmenters(brightness, drawn):
    def labels(**options) -> set[str]:
        made = Backend(Segmenter(placed(brightness), **options), Photographs("http://127.0.0.1:1"))
        (prediction,) = made.predict(asking(inline(drawn[0])))
        return set(masks_of(prediction))

    assert len(labels()) == 2
    assert len(labels(top_k=1)) == 1
    assert labels(min_confidence=1.0) == set()
    assert labels(threshold=1.0) == set()


# labels ---------------------------------------------------------------------------------------------------------------


def test_labels_by_name_alias_and_predicted_values():
    interface = read_interface(
        """<View><Image name="i" value="$image"/>
        <RectangleLabels name="r" toName="i"><Label value="x"/></RectangleLabels>
        <PolygonLabels name="p" toName="i"><Label value="Dog"/><Label value="Vehicle" predicted_values="car, truck"/>
        <Label value="Katze" alias="cat"/></PolygonLabels></View>"""
    )
    assert (interface.control, interface.image, interface.key, interface.kind) == ("p", "i", "image", "polygonlabels")
    assert interface.labels == {"Dog": ("Dog",), "Vehicle": ("car", "truck"), "cat": ("Katze", "cat")}


def test_a_group_is_found_by_the_probability_of_all_its_classes(brightness, drawn):
    """No dog of ImageNet reaches the threshold; all of them together do."""

    class Kennel(type(brightness.model)):
        def forward(self, x):
            logits = super().forward(x)
            many = logits.new_zeros(len(x), 1000)
            many[:, 151:269] = logits[:, :1]  # as red as each other
            return many

    network = Kennel().eval()
    labels = imagenet_labels()
    dogs = Classifier(network, labels, size=64, mean=(0, 0, 0), std=(1, 1, 1), threshold=0.2, name="kennel")
    made = Segmenter(dogs, "simonyan")
    assert made(drawn[0]).objects == ()
    config = BRUSH.replace("Red", "dog").replace("blue", "cat")
    (prediction,) = Backend(made, Photographs("http://127.0.0.1:1")).predict(asking(inline(drawn[0]), config=config))
    assert set(masks_of(prediction)) == {"dog"}
    np.testing.assert_array_equal(masks_of(prediction)["dog"], made(drawn[0], ["dog"]).objects[0].mask)


def test_of_several_classes_of_one_label_each_gives_regions(backend, drawn):
    config = '<View><Image name="i" value="$photo"/><BrushLabels name="b" toName="i">'
    config += '<Label value="thing" predicted_values="red,blue"/></BrushLabels></View>'
    (prediction,) = backend.predict(asking(inline(drawn[0]), config=config))
    assert [region["value"]["brushlabels"] for region in prediction["result"]] == [["thing"], ["thing"]]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "label_config: expected a labelling configuration"),
        ("<View>", "label_config: expected XML: no element found"),
        ('<!DOCTYPE v [<!ENTITY a "b">]><View/>', "without a document type"),
        ('<View><Text name="t" value="$t"/></View>', "expected BrushLabels or PolygonLabels"),
        (BRUSH.replace("$photo", "cat.jpg"), "expected a value such as $image"),
        (BRUSH.replace('"Red"', '"x"').replace('"blue"', '"y"'), "expected at least one that brightness knows"),
    ],
)
def test_configurations_that_cannot_be_used(backend, drawn, config, said):
    with pytest.raises(GradcutError, match=re.escape(said)) as error:
        backend.predict(asking(inline(drawn[0]), config=config))
    assert "\n" not in str(error.value)


def test_words_are_the_interfaces_labels(tmp_path):
    worded = pytest.importorskip("worded", reason="needs transformers")
    from gradcut import load_classifier

    worded.written("clip", tmp_path)
    classifier = replace(load_classifier(f"hf/{tmp_path}", labels=["sea"]), threshold=0.0)
    backend = Backend(Segmenter(classifier, "clip-es", threshold=0.0), Photographs("http://127.0.0.1:1"))
    photograph = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    config = BRUSH.replace('"Red"', '"forklift"').replace('"blue"', '"cat"').replace('"tree"', '"dog"')
    (prediction,) = backend.predict(asking(inline(photograph), config=config))
    expected = Segmenter(load_classifier(f"hf/{tmp_path}", labels=["forklift", "cat", "dog"]), "clip-es", threshold=0.0)
    masks = masks_of(prediction)
    assert masks
    result = expected(photograph)
    for label, mask in masks.items():
        np.testing.assert_array_equal(mask, result[label].mask)


# strokes --------------------------------------------------------------------------------------------------------------


def region(kind: str, label: str, **value) -> dict:
    return {
        "type": kind, "from_name": "tag", "to_name": "picture", "original_width": 64, "original_height": 64,
        "image_rotation": 0, "value": {**value, kind: [label]},
    }  # fmt: skip


def test_brush_strokes_are_inside_their_label_and_outside_the_others(backend, drawn):
    corner, middle = np.zeros((64, 64), dtype=bool), np.zeros((64, 64), dtype=bool)
    corner[:6, 50:], middle[40:44, 40:44] = True, True
    painted = [
        region("brushlabels", "Red", format="rle", rle=brush_rle(corner)),
        region("brushlabels", "blue", format="rle", rle=brush_rle(middle)),
    ]
    (prediction,) = backend.predict(asking(inline(drawn[0]), painted=painted))
    masks = masks_of(prediction)
    assert masks["Red"][corner].all()
    assert not masks["Red"][middle].any()
    assert masks["blue"][middle].all()
    (again,) = backend.predict(asking(inline(drawn[0]), painted=painted))
    assert [r["value"] for r in again["result"]] == [r["value"] for r in prediction["result"]]


def test_key_points_are_dabs_inside_or_outside(backend, drawn):
    def point(x, y, positive=True):
        return region("keypointlabels", "Red", x=x, y=y, width=0.5) | {"is_positive": positive}

    (inside,) = backend.predict(asking(inline(drawn[0]), painted=[point(80, 10)]))
    (outside,) = backend.predict(asking(inline(drawn[0]), painted=[point(80, 10), point(30, 30, positive=False)]))
    assert masks_of(inside)["Red"][6, 51]
    assert masks_of(inside)["Red"][19, 19]
    assert not masks_of(outside)["Red"][19, 19]
    assert set(masks_of(outside)) == {"Red"}  # only what was painted


def test_a_rectangle_keeps_its_class_inside(backend, drawn):
    """Half of the red square, upright, turned, and with what another stroke says of the rest."""

    def rectangle(**value):
        return region("rectanglelabels", "Red", **value)

    x = np.mgrid[:64, :64][1]
    left = rectangle(x=0, y=0, width=100 * 18 / 64, height=100)
    (found,) = backend.predict(asking(inline(drawn[0]), painted=[left]))
    mask = masks_of(found)["Red"]
    assert set(masks_of(found)) == {"Red"}
    assert not mask[x >= 18].any()
    assert mask[drawn[1]["red"] & (x < 16)].mean() > 0.9
    turned = rectangle(x=100 * 18 / 64, y=0, width=100, height=100 * 18 / 64, rotation=90)  # the same half
    (again,) = backend.predict(asking(inline(drawn[0]), painted=[turned]))
    assert np.array_equal(masks_of(again)["Red"], mask)
    right = rectangle(x=100 * 18 / 64, y=0, width=50, height=100)
    (both,) = backend.predict(asking(inline(drawn[0]), painted=[left, right]))
    assert masks_of(both)["Red"][drawn[1]["red"]].mean() > 0.9, "in one of several"
    (without,) = backend.predict(asking(inline(drawn[0]), painted=[left | {"is_positive": False}]))
    assert not masks_of(without)["Red"][x < 18].any()
    dab = region("keypointlabels", "Red", x=95, y=5, width=10)
    (held,) = backend.predict(asking(inline(drawn[0]), painted=[dab, left]))
    assert masks_of(held)["Red"][3, 60], "a stroke outside the rectangle stands"


def test_a_stroke_asks_whatever_the_score_and_the_confidence(brightness, drawn):
    strict = Backend(Segmenter(placed(brightness), min_confidence=1.0), Photographs("http://127.0.0.1:1"))
    dark = np.zeros((64, 64, 3), dtype=np.uint8)
    painted = [region("keypointlabels", "Red", x=50, y=50, width=10)]
    (prediction,) = strict.predict(asking(inline(dark), painted=painted))
    assert masks_of(prediction)["Red"][32, 32]


@pytest.mark.parametrize(
    ("painted", "said"),
    [
        ([region("ellipselabels", "Red", x=1, y=1)], "keypointlabels, rectanglelabels, got 'ellipselabels'"),
        ([region("rectanglelabels", "Red", x=1, y=None)], "expected numbers of a rectangle"),
        ([region("keypointlabels", "tree", x=1, y=1)], "label: brightness does not know 'tree'"),
        ([region("keypointlabels", "Red", x="a", y=1)], "expected numbers of a key point"),
        ([region("keypointlabels", "Red", x=1, y=1) | {"original_width": 65}], "expected regions on a photograph of"),
        ([region("brushlabels", "Red", rle=[0, 0, 0, 1])], "rle: expected 16384 values for a photograph of 64 x 64"),
        ([region("brushlabels", "Red", rle=brush_rle(np.eye(64, dtype=bool))[:40])], "rle: it ends too early"),
        ([region("brushlabels", "Red", rle="x")], "rle: expected a list of bytes"),
        (["x"], "context: expected a list of regions"),
    ],
)
def test_strokes_that_cannot_be_used(backend, drawn, painted, said):
    with pytest.raises(GradcutError, match=re.escape(said)):
        backend.predict(asking(inline(drawn[0]), painted=painted))


def test_brush_is_read_as_label_studio_writes_it():
    brush = pytest.importorskip("label_studio_converter.brush", reason="needs label-studio-converter")
    generator = np.random.default_rng(0)
    for size in [(1, 1), (7, 5), (40, 60)]:
        mask = generator.random(size) > generator.choice([0.1, 0.5, 0.98])
        np.testing.assert_array_equal(brush_mask(brush_rle(mask), size), mask)
        np.testing.assert_array_equal(brush_mask(brush.mask2rle(mask.astype(np.uint8) * 255), size), mask)


# photographs ----------------------------------------------------------------------------------------------------------


class Site(ThreadingHTTPServer):
    """A web site on loopback that notes what it was asked, with which token."""

    def __init__(self, answers: dict):
        self.answers, self.asked = answers, []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked.append((self.path, self.headers.get("authorization")))
        status, content = self.server.answers.get(self.path, (404, b""))
        if callable(content):
            status, content = content(self.headers.get("authorization"))
        self.send_response(status)
        if status == 302:
            self.send_header("location", content)
            content = b""
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def photograph(drawn) -> np.ndarray:
    return drawn[0]


def test_addresses_of_label_studios_own_get_the_token(photograph):
    cloud = base64.urlsafe_b64encode(b"s3://bucket/cat.png").decode()
    paths = {
        "/data/upload/1/cat.png": "/data/upload/1/cat.png", "upload/1/cat.png": "/data/upload/1/cat.png",
        "/data/local-files/?d=a/cat.png": "/data/local-files/?d=a/cat.png",
        "s3://bucket/cat.png": f"/tasks/7/presign/?fileuri={cloud}",
    }  # fmt: skip
    with Site({path: (200, png(photograph)) for path in paths.values()}) as site:
        read = Photographs(site.url, "abc")
        for url in [*paths, f"{site.url}/data/upload/1/cat.png"]:
            np.testing.assert_array_equal(read(url, 7), photograph)
        assert site.asked == [(path, "Token abc") for path in [*paths.values(), "/data/upload/1/cat.png"]]
        site.asked.clear()
        Photographs(site.url)("/data/upload/1/cat.png", token="sent")
        Photographs(site.url)("/data/upload/1/cat.png")
        assert [token for _, token in site.asked] == ["Token sent", None]


def test_other_hosts_only_if_named_and_without_the_token(photograph):
    with Site({"/cat.png": (200, png(photograph))}) as other, Site({}) as own:
        own.answers = {"/there": (302, f"{other.url}/cat.png"), "/here": (302, "/there")}
        with pytest.raises(GradcutError, match="is none of the hosts that were named"):
            Photographs(own.url, "abc")(f"{other.url}/cat.png")
        with pytest.raises(GradcutError, match="is none of the hosts that were named"):
            Photographs(own.url, "abc")("/here")
        assert other.asked == []
        read = Photographs(own.url, "abc", [other.url])
        for url in (f"{other.url}/cat.png", "/here"):
            np.testing.assert_array_equal(read(url), photograph)
        assert other.asked == [("/cat.png", None)] * 2
        assert {token for _, token in own.asked} == {"Token abc"}


def test_a_personal_token_is_exchanged_and_again_when_it_has_run_out(photograph):
    valid, handed = {"Bearer 1"}, iter(range(1, 9))

    def serve(authorization):
        return (200, png(photograph)) if authorization in valid else (401, b"")

    def exchange(_):
        return 200, json.dumps({"access": str(next(handed))}).encode()

    with Site({"/cat.png": (200, serve), "/api/token/refresh": (200, exchange)}) as site:
        read = Photographs(site.url, "a.b.c")
        read("/cat.png")
        read("/cat.png")
        assert [path for path, _ in site.asked].count("/api/token/refresh") == 1
        valid.clear()
        valid.add("Bearer 2")
        np.testing.assert_array_equal(read("/cat.png"), photograph)
        valid.clear()
        with pytest.raises(GradcutError, match="answers 401 Unauthorized; set LABEL_STUDIO_API_KEY"):
            read("/cat.png")


def test_what_cannot_be_fetched_is_one_line(photograph):
    with Site({"/big.png": (200, b"x" * 2000), "/page": (200, b"<html>")}) as site:
        read = Photographs(site.url, megabytes=0.001)
        for url, said in {
            "/none.png": "/none.png: the server answers 404 Not Found", "/big.png": "larger than the limit of 0.001 MB",
            "/page": "not an image", "file:///etc/hostname": "address: expected one such as http",
            "ftp://127.0.0.1/cat.png": "address: expected", "http://u:p@127.0.0.1/": "address: expected",
            "data:image/png,abc": "data: expected an address", "data:image/png;base64,%%": "data: expected",
            "": "photograph: expected an address",
        }.items():  # fmt: skip
            with pytest.raises(GradcutError, match=re.escape(said)) as error:
                read(url)
            assert "\n" not in str(error.value)
    with pytest.raises(GradcutError, match="cannot be fetched"):
        read("/cat.png")  # nobody listens any more
    with pytest.raises(GradcutError, match=r"address: expected one such as http://localhost:8080, got 'localhost'"):
        Photographs("localhost")


# the server -----------------------------------------------------------------------------------------------------------


def call(server: Server, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    headers = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_the_protocol(backend, photograph, caplog):
    caplog.set_level(logging.WARNING)
    setup = {
        "project": "1.17",
        "schema": BRUSH,
        "hostname": "http://localhost:8080",
        "access_token": "t",
        "extra_params": None,
    }
    with Server(create_app(backend), listen(port=0)) as server:
        for path in ("/health", "/"):
            assert call(server, "GET", path) == (200, {"status": "UP", "model_class": "gradcut"})
        assert call(server, "POST", "/setup", setup) == (200, {"model_version": backend.version})
        assert "labels that brightness does not know get no masks: tree" in caplog.text
        status, answer = call(server, "POST", "/predict", asking(inline(photograph), inline(photograph)))
        assert (status, len(answer["results"])) == (200, 2)
        assert set(masks_of(answer["results"][1])) == {"Red", "blue"}
        assert call(server, "POST", "/webhook", {"action": "ANNOTATION_CREATED"}) == (200, {"status": "ok"})
        status, answer = call(server, "POST", "/webhook", {"action": "START_TRAINING"})
        assert (status, "does not train" in answer["error"]) == (400, True)
        status, answer = call(server, "POST", "/setup", setup | {"schema": "<View/>"})
        assert (status, answer["error"].startswith("label_config: ")) == (400, True)
        assert call(server, "POST", "/predict", {"tasks": 1, "label_config": BRUSH})[0] == 400
        assert call(server, "POST", "/predict", asking(config="<View \ud800/>"))[0] == 400
        half = [region("keypointlabels", "\ud800", x=1, y=1)]
        assert call(server, "POST", "/predict", asking(inline(photograph), painted=half))[0] == 400
        assert call(server, "POST", "/predict", asking(), content_type="text/plain")[0] == 400
        assert call(server, "GET", "/health", host="elsewhere.example.org")[0] == 421


def test_the_token_that_setup_brings_is_its_projects(segmenter, photograph):
    with Site({"/data/upload/cat.png": (200, png(photograph))}) as site:
        backend = Backend(segmenter, Photographs(site.url))
        with Server(create_app(backend), listen(port=0)) as server:
            call(server, "POST", "/setup", {"project": "1.17", "schema": BRUSH, "access_token": "of-one"})
            for project in ("1.17", "2.17"):
                call(server, "POST", "/predict", asking("/data/upload/cat.png") | {"project": project})
        assert [token for _, token in site.asked] == ["Token of-one", None]


def test_a_login_is_asked_for(backend):
    right = base64.b64encode(b"me:secret").decode()
    with Server(create_app(backend, None, ("me", "secret")), listen(port=0)) as server:
        assert call(server, "GET", "/health")[0] == 401
        assert call(server, "GET", "/health", authorization=f"Basic {right[:-4]}")[0] == 401
        assert call(server, "GET", "/health", authorization=f"Basic {right}")[0] == 200


def test_the_command_serves(cat):
    with Site({"/data/upload/cat.png": (200, png(cat))}) as site:
        environment = {**os.environ, "LABEL_STUDIO_API_KEY": "abc"}
        line = [
            sys.executable,
            "-m",
            "gradcut",
            "label-studio",
            site.url,
            "--port",
            "0",
            "-r",
            "fast",
            "--threshold",
            "0",
        ]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            body = asking("/data/upload/cat.png", config=BRUSH.replace("Red", "cat"))
            connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
            connection.request("POST", "/predict", json.dumps(body), {"content-type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
        assert set(masks_of(answer["results"][0], cat.shape[:2])) == {"cat"}
        assert site.asked == [("/data/upload/cat.png", "Token abc")]


def test_other_machines_are_let_in_with_a_login_only(command, monkeypatch):
    monkeypatch.delenv("BASIC_AUTH_USER", raising=False)
    status, _, said = command("label-studio", "--host", "0.0.0.0")
    assert (status, "set BASIC_AUTH_USER and BASIC_AUTH_PASS first" in said) == (2, True)
