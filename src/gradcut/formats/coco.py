"""COCO: masks as annotations, and as results to be scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from gradcut.errors import GradcutError
from gradcut.formats import outlines
from gradcut.formats.piles import Pile, bring, write_compact
from gradcut.images import box_of
from gradcut.labels import coco_ids


def category_ids(classes: Sequence[str]) -> list[int]:
    """COCO's own numbers where all the classes are COCO's, else 1, 2, 3 ..."""
    if set(classes) <= coco_ids().keys():
        return [coco_ids()[label] for label in classes]
    return list(range(1, len(classes) + 1))


#: Readers that keep numbers in double precision, as JavaScript does, tell smaller ones apart.
_LEAST_INEXACT = 2**53


def image_ids(names: Iterable[str]) -> dict[str, int]:
    """COCO's own number where every file is called by one that all readers keep exactly, else 1, 2, 3 ..."""
    listed = list(names)
    stems = [name.rsplit("/", 1)[-1].rpartition("_")[2] for name in listed]
    if all(stem.isascii() and stem.isdigit() for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers) and max(numbers, default=0) < _LEAST_INEXACT:
            return dict(zip(listed, numbers, strict=True))
    return {name: number for number, name in enumerate(listed, start=1)}


def rle(mask: Bool[np.ndarray, "H W"]) -> dict[str, Any]:
    from pycocotools import mask as coder

    coded = coder.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(coded["size"]), "counts": coded["counts"].decode("ascii")}


def coco_document(pile: Pile, tolerance: float | None, file_names: Mapping[str, str]) -> dict[str, Any]:
    """The document; ``file_names`` are by photograph's name."""
    categories = category_ids(pile.classes)
    ids = image_ids(photograph.name for photograph in pile.photographs)
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for photograph in pile.photographs:
        height, width = photograph.size
        listed.append(
            {"id": ids[photograph.name], "file_name": file_names[photograph.name], "height": height, "width": width}
        )
        for item in photograph.objects:
            mask = item.mask()
            if mask.any():
                shape = rle(mask) if tolerance is None else outlines.flat(outlines.outlines(mask, tolerance))
                annotations.append({
                    "id": len(annotations) + 1, "image_id": ids[photograph.name], "category_id": categories[item.index],
                    "segmentation": shape, "area": int(mask.sum()), "bbox": list(map(float, box_of(mask) or (0,) * 4)),
                    "iscrowd": 0,
                } | ({} if item.confidence is None else {"score": item.confidence}))  # fmt: skip
    return {
        "info": {"description": "masks by gradcut"},
        "images": listed,
        "annotations": annotations,
        "categories": [{"id": number, "name": label} for number, label in zip(categories, pile.classes, strict=True)],
    }


def write_coco(pile: Pile, folder: Path, tolerance: float | None) -> Path:
    """``instances.json``; file names are the photographs' paths below the folder that all of them lie in.

    Where EXIF turns some of them, or some are in shards, all are brought to ``images/`` as masks are, upright, and
    named as they are there.
    """
    brought = pile.turned or pile.packed
    document = coco_document(pile, tolerance, bring(pile, folder / "images") if brought else pile.files)
    return write_compact(folder / "instances.json", document)


def write_coco_results(pile: Pile, folder: Path) -> Path:
    """``results.json`` for ``COCO.loadRes``: masks with the classifier's scores.

    Raises:
        GradcutError: masks that have none.
    """
    if any(item.score is None for photograph in pile.photographs for item in photograph.objects):
        raise GradcutError("format: coco-results needs scores, and masks that were given have none; coco does without")
    categories = category_ids(pile.classes)
    ids = image_ids(photograph.name for photograph in pile.photographs)
    rows = [
        {
            "image_id": ids[photograph.name], "category_id": categories[item.index], "segmentation": rle(mask),
            "score": item.score,
        }
        for photograph in pile.photographs
        for item in photograph.objects
        if (mask := item.mask()).any()
    ]  # fmt: skip
    return write_compact(folder / "results.json", rows)
