"""Microsoft COCO's instances."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from pycocotools import mask as coco_mask

from gradcut.datasets.reading import existing_folder, read_photograph, times
from gradcut.datasets.sample import Dataset, Sample
from gradcut.errors import DatasetError
from gradcut.ranges import Range, check_range


def coco(
    folder: str | Path, annotations: str | Path, value_range: Sequence[float] | None = None, boxes: bool = False
) -> Dataset:
    """Microsoft COCO (Lin et al. 2014): ``instances_*.json`` and its folder of photographs.

    A class's mask is the union of its objects; crowd regions are ignored pixels, whichever class they are of.
    Photographs may have their 2014 or their 2017 file names, whichever the annotations use. They are read with
    ``value_range``, as by `gradcut.images.read`.

    Args:
        boxes: an object without an outline has the pixels of its box, and its class is among `Sample.boxed`; else such
            an object is an error.

    Raises:
        DatasetError: the annotations are missing or not in COCO's instances format, two photographs have one id, or the
            folder has none of the photographs.
    """
    folder, annotations = existing_folder(folder, "images"), Path(annotations)
    document = _read_json(annotations)
    try:
        categories = {entry["id"]: str(entry["name"]) for entry in document["categories"]}
        pictures = {str(entry["file_name"]): entry for entry in document["images"]}
        names: dict[int, str] = {}
        for entry in document["images"]:
            if names.setdefault(entry["id"], str(entry["file_name"])) != str(entry["file_name"]):
                both = f"{names[entry['id']]} and {entry['file_name']}"
                raise DatasetError(f"{annotations}: expected an id a photograph, {both} have the same, {entry['id']}")
        objects: dict[int, list[dict[str, Any]]] = {number: [] for number in names}
        for entry in document["annotations"]:
            objects.setdefault(entry["image_id"], []).append(entry)
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{annotations}: expected COCO's instances format with images, annotations and categories: {error!r}"
        ) from error
    records: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
    for number, name in names.items():  # merged files list a photograph twice: it has the objects of both
        records.setdefault(name, (pictures[name], []))[1].extend(objects[number])
    if records and not any(os.path.isfile(_file(folder, name)) for name in records):  # noqa: PTH113
        few = f"{len(records)} photographs of {annotations}, such as {name}"
        raise DatasetError(f"images: {folder} has none of the {few}")
    load = partial(
        _sample, folder=folder, categories=categories, records=records, value_range=check_range(value_range),
        boxes=boxes,
    )  # fmt: skip
    return Dataset(f"COCO, {annotations.name}", tuple(categories.values()), tuple(records), load)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"annotations: {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DatasetError(f"annotations: {path}: not JSON: {error}") from error


def _sample(
    name: str,
    folder: Path,
    categories: Mapping[int, str],
    records: Mapping[str, tuple[dict[str, Any], list[dict[str, Any]]]],
    value_range: Range | None,
    boxes: bool,
) -> Sample:
    entry, objects = records[name]
    photograph = read_photograph(name, _file(folder, name), value_range)
    size = (photograph.shape[0], photograph.shape[1])
    if [entry.get("height"), entry.get("width")] != list(size):
        declared = f"{entry.get('height')} x {entry.get('width')}"
        raise DatasetError(f"{name}: the photograph is {times(size)}, its annotations are for {declared}")
    ignore = np.zeros(size, dtype=bool)
    masks: dict[str, Bool[np.ndarray, "H W"]] = {}
    areas: dict[str, tuple[float, ...]] = {}
    crowds, boxed = set(), set()
    for number, annotation in enumerate(objects):
        where = f"{name}: annotation {annotation.get('id', f'number {number}')}"
        category: Any = annotation.get("category_id")
        if category not in list(categories):  # which asks for no hash: a file may hold a list here
            raise DatasetError(f"{where}: no category has the id {category!r:.40}")
        label = categories[category]
        if boxes and not annotation.get("segmentation"):
            mask = _box(where, annotation.get("bbox"), size)
            boxed.add(label)
        else:
            mask = decoded(where, annotation.get("segmentation"), size)
        if annotation.get("iscrowd"):
            ignore |= mask
            crowds.add(label)
        elif mask.any():  # a few objects of COCO are too small to cover a pixel
            masks[label] = masks[label] | mask if label in masks else mask
            areas[label] = (*areas.get(label, ()), float(mask.mean()))
    return Sample(name, photograph, masks, ignore, areas, frozenset(crowds - set(masks)), frozenset(boxed & set(masks)))


def _file(folder: Path, name: str) -> Path:
    """The file of a photograph; COCO named the same photographs with a prefix in 2014, without in 2017."""
    plain = re.sub(r"^COCO_\w+?_(?=\d+\.)", "", Path(name).name)
    choices = (name, Path(name).name, plain, f"COCO_train2014_{plain}", f"COCO_val2014_{plain}")
    # `Path.is_file` raises where it may not look.
    return next((folder / choice for choice in choices if os.path.isfile(folder / choice)), folder / name)  # noqa: PTH113


def decoded(where: str, segmentation: object, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """A mask from a polygon list, or a run-length encoding, compressed or not.

    Args:
        where: what errors begin with.
        size: height and width of the photograph.

    Raises:
        DatasetError: something else, or of another size.
    """
    height, width = size
    code = segmentation
    if isinstance(segmentation, dict):
        _check_runs(where, segmentation, size)
        uncompressed = isinstance(segmentation["counts"], list)
    elif isinstance(segmentation, list) and segmentation:
        _check_polygons(where, segmentation)
        uncompressed = True
    else:
        raise DatasetError(f"{where}: expected polygons or a run-length encoding, got {segmentation!r:.40}")
    try:
        code = coco_mask.frPyObjects(segmentation, height, width) if uncompressed else segmentation
        code = coco_mask.merge(code) if isinstance(code, list) else code
        mask: Bool[np.ndarray, "H W"] = coco_mask.decode(code).astype(bool)
        return mask
    except Exception as error:  # pycocotools raises bare Exception on what it does not know
        raise DatasetError(f"{where}: cannot be decoded: {error}") from error


def _box(where: str, box: object, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """The pixels whose centres are in a box: left, top, width, height."""
    numbers = np.asarray(box, dtype=float) if _all_numbers(box) else np.zeros(0)
    if len(numbers) != 4 or not np.isfinite(numbers).all():
        raise DatasetError(f"{where}: expected polygons, run lengths or a box of four numbers, got {box!r:.40}")
    left, top, width, height = numbers.tolist()
    rows, columns = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    inside: Bool[np.ndarray, "H W"] = np.logical_and.outer(
        (rows >= top) & (rows < top + height), (columns >= left) & (columns < left + width)
    )
    return inside


def _check_runs(where: str, encoding: Mapping[str, Any], size: tuple[int, int]) -> None:
    """A compressed string may claim any length, and the decoder writes where it is told: count first."""
    declared, counts = encoding.get("size"), encoding.get("counts")
    if declared != list(size):
        raise DatasetError(f"{where}: expected a mask of {times(size)}, got one of size {declared}")
    if isinstance(counts, str | bytes):
        runs = compressed_runs(counts)
    elif isinstance(counts, list):
        runs = counts if all(isinstance(run, int) and run >= 0 for run in counts) else [-1]
    else:
        raise DatasetError(f"{where}: expected runs as a list or a string, got {type(counts).__name__}")
    if sum(runs) != size[0] * size[1]:
        raise DatasetError(f"{where}: its runs do not add up to {size[0] * size[1]} pixels")


def _check_polygons(where: str, polygons: Sequence[object]) -> None:
    for polygon in polygons:
        numbers = np.asarray(polygon) if _all_numbers(polygon) else np.zeros(0)
        if len(numbers) < 6 or len(numbers) % 2 or not np.isfinite(numbers).all():
            raise DatasetError(f"{where}: a polygon needs three points at least, as finite x, y, x, y, ...")


def _all_numbers(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def compressed_runs(counts: str | bytes) -> list[int]:
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
