"""Results in the formats of other tools: COCO, YOLO, Pascal VOC, Label Studio, CVAT, FiftyOne, supervision.

`write` turns a finished run into one of them; `pile` does the same for results in memory. A photograph at a time is
in memory, whatever the run's length.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from gradcut import images, pictures
from gradcut.errors import GradcutError
from gradcut.formats import outlines
from gradcut.results import Segmentation, filenames
from gradcut.runs import run as runs


@dataclass(frozen=True, eq=False)
class Marked:
    """An object with its mask, loaded when asked for."""

    label: str
    index: int
    score: float
    confidence: float
    mask: Callable[[], Bool[np.ndarray, "H W"]]


@dataclass(frozen=True, eq=False)
class Annotated:
    """A photograph with its objects; ``size`` is height and width."""

    name: str
    photograph: str
    size: tuple[int, int]
    objects: tuple[Marked, ...]
    classmap: Callable[[], Integer[np.ndarray, "H W"]]

    @property
    def flat(self) -> str:
        """The name without folders: most formats have none."""
        return self.name.replace("/", "__")

    @property
    def suffix(self) -> str:
        return Path(self.photograph).suffix or ".jpg"


@dataclass(frozen=True, eq=False)
class Pile:
    """Photographs with their objects, and the classifier's classes in order."""

    classes: tuple[str, ...]
    photographs: Iterable[Annotated]
    void: bool = False


@dataclass(frozen=True)
class Options:
    """How masks are written.

    Args:
        polygons: outlines instead of run lengths, where a format knows both.
        tolerance: of outlines, in pixels, as in `gradcut.formats.outlines.outlines`.
        minimum: the least confidence of an object.
    """

    polygons: bool = False
    tolerance: float = 0
    minimum: float = 0


def _inside(values: Callable[[str], Any], path: str) -> Bool[np.ndarray, "H W"]:
    mask: np.ndarray = values(path) > 0
    return mask


@dataclass(frozen=True)
class _Run:
    """A finished run's photographs; they may be gone through more than once."""

    folder: str

    def __iter__(self) -> Iterator[Annotated]:
        for line in runs.read_run(self.folder)[1]:
            if line["state"] != "failed":
                yield self._annotated(line)

    def _annotated(self, line: runs.Entry) -> Annotated:
        size = line["height"], line["width"]

        def values(path: str | None) -> Any:
            return np.zeros(size, np.uint8) if path is None else images.read_values(f"{self.folder}/{path}")

        marked = tuple(
            Marked(o["label"], o["index"], o["score"], o["confidence"], partial(_inside, values, o["mask"]))
            for o in line["objects"]
        )
        return Annotated(line["name"], line["photograph"], size, marked, lambda: values(line["files"].get("classmap")))


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
    named = filenames([Path(r.source).stem if r.source else f"photograph-{n}" for n, r in enumerate(results, start=1)])
    return Pile(
        classes,
        [
            Annotated(
                name, result.source or f"{name}.jpg", result.mask.shape,
                tuple(
                    Marked(o.label, result.number(o), o.score, o.confidence, partial(getattr, o, "mask"))
                    for o in result.objects
                ),
                result.classmap,
            )
            for name, result in zip(named, results, strict=True)
        ],
    )  # fmt: skip


def check(name: str, options: Options = Options()) -> None:
    """Raise GradcutError unless there is a format of that name that has a use for the options."""
    if name not in FORMATS:
        raise GradcutError(f"format: expected one of {', '.join(FORMATS)}, got {name!r}")
    outlined = name == "yolo" or (options.polygons and name in ("coco", "label-studio", "fiftyone"))
    if options.polygons and not outlined:
        raise GradcutError(f"polygons: {name} has no outlines")
    if options.tolerance and not outlined:
        raise GradcutError(f"tolerance: it is for outlines, and {name} has none here")


