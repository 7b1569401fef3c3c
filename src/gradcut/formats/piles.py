"""Photographs with their objects, from a finished run or from results in memory: what every format is written from."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from io import BytesIO
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Bool, Integer

from gradcut import files, images, shards
from gradcut.confidence import CONFIDENT
from gradcut.errors import GradcutError, ImageError, RunError, one_line
from gradcut.formats.upright import is_turned, upright
from gradcut.images import Photograph
from gradcut.names import distinct, printable
from gradcut.ranges import Range, check_range
from gradcut.runs import corrections
from gradcut.runs import run as runs


@dataclass(frozen=True, eq=False)
class AnnotatedObject:
    """An object with its mask, loaded when asked for. ``index`` is its class's number in `Pile.classes`.

    ``score`` is None of masks that no classifier was asked for.
    ``own`` are the pixels that are its own where masks overlap: those of its value in the label map.
    """

    label: str
    index: int
    score: float | None
    confidence: float | None
    mask: Callable[[], Bool[np.ndarray, "H W"]]
    own: Callable[[], Bool[np.ndarray, "H W"]]


@dataclass(frozen=True, eq=False)
class AnnotatedPhotograph:
    """A photograph with its objects; ``path`` may be an address, ``size`` is height and width.

    ``image`` reads it. ``blank`` objects are left out: their saliency says nothing, so they have no mask. ``pixels``
    are there where no file has that path. ``decided`` is whether somebody has corrected or accepted the objects.
    """

    name: str
    path: str
    size: tuple[int, int]
    objects: tuple[AnnotatedObject, ...]
    classmap: Callable[[], Integer[np.ndarray, "H W"]]
    image: Callable[[], Photograph]
    blank: int = 0
    pixels: Callable[[], Photograph] | None = None
    decided: bool = False

    @property
    def suffix(self) -> str:
        if shards.split(self.path):
            return files.suffix(self.path) or ".jpg"
        path = urlsplit(self.path).path if files.is_url(self.path) else self.path
        return PurePosixPath(path).suffix or ".jpg"


@dataclass(frozen=True, eq=False)
class Pile:
    """Photographs with their objects, and the classifier's classes in order.

    ``states`` says how many photographs of a run were corrected, accepted and rejected; ``problems`` has a sentence
    for each of its corrections that cannot be used, whose photographs are left out.
    """

    classes: tuple[str, ...]
    photographs: Iterable[AnnotatedPhotograph]
    void: bool = False
    states: Mapping[str, int] = field(default_factory=dict)
    problems: Sequence[str] = ()

    def surer_than(self, minimum: float) -> Pile:
        """Without the objects below a confidence; the photographs are gone through when asked for.

        What somebody has corrected or accepted stays as it is.

        Raises:
            GradcutError: when an object without a confidence comes by.
        """
        return replace(self, photographs=_Surer(self.photographs, minimum))

    def without_overlaps(self) -> Pile:
        """With masks that share no pixel: each object has its own pixels; one that has none has an empty mask."""
        return replace(self, photographs=_Disjoint(self.photographs))

    @cached_property
    def flat(self) -> dict[str, str]:
        """By photograph's name a name without folders, which most formats have none of, and without line ends.

        No two are the same, also where case does not count.
        """
        names = [photograph.name for photograph in self.photographs]
        plain = [printable(name.replace("/", "__").replace("\\", "_")) for name in names]
        short = [name.encode()[:200].decode(errors="ignore").strip() or "photograph" for name in plain]
        # Lists of names take a line with # for a comment, and files with . are hidden.
        shown = [f"_{name}" if name.startswith(("#", ".")) else name for name in short]
        return dict(zip(names, distinct(shown), strict=True))

    @cached_property
    def files(self) -> dict[str, str]:
        """By photograph's name its path below the deepest folder that all of them lie in."""
        paths = {photograph.name: photograph.path for photograph in self.photographs if photograph.pixels is None}
        own = {photograph.name: photograph.path for photograph in self.photographs if photograph.pixels is not None}
        return dict(zip(paths, below_common(list(paths.values())), strict=True)) | own

    @cached_property
    def blank(self) -> int:
        """How many objects are left out because they have no mask."""
        return sum(photograph.blank for photograph in self.photographs)

    @cached_property
    def turned(self) -> int:
        """How many of the photographs on this machine have an EXIF orientation other than upright."""
        return sum(_is_turned(photograph) for photograph in self.photographs)

    @cached_property
    def packed(self) -> int:
        """How many of the photographs are in shards, where other tools cannot open them."""
        return sum(shards.split(photograph.path) is not None for photograph in self.photographs)


