"""Pascal VOC: a pixel is its class's number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from gradcut import images, pictures
from gradcut.errors import GradcutError
from gradcut.formats.piles import AnnotatedPhotograph, Pile, bring, write_text
from gradcut.names import distinct, printable


def _numbers(pile: Pile) -> dict[int, int]:
    """The pixel value of each class: its own number plus 1, or, of more than 254 classes, one for each in use."""
    if len(pile.classes) <= 254:
        return {index: index + 1 for index in range(len(pile.classes))}
    used = sorted({item.index for photograph in pile.photographs for item in photograph.objects})
    if len(used) > 254:
        raise GradcutError(f"format: voc and cvat hold 254 classes at most, and {len(used)} were found")
    return {index: number for number, index in enumerate(used, start=1)}


def _class_pixels(photograph: AnnotatedPhotograph, numbers: Mapping[int, int]) -> UInt8[np.ndarray, "H W"]:
    values = photograph.classmap()
    table = np.zeros(np.iinfo(values.dtype).max + 1, dtype=np.uint8)
    for index, number in numbers.items():
        table[index + 1] = number
    table[-1] = 255
    pixels: np.ndarray = table[values]
    return pixels


def _object_pixels(photograph: AnnotatedPhotograph) -> UInt8[np.ndarray, "H W"]:
    """1, 2, 3 ... for the objects in order, where the class map has their class; void as there."""
    values = photograph.classmap()
    pixels = np.zeros(photograph.size, dtype=np.uint8)
    for number, item in enumerate(photograph.objects, start=1):
        pixels[values == item.index + 1] = number
    pixels[values == np.iinfo(values.dtype).max] = 255
    return pixels


def voc_files(pile: Pile, folder: Path, subset: str) -> None:
    numbers = _numbers(pile)
    for photograph in pile.photographs:
        flat = pile.flat[photograph.name]
        images.write_png(
            folder / f"SegmentationClass/{flat}.png", _class_pixels(photograph, numbers), pictures.palette()
        )
        images.write_png(folder / f"SegmentationObject/{flat}.png", _object_pixels(photograph), pictures.palette())
    write_text(
        folder / f"ImageSets/Segmentation/{subset}.txt",
        "".join(f"{pile.flat[photograph.name]}\n" for photograph in pile.photographs),
    )
    colours = pictures.palette()
    named = {0: "background"} | ({255: "void"} if pile.void else {})
    named |= {number: _listed(pile.classes[index]) for index, number in numbers.items()}
    # A class that is called as what is none, or as another one once it can be listed, gets a number.
    different = distinct(list(named.values()), key=str)
    rows = [f"{label}:{','.join(map(str, colours[n]))}::\n" for n, label in zip(named, different, strict=True)]
    write_text(folder / "labelmap.txt", "# label:color_rgb:parts:actions\n" + "".join(rows))


def _listed(label: str) -> str:
    """A class's name as a line of ``labelmap.txt`` can hold it: no colon, no end of a line, no # or space first."""
    name = printable(label).replace(":", "_").strip()
    return f"_{name}" if name.startswith("#") else name


def write_voc(pile: Pile, folder: Path) -> Path:
    """A Pascal VOC folder: a pixel is its class's number, 255 is void; ``labelmap.txt`` names the numbers' colours."""
    bring(pile, folder / "JPEGImages")
    voc_files(pile, folder, "train")
    return folder
