"""Label Studio: tasks with predictions, and the labelling interface that they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Bool

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


def write_label_studio(pile: Pile, folder: Path, tolerance: float | None) -> Path:
    """``tasks.json`` with predictions, and ``config.xml``, the labelling interface, which has every class.

    Tasks name the photographs' own files; where EXIF turns some, the upright ones that are brought to ``images/``.
    """
    paths = {photograph.name: photograph.path for photograph in pile.photographs}
    if pile.turned:
        paths = {name: str(folder / "images" / file) for name, file in bring(pile, folder / "images").items()}
    labels = distinct([printable(label) for label in pile.classes], key=str)  # XML holds no others
    kind = "polygonlabels" if tolerance is not None else "brushlabels"
    tasks = []
    for photograph in pile.photographs:
        height, width = photograph.size
        regions = []
        for number, item in enumerate(photograph.objects, start=1):
            values: list[dict[str, Any]]
            mask = item.mask()
            if not mask.any():
                continue
            if tolerance is not None:
                shapes = outlines.outlines(mask, tolerance)
                values = [{"points": (s / (width, height) * 100).tolist(), "closed": True} for s in shapes]
            else:
                values = [{"format": "rle", "rle": brush_rle(mask)}]
            regions += [
                {
                    "id": f"{number}-{part}", "type": kind, "from_name": "label", "to_name": "image",
                    "original_width": width, "original_height": height, "image_rotation": 0,
                    "value": {**value, kind: [labels[item.index]]},
                } | ({} if item.confidence is None else {"score": item.confidence})
                for part, value in enumerate(values, start=1)
            ]  # fmt: skip
        known = [item.confidence for item in photograph.objects if item.confidence is not None]
        prediction = {"model_version": "gradcut", "result": regions} | ({"score": min(known)} if known else {})
        tasks.append({"data": {"image": paths[photograph.name]}, "predictions": [prediction]})
    control = "PolygonLabels" if tolerance is not None else "BrushLabels"
    choices = "".join(f"    <Label value={quoteattr(label)}/>\n" for label in labels)
    write_text(
        folder / "config.xml",
        f'<View>\n  <Image name="image" value="$image"/>\n  <{control} name="label" toName="image">\n{choices}'
        f"  </{control}>\n</View>\n",
    )
    return write_compact(folder / "tasks.json", tasks)
