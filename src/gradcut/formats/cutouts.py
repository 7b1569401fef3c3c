"""Cut-outs for designers: every object on a transparent ground, with soft edges."""

from __future__ import annotations

from pathlib import Path

from gradcut import images, pictures
from gradcut.formats.piles import Pile
from gradcut.names import filenames


def write_cutouts(pile: Pile, folder: Path) -> Path:
    """``NAME/CLASS.png`` for each object that has a pixel: RGBA, of the photograph's size."""
    for photograph in pile.photographs:
        stems = filenames([item.label for item in photograph.objects])
        image = photograph.image() if photograph.objects else None
        for item, stem in zip(photograph.objects, stems, strict=True):
            if image is not None and (mask := item.mask()).any():
                cut = pictures.soft_cut_out(image, mask)
                images.write_png(folder / pile.flat[photograph.name] / f"{stem}.png", cut)
    return folder
