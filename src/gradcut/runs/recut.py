"""What a correction makes of a photograph's masks: strokes are cut, classes painted, and edits made, in this order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from gradcut import edits
from gradcut.errors import GradcutError
from gradcut.masks import Cleaned, ColourCut, Outlined
from gradcut.painting import rasterise
from gradcut.results import Object, Segmentation
from gradcut.runs.corrections import Correction
from gradcut.seeds import Seeds
from gradcut.strokes import refine

#: Cuts a class without a map, by its strokes' colours. A blank map says no as firmly as ``slope`` times ``middle``: of
#: 0, 1, 2, 3 and the recipes' 6 chosen by eye on five strokes; with 0 backgrounds join in, with 6 nothing does.
_CUT = Outlined(Cleaned(ColourCut(slope=2.0)))


def recut(
    base: Segmentation, correction: Correction, dropped: Collection[str] = (), scale: float = 1.0
) -> tuple[Segmentation, list[int]]:
    """The result with what a person has changed, and which edits changed no pixel, by their places in the list.

    A class of `Correction.painted` has no saliency. Its mask is what was painted, and of the colour cut round it with a
    blank map the connected regions that hold something painted. Of other classes it takes pixels from those connected
    regions that its strokes touch, but for what was painted of them. Its score is 1: a person says that it is there.

    Args:
        base: of all the classes that contend, the run's and the added ones, before anything was painted; at any size.
        dropped: classes that contend and are not shown.
        scale: from the photograph's pixels to those of ``base``.

    Raises:
        GradcutError: a painted class that is there already, or strokes that cover the photograph too often.
        SeedError, MaskError: a seed rule or a mask maker that does not do its part.
    """
    left = {*correction.removed, *dropped}
    found = {item.label for item in base.objects} - left
    if twice := found & {*correction.painted}:
        raise GradcutError(f"painted: expected classes that are not there yet, got {min(twice)!r}")
    size = base.image.shape[:2]
    drawn = {
        label: rasterise(strokes, size, scale)
        for label, strokes in correction.strokes.items()
        if strokes and label in {*found, *correction.painted}
    }
    drawn = _later_wins(drawn)
    of_found = {label: strokes for label, strokes in drawn.items() if label in found}
    result = base
    if of_found:
        inside = {label: strokes.foreground for label, strokes in of_found.items()}
        result = refine(base, inside, {label: strokes.background for label, strokes in of_found.items()})
    objects = [item for item in result.objects if item.label not in left]
    for label in correction.painted:
        new = _painted(base, label, drawn, objects)
        objects = [*(_without(item, new.mask) for item in objects), new]
    if not correction.edits and not correction.painted:
        return replace(result, objects=tuple(objects)), []
    before = replace(result, objects=tuple(objects)).labelmap()
    names = [item.label for item in objects]
    values, idle = edits.apply(before, names, correction.edits, correction.strokes, scale)
    changed = []
    for number, item in enumerate(objects, start=1):
        mask = values == number
        if correction.edits and not np.array_equal(mask, before == number):
            item = replace(item, mask=mask, confidence=None, borrowed_from=None)
        elif correction.edits:
            item = replace(item, mask=mask)
        # Of which nothing was painted yet, or all was given away.
        if mask.any() or (item.label not in correction.painted and not (before == number).any()):
            changed.append(item)
    return replace(result, objects=tuple(changed)), idle


def _later_wins(drawn: Mapping[str, Seeds]) -> dict[str, Seeds]:
    """The strokes of each class without what was painted foreground of a later one: one pixel has one class."""
    own: dict[str, Seeds] = {}
    for label, (inside, outside) in reversed([*drawn.items()]):
        taken = np.logical_or.reduce([np.zeros_like(inside), *(strokes.foreground for strokes in own.values())])
        own[label] = Seeds(inside & ~taken, outside)
    return {label: own[label] for label in drawn}


def _painted(base: Segmentation, label: str, drawn: Mapping[str, Seeds], there: Sequence[Object]) -> Object:
    """A class that is not among those that are there, whose masks it does not change."""
    size, nowhere = base.classifier.size, np.zeros(base.image.shape[:2], dtype=bool)
    empty = Seeds(np.zeros(size, dtype=bool), np.zeros(size, dtype=bool))
    known = [name.casefold() for name in base.classifier.labels]
    members = (known.index(label.casefold()),) if label.casefold() in known else ()
    item = Object(label, members, 1.0, np.zeros(size, np.float32), empty, nowhere, None)
    if label not in drawn or not drawn[label].foreground.any():
        return item
    inside, outside = drawn[label]
    others = [strokes.foreground for name, strokes in drawn.items() if name != label]
    others += [other.mask & ~_touched(other.mask, inside) & ~inside for other in there]
    alone = replace(base, objects=(item,), recipe=replace(base.recipe, masks=_CUT), disjoint=False)
    (cut,) = refine(alone, inside, np.logical_or.reduce([outside, *others])).objects
    return replace(cut, mask=cut.mask & _touched(cut.mask, inside), strokes=Seeds(inside, outside))


def _touched(mask: Bool[np.ndarray, "H W"], inside: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The connected regions of a mask, over the corners of pixels too, that hold some of what is inside."""
    regions, number = ndimage.label(mask, structure=np.ones((3, 3)))
    holds = np.zeros(number + 1, dtype=bool)
    holds[regions[inside]] = True
    holds[0] = False
    return np.asarray(holds[regions])


def _without(item: Object, taken: Bool[np.ndarray, "H W"]) -> Object:
    """An object without pixels that another one has taken."""
    if not (item.mask & taken).any():
        return item
    return replace(item, mask=item.mask & ~taken, confidence=None, borrowed_from=None)