def write(
    what: str | os.PathLike[str] | Pile, folder: str | os.PathLike[str], name: str, **options: Any
) -> Path:  # fmt: skip
    """Write a run (its folder) or a `Pile` into ``folder`` in the format of that name.

    Args:
        options: as `Options` has them.

    Returns:
        The file or folder to open with the tool.

    Raises:
        GradcutError: no such format, an option that it has no use for, or a folder that cannot be written.
    """
    chosen = Options(**options)
    check(name, chosen)
    if images.is_url(folder):
        raise GradcutError(f"output: expected a folder on this machine for {name}, got {folder}")
    folder = Path(folder)
    given = what if isinstance(what, Pile) else run_pile(what)
    if chosen.minimum:
        given = replace(given, photographs=_Sure(given.photographs, chosen.minimum))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FORMATS[name](given, folder, chosen)
    except OSError as error:
        raise GradcutError(f"output: {folder} cannot be written: {error.strerror or error}") from error


@dataclass(frozen=True)
class _Sure:
    """Photographs without the objects below a confidence."""

    photographs: Iterable[Annotated]
    minimum: float

    def __iter__(self) -> Iterator[Annotated]:
        for each in self.photographs:
            kept = tuple(o for o in each.objects if o.confidence >= self.minimum)
            gone = [o.index + 1 for o in each.objects if o.confidence < self.minimum]

            def classmap(each: Annotated = each, gone: list[int] = gone) -> Any:
                values = each.classmap()
                return np.where(np.isin(values, gone), 0, values).astype(values.dtype)

            yield replace(each, objects=kept, classmap=classmap)


# COCO ----------------------------------------------------------------------------------------------------------------

#: COCO's classes with the numbers that it gives them: 1 to 90 with gaps.
COCO_IDS: Mapping[str, int] = dict(
    zip(
        [
            "person",
            "bicycle",
            "car",
            "motorcycle",
            "airplane",
            "bus",
            "train",
            "truck",
            "boat",
            "traffic light",
            "fire hydrant",
            "stop sign",
            "parking meter",
            "bench",
            "bird",
            "cat",
            "dog",
            "horse",
            "sheep",
            "cow",
            "elephant",
            "bear",
            "zebra",
            "giraffe",
            "backpack",
            "umbrella",
            "handbag",
            "tie",
            "suitcase",
            "frisbee",
            "skis",
            "snowboard",
            "sports ball",
            "kite",
            "baseball bat",
            "baseball glove",
            "skateboard",
            "surfboard",
            "tennis racket",
            "bottle",
            "wine glass",
            "cup",
            "fork",
            "knife",
            "spoon",
            "bowl",
            "banana",
            "apple",
            "sandwich",
            "orange",
            "broccoli",
            "carrot",
            "hot dog",
            "pizza",
            "donut",
            "cake",
            "chair",
            "couch",
            "potted plant",
            "bed",
            "dining table",
            "toilet",
            "tv",
            "laptop",
            "mouse",
            "remote",
            "keyboard",
            "cell phone",
            "microwave",
            "oven",
            "toaster",
            "sink",
            "refrigerator",
            "book",
            "clock",
            "vase",
            "scissors",
            "teddy bear",
            "hair drier",
            "toothbrush",
        ],
        (number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)),
        strict=True,
    )
)


def _category_ids(classes: Sequence[str]) -> dict[str, int]:
    if set(classes) <= COCO_IDS.keys():
        return {label: COCO_IDS[label] for label in classes}
    return {label: number for number, label in enumerate(classes, start=1)}


def _image_ids(names: Iterable[str]) -> dict[str, int]:
    """COCO's own number where every file is called by one, else 1, 2, 3 ..."""
    listed = list(names)
    stems = [name.rsplit("/", 1)[-1].rpartition("_")[2] for name in listed]
    if all(stem.isascii() and stem.isdigit() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return {name: int(stem) for name, stem in zip(listed, stems, strict=True)}
    return {name: number for number, name in enumerate(listed, start=1)}


def _rle(mask: Bool[np.ndarray, "H W"]) -> dict[str, Any]:
    from pycocotools import mask as coder

    coded = coder.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(coded["size"]), "counts": coded["counts"].decode("ascii")}


