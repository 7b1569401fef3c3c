"""Make the pictures of README.md and docs/, and pictures.json, which says what each was made of.

    python docs/pictures.py                    all of them
    python docs/pictures.py demo masks/otsu    these

Photographs are those that scikit-image ships. The web page's pictures need `gradcut[web]`, Playwright's Python package
and a Chromium.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import runpy
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data

import gradcut
from gradcut import (
    RECIPES,
    Classifier,
    Recipe,
    Segmenter,
    audit,
    images,
    load_classifier,
    masks,
    pictures,
    results,
    saliency,
)
from gradcut.classifiers.embedded import LITE_SHA256
from gradcut.comparison import compare
from gradcut.datasets import Dataset, Sample
from gradcut.listening import listen
from gradcut.masks.contrasts import EdgeMap, Exponential
from gradcut.recipes import ALGORITHMS
from gradcut.records import described, fingerprint
from gradcut.seeds import Fractions, SeedRule

DOCS = Path(__file__).resolve().parent
RECORD = DOCS / "pictures.json"
DATA = Path(gradcut.__file__).with_name("data")
PAGES = (DOCS.parent / "README.md", *sorted(DOCS.glob("*.md")))
#: In bytes, of one picture and of all together: every change of a picture stays in the repository's history.
LARGEST, ALL = 500_000, 2_500_000

#: What a picture is drawn as, before it is a file.
Drawn = np.ndarray | Image.Image


@dataclass(frozen=True)
class Picture:
    """One file in docs/.

    Args:
        name: of the file, with its folder.
        draw: called without arguments.
        steps: recipes, or steps of one, by the name that `pictures.json` has for each.
        classifiers: keys of `WEIGHTS`.
        page: whether the web page's own files show in it.
        size: of the file in pixels, height and width; None leaves it as drawn.
    """

    name: str
    draw: Callable[[], Drawn]
    steps: Mapping[str, object]
    classifiers: tuple[str, ...] = ("coco80",)
    page: bool = False
    size: tuple[int, int] | None = None

    def made_of(self) -> dict[str, str]:
        """A digest of everything that the picture depends on, by its name: another digest, another picture."""
        digests = {f"{_kind(step)} {name}": _of_step(step) for name, step in self.steps.items()}
        digests |= {f"weights of {name}": _short(WEIGHTS[name]()) for name in self.classifiers}
        digests |= {"web page": _of_page()} if self.page else {}
        return digests | ({"drawing": _of_drawing()} if self.steps else {})

    def write(self) -> dict[str, Any]:
        """Draw it, write it, and return what `pictures.json` says of it."""
        drawn = self.draw()
        if self.size is not None:
            drawn = images.resize(np.asarray(drawn), self.size)
        picture, path = drawn if isinstance(drawn, Image.Image) else Image.fromarray(drawn), DOCS / self.name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".jpg":
            picture.convert("RGB").save(path, quality=85, optimize=True)
        else:
            # A palette of 256 colours is enough for a page, and a fifth of the size. An octree keeps rare colours.
            colours = picture.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE)
            dithered = picture.convert("RGB").quantize(palette=colours, dither=Image.Dither.FLOYDSTEINBERG)
            dithered.save(path, optimize=True)
        print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size} bytes", flush=True)
        return {"width": picture.width, "height": picture.height, "made_of": self.made_of()}


# What pictures depend on


def _short(digest: str) -> str:
    return digest[:16]


def _kind(step: object) -> str:
    return "recipe" if isinstance(step, Recipe) else "step"


def _of_step(step: object) -> str:
    if isinstance(step, Recipe):
        return _short(step.fingerprint)
    return _short(fingerprint({"step": described(step), "algorithms": ALGORITHMS}))


def _of_page() -> str:
    contents = (path.read_bytes() for path in sorted(DATA.parent.joinpath("web", "page").rglob("*")) if path.is_file())
    return _short(hashlib.sha256(b"".join(contents)).hexdigest())


def code(source: str) -> str:
    """Python source without its comments, docstrings and empty lines."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))


