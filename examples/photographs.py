"""Photographs with true masks for the examples that need them: four that ship with scikit-image, or COCO's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import skimage
from PIL import Image, ImageDraw

from gradcut import images
from gradcut.datasets import Dataset, Sample, coco

FOLDER = Path(skimage.__file__).parent / "data"

#: File, class, and its outline (x, y), drawn by hand to a few pixels.
OUTLINES = {
    "chelsea.png": ("cat", [
        (40, 0), (35, 90), (20, 150), (0, 200), (0, 299), (300, 299), (330, 240), (345, 190), (362, 130), (352, 72),
        (392, 20), (396, 0),
    ]),
    "coffee.png": ("cup", [
        (173, 110), (180, 70), (210, 38), (250, 22), (300, 18), (350, 30), (390, 65), (407, 105), (400, 140),
        (390, 180), (380, 210), (350, 245), (325, 262), (300, 285), (250, 283), (240, 300), (205, 308), (197, 280),
        (205, 250), (195, 220), (180, 160),
    ]),
    "astronaut.png": ("person", [
        (155, 90), (165, 40), (200, 18), (245, 18), (285, 45), (300, 90), (285, 125), (262, 140), (258, 175),
        (290, 205), (303, 240), (340, 265), (358, 300), (362, 345), (310, 375), (285, 415), (278, 470), (285, 511),
        (30, 511), (22, 420), (30, 340), (55, 260), (110, 235), (115, 190), (140, 160), (185, 150), (178, 120),
    ]),
    "motorcycle_left.png": ("motorcycle", [
        (95, 205), (140, 150), (165, 160), (230, 165), (260, 190), (330, 190), (360, 165), (335, 125), (420, 120),
        (470, 120), (500, 105), (545, 120), (580, 120), (560, 180), (540, 200), (560, 260), (610, 270), (640, 310),
        (680, 370), (675, 430), (640, 450), (580, 430), (535, 370), (510, 320), (480, 330), (470, 370), (420, 382),
        (340, 378), (345, 430), (325, 432), (325, 375), (280, 365), (250, 385), (200, 400), (150, 370), (122, 310),
        (130, 260), (110, 240),
    ]),
}  # fmt: skip


def samples(arguments: Sequence[str]) -> Dataset | list[Sample]:
    """COCO's photographs from the two arguments, a folder and its ``instances_*.json``; without them scikit-image's."""
    if arguments:
        folder, annotations = arguments
        return coco(folder, annotations)
    return [outlined(name) for name in OUTLINES]


def outlined(name: str) -> Sample:
    label, outline = OUTLINES[name]
    photograph = images.read(FOLDER / name)
    height, width = photograph.shape[:2]
    mask = Image.new("1", (width, height))
    ImageDraw.Draw(mask).polygon(outline, fill=1)
    return Sample(name, photograph, {label: np.array(mask)}, ignore=np.zeros((height, width), dtype=bool))
