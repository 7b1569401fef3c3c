"""Every label, every name and every orientation survives an export and the tool that reads it."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import subprocess
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycocotools.coco
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import brightness, placed
from PIL import ExifTags, Image, ImageOps, PngImagePlugin
from readers import DATUMARO, voc_masks

from gradcut import RECIPES, Classifier, GradcutError, Segmenter, files, formats
from gradcut.files import Folder
from gradcut.formats.upright import upright
from gradcut.results import Object, Segmentation
from gradcut.runs.job import Job, Task
from gradcut.runs.segment import segment_all
from gradcut.seeds import Seeds

brush = pytest.importorskip("label_studio_converter.brush", reason="needs label-studio-converter")
parse_config = pytest.importorskip("label_studio_converter.utils").parse_config
supervision = pytest.importorskip("supervision")

# names and labels ----------------------------------------------------------------------------------------------------

LABELS = [
    "background", "void", "a/b", "a,b", "a:b", "a b", " a b", "Ünïcødé 猫 \U0001f408", 'quo"ted', "it's",
    "Turkey", "turkey", "#hash", "back\\slash", "<tag> & co", "line\nend", "tab\tbed", "no", "1", "...", "x" * 300,
    "\x07bell", "two\u2028lines", "a;b", "\u00e9", "e\u0301", "a  b", "%s", "null", "- dash", "{brace}", "Background",
]  # fmt: skip


def marked(labels, sources, blank=()):
    """A result for each source, with a mask of every class, all apart; no two photographs have one size."""
    classifier = Classifier(torch.nn.Identity(), labels, 8, multilabel=True)
    results = []
    for number, source in enumerate(sources):
        image = np.full((12, 3 * len(labels) + number, 3), 7, dtype=np.uint8)
        saliency, nowhere = np.eye(8, dtype=np.float32), np.zeros((8, 8), dtype=bool)
        objects = []
        for index, label in enumerate(labels):
            mask = np.zeros(image.shape[:2], dtype=bool)
            mask[2 : 5 + number, 3 * index : 3 * index + 2] = label not in blank
            values = np.zeros_like(saliency) if label in blank else saliency
            objects.append(Object(label, (index,), 0.5, values, Seeds(nowhere, nowhere), mask, None))
        results.append(Segmentation(image, tuple(objects), (), classifier, RECIPES["fast"], {}, source))
    return results


def photographs(folder, names, results):
    for name, result in zip(names, results, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(result.image).save(folder / name)


def coco_masks(path):
    """By photograph and class the mask, as pycocotools reads it."""
    coco = pycocotools.coco.COCO(path)
    names = {number: category["name"] for number, category in coco.cats.items()}
    return {
        coco.imgs[i]["file_name"]: {names[a["category_id"]]: coco.annToMask(a) > 0 for a in coco.imgToAnns[i]}
        for i in coco.imgs
    }


def yolo_masks(folder):
    data = supervision.DetectionDataset.from_yolo(
        str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"), force_masks=True
    )
    return {
        Path(path).name: {data.classes[c]: found.mask[found.class_id == c].any(0) for c in found.class_id}
        for path, _, found in data
    }


def label_studio_masks(folder):
    config = parse_config((folder / "config.xml").read_text(encoding="utf-8"))
    read = {}
    for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8")):
        masks = {}
        for region in task["predictions"][0]["result"]:
            (label,) = region["value"]["brushlabels"]
            assert label in config["label"]["labels"]
            shape = region["original_height"], region["original_width"], 4
            masks[label] = brush.decode_rle(region["value"]["rle"]).reshape(shape)[:, :, 3] > 0
        read[task["data"]["image"]] = masks
    return read, config["label"]["labels"]


def check_masks(read, results, labels=None):
    """Each photograph has the masks of its result; under labels of its own where the format cannot hold a class's."""
    assert len(read) == len(results)
    by_size = {next(iter(masks.values())).shape: masks for masks in read.values()}
    for result in results:
        masks = by_size[result.image.shape[:2]]
        assert len(masks) == len(result.objects)
        for known, label in zip(result.objects, labels or [o.label for o in result.objects], strict=True):
            assert np.array_equal(masks[label], known.mask), label


def without_background(read):
    return {key: {label: mask for label, mask in masks.items() if label != "background"} for key, masks in read.items()}


@pytest.fixture
def hard(tmp_path):
    names = ["a/x.png", "b/x.png", "b/a__x.png", "a__x.png", "B/x.png", "x.png"]
    sources = [str(tmp_path / "in" / name) for name in names]
    results = marked(LABELS, sources)
    photographs(tmp_path / "in", names, results)
    return formats.pile(results), results, names


