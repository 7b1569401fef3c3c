"""Masks that somebody has as PNG files come back from every export as they were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from readers import voc_masks

from gradcut import GradcutError, Segmenter, formats
from gradcut.formats.tables import classes_of, read_table
from gradcut.runs.segment import segment_folder

#: A class map of two classes, a border of void and a background.
MAP = np.zeros((40, 60), dtype=np.uint8)
MAP[5:20, 5:30] = 3
MAP[18:35, 20:55] = 7
MAP[0] = 255


@pytest.fixture
def photographs(tmp_path):
    """Three of one size in a folder, one of them below another folder; and the folder of their masks, empty."""
    for name in ("a.jpg", "deep/b.png", "without.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (9, 9, 9)).save(path)
    (tmp_path / "masks/deep").mkdir(parents=True)
    return tmp_path / "photos"


def coco_masks(folder: Path):
    coco = COCO(str(folder / "instances.json"))
    found = {}
    for annotation in coco.loadAnns(coco.getAnnIds()):
        name = Path(coco.loadImgs(annotation["image_id"])[0]["file_name"]).with_suffix("").as_posix()
        label = coco.loadCats(annotation["category_id"])[0]["name"]
        found[name, label] = coco.annToMask(annotation).astype(bool)
    return found


def same(found, expected):
    assert found.keys() == expected.keys()
    for key, mask in expected.items():
        assert np.array_equal(found[key], mask), key


COLOURS = "void:224,224,192::\ncat:200,0,0::\ndog:0,0,200::\nbird:1,2,3::\n"
PALETTE = np.zeros((256, 3), dtype=np.uint8)
PALETTE[3], PALETTE[7], PALETTE[255] = (200, 0, 0), (0, 0, 200), (224, 224, 192)


@pytest.mark.parametrize(
    ("kind", "table", "content"),
    [
        ("L", "labels.json", '{"3": "cat", "7": "dog", "12": "bird"}'),
        ("P", "labels.json", '{"background": 0, "cat": 3, "dog": 7, "bird": 12}'),
        ("P", "labelmap.txt", f"# name:colour\nbackground:0,0,0::\n{COLOURS}"),
        ("RGB", "labelmap.txt", COLOURS),
    ],
)  # fmt: skip
def test_class_maps(photographs, tmp_path, kind, table, content):
    picture = Image.fromarray(MAP)
    if kind != "L":
        picture.putpalette(PALETTE.tobytes())
    for name in ("a.png", "deep/b.png"):
        (picture.convert("RGB") if kind == "RGB" else picture).save(tmp_path / "masks" / name)
    (tmp_path / "masks" / table).write_text(content)
    pile, without = formats.mask_pile(tmp_path / "masks", photographs)
    assert (pile.classes, pile.void, without) == (("cat", "dog", "bird"), True, ["without"])
    expected = {(name, label): value == MAP for name in ("a", "deep/b") for label, value in (("cat", 3), ("dog", 7))}
    formats.write(pile, tmp_path / "coco", "coco")
    same(coco_masks(tmp_path / "coco"), expected)
    read = voc_masks(formats.write(pile, tmp_path / "voc", "voc"), "train")
    for (name, label), mask in expected.items():
        assert np.array_equal(read[name.replace("/", "__")][label], mask)
        assert np.array_equal(read[name.replace("/", "__")]["void"], MAP == 255)


@pytest.mark.parametrize("layout", ["NAME/CLASS.png", "CLASS/NAME.png"])
def test_a_file_for_each_class(photographs, tmp_path, layout):
    """Masks overlap as they did; where a pixel has one class, it is the smaller mask's."""
    dog, cat = MAP == 7, np.zeros(MAP.shape, dtype=bool)
    cat[10:30, 10:30] = True
    assert (cat & dog).any()
    for name in ("a", "deep/b"):
        for label, mask, full in (("cat", cat, 255), ("dog", dog, 1)):
            path = tmp_path / "masks" / layout.replace("NAME", name).replace("CLASS", label)
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(mask.astype(np.uint8) * full)
            (picture if full == 1 else picture.convert("RGBA" if name == "a" else "1")).save(path)
    pile, without = formats.mask_pile(tmp_path / "masks", photographs)
    assert (pile.classes, without) == (("cat", "dog"), ["without"])
    formats.write(pile, tmp_path / "coco", "coco")
    same(coco_masks(tmp_path / "coco"), {(n, k): m for n in ("a", "deep/b") for k, m in (("cat", cat), ("dog", dog))})
    formats.write(pile, tmp_path / "flat", "coco", disjoint=True)
    assert cat.sum() < dog.sum()
    parts = {(n, k): m for n in ("a", "deep/b") for k, m in (("cat", cat), ("dog", dog & ~cat))}
    same(coco_masks(tmp_path / "flat"), parts)
    read = voc_masks(formats.write(pile, tmp_path / "voc", "voc"), "train")
    assert np.array_equal(read["a"]["dog"], dog & ~cat)
    (tmp_path / "order.txt").write_text("dog\nhorse\ncat\n")
    assert formats.mask_pile(tmp_path / "masks", photographs, str(tmp_path / "order.txt"))[0].classes == (
        "dog", "horse", "cat",
    )  # fmt: skip


