"""A real Label Studio with gradcut's backend, both on loopback: predictions as it stores them, and as it shows them.

    python scripts/label_studio.py LABEL_STUDIO FOLDER

`LABEL_STUDIO` is the program `label-studio`; `FOLDER` keeps its database and gets the screenshots. It makes a project
of each kind through the API, imports photographs, connects the backend, asks for predictions and compares them with
the segmenter's masks; then it corrects a mask with a key point, and looks at tasks in Chromium. `make label-studio`
calls it. It takes some minutes, most of them for Label Studio's first start.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

import numpy as np
import skimage
from PIL import Image, ImageDraw
from playwright.sync_api import sync_playwright

from gradcut import Segmenter
from gradcut.formats.label_studio import brush_mask

# Of a server on loopback that ends with this script.
USER, PASSWORD, TOKEN = "me@example.org", "secretsecret", "0123456789abcdef0123456789abcdef01234567"
PHOTOGRAPHS = ("chelsea.png", "coffee.png")
RECIPE = "fast"
QUIET = {
    "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "", "LATEST_VERSION_CHECK": "false", "COLLECT_ANALYTICS": "false",
    "ML_BLOCK_LOCAL_IP": "false", "SSRF_PROTECTION_ENABLED": "false",
}  # fmt: skip
CONFIG = """<View><Image name="image" value="$image"/>
  <{control} name="tag" toName="image">
    <Label value="Cat" background="#f00"/><Label value="cup" background="#00f"/><Label value="forklift"/>
  </{control}>
  <KeyPointLabels name="point" toName="image" smart="true"><Label value="Cat"/><Label value="cup"/></KeyPointLabels>
</View>"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def running(command: list[str], log: Path, health: str, environment: dict[str, str]) -> Iterator[None]:
    """A server, until the block ends; it has ten minutes to answer."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=os.environ | environment)
    try:
        for _ in range(600):
            if process.poll() is not None:
                sys.exit(f"{command[0]} has ended: {log.read_text()[-2000:]}")
            try:
                urllib.request.urlopen(health, timeout=5).read()
                break
            except (URLError, OSError):
                time.sleep(1)
        yield
    finally:
        process.terminate()
        process.wait(30)


class Api:
    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": content}
        request = urllib.request.Request(f"{self.url}/api/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            sys.exit(f"{method} {path}: {error.code} {error.read()[:1000]!r}")


def form(files: list[Path]) -> tuple[bytes, str]:
    """Files as a browser uploads them."""
    mark = uuid.uuid4().hex
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{path.name}"; filename="{path.name}"\r\n'
        "Content-Type: image/png\r\n\r\n".encode()
        + path.read_bytes()
        + b"\r\n"
        for path in files
    ]
    return b"".join(parts) + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def project(api: Api, control: str, backend: str) -> tuple[int, int]:
    """A project with the photographs and the backend; the numbers of both."""
    title = f"gradcut {control} {time.strftime('%H:%M:%S')}"
    made = api("POST", "projects/", {"title": title, "label_config": CONFIG.format(control=control)})["id"]
    api("POST", f"projects/{made}/import", *form([Path(skimage.__file__).parent / "data" / n for n in PHOTOGRAPHS]))
    connected = api("POST", "ml/", {"url": backend, "project": made, "is_interactive": True, "title": "gradcut"})
    assert connected["state"] == "CO", connected
    # In the settings: use predictions to prelabel tasks, those of this model.
    api("PATCH", f"projects/{made}/", {"show_collab_predictions": True, "model_version": "gradcut"})
    return made, connected["id"]


def painted(regions: list[dict[str, Any]], size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Masks by label."""
    masks: dict[str, np.ndarray] = {}
    for region in regions:
        value = region["value"]
        if region["type"] == "brushlabels":
            mask = brush_mask(value["rle"], size)
        else:
            canvas = Image.new("1", size[::-1])
            points = [(x / 100 * size[1], y / 100 * size[0]) for x, y in value["points"]]
            ImageDraw.Draw(canvas).polygon(points, fill=1)
            mask = np.array(canvas)
        (label,) = value[region["type"]]
        masks[label] = masks.get(label, False) | mask
    return masks