def test_labels_and_names_survive_coco(hard, tmp_path, capsys):
    collection, results, names = hard
    check_masks(read := coco_masks(formats.write(collection, tmp_path / "coco", "coco")), results)
    assert sorted(read) == sorted(names)
    folder = formats.write(collection, tmp_path / "fo", "fiftyone")
    check_masks(read := coco_masks(folder / "labels.json"), results)
    assert set(read) == {path.name for path in (folder / "data").iterdir()}
    data = supervision.DetectionDataset.from_coco(str(folder / "data"), str(folder / "labels.json"), force_masks=True)
    assert data.classes == LABELS
    ids = {
        row["category_id"] for row in json.loads(formats.write(collection, tmp_path / "r", "coco-results").read_text())
    }
    assert len(ids) == len(LABELS)


def test_labels_and_names_survive_yolo(hard, tmp_path):
    collection, results, _ = hard
    formats.write(collection, tmp_path / "yolo", "yolo")
    check_masks(yolo_masks(tmp_path / "yolo"), results)


def test_labels_and_names_survive_label_studio(hard, tmp_path):
    collection, results, _ = hard
    formats.write(collection, tmp_path / "ls", "label-studio")
    read, listed = label_studio_masks(tmp_path / "ls")
    shown = [re.sub(r"[\n\t\x07\u2028]", "_", label) for label in LABELS]
    assert listed == shown, "every class, so that a person can choose another"
    check_masks(read, results, shown)
    assert set(read) == {result.source for result in results}


def test_label_studio_lists_classes_that_were_not_found(tmp_path):
    results = marked(["cat", "dog"], ["x.png"])
    few = [replace(results[0], objects=results[0].objects[:1])]
    formats.write(formats.pile(few), tmp_path / "ls", "label-studio")
    assert label_studio_masks(tmp_path / "ls")[1] == ["cat", "dog"]


@pytest.mark.parametrize("name", ["voc", "cvat"])
def test_labels_and_names_survive_voc(hard, tmp_path, name):
    collection, results, _ = hard
    root, subset = formats.write(replace(collection, void=True), tmp_path / name, name), "train"
    if name == "cvat":
        with zipfile.ZipFile(root) as file:
            file.extractall(tmp_path / "unpacked")
        root, subset = tmp_path / "unpacked", "default"
    listed = [row.split(":")[0] for row in (root / "labelmap.txt").read_text(encoding="utf-8").splitlines()[1:]]
    assert listed[:2] == ["background", "void"]
    shown = listed[2:]
    assert shown[:6] == ["background_1", "void_1", "a/b", "a,b", "a_b", "a b"]
    assert len(set(listed)) == len(LABELS) + 2
    read = voc_masks(root, subset)
    assert len(read) == len(results)
    check_masks(
        {key: {k: v for k, v in masks.items() if k != "background"} for key, masks in read.items()}, results, shown
    )
    if not (python := os.environ.get("DATUMARO_PYTHON")):
        return
    subprocess.run([python, "-c", DATUMARO, root, tmp_path / "masks.npz"], check=True)
    again: dict[str, dict[str, np.ndarray]] = {}
    with np.load(tmp_path / "masks.npz") as masks:
        for key in masks:
            item, label, _ = key.split("|")
            if label != "background":
                again.setdefault(item, {})[label] = masks[key].astype(bool)
    check_masks(again, results, shown)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    labels=st.lists(st.text(min_size=1, max_size=8).filter(str.strip), min_size=1, max_size=6, unique=True),
    names=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8).filter(
            lambda name: not name.startswith(".")
        ),
        min_size=1, max_size=4, unique=True,
    ),
)  # fmt: skip
def test_any_labels_and_names_survive(labels, names, tmp_path_factory, capsys):
    folder = tmp_path_factory.mktemp("any")
    names = [f"{name}/x.png" if number % 2 else f"{name}.png" for number, name in enumerate(names)]
    results = marked(labels, [str(folder / "in" / name) for name in names])
    photographs(folder / "in", names, results)
    collection = formats.pile(results)
    check_masks(read := coco_masks(formats.write(collection, folder / "coco", "coco")), results)
    assert len(read) == len(names)
    formats.write(collection, folder / "yolo", "yolo")
    check_masks(yolo_masks(folder / "yolo"), results)
    formats.write(collection, folder / "ls", "label-studio")
    read, listed = label_studio_masks(folder / "ls")
    assert len(set(listed)) == len(labels)
    check_masks(read, results, listed)
    root = formats.write(collection, folder / "voc", "voc")
    shown = [row.split(":")[0] for row in (root / "labelmap.txt").read_text(encoding="utf-8").splitlines()[2:]]
    masks = voc_masks(root, "train")
    check_masks(
        {key: {k: v for k, v in own.items() if k != "background"} for key, own in masks.items()}, results, shown
    )


