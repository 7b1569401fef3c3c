"""Opens a dataset by the name of its layout: what the command line and a file of scores know it by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gradcut import catalogue
from gradcut.datasets.coco import coco
from gradcut.datasets.folder import folder
from gradcut.datasets.imagenet import imagenet_s, imagenet_segmentation
from gradcut.datasets.pets import pets
from gradcut.datasets.sample import Dataset
from gradcut.datasets.voc import voc
from gradcut.errors import DatasetError


class Layout(NamedTuple):
    """How a dataset is opened, the options that this needs, and those that it takes beside them."""

    open: Callable[..., Dataset]
    needs: tuple[str, ...]
    takes: tuple[str, ...] = ()


def _plain(
    images: str | Path,
    masks: str | Path | None = None,
    label: str | None = None,
    classes: str | Path | None = None,
    value_range: Sequence[float] | None = None,
) -> Dataset:
    """`folder` with one name, or with the lines of a text file as names."""
    if label is not None and classes is not None:
        raise DatasetError("folder: label and classes exclude each other")
    if classes is None:
        return folder(images, masks, label, value_range)
    try:
        lines = Path(classes).read_text(encoding="utf-8").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"classes: {classes} cannot be read: {error}") from error
    names = [line.strip() for line in lines]
    if "" in names:  # left out, it would move the names behind it to other values
        raise DatasetError(
            f"classes: {classes}: expected a name in every line, line i for the value i, got none in line "
            f"{names.index('') + 1}"
        )
    return folder(images, masks, names, value_range)


LAYOUTS: Mapping[str, Layout] = {
    "coco": Layout(
        lambda images, annotations, value_range=None, boxes=False: coco(images, annotations, value_range, boxes),
        ("images", "annotations"), ("value_range", "boxes"),
    ),
    "voc": Layout(voc, ("root",), ("split", "names")),
    "imagenet-s": Layout(imagenet_s, ("root",), ("split",)),
    "imagenet-seg": Layout(lambda root: imagenet_segmentation(root), ("root",)),
    "pets": Layout(pets, ("root",), ("split", "names")),
    "folder": Layout(_plain, ("images",), ("masks", "label", "classes", "value_range")),
}  # fmt: skip


def open_dataset(kind: str, **options: str | Path | Sequence[float] | bool) -> Dataset:
    """The dataset of that layout, with the options that ``gradcut evaluate`` has.

    Args:
        kind: coco, voc, imagenet-s, imagenet-seg, pets or folder.
        options: coco: images, annotations; voc, pets: root, split, names; imagenet-s: root, split; imagenet-seg: root,
            the file; folder: images, masks, and label or classes, a text file with a name a line; coco, folder:
            value_range, two numbers, as for `gradcut.images.read`; coco: boxes.

    Raises:
        DatasetError: another kind, an option that is missing or out of place, or files that are not in this layout.
    """
    kind = catalogue.check("dataset", kind, LAYOUTS, DatasetError)
    layout = LAYOUTS[kind]
    if missing := [name for name in layout.needs if name not in options]:
        raise DatasetError(f"{kind}: needs {' and '.join(missing)}")
    if beside := [name for name in options if name not in (*layout.needs, *layout.takes)]:
        raise DatasetError(f"{kind}: has no use for {' and '.join(beside)}")
    return layout.open(**options)