@cache
def _of_drawing() -> str:
    """Of what puts a result into colours; the text would look alike whatever the version of a library."""
    sources = [path.read_text(encoding="utf-8") for path in sorted(Path(pictures.__file__).parent.glob("*.py"))]
    sources.append(textwrap.dedent(inspect.getsource(results.Segmentation.picture)))
    return _short(hashlib.sha256("\n".join(map(code, sources)).encode()).hexdigest())


WEIGHTS: Mapping[str, Callable[[], str]] = {
    "embedded": lambda: LITE_SHA256[0],
    "coco80": lambda: hashlib.sha256((DATA / "coco80.safetensors").read_bytes()).hexdigest(),
}


# The pictures


@cache
def classifier(name: str) -> Classifier:
    return load_classifier(name)


def demo() -> Drawn:
    """What 'gradcut demo' draws."""
    return Segmenter(classifier("coco80"))(data.coffee()).picture()


#: Photographs of scikit-image with the classes to ask for, all of which are there.
COMPARED = {"coffee": ("cup", "spoon"), "chelsea": ("cat",), "astronaut": ("person",)}
COLOURS = np.array([0, 1, 3])


def compared() -> Drawn:
    """A row a photograph: itself, and the masks of its classes by the original method and by the default recipe."""
    height, gap, heading = 200, 8, 26
    names = ("photograph", "recipe simonyan", "recipe default")
    rows = []
    for name, labels in COMPARED.items():
        photograph = getattr(data, name)()
        size = (height, round(height * photograph.shape[1] / photograph.shape[0]))
        # The first and the third colour, as in the demo: the second would not show on the saucer.
        maps = [COLOURS[_segmented(recipe, photograph, labels).labelmap()] for recipe in ("simonyan", "default")]
        drawn = [photograph, *(pictures.overlay(photograph, labelmap) for labelmap in maps)]
        rows.append([Image.fromarray(images.resize(panel, size)) for panel in drawn])
    column = max(row[0].width for row in rows) + gap
    sheet = Image.new("RGB", (len(names) * column - gap, heading + len(rows) * (height + gap) - gap), "white")
    for number, name in enumerate(names):
        ImageDraw.Draw(sheet).text((number * column + 2, 3), name, (32, 33, 36), ImageFont.load_default(16))
        for line, row in enumerate(rows):
            indent = (column - gap - row[number].width) // 2
            sheet.paste(row[number], (number * column + indent, heading + line * (height + gap)))
    return sheet


def _segmented(recipe: Recipe | str, photograph: np.ndarray, labels: Sequence[str], asked: str = "coco80") -> Any:
    return Segmenter(classifier(asked), recipe)(photograph, labels)


FINDINGS: Mapping[str, Recipe] = {
    "simonyan: absolute gradient, graph cut": RECIPES["simonyan"],
    "guided backpropagation, graph cut": RECIPES["guided"],
    "gradient with its sign, graph cut": replace(
        RECIPES["simonyan"], saliency=saliency.Gradient(of="probability", signed=True)
    ),
    "expansion: absolute gradient, grown from its 50 highest pixels": RECIPES["expansion"],
}


def findings() -> Drawn:
    """The four findings on one photograph, no truth needed."""
    rows = []
    for title, recipe in FINDINGS.items():
        (cat,) = _segmented(recipe, data.chelsea(), ["Egyptian cat"], "embedded")
        rows.append(pictures.Row(title, cat.saliency, cat.seeds, cat.mask))
    return pictures.strip(data.chelsea(), rows, height=150)


#: What `comparing` shows, with the recipe `fast`.
SIDE_BY_SIDE: Mapping[str, saliency.Saliency] = {
    method.__name__: method()
    for method in (saliency.GradCAM, saliency.LayerCAM, saliency.GuidedBackprop, saliency.LRP, saliency.Gradient)
}