def _box(mask: Bool[np.ndarray, "H W"]) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return [0.0, 0.0, 0.0, 0.0]
    left, top = float(columns[0]), float(rows[0])
    return [left, top, float(columns[-1]) - left + 1, float(rows[-1]) - top + 1]


def _coco_document(given: Pile, options: Options, file_name: Callable[[Annotated], str]) -> dict[str, Any]:
    categories = _category_ids(given.classes)
    ids = _image_ids(each.name for each in given.photographs)
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for each in given.photographs:
        height, width = each.size
        listed.append({"id": ids[each.name], "file_name": file_name(each), "height": height, "width": width})
        for found in each.objects:
            mask = found.mask()
            if mask.any():
                annotations.append({
                    "id": len(annotations) + 1, "image_id": ids[each.name], "category_id": categories[found.label],
                    "segmentation": (
                        outlines.flat(outlines.outlines(mask, options.tolerance)) if options.polygons else _rle(mask)
                    ),
                    "area": int(mask.sum()), "bbox": _box(mask), "iscrowd": 0, "score": found.confidence,
                })  # fmt: skip
    return {
        "info": {"description": "masks by gradcut"},
        "images": listed,
        "annotations": annotations,
        "categories": [{"id": number, "name": label} for label, number in categories.items()],
    }


def _coco(given: Pile, folder: Path, options: Options) -> Path:
    """``instances.json``; file names are the photographs' own."""
    document = _coco_document(given, options, lambda each: Path(each.photograph).name)
    return _write_json(folder / "instances.json", document)


def _coco_results(given: Pile, folder: Path, options: Options) -> Path:
    """``results.json`` for ``COCO.loadRes``: masks with the classifier's scores."""
    categories = _category_ids(given.classes)
    ids = _image_ids(each.name for each in given.photographs)
    rows = [
        {
            "image_id": ids[each.name], "category_id": categories[found.label], "segmentation": _rle(found.mask()),
            "score": found.score,
        }
        for each in given.photographs
        for found in each.objects
    ]  # fmt: skip
    return _write_json(folder / "results.json", rows)


def _fiftyone(given: Pile, folder: Path, options: Options) -> Path:
    """FiftyOne's ``COCODetectionDataset``: ``data/`` and ``labels.json``."""
    for each in given.photographs:
        _bring(each, folder / "data")
    return _write_json(
        folder / "labels.json", _coco_document(given, options, lambda each: each.flat + each.suffix)
    ).parent  # fmt: skip


# YOLO ----------------------------------------------------------------------------------------------------------------


def _yolo(given: Pile, folder: Path, options: Options) -> Path:
    """``images/``, ``labels/`` and ``data.yaml`` as Ultralytics has them: a line is a part of an object.

    The points lie in the outermost pixels, so that the mask comes back when they are made whole and the polygon is
    filled with its border, as Ultralytics and supervision do.
    """
    for each in given.photographs:
        _bring(each, folder / "images")
        height, width = each.size
        lines = []
        for found in each.objects:
            for polygon in outlines.outlines(found.mask(), options.tolerance, centres=True):
                points = (polygon / (width, height)).ravel()
                lines.append(f"{found.index} " + " ".join(f"{value:.6f}" for value in points))
        _write_text(folder / "labels" / f"{each.flat}.txt", "".join(line + "\n" for line in lines))
    names = "".join(f"  {number}: {json.dumps(label)}\n" for number, label in enumerate(given.classes))
    text = f"path: {json.dumps(str(folder.resolve()))}\ntrain: images\nval: images\nnames:\n{names}"
    return _write_text(folder / "data.yaml", text)


# Pascal VOC and CVAT -------------------------------------------------------------------------------------------------