def test_what_a_run_wrote_is_exported_the_same(brightness, drawn, tmp_path, command):
    """Its folders masks/ and classmaps/ are such folders; and the command says where the export lies."""
    (tmp_path / "in").mkdir()
    Image.fromarray(drawn[0]).save(tmp_path / "in/both.png")
    segment_folder(Segmenter(brightness), tmp_path / "in", tmp_path / "run")
    formats.write(tmp_path / "run", tmp_path / "expected", "coco", disjoint=True)
    (tmp_path / "labels.txt").write_text("red\nblue\n")
    call = ["--images", tmp_path / "in", "--labels", tmp_path / "labels.txt", "-f", "coco"]
    status, out, err = command("export", tmp_path / "run/classmaps", *call)
    assert (status, out, err) == (0, f"{tmp_path}/run/classmaps-exports/coco/instances.json\n", "")
    same(coco_masks(tmp_path / "run/classmaps-exports/coco"), coco_masks(tmp_path / "expected"))
    formats.write(tmp_path / "run", tmp_path / "whole", "coco")
    command("export", tmp_path / "run/masks", *call, "-o", tmp_path / "again")
    same(coco_masks(tmp_path / "again"), coco_masks(tmp_path / "whole"))


@pytest.mark.parametrize("name", [name for name in formats.FORMATS if name != "coco-results"])
def test_every_format_takes_them(photographs, tmp_path, name):
    Image.fromarray(MAP).save(tmp_path / "masks/a.png")
    (tmp_path / "masks/labels.txt").write_text(
        "\n".join(["background", *map(str, range(1, 7)), "dog"]).replace("3", "cat")
    )
    pile, _ = formats.mask_pile(tmp_path / "masks", photographs)
    assert pile.classes == ("1", "2", "cat", "4", "5", "6", "dog")
    formats.write(pile, tmp_path / "out", name)
    assert any((tmp_path / "out").rglob("*"))


def test_a_photograph_that_exif_turns_fits_its_upright_mask(photographs, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 60)).save(photographs / "a.jpg", exif=exif)
    Image.fromarray(MAP).save(tmp_path / "masks/a.png")
    (tmp_path / "masks/labels.json").write_text('{"3": "cat", "7": "dog"}')
    (photograph,) = formats.mask_pile(tmp_path / "masks", photographs)[0].photographs
    assert photograph.size == (40, 60)


def test_masks_without_scores_are_refused_where_scores_are_needed(photographs, tmp_path):
    Image.fromarray(MAP).save(tmp_path / "masks/a.png")
    (tmp_path / "masks/labels.json").write_text('{"3": "cat", "7": "dog"}')
    pile, _ = formats.mask_pile(tmp_path / "masks", photographs)
    with pytest.raises(GradcutError, match="coco-results needs scores"):
        formats.write(pile, tmp_path / "out", "coco-results")
    with pytest.raises(GradcutError, match="a confidence for every object, 'cat' in a has none"):
        formats.write(pile, tmp_path / "out", "coco", minimum=0.5)