def comparing() -> Drawn:
    """What 'gradcut compare' draws."""
    asked = classifier("coco80")
    methods = {**SIDE_BY_SIDE, "fast": Segmenter(asked, "fast")}
    compare(asked, data.coffee(), methods)  # the first call's seconds are those of getting to know the network
    return images.resize(compare(asked, data.coffee(), methods).picture("coffee.png"), (703, 960))


# The mask makers, all of one saliency

WIDE, FEW = Fractions(0.6, 0.15), RECIPES["fast"].seeds
MAKERS: Mapping[str, tuple[masks.MaskMaker, SeedRule]] = {
    "graph-cut": (masks.GraphCut(), WIDE),
    "graph-cut-exponential": (masks.GraphCut(Exponential()), WIDE),
    "graph-cut-edge-map": (masks.GraphCut(EdgeMap()), WIDE),
    "colour-cut": (masks.ColourCut(), FEW),
    "colour-cut-without-colours": (masks.ColourCut(components=0), FEW),
    "joint-cut": (masks.JointCut(), FEW),
    "random-walker": (masks.RandomWalker(), WIDE),
    "threshold": (masks.Threshold(), FEW),
    "otsu": (masks.Otsu(), FEW),
    "superpixels": (masks.Superpixels(), FEW),
    "expansion": (masks.Expansion(), FEW),
    "vote": (masks.Vote([masks.GraphCut(Exponential(), grid=grid) for grid in (32, 96, 288)]), WIDE),
    "cleaned": (masks.Cleaned(masks.Threshold(0.95), least=0.98), FEW),
    "outlined": (masks.Outlined(masks.ColourCut()), FEW),
}


@cache
def evidence() -> Any:
    """Saliency of a cat and of the towel that it lies on."""
    (found,) = Segmenter(classifier("embedded"), "fast").explain([data.chelsea()], ["Egyptian cat", "bath towel"])
    return found


def seeds(rule: SeedRule) -> Drawn:
    maps = evidence().saliency
    return pictures.draw_seeds(images.resize(data.chelsea(), maps.shape[1:]), rule(maps[0]))


def mask(name: str) -> Drawn:
    maker, rule = MAKERS[name]
    # The joint cut is between a cat and what it lies on; the others are of the cat alone.
    maps = evidence().saliency if name == "joint-cut" else evidence().saliency[:1]
    made = maker(data.chelsea(), maps, [rule(each) for each in maps])
    numbers = np.arange(1, 1 + len(made))[:, None, None]
    return pictures.overlay(data.chelsea(), (made * numbers).max(axis=0))


# The saliency methods


METHODS: Mapping[str, saliency.Saliency] = {
    "gradient": saliency.Gradient(),
    "gradient-contrast-l2": saliency.Gradient(of="contrast", channels="l2"),
    "guided-backprop": saliency.GuidedBackprop(),
    "deconvnet": saliency.DeconvNet(),
    "gradient-x-input": saliency.GradientXInput(),
    "smoothgrad": saliency.SmoothGrad(),
    "smoothgrad-guided": saliency.SmoothGrad(saliency.GuidedBackprop()),
    "vargrad": saliency.VarGrad(),
    "integrated-gradients": saliency.IntegratedGradients(),
    "cam": saliency.CAM(),
    "grad-cam": saliency.GradCAM(),
    "grad-cam-plus-plus": saliency.GradCAMPlusPlus(),
    "layer-cam-3": saliency.LayerCAM(layers=3),
    "hires-cam": saliency.HiResCAM(),
    "xgrad-cam": saliency.XGradCAM(layers=3),
    "finer-cam": saliency.FinerCAM(),
    "eigen-cam": saliency.EigenCAM(),
    "eigen-grad-cam": saliency.EigenGradCAM(),
    "refine-cam": saliency.RefineCAM(),
    "full-grad": saliency.FullGrad(),
    "occlusion": saliency.Occlusion(),
    "rise": saliency.RISE(),
    "kernel-shap": saliency.KernelSHAP(),
    "score-cam": saliency.ScoreCAM(),
    "ablation-cam": saliency.AblationCAM(),
    "lrp": saliency.LRP(),
    "guided-grad-cam": saliency.GuidedGradCAM(),
    "multi-scale-cam": saliency.MultiScale(saliency.CAM()),
    "crops": saliency.Crops(saliency.CAM()),
    "mean": saliency.Mean((saliency.CAM(), saliency.GuidedBackprop())),
    "affinity": saliency.Walk(saliency.MultiScale(saliency.CAM())),
    "place-probability": saliency.PlaceProbability(),
}
PLACED = "place-probability"  # the embedded ImageNet classifier has no weights for places