def _is_turned(photograph: AnnotatedPhotograph) -> bool:
    if photograph.pixels is not None or files.is_url(photograph.path):
        return False
    try:
        return is_turned(_local(photograph.path))
    except OSError:  # gone since, so that no reader will lay a mask on it
        return False


def _local(path: str) -> Path:
    return Path(path.removeprefix("file://"))


def below_common(paths: Sequence[str]) -> list[str]:
    """The paths or addresses without the folders that all of them share, with ``/`` between what is left."""
    parts = [_parts(path) for path in paths]
    folders = sorted(each[:-1] for each in parts)
    pairs = zip(folders[0], folders[-1], strict=False) if folders else ()  # what these share, all do
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return ["/".join(each[shared:]) for each in parts]


def _parts(path: str) -> list[str]:
    if shard := shards.split(path):
        return [*_parts(shard[2]), *shard[1].split("/")]
    if files.is_url(path):
        return path.replace("://", "/").split("/")
    absolute = Path(os.path.abspath(_local(path)))  # noqa: PTH100  which also takes out ".."
    return list(absolute.parts[1:])


@dataclass(frozen=True)
class _Disjoint:
    photographs: Iterable[AnnotatedPhotograph]

    def __iter__(self) -> Iterator[AnnotatedPhotograph]:
        for photograph in self.photographs:
            yield replace(photograph, objects=tuple(replace(item, mask=item.own) for item in photograph.objects))


@dataclass(frozen=True)
class _Surer:
    photographs: Iterable[AnnotatedPhotograph]
    minimum: float

    def __iter__(self) -> Iterator[AnnotatedPhotograph]:
        for photograph in self.photographs:
            if photograph.decided:
                yield photograph
                continue
            doubtful = [item.index + 1 for item in photograph.objects if not self._sure(photograph, item)]
            objects = tuple(item for item in photograph.objects if self._sure(photograph, item))
            yield replace(photograph, objects=objects, classmap=partial(_without, photograph.classmap, doubtful))

    def _sure(self, photograph: AnnotatedPhotograph, item: AnnotatedObject) -> bool:
        if item.confidence is None:
            raise GradcutError(
                f"minimum: expected a confidence for every object, {item.label!r} in {photograph.name} has none; "
                f"{CONFIDENT} give confidences"
            )
        return item.confidence >= self.minimum


def _without(classmap: Callable[[], Integer[np.ndarray, "H W"]], numbers: Sequence[int]) -> Integer[np.ndarray, "H W"]:
    values = classmap()
    return np.where(np.isin(values, numbers), 0, values).astype(values.dtype)


def _values(folder: str, size: tuple[int, int], path: str | None) -> Any:
    """The numbers in a file of a run; zeros where there is none."""
    return np.zeros(size, np.uint8) if path is None else images.read_values(f"{folder}/{path}")


def _inside(values: Callable[[str], Any], path: str) -> Bool[np.ndarray, "H W"]:
    mask: np.ndarray = values(path) > 0
    return mask


def _own(values: Callable[[str], Any], path: str, value: int) -> Bool[np.ndarray, "H W"]:
    mask: np.ndarray = values(path) == value
    return mask


def _numbered(labelmap: Callable[[], Any], objects: Sequence[runs.Entry], numbers: Mapping[str, int]) -> Any:
    """A corrected class map: its label map's values as numbers of classes."""
    return corrections.numbered(labelmap(), objects, numbers)


@dataclass(frozen=True)
class _Run:
    """A finished run's photographs; they may be gone through more than once.

    Args:
        numbers: of the classes by label.
        left_out: names of photographs.
        decided: names of photographs whose results are the corrected ones, as they stand when they are asked for.
        value_range: that photographs were read with.
    """

    folder: str
    numbers: Mapping[str, int]
    left_out: Collection[str]
    decided: Collection[str]
    value_range: Range | None

    def __iter__(self) -> Iterator[AnnotatedPhotograph]:
        for line in runs.read_run(self.folder)[1]:
            if line["state"] == "failed" or line["name"] in self.left_out:
                continue
            yield self._corrected(line) if line["name"] in self.decided else self._annotated(line)

    def _corrected(self, line: runs.Entry) -> AnnotatedPhotograph:
        correction = corrections.read(self.folder, line["name"])
        line = corrections.corrected_line(self.folder, line, correction)
        if correction.record is None or not {item["label"] for item in line["objects"]} <= self.numbers.keys():
            raise RunError(f"run: {line['name']} in {self.folder} was changed while it was exported; export it again")
        objects = [item | {"index": self.numbers[item["label"]]} for item in line["objects"]]
        photograph = self._annotated(line | {"objects": objects})

        labelmap = partial(_values, self.folder, photograph.size, line["files"].get("labelmap"))
        return replace(photograph, classmap=partial(_numbered, labelmap, objects, self.numbers), decided=True)

    def _annotated(self, line: runs.Entry) -> AnnotatedPhotograph:
        size = line["height"], line["width"]
        values = partial(_values, self.folder, size)  # which other processes can be given
        objects = tuple(
            AnnotatedObject(
                o["label"],
                o["index"],
                o["score"],
                o["confidence"],
                partial(_inside, values, o["mask"]),
                partial(_own, values, line["files"]["labelmap"], o["labelmap_value"]),
            )
            for o in line["objects"]
            if o["state"] != "blank"
        )
        blank = len(line["objects"]) - len(objects)
        return AnnotatedPhotograph(
            line["name"],
            line["photograph"],
            size,
            objects,
            partial(values, line["files"].get("classmap")),
            partial(images.read, line["photograph"], value_range=self.value_range),
            blank,
        )