def test_ids_are_exact_in_every_reader(tmp_path):
    names = [str(tmp_path / f"{number}.png") for number in (7, 2**53, 10**60)]
    document = json.loads(formats.write(formats.pile(marked(["cat"], names)), tmp_path / "coco", "coco").read_text())
    assert [image["id"] for image in document["images"]] == [1, 2, 3]
    document = json.loads(formats.write(formats.pile(marked(["cat"], names[:1])), tmp_path / "one", "coco").read_text())
    assert [image["id"] for image in document["images"]] == [7]


# photographs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """A run over photographs with every EXIF orientation, in four formats of files."""
    tmp_path = tmp_path_factory.mktemp("turned")
    upright = np.zeros((128, 96, 3), dtype=np.uint8)
    upright[20:60, 16:56] = (255, 0, 0)
    upright[70:110, 60:96] = (0, 0, 255)
    back = {
        1: np.copy,
        2: np.fliplr,
        3: lambda p: np.rot90(p, 2),
        4: np.flipud,
        5: lambda p: p.swapaxes(0, 1),
        6: np.rot90,
        7: lambda p: np.rot90(p, 2).swapaxes(0, 1),
        8: lambda p: np.rot90(p, 3),
    }
    (tmp_path / "in").mkdir()
    for orientation, turn in back.items():
        for suffix in ("jpg", "png", "tif", "webp"):
            exif = Image.Exif()
            exif[ExifTags.Base.Orientation] = orientation
            options = {"quality": 95} if suffix in ("jpg", "webp") else {}
            image = Image.fromarray(np.ascontiguousarray(turn(upright)))
            image.save(tmp_path / "in" / f"{suffix}-{orientation}.{suffix}", exif=exif, **options)
    job = Job(Segmenter(placed(brightness()), "fast"), Folder(str(tmp_path / "run")), pictures=False)
    list(segment_all(job, [Task(str(path), name) for path, name in files.find([tmp_path / "in"])[0]]))
    return tmp_path / "run", upright


@pytest.mark.parametrize(("name", "where"), [("yolo", "images"), ("voc", "JPEGImages"), ("fiftyone", "data")])
def test_photographs_are_upright_for_readers_that_know_no_exif(turned, tmp_path, name, where):
    run, upright = turned
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        formats.write(run, tmp_path / "out", name)
    paths = sorted((tmp_path / "out" / where).iterdir())
    assert len(paths) == 32
    for path in paths:
        pixels = stored(path)
        assert pixels.shape == upright.shape, path.name
        assert abs(pixels - upright).mean() < 8, path.name
        linked = path.samefile(run.parent / "in" / path.name)
        assert linked == ("-1." in path.name), "what is upright is linked as it is"


def stored(path):
    """The pixels as a reader has them that knows no EXIF."""
    with Image.open(path) as image:
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        return np.array(image.convert("RGB")).astype(int)


@pytest.mark.parametrize("name", ["coco", "label-studio", "cvat"])
def test_formats_that_name_files_bring_photographs_that_are_turned(turned, tmp_path, name, capsys):
    run, upright = turned
    with pytest.warns(UserWarning, match=rf"{name}: 28 of the photographs have an EXIF orientation.*use .*out/images"):
        path = formats.write(run, tmp_path / "out", name)
    if name == "coco":
        paths = [tmp_path / "out/images" / image for image in coco_masks(path)]
        supervision.DetectionDataset.from_coco(str(tmp_path / "out/images"), str(path), force_masks=True)
    elif name == "label-studio":
        paths = [Path(task["data"]["image"]) for task in json.loads(path.read_text())]
    else:
        paths = sorted((tmp_path / "out/images").iterdir())
        with zipfile.ZipFile(path) as file:
            listed = file.read("ImageSets/Segmentation/default.txt").decode().splitlines()
        assert sorted(listed) == [path.stem for path in paths]
    assert len(set(paths)) == 32
    for each in paths:
        assert stored(each).shape == upright.shape, each.name
        assert abs(stored(each) - upright).mean() < 8, each.name


def test_photographs_that_are_upright_are_named_as_they_are(tmp_path):
    results = marked(["cat"], [str(tmp_path / "in/x.png"), str(tmp_path / "in/y.png")])
    photographs(tmp_path / "in", ["x.png", "y.png"], results)
    for name in ("coco", "label-studio", "cvat"):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            formats.write(formats.pile(results), tmp_path / name, name)
        assert not (tmp_path / name / "images").exists()


