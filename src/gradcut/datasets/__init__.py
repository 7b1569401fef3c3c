"""Photographs with true masks, in the layouts that people have on disk.

Each function returns a `Dataset`: a lazy sequence of `Sample`s. Nothing but the list of names is read until a
sample is asked for, and a sample that cannot be used raises an error that names it and the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from PIL import Image

from gradcut import files, images
from gradcut.errors import DatasetError, ImageError
from gradcut.files import SUFFIXES
from gradcut.images import Photograph
from gradcut.labels import imagenet_ids, imagenet_labels, synonyms, voc_labels

#: The label of a dataset that says where the object is, not what it is.
OBJECT = "object"


@dataclass(frozen=True, eq=False)
class Sample:
    """A photograph and the truth about it.

    Attributes:
        name: what it is called in its dataset.
        image: the photograph.
        masks: one mask a class that is present; masks of different classes may overlap.
        ignore: pixels about which the truth says nothing: void borders, COCO's crowd regions.
        areas: of each class's single objects, in shares of the photograph, in (0, 1]. Where the dataset does not
            tell objects apart, a class's mask counts as one.
        doubtful: classes that are present in ignored regions only: neither right nor wrong to find.
    """

    name: str
    image: Photograph = field(repr=False)
    # "_ _" is H, W: a file may hold another size, and then the error has to name the sample.
    masks: Mapping[str, Bool[np.ndarray, "_ _"]] = field(repr=False)
    ignore: Bool[np.ndarray, "_ _"] = field(repr=False)
    areas: Mapping[str, tuple[float, ...]] = field(default_factory=dict, repr=False)
    doubtful: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        size = self.image.shape[:2]
        for what, mask in [*self.masks.items(), ("ignore", self.ignore)]:
            if mask.shape != size or mask.dtype != np.bool_:
                raise DatasetError(
                    f"{self.name}: {what}: expected a boolean mask of {_times(size)}, the photograph's size, "
                    f"got {mask.dtype} of {_times(mask.shape)}"
                )
        if not self.areas:
            shares = {label: (float(mask.mean()),) for label, mask in self.masks.items()}
            object.__setattr__(self, "areas", shares)  # a frozen dataclass sets its own field so
        if set(self.areas) != set(self.masks):
            raise DatasetError(f"{self.name}: areas: expected those of {sorted(self.masks)}, got {sorted(self.areas)}")

    @property
    def truth(self) -> Bool[np.ndarray, "H W"]:
        """The union of all the masks."""
        union = np.zeros(self.image.shape[:2], dtype=bool)
        for mask in self.masks.values():
            union |= mask
        return union

    def resized(self, size: tuple[int, int]) -> Sample:
        """Photograph and masks squashed to ``size`` = (height, width); masks take the nearest pixel."""
        if self.image.shape[:2] == size:
            return self
        masks = {label: _nearest(mask, size) for label, mask in self.masks.items()}
        return replace(self, image=images.resize(self.image, size), masks=masks, ignore=_nearest(self.ignore, size))


def _nearest(mask: Bool[np.ndarray, "h w"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    height, width = size
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples that are read when they are asked for: iterate, index or slice.

    Args:
        title: for a person: which dataset, which part of it.
        labels: every class that the truth knows; None where it does not name classes.
        names: of the samples, in order, no name twice.
        load: from a name to its sample; raises GradcutError where that fails.
    """

    title: str
    labels: tuple[str, ...] | None = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    load: Callable[[str], Sample] = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, slice):
            return replace(self, names=self.names[which])
        return self.load(self.names[which])

    def __iter__(self) -> Iterator[Sample]:
        return map(self.load, self.names)


# COCO ----------------------------------------------------------------------------------------------------------------


def coco(folder: str | Path, annotations: str | Path) -> Dataset:
    """Microsoft COCO (Lin et al. 2014): ``instances_*.json`` and its folder of photographs.

    A class's mask is the union of its objects; crowd regions are ignored pixels, whichever class they are of.
    Photographs may have their 2014 or their 2017 file names, whichever the annotations use.

    Raises:
        DatasetError: the annotations are missing or not in COCO's instances format.
    """
    folder, annotations = _folder(folder, "images"), Path(annotations)
    document = _json(annotations)
    try:
        categories = {entry["id"]: str(entry["name"]) for entry in document["categories"]}
        pictures = {str(entry["file_name"]): entry for entry in document["images"]}
        objects: dict[int, list[dict[str, Any]]] = {entry["id"]: [] for entry in document["images"]}
        for entry in document["annotations"]:
            objects.setdefault(entry["image_id"], []).append(entry)
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{annotations}: expected COCO's instances format with images, annotations and categories: {error!r}"
        ) from error
    records = {name: (entry, objects[entry["id"]]) for name, entry in pictures.items()}
    load = partial(_coco_sample, folder=folder, categories=categories, records=records)
    return Dataset(f"COCO, {annotations.name}", tuple(categories.values()), tuple(records), load)