def run_pile(folder: str | os.PathLike[str], uncorrected: bool = False) -> Pile:
    """A finished run: corrected results in the place of the run's own, without the photographs that were rejected.

    Classes that corrections have added come after the run's own. Photographs whose corrections cannot be used are left
    out; `Pile.problems` names them.

    Args:
        uncorrected: take what the run found, as if there were no corrections.

    Raises:
        RunError: the folder holds no run.
    """
    about, _ = runs.read_run(folder)
    own, void = tuple(about["classes"]), about["settings"]["void"] is not None
    value_range = check_range(about["settings"].get("range"))
    if uncorrected:
        return Pile(own, _Run(os.fspath(folder), {}, (), (), value_range), void)
    standing, problems = corrections.standing(folder)
    used = {label: number for _, found in standing.values() for label, number in found.items() if label not in own}
    classes = (*own, *sorted(used, key=lambda label: (used[label], label)))
    numbers = {label: number for number, label in enumerate(classes)}
    states = {name: state for name, (state, _) in standing.items()}
    rejected = {name for name, state in states.items() if state == "rejected"}
    left_out, decided = rejected | problems.keys(), states.keys() - rejected
    photographs = _Run(os.fspath(folder), numbers, left_out, decided, value_range)
    return Pile(classes, photographs, void, Counter(states.values()), tuple(problems.values()))


def bring(pile: Pile, folder: Path) -> dict[str, str]:
    """Every photograph's file into the folder: a link where the file system has such, else a copy.

    One whose EXIF orientation says that it is to be turned is written with upright pixels, since the masks are upright
    and not every reader turns photographs.

    Returns:
        By photograph's name its file's name in the folder: its flat name with its own ending.

    Raises:
        ImageError: a photograph's file is gone.
        GradcutError: it would be replaced by its own upright copy.
    """
    names = {photograph.name: pile.flat[photograph.name] + photograph.suffix for photograph in pile.photographs}
    for photograph in pile.photographs:
        _bring(photograph, folder / names[photograph.name])
    return names


def _bring(photograph: AnnotatedPhotograph, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if photograph.pixels is not None:
        images.write_png(target, photograph.pixels())
    elif files.is_url(photograph.path):
        try:
            content = files.fetch(photograph.path).getvalue()
        except OSError as error:
            raise ImageError(f"{photograph.path}: cannot be fetched: {one_line(error)}") from error
        _replace(target, upright(BytesIO(content)) or content)
    else:
        _bring_file(photograph.path, target)


def _bring_file(path: str, target: Path) -> None:
    source = _local(path).resolve()
    if not source.is_file():
        raise ImageError(f"{path}: no such file; this format needs the photographs themselves")
    turned = upright(source)
    if source == target.parent.resolve() / target.name:
        if turned is not None:
            raise GradcutError(f"output: {target} is the photograph itself, and not upright; choose another folder")
        return
    if turned is not None:
        _replace(target, turned)
        return
    target.unlink(missing_ok=True)
    # Some readers refuse what leads out of the folder; but hard links end where the file system does.
    for link in (target.hardlink_to, target.symlink_to):
        with suppress(OSError, NotImplementedError):
            return link(source)
    shutil.copyfile(source, target)


def _replace(target: Path, content: bytes) -> None:
    """Not through a link to a photograph."""
    with files.replacing(target) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> Path:
    """A text file, whole or not at all; its path."""
    with files.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_compact(path: Path, document: Any) -> Path:
    """A JSON document without line breaks, as tools want large ones; its path."""
    with files.replacing(path) as temporary:
        temporary.write_bytes(files.encode_json(document) + b"\n")
    return path