def write(tmp_path, name, pixels):
    path = tmp_path / "masks" / name
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    ("name", "pixels", "labels", "message"),
    [
        ("x.png", MAP, None, r"x\.png belongs to no photograph; expected NAME\.png, .* such as 'a'"),
        ("a.png", MAP, None, r"what the numbers in .*a\.png mean, by default .*labels\.json"),
        ("a.png", MAP, '{"3": "cat"}', r"a\.png: labels has no class for 7"),
        ("a.png", MAP[:20], '{"3": "cat"}', r"a\.png: expected the photograph's 60 x 40 pixels, got 60 x 20"),
        ("a.png", np.dstack([MAP] * 3), '{"3": "cat"}', r"a\.png: expected numbers of classes, got colours"),
        ("a/cat.png", MAP, None, r"cat\.png: expected one class, got 3 values beside 0"),
        ("a/cat.png", np.dstack([MAP, MAP, 0 * MAP]), None, r"expected one class, black and white, got colours"),
        ("a/cat.png", np.dstack([MAP, MAP, MAP, MAP]), None, r"got transparency"),
        ("a/cat.png", MAP, '{"1": "dog"}', "has no class 'cat', of which there are masks"),
        ("a.png", MAP, '{"1": "dog", "2": "dog"}', "names of classes, each once"),
        ("a.png", MAP, '{"1": "dog", "01": "cat"}', "each number once"),
        ("a.png", MAP, "[", "cannot be read as JSON"),
        ("a.png", MAP, '{"cat": "dog"}', "expected JSON with {number: name} or {name: number}"),
    ],
)
def test_masks_that_do_not_fit_are_one_line(photographs, tmp_path, name, pixels, labels, message):
    write(tmp_path, name, pixels)
    if labels is not None:
        (tmp_path / "masks/labels.json").write_text(labels)
    with pytest.raises(GradcutError, match=message) as error:
        formats.mask_pile(tmp_path / "masks", photographs)
    assert "\n" not in str(error.value)


def test_folders_that_are_none_and_options_that_do_not_fit(photographs, tmp_path, command):
    with pytest.raises(GradcutError, match="no such folder"):
        formats.mask_pile(tmp_path / "nowhere", photographs)
    with pytest.raises(GradcutError, match="no PNG files in"):
        formats.mask_pile(tmp_path / "masks", photographs)
    shutil.rmtree(photographs)
    photographs.mkdir()
    with pytest.raises(GradcutError, match=r"photographs: .*no photographs in this folder"):
        formats.mask_pile(tmp_path / "masks", photographs)
    for options, message in (
        (["--labels", "coco"], "--labels: it is for masks, with --images"),
        (["--images", photographs, "--uncorrected"], "--uncorrected: it is for a run"),
    ):
        status, _, err = command("export", tmp_path / "masks", "-f", "coco", *options)
        assert (status, message in err) == (2, True)


def test_tables(tmp_path):
    def read(text):
        (tmp_path / "table").write_text(text)
        return read_table(tmp_path / "table")

    assert read("cat\ndog\n") == {1: "cat", 2: "dog"}
    assert read("__background__\ncat\n") == {0: "__background__", 1: "cat"}
    assert read(json.dumps(["cat", "dog"])) == {1: "cat", 2: "dog"}
    assert read(json.dumps({"id2label": {"5": "cat"}})) == {5: "cat"}
    assert read_table("voc")[1] == "aeroplane"
    assert classes_of(read("void:9,9,9\nbackground:0,0,0\nred cat:1,2,3")) == ("red cat",)
    with pytest.raises(GradcutError, match="each colour once"):
        read("a:1,2,3\nb:1,2,3")
    with pytest.raises(GradcutError, match="cannot be read: No such file"):
        read_table(tmp_path / "nowhere.txt")
