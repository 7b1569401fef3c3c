"""Masks without classes, as Segment Anything and others write them: read, and written with classes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from gradcut import files, images
from gradcut.datasets.coco import decoded
from gradcut.errors import DatasetError, GradcutError, one_line
from gradcut.formats.coco import category_ids, image_ids, rle
from gradcut.formats.given import binary, paired, photographs_of, values_of
from gradcut.images import box_of
from gradcut.naming import Named

#: How many masks a file of numbers may hold: more are a photograph.
_MOST = 1000


Masks = Callable[[], dict[str, Bool[np.ndarray, "H W"]]]


@dataclass(frozen=True, eq=False)
class Proposals:
    """A photograph's masks, read when asked for: each has a key, by which its file or its entry is found again."""

    name: str
    path: str
    masks: Masks


def read_proposals(
    masks: str | os.PathLike[str], photographs: str | os.PathLike[str]
) -> tuple[list[Proposals], list[str]]:
    """Masks of photographs, whatever they hold, and the names of photographs without any.

    Args:
        masks: a folder with ``NAME.png``, in which every number but 0 is a mask; or with ``NAME/KEY.png`` or
            ``KEY/NAME.png``, a mask each; or with ``NAME.json``, as Segment Anything's generator of masks writes them;
            or a file of COCO's with images and annotations. NAME is the photograph's path below its folder, without the
            ending.
        photographs: as for `gradcut.files.find`.

    Raises:
        GradcutError: no masks or photographs, or a mask that belongs to no photograph.
    """
    paths = photographs_of(photographs)
    place = Path(masks)
    if place.is_file():
        own = _of_coco(place, paths)
    elif place.is_dir():
        own = _of_folder(place, paths)
    else:
        raise GradcutError(f"masks: no such file or folder: {place}")
    every = [Proposals(name, path, own[name]) for name, path in paths.items() if name in own]
    return every, [name for name in paths if name not in own]


def _of_folder(folder: Path, paths: Mapping[str, str]) -> dict[str, Masks]:
    lists = {
        path.with_suffix("").as_posix(): folder / path
        for path in files.walk(folder, "masks")
        if path.suffix == ".json" and path.with_suffix("").as_posix() in paths
    }
    if lists:
        return {name: partial(_of_list, path, paths[name]) for name, path in lists.items()}
    return {name: partial(_of_files, own, paths[name]) for name, own in paired(folder, paths).items()}


def _of_files(own: Mapping[str, Path], photograph: str) -> dict[str, Bool[np.ndarray, "H W"]]:
    size = images.size_of(photograph)
    if set(own) != {""}:
        return {key: binary(path, size) for key, path in own.items()}
    values = values_of(own[""], size)
    if values.ndim != 2:
        raise GradcutError(f"masks: {own['']}: expected numbers of masks, got colours")
    numbers = [number for number in np.unique(values).tolist() if number]
    if len(numbers) > _MOST:
        raise GradcutError(f"masks: {own['']}: expected at most {_MOST} masks, got {len(numbers)}")
    return {str(int(number)): values == number for number in numbers}


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise GradcutError(f"masks: {path} cannot be read: {one_line(error)}") from error


def _of_list(path: Path, photograph: str) -> dict[str, Bool[np.ndarray, "H W"]]:
    document = _document(path)
    entries = document.get("annotations") if isinstance(document, dict) else document
    if not isinstance(entries, list):
        raise GradcutError(f"masks: {path}: expected a list of masks with segmentation, got {type(entries).__name__}")
    size = images.size_of(photograph)
    return {str(number): _decoded(entry, path, size) for number, entry in enumerate(entries)}


def _of_coco(path: Path, paths: Mapping[str, str]) -> dict[str, Masks]:
    document = _document(path)
    try:
        listed = {image["id"]: image for image in document["images"]}
        annotations = list(document["annotations"])
        owners = [listed[entry["image_id"]] for entry in annotations]
        names = {image["id"]: os.path.splitext(image["file_name"])[0] for image in listed.values()}  # noqa: PTH122
    except (KeyError, TypeError) as error:
        raise GradcutError(f"masks: {path}: expected images and annotations, as COCO has them: {error!r}") from None
    by_name: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for entry, image in zip(annotations, owners, strict=True):
        by_name.setdefault(names[image["id"]], []).append((entry, image))
    if strangers := [name for name in by_name if name not in paths]:
        raise GradcutError(
            f"masks: {path}: {strangers[0]} is no photograph; there are such as {min(paths, default='none')!r}"
        )
    return {name: partial(_of_entries, path, entries, paths[name]) for name, entries in by_name.items()}


def _of_entries(
    path: Path, entries: Sequence[tuple[dict[str, Any], dict[str, Any]]], photograph: str
) -> dict[str, Bool[np.ndarray, "H W"]]:
    size = images.size_of(photograph)
    image = entries[0][1]
    if (image.get("height", size[0]), image.get("width", size[1])) != size:
        raise GradcutError(
            f"masks: {path}: expected masks of the photograph's {size[1]} x {size[0]} pixels, got "
            f"{image.get('width')} x {image.get('height')}"
        )
    return {str(entry.get("id", number)): _decoded(entry, path, size) for number, (entry, _) in enumerate(entries)}


def _decoded(entry: Any, path: Path, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    try:
        return decoded("a segmentation", entry.get("segmentation") if isinstance(entry, dict) else entry, size)
    except DatasetError as error:
        raise GradcutError(f"masks: {path}: {error}") from None


def labelled_document(
    classes: Sequence[str],
    photographs: Sequence[tuple[Proposals, tuple[int, int], Mapping[str, tuple[dict[str, Any], tuple[Named, ...]]]]],
) -> dict[str, Any]:
    """The masks with their classes as COCO has annotations; those without a class are under ``unlabelled``.

    Each has, beside what COCO says, its ``key``, ``score``, and ``ranking``: up to five classes with label, score,
    probability and evidence.

    Args:
        photographs: with their sizes, height and width, and by key the masks' shapes, from `shape`, and classes.
    """
    ids = image_ids(proposals.name for proposals, _, _ in photographs)
    categories = dict(zip(classes, category_ids(classes), strict=True))
    document: dict[str, Any] = {"images": [], "annotations": [], "unlabelled": []}
    document["categories"] = [{"id": number, "name": label} for label, number in categories.items()]
    number = 0
    for proposals, (height, width), masks in photographs:
        image = ids[proposals.name]
        document["images"].append({"id": image, "file_name": proposals.path, "height": height, "width": width})
        for key, (form, named) in masks.items():
            number += 1
            entry = {"id": number, "image_id": image, "key": key, **form, "iscrowd": 0}
            if named:
                ranking = [{part: _short(value) for part, value in vars(each).items()} for each in named[:5]]
                entry |= {
                    "category_id": categories[named[0].label],
                    "score": _short(named[0].score),
                    "ranking": ranking,
                }
            document["annotations" if named else "unlabelled"].append(entry)
    return document


def shape(mask: Bool[np.ndarray, "H W"]) -> dict[str, Any]:
    """A mask's segmentation, area and box as COCO has them."""
    return {"segmentation": rle(mask), "area": int(mask.sum()), "bbox": list(map(float, box_of(mask) or (0,) * 4))}


def _short(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value
