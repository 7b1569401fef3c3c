"""What the page asks for, and what it shows and gives away: requests to segmentations, segmentations to pictures."""

from __future__ import annotations

import functools
import io
import zipfile
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn, TypeGuard

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gradcut import formats, images, overlaps, pictures
from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.words import words_of
from gradcut.confidence import UNSURE
from gradcut.errors import GradcutError
from gradcut.images import Photograph
from gradcut.painting import Stroke, parse_strokes, rasterise
from gradcut.recipes import RECIPES, Recipe
from gradcut.results import Object, Segmentation
from gradcut.seeds import Fractions, Percentiles
from gradcut.segmenter import Evidence, Segmenter
from gradcut.strokes import refine

#: The least score that the page's threshold can ask for.
FLOOR = 0.05

#: Letters of a class's name.
_LONGEST = 200

#: How many words the page can ask for at once.
WORDS = 200

_SIDE = 1400  # pixels of the longer side of what the browser shows
# Object is blue and background orange, here as in the page's own style, which nearly everybody can tell apart.
_MASK_COLOURS = np.array([(0, 0, 0, 0), (26, 109, 255, 120), (255, 255, 255, 255)], dtype=np.uint8)
_SEED_COLOURS = np.array([(0, 0, 0, 0), (240, 112, 0, 170), (26, 109, 255, 210)], dtype=np.uint8)


@dataclass(frozen=True)
class Query:
    """What the page asks for, checked.

    Args:
        words: the classes, of a classifier of words; None for those that it was loaded with.
        label: the class to look at; None is the best one.
        foreground, background: of the recipe's seed rule instead of its own; None leaves it.
        strokes: for each label the strokes in order.
    """

    classifier: str
    words: tuple[str, ...] | None
    recipe: Recipe
    label: str | None
    threshold: float
    foreground: float | None
    background: float | None
    strokes: Mapping[str, Sequence[Stroke]]

    @classmethod
    def parse(cls, document: object, classifiers: Mapping[str, Classifier]) -> Query:
        """Raises GradcutError, naming what is wrong."""
        if not isinstance(document, dict):
            wrong("request", "a JSON object", document)
        recipe, classifier, label = (document.get(key) for key in ("recipe", "classifier", "label"))
        if not isinstance(recipe, str) or recipe not in RECIPES:
            wrong("recipe", f"one of {', '.join(RECIPES)}", recipe)
        if not isinstance(classifier, str) or classifier not in classifiers:
            wrong("classifier", f"one of {', '.join(classifiers)}", classifier)
        words = _parse_words(document.get("words"), classifiers[classifier])
        if not (label is None or (isinstance(label, str) and len(label) <= _LONGEST)):
            wrong("label", "a class's name", label)
        threshold, foreground, background = (document.get(key) for key in ("threshold", "foreground", "background"))
        if not _number(threshold) or not FLOOR <= threshold <= 1:
            wrong("threshold", f"a number from {FLOOR} to 1", threshold)
        for key, value in (("foreground", foreground), ("background", background)):
            if not (value is None or _number(value)):
                wrong(key, "a number", value)
        strokes = parse_strokes(document.get("strokes", {}))
        return cls(classifier, words, RECIPES[recipe], label, threshold, foreground, background, strokes)

    @property
    def asked(self) -> tuple[str, tuple[str, ...] | None, str]:
        """Whom it asks, and by which recipe."""
        return self.classifier, self.words, self.recipe.name

    def segmenter(self, classifier: Classifier) -> Segmenter:
        """What answers it, with the classifier that it asks.

        Raises:
            GradcutError: seeds out of order, or changed for a recipe whose seeds have no two numbers.
        """
        recipe = self.recipe
        changed = {
            key: value
            for key, value in (("foreground", self.foreground), ("background", self.background))
            if value is not None
        }
        if changed:
            if not isinstance(recipe.seeds, Percentiles | Fractions):
                raise GradcutError(f"The recipe {recipe.name} has no percentiles that could be changed.")
            recipe = replace(recipe, seeds=replace(recipe.seeds, **changed))
        return Segmenter(classifier, recipe, self.threshold)