def _coco_sample(
    name: str,
    folder: Path,
    categories: Mapping[int, str],
    records: Mapping[str, tuple[dict[str, Any], list[dict[str, Any]]]],
) -> Sample:
    entry, objects = records[name]
    photograph = _photograph(name, _coco_file(folder, name))
    size = (photograph.shape[0], photograph.shape[1])
    if [entry.get("height"), entry.get("width")] != list(size):
        declared = f"{entry.get('height')} x {entry.get('width')}"
        raise DatasetError(f"{name}: the photograph is {_times(size)}, its annotations are for {declared}")
    ignore = np.zeros(size, dtype=bool)
    masks: dict[str, Bool[np.ndarray, "H W"]] = {}
    areas: dict[str, tuple[float, ...]] = {}
    crowds = set()
    for number, one in enumerate(objects):
        where = f"{name}: annotation {one.get('id', f'number {number}')}"
        if one.get("category_id") not in categories:
            raise DatasetError(f"{where}: no category has the id {one.get('category_id')!r}")
        label = categories[one["category_id"]]
        mask = _coco_mask(where, one.get("segmentation"), size)
        if one.get("iscrowd"):
            ignore |= mask
            crowds.add(label)
        elif mask.any():  # a few objects of COCO are too small to cover a pixel
            masks[label] = masks[label] | mask if label in masks else mask
            areas[label] = (*areas.get(label, ()), float(mask.mean()))
    return Sample(name, photograph, masks, ignore, areas, frozenset(crowds - set(masks)))


def _coco_file(folder: Path, name: str) -> Path:
    """The file of a photograph; COCO named the same photographs with a prefix in 2014, without in 2017."""
    plain = re.sub(r"^COCO_\w+?_(?=\d+\.)", "", Path(name).name)
    choices = (name, Path(name).name, plain, f"COCO_train2014_{plain}", f"COCO_val2014_{plain}")
    return next((folder / choice for choice in choices if (folder / choice).is_file()), folder / name)


