"""Two sets of masks on ImageNet's photographs: ImageNet-S, and ImageNet-Segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gradcut.catalogue import check
from gradcut.datasets.reading import existing_folder, masks_of, read_photograph, read_values
from gradcut.datasets.sample import OBJECT, Dataset, Sample
from gradcut.errors import DatasetError
from gradcut.files import SUFFIXES, walk
from gradcut.labels import imagenet_ids, imagenet_labels


def imagenet_s(root: str | Path, split: str = "validation") -> Dataset:
    """ImageNet-S (Gao et al. 2022): a pixel's class is R + 256 G; 0 is other, 1000 is ignored.

    Class ``i`` is the i-th of the WordNet numbers that the folder of photographs holds, in order; its label is
    the name of that ImageNet class. Of the 919-class part, five classes took in a second ImageNet class each.

    Args:
        root: ``ImageNetS50``, ``ImageNetS300`` or ``ImageNetS919``.
        split: a folder with its ``-segmentation`` beside it: validation, train-semi.

    Raises:
        DatasetError: the folder is not in this layout.
    """
    root = existing_folder(root, "root")
    if splits := sorted(path.name.removesuffix("-segmentation") for path in root.glob("*-segmentation")):
        split = check("split", split, splits, DatasetError)
    photographs, truth = root / split, root / f"{split}-segmentation"
    for place in (photographs, truth):
        if not place.is_dir():
            raise DatasetError(f"{place}: no such folder; expected ImageNet-S's {split} and {split}-segmentation")
    known = dict(zip(imagenet_ids(), imagenet_labels(), strict=True))
    present = sorted(path.name for path in photographs.iterdir() if path.is_dir())
    if unknown := [name for name in present if name not in known]:
        raise DatasetError(f"{photographs}: expected folders named as ImageNet's classes, got {unknown[0]!r}")
    labels = {number: known[name] for number, name in enumerate(present, start=1)}
    files = {path.with_suffix("").as_posix() for path in walk(truth, "root") if path.suffix == ".png"}
    paths = {
        name: photographs / path
        for path in walk(photographs, "root")
        if path.suffix.lower() in SUFFIXES and (name := path.with_suffix("").as_posix()) in files
    }
    if missing := sorted(files - set(paths)):
        raise DatasetError(f"{photographs}: no photograph for the mask {missing[0]}.png")
    load = partial(_imagenet_s_sample, truth=truth, labels=labels, paths=paths)
    return Dataset(f"{root.name}, {split}", tuple(labels.values()), tuple(paths), load)


def _imagenet_s_sample(name: str, truth: Path, labels: Mapping[int, str], paths: Mapping[str, Path]) -> Sample:
    photograph = read_photograph(name, paths[name])
    rgb = read_values(name, truth / f"{name}.png", photograph.shape[:2], channels=3)
    values = rgb[..., 0].astype(np.int64) + 256 * rgb[..., 1].astype(np.int64)
    return Sample(name, photograph, masks_of(name, values, labels, {1000}), values == 1000)


def imagenet_segmentation(path: str | Path) -> Dataset:
    """ImageNet-Segmentation (Guillaumin et al. 2014): 4,276 photographs in ``gtsegs_ijcv.mat``, one object each.

    The file holds MATLAB's arrays, so the axes are reversed. It does not name the classes.

    Raises:
        DatasetError: h5py is not installed, or the file is missing or in another layout.
    """
    path = Path(path)
    with _hdf5(path) as file:
        try:
            count = len(file["value/img"])
            if file["value/gt"].shape[0] != count:
                raise KeyError("value/gt")
        except (KeyError, TypeError, AttributeError) as error:
            raise DatasetError(
                f"{path}: expected value/img and value/gt of one length, as in gtsegs_ijcv.mat"
            ) from error
    names = tuple(str(number) for number in range(count))
    return Dataset("ImageNet-Segmentation", None, names, partial(_imagenet_segmentation_sample, path=path))


def _imagenet_segmentation_sample(name: str, path: Path) -> Sample:
    try:
        with _hdf5(path) as file:
            pixels = np.array(file[file["value/img"][int(name), 0]])
            truth = np.array(file[file[file["value/gt"][int(name), 0]][0, 0]])
    except (KeyError, ValueError, TypeError, IndexError, OSError) as error:
        raise DatasetError(f"{path}: sample {name} cannot be read: {error}") from error
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or truth.ndim != 2:
        raise DatasetError(
            f"{path}: sample {name}: expected a uint8 photograph and a mask of two axes, "
            f"got {pixels.dtype} {pixels.shape} and {truth.dtype} {truth.shape}"
        )
    photograph = np.ascontiguousarray(pixels.transpose(2, 1, 0))
    mask = np.ascontiguousarray(truth.T != 0)
    masks = {OBJECT: mask} if mask.any() else {}
    return Sample(name, photograph, masks, np.zeros(photograph.shape[:2], dtype=bool))


def _hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise DatasetError(
            "ImageNet-Segmentation is an HDF5 file: install h5py, for example with pip install 'gradcut[imagenet-seg]'"
        ) from None
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path}: not an HDF5 file") from error