def _parse_words(document: Any, classifier: Classifier) -> tuple[str, ...] | None:
    """The classes that a classifier of words is asked for; None for those that it has already."""
    if document is None:
        return None
    if words_of(classifier.model) is None:
        wrong("words", f"none, for {classifier.name} has classes of its own", document)
    if not (isinstance(document, list) and 0 < len(document) <= WORDS and all(isinstance(w, str) for w in document)):
        wrong("words", f"a list of 1 to {WORDS} words", document)
    words = tuple(document)
    return None if words == classifier.labels else words


def wrong(argument: str, expected: str, got: object) -> NoReturn:
    """Raise the GradcutError that says so, with the beginning of what came."""
    raise GradcutError(f"{argument}: expected {expected}, got {str(got)[:60]!r}")


def _number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def detected(evidence: Evidence, asked: float | tuple[str, ...], segmenter: Segmenter) -> Evidence | None:
    """What the network says of the classes that a segmenter detects, if evidence from before has just these.

    Saliency depends on which classes are explained together, so those of another threshold are no substitute.

    Args:
        asked: the threshold, or the labels, that the evidence was asked for with.
    """
    threshold, most = segmenter.limits
    if evidence.best[0].score < threshold:
        return replace(evidence, found=(), saliency=evidence.saliency[:0])
    if isinstance(asked, tuple) or any(item.score < threshold for item in evidence.found):
        return None
    labels = {item.label for item in evidence.found}
    others = [item.score for item in evidence.best if item.label not in labels]
    # Of the classes beyond the best ones it is known only that they did not reach the threshold of then.
    complete = len(evidence.found) >= min(most, len(segmenter.classifier.labels))
    return evidence if complete or max(others, default=asked) < threshold or asked <= threshold else None


def cut(
    segmenter: Segmenter,
    evidence: Evidence,
    strokes: Mapping[str, Sequence[Stroke]],
    alone: str | None,
    scale: float,
) -> Segmentation:
    """Seeds, masks, and the strokes that were painted for the classes that are there.

    Args:
        evidence: with the photograph at the size that is wanted.
        alone: the only class to keep; None keeps all.
        scale: of that photograph, to the one that was painted on.
    """
    result = segmenter.cut(replace(evidence, asked=True))  # who looks at a class sees it, whosever its pixels are
    if alone is not None:
        result = replace(result, objects=tuple(item for item in result.objects if item.label == alone))
    labels = {o.label for o in result.objects}
    painted = {
        label: rasterise(drawn, result.image.shape[:2], scale)
        for label, drawn in strokes.items()
        if drawn and label in labels
    }
    if not painted:
        return result
    # A stroke takes pixels from the other classes, so two classes cannot both have painted one pixel.
    return functools.reduce(
        lambda so_far, item: refine(so_far, {item[0]: item[1].foreground}, {item[0]: item[1].background}),
        painted.items(), result,
    )  # fmt: skip


def looked_at(result: Segmentation, query: Query) -> Object | None:
    """The object of the class that is asked for, or the first; None where it is not there."""
    return next((item for item in result.objects if query.label in (None, item.label)), None)


def view(evidence: Evidence, result: Segmentation, query: Query) -> dict[str, Any]:
    """What the page shows of a result, as JSON values; pictures are data URLs."""
    shown = looked_at(result, query)
    label = query.label if shown is None else shown.label
    scores = {d.label: d.score for d in (*evidence.best, *evidence.found)} | {o.label: o.score for o in result.objects}
    found = {d.label for d in evidence.found}
    unsure = {
        o.label: f"expected IoU {o.confidence:.2f} is below {UNSURE:g}: the mask is probably wrong"
        for o in result.objects
        if o.unsure
    }
    unsure |= {o.label: overlaps.note(o.borrowed_from) for o in result.objects if o.borrowed_from is not None}
    classes = [
        {"label": name, "score": score, "found": name in found, "unsure": unsure.get(name, "")}
        for name, score in sorted(scores.items(), key=lambda item: -item[1])
    ]
    document = {"classes": classes, "label": label}
    return document if shown is None else document | _pictures(result, shown)


