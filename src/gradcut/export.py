"""Results to files. Every file is written under a temporary name and renamed."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradcut import images, pictures
from gradcut.errors import GradcutError
from gradcut.segmenter import Segmentation


def save(
    result: Segmentation,
    folder: Path,
    name: str,
    classmaps: bool = False,
    void: tuple[float, float] | None = None,
    pictures: bool = True,
) -> dict[str, Any]:
    """Write one photograph's results below ``folder`` and return the JSON document.

    ========================== =============================================================
    ``labelmaps/NAME.png``     indexed PNG: 0 background, then the objects in order
    ``classmaps/NAME.png``     `Segmentation.classmap`, whose numbers mean the same class in every photograph
    ``masks/NAME/LABEL.png``   each object's mask, 0 and 255
    ``pictures/NAME.png``      for a person: photograph, saliency, seeds, mask, cut-out
    ``results/NAME.json``      the record, written last: where it stands, the rest is complete
    ========================== =============================================================

    Without objects only the record is written; it holds the best scores. Files of an earlier result
    under the same name are removed first.

    Args:
        classmaps: write the class map too.
        void: bounds of the class map's unsure pixels.
        pictures: write the picture too.

    Raises:
        GradcutError: the folder cannot be written.
    """
    try:
        return _save(result, folder, name, classmaps, void, pictures)
    except OSError as error:
        raise GradcutError(f"output: {folder} cannot be written: {error.strerror or error}") from error


def _save(
    result: Segmentation, folder: Path, name: str, classmaps: bool, void: tuple[float, float] | None, pictured: bool
) -> dict[str, Any]:
    remove(folder, name)
    started = time.perf_counter()
    files: dict[str, Any] = {}
    stems = filenames([found.label for found in result.objects])
    if result.objects:
        files["labelmap"] = f"labelmaps/{name}.png"
        images.write_png(folder / files["labelmap"], result.labelmap(), palette=pictures.palette())
        if classmaps:
            files["classmap"] = f"classmaps/{name}.png"
            values = result.classmap(void)
            palette = pictures.palette() if values.dtype == np.uint8 else None
            images.write_png(folder / files["classmap"], values, palette)
        for found, stem in zip(result.objects, stems, strict=True):
            images.write_png(folder / f"masks/{name}/{stem}.png", found.mask)
        if pictured:
            files["picture"] = f"pictures/{name}.png"
            images.write_png(folder / files["picture"], result.picture())
    document = record(result) | {"files": files}
    document["seconds"]["save"] = round(time.perf_counter() - started, 4)
    for value, (entry, stem) in enumerate(zip(document["objects"], stems, strict=True), start=1):
        entry |= {"labelmap_value": value, "mask": f"masks/{name}/{stem}.png"}
    write_json(folder / f"results/{name}.json", document)
    return document


def remove(folder: Path, name: str) -> None:
    """Remove what `save` wrote under this name, the record first."""
    for path in (
        folder / f"results/{name}.json",
        folder / f"labelmaps/{name}.png",
        folder / f"classmaps/{name}.png",
        folder / f"pictures/{name}.png",
    ):
        path.unlink(missing_ok=True)
    for mask in (folder / f"masks/{name}").glob("*.png"):
        mask.unlink()


def record(result: Segmentation) -> dict[str, Any]:
    """What was found and how, as JSON values: labels, scores, areas and boxes in pixels, settings, versions."""
    height, width = result.image.shape[:2]
    return {
        "photograph": result.source,
        "width": width,
        "height": height,
        "confidence": None if result.confidence is None else round(result.confidence, 6),
        "objects": [
            {
                "label": found.label,
                "index": result.number(found),
                "score": round(found.score, 6),
                "confidence": round(found.confidence, 6),
                "area": found.area,
                "box": found.box and list(found.box),
            }
            for found in result.objects
        ],
        "best_scores": {detection.label: round(detection.score, 6) for detection in result.best},
        **settings(result),
        "seconds": {step: round(seconds, 4) for step, seconds in result.seconds.items()},
    }


def settings(result: Segmentation) -> dict[str, Any]:
    """What the result depends on beside the photograph."""
    recipe, classifier = result.recipe, result.classifier
    return {
        "recipe": {
            "name": recipe.name,
            "saliency": repr(recipe.saliency),
            "seeds": repr(recipe.seeds),
            "masks": repr(recipe.masks),
            "sha256": recipe.fingerprint,
        },
        "classifier": {
            "name": classifier.name,
            "size": list(classifier.size),
            "multilabel": classifier.multilabel,
            "sha256": classifier.fingerprint,
        },
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in ("gradcut", "torch", "timm", "numpy")},
    }


def filenames(labels: Sequence[str]) -> list[str]:
    """A file name for each label: letters, digits and ``-_.() `` are kept; no name twice."""
    names: list[str] = []
    for label in labels:
        name = re.sub(r"[^\w\-.() ]+", "_", label).strip(" .") or "label"
        while name.casefold() in {taken.casefold() for taken in names}:
            name += "_"
        names.append(name)
    return names


def write_json(path: Path, document: Any) -> None:
    with images.replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
