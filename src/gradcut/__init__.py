"""gradcut turns any image classifier into a segmenter, with no segmentation training.

>>> from gradcut import Segmenter, load_classifier
>>> from skimage.data import chelsea
>>> segment = Segmenter(load_classifier())
>>> result = segment(chelsea())
>>> result.objects[0].label
'cat'
"""

import importlib as _importlib
import os as _os
import typing as _typing

if _typing.TYPE_CHECKING:
    from gradcut.classifiers import Classifier, Detection, load_classifier
    from gradcut.errors import GradcutError
    from gradcut.integrations.hugging_face import pipeline
    from gradcut.recipes import RECIPES, Recipe
    from gradcut.results import Object, Segmentation
    from gradcut.runs.segment import segment_folder
    from gradcut.seeds import Seeds
    from gradcut.segmenter import Segmenter
    from gradcut.strokes import refine

# Half of a network's time on the CPU went into touching new memory page by page. PyTorch reads this when it first
# makes a tensor, and then asks Linux for pages of 2 MB; 0 keeps the small ones.
_os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

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
    "pipeline",
    "refine",
    "segment_folder",
]

_HOMES = {
    "RECIPES": "recipes",
    "Classifier": "classifiers",
    "Detection": "classifiers",
    "GradcutError": "errors",
    "Object": "results",
    "Recipe": "recipes",
    "Seeds": "seeds",
    "Segmentation": "results",
    "Segmenter": "segmenter",
    "load_classifier": "classifiers",
    "pipeline": "integrations.hugging_face",
    "refine": "strokes",
    "segment_folder": "runs.segment",
}


def __getattr__(name: str) -> _typing.Any:
    """Import on first use: torch takes seconds, and `gradcut --help` does without it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gradcut' has no attribute {name!r}")
    value = getattr(_importlib.import_module(f"gradcut.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
