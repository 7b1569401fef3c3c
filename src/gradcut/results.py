"""What was found in a photograph, and how it is kept: every file is written under a temporary name and renamed."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer
from PIL import Image, ImageShow

from gradcut import confidence, files, images, overlaps, pictures
from gradcut.classifiers.classifier import Classifier, Detection
from gradcut.compact import stacked
from gradcut.errors import GradcutError, LabelError
from gradcut.files import Folder
from gradcut.images import Photograph
from gradcut.names import filenames
from gradcut.objects import Object as Object
from gradcut.pictures import Picture, cut_out, palette
from gradcut.prompts import prompts
from gradcut.recipes import Recipe, blank_advice
from gradcut.records import versions


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What was found in one photograph.

    Attributes:
        image: the photograph.
        objects: best score first; empty when no class reached the threshold.
        best: the classes with the highest scores, whether or not they reached the threshold.
        classifier, recipe: what was asked, and how.
        source: the photograph's path; empty for one that was given as pixels.
        seconds: time of each step for this photograph; a step shared by a batch counts its share.
        dropped: objects that were left out: by `without_borrowed` those that have ``borrowed_from``, others by
            `confident`.
        disjoint: whether `without_overlaps` made the masks.
    """

    image: Photograph = field(repr=False)
    objects: tuple[Object, ...]
    best: tuple[Detection, ...] = field(repr=False)
    classifier: Classifier
    recipe: Recipe
    seconds: Mapping[str, float] = field(repr=False)
    source: str = ""
    dropped: tuple[Object, ...] = field(default=(), repr=False)
    disjoint: bool = False

    def __len__(self) -> int:
        """How many objects were found."""
        return len(self.objects)

    def __iter__(self) -> Iterator[Object]:
        """The objects, best score first."""
        return iter(self.objects)

    def __bool__(self) -> bool:
        """A result is one, also where nothing was found."""
        return True

    def __getitem__(self, label: str) -> Object:
        """The object of that label; where none is spelt so, whatever its case.

        Raises:
            LabelError: there is none; the message lists those that there are.
        """
        for same in (str, str.casefold):
            for item in self.objects:
                if isinstance(label, str) and same(item.label) == same(label):
                    return item
        labels = ", ".join(repr(item.label) for item in self.objects) or "nothing"
        raise LabelError(f"label: expected one of those found, {labels}, got {label!r}")

    def confident(self, least: float) -> Segmentation:
        """Without the objects of a confidence below ``least``, in [0, 1]: they are in ``dropped``, not in any map.

        Raises:
            GradcutError: not a number from 0 to 1, or an object that has no confidence.
        """
        confidence.check_confidence("least", least)
        values = {item.label: item.confidence for item in self.objects}
        if unknown := [label for label, value in values.items() if value is None]:
            raise GradcutError(
                f"least: expected a confidence for every object, {unknown[0]!r} has none; "
                f"{confidence.CONFIDENT} give confidences"
            )
        below = [item for item in self.objects if (item.confidence or 0.0) < least]
        return self._leave_out(below, [item.changed(borrowed_from=None) for item in below])

    def without_borrowed(self) -> Segmentation:
        """Without the objects that have ``borrowed_from``: they are in ``dropped``, not in any map."""
        borrowed = [item for item in self.objects if item.borrowed_from is not None]
        return self._leave_out(borrowed, borrowed)

    def _leave_out(self, left: Sequence[Object], dropped: Sequence[Object]) -> Segmentation:
        kept = tuple(item for item in self.objects if item not in left)
        return replace(self, objects=kept, dropped=(*self.dropped, *dropped))

    def without_overlaps(self) -> Segmentation:
        """With masks that share no pixel: each keeps those that are its own in `labelmap`, which does not change.

        Boxes and areas follow the masks; scores, saliency, seeds and confidences stay. A mask that has no pixel of its
        own is empty.
        """
        numbered = enumerate(self.objects, start=1)
        objects = tuple(item.changed(mask=self.labelmap() == number) for number, item in numbered)
        return replace(self, objects=objects, disjoint=True)

    @property
    def masks(self) -> Bool[np.ndarray, "n H W"]:
        """The masks of the objects, in their order."""
        return stacked([item.compact for item in self.objects], self.image.shape[:2])

    @cached_property
    def mask(self) -> Bool[np.ndarray, "H W"]:
        """The union of all the objects' masks."""
        union = np.zeros(self.image.shape[:2], dtype=bool)
        for item in self.objects:
            union |= item.mask
        return union

    def labelmap(self) -> Integer[np.ndarray, "H W"]:
        """The joint labelling: 0 is background, i + 1 the i-th object; read-only.

        Where masks overlap, the pixel goes to the class with the higher saliency, relative to its own maximum.
        """
        return self._labelmap

    @cached_property
    def _labelmap(self) -> Integer[np.ndarray, "H W"]:
        maps, masks = [item.saliency for item in self.objects], [item.compact for item in self.objects]
        labels = overlaps.joint_labels(masks, maps, self.image.shape[:2])
        labels.setflags(write=False)
        return labels

    @property
    def confidence(self) -> float | None:
        """The mean of the objects' confidences; None where nothing was found, or where they have none."""
        known = [item.confidence for item in self.objects if item.confidence is not None]
        return float(np.mean(known)) if known else None

    @property
    def state(self) -> str:
        """``"done"``; ``"empty"`` where no class was found, ``"blank"`` where none of those found has a mask.

        See `Object.blank`.
        """
        if not self.objects:
            return "empty"
        return "blank" if all(item.blank for item in self.objects) else "done"

    @property
    def advice(self) -> str | None:
        """Which classes have no mask because their saliency is blank, and what else to try; None where none is so."""
        blank = [item.label for item in (*self.objects, *self.dropped) if item.blank]
        return blank_advice(blank, self.recipe) if blank else None

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each class that has another's pixels: whose, and whether it is left out."""
        ends = ((self.objects, ""), (self.dropped, "; left out"))
        return tuple(
            f"{item.label}: {overlaps.note(item.borrowed_from)}{end}"
            for items, end in ends
            for item in items
            if item.borrowed_from is not None
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """The classifier's labels, and after them the groups of classes that were asked for, in order."""
        own = set(self.classifier.labels)
        return (*self.classifier.labels, *(item.label for item in self.objects if item.label not in own))

    def number(self, item: Object) -> int:
        """Where an object's class stands in `classes`."""
        return self.classes.index(item.label)

    def classmap(self, void: tuple[float, float] | None = None) -> Integer[np.ndarray, "H W"]:
        """The joint labelling in numbers that mean the same in every photograph: 0 is background, i + 1 class i.

        Classes are numbered as in `classes`. uint8 and 255 for void where there are at most 254 of them, otherwise
        uint16 and 65535.

        Args:
            void: ``(low, high)``; a pixel that more than ``low`` and less than ``high`` of the masks from changed
                seeds hold, as `gradcut.confidence.support` makes them, is void.

        Raises:
            GradcutError: not ``0 <= low < high <= 1``, or more than 65,534 classes.
        """
        classes = len(self.classes)
        if classes > 65534:
            raise GradcutError(f"classmap: expected at most 65534 classes, got {classes}")
        kind = np.uint8 if classes <= 254 else np.uint16
        numbers = np.array([0, *(self.number(found) + 1 for found in self.objects)], dtype=kind)
        values: np.ndarray = numbers[self.labelmap()]
        if void is not None:
            low, high = checked_void(void)
            share = self.support().max(axis=0, initial=0)
            values[(share > low) & (share < high)] = np.iinfo(kind).max
        return values

    def support(self) -> Float[np.ndarray, "n H W"]:
        """In how many masks from changed seeds each object's pixels are, from 0 to 1."""
        found = self.objects
        if not found:
            return np.zeros((0, *self.image.shape[:2]), dtype=np.float32)
        size = self.image.shape[:2]
        saliency = np.stack([o.saliency for o in found])
        return confidence.support(
            self.image, saliency, [o.seeds for o in found], self.masks,
            lambda *steps: stacked(self.recipe.make_masks(*steps), size),
        )  # fmt: skip

    def overlay(self) -> Picture:
        """The photograph with the joint labelling in colours; objects that are unsure are hatched."""
        unsure = [value for value, item in enumerate(self.objects, start=1) if item.unsure]
        return pictures.overlay(self.image, self.labelmap(), unsure=unsure)

    def picture(self) -> Picture:
        """All classes in colour with a legend, and a row a class, as `gradcut.pictures.sheet` draws them.

        Where nothing was found it is the photograph.
        """
        rows = [
            pictures.Row(o.label, o.saliency, o.seeds, o.mask, o.score, o.confidence, o.unsure) for o in self.objects
        ]
        return pictures.sheet(self.image, self.labelmap(), rows, self.notes) if rows else self.image

    def show(self) -> None:
        """Show the result: in a notebook's cell, elsewhere as a picture in the system's viewer.

        Raises:
            GradcutError: there is no viewer.
        """
        shell = sys.modules.get("IPython")
        if shell is not None and hasattr(shell.get_ipython(), "kernel"):
            shell.display.display(self)
        elif not ImageShow.show(Image.fromarray(self.picture()), "gradcut"):
            raise GradcutError("show: no program that shows pictures was found; use result.save(folder)")

    def _repr_png_(self) -> bytes:
        return images.encode_png(self.picture())

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture, and a line for each object."""
        picture, pixels = base64.b64encode(self._repr_png_()).decode(), self.image.shape[0] * self.image.shape[1]
        lines = [
            f"{o.label}: score {o.score:.2f}, " + ("blank" if o.blank else f"{o.area / pixels:.0%} of the photograph")
            for o in self.objects
        ]
        if self.advice:
            lines.append(self.advice)
        lines += self.notes
        below = [item for item in self.dropped if item.borrowed_from is None]
        lines += [f"{o.label}: score {o.score:.2f}, confidence {o.confidence:.2f}, left out" for o in below]
        if not lines:
            best = ", ".join(f"{detection.label} {detection.score:.2f}" for detection in self.best)
            lines = [f"Nothing reaches the threshold; the best are {best}"]
        text = "<br>".join(map(html.escape, lines))
        return f'<img alt="" style="max-width: 100%" src="data:image/png;base64,{picture}"><p>{text}</p>'

    def save(
        self, folder: str | os.PathLike[str], name: str | None = None, cutouts: bool = False, maps: bool = False
    ) -> Mapping[str, Any]:
        """Write all of it below ``folder``, as `gradcut.results.save` says, and return the record.

        Args:
            folder: a path, or an address such as ``s3://bucket/folder``.
            name: what the files are called; by default as the photograph, or "photograph" for one given as pixels.
            cutouts: write every object cut out, with transparency, too.
            maps: write the saliency of every object, too.

        Raises:
            GradcutError: the folder cannot be written, or holds another photograph's results of that name.
        """
        name = name or (Path(self.source).stem if self.source else "photograph")
        earlier = Folder(os.fspath(folder)).read(f"results/{name}.json")
        if earlier is not None and not _is_of(self, earlier):
            raise GradcutError(
                f"name: results/{name}.json in {os.fspath(folder)} is another photograph's; choose another folder, or "
                "give a name"
            )
        return save(self, folder, name, cutouts=cutouts, maps=maps)


def _is_of(result: Segmentation, record: bytes) -> bool:
    """Whether a record in a file is of the same photograph."""
    with suppress(ValueError):
        document = json.loads(record)
        return isinstance(document, dict) and all(document.get(k) == v for k, v in _photograph(result).items())
    return False


def checked_void(void: tuple[float, float]) -> tuple[float, float]:
    """The bounds of unsure pixels, or GradcutError unless ``0 <= low < high <= 1``."""
    low, high = void
    if not 0 <= low < high <= 1:
        raise GradcutError(f"void: expected two shares, 0 <= LOW < HIGH <= 1, got {low} and {high}")
    return low, high


def save(
    result: Segmentation,
    folder: str | os.PathLike[str] | Folder,
    name: str,
    classmaps: bool = False,
    void: tuple[float, float] | None = None,
    pictures: bool = True,
    settings: Mapping[str, Any] | None = None,
    cutouts: bool = False,
    maps: bool = False,
) -> dict[str, Any]:
    """Write one photograph's results below ``folder`` and return the JSON document.

    ========================== =============================================================
    ``labelmaps/NAME.png``     indexed PNG: 0 background, then the objects in order
    ``classmaps/NAME.png``     `Segmentation.classmap`, whose numbers mean the same class in every photograph
    ``masks/NAME/LABEL.png``   each object's mask, 0 and 255
    ``cutouts/NAME/LABEL.png`` each object cut out: the photograph in RGBA, transparent outside the mask
    ``maps/NAME/LABEL.png``    each object's saliency, 16-bit grey, at the size that the classifier was shown
    ``pictures/NAME.png``      for a person: `Segmentation.picture`
    ``results/NAME.json``      the record, written last: where it stands, the rest is complete
    ========================== =============================================================

    Without objects only the record is written; it holds the best scores. An object whose saliency is blank has
    neither a mask's file nor a cut-out's; where all are, there are no label maps either. Files of an earlier result
    under the same name are removed first.

    Args:
        classmaps: write the class map too.
        void: bounds of the class map's unsure pixels.
        pictures: write the picture too.
        settings: as for `record`.
        cutouts: write the cut-outs too; the record's objects name them.
        maps: write the saliency too; the record's objects name the files as ``map``, and as ``map_maximum`` what 65535
            stands for: 0 is 0, and what is between is linear.

    Raises:
        OutputError: the folder cannot be written.
        GradcutError: a result that has no record, or no class map.
    """
    started = time.perf_counter()
    document = record(result, settings) | {"files": {}}
    contents: dict[str, bytes] = {}
    if result.state == "done":
        labelmap = images.encode_png(result.labelmap(), palette())
        document["files"]["labelmap"], contents[f"labelmaps/{name}.png"] = f"labelmaps/{name}.png", labelmap
        if classmaps:
            values = result.classmap(void)
            classmap = images.encode_png(values, palette() if values.dtype == np.uint8 else None)
            document["files"]["classmap"], contents[f"classmaps/{name}.png"] = f"classmaps/{name}.png", classmap
    if result.objects and pictures:
        picture = images.encode_png(result.picture())
        document["files"]["picture"], contents[f"pictures/{name}.png"] = f"pictures/{name}.png", picture
    stems = filenames([item.label for item in result.objects])
    for value, (item, entry, stem) in enumerate(zip(result.objects, document["objects"], stems, strict=True), start=1):
        kinds = {"mask": "masks", "cutout": "cutouts"} if cutouts else {"mask": "masks"}
        paths = {key: None if item.blank else f"{below}/{name}/{stem}.png" for key, below in kinds.items()}
        entry |= {"labelmap_value": value, **paths}
        if not item.blank:
            contents[entry["mask"]] = images.encode_png(item.mask)
        if maps:
            most = float(item.saliency.max())
            entry |= {"map": f"maps/{name}/{stem}.png", "map_maximum": most}
            contents[entry["map"]] = images.encode_png(np.rint(item.saliency / (most or 1) * 65535).astype(np.uint16))
        if cutouts and not item.blank:
            contents[entry["cutout"]] = images.encode_png(cut_out(result.image, item.mask))
    folder = folder if isinstance(folder, Folder) else Folder(os.fspath(folder))
    with files.writing(folder.url):
        files.remove_result(folder, name)
        for path, content in contents.items():
            folder.write(path, content)
        document["seconds"]["save"] = round(time.perf_counter() - started, 4)
        folder.write(f"results/{name}.json", files.encode_json(document, indent=1) + b"\n")
    return document


def record(result: Segmentation, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What was found and how, as JSON values: labels, scores, areas and boxes in pixels, settings, versions.

    ``state`` of the whole is `Segmentation.state`, that of an object ``"blank"`` or ``"done"``; where one is blank,
    ``advice`` says what else to try. ``disjoint`` is true for masks by `Segmentation.without_overlaps`. ``dropped`` has
    label, score and confidence of what was left out, if anything; ``borrowed_from``, there and in an object, is the
    class whose pixels it has. ``prompts`` of an object are what Segment Anything is asked with, as
    `gradcut.prompts.prompts` has them.

    Args:
        settings: ``recipe`` and ``classifier`` as their own ``record()`` has them, where many results share them.

    Raises:
        GradcutError: a recipe that cannot be recorded.
    """
    if settings is None:
        settings = {"recipe": result.recipe.record(), "classifier": result.classifier.record()}
    height, width = result.image.shape[:2]
    dropped = [
        {"label": item.label, "score": round(item.score, 6), "confidence": _rounded(item.confidence), **_borrowed(item)}
        for item in result.dropped
    ]
    return {
        **_photograph(result),
        "state": result.state,
        **({"advice": result.advice} if result.advice else {}),
        "width": width,
        "height": height,
        "confidence": _rounded(result.confidence),
        **({"disjoint": True} if result.disjoint else {}),
        "objects": [
            {
                "label": item.label,
                "state": "blank" if item.blank else "done",
                "index": result.number(item),
                "score": round(item.score, 6),
                "confidence": _rounded(item.confidence),
                "area": item.area,
                "box": item.box and list(item.box),
                "prompts": prompts(item.compact, item.saliency, item.seeds),
                **_borrowed(item),
            }
            for item in result.objects
        ],
        **({"dropped": dropped} if dropped else {}),
        "best_scores": {detection.label: round(detection.score, 6) for detection in result.best},
        "recipe": dict(settings["recipe"]),
        "classifier": dict(settings["classifier"]),
        "versions": versions(),
        "seconds": {step: round(seconds, 4) for step, seconds in result.seconds.items()},
    }


def _photograph(result: Segmentation) -> dict[str, str]:
    """Which photograph it is: its path, or a digest where it was given as pixels."""
    if result.source:
        return {"photograph": result.source}
    return {"photograph": "", "pixels_sha256": hashlib.sha256(result.image.tobytes()).hexdigest()}


def _borrowed(item: Object) -> dict[str, str]:
    return {} if item.borrowed_from is None else {"borrowed_from": item.borrowed_from}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