def explained(name: str) -> Drawn:
    asked, label = (classifier("coco80"), "cat") if name == PLACED else (classifier("embedded").at(384), "Egyptian cat")
    (found,) = METHODS[name](asked, asked.prepare([data.chelsea()]), [(0, asked.index(label))]).numpy()
    return pictures.heat(found)


# The web page


DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def page(size: dict[str, int], scheme: str, phone: bool = False) -> Drawn:
    """A screenshot with the espresso and two strokes."""
    from playwright.sync_api import sync_playwright

    from gradcut.web import Server, create_app

    app = create_app({name: classifier(name) for name in ("coco80", "embedded")})
    with Server(app, listen(port=0)) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport=size, color_scheme=scheme, has_touch=phone, is_mobile=phone)
        context.set_default_timeout(120_000)
        tab = context.new_page()
        tab.goto(server.url)
        tab.click("[data-example=espresso]")
        _settle(tab)
        _stroke(tab, "foreground", [(0.35, 0.62), (0.36, 0.7)])
        _stroke(tab, "background", [(0.6, 0.72), (0.64, 0.76)])
        tab.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        shot = tab.screenshot()
        browser.close()
    return Image.open(BytesIO(shot))


def welcome(size: dict[str, int]) -> Drawn:
    """A screenshot of the page before there is a photograph."""
    from playwright.sync_api import sync_playwright

    from gradcut.web import Server, create_app

    app = create_app({name: classifier(name) for name in ("coco80", "embedded")})
    with Server(app, listen(port=0)) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_context(viewport=size, color_scheme="light").new_page()
        tab.goto(server.url)
        tab.wait_for_selector("body[data-ready]")
        tab.wait_for_load_state("networkidle")
        shot = tab.screenshot()
        browser.close()
    return Image.open(BytesIO(shot))


def run_page(size: dict[str, int]) -> Drawn:
    """A screenshot of a run that is gone through: one photograph accepted, in the next a class painted."""
    from playwright.sync_api import sync_playwright

    from gradcut.files import Folder
    from gradcut.runs.job import Job, Task
    from gradcut.runs.segment import segment_all
    from gradcut.web import Server, create_app

    segment = Segmenter(classifier("coco80"))
    with TemporaryDirectory(prefix="gradcut-") as folder, sync_playwright() as playwright:
        tasks = []
        for name in ("coffee", "chelsea", "astronaut"):
            path = Path(folder, f"{name}.png")
            images.write_png(path, getattr(data, name)())
            tasks.append(Task(str(path), name))
        run = f"{folder}/photographs"
        list(segment_all(Job(segment, Folder(run), pictures=False), tasks))
        with Server(create_app({"coco80": segment.classifier}, run=(run, segment)), listen(port=0)) as server:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            tab = browser.new_context(viewport=size, color_scheme="light").new_page()
            tab.set_default_timeout(120_000)
            tab.goto(server.url)
            tab.wait_for_selector("body[data-ready]")
            tab.locator("#strip button[title=chelsea]").click()
            tab.wait_for_selector("body[data-shown=chelsea]")
            tab.keyboard.press("a")
            tab.wait_for_selector("#strip button[title=chelsea].accepted")
            tab.locator("#strip button[title=coffee]").click()
            tab.wait_for_selector("body[data-shown=coffee]")
            tab.fill("#another", "spoon")
            tab.press("#another", "Enter")
            tab.wait_for_selector("#strip button[title=coffee].corrected")
            tab.click(".class[data-label=cup]")
            tab.keyboard.press("o")
            _brush(tab, [(0.35, 0.62), (0.36, 0.7)])
            tab.fill("#another", "saucer")
            tab.click("#paint")
            tab.wait_for_selector(".class[data-label=saucer][aria-pressed=true]")
            _brush(tab, [(0.25, 0.82), (0.5, 0.92), (0.7, 0.8)])
            tab.locator(".class[data-label=saucer] small", has_text="by hand").wait_for()
            tab.locator("#status", has_text="Cutting").wait_for(state="hidden")
            tab.wait_for_timeout(2000)  # until it is saved
            shot = tab.screenshot()
            browser.close()
    return Image.open(BytesIO(shot))


