"""A remote source of FiftyOne's model zoo: FiftyOne copies this folder, and calls these two functions.

FiftyOne calls this module what manifest.json calls the folder, which must not be gradcut.

Nothing is downloaded for the models whose weights come with gradcut's own packages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradcut import Segmenter, load_classifier
from gradcut.errors import GradcutError
from gradcut.integrations import fiftyone


def download_model(model_name: str, model_path: str) -> None:
    """Write the file that FiftyOne looks for: it holds the classifier's name, empty for one of the user's choice."""
    name = model_name.rpartition("/")[2]
    Path(model_path).write_text("" if name == "classifier" else name, encoding="utf-8")


def load_model(
    model_name: str,
    model_path: str,
    classifier: str | None = None,
    recipe: str = "default",
    labels: Sequence[str] | None = None,
    saliency: bool = False,
    device: str | None = None,
    threshold: float | None = None,
    top_k: int | None = None,
    min_confidence: float | None = None,
) -> Any:
    """What ``fiftyone.zoo.load_zoo_model`` returns: the arguments are those of the command line.

    Raises:
        GradcutError: ``gradcut/classifier`` without a classifier, or one that is named for another model.
    """
    own = Path(model_path).read_text(encoding="utf-8")
    if (classifier is None) == (not own):
        expected = "the name of one, as classifier=" if not own else f"none, for {model_name} is {own}"
        raise GradcutError(f"classifier: expected {expected}; got {classifier!r}")
    loaded = load_classifier(classifier or own).to(device)
    return fiftyone.model(Segmenter(loaded, recipe, threshold, top_k, min_confidence), labels, saliency)
