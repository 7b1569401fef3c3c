"""Photographs with their objects, from a finished run or from results in memory: what every format is written from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from gradcut import files, images
from gradcut.errors import GradcutError
from gradcut.results import Segmentation, filenames
from gradcut.runs import run as runs


@dataclass(frozen=True, eq=False)
class AnnotatedObject:
    """An object with its mask, loaded when asked for. ``index`` is its class's number in `Pile.classes`."""

    label: str
    index: int
    score: float
    confidence: float | None
    mask: Callable[[], Bool[np.ndarray, "H W"]]


@dataclass(frozen=True, eq=False)
class AnnotatedPhotograph:
    """A photograph with its objects; ``path`` may be an address, ``size`` is height and width."""

    name: str
    path: str
    size: tuple[int, int]
    objects: tuple[AnnotatedObject, ...]
    classmap: Callable[[], Integer[np.ndarray, "H W"]]

    @property
    def flat(self) -> str:
        """The name without folders: most formats have none."""
        return self.name.replace("/", "__")

    @property
    def suffix(self) -> str:
        return Path(self.path).suffix or ".jpg"


@dataclass(frozen=True, eq=False)
class Pile:
    """Photographs with their objects, and the classifier's classes in order."""

    classes: tuple[str, ...]
    photographs: Iterable[AnnotatedPhotograph]
    void: bool = False

    def surer_than(self, minimum: float) -> Pile:
        """Without the objects below a confidence; the photographs are gone through when asked for.

        Raises:
            GradcutError: when an object without a confidence comes by.
        """
        return replace(self, photographs=_Surer(self.photographs, minimum))


@dataclass(frozen=True)
class _Surer:
    photographs: Iterable[AnnotatedPhotograph]
    minimum: float

    def __iter__(self) -> Iterator[AnnotatedPhotograph]:
        for photograph in self.photographs:
            doubtful = [item.index + 1 for item in photograph.objects if not self._sure(photograph, item)]
            objects = tuple(item for item in photograph.objects if self._sure(photograph, item))
            yield replace(photograph, objects=objects, classmap=partial(_without, photograph.classmap, doubtful))

    def _sure(self, photograph: AnnotatedPhotograph, item: AnnotatedObject) -> bool:
        if item.confidence is None:
            raise GradcutError(
                f"minimum: expected a confidence for every object, {item.label!r} in {photograph.name} has none; only "
                "the recipes default and fast have been fitted one"
            )
        return item.confidence >= self.minimum


def _without(classmap: Callable[[], Integer[np.ndarray, "H W"]], numbers: Sequence[int]) -> Integer[np.ndarray, "H W"]:
    values = classmap()
    return np.where(np.isin(values, numbers), 0, values).astype(values.dtype)


def _inside(values: Callable[[str], Any], path: str) -> Bool[np.ndarray, "H W"]:
    mask: np.ndarray = values(path) > 0
    return mask


@dataclass(frozen=True)
class _Run:
    """A finished run's photographs; they may be gone through more than once."""

    folder: str

    def __iter__(self) -> Iterator[AnnotatedPhotograph]:
        for line in runs.read_run(self.folder)[1]:
            if line["state"] != "failed":
                yield self._annotated(line)

    def _annotated(self, line: runs.Entry) -> AnnotatedPhotograph:
        size = line["height"], line["width"]

        def values(path: str | None) -> Any:
            return np.zeros(size, np.uint8) if path is None else images.read_values(f"{self.folder}/{path}")

        objects = tuple(
            AnnotatedObject(o["label"], o["index"], o["score"], o["confidence"], partial(_inside, values, o["mask"]))
            for o in line["objects"]
        )
        return AnnotatedPhotograph(
            line["name"], line["photograph"], size, objects, lambda: values(line["files"].get("classmap"))
        )


def run_pile(folder: str | os.PathLike[str]) -> Pile:
    """A finished run.

    Raises:
        RunError: the folder holds no run.
    """
    about, _ = runs.read_run(folder)
    return Pile(tuple(about["classes"]), _Run(os.fspath(folder)), about["settings"]["void"] is not None)


def pile(results: Sequence[Segmentation]) -> Pile:
    """Results in memory, all of one classifier. Photographs without a path are called ``photograph-1`` and so on.

    Raises:
        GradcutError: no results, or results of other classes than the first one's.
    """
    if not results:
        raise GradcutError("results: expected at least one, got none")
    classes = max((result.classes for result in results), key=len)
    if any(result.classes != classes[: len(result.classes)] for result in results):
        raise GradcutError("results: expected one classifier and the same groups of classes in all of them")
    names = filenames([Path(r.source).stem if r.source else f"photograph-{n}" for n, r in enumerate(results, start=1)])
    photographs = [
        AnnotatedPhotograph(
            name, result.source or f"{name}.jpg", result.image.shape[:2],
            tuple(
                AnnotatedObject(o.label, result.number(o), o.score, o.confidence, partial(getattr, o, "mask"))
                for o in result.objects
            ),
            result.classmap,
        )
        for name, result in zip(names, results, strict=True)
    ]  # fmt: skip
    return Pile(classes, photographs)


def bring(photograph: AnnotatedPhotograph, folder: Path) -> None:
    """The photograph under its flat name: a link where the file system has such, else a copy."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / (photograph.flat + photograph.suffix)
    target.unlink(missing_ok=True)
    if files.is_url(photograph.path):
        target.write_bytes(files.fetch(photograph.path).getbuffer())
        return
    source = Path(photograph.path).resolve()
    try:
        target.symlink_to(source)
    except (OSError, NotImplementedError):
        shutil.copyfile(source, target)


def write_text(path: Path, text: str) -> Path:
    """A text file, whole or not at all; its path."""
    with files.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_compact(path: Path, document: Any) -> Path:
    """A JSON document without line breaks, as tools want large ones; its path."""
    return write_text(path, json.dumps(document, ensure_ascii=False) + "\n")
