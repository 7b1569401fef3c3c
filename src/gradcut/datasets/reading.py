"""What the layouts share: files that are there or named, masks of the photograph's size, values that are classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped

from gradcut import images
from gradcut.catalogue import check
from gradcut.errors import DatasetError, ImageError
from gradcut.images import Photograph
from gradcut.ranges import check_range


def existing_folder(path: str | Path, argument: str) -> Path:
    path = Path(path)
    if not path.is_dir():
        raise DatasetError(f"{argument}: {path}: no such folder")
    return path


def read_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise DatasetError(f"{path}: no such file; is this the dataset's root, and the right split?") from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def read_split(folder: Path, split: str) -> list[str]:
    """The lines of a list in the folder, by its name without ``.txt``."""
    if lists := sorted(path.stem for path in folder.glob("*.txt")):
        split = check("split", split, lists, DatasetError)
    return read_lines(folder / f"{split}.txt")


def read_photograph(name: str, path: Path, value_range: Sequence[float] | None = None) -> Photograph:
    try:
        return images.read(path, value_range=check_range(value_range))
    except ImageError as error:
        raise DatasetError(f"{name}: {error}") from error


def read_values(name: str, path: Path, size: tuple[int, int], channels: int | None = 1) -> Shaped[np.ndarray, "H W *c"]:
    """The numbers in a mask file of the photograph's size; ``channels`` None takes any."""
    try:
        values = images.read_values(path)
    except ImageError as error:
        raise DatasetError(f"{name}: the mask {error}") from error
    count = 1 if values.ndim == 2 else values.shape[2]
    if channels not in (None, count):
        raise DatasetError(f"{name}: {path}: expected a mask of {channels} channels, got {count}")
    if values.shape[:2] != size:
        raise DatasetError(f"{name}: {path}: the mask is {times(values.shape[:2])}, the photograph {times(size)}")
    return values


def masks_of(
    name: str, values: Shaped[np.ndarray, "H W"], labels: Mapping[int, str], ignored: set[int]
) -> dict[str, Bool[np.ndarray, "H W"]]:
    present = set(map(int, np.unique(values))) - {0} - ignored
    if unknown := sorted(present - set(labels)):
        raise DatasetError(f"{name}: its mask holds the value {unknown[0]}, which is no class")
    return {labels[value]: values == value for value in sorted(present)}


def times(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
