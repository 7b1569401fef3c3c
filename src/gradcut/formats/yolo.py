"""YOLO: outlines in a text file a photograph."""

from __future__ import annotations

from pathlib import Path

from gradcut.formats import outlines
from gradcut.formats.piles import Pile, bring, write_text


def write_yolo(pile: Pile, folder: Path, tolerance: float | None) -> Path:
    """``images/``, ``labels/`` and ``data.yaml`` as Ultralytics has them: a line is a part of an object.

    The points lie in the outermost pixels, so that the mask comes back when they are made whole and the polygon is
    filled with its border, as Ultralytics and supervision do.
    """
    bring(pile, folder / "images")
    for photograph in pile.photographs:
        height, width = photograph.size
        lines = []
        for item in photograph.objects:
            for polygon in outlines.outlines(item.mask(), tolerance or 0, centres=True):
                points = (polygon / (width, height)).ravel()
                lines.append(f"{item.index} " + " ".join(f"{value:.6f}" for value in points))
        write_text(folder / "labels" / f"{pile.flat[photograph.name]}.txt", "".join(line + "\n" for line in lines))
    names = "".join(f"  {number}: {_quoted(label)}\n" for number, label in enumerate(pile.classes))
    text = f"path: {_quoted(str(folder.resolve()))}\ntrain: images\nval: images\nnames:\n{names}"
    return write_text(folder / "data.yaml", text)


def _quoted(text: str) -> str:
    """A string in YAML, between double quotes; what is not printable by its number."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"