def test_cvat_has_the_photographs_of_masks_that_are_called_otherwise(hard, tmp_path):
    """CVAT finds a mask's photograph by its name, and masks have names without folders."""
    collection, results, _ = hard
    archive = formats.write(collection, tmp_path / "cvat", "cvat")
    with zipfile.ZipFile(archive) as file:
        listed = file.read("ImageSets/Segmentation/default.txt").decode().splitlines()
    paths = list((tmp_path / "cvat/images").iterdir())
    assert sorted(listed) == sorted(path.stem for path in paths)
    assert len(listed) == len(results)


def tagged(entries):
    """EXIF bytes with entries (tag, type, count, four bytes of value), some of them such as Pillow cannot write."""
    rows = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in sorted(entries))
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + rows + struct.pack("<I", 0)


@pytest.mark.parametrize(
    "other",
    [
        (256, 2, 4, b"abc\0"),  # a width in letters
        (282, 2, 4, b"abc\0"),  # a resolution in letters
        (36867, 3, 1, b"\1\0\0\0"),  # a date that is a number
        (33434, 5, 1, b"\xff\xff\0\0"),  # a fraction that lies behind the end
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_turned_photographs_with_tags_that_cannot_be_written_become_upright(drawn, other, kind):
    content = io.BytesIO()
    exif = tagged([other, (274, 3, 1, struct.pack("<HH", 6, 0))])
    Image.fromarray(np.rot90(drawn[0])).save(content, kind, exif=exif)
    content.seek(0)
    turned = upright(content)
    assert turned is not None
    again = io.BytesIO(turned)
    assert stored(again).shape == drawn[0].shape
    assert upright(again) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_orientation_in_xmp_goes_too(drawn, kind):
    content = io.BytesIO()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    options = {"xmp": xmp} if kind == "JPEG" else {"pnginfo": info}
    Image.fromarray(np.rot90(drawn[0])).save(content, kind, **options)
    content.seek(0)
    with Image.open(content) as image:
        wanted = ImageOps.exif_transpose(image).size
    turned = upright(content)
    assert turned is not None
    with Image.open(io.BytesIO(turned)) as image:
        assert image.size == wanted
        assert ImageOps.exif_transpose(image).size == wanted


def test_a_photograph_is_never_replaced_by_its_export(tmp_path):
    """Not where it lies in the export's own folder, and not through a link of an earlier export."""
    path = tmp_path / "images/x.png"
    results = marked(["cat"], [str(path)])
    photographs(tmp_path / "images", ["x.png"], results)
    before = path.read_bytes()
    formats.write(formats.pile(results), tmp_path, "yolo")
    formats.write(formats.pile(results), tmp_path / "again", "yolo")
    assert (path.read_bytes(), path.is_symlink()) == (before, False)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    turned = io.BytesIO()
    Image.fromarray(np.rot90(results[0].image, 2)).save(turned, "PNG", exif=exif)
    path.write_bytes(turned.getvalue())
    formats.write(formats.pile(results), tmp_path / "again", "yolo")
    with pytest.raises(GradcutError, match=r"x\.png is the photograph itself, and not upright"):
        formats.write(formats.pile(results), tmp_path, "yolo")
    assert path.read_bytes() == turned.getvalue()
    assert np.array_equal(stored(tmp_path / "again/images/x.png"), results[0].image)


def test_photographs_that_are_gone_are_said_and_pixels_are_written(tmp_path):
    results = marked(["cat"], [str(tmp_path / "gone.png")])
    with pytest.raises(GradcutError, match=r"gone\.png: no such file"):
        formats.write(formats.pile(results), tmp_path / "yolo", "yolo")
    results = marked(["cat"], ["memory://nowhere/gone.png"])
    with pytest.raises(GradcutError, match=r"memory://nowhere/gone\.png: cannot be fetched"):
        formats.write(formats.pile(results), tmp_path / "yolo", "yolo")
    formats.write(formats.pile(marked(["cat"], [""])), tmp_path / "voc", "voc")
    with Image.open(tmp_path / "voc/JPEGImages/photograph-1.png") as image:
        assert image.size == (3, 12)


@pytest.mark.parametrize("name", formats.FORMATS)
def test_blank_objects_are_left_out_and_counted(tmp_path, name):
    results = marked(["cat", "dog"], [str(tmp_path / "x.png")], blank=["dog"])
    photographs(tmp_path, ["x.png"], results)
    with pytest.warns(UserWarning, match=f"{name}: 1 object is left out, the saliency being blank"):
        formats.write(formats.pile(results), tmp_path / "out", name)
    if name == "label-studio":
        (masks,) = label_studio_masks(tmp_path / "out")[0].values()
        assert set(masks) == {"cat"}