def _coco_mask(where: str, segmentation: Any, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """A polygon list, or a run-length encoding, compressed or not."""
    from pycocotools import mask as coco_mask

    height, width = size
    if isinstance(segmentation, dict):
        if list(segmentation.get("size", ())) != [height, width]:
            raise DatasetError(
                f"{where}: expected a mask of {_times(size)}, got one of {_times(segmentation.get('size', ()))}"
            )
        counts = segmentation.get("counts")
        if isinstance(counts, list):
            if not all(isinstance(run, int) and run >= 0 for run in counts) or sum(counts) != height * width:
                raise DatasetError(f"{where}: its runs do not add up to {height * width} pixels")
        elif not isinstance(counts, str | bytes):
            raise DatasetError(f"{where}: expected runs as a list or a string, got {type(counts).__name__}")
    elif isinstance(segmentation, list) and segmentation:
        for polygon in segmentation:
            numbers = np.asarray(polygon) if _all_numbers(polygon) else np.zeros(0)
            if len(numbers) < 6 or len(numbers) % 2 or not np.isfinite(numbers).all():
                raise DatasetError(f"{where}: a polygon needs three points at least, as finite x, y, x, y, ...")
    else:
        raise DatasetError(f"{where}: expected polygons or a run-length encoding, got {segmentation!r:.40}")
    try:
        runs = coco_mask.frPyObjects(segmentation, height, width) if _uncompressed(segmentation) else segmentation
        runs = coco_mask.merge(runs) if isinstance(runs, list) else runs
        # A compressed string may claim any length, and the decoder writes where it is told: count first.
        if isinstance(runs["counts"], str | bytes) and sum(_runs(runs["counts"])) != height * width:
            raise DatasetError(f"{where}: its runs do not add up to {height * width} pixels")
        mask: Bool[np.ndarray, "H W"] = coco_mask.decode(runs).astype(bool)
        return mask
    except DatasetError:
        raise
    except Exception as error:  # pycocotools raises bare Exception on what it does not know
        raise DatasetError(f"{where}: cannot be decoded: {error}") from error


def _uncompressed(segmentation: Any) -> bool:
    return isinstance(segmentation, list) or isinstance(segmentation["counts"], list)


def _all_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _runs(counts: str | bytes) -> list[int]:
    """The run lengths of COCO's compressed encoding: 5 bits a character, differences to the last but one run."""
    data = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
    runs: list[int] = []
    value = shift = 0
    for byte in data:
        digit = byte - 48
        if not 0 <= digit < 64:
            return [-1]
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if runs[-1] < 0:
            return [-1]
        value = shift = 0
    return runs if not shift else [-1]


# Pascal VOC ----------------------------------------------------------------------------------------------------------


def voc(root: str | Path, split: str = "val", names: str = "voc") -> Dataset:
    """Pascal VOC 2012 segmentation (Everingham et al. 2010): palette PNGs, 255 is void and ignored.

    Args:
        root: the folder ``VOC2012``, or the ``VOCdevkit`` above it.
        split: a list in ``ImageSets/Segmentation``: train, val, trainval.
        names: "voc" calls the classes as VOC does, "coco" as COCO does: airplane for aeroplane.

    Raises:
        DatasetError: the folder is not in this layout, or has no such split.
    """
    root = _folder(root, "root")
    _one_of("names", names, ("voc", "coco"))
    root = next((place for place in (root / "VOC2012", root / "VOCdevkit/VOC2012") if place.is_dir()), root)
    listed = _lines(root / f"ImageSets/Segmentation/{split}.txt")
    labels = tuple(synonyms()[label] for label in voc_labels()) if names == "coco" else voc_labels()
    load = partial(_voc_sample, root=root, labels=dict(enumerate(labels, start=1)))
    return Dataset(f"Pascal VOC 2012, {split}", labels, tuple(listed), load)


def _voc_sample(name: str, root: Path, labels: Mapping[int, str]) -> Sample:
    photograph = _photograph(name, root / f"JPEGImages/{name}.jpg")
    values = _values(name, root / f"SegmentationClass/{name}.png", photograph.shape[:2])
    masks = _classes(name, values, labels, {255})
    areas: dict[str, tuple[float, ...]] = {}
    if (objects := root / f"SegmentationObject/{name}.png").is_file():
        numbers = _values(name, objects, photograph.shape[:2])
        for label, mask in masks.items():
            counted = np.bincount(numbers[mask].ravel(), minlength=256)
            areas[label] = tuple(float(n) / mask.size for n in counted[1:255] if n) or (float(mask.mean()),)
    return Sample(name, photograph, masks, values == 255, areas)


# ImageNet-S ----------------------------------------------------------------------------------------------------------


def imagenet_s(root: str | Path, split: str = "validation") -> Dataset:
    """ImageNet-S (Gao et al. 2022): a pixel's class is R + 256 G; 0 is other, 1000 is ignored.

    Class ``i`` is the i-th of the WordNet numbers that the folder of photographs holds, in order; its label is
    the name of that ImageNet class. Of the 919-class part, five classes took in a second ImageNet class each.

    Args:
        root: ``ImageNetS50``, ``ImageNetS300`` or ``ImageNetS919``.
        split: a folder with its ``-segmentation`` beside it: validation, train-semi.

    Raises:
        DatasetError: the folder is not in this layout.
    """
    root = _folder(root, "root")
    photographs, truth = root / split, root / f"{split}-segmentation"
    for place in (photographs, truth):
        if not place.is_dir():
            raise DatasetError(f"{place}: no such folder; expected ImageNet-S's {split} and {split}-segmentation")
    known = dict(zip(imagenet_ids(), imagenet_labels(), strict=True))
    present = sorted(path.name for path in photographs.iterdir() if path.is_dir())
    if unknown := [name for name in present if name not in known]:
        raise DatasetError(f"{photographs}: expected folders named as ImageNet's classes, got {unknown[0]!r}")
    labels = {number: known[name] for number, name in enumerate(present, start=1)}
    files = {path.relative_to(truth).with_suffix("").as_posix() for path in truth.rglob("*.png")}
    paths = {
        name: path
        for path in sorted(photographs.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and (name := path.relative_to(photographs).with_suffix("").as_posix()) in files
    }
    if missing := sorted(files - set(paths)):
        raise DatasetError(f"{photographs}: no photograph for the mask {missing[0]}.png")
    load = partial(_imagenet_s_sample, truth=truth, labels=labels, paths=paths)
    return Dataset(f"{root.name}, {split}", tuple(labels.values()), tuple(paths), load)


def _imagenet_s_sample(name: str, truth: Path, labels: Mapping[int, str], paths: Mapping[str, Path]) -> Sample:
    photograph = _photograph(name, paths[name])
    rgb = _values(name, truth / f"{name}.png", photograph.shape[:2], channels=3)
    values = rgb[..., 0].astype(np.int64) + 256 * rgb[..., 1].astype(np.int64)
    return Sample(name, photograph, _classes(name, values, labels, {1000}), values == 1000)


# ImageNet-Segmentation -----------------------------------------------------------------------------------------------


def imagenet_segmentation(path: str | Path) -> Dataset:
    """ImageNet-Segmentation (Guillaumin et al. 2014): 4,276 photographs in ``gtsegs_ijcv.mat``, one object each.

    The file holds MATLAB's arrays, so the axes are reversed. It does not name the classes.

    Raises:
        DatasetError: h5py is not installed, or the file is missing or in another layout.
    """
    path = Path(path)
    with _hdf5(path) as file:
        try:
            count = len(file["value/img"])
            if file["value/gt"].shape[0] != count:
                raise KeyError("value/gt")
        except (KeyError, TypeError, AttributeError) as error:
            raise DatasetError(
                f"{path}: expected value/img and value/gt of one length, as in gtsegs_ijcv.mat"
            ) from error
    names = tuple(str(number) for number in range(count))
    return Dataset("ImageNet-Segmentation", None, names, partial(_imagenet_segmentation_sample, path=path))


def _imagenet_segmentation_sample(name: str, path: Path) -> Sample:
    try:
        with _hdf5(path) as file:
            pixels = np.array(file[file["value/img"][int(name), 0]])
            truth = np.array(file[file[file["value/gt"][int(name), 0]][0, 0]])
    except (KeyError, ValueError, TypeError, IndexError, OSError) as error:
        raise DatasetError(f"{path}: sample {name} cannot be read: {error}") from error
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or truth.ndim != 2:
        raise DatasetError(
            f"{path}: sample {name}: expected a uint8 photograph and a mask of two axes, "
            f"got {pixels.dtype} {pixels.shape} and {truth.dtype} {truth.shape}"
        )
    photograph = np.ascontiguousarray(pixels.transpose(2, 1, 0))
    mask = np.ascontiguousarray(truth.T != 0)
    masks = {OBJECT: mask} if mask.any() else {}
    return Sample(name, photograph, masks, np.zeros(photograph.shape[:2], dtype=bool))


def _hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise DatasetError(
            "ImageNet-Segmentation is an HDF5 file: install h5py, for example with pip install 'gradcut[imagenet-seg]'"
        ) from None
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path}: not an HDF5 file") from error


# Oxford-IIIT Pet -----------------------------------------------------------------------------------------------------


def pets(root: str | Path, split: str = "test", names: str = "species") -> Dataset:
    """Oxford-IIIT Pet (Parkhi et al. 2012): trimaps, 1 the animal, 2 background, 3 the border, which is ignored.

    Args:
        root: the folder with ``images`` and ``annotations``.
        split: a list in ``annotations``: test, trainval.
        names: "species" labels the animal cat or dog, "breed" as the file names have it, such as ``Egyptian Mau``.

    Raises:
        DatasetError: the folder is not in this layout.
    """
    root = _folder(root, "root")
    _one_of("names", names, ("species", "breed"))
    labels = {}
    listing = root / f"annotations/{split}.txt"
    for line in _lines(listing):
        parts = line.split()
        if len(parts) != 4 or parts[2] not in ("1", "2"):
            raise DatasetError(f"{listing}: expected lines 'name class species breed', got {line!r}")
        breed = parts[0].rsplit("_", 1)[0].replace("_", " ")
        labels[parts[0]] = breed if names == "breed" else ("cat", "dog")[int(parts[2]) - 1]
    load = partial(_pets_sample, root=root, labels=labels)
    return Dataset(f"Oxford-IIIT Pet, {split}", tuple(sorted(set(labels.values()))), tuple(labels), load)


def _pets_sample(name: str, root: Path, labels: Mapping[str, str]) -> Sample:
    photograph = _photograph(name, root / f"images/{name}.jpg")
    values = _values(name, root / f"annotations/trimaps/{name}.png", photograph.shape[:2])
    _classes(name, values, {1: labels[name]}, {2, 3})
    masks = {labels[name]: values == 1} if (values == 1).any() else {}
    return Sample(name, photograph, masks, values == 3)


# A plain folder ------------------------------------------------------------------------------------------------------


def folder(
    photographs: str | Path, masks: str | Path | None = None, labels: Sequence[str] | str | None = None
) -> Dataset:
    """Photographs, and mask PNGs of the same names: ``photos/a.jpg`` with ``masks/a.png``.

    Args:
        photographs: searched recursively; a photograph without a mask is an error when its turn comes.
        masks: where the masks are, by default beside the photographs, which then are no PNGs themselves.
        labels: names of the values 1, 2, ... of the masks, 255 being ignored; or one name for every pixel that is
            not 0; or None where the object has no name.

    Raises:
        DatasetError: no photographs, or a label twice.
    """
    photographs = _folder(photographs, "images")
    masks = photographs if masks is None else _folder(masks, "masks")
    beside = masks.resolve() == photographs.resolve()
    found = {
        name: Path(path)
        for path, name in files.find([photographs])[0]
        if not (beside and Path(path).suffix.lower() == ".png")
    }
    if not found:
        raise DatasetError(f"{photographs}: no photographs in this folder")
    values = None if labels is None or isinstance(labels, str) else dict(enumerate(labels, start=1))
    if values is not None and (not values or len(set(values.values())) != len(values)):
        raise DatasetError(f"labels: expected at least one and no label twice, got {list(labels or ())}")
    known = None if labels is None else (labels,) if isinstance(labels, str) else tuple(labels)
    load = partial(_folder_sample, paths=found, masks=masks, values=values, label=(known or (OBJECT,))[0])
    return Dataset(f"folder {photographs.name}", known, tuple(found), load)


def _folder_sample(
    name: str, paths: Mapping[str, Path], masks: Path, values: Mapping[int, str] | None, label: str
) -> Sample:
    photograph = _photograph(name, paths[name])
    stored = _values(name, (masks / name).with_name(f"{Path(name).name}.png"), photograph.shape[:2], channels=None)
    nothing = np.zeros(photograph.shape[:2], dtype=bool)
    if values is not None:
        if stored.ndim != 2:
            raise DatasetError(f"{name}: expected a mask of one channel, got {stored.shape[2]}")
        return Sample(name, photograph, _classes(name, stored, values, {255}), stored == 255)
    # An RGBA mask says its piece in the colours: its alpha is often full everywhere.
    inside = stored != 0 if stored.ndim == 2 else (stored[..., : 3 if stored.shape[2] > 2 else 1] != 0).any(2)
    return Sample(name, photograph, {label: inside} if inside.any() else {}, nothing)


# What they share -----------------------------------------------------------------------------------------------------


def _one_of(argument: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise DatasetError(f"{argument}: expected {' or '.join(map(repr, choices))}, got {value!r}")


def _folder(path: str | Path, argument: str) -> Path:
    path = Path(path)
    if not path.is_dir():
        raise DatasetError(f"{argument}: {path}: no such folder")
    return path


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"annotations: {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DatasetError(f"annotations: {path}: not JSON: {error}") from error


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise DatasetError(f"{path}: no such file; is this the dataset's root, and the right split?") from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _photograph(name: str, path: Path) -> Photograph:
    try:
        return images.read(path)
    except ImageError as error:
        raise DatasetError(f"{name}: {error}") from error


def _values(name: str, path: Path, size: tuple[int, int], channels: int | None = 1) -> Shaped[np.ndarray, "H W *c"]:
    """The numbers in a mask file of the photograph's size; ``channels`` None takes any."""
    try:
        values = images.read_values(path)
    except ImageError as error:
        raise DatasetError(f"{name}: the mask {error}") from error
    found = 1 if values.ndim == 2 else values.shape[2]
    if channels not in (None, found):
        raise DatasetError(f"{name}: {path}: expected a mask of {channels} channels, got {found}")
    if values.shape[:2] != size:
        raise DatasetError(f"{name}: {path}: the mask is {_times(values.shape[:2])}, the photograph {_times(size)}")
    return values


def _classes(
    name: str, values: Shaped[np.ndarray, "H W"], labels: Mapping[int, str], ignored: set[int]
) -> dict[str, Bool[np.ndarray, "H W"]]:
    present = set(map(int, np.unique(values))) - {0} - ignored
    if unknown := sorted(present - set(labels)):
        raise DatasetError(f"{name}: its mask holds the value {unknown[0]}, which is no class")
    return {labels[value]: values == value for value in sorted(present)}


def _times(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
