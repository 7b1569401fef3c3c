"""gradcut turns any image classifier into a segmenter, with no segmentation training.

>>> from gradcut import Segmenter, load_classifier
>>> from skimage.data import chelsea
>>> segment = Segmenter(load_classifier("embedded"))
>>> result = segment(chelsea())
>>> result.objects[0].label
'Egyptian cat'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradcut.classifier import Classifier, Detection
    from gradcut.errors import GradcutError
    from gradcut.seeds import Seeds
    from gradcut.segmenter import RECIPES, Object, Recipe, Segmentation, Segmenter
    from gradcut.sources import load_classifier
    from gradcut.strokes import refine

__version__ = "0.1.0"

__all__ = [
    "RECIPES",
    "Classifier",
    "Detection",
    "GradcutError",
    "Object",
    "Recipe",
    "Seeds",
    "Segmentation",
    "Segmenter",
    "load_classifier",
    "refine",
]

_HOMES = {
    "Classifier": "classifier",
    "Detection": "classifier",
    "GradcutError": "errors",
    "Seeds": "seeds",
    "load_classifier": "sources",
    "refine": "strokes",
}


def __getattr__(name: str) -> Any:
    """Import on first use: torch takes seconds, and `gradcut --help` does without it."""
    if name not in __all__:
        raise AttributeError(f"module 'gradcut' has no attribute {name!r}")
    return getattr(import_module(f"gradcut.{_HOMES.get(name, 'segmenter')}"), name)
