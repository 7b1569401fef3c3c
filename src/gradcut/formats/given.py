"""Masks that somebody has as PNG files, with the photographs that they are of: exported as a run's are."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer, Shaped

from gradcut import files, images
from gradcut.errors import GradcutError
from gradcut.formats.piles import AnnotatedObject, AnnotatedPhotograph, Pile
from gradcut.formats.tables import Table, classes_of, is_background, is_void, read_table

#: How a folder of masks may be laid out: from a file's path without its ending the photograph's name and the class,
#: which is empty where the file has several.
LAYOUTS: Mapping[str, Callable[[str], tuple[str, str]]] = {
    "NAME.png": lambda path: (path, ""),
    "NAME/CLASS.png": lambda path: (path.rpartition("/")[0], path.rpartition("/")[2]),
    "CLASS/NAME.png": lambda path: (path.partition("/")[2], path.partition("/")[0]),
}

#: The file of classes that is looked for in a folder of class maps.
TABLES = ("labels.json", "labelmap.txt", "labels.txt")


def paired(folder: Path, names: Collection[str]) -> dict[str, dict[str, Path]]:
    """By photograph's name its mask files, by class; a file that has several classes is under an empty one.

    Args:
        folder: searched for PNG files, which all have one of `LAYOUTS`.
        names: of the photographs.

    Raises:
        GradcutError: no PNG files, or one that belongs to no photograph.
    """
    found = {
        path.with_suffix("").as_posix(): folder / path
        for path in files.walk(folder, "masks")
        if path.suffix.lower() == ".png" and not any(part.startswith(".") for part in path.parts)
    }
    if not found:
        raise GradcutError(f"masks: no PNG files in {folder}")
    known = set(names)
    strangers = {
        layout: [path for stem, path in found.items() if split(stem)[0] not in known]
        for layout, split in LAYOUTS.items()
    }
    layout = min(strangers, key=lambda layout: len(strangers[layout]))
    if strangers[layout]:
        raise GradcutError(
            f"masks: {strangers[layout][0]} belongs to no photograph; expected {', '.join(LAYOUTS)} for NAME such as "
            f"{min(known, default='none')!r}"
        )
    by_name: dict[str, dict[str, Path]] = {}
    for stem, path in found.items():
        name, label = LAYOUTS[layout](stem)
        if label in by_name.setdefault(name, {}):
            raise GradcutError(f"masks: {path} and {by_name[name][label]} are the same mask twice")
        by_name[name][label] = path
    return by_name


def photographs_of(photographs: str | os.PathLike[str]) -> dict[str, str]:
    """By name the paths of photographs, as `gradcut.files.find` has them.

    Raises:
        GradcutError: there are none, or no such folder.
    """
    found, problems = files.find([photographs])
    problems += [f"{path}: no such file or folder" for path, _ in found if files.is_missing(path)]
    # A folder is among photographs where it may not be looked into.
    problems += [f"{path}: cannot be read: permission denied" for path, _ in found if os.path.isdir(path)]  # noqa: PTH112
    if problems:
        raise GradcutError(f"photographs: {'; '.join(problems)}")
    return {name: str(path) for path, name in found}


def binary(path: Path, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """A mask's file: where it is not 0.

    Raises:
        GradcutError: another size, colours, or several values that are not 0.
    """
    values = values_of(path, size)
    if values.ndim == 3:
        if values.shape[2] in (2, 4):
            if (values[..., -1] != values[..., -1].max()).any():
                raise GradcutError(f"masks: {path}: expected black and white, got transparency")
            values = values[..., :-1]
        if (values != values[..., :1]).any():
            raise GradcutError(f"masks: {path}: expected one class, black and white, got colours")
        values = values[..., 0]
    inside: np.ndarray = values != 0
    if len(several := np.unique(values[inside])) > 1:
        raise GradcutError(f"masks: {path}: expected one class, got {len(several)} values beside 0")
    return inside


def values_of(path: Path, size: tuple[int, int]) -> Shaped[np.ndarray, "H W *c"]:
    values = images.read_values(path)
    if values.shape[:2] != size:
        came, expected = (f"{width} x {height}" for height, width in (values.shape[:2], size))
        raise GradcutError(f"masks: {path}: expected the photograph's {expected} pixels, got {came}")
    return values


def _numbers(path: Path, size: tuple[int, int], table: Table, index: Mapping[str, int]) -> Integer[np.ndarray, "H W"]:
    """A class map in a pile's numbers: 0 is background, i + 1 class i, the greatest of its type void."""
    stored = values_of(path, size)
    if isinstance(next(iter(table)), tuple):
        values: Any = images.read(path)
        present: list[Any] = [tuple(colour) for colour in np.unique(values.reshape(-1, 3), axis=0).tolist()]
    elif stored.ndim == 2:
        values = stored.astype(np.int64)[..., None]
        present = np.unique(values).tolist()
    else:
        raise GradcutError(f"masks: {path}: expected numbers of classes, got colours, whose classes a labelmap.txt has")
    void = 255 if stored.dtype.itemsize == 1 else 65535
    named: Mapping[Any, str] = {0: "background", (0, 0, 0): "background", void: "void", **table}
    pixels = np.zeros(size, dtype=np.uint8 if len(index) <= 254 else np.uint16)
    for value in present:
        if value not in named:
            raise GradcutError(f"masks: {path}: labels has no class for {value}")
        if is_void(named[value]):
            pixels[(values == value).all(2)] = np.iinfo(pixels.dtype).max
        elif not is_background(named[value]):
            pixels[(values == value).all(2)] = index[named[value]] + 1
    return pixels


