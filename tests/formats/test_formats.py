"""Every export, read back by the tool's own library where it can be installed beside ours, gives the same mask."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_runs import OVERLAPPING, square_and_disc
from networks import brightness, placed
from PIL import Image, ImageDraw
from readers import DATUMARO, LABELME, voc_masks
from scipy import ndimage

from gradcut import Classifier, GradcutError, Segmenter, files, formats, pictures
from gradcut.files import Folder
from gradcut.formats import outlines
from gradcut.runs.job import Job, Task
from gradcut.runs.segment import segment_all, segment_folder


@pytest.fixture(scope="module")
def blobs():
    """Masks with parts, holes, single pixels and pixels that touch at a corner."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(60):
        h, w = generator.integers(1, 50, 2)
        noise = ndimage.gaussian_filter(generator.normal(size=(h, w)), generator.choice([0.01, 1, 2, 4]))
        found.append(noise > generator.choice([0, 0.05, -0.05]))
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run's folder over four photographs, one of them without an object, one broken; and the results."""
    outer = tmp_path_factory.mktemp("run")
    folder = outer / "in"
    (folder / "deep").mkdir(parents=True)
    photograph, _ = square_and_disc()
    Image.fromarray(photograph).save(folder / "both.png")
    Image.fromarray(photograph[:50, ::-1]).save(folder / "deep" / "both.png")
    Image.new("RGB", (30, 20)).save(folder / "dark.png")
    (folder / "broken.png").write_text("nothing")
    segment = Segmenter(placed(brightness()))
    job = Job(segment, Folder(str(outer / "run")), void=(0.0, 1.0))
    tasks = [Task(str(path), name) for path, name in files.find([folder])[0]]
    list(segment_all(job, tasks))
    results = {task.name: segment(task.photograph) for task in tasks if task.name != "broken"}
    return outer / "run", results


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


# outlines ------------------------------------------------------------------------------------------------------------


def test_outlines_keep_the_mask_exactly_for_coco(blobs):
    from pycocotools import mask as coder

    for mask in blobs:
        polygons = outlines.flat(outlines.outlines(mask))
        assert len(polygons) == ndimage.label(mask)[1]
        if polygons:
            h, w = mask.shape
            assert np.array_equal(coder.decode(coder.merge(coder.frPyObjects(polygons, h, w))).astype(bool), mask)


def filled(polygons, shape):
    cv2 = pytest.importorskip("cv2")
    canvas = np.zeros(shape, np.uint8)
    for polygon in polygons:
        part = np.zeros(shape, np.uint8)
        cv2.fillPoly(part, [polygon.astype(np.int32)], 1)
        canvas |= part
    return canvas.astype(bool)


def test_outlines_through_centres_come_back_when_filled_with_their_border(blobs):
    for mask in blobs:
        again = filled(outlines.outlines(mask, centres=True), mask.shape)
        assert not (mask & ~again).any()
        whole = ndimage.binary_fill_holes(mask)
        if np.array_equal(whole, mask):
            assert np.array_equal(again, mask)
        elif mask.any():
            assert iou(again, mask) > 0.97  # a slit to a hole may be drawn over another hole


def test_tolerance_saves_points(blobs):
    mask = max(blobs, key=np.size)
    exact, loose = (sum(map(len, outlines.outlines(mask, tolerance))) for tolerance in (0, 1.5))
    assert loose < exact / 2


# COCO and FiftyOne ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("polygons", [False, True])
def test_coco(run, tmp_path, polygons, capsys):
    from pycocotools.coco import COCO

    folder, results = run
    coco = COCO(formats.write(folder, tmp_path / "coco", "coco", polygons=polygons))
    capsys.readouterr()
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["red", "blue"]
    assert len(coco.getImgIds()) == 3
    by_name = dict(zip(results, coco.loadImgs(coco.getImgIds()), strict=True))
    for name, result in results.items():
        image = by_name[name]
        assert (image["height"], image["width"]) == result.mask.shape
        assert image["file_name"] == Path(result.source).relative_to(folder.parent / "in").as_posix()
        found = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert len(found) == len(result.objects)
        for annotation, known in zip(found, result.objects, strict=True):
            assert isinstance(annotation["segmentation"], list) == polygons
            assert np.array_equal(coco.annToMask(annotation).astype(bool), known.mask)
            assert annotation["area"] == known.area
            assert tuple(annotation["bbox"]) == known.box
            assert coco.loadCats(annotation["category_id"])[0]["name"] == known.label