def _numbers(given: Pile) -> dict[int, int]:
    """The pixel value of each class: its own number plus 1, or, of more than 254 classes, a number for each in use."""
    if len(given.classes) <= 254:
        return {index: index + 1 for index in range(len(given.classes))}
    used = sorted({found.index for each in given.photographs for found in each.objects})
    if len(used) > 254:
        raise GradcutError(f"format: voc and cvat hold 254 classes at most, and {len(used)} were found")
    return {index: number for number, index in enumerate(used, start=1)}


def _class_pixels(each: Annotated, numbers: Mapping[int, int]) -> UInt8[np.ndarray, "H W"]:
    values = each.classmap()
    table = np.zeros(np.iinfo(values.dtype).max + 1, dtype=np.uint8)
    for index, number in numbers.items():
        table[index + 1] = number
    table[-1] = 255
    pixels: np.ndarray = table[values]
    return pixels


def _object_pixels(each: Annotated) -> UInt8[np.ndarray, "H W"]:
    """1, 2, 3 ... for the objects in order, where the class map has their class; void as there."""
    values = each.classmap()
    pixels = np.zeros(each.size, dtype=np.uint8)
    for number, found in enumerate(each.objects, start=1):
        pixels[values == found.index + 1] = number
    pixels[values == np.iinfo(values.dtype).max] = 255
    return pixels


def _voc_files(given: Pile, folder: Path, subset: str) -> None:
    numbers = _numbers(given)
    for each in given.photographs:
        images.write_png(
            folder / f"SegmentationClass/{each.flat}.png", _class_pixels(each, numbers), pictures.palette()
        )
        images.write_png(folder / f"SegmentationObject/{each.flat}.png", _object_pixels(each), pictures.palette())
    _write_text(
        folder / f"ImageSets/Segmentation/{subset}.txt", "".join(each.flat + "\n" for each in given.photographs)
    )
    colours = pictures.palette()
    named = {0: "background"} | {number: given.classes[index] for index, number in numbers.items()}
    if given.void:
        named[255] = "void"
    rows = [f"{label.replace(':', ' ')}:{','.join(map(str, colours[n]))}::\n" for n, label in named.items()]
    _write_text(folder / "labelmap.txt", "# label:color_rgb:parts:actions\n" + "".join(rows))


def _voc(given: Pile, folder: Path, options: Options) -> Path:
    """A Pascal VOC folder: a pixel is its class's number, 255 is void; ``labelmap.txt`` names the numbers' colours."""
    for each in given.photographs:
        _bring(each, folder / "JPEGImages")
    _voc_files(given, folder, "train")
    return folder


