"""Opens segmenters by names: recipes on one classifier, or on one head a fold."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from gradcut.classifiers import Classifier, load_classifier
from gradcut.errors import EvaluationError
from gradcut.evaluation.segment import OutOfFold
from gradcut.recipes import Recipe, as_recipe, with_saliency
from gradcut.segmenter import Segmenter


def open_segmenters(
    recipes: Sequence[str] = ("default",),
    classifier: str = "coco80",
    *,
    folds: str | Path | None = None,
    threshold: float | None = None,
    top_k: int | None = None,
    min_confidence: float | None = None,
    disjoint: bool = False,
    words: Mapping[str, Sequence[str]] | None = None,
    half: bool = False,
    device: str | None = None,
) -> dict[str, Segmenter | OutOfFold]:
    """Recipes by name, each with the classifier, or with one classifier a fold.

    Args:
        recipes: names in `gradcut.RECIPES`; or such a name with a method that `gradcut.recipes.with_saliency` knows, as
            in ``"default with GradCAM"``.
        classifier: a name for `gradcut.load_classifier`; not asked with ``folds``.
        folds: the folder that ``gradcut fit --folds`` wrote: ``folds.csv`` and ``fold-0.safetensors``, ...
        threshold, top_k, min_confidence, disjoint: as for `Segmenter`.
        words: ``labels``, ``templates``, ``background`` for `gradcut.load_classifier`, if the classifier takes words.
        half: let the networks compute in bfloat16.
        device: where the models go; by default they stay on the CPU.

    Raises:
        GradcutError: an unknown recipe, a classifier that cannot be loaded, or a folder that holds no folds.
    """

    def load(name: str) -> Classifier:
        loaded = load_classifier(name, **(words or {}))
        return loaded.to(device, torch.bfloat16 if half else None)

    steps = {name: _recipe(name) for name in recipes}
    limits = threshold, top_k, min_confidence, disjoint
    if folds is None:
        asked = load(classifier)
        return {name: Segmenter(asked, recipe, *limits) for name, recipe in steps.items()}
    table = read_folds(Path(folds) / "folds.csv")
    heads = [load(str(Path(folds) / f"fold-{number}.safetensors")) for number in range(max(table.values()) + 1)]
    return {
        name: OutOfFold(tuple(Segmenter(head, recipe, *limits) for head in heads), table)
        for name, recipe in steps.items()
    }


def _recipe(name: str) -> Recipe:
    recipe, _, method = name.partition(" with ")
    return with_saliency(recipe, method) if method else as_recipe(recipe)


def read_folds(path: Path) -> dict[str, int]:
    """``folds.csv`` with the columns file and fold, as ``gradcut fit --folds`` writes it: file to fold.

    A photograph goes by its file name alone; one of several of that name by its path, as written there. A fold of -1
    is of a photograph that every fold's head was fitted to.

    Raises:
        EvaluationError: the file is missing, empty or without these columns.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = [(entry["file"], int(entry["fold"])) for entry in csv.DictReader(file)]
    except OSError as error:
        raise EvaluationError(f"folds: {path}: {error.strerror or error}") from error
    except (KeyError, ValueError, TypeError) as error:
        raise EvaluationError(f"folds: {path}: expected the columns file and fold, a number: {error!r}") from error
    if not lines:
        raise EvaluationError(f"folds: {path}: expected a line a photograph, got none")
    times = Counter(Path(name).name for name, _ in lines)
    return {name if times[Path(name).name] > 1 else Path(name).name: fold for name, fold in lines}
