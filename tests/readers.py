"""Readers of Pascal VOC's folders: one of our own, and datumaro's and LabelMe's for environments of their own."""

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

LABELME = """
import pathlib, sys
import numpy as np
from labelme._label_file import LabelFile
from labelme.utils.shape import shapes_to_label
from labelme.utils import img_data_to_arr
masks = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    file = LabelFile(str(path))
    size = img_data_to_arr(file.image_data).shape
    for label in {shape["label"] for shape in file.shapes}:
        own = [shape for shape in file.shapes if shape["label"] == label]
        masks[f"{path.stem}|{label}"] = shapes_to_label(size, own, {label: 1})[0] == 1
np.savez(sys.argv[2], **masks)
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
