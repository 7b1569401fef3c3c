"""LabelMe, and X-AnyLabeling, which reads the same: a JSON file beside each photograph."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gradcut import images
from gradcut.formats import outlines
from gradcut.formats.piles import AnnotatedObject, Pile, bring, write_compact

#: Of LabelMe, whose layout of files this is.
VERSION = "5.5.0"


def write_labelme(pile: Pile, folder: Path, tolerance: float | None) -> Path:
    """Photographs, and beside each a JSON file of its name: masks as ``mask`` shapes, or as polygons.

    The points of polygons lie in the outermost pixels: LabelMe fills polygons with their border.
    """
    brought = bring(pile, folder)
    for photograph in pile.photographs:
        height, width = photograph.size
        document: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": [
                shape
                for number, item in enumerate(photograph.objects, start=1)
                for shape in _shapes(item, tolerance, number)
            ],
            "imagePath": brought[photograph.name],
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        write_compact(folder / f"{pile.flat[photograph.name]}.json", document)
    return folder


def _shapes(item: AnnotatedObject, tolerance: float | None, number: int) -> Iterator[dict[str, Any]]:
    """An object's shapes: none where its mask is empty; ``group_id`` says of polygons that they are one object."""
    mask = item.mask()
    common = {"label": item.label, "group_id": number, "description": "", "flags": {}}
    score = {} if item.confidence is None else {"score": item.confidence}
    if tolerance is not None:
        for polygon in outlines.outlines(mask, tolerance, centres=True):
            yield {**common, "points": polygon.tolist(), "shape_type": "polygon", "mask": None, **score}
    elif (box := images.box_of(mask)) is not None:
        left, top, across, down = box
        inside = images.encode_png(mask[top : top + down, left : left + across])
        corners = [[left, top], [left + across - 1, top + down - 1]]  # the last pixel is inside
        coded = base64.b64encode(inside).decode("ascii")
        yield {**common, "points": corners, "shape_type": "mask", "mask": coded, **score}