def mask_pile(
    masks: str | os.PathLike[str], photographs: str | os.PathLike[str], labels: str | None = None
) -> tuple[Pile, list[str]]:
    """Masks as PNG files, as what every format is written from, and the names of photographs without any.

    A mask's file is called as its photograph is, below their folders. ``NAME.png`` is a class map: what its numbers or
    colours mean says ``labels``; 0 is background, and 255 (of 16 bits 65535) void where it is no class.
    ``NAME/CLASS.png`` and ``CLASS/NAME.png`` are one class's mask each, 0 outside; where such masks overlap, a format
    with one class a pixel, and ``disjoint``, gives the pixel to the smaller mask. All files of a folder have one
    layout.

    Args:
        masks: the folder.
        photographs: their folder, file, pattern or address, as for `gradcut.files.find`.
        labels: as for `read_table`; by default one of `TABLES` in the folder of masks. For masks of one class it says
            their order, and is not needed.

    Raises:
        GradcutError: no masks or photographs, a mask that belongs to no photograph or does not fit it, or a class that
            ``labels`` does not have.
    """
    folder = Path(masks)
    if not folder.is_dir():
        raise GradcutError(f"masks: no such folder: {folder}")
    paths = photographs_of(photographs)
    by_name = paired(folder, paths)
    chosen = labels or next((str(folder / name) for name in TABLES if (folder / name).is_file()), None)
    present = {label for own in by_name.values() for label in own if label}
    if chosen is not None:
        table = read_table(chosen)
        classes = classes_of(table)
    elif present:
        table, classes = {}, tuple(sorted(present))
    else:
        raise GradcutError(
            f"labels: expected a file that says what the numbers in {next(iter(by_name.values()))['']} mean, by "
            f'default {folder}/{TABLES[0]}, such as {{"1": "cat"}}'
        )
    if unknown := sorted(present - {*classes}):
        raise GradcutError(f"labels: {chosen} has no class {unknown[0]!r}, of which there are masks")
    index = {label: number for number, label in enumerate(classes)}
    annotated, void = [], False
    for name in (name for name in paths if name in by_name):
        own, size = by_name[name], images.size_of(paths[name])
        if present:
            annotated.append(_of_masks(name, paths[name], size, own, index))
        else:
            classmap = partial(_numbers, own[""], size, table, index)
            values = classmap()
            void = void or bool((values == np.iinfo(values.dtype).max).any())
            annotated.append(_of_map(name, paths[name], size, classmap, values, classes))
    return Pile(classes, tuple(annotated), void), [name for name in paths if name not in by_name]


def _of_map(
    name: str, path: str, size: tuple[int, int], classmap: Callable[[], Integer[np.ndarray, "H W"]],
    values: Integer[np.ndarray, "H W"], classes: Sequence[str],
) -> AnnotatedPhotograph:  # fmt: skip
    objects = tuple(
        _object(classes[value - 1], value - 1, partial(_where, classmap, value))
        for value in np.unique(values).tolist()
        if value not in (0, np.iinfo(values.dtype).max)
    )
    return AnnotatedPhotograph(name, path, size, objects, classmap, partial(images.read, path))


def _of_masks(
    name: str, path: str, size: tuple[int, int], own: Mapping[str, Path], index: Mapping[str, int]
) -> AnnotatedPhotograph:
    areas = {label: int(binary(file, size).sum()) for label, file in own.items()}
    order = sorted((label for label in own if areas[label]), key=lambda label: -areas[label])
    classmap = partial(_painted, {label: own[label] for label in order}, size, index)
    objects = tuple(
        _object(label, index[label], partial(binary, own[label], size), partial(_where, classmap, index[label] + 1))
        for label in sorted(order, key=index.__getitem__)
    )
    return AnnotatedPhotograph(name, path, size, objects, classmap, partial(images.read, path))


def _painted(own: Mapping[str, Path], size: tuple[int, int], index: Mapping[str, int]) -> Integer[np.ndarray, "H W"]:
    """One class a pixel, from masks in the order of their painting, the smallest last."""
    pixels = np.zeros(size, dtype=np.uint8 if len(index) <= 254 else np.uint16)
    for label, file in own.items():
        pixels[binary(file, size)] = index[label] + 1
    return pixels


def _where(classmap: Callable[[], Any], value: int) -> Bool[np.ndarray, "H W"]:
    inside: np.ndarray = classmap() == value
    return inside


def _object(label: str, index: int, mask: Callable[[], Any], own: Callable[[], Any] | None = None) -> AnnotatedObject:
    return AnnotatedObject(label, index, None, None, mask, own or mask)
