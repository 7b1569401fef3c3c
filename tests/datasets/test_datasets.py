"""Every dataset in its true layout: what it yields, and what a broken sample says."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from gradcut import datasets
from gradcut.datasets import Sample
from gradcut.datasets.coco import compressed_runs
from gradcut.errors import DatasetError

HEIGHT, WIDTH = 24, 32


@pytest.fixture
def photograph() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def write(path: Path, pixels: np.ndarray, palette: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image = image.convert("P")
        image.putdata(pixels.ravel().tolist())
        image.putpalette(list(np.random.default_rng(1).integers(0, 256, 768)))
    image.save(path)
    return path


def runs(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed encoding: down the columns, the first run counts zeros."""
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(np.concatenate([[False], flat, [not flat[-1]]])))
    return np.diff(ends, prepend=0).tolist()


# COCO ----------------------------------------------------------------------------------------------------------------


def polygon(top: float, left: float, bottom: float, right: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def coco(tmp_path: Path, annotations: list[dict], photograph: np.ndarray, name: str = "000000000007.jpg") -> Path:
    write(tmp_path / "images" / name, photograph)
    document = {
        "images": [{"id": 7, "file_name": name, "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"id": n, "image_id": 7, "iscrowd": 0} | a for n, a in enumerate(annotations, start=1)],
        "categories": [{"id": 1, "name": "person"}, {"id": 17, "name": "cat"}, {"id": 90, "name": "toothbrush"}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document))
    return path


def compressed(mask: np.ndarray) -> dict:
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": code["size"], "counts": code["counts"].decode()}


def test_coco_polygons_runs_and_crowds(tmp_path, photograph):
    cat, other, person, crowd = box(2, 3, 10, 12), box(12, 3, 20, 9), box(0, 20, 24, 24), box(0, 26, 24, 32)
    path = coco(
        tmp_path,
        [
            {"category_id": 17, "segmentation": [polygon(2, 3, 10, 12)]},
            {"category_id": 17, "segmentation": compressed(other)},
            {"category_id": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": runs(person)}},
            {"category_id": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": runs(crowd)}, "iscrowd": 1},
            {"category_id": 90, "segmentation": compressed(box(20, 26, 22, 30)), "iscrowd": 1},
        ],
        photograph,
    )
    dataset = datasets.coco(tmp_path / "images", path)
    assert dataset.labels == ("person", "cat", "toothbrush")
    assert dataset.names == ("000000000007.jpg",)
    (sample,) = dataset
    assert np.array_equal(sample.masks["cat"], cat | other)
    assert np.array_equal(sample.masks["person"], person)
    assert np.array_equal(sample.ignore, crowd)
    assert sample.areas["cat"] == pytest.approx((cat.mean(), other.mean()))
    assert sample.doubtful == {"toothbrush"}
    assert set(sample.masks) == {"cat", "person"}


@pytest.mark.parametrize(
    ("listed", "stored"),
    [
        ("COCO_val2014_000000000007.jpg", "000000000007.jpg"),
        ("000000000007.jpg", "COCO_train2014_000000000007.jpg"),
        ("val2017/000000000007.jpg", "000000000007.jpg"),
    ],
)
def test_coco_names_of_2014_and_2017(tmp_path, photograph, listed, stored):
    path = coco(tmp_path, [{"category_id": 1, "segmentation": [polygon(2, 3, 10, 12)]}], photograph, listed)
    (tmp_path / "images" / listed).unlink()
    write(tmp_path / "images" / stored, photograph)
    assert datasets.coco(tmp_path / "images", path)[0].masks["person"].any()


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ({"category_id": 5, "segmentation": [polygon(2, 3, 10, 12)]}, "no category has the id 5"),
        ({"category_id": [1], "segmentation": [polygon(2, 3, 10, 12)]}, r"no category has the id \[1\]"),
        ({"category_id": 1, "segmentation": [[1, 2, 3, 4]]}, "three points"),
        ({"category_id": 1, "segmentation": [[1, 2, 3, "4", 5, 6]]}, "three points"),
        ({"category_id": 1, "segmentation": []}, "expected polygons or a run-length encoding"),
        ({"category_id": 1}, "expected polygons or a run-length encoding"),
        ({"category_id": 1, "segmentation": {"size": [9, 9], "counts": [81]}}, "expected a mask of 24 x 32"),
        ({"category_id": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [5, 5]}}, "add up to 768"),
        ({"category_id": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": "damaged~~"}}, "add up to 768"),
        ({"category_id": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": "oooooooo1"}}, "add up to 768"),
        ({"category_id": 1, "segmentation": {"size": [HEIGHT, WIDTH]}}, "list or a string"),
    ],
)
def test_coco_broken_annotations_are_named(tmp_path, photograph, annotation, reason):
    dataset = datasets.coco(tmp_path / "images", coco(tmp_path, [annotation], photograph))
    with pytest.raises(DatasetError, match=rf"000000000007\.jpg: annotation 1: .*{reason}"):
        dataset[0]


def test_coco_photographs_that_are_missing_or_of_another_size(tmp_path, photograph):
    path = coco(tmp_path, [], photograph)
    write(tmp_path / "images/000000000007.jpg", photograph[:10])
    dataset = datasets.coco(tmp_path / "images", path)
    with pytest.raises(DatasetError, match=r"000000000007.jpg: the photograph is 10 x 32, .* 24 x 32"):
        dataset[0]
    (tmp_path / "images/000000000007.jpg").unlink()
    with pytest.raises(DatasetError, match=r"000000000007.jpg: .*no such file"):
        dataset[0]


def test_coco_photographs_that_are_listed_twice(tmp_path, photograph):
    boxes = [{"category_id": 1, "bbox": [0, 0, 4, 4]}, {"category_id": 17, "bbox": [8, 8, 4, 4]}]
    path = coco(tmp_path, boxes, photograph)
    document = json.loads(path.read_text())
    (entry,) = document["images"]
    document["images"] += [entry, {**entry, "id": 8}]
    document["annotations"][1]["image_id"] = 8
    path.write_text(json.dumps(document))
    (sample,) = datasets.coco(tmp_path / "images", path, boxes=True)
    assert {label: mask.sum() for label, mask in sample.masks.items()} == {"person": 16, "cat": 16}
    document["images"].append({**entry, "file_name": "other.jpg"})
    path.write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=r"000000000007\.jpg and other\.jpg have the same, 7$"):
        datasets.coco(tmp_path / "images", path)


def test_coco_of_another_folder(tmp_path, photograph):
    path = coco(tmp_path, [], photograph)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"images: .*empty has none of the 1 photographs of .*, such as 0+7\.jpg$"):
        datasets.coco(tmp_path / "empty", path)


@pytest.mark.parametrize("text", ["{", "[]", '{"images": [], "annotations": []}'])
def test_coco_files_that_are_none(tmp_path, photograph, text):
    path = coco(tmp_path, [], photograph)
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"instances\.json"):
        datasets.coco(tmp_path / "images", path)
    with pytest.raises(DatasetError, match=r"annotations: .*none\.json"):
        datasets.coco(tmp_path / "images", tmp_path / "none.json")
    with pytest.raises(DatasetError, match=r"images: .*no such folder"):
        datasets.coco(tmp_path / "nowhere", path)


def test_coco_dev_equals_pycocotools(coco_dev, capsys):
    """All of the real annotations, polygons and both encodings, against pycocotools' own reader."""
    path = coco_dev / "annotations/instances_dev.json"
    dataset, reference = datasets.coco(coco_dev / "images", path), COCO(str(path))
    capsys.readouterr()
    assert len(dataset) == 285
    names = {entry["id"]: entry["name"] for entry in reference.loadCats(reference.getCatIds())}
    pairs = 0
    for sample, entry in zip(list(dataset[::6]), list(reference.dataset["images"])[::6], strict=True):
        masks: dict[str, np.ndarray] = {}
        crowd = np.zeros(sample.ignore.shape, dtype=bool)
        for annotation in reference.loadAnns(reference.getAnnIds([entry["id"]])):
            mask = reference.annToMask(annotation).astype(bool)
            if annotation["iscrowd"]:
                crowd |= mask
            elif mask.any():
                label = names[annotation["category_id"]]
                masks[label] = masks.get(label, np.zeros_like(mask)) | mask
        assert set(masks) == set(sample.masks)
        assert all(np.array_equal(masks[label], sample.masks[label]) for label in masks)
        assert np.array_equal(crowd, sample.ignore)
        pairs += len(masks)
    assert pairs > 100


def test_compressed_runs_are_counted_as_pycocotools_does():
    rng = np.random.default_rng(0)
    for share in (0.02, 0.3, 0.5, 0.98):
        mask = rng.random((37, 53)) < share
        assert compressed_runs(compressed(mask)["counts"]) == runs(mask)


# Pascal VOC ----------------------------------------------------------------------------------------------------------


def voc(root: Path, photograph: np.ndarray, values: np.ndarray, objects: np.ndarray | None = None) -> Path:
    write(root / "JPEGImages/2007_000033.jpg", photograph)
    write(root / "SegmentationClass/2007_000033.png", values, palette=True)
    if objects is not None:
        write(root / "SegmentationObject/2007_000033.png", objects, palette=True)
    (root / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_000033\n")
    return root


def test_voc(tmp_path, photograph):
    values = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    values[2:10, 2:10], values[12:20, 2:10], values[0:4, 20:24], values[22:] = 1, 1, 20, 255
    objects = np.zeros_like(values)
    objects[2:10, 2:10], objects[12:20, 2:10], objects[0:4, 20:24], objects[22:] = 1, 2, 3, 255
    voc(tmp_path / "VOCdevkit/VOC2012", photograph, values, objects)
    for root in (tmp_path, tmp_path / "VOCdevkit", tmp_path / "VOCdevkit/VOC2012"):
        (sample,) = datasets.voc(root, "val")
        assert set(sample.masks) == {"aeroplane", "tvmonitor"}
        assert np.array_equal(sample.masks["aeroplane"], values == 1)
        assert np.array_equal(sample.ignore, values == 255)
        assert sample.areas == {"aeroplane": (64 / 768, 64 / 768), "tvmonitor": (16 / 768,)}
    renamed = datasets.voc(tmp_path, names="coco")
    assert set(renamed[0].masks) == {"airplane", "tv"}
    assert len(renamed.labels) == len(datasets.voc(tmp_path).labels) == 20
    with pytest.raises(DatasetError, match="names: expected one of voc, coco; got 'breed'"):
        datasets.voc(tmp_path, names="breed")


def test_voc_without_objects_counts_a_class_as_one(tmp_path, photograph):
    values = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    values[:4], values[8:12] = 8, 8
    assert datasets.voc(voc(tmp_path, photograph, values))[0].areas == {"cat": (8 / 24,)}


def test_voc_broken_samples(tmp_path, photograph):
    values = np.full((HEIGHT, WIDTH), 21, dtype=np.uint8)
    dataset = datasets.voc(voc(tmp_path, photograph, values))
    with pytest.raises(DatasetError, match="2007_000033: its mask holds the value 21"):
        dataset[0]
    write(tmp_path / "SegmentationClass/2007_000033.png", values[:7], palette=True)
    with pytest.raises(DatasetError, match=r"2007_000033: .*the mask is 7 x 32, the photograph 24 x 32"):
        dataset[0]
    (tmp_path / "SegmentationClass/2007_000033.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"2007_000033: the mask .*not an image"):
        dataset[0]
    (tmp_path / "SegmentationClass/2007_000033.png").unlink()
    with pytest.raises(DatasetError, match=r"2007_000033: the mask .*no such file"):
        dataset[0]
    with pytest.raises(DatasetError, match="split: expected one of val; got 'train'"):
        datasets.voc(tmp_path, "train")


# ImageNet-S ----------------------------------------------------------------------------------------------------------


def test_imagenet_s(tmp_path, photograph):
    root = tmp_path / "ImageNetS50"
    # Ids go by the order of the WordNet numbers: goldfish 1, tabby 2, Egyptian cat 3.
    for wnid in ("n02124075", "n01443537", "n02123045"):
        (root / "validation" / wnid).mkdir(parents=True)
    ids = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
    ids[4:12, 4:12], ids[14:18, 4:12], ids[20:] = 3, 1, 1000
    rgb = np.stack([ids % 256, ids // 256, np.zeros_like(ids)], axis=2).astype(np.uint8)
    write(root / "validation/n02124075/ILSVRC2012_val_00000001.JPEG", photograph)
    write(root / "validation-segmentation/n02124075/ILSVRC2012_val_00000001.png", rgb)
    dataset = datasets.imagenet_s(root)
    assert dataset.labels == ("goldfish", "tabby", "Egyptian cat")
    (sample,) = dataset
    assert sample.name == "n02124075/ILSVRC2012_val_00000001"
    assert np.array_equal(sample.masks["Egyptian cat"], ids == 3)
    assert np.array_equal(sample.masks["goldfish"], ids == 1)
    assert np.array_equal(sample.ignore, ids == 1000)  # 1000 = 232 + 256 * 3
    write(root / "validation-segmentation/n02124075/ILSVRC2012_val_00000001.png", rgb[..., 0])
    with pytest.raises(DatasetError, match=r"00000001: .*3 channels, got 1"):
        dataset[0]
    (root / "validation/n02124075/ILSVRC2012_val_00000001.JPEG").unlink()
    with pytest.raises(DatasetError, match="no photograph for the mask n02124075/ILSVRC2012_val_00000001"):
        datasets.imagenet_s(root)
    with pytest.raises(DatasetError, match="split: expected one of validation; got 'test'"):
        datasets.imagenet_s(root, "test")
    (root / "validation/cats").mkdir()
    with pytest.raises(DatasetError, match="ImageNet's classes, got 'cats'"):
        datasets.imagenet_s(root)


# ImageNet-Segmentation -----------------------------------------------------------------------------------------------


def gtsegs(path: Path, photographs: list[np.ndarray], masks: list[np.ndarray]) -> Path:
    """As MATLAB writes its version 7.3: axes reversed, cells as references."""
    reference = h5py.special_dtype(ref=h5py.Reference)
    with h5py.File(path, "w") as file:
        cells = {name: file.create_dataset(f"value/{name}", (len(masks), 1), reference) for name in ("img", "gt")}
        for n, (pixels, mask) in enumerate(zip(photographs, masks, strict=True)):
            image = file.create_dataset(f"#refs#/i{n}", data=pixels.transpose(2, 1, 0))
            truth = file.create_dataset(f"#refs#/m{n}", data=mask.T.astype(np.uint8))
            cell = file.create_dataset(f"#refs#/c{n}", (1, 1), reference)
            cell[0, 0], cells["img"][n, 0], cells["gt"][n, 0] = truth.ref, image.ref, cell.ref
    return path


def test_imagenet_segmentation(tmp_path, photograph):
    masks = [box(2, 3, 10, 12), box(0, 0, 24, 8)]
    dataset = datasets.imagenet_segmentation(gtsegs(tmp_path / "gt.mat", [photograph, photograph[::-1]], masks))
    assert dataset.labels is None
    assert dataset.names == ("0", "1")
    for sample, mask, pixels in zip(dataset, masks, (photograph, photograph[::-1]), strict=True):
        assert np.array_equal(sample.image, pixels)
        assert np.array_equal(sample.masks[datasets.OBJECT], mask)


def test_imagenet_segmentation_files_that_are_none(tmp_path, photograph, monkeypatch):
    with pytest.raises(DatasetError, match="no such file"):
        datasets.imagenet_segmentation(tmp_path / "gt.mat")
    (tmp_path / "gt.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(DatasetError, match="not an HDF5 file"):
        datasets.imagenet_segmentation(tmp_path / "gt.mat")
    with h5py.File(tmp_path / "other.mat", "w") as file:
        file.create_dataset("value/other", data=[1])
    with pytest.raises(DatasetError, match=r"expected value/img and value/gt"):
        datasets.imagenet_segmentation(tmp_path / "other.mat")
    path = gtsegs(tmp_path / "short.mat", [photograph], [box(0, 0, 5, 5)[:10]])
    with pytest.raises(DatasetError, match=r"0: object: expected a boolean mask of 24 x 32"):
        datasets.imagenet_segmentation(path)[0]

    real = builtins.__import__
    monkeypatch.setattr(
        builtins, "__import__", lambda name, *a, **k: real("no_such" if name == "h5py" else name, *a, **k)
    )
    with pytest.raises(DatasetError, match=r"install h5py.*gradcut\[imagenet-seg\]"):
        datasets.imagenet_segmentation(path)


# Oxford-IIIT Pet -----------------------------------------------------------------------------------------------------


def test_pets(tmp_path, photograph):
    trimap = np.full((HEIGHT, WIDTH), 2, dtype=np.uint8)
    trimap[3:20, 3:20], trimap[5:18, 5:18] = 3, 1
    for name in ("Egyptian_Mau_14", "pug_2"):
        write(tmp_path / f"images/{name}.jpg", photograph)
        write(tmp_path / f"annotations/trimaps/{name}.png", trimap)
    (tmp_path / "annotations/test.txt").write_text("#a comment\nEgyptian_Mau_14 11 1 5\npug_2 29 2 18\n")
    dataset = datasets.pets(tmp_path)
    assert dataset.labels == ("cat", "dog")
    cat, dog = dataset
    assert np.array_equal(cat.masks["cat"], trimap == 1)
    assert np.array_equal(dog.masks["dog"], trimap == 1)
    assert np.array_equal(cat.ignore, trimap == 3)
    assert datasets.pets(tmp_path, names="breed").labels == ("Egyptian Mau", "pug")
    write(tmp_path / "annotations/trimaps/pug_2.png", np.full((HEIGHT, WIDTH), 4, dtype=np.uint8))
    with pytest.raises(DatasetError, match="pug_2: its mask holds the value 4"):
        dataset[1]
    (tmp_path / "annotations/test.txt").write_text("pug_2 29\n")
    with pytest.raises(DatasetError, match="got 'pug_2 29'"):
        datasets.pets(tmp_path)


# A plain folder ------------------------------------------------------------------------------------------------------


def test_folder(tmp_path, photograph):
    write(tmp_path / "photos/a/one.jpg", photograph)
    values = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    values[:5], values[10:12], values[20:] = 1, 2, 255
    write(tmp_path / "masks/a/one.png", values)
    (nameless,) = datasets.folder(tmp_path / "photos", tmp_path / "masks")
    assert nameless.name == "a/one"
    assert np.array_equal(nameless.masks[datasets.OBJECT], values > 0)
    (single,) = datasets.folder(tmp_path / "photos", tmp_path / "masks", "cat")
    assert np.array_equal(single.masks["cat"], values > 0)
    (both,) = datasets.folder(tmp_path / "photos", tmp_path / "masks", ["cat", "dog"])
    assert np.array_equal(both.masks["dog"], values == 2)
    assert np.array_equal(both.ignore, values == 255)
    with pytest.raises(DatasetError, match="a/one: its mask holds the value 2"):
        datasets.folder(tmp_path / "photos", tmp_path / "masks", ["cat"])[0]
    with pytest.raises(DatasetError, match="no label twice"):
        datasets.folder(tmp_path / "photos", tmp_path / "masks", ["cat", "cat"])


def test_folder_with_masks_beside(tmp_path, photograph):
    write(tmp_path / "one.jpg", photograph)
    write(tmp_path / "two.jpg", photograph)
    write(tmp_path / "one.png", np.repeat(box(0, 0, 5, 5)[..., None] * np.uint8(255), 3, axis=2))
    dataset = datasets.folder(tmp_path)
    assert dataset.names == ("one", "two")
    assert dataset[0].masks[datasets.OBJECT].sum() == 25
    with pytest.raises(DatasetError, match=r"two: the mask .*two\.png: no such file"):
        dataset[1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no photographs"):
        datasets.folder(tmp_path / "empty")


# Samples -------------------------------------------------------------------------------------------------------------


def test_datasets_are_lazy(tmp_path, photograph):
    path = coco(tmp_path, [], photograph)
    (tmp_path / "images/000000000007.jpg").write_bytes(b"damaged")
    dataset = datasets.coco(tmp_path / "images", path)  # no complaint yet
    assert len(dataset) == len(dataset[:5]) == 1
    assert len(dataset[1:]) == 0


def test_samples_of_other_sizes_are_refused(photograph):
    nothing = np.zeros((HEIGHT, WIDTH), dtype=bool)
    with pytest.raises(DatasetError, match=r"it: cat: .*24 x 32.*got bool of 3 x 3"):
        Sample("it", photograph, {"cat": nothing[:3, :3]}, nothing)
    with pytest.raises(DatasetError, match=r"areas: expected those of \['cat'\], got \['dog'\]"):
        Sample("it", photograph, {"cat": nothing}, nothing, {"dog": (0.1,)})


def test_resized_squashes_photograph_and_masks(photograph):
    sample = Sample("it", photograph, {"cat": box(0, 0, 12, 32)}, box(20, 0, 24, 32), {"cat": (0.25, 0.25)})
    small = sample.resized((12, 12))
    assert small.image.shape == (12, 12, 3)
    assert np.array_equal(small.masks["cat"], np.arange(12)[:, None].repeat(12, 1) < 6)
    assert small.ignore.sum() == 24
    assert small.areas == sample.areas
    assert sample.truth.sum() == 12 * 32


# Opened by name ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "imports",
    [
        "import gradcut.datasets.coco, gradcut.datasets.voc",
        "from gradcut.datasets.coco import coco",
        "import gradcut.evaluation; import importlib; importlib.import_module('gradcut.datasets.folder')",
        "from gradcut.datasets import voc; import gradcut.datasets.pets",
    ],
)
def test_a_layout_is_a_function_whatever_was_imported_before(imports):
    code = f"{imports}\nfrom gradcut import datasets\nfor name in ('coco', 'voc', 'pets', 'folder'):\n"
    code += "    assert type(getattr(datasets, name)).__name__ == 'function', name\n"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_open_dataset(tmp_path, photograph):
    values = np.full((HEIGHT, WIDTH), 2, dtype=np.uint8)
    write(tmp_path / "photos/a.png", photograph)
    write(tmp_path / "masks/a.png", values)
    (tmp_path / "classes.txt").write_text("cat\n dog \n\n")
    places = {"images": tmp_path / "photos", "masks": tmp_path / "masks"}
    assert set(datasets.open_dataset("folder", **places, classes=tmp_path / "classes.txt")[0].masks) == {"dog"}
    assert set(datasets.open_dataset("folder", **places, label="cat")[0].masks) == {"cat"}
    root = voc(tmp_path / "VOC2012", photograph, values)
    assert datasets.open_dataset("voc", root=root, names="coco").labels[0] == "airplane"
    for name, text in (("gap", "\ncat\ndog\n"), ("empty", "\n")):
        (tmp_path / f"{name}.txt").write_text(text)
        with pytest.raises(DatasetError, match=rf"classes: .*{name}\.txt: expected a name in every line, .* got .* 1"):
            datasets.open_dataset("folder", **places, classes=tmp_path / f"{name}.txt")
    path = coco(tmp_path, [], photograph)
    assert datasets.open_dataset("coco", images=tmp_path / "images", annotations=path).names == ("000000000007.jpg",)
    for kind, options, reason in (
        ("imagenet", {}, "dataset: expected one of coco, voc, .* got 'imagenet'"),
        ("coco", {"images": "x"}, "coco: needs annotations"),
        ("pets", {"root": "x", "label": "cat"}, "pets: has no use for label"),
        ("folder", {**places, "label": "cat", "classes": "x"}, "label and classes exclude each other"),
        ("folder", {**places, "classes": tmp_path / "none.txt"}, r"classes: .*none\.txt cannot be read"),
    ):
        with pytest.raises(DatasetError, match=reason):
            datasets.open_dataset(kind, **options)


# Boxes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{}, {"segmentation": []}, {"segmentation": None}])
def test_boxes_stand_for_outlines_only_where_that_is_asked_for(tmp_path, photograph, given):
    write(tmp_path / "1.png", photograph)
    outlined = {"id": 2, "image_id": 1, "category_id": 2, "segmentation": [polygon(0, 0, 5, 5)], "bbox": [9, 9, 9, 9]}
    boxed = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [3, 4, 10.2, 6], **given}
    document = {
        "images": [{"id": 1, "file_name": "1.png", "width": WIDTH, "height": HEIGHT}],
        "annotations": [boxed, outlined],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=r"1\.png: annotation 1: expected polygons or a run-length encoding"):
        datasets.coco(tmp_path, tmp_path / "truth.json")[0]
    found = datasets.coco(tmp_path, tmp_path / "truth.json", boxes=True)[0]
    assert np.array_equal(found.masks["cat"], box(4, 3, 10, 13))
    assert np.array_equal(found.masks["dog"], box(0, 0, 5, 5)), "an outline is better than a box"
    assert found.boxed == {"cat"}
    document["annotations"][0]["bbox"] = [1, 2, 3]
    (tmp_path / "truth.json").write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=r"1\.png: annotation 1: expected polygons, run lengths or a box of four"):
        datasets.coco(tmp_path, tmp_path / "truth.json", boxes=True)[0]
