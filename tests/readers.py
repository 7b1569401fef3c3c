"""Readers of Pascal VOC's folders: one of our own, and datumaro's for an environment of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

DATUMARO = """
import json, sys
import numpy as np
import datumaro
data = datumaro.Dataset.import_from(sys.argv[1], "voc_segmentation")
names = [label.name for label in data.categories()[datumaro.AnnotationType.label]]
np.savez(sys.argv[2], **{f"{item.id}|{names[mask.label]}|{number}": mask.image
                         for item in data for number, mask in enumerate(item.annotations)})
"""


def voc_masks(root: Path, subset: str):
    """An independent reader: colours to names by labelmap.txt, as CVAT and datumaro do it."""
    rows = [row.split(":") for row in (root / "labelmap.txt").read_text().splitlines() if not row.startswith("#")]
    names = {tuple(map(int, colour.split(","))): name for name, colour, *_ in rows}
    read = {}
    for name in (root / f"ImageSets/Segmentation/{subset}.txt").read_text().splitlines():
        with Image.open(root / f"SegmentationClass/{name}.png") as image:
            colours = np.array(image.convert("RGB"))
        present = {tuple(map(int, colour)) for colour in np.unique(colours.reshape(-1, 3), axis=0)}
        read[name] = {names[colour]: (colours == colour).all(2) for colour in present}
    return read
