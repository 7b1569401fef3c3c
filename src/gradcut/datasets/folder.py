"""A plain folder of photographs, with mask PNGs of the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from gradcut import files
from gradcut.datasets.reading import existing_folder, masks_of, read_photograph, read_values
from gradcut.datasets.sample import OBJECT, Dataset, Sample
from gradcut.errors import DatasetError
from gradcut.ranges import Range, check_range


def folder(
    photographs: str | Path,
    masks: str | Path | None = None,
    labels: Sequence[str] | str | None = None,
    value_range: Sequence[float] | None = None,
) -> Dataset:
    """Photographs, and mask PNGs of the same names: ``photos/a.jpg`` with ``masks/a.png``.

    Args:
        photographs: searched recursively; a photograph without a mask is an error when its turn comes.
        masks: where the masks are, by default beside the photographs, which then are no PNGs themselves.
        labels: names of the values 1, 2, ... of the masks, 255 being ignored; or one name for every pixel that is
            not 0; or None where the object has no name.
        value_range: as for `gradcut.images.read`.

    Raises:
        DatasetError: no photographs, or a label twice.
    """
    photographs = existing_folder(photographs, "images")
    masks = photographs if masks is None else existing_folder(masks, "masks")
    beside = masks.resolve() == photographs.resolve()
    paths = {
        name: Path(path)
        for path, name in files.find([photographs])[0]
        if not (beside and Path(path).suffix.lower() == ".png")
    }
    if not paths:
        raise DatasetError(f"images: {photographs}: no photographs in this folder")
    values = None if labels is None or isinstance(labels, str) else dict(enumerate(labels, start=1))
    if values is not None and (not values or len(set(values.values())) != len(values)):
        raise DatasetError(f"labels: expected at least one and no label twice, got {list(labels or ())}")
    known = None if labels is None else (labels,) if isinstance(labels, str) else tuple(labels)
    load = partial(
        _sample,
        paths=paths,
        masks=masks,
        values=values,
        label=(known or (OBJECT,))[0],
        value_range=check_range(value_range),
    )
    return Dataset(f"folder {photographs.name}", known, tuple(paths), load)


def _sample(
    name: str,
    paths: Mapping[str, Path],
    masks: Path,
    values: Mapping[int, str] | None,
    label: str,
    value_range: Range | None,
) -> Sample:
    photograph = read_photograph(name, paths[name], value_range)
    stored = read_values(name, (masks / name).with_name(f"{Path(name).name}.png"), photograph.shape[:2], channels=None)
    nothing = np.zeros(photograph.shape[:2], dtype=bool)
    if values is not None:
        if stored.ndim != 2:
            raise DatasetError(f"{name}: expected a mask of one channel, got {stored.shape[2]}")
        return Sample(name, photograph, masks_of(name, stored, values, {255}), stored == 255)
    # An RGBA mask says its piece in the colours: its alpha is often full everywhere.
    inside = stored != 0 if stored.ndim == 2 else (stored[..., : 3 if stored.shape[2] > 2 else 1] != 0).any(2)
    return Sample(name, photograph, {label: inside} if inside.any() else {}, nothing)
