"""Results in the formats of other tools: COCO, YOLO, Pascal VOC, Label Studio, LabelMe, CVAT, FiftyOne, supervision.

`write` turns a finished run into one of them; `pile` does the same for results in memory. A photograph at a time is
in memory, whatever the run's length.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gradcut import catalogue, files
from gradcut.errors import GradcutError
from gradcut.formats.coco import write_coco, write_coco_results
from gradcut.formats.cutouts import write_cutouts
from gradcut.formats.cvat import write_cvat
from gradcut.formats.fiftyone import write_fiftyone
from gradcut.formats.given import mask_pile
from gradcut.formats.label_studio import brush_rle, write_label_studio
from gradcut.formats.labelme import write_labelme
from gradcut.formats.piles import AnnotatedObject, AnnotatedPhotograph, Pile, run_pile
from gradcut.formats.voc import write_voc
from gradcut.formats.yolo import write_yolo

if TYPE_CHECKING:
    from gradcut.formats.memory import pile
    from gradcut.formats.supervision import detections

__all__ = [
    "FORMATS", "AnnotatedObject", "AnnotatedPhotograph", "Format", "Pile", "brush_rle", "check", "detections",
    "mask_pile", "pile", "run_pile", "write",
]  # fmt: skip


_HOMES = {"detections": "supervision", "pile": "memory"}


def __getattr__(name: str) -> Any:
    """Import on first use what needs torch: a finished run is exported without it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gradcut.formats' has no attribute {name!r}")
    return getattr(import_module(f"gradcut.formats.{_HOMES[name]}"), name)


@dataclass(frozen=True)
class Format:
    """How results are written for a tool.

    Args:
        write: called as ``write(pile, folder)``, or, where outlines are known, as ``write(pile, folder, tolerance)``,
            with None for exact masks. Returns the file or folder to open with the tool.
        outlines: whether masks become polygons.
        names_files: whether photographs are named only, and brought where their own files would not do.
    """

    write: Callable[..., Path]
    outlines: Literal["never", "optional", "always"] = "never"
    names_files: bool = False


FORMATS: Mapping[str, Format] = {
    "coco": Format(write_coco, "optional", names_files=True),
    "coco-results": Format(write_coco_results),
    "yolo": Format(write_yolo, "always"),
    "voc": Format(write_voc),
    "label-studio": Format(write_label_studio, "optional", names_files=True),
    "labelme": Format(write_labelme, "optional"),
    "cvat": Format(write_cvat, names_files=True),
    "fiftyone": Format(write_fiftyone, "optional"),
    "cutouts": Format(write_cutouts),
}


def check(name: str, polygons: bool = False, tolerance: float = 0) -> str:
    """The format's name; GradcutError unless there is one, and it has a use for the options."""
    name = catalogue.check("format", name, FORMATS)
    outlines = FORMATS[name].outlines
    if polygons and outlines == "never":
        raise GradcutError(f"polygons: {name} has no outlines")
    if tolerance and not (outlines == "always" or (polygons and outlines == "optional")):
        raise GradcutError(f"tolerance: it is for outlines, and {name} has none here")
    return name


def write(
    what: str | os.PathLike[str] | Pile,
    folder: str | os.PathLike[str],
    name: str,
    *,
    polygons: bool = False,
    tolerance: float = 0,
    minimum: float = 0,
    disjoint: bool = False,
    uncorrected: bool = False,
) -> Path:
    """Write a run (its folder) or a `Pile` into ``folder`` in the format of that name.

    What a person has corrected in a run takes the place of what the run found, as `run_pile` says.

    Args:
        polygons: outlines instead of exact masks, where a format knows both.
        tolerance: of outlines, in pixels, as in `gradcut.formats.outlines.outlines`.
        minimum: the least confidence of an object, from 0 to 1.
        disjoint: masks share no pixel: one that several hold goes to the object that has it in the label map. What an
            object that ``minimum`` leaves out has there is nobody's.
        uncorrected: of a run, what it found, as if there were no corrections.

    Returns:
        The file or folder to open with the tool.

    Warns:
        UserWarning: photographs that are left out because their corrections cannot be used; objects that are left out
            because their saliency is blank; and, where the format would only name
            the photographs' files, that ``images/`` has them because EXIF turns some, or some
            are in shards.

    Raises:
        GradcutError: no such format, an option that it has no use for, a folder that cannot be written, or a least
            confidence where objects have none.
    """
    name = check(name, polygons, tolerance)
    if files.is_url(folder):
        raise GradcutError(f"output: expected a folder on this machine for {name}, got {folder}")
    folder = Path(folder)
    if uncorrected and isinstance(what, Pile):
        raise GradcutError("uncorrected: it is for a run's folder; run_pile(folder, uncorrected=True) makes a Pile")
    photographs = what if isinstance(what, Pile) else run_pile(what, uncorrected)
    chosen = FORMATS[name]
    for problem in photographs.problems:
        warnings.warn(f"{name}: left out: {problem}", stacklevel=2)
    if photographs.blank:
        objects = "object is" if photographs.blank == 1 else "objects are"
        warnings.warn(f"{name}: {photographs.blank} {objects} left out, the saliency being blank", stacklevel=2)
    if chosen.names_files and photographs.turned:
        warnings.warn(
            f"{name}: {photographs.turned} of the photographs have an EXIF orientation, which not every reader heeds; "
            f"use {folder / 'images'}, where all of them are upright as the masks are",
            stacklevel=2,
        )
    if chosen.names_files and photographs.packed:
        warnings.warn(
            f"{name}: {photographs.packed} of the photographs are in shards, which no tool opens; use "
            f"{folder / 'images'}, where all of them are",
            stacklevel=2,
        )
    if minimum:
        photographs = photographs.surer_than(minimum)
    if disjoint:
        photographs = photographs.without_overlaps()
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if chosen.outlines == "never":
            return chosen.write(photographs, folder)
        return chosen.write(photographs, folder, tolerance if polygons or chosen.outlines == "always" else None)