def _pictures(result: Segmentation, shown: Object) -> dict[str, Any]:
    seen = {
        "score": shown.score,
        "confidence": shown.confidence,
        "share": float(shown.mask.mean()),
        "saliency": data_url(pictures.heat(shown.saliency)),
    }
    if shown.blank:
        return seen | {"blank": blank(shown)}
    mask = shown.mask.astype(np.uint8)
    mask[pictures.outline(mask)] = 2
    seeds = shown.seeds.background + 2 * shown.seeds.foreground.astype(np.uint8)
    return seen | {"mask": data_url(mask, _MASK_COLOURS), "seeds": data_url(seeds, _SEED_COLOURS)}


def blank(shown: Object) -> str:
    """What the page says in the place of a mask."""
    return (
        f"The saliency of {shown.label} is blank, the same everywhere, so there is no mask. Choose another "
        "recipe, such as guided, or paint the object with a stroke."
    )


def data_url(pixels: UInt8[np.ndarray, "h w *c"], palette: UInt8[np.ndarray, "n k"] | None = None) -> str:
    return "data:image/png;base64," + b64encode(images.encode_png(pixels, palette)).decode()


def reduced(photograph: Photograph, side: int = _SIDE) -> UInt8[np.ndarray, "h w 3"]:
    """The photograph, no larger than a screen, or than so many pixels."""
    height, width = photograph.shape[:2]
    scale = min(1.0, side / max(height, width))
    if scale == 1:
        return photograph
    return images.resize(photograph, (max(1, round(height * scale)), max(1, round(width * scale))))


def jpeg(photograph: Photograph) -> bytes:
    """A file's contents."""
    file = io.BytesIO()
    Image.fromarray(photograph).save(file, format="JPEG", quality=90)
    return file.getvalue()


def _mask_file(result: Segmentation, shown: Object, name: str) -> bytes:
    if shown.blank:
        raise GradcutError(blank(shown))
    return images.encode_png(shown.mask)


def _labelmap_file(result: Segmentation, shown: Object, name: str) -> bytes:
    if result.state == "blank":
        raise GradcutError(blank(shown))
    return images.encode_png(result.labelmap(), pictures.palette())


def _pile(result: Segmentation) -> formats.Pile:
    """What a photograph is called where it came from is no path here."""
    pile = formats.pile([result])
    return replace(pile, photographs=[replace(each, pixels=lambda: result.image) for each in pile.photographs])


def _coco_file(result: Segmentation, shown: Object, name: str) -> bytes:
    with TemporaryDirectory(prefix="gradcut-") as folder:
        return formats.write(_pile(result), folder, "coco").read_bytes()


def _label_studio_file(result: Segmentation, shown: Object, name: str) -> bytes:
    """The tasks, and the labelling interface that they belong to, in one archive."""
    file = io.BytesIO()
    with TemporaryDirectory(prefix="gradcut-") as folder, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        formats.write(_pile(result), folder, "label-studio")
        for path in sorted(Path(folder).iterdir()):
            archive.write(path, path.name)
    return file.getvalue()


#: Each download's name, ending, media type and maker, called with the segmentation, the class looked at and the
#: photograph's name.
DOWNLOADS: Mapping[str, tuple[str, str, str, Callable[[Segmentation, Object, str], bytes]]] = {
    "mask": ("Mask (PNG)", ".png", "image/png", _mask_file),
    "labelmap": ("All classes (PNG)", "-labels.png", "image/png", _labelmap_file),
    "coco": ("COCO (JSON)", "-coco.json", "application/json", _coco_file),
    "label-studio": ("Label Studio (ZIP)", "-label-studio.zip", "application/zip", _label_studio_file),
}
