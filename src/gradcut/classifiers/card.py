"""A checkpoint of one's own on an architecture of timm, described by a card in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradcut.classifiers.arguments import as_labels
from gradcut.classifiers.checkpoints import load_strictly, read_checkpoint, state_of
from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.hub import create_timm
from gradcut.errors import ClassifierError, GradcutError, one_line
from gradcut.labels import decoded, names_of, read_names, vocabulary

#: What a card may say, and of what type.
KEYS: Mapping[str, tuple[type, ...]] = {
    "architecture": (str,), "weights": (str,), "labels": (list, dict, str), "size": (int, list), "mean": (list,),
    "std": (list,), "multilabel": (bool,), "threshold": (int, float), "top_k": (int,), "name": (str,),
    "channels": (str,),
}  # fmt: skip


def load_card(path: Path, name: str) -> Classifier:
    """A timm architecture with one's own weights and labels, described by a JSON card.

    Raises:
        ClassifierError: no such card, one that says something else than `KEYS`, or weights that do not fit it.
    """
    card = _read(path)
    try:
        labels = as_labels(_labels(card["labels"], path))
    except ClassifierError as error:
        raise ClassifierError(f"{path}: {error}") from error
    beside = [path.with_suffix(suffix) for suffix in (".safetensors", ".pth", ".pt", ".bin", ".ckpt")]
    weights = path.parent / card["weights"] if "weights" in card else next(filter(Path.is_file, beside), beside[0])
    model = create_timm(card["architecture"].removeprefix("timm/"), name, num_classes=len(labels))
    architecture = f"timm's {card['architecture']} with {len(labels)} labels"
    load_strictly(model, state_of(read_checkpoint(weights), weights), weights, architecture)
    options = {key: value for key, value in card.items() if key not in ("architecture", "weights", "labels", "name")}
    try:
        return Classifier.from_timm(model.eval(), labels, name=card.get("name", path.stem), **options)
    except ClassifierError as error:
        raise ClassifierError(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(decoded(path.read_bytes()))
    except FileNotFoundError:
        raise ClassifierError(
            f"{path}: no such card; it is JSON with {', '.join(KEYS)}, of which architecture and labels are needed"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ClassifierError(f"{path}: cannot be read as JSON: {one_line(error)}") from error
    if not isinstance(card, dict) or not {"architecture", "labels"} <= set(card) <= set(KEYS):
        got = ", ".join(card) if isinstance(card, dict) else type(card).__name__
        raise ClassifierError(f"{path}: expected architecture, labels and no more than {', '.join(KEYS)}; got {got}")
    for key, value in card.items():
        if not isinstance(value, KEYS[key]):
            types = " or ".join(kind.__name__ for kind in KEYS[key])
            raise ClassifierError(f"{path}: {key}: expected {types}, got {value!r}")
    return card


def _labels(labels: list[str] | dict[str, Any] | str, path: Path) -> Sequence[str]:
    """A list as it is, a mapping by its indices, a vocabulary by its name, or the names in a file beside the card."""
    if isinstance(labels, list):
        return labels
    try:
        if isinstance(labels, dict):
            return names_of(labels)
        file = path.parent / labels
        return vocabulary(labels) or read_names(file.read_bytes(), file.suffix.lower() in (".csv", ".tsv"))
    except FileNotFoundError:
        raise ClassifierError(
            f"labels: expected a list, coco, voc, imagenet or a file of them, got {labels!r}"
        ) from None
    except (OSError, GradcutError) as error:
        what = f"labels: {labels}" if isinstance(labels, str) else "labels"
        raise ClassifierError(f"{what}: {one_line(error)}") from error