def check(api: Api, number: int, segment: Segmenter) -> list[int]:
    """Label Studio asks the backend for all tasks, and has stored the segmenter's masks; the tasks' numbers."""
    api(
        "POST",
        f"dm/actions?id=retrieve_tasks_predictions&project={number}",
        {"selectedItems": {"all": True, "excluded": []}},
    )
    tasks = api("GET", f"tasks?project={number}&fields=all")["tasks"]
    for task in tasks:
        name = next(name for name in PHOTOGRAPHS if name.partition(".")[0] in task["data"]["image"])
        result = segment(Path(skimage.__file__).parent / "data" / name)
        (prediction,) = api("GET", f"predictions?task={task['id']}")
        masks = painted(prediction["result"], result.image.shape[:2])
        wanted = {label: item.mask for item in result for label in ("Cat", "cup") if label.lower() == item.label}
        assert masks.keys() == wanted.keys(), (name, list(masks), list(wanted))
        for label, mask in masks.items():
            iou = (mask & wanted[label]).sum() / (mask | wanted[label]).sum()
            kind = prediction["result"][0]["type"]
            print(f"{name}: {label}, {kind}, score {prediction['score']:.2f}, IoU with the segmenter's mask {iou:.4f}")
            assert iou == 1 if kind == "brushlabels" else iou > 0.95
    return [task["id"] for task in tasks]


def correct(api: Api, backend: int, task: int) -> None:
    """A key point, as Label Studio's page sends it, is inside the mask that comes back."""
    stored = api("GET", f"predictions?task={task}")[0]["result"][0]
    height, width = stored["original_height"], stored["original_width"]
    point = {
        "type": "keypointlabels", "from_name": "point", "to_name": "image", "original_width": width,
        "original_height": height, "image_rotation": 0, "is_positive": True,
        "value": {"x": 95, "y": 5, "width": 0.5, "keypointlabels": ["Cat"], "labels": ["Cat"]},
    }  # fmt: skip
    answer = api("POST", f"ml/{backend}/interactive-annotating", {"task": task, "context": {"result": [point]}})
    mask = painted(answer["data"]["result"], (height, width))["Cat"]
    assert mask[int(0.05 * height), int(0.95 * width)], answer
    print(f"key point: the mask of the cat has {mask.mean():.0%} of the photograph")


def look(url: str, tasks: dict[str, tuple[int, int]], folder: Path) -> None:
    """Screenshots of tasks, in a browser that reaches loopback only."""
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=options)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(60_000)
        page.route("**/*", lambda route: route.continue_() if urlsplit(route.request.url).hostname in
                   ("127.0.0.1", None) else route.abort())  # fmt: skip
        page.goto(f"{url}/user/login/")
        page.fill("input[name=email]", USER)
        page.fill("input[name=password]", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_url(lambda address: "/user/login" not in address)
        for name, (number, task) in tasks.items():
            for _ in range(3):  # the first visit may come before Label Studio has its predictions at hand
                page.goto(f"{url}/projects/{number}/data?task={task}")
                page.wait_for_selector("canvas")
                page.wait_for_timeout(8000)
                if shown := page.get_by_text("gradcut").count() > 1:  # the prediction's tab, and the project's name
                    break
            page.screenshot(path=folder / f"{name}.png")
            assert shown, f"{name}: Label Studio's page does not show the prediction"
            print(folder / f"{name}.png")
        browser.close()


def main(program: str, folder: Path) -> None:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    url, backend = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    port, own = urlsplit(url).port, urlsplit(backend).port
    studio = [
        program, "start", "--no-browser", "--data-dir", f"{folder}/data", "--username", USER, "--password", PASSWORD,
        "--user-token", TOKEN, "--enable-legacy-api-token", "--internal-host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    gradcut = [sys.executable, "-m", "gradcut", "label-studio", url, "--port", str(own), "--recipe", RECIPE]
    with (
        running(studio, folder / "label-studio.log", f"{url}/health", QUIET | {"HOME": str(folder)}),
        running(gradcut, folder / "backend.log", f"{backend}/health", {"LABEL_STUDIO_API_KEY": TOKEN}),
    ):
        api, segment, shown = Api(url), Segmenter("coco80", RECIPE), {}
        for control in ("BrushLabels", "PolygonLabels"):
            number, connected = project(api, control, backend)
            tasks = check(api, number, segment)
            correct(api, connected, tasks[0])
            shown[control] = (number, tasks[0])
        look(url, shown, folder)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]).resolve())
