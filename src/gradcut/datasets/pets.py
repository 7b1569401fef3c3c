"""Oxford-IIIT Pet."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from gradcut.catalogue import check
from gradcut.datasets.reading import existing_folder, masks_of, read_photograph, read_split, read_values
from gradcut.datasets.sample import Dataset, Sample
from gradcut.errors import DatasetError


def pets(root: str | Path, split: str = "test", names: str = "species") -> Dataset:
    """Oxford-IIIT Pet (Parkhi et al. 2012): trimaps, 1 the animal, 2 background, 3 the border, which is ignored.

    Args:
        root: the folder with ``images`` and ``annotations``.
        split: a list in ``annotations``: test, trainval.
        names: "species" labels the animal cat or dog, "breed" as the file names have it, such as ``Egyptian Mau``.

    Raises:
        DatasetError: the folder is not in this layout.
    """
    root = existing_folder(root, "root")
    names = check("names", names, ("species", "breed"), DatasetError)
    labels = {}
    listing = root / f"annotations/{split}.txt"
    for line in read_split(root / "annotations", split):
        parts = line.split()
        if len(parts) != 4 or parts[2] not in ("1", "2"):
            raise DatasetError(f"{listing}: expected lines 'name class species breed', got {line!r}")
        breed = parts[0].rsplit("_", 1)[0].replace("_", " ")
        labels[parts[0]] = breed if names == "breed" else ("cat", "dog")[int(parts[2]) - 1]
    load = partial(_sample, root=root, labels=labels)
    return Dataset(f"Oxford-IIIT Pet, {split}", tuple(sorted(set(labels.values()))), tuple(labels), load)


def _sample(name: str, root: Path, labels: Mapping[str, str]) -> Sample:
    photograph = read_photograph(name, root / f"images/{name}.jpg")
    values = read_values(name, root / f"annotations/trimaps/{name}.png", photograph.shape[:2])
    masks_of(name, values, {1: labels[name]}, {2, 3})
    masks = {labels[name]: values == 1} if (values == 1).any() else {}
    return Sample(name, photograph, masks, values == 3)