def test_coco_names_and_numbers_are_cocos(brightness, drawn, tmp_path):
    classifier = Classifier(brightness.model, ("dog", "toothbrush"), 64, (0, 0, 0), (1, 1, 1), multilabel=True)
    for name in ("COCO_train2014_000000000042.png", "000000000007.png"):
        Image.fromarray(drawn[0]).save(tmp_path / name)
    results = [Segmenter(classifier)(path) for path in sorted(tmp_path.glob("*.png"))]
    document = json.loads(formats.write(formats.pile(results), tmp_path / "coco", "coco").read_text())
    assert {c["name"]: c["id"] for c in document["categories"]} == {"dog": 18, "toothbrush": 90}
    assert [image["id"] for image in document["images"]] == [7, 42]


def test_coco_results_are_evaluated_by_pycocotools(run, tmp_path, capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    folder, _ = run
    truth = COCO(formats.write(folder, tmp_path / "coco", "coco"))
    evaluation = COCOeval(truth, truth.loadRes(str(formats.write(folder, tmp_path / "r", "coco-results"))), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    assert evaluation.stats[0] == pytest.approx(1)


def test_fiftyone_folder(run, tmp_path):
    """`COCODetectionDataset`: data/ and labels.json, whose file names are those in data/."""
    folder, results = run
    written = formats.write(folder, tmp_path / "fo", "fiftyone")
    document = json.loads((written / "labels.json").read_text())
    assert {image["file_name"] for image in document["images"]} == {path.name for path in (written / "data").iterdir()}
    assert len(document["annotations"]) == sum(len(result.objects) for result in results.values())
    for image in document["images"]:
        with Image.open(written / "data" / image["file_name"]) as photograph:
            assert photograph.size == (image["width"], image["height"])
    assert all(0 <= annotation["score"] <= 1 for annotation in document["annotations"])


# YOLO and supervision ------------------------------------------------------------------------------------------------


def test_yolo_by_supervision(run, tmp_path):
    supervision = pytest.importorskip("supervision")
    folder, results = run
    formats.write(folder, tmp_path / "yolo", "yolo")
    data = supervision.DetectionDataset.from_yolo(
        str(tmp_path / "yolo/images"), str(tmp_path / "yolo/labels"), str(tmp_path / "yolo/data.yaml"), force_masks=True
    )
    assert data.classes == ["red", "blue"]
    read = {Path(path).stem: (picture, found) for path, picture, found in data}
    assert set(read) == {name.replace("/", "__") for name in results}
    for name, result in results.items():
        picture, found = read[name.replace("/", "__")]
        assert picture.shape[:2] == result.mask.shape
        for known in result.objects:
            parts = found.mask[found.class_id == known.members[0]]
            assert np.array_equal(np.any(parts, axis=0), known.mask)


def test_supervision_detections(brightness, drawn):
    pytest.importorskip("supervision")
    result = Segmenter(placed(brightness))(drawn[0])
    found = formats.detections(result)
    assert len(found) == 2
    for number, known in enumerate(result.objects):
        assert np.array_equal(found.mask[number], known.mask)
        left, top, width, height = known.box
        assert found.xyxy[number].tolist() == [left, top, left + width, top + height]
        assert found.data["class_name"][number] == known.label
        assert found.confidence[number] == pytest.approx(known.confidence)
    assert len(formats.detections(Segmenter(brightness)(np.zeros_like(drawn[0])))) == 0


def test_supervision_that_is_not_installed_is_said(brightness, drawn, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(GradcutError, match="supervision: the package is not installed"):
        formats.detections(Segmenter(brightness)(drawn[0]))


# Pascal VOC and CVAT -------------------------------------------------------------------------------------------------


def check_voc(read, results):
    assert set(read) == {name.replace("/", "__") for name in results}
    unsure = 0
    for name, result in results.items():
        masks, values = read[name.replace("/", "__")], result.classmap((0.0, 1.0))
        for known in result.objects:
            assert np.array_equal(masks.get(known.label, np.zeros_like(known.mask)), values == known.members[0] + 1)
        unsure += masks["void"].sum() if "void" in masks else 0
        assert set(masks) <= {"background", "void", "red", "blue"}
    assert unsure > 0


def test_voc(run, tmp_path):
    folder, results = run
    root = formats.write(folder, tmp_path / "voc", "voc")
    check_voc(voc_masks(root, "train"), results)
    for name, result in results.items():
        flat = name.replace("/", "__")
        with Image.open(root / f"SegmentationClass/{flat}.png") as image:
            assert image.mode == "P"
            assert image.getpalette() == pictures.palette().ravel().tolist()
            classes = np.array(image)
        assert np.array_equal(classes, result.classmap((0.0, 1.0)))
        with Image.open(root / f"SegmentationObject/{flat}.png") as image:
            objects = np.array(image)
        for number, known in enumerate(result.objects, start=1):
            assert np.array_equal(objects == number, classes == known.members[0] + 1)
        with Image.open(root / f"JPEGImages/{flat}.png") as image:
            assert image.size == result.mask.shape[::-1]


def test_cvat(run, tmp_path):
    folder, results = run
    archive = formats.write(folder, tmp_path / "cvat", "cvat")
    assert {path.name for path in (tmp_path / "cvat").iterdir()} == {"cvat.zip", "images"}, "one lies in a folder"
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "unpacked")
    check_voc(voc_masks(tmp_path / "unpacked", "default"), results)


@pytest.mark.parametrize("name", ["voc", "cvat"])
def test_voc_and_cvat_by_datumaro(run, tmp_path, name):
    """Datumaro asks for older versions of Pillow and pandas, so it lives in an environment of its own."""
    python = os.environ.get("DATUMARO_PYTHON")
    if not python:
        pytest.skip("needs DATUMARO_PYTHON, a Python with datumaro, which does not install beside this Pillow")
    folder, results = run
    root = formats.write(folder, tmp_path / name, name)
    if name == "cvat":
        with zipfile.ZipFile(root) as file:
            file.extractall(tmp_path / "unpacked")
        root = tmp_path / "unpacked"
    subprocess.run([python, "-c", DATUMARO, root, tmp_path / "masks.npz"], check=True)
    read: dict[str, dict[str, np.ndarray]] = {key.replace("/", "__"): {} for key in results}
    with np.load(tmp_path / "masks.npz") as masks:
        for key in masks:
            item, label, _ = key.split("|")
            read[item][label] = read[item].get(label, False) | masks[key].astype(bool)
    check_voc(read, results)


def test_many_classes_get_numbers_in_order_of_use(drawn, tmp_path):
    import torch

    class Many(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 300, 1)
            with torch.no_grad():
                self.conv.weight.zero_()
                self.conv.bias.zero_()
                self.conv.weight[290, 0] = self.conv.weight[299, 2] = 9.0
            self.fc = torch.nn.Linear(300, 300)
            with torch.no_grad():
                self.fc.weight.copy_(torch.eye(300) * 40)
                self.fc.bias.fill_(-2.0)

        def forward(self, x):
            return self.fc(self.conv(x).relu().mean((2, 3)))

    labels = [f"class {n}" for n in range(300)]
    result = Segmenter(Classifier(Many().eval(), labels, 64, (0, 0, 0), (1, 1, 1), multilabel=True))(drawn[0])
    assert {found.members for found in result.objects} == {(290,), (299,)}
    root = formats.write(formats.pile([result]), tmp_path / "voc", "voc")
    with Image.open(root / "SegmentationClass/photograph-1.png") as image:
        values = np.array(image)
    assert set(np.unique(values)) == {0, 1, 2}
    assert np.array_equal(values == 1, result.classmap() == 291)


# Label Studio --------------------------------------------------------------------------------------------------------


def test_label_studio_brush(run, tmp_path, blobs):
    brush = pytest.importorskip("label_studio_converter.brush", reason="needs label-studio-converter")
    decoded = brush.decode_rle

    for mask in blobs[:20]:
        assert np.array_equal(decoded(formats.brush_rle(mask)).reshape(*mask.shape, 4)[:, :, 3] == 255, mask)
    large = np.ones((140, 140), dtype=bool)
    assert decoded(formats.brush_rle(large)).all()
    folder, results = run
    tasks = json.loads(formats.write(folder, tmp_path / "ls", "label-studio").read_text())
    for (_, result), task in zip(results.items(), tasks, strict=True):
        assert task["data"]["image"] == result.source
        regions = task["predictions"][0]["result"]
        assert len(regions) == len(result.objects)
        for region, known in zip(regions, result.objects, strict=True):
            assert region["value"]["brushlabels"] == [known.label]
            shape = region["original_height"], region["original_width"]
            assert np.array_equal(decoded(region["value"]["rle"]).reshape(*shape, 4)[:, :, 3] == 255, known.mask)
    config = (tmp_path / "ls/config.xml").read_text()
    assert '<BrushLabels name="label" toName="image">' in config
    assert '<Label value="red"/>' in config


def test_label_studio_polygons(run, tmp_path):
    from pycocotools import mask as coder

    folder, results = run
    tasks = json.loads(formats.write(folder, tmp_path / "ls", "label-studio", polygons=True).read_text())
    for (_, result), task in zip(results.items(), tasks, strict=True):
        regions = task["predictions"][0]["result"]
        for known in result.objects:
            height, width = known.mask.shape
            shapes = [
                (np.array(region["value"]["points"]) / 100 * (width, height)).round(6).ravel().tolist()
                for region in regions
                if region["value"]["polygonlabels"] == [known.label]
            ]
            read = coder.decode(coder.merge(coder.frPyObjects(shapes, height, width))).astype(bool)
            assert np.array_equal(read, known.mask)
    assert "PolygonLabels" in (tmp_path / "ls/config.xml").read_text()


# LabelMe -------------------------------------------------------------------------------------------------------------


def labelme_masks(path: Path, label: str):
    """As LabelMe's own ``shapes_to_label`` fills them."""
    document = json.loads(path.read_text())
    filled = np.zeros((document["imageHeight"], document["imageWidth"]), dtype=bool)
    for shape in document["shapes"]:
        points = shape["points"]
        if shape["label"] != label:
            continue
        if shape["shape_type"] == "mask":
            (left, top), (right, bottom) = points
            with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
                filled[top : bottom + 1, left : right + 1] |= np.array(image).astype(bool)
        else:
            assert shape["shape_type"] == "polygon"
            assert len(points) > 2
            canvas = Image.new("L", filled.shape[::-1])
            ImageDraw.Draw(canvas).polygon([tuple(point) for point in points], outline=1, fill=1)
            filled |= np.array(canvas, dtype=bool)
    return document, filled


@pytest.mark.parametrize("polygons", [False, True])
def test_labelme(run, tmp_path, polygons):
    folder, results = run
    written = formats.write(folder, tmp_path / "labelme", "labelme", polygons=polygons)
    for name, result in results.items():
        path = written / f"{name.replace('/', '__')}.json"
        for known in result.objects:
            document, mask = labelme_masks(path, known.label)
            assert np.array_equal(mask, known.mask)
        document, _ = labelme_masks(path, "")
        assert {shape["shape_type"] for shape in document["shapes"]} <= {"polygon" if polygons else "mask"}
        assert len({shape["group_id"] for shape in document["shapes"]}) == len(result.objects)
        with Image.open(written / document["imagePath"]) as image:
            assert image.size == (document["imageWidth"], document["imageHeight"])


@pytest.mark.parametrize("polygons", [False, True])
def test_labelme_by_labelme(run, tmp_path, polygons):
    """LabelMe comes with Qt, so it lives in an environment of its own."""
    python = os.environ.get("LABELME_PYTHON")
    if not python:
        pytest.skip("needs LABELME_PYTHON, a Python with labelme")
    folder, results = run
    written = formats.write(folder, tmp_path / "labelme", "labelme", polygons=polygons)
    subprocess.run([python, "-c", LABELME, written, tmp_path / "masks.npz"], check=True)
    with np.load(tmp_path / "masks.npz") as masks:
        expected = {f"{name.replace('/', '__')}|{o.label}": o.mask for name, r in results.items() for o in r.objects}
        assert set(masks) == set(expected)
        for key, mask in expected.items():
            assert np.array_equal(masks[key], mask)


# all of them ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """The folder of a run over one photograph, and its result in memory."""
    folder = tmp_path_factory.mktemp("shapes")
    Image.fromarray(square_and_disc()[0]).save(folder / "shapes.png")
    segment = Segmenter(brightness())
    list(segment_all(Job(segment, Folder(str(folder / "run"))), [Task(str(folder / "shapes.png"), "shapes")]))
    return folder / "run", segment(folder / "shapes.png")


@pytest.mark.parametrize("name", formats.FORMATS)
def test_results_in_memory_give_the_same_as_a_run(shapes, tmp_path, name):
    folder, result = shapes
    formats.write(folder, tmp_path / "a" / "x", name)
    formats.write(formats.pile([result]), tmp_path / "b" / "x", name)

    def values(path):
        if path.suffix == ".json":
            return json.loads(path.read_text(), parse_float=lambda number: f"{float(number):.4f}")
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as file:
                return {member: file.read(member) for member in file.namelist()}
        return path.read_bytes().replace(str(tmp_path / "b").encode(), str(tmp_path / "a").encode())

    found = [
        {path.relative_to(folder).as_posix(): values(path) for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    assert found[0] == found[1]
    assert found[0]


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_minimum_confidence_leaves_objects_out(run, tmp_path, name):
    folder, results = run
    sure = sorted(found.confidence for result in results.values() for found in result.objects)
    assert sure[0] < sure[-1]
    formats.write(folder, tmp_path / "all", name)
    formats.write(folder, tmp_path / "sure", name, minimum=(sure[0] + sure[-1]) / 2)

    def values(path):
        if path.suffix != ".zip":
            return path.read_bytes()
        with zipfile.ZipFile(path) as file:  # which holds the time as well
            return b"".join(map(file.read, file.namelist()))

    found = [
        {path.relative_to(tmp_path / part): values(path) for path in (tmp_path / part).rglob("*") if path.is_file()}
        for part in ("all", "sure")
    ]
    assert found[0] != found[1]
    if name not in ("voc", "cvat"):  # pictures of labels: what one object leaves may take more bytes to write
        sizes = [sum(map(len, each.values())) for each in found]
        assert sizes[1] < sizes[0]


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory):
    """A folder with a run whose masks overlap and one whose masks are disjoint, and the former's result."""
    folder = tmp_path_factory.mktemp("overlapping")
    Image.fromarray(square_and_disc()[0]).save(folder / "both.png")
    for run, disjoint in (("whole", False), ("disjoint", True)):
        segment_folder(Segmenter(brightness(), OVERLAPPING, disjoint=disjoint), folder / "both.png", folder / run)
    return folder, Segmenter(brightness(), OVERLAPPING)(folder / "both.png")


@pytest.mark.parametrize("name", [name for name in formats.FORMATS if name != "cvat"])
def test_disjoint_exports_are_as_of_disjoint_masks(overlapping, tmp_path, name):
    runs, whole = overlapping

    def written(what, **options):
        folder = tmp_path / f"export-{len(list(tmp_path.iterdir()))}"
        formats.write(what, folder, name, **options)
        texts = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return {path: content.replace(str(folder).encode(), b"") for path, content in texts.items()}

    expected = written(runs / "disjoint")
    assert written(runs / "whole", disjoint=True) == expected
    assert written(runs / "disjoint", disjoint=True) == expected
    separate = written(formats.pile([whole.without_overlaps()]))
    assert written(formats.pile([whole]), disjoint=True) == separate
    assert (written(runs / "whole") == expected) == (name == "voc")  # where a pixel has one class as it is


def test_an_object_without_a_pixel_of_its_own_is_not_in_a_disjoint_export(brightness, drawn, tmp_path):
    result = Segmenter(brightness, OVERLAPPING)(drawn[0])
    first, second = result.objects
    hidden = replace(second, saliency=first.saliency / 2)  # the first is as strong everywhere
    pile = formats.pile([replace(result, objects=(first, hidden))])
    for disjoint, number in ((False, 2), (True, 1)):
        found = json.loads(formats.write(pile, tmp_path, "coco", disjoint=disjoint).read_text())
        assert len(found["annotations"]) == number
        found = json.loads(formats.write(pile, tmp_path, "coco-results", disjoint=disjoint).read_text())
        assert len(found) == number
        tasks = json.loads(formats.write(pile, tmp_path, "label-studio", disjoint=disjoint).read_text())
        assert len(tasks[0]["predictions"][0]["result"]) == number


def test_objects_without_a_confidence(brightness, drawn, tmp_path):
    """They are written without one, and a least confidence is refused."""
    result = Segmenter(brightness, "simonyan")(drawn[0])
    path = formats.write(formats.pile([result]), tmp_path / "coco", "coco")
    assert all("score" not in annotation for annotation in json.loads(path.read_text())["annotations"])
    tasks = formats.write(formats.pile([result]), tmp_path / "tasks", "label-studio").read_text()
    assert "NaN" not in tasks
    assert all("score" not in prediction for task in json.loads(tasks) for prediction in task["predictions"])
    with pytest.raises(GradcutError, match=r"minimum: .* for every object, '(red|blue)' in photograph-1 has none"):
        formats.write(formats.pile([result]), tmp_path / "sure", "coco", minimum=0.5)
    detections = pytest.importorskip("supervision") and formats.detections(result)
    assert detections.confidence is None
    assert len(detections) == 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nothing", {}, "format: expected one of coco, coco-results"),
        ("voc", {"polygons": True}, "polygons: voc has no outlines"),
        ("coco", {"tolerance": 1.0}, "tolerance: it is for outlines"),
    ],
)
def test_formats_and_options_that_do_not_fit_are_refused(run, tmp_path, name, options, message):
    with pytest.raises(GradcutError, match=message):
        formats.write(run[0], tmp_path / "x", name, **options)


def test_places_that_cannot_be_written_or_read(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(GradcutError, match="cannot be written"):
        formats.write(run[0], tmp_path / "file/out", "coco")
    with pytest.raises(GradcutError, match="run: expected a folder"):
        formats.write(run[0].parent / "in", tmp_path / "x", "coco")
    with pytest.raises(GradcutError, match="expected a folder on this machine"):
        formats.write(run[0], "s3://bucket/x", "coco")
    with pytest.raises(GradcutError, match="results: expected at least one"):
        formats.pile([])


def test_a_group_of_classes_has_a_number_after_the_classes(embedded, cat, tmp_path):
    segment = Segmenter(embedded, "simonyan")
    result = segment(cat, labels=["lynx", "dog"])
    assert result.classes == (*embedded.labels, "dog")
    assert set(np.unique(result.classmap())) == {0, embedded.index("lynx") + 1, 1001}
    results = formats.pile([result, segment(cat, labels=["lynx", "dog"])])
    assert [marked.index for marked in next(iter(results.photographs)).objects] == [embedded.index("lynx"), 1000]
    with pytest.raises(GradcutError, match="the same groups"):
        formats.pile([result, segment(cat, labels=["bird"])])