def _brush(tab: Any, points: list[tuple[float, float]]) -> None:
    box = tab.locator("#strokes").bounding_box()
    for step, (x, y) in enumerate(points):
        tab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=2)
        if step == 0:
            tab.mouse.down()
    tab.mouse.up()


def _settle(tab: Any) -> None:
    tab.wait_for_selector("#result[aria-busy=false] .row:not(.stale)")


def _stroke(tab: Any, tool: str, points: Sequence[tuple[float, float]]) -> None:
    """Drag over the mask; points as shares of its width and height."""
    tab.locator(f"label[for={tool}]").click()
    canvas = tab.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    for place in places[1:]:
        tab.mouse.move(*place, steps=4)
    tab.mouse.up()
    _settle(tab)


AUDITED = saliency.GradCAM()


def audited(size: dict[str, int]) -> Drawn:
    """A screenshot of the photographs on an audit's page."""
    from playwright.sync_api import sync_playwright

    outlines = runpy.run_path(str(DOCS.parent / "examples" / "photographs.py"))["OUTLINES"]
    samples = {}
    for name, (label, outline) in outlines.items():
        photograph = images.read(Path(data.__file__).with_name(name))
        inside = Image.new("1", (photograph.shape[1], photograph.shape[0]))
        ImageDraw.Draw(inside).polygon(outline, fill=1)
        samples[name] = Sample(name, photograph, {label: np.array(inside)}, np.zeros(photograph.shape[:2], dtype=bool))
    asked = classifier("coco80")
    dataset = Dataset("four photographs", tuple(label for label, _ in outlines.values()), tuple(samples), samples.get)
    cases = audit.ranked([case for found in audit.audit(dataset, asked, AUDITED) for case in found])
    settings = {"title": dataset.title, "method": repr(AUDITED), "classifier": asked.record(), "truth": "masks"}
    cards = list(audit.draw(cases, dataset, asked, AUDITED))
    with TemporaryDirectory(prefix="gradcut-") as folder, sync_playwright() as playwright:
        path = Path(folder, "audit.html")
        path.write_text(audit.page(cases, audit.summarise(cases), settings, cards), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_context(viewport=size, color_scheme="light").new_page()
        tab.goto(path.as_uri())
        tab.evaluate("document.querySelector('#cards').scrollIntoView(); scrollBy(0, -12)")
        tab.wait_for_timeout(500)  # until the photographs are there
        shot = tab.screenshot()
        browser.close()
    return Image.open(BytesIO(shot))


def named(*recipes: str) -> dict[str, Recipe]:
    return {name: RECIPES[name] for name in recipes}


def of_cat(
    name: str, draw: Callable[[], Drawn], steps: Mapping[str, object], size: tuple[int, int] = (160, 240)
) -> Picture:
    return Picture(name, draw, steps, ("embedded",) if steps else (), size=size)


SALIENCY = RECIPES["fast"].saliency
PICTURES = [
    Picture("demo.jpg", demo, named("default")),
    Picture("simonyan-default.jpg", compared, named("simonyan", "default")),
    Picture("findings.jpg", findings, FINDINGS, ("embedded",)),
    Picture("comparing.jpg", comparing, {**named("fast"), **SIDE_BY_SIDE}),
    Picture("page-desktop.png", partial(page, DESKTOP, "light"), named("default"), page=True),
    Picture("page-welcome.png", partial(welcome, DESKTOP), {}, (), page=True),
    Picture("page-run.png", partial(run_page, DESKTOP), named("default"), page=True),
    Picture("page-phone.png", partial(page, PHONE, "dark", phone=True), named("default"), page=True),
    Picture("audit.png", partial(audited, {"width": 1200, "height": 436}), {"audit": AUDITED}),
    of_cat("masks/photograph.jpg", data.chelsea, {}),
    of_cat("masks/saliency.jpg", lambda: pictures.heat(evidence().saliency[0]), {"saliency": SALIENCY}),
    *(
        of_cat(f"masks/{name}.jpg", partial(seeds, rule), {"saliency": SALIENCY, "seeds": rule})
        for name, rule in {"seeds-wide": WIDE, "seeds-few": FEW}.items()
    ),
    *(
        of_cat(f"masks/{name}.jpg", partial(mask, name), {name: Recipe(name, "", SALIENCY, rule, maker)})
        for name, (maker, rule) in MAKERS.items()
    ),
    of_cat("saliency/photograph.jpg", data.chelsea, {}, (128, 192)),
    Picture(f"saliency/{PLACED}.jpg", partial(explained, PLACED), {PLACED: METHODS[PLACED]}, size=(128, 192)),
    *(
        of_cat(f"saliency/{name}.jpg", partial(explained, name), {name: method}, (128, 192))
        for name, method in METHODS.items()
        if name != PLACED
    ),
]


# Whether they are all there, and of today's recipes


def faults(entries: Mapping[str, Any], recorded: Sequence[Picture] = PICTURES) -> list[str]:
    """What is wrong with the pictures, a line each; none, and they are what `main` would make, without making them.

    Args:
        entries: as in `pictures.json`.
        recorded: what there should be.
    """
    lines = []
    of_today = {picture.name: picture.made_of() for picture in recorded}
    there = {path.relative_to(DOCS).as_posix(): path for path in DOCS.rglob("*") if path.suffix in (".jpg", ".png")}
    shown = {
        (path.parent / target).resolve().relative_to(DOCS).as_posix()
        for path in PAGES
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    }
    for name in sorted(of_today.keys() | entries.keys() | there.keys() | shown):
        homes = {"this program": of_today, "pictures.json": entries, "docs/": there, "README.md and docs/*.md": shown}
        missing = [home for home, names in homes.items() if name not in names]
        if missing:
            lines.append(f"{name}: not in {' nor '.join(missing)}")
            continue
        with Image.open(there[name]) as picture:
            size = (picture.width, picture.height)
        if size != (entries[name]["width"], entries[name]["height"]):
            lines.append(f"{name}: {size[0]} x {size[1]}, another size than recorded")
        if there[name].stat().st_size > LARGEST:
            lines.append(f"{name}: more than {LARGEST} bytes")
        before, now = entries[name]["made_of"], of_today[name]
        lines += [f"{name}: made of another {key}" for key in before | now if before.get(key) != now.get(key)]
    if sum(path.stat().st_size for path in there.values()) > ALL:
        lines.append(f"all together: more than {ALL} bytes")
    return lines


def main(names: Sequence[str]) -> None:
    """Make the pictures of these names, without their endings; none means all. Exit with what is wrong then, if any."""
    every = {picture.name.rpartition(".")[0]: picture for picture in PICTURES}
    unknown = sorted(set(names) - every.keys())
    if unknown:
        sys.exit(f"no such picture: {', '.join(unknown)}")
    before = json.loads(RECORD.read_text()) if names else {}
    entries = {picture.name: before[picture.name] for picture in PICTURES if picture.name in before}
    entries |= {every[name].name: every[name].write() for name in names or every}
    RECORD.write_text(json.dumps(dict(sorted(entries.items())), indent=1) + "\n")
    sys.exit("\n".join(faults(entries)))


if __name__ == "__main__":
    main(sys.argv[1:])
