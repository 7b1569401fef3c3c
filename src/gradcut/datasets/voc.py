"""Pascal VOC's segmentations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from gradcut.catalogue import check
from gradcut.datasets.reading import existing_folder, masks_of, read_photograph, read_split, read_values
from gradcut.datasets.sample import Dataset, Sample
from gradcut.errors import DatasetError
from gradcut.labels import synonyms, voc_labels


def voc(root: str | Path, split: str = "val", names: str = "voc") -> Dataset:
    """Pascal VOC 2012 segmentation (Everingham et al. 2010): palette PNGs, 255 is void and ignored.

    Args:
        root: the folder ``VOC2012``, or the ``VOCdevkit`` above it.
        split: a list in ``ImageSets/Segmentation``: train, val, trainval.
        names: "voc" calls the classes as VOC does, "coco" as COCO does: airplane for aeroplane.

    Raises:
        DatasetError: the folder is not in this layout, or has no such split.
    """
    root = existing_folder(root, "root")
    names = check("names", names, ("voc", "coco"), DatasetError)
    root = next((place for place in (root / "VOC2012", root / "VOCdevkit/VOC2012") if place.is_dir()), root)
    listed = read_split(root / "ImageSets/Segmentation", split)
    labels = tuple(synonyms()[label] for label in voc_labels()) if names == "coco" else voc_labels()
    load = partial(_sample, root=root, labels=dict(enumerate(labels, start=1)))
    return Dataset(f"Pascal VOC 2012, {split}", labels, tuple(listed), load)


def _sample(name: str, root: Path, labels: Mapping[int, str]) -> Sample:
    photograph = read_photograph(name, root / f"JPEGImages/{name}.jpg")
    values = read_values(name, root / f"SegmentationClass/{name}.png", photograph.shape[:2])
    masks = masks_of(name, values, labels, {255})
    areas: dict[str, tuple[float, ...]] = {}
    if (objects := root / f"SegmentationObject/{name}.png").is_file():
        numbers = read_values(name, objects, photograph.shape[:2])
        for label, mask in masks.items():
            counted = np.bincount(numbers[mask].ravel(), minlength=256)
            areas[label] = tuple(float(n) / mask.size for n in counted[1:255] if n) or (float(mask.mean()),)
    return Sample(name, photograph, masks, values == 255, areas)