def _cvat(given: Pile, folder: Path, options: Options) -> Path:
    """CVAT's "Segmentation Mask 1.1": a zip of VOC's masks to upload as annotations."""
    archive, scratch = folder / "cvat.zip", folder / ".cvat.part"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        _voc_files(given, scratch, "default")
        with images.replacing(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(scratch.rglob("*")):
                if path.is_file():
                    file.write(path, path.relative_to(scratch))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return archive


# Label Studio --------------------------------------------------------------------------------------------------------


def brush_rle(mask: Bool[np.ndarray, "H W"]) -> list[int]:
    """A mask as Label Studio's brush has it: the bytes of a bit stream over the four channels of its RGBA picture.

    The stream holds the number of values (32 bits), the bits of a value less one (5 bits), four widths of run
    lengths less one (4 bits each), and then the runs: 1 for a repeated value, 2 bits that choose a width, the length
    less one, the value.
    """
    flat = np.repeat(mask.ravel(), 4)
    widths = (3, 4, 8, 16)
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    bits = [f"{flat.size:032b}", f"{7:05b}", *(f"{width - 1:04b}" for width in widths)]
    for start, length in zip(edges[:-1].tolist(), np.diff(edges).tolist(), strict=True):
        value = f"{255 if flat[start] else 0:08b}"
        while length > 0:
            part = min(length, 1 << widths[-1])
            choice = next(number for number, width in enumerate(widths) if part <= 1 << width)
            bits.append(f"1{choice:02b}{part - 1:0{widths[choice]}b}{value}")
            length -= part
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    return [int(stream[at : at + 8], 2) for at in range(0, len(stream), 8)]


def _label_studio(given: Pile, folder: Path, options: Options) -> Path:
    """``tasks.json`` with predictions, and ``config.xml``, the labelling interface that they belong to."""
    kind = "polygonlabels" if options.polygons else "brushlabels"
    tasks = []
    for each in given.photographs:
        height, width = each.size
        regions = []
        for number, found in enumerate(each.objects, start=1):
            values: list[dict[str, Any]]
            if options.polygons:
                shapes = outlines.outlines(found.mask(), options.tolerance)
                values = [{"points": (s / (width, height) * 100).tolist(), "closed": True} for s in shapes]
            else:
                values = [{"format": "rle", "rle": brush_rle(found.mask())}]
            regions += [
                {
                    "id": f"{number}-{part}", "type": kind, "from_name": "label", "to_name": "image",
                    "original_width": width, "original_height": height, "image_rotation": 0,
                    "value": {**value, kind: [found.label]}, "score": found.confidence,
                }
                for part, value in enumerate(values, start=1)
            ]  # fmt: skip
        sure = [found.confidence for found in each.objects]
        prediction = {"model_version": "gradcut", "score": min(sure, default=0.0), "result": regions}
        tasks.append({"data": {"image": each.photograph}, "predictions": [prediction]})
    used = sorted({found.label for each in given.photographs for found in each.objects})
    control = "PolygonLabels" if options.polygons else "BrushLabels"
    labels = "".join(f"    <Label value={_quoted(label)}/>\n" for label in used)
    _write_text(
        folder / "config.xml",
        f'<View>\n  <Image name="image" value="$image"/>\n  <{control} name="label" toName="image">\n{labels}'
        f"  </{control}>\n</View>\n",
    )
    return _write_json(folder / "tasks.json", tasks)


def _quoted(text: str) -> str:
    from xml.sax.saxutils import quoteattr

    return quoteattr(text)


# supervision ---------------------------------------------------------------------------------------------------------


def detections(result: Segmentation) -> Any:
    """The objects as ``supervision.Detections``, those without a pixel left out.

    Raises:
        GradcutError: the package ``supervision`` is not installed.
    """
    if importlib.util.find_spec("supervision") is None:
        raise GradcutError("supervision: the package is not installed; pip install supervision")
    import supervision

    found = [each for each in result.objects if each.mask.any()]
    boxes = np.array([_box(each.mask) for each in found], dtype=np.float32).reshape(-1, 4)
    return supervision.Detections(
        xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        mask=np.stack([each.mask for each in found]) if found else np.zeros((0, *result.mask.shape), dtype=bool),
        confidence=np.array([each.confidence for each in found], dtype=np.float32),
        class_id=np.array([each.index for each in found], dtype=int),
        data={"class_name": np.array([each.label for each in found], dtype=str)},
    )


# files ---------------------------------------------------------------------------------------------------------------


def _bring(each: Annotated, folder: Path) -> None:
    """The photograph under its flat name: a link where the file system has such, else a copy."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / (each.flat + each.suffix)
    target.unlink(missing_ok=True)
    if images.is_url(each.photograph):
        target.write_bytes(images.fetch(each.photograph).getbuffer())
        return
    source = Path(each.photograph).resolve()
    try:
        target.symlink_to(source)
    except (OSError, NotImplementedError):
        shutil.copyfile(source, target)


def _write_text(path: Path, text: str) -> Path:
    with images.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _write_json(path: Path, document: Any) -> Path:
    return _write_text(path, json.dumps(document, ensure_ascii=False) + "\n")


Writer = Callable[[Pile, Path, Options], Path]

FORMATS: Mapping[str, Writer] = {
    "coco": _coco,
    "coco-results": _coco_results,
    "yolo": _yolo,
    "voc": _voc,
    "label-studio": _label_studio,
    "cvat": _cvat,
    "fiftyone": _fiftyone,
}
