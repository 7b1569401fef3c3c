"""Label Studio: tasks with predictions, and the labelling interface that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Bool

from gradcut.errors import GradcutError
from gradcut.formats import outlines
from gradcut.formats.piles import Pile, bring, write_compact, write_text
from gradcut.names import distinct, printable


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


def brush_mask(rle: object, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """What was painted by a brush of Label Studio, from what `brush_rle` writes: the pixels of at least half opacity.

    Args:
        size: height and width of the photograph.

    Raises:
        GradcutError: something else, or of another size.
    """
    if not isinstance(rle, list) or not all(isinstance(byte, int) and 0 <= byte < 256 for byte in rle):
        raise GradcutError(f"rle: expected a list of bytes, got {str(rle)[:60]!r}")
    stream = "".join(f"{byte:08b}" for byte in rle)
    at = 0

    def number(width: int) -> int:
        nonlocal at
        at += width
        if at > len(stream):
            raise GradcutError("rle: it ends too early")
        return int(stream[at - width : at], 2)

    height, width = size
    count = 4 * height * width  # RGBA
    if (came := number(32)) != count:
        raise GradcutError(f"rle: expected {count} values for a photograph of {width} x {height}, got {came}")
    word = number(5) + 1
    widths = [number(4) + 1 for _ in range(4)]
    values = np.zeros(count, dtype=np.uint32)
    filled = 0
    while filled < count:
        repeats = number(1)
        end = filled + 1 + number(widths[number(2)])
        if end > count:
            raise GradcutError(f"rle: expected {count} values, got more")
        values[filled:end] = number(word) if repeats else [number(word) for _ in range(end - filled)]
        filled = end
    opacity: np.ndarray = values.reshape(height, width, 4)[:, :, 3]
    return opacity >= 128


def regions(
    mask: Bool[np.ndarray, "H W"],
    label: str,
    tolerance: float | None,
    confidence: float | None,
    key: str,
    names: tuple[str, str] = ("label", "image"),
) -> list[dict[str, Any]]:
    """A mask as regions of a result: one of a brush, or with a tolerance a polygon for each part; none if it is empty.

    Args:
        confidence: the regions' score, if there is one.
        key: what their ids begin with.
        names: of the control and of the picture in the labelling interface.
    """
    height, width = mask.shape
    values: list[dict[str, Any]] = []
    if tolerance is not None:
        shapes = outlines.outlines(mask, tolerance)
        values = [{"points": (s / (width, height) * 100).tolist(), "closed": True} for s in shapes]
    elif mask.any():
        values = [{"format": "rle", "rle": brush_rle(mask)}]
    kind = "polygonlabels" if tolerance is not None else "brushlabels"
    return [
        {
            "id": f"{key}-{part}", "type": kind, "from_name": names[0], "to_name": names[1],
            "original_width": width, "original_height": height, "image_rotation": 0,
            "value": {**value, kind: [label]},
        } | ({} if confidence is None else {"score": confidence})
        for part, value in enumerate(values, start=1)
    ]  # fmt: skip


def prediction(found: Sequence[dict[str, Any]], version: str) -> dict[str, Any]:
    """Regions as a prediction of a task, whose score is the least of theirs, if they have any."""
    known = [region["score"] for region in found if "score" in region]
    return {"model_version": version, "result": found} | ({"score": min(known)} if known else {})


def write_label_studio(pile: Pile, folder: Path, tolerance: float | None) -> Path:
    """``tasks.json`` with predictions, and ``config.xml``, the labelling interface, which has every class.

    Tasks name the photographs' own files; where EXIF turns some, or some are in shards, the upright ones that are
    brought to ``images/``.
    """
    paths = {photograph.name: photograph.path for photograph in pile.photographs}
    if pile.turned or pile.packed:
        paths = {name: str(folder / "images" / file) for name, file in bring(pile, folder / "images").items()}
    labels = distinct([printable(label) for label in pile.classes], key=str)  # XML holds no others
    tasks = []
    for photograph in pile.photographs:
        found = [
            region
            for number, item in enumerate(photograph.objects, start=1)
            for region in regions(item.mask(), labels[item.index], tolerance, item.confidence, str(number))
        ]
        tasks.append({"data": {"image": paths[photograph.name]}, "predictions": [prediction(found, "gradcut")]})
    control = "PolygonLabels" if tolerance is not None else "BrushLabels"
    choices = "".join(f"    <Label value={quoteattr(label)}/>\n" for label in labels)
    write_text(
        folder / "config.xml",
        f'<View>\n  <Image name="image" value="$image"/>\n  <{control} name="label" toName="image">\n{choices}'
        f"  </{control}>\n</View>\n",
    )
    return write_compact(folder / "tasks.json", tasks)
