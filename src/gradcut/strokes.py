"""Correcting masks: strokes that a person paints become hard seeds, and the masks are cut again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from gradcut import confidence
from gradcut.compact import Patch, is_nowhere, nowhere, together
from gradcut.errors import GradcutError
from gradcut.recipes import fitted_name
from gradcut.results import Segmentation
from gradcut.seeds import Seeds

Painted = Bool[np.ndarray, "H W"] | Mapping[str, Bool[np.ndarray, "_ _"]]


def refine(
    segmentation: Segmentation, foreground: Painted | None = None, background: Painted | None = None
) -> Segmentation:
    """Cut again with strokes that a person painted, as hard seeds: no network, a fraction of a second.

    What was painted foreground is inside the mask afterwards, what was painted background outside, to the
    pixel, whatever the recipe; around it the mask maker decides, with the strokes among its seeds. A region of
    automatic seeds that a stroke contradicts is withdrawn. Earlier strokes stay in force where no later one
    covers them: correcting in two steps is correcting at once. One pixel has one class, so what is painted
    foreground of one object is background of the others.

    Args:
        foreground, background: a mask of the photograph's size for each label that was painted; for a
            segmentation with one object, the mask alone.

    Raises:
        GradcutError: an unknown label, a mask of another size, or a pixel painted as both.
        SeedError, MaskError: a seed rule or a mask maker that does not do its part.
    """
    strokes = _strokes(segmentation, foreground, background)
    found = segmentation.objects
    if not found:
        return segmentation
    recipe, image, size = segmentation.recipe, segmentation.image, segmentation.image.shape[:2]
    patches = [(Patch(inside), Patch(outside)) for inside, outside in strokes]
    clock = [time.perf_counter()]
    taken = [
        together([*(inside for inside, _ in patches if inside is not own), Patch(nowhere(size))], own)
        for own, _ in patches
    ]
    seeds = [
        _merge(recipe.make_seeds(o.saliency), own, against, others, o.saliency)
        for o, (own, against), others in zip(found, patches, taken, strict=True)
    ]
    clock.append(time.perf_counter())
    maps = np.stack([o.saliency for o in found])
    masks = recipe.make_masks(image, maps, seeds)
    # A mask maker works at the saliency's size, where a stroke's boundary falls inside a pixel.
    exact = [
        mask.with_painted([(others, False), (against, False), (own, True)])
        for mask, (own, against), others in zip(masks, patches, taken, strict=True)
    ]
    clock.append(time.perf_counter())
    seconds = {**segmentation.seconds, **dict(zip(("seeds", "masks"), np.diff(clock).tolist(), strict=True))}
    expected = confidence.expected(maps, exact, [o.score for o in found], fitted_name(recipe))
    objects = tuple(
        o.changed(seeds=seed, mask=mask, strokes=stroke, confidence=iou)
        for o, seed, mask, stroke, iou in zip(found, seeds, exact, strokes, expected, strict=True)
    )
    # What a person has painted is nothing that the confidence was fitted to, and is nobody else's.
    objects = tuple(
        o.changed(confidence=None, borrowed_from=None) if any(painted) else o
        for o, painted in zip(objects, patches, strict=True)
    )
    refined = replace(segmentation, objects=objects, seconds=seconds)
    return refined.without_overlaps() if segmentation.disjoint else refined


def _strokes(segmentation: Segmentation, foreground: Painted | None, background: Painted | None) -> list[Seeds]:
    """Each object's strokes so far and now, at the photograph's size."""
    labels = [o.label for o in segmentation.objects]
    size = segmentation.image.shape[:2]
    painted: dict[str, dict[str, np.ndarray]] = {}
    for argument, given in (("foreground", foreground), ("background", background)):
        if given is not None and not isinstance(given, Mapping):
            if len(labels) != 1:
                raise GradcutError(
                    f"{argument}: expected a mask for each label painted, since there are {len(labels)} objects; "
                    "got a mask alone"
                )
            given = {labels[0]: given}
        for label, mask in (given or {}).items():
            if label not in labels:
                raise GradcutError(f"{argument}: expected labels among {', '.join(labels) or 'none'}, got {label!r}")
            if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != size:
                raise GradcutError(f"{argument}: expected a boolean mask of {size}, got {_described(mask)}")
        painted[argument] = dict(given or {})
    nothing = nowhere(size)
    inside = [painted["foreground"].get(label, nothing) for label in labels]
    outside = [painted["background"].get(label, nothing) for label in labels]
    for label, a, b in zip(labels, inside, outside, strict=True):
        if a is not nothing and b is not nothing and (both := int((a & b).sum())):
            raise GradcutError(
                f"foreground, background: expected disjoint masks, got {both} pixels of {label!r} in both"
            )
    now = [a for a in inside if a is not nothing]
    strokes = []
    for o, a, b in zip(segmentation.objects, inside, outside, strict=True):
        before = o.strokes or Seeds(nothing, nothing)
        strokes.append(Seeds(_over(before.foreground, a, [b, *now]), _over(before.background, b, [a])))
    return strokes


def _over(
    before: Bool[np.ndarray, "H W"], now: Bool[np.ndarray, "H W"], against: Sequence[Bool[np.ndarray, "H W"]]
) -> Bool[np.ndarray, "H W"]:
    """Strokes before without what is painted against them, and those of now."""
    if is_nowhere(before):
        return now if is_nowhere(now) else now.copy()
    painted = before.copy()
    for other in against:
        if not is_nowhere(other):
            painted &= ~other
    painted |= now
    return painted


def _described(mask: object) -> str:
    return f"{mask.dtype} of {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__


def _merge(seeds: Seeds, own: Patch, against: Patch, others: Patch, saliency: Float[np.ndarray, "h w"]) -> Seeds:
    """Automatic seeds with an object's own strokes and the other objects' foreground laid over them.

    All at the saliency's size. A region of automatic seeds that a stroke of the other kind touches is wrong
    somewhere, and a person paints one stroke, not all of it over: the region is withdrawn as a whole. Where that
    leaves a side without seeds, the unpainted pixels of the highest (lowest) saliency count. Where the map says
    nothing there are no automatic seeds, and the strokes alone count.
    """
    if not (own or against or others):
        return seeds
    size = saliency.shape
    inside, contrary, outside = (stroke.coverage(size) for stroke in (own, against, together([against, others])))
    unpainted = (inside == 0) & (outside == 0)
    if not unpainted.any():
        return seeds  # the strokes decide every pixel, whatever is cut
    foreground = (_uncontradicted(seeds.foreground, contrary > 0) & (outside == 0)) | (inside > outside)
    background = (_uncontradicted(seeds.background, inside > 0) & (inside == 0)) | (outside > inside)
    if seeds.foreground.any() and not foreground.any():
        foreground = unpainted & (saliency == saliency[unpainted].max())
        background &= ~foreground
    if seeds.background.any() and not background.any():
        background = unpainted & (saliency == saliency[unpainted].min())
        foreground &= ~background
    return Seeds(foreground, background)


def _uncontradicted(seeds: Bool[np.ndarray, "h w"], against: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The connected regions (4 neighbours) of the seeds that the other kind's strokes do not touch."""
    if not (seeds & against).any():
        return seeds
    regions, _ = ndimage.label(seeds)
    return seeds & ~np.isin(regions, regions[seeds & against])
