"""How far a mask can be trusted: the IoU to expect of it, and which of its pixels are unsure.

The expected IoU is a logistic function of nine numbers that are at hand once a mask is made. Its coefficients, in
``data/confidence.json``, are fitted to photographs with known masks by ``benchmarks/confidence.py``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from gradcut.compact import CompactMask, as_compact
from gradcut.errors import GradcutError
from gradcut.images import Photograph
from gradcut.seeds import Seeds, is_constant

#: What `features` measures, in order.
FEATURES = ("score", "area", "contrast", "agreement", "sharpness", "overlap", "border", "lead", "company")

#: A mask with a smaller IoU to expect is called unsure. Of 90 masks of ``default`` on 26 photographs of COCO that were
#: looked at one by one, 0.3 keeps 39, among them 19 of the 21 that reach an IoU of 0.5 with the truth.
UNSURE = 0.3


def features(
    saliency: Float[np.ndarray, "n h w"],
    masks: Bool[np.ndarray, "n H W"] | Sequence[CompactMask],
    scores: Sequence[float],
) -> Float[np.ndarray, "n 9"]:
    """What tells a good mask from a bad one without the truth, for all the classes of one photograph.

    ============= ===============================================================================
    ``score``     log-odds of the class's probability, within -6 and 6
    ``area``      logarithm of the mask's share of the photograph
    ``contrast``  mean saliency inside, over the sum of the means inside and outside
    ``agreement`` IoU of the mask with the saliency above 0.35 of its maximum
    ``sharpness`` logarithm of the areas above 0.7 and above 0.2 of the maximum, their difference
    ``overlap``   share of the mask that other classes' masks hold, too
    ``border``    share of the photograph's border that the mask holds
    ``lead``      logarithm of the saliency's maximum, less that of the photograph's strongest class
    ``company``   logarithm of the number of classes
    ============= ===============================================================================

    All are measured at the saliency's size.
    """
    if not len(saliency):
        return np.zeros((0, len(FEATURES)))
    small = np.stack([as_compact(mask).resized(saliency.shape[1:]) for mask in masks])
    shared = small.sum(0) > 1
    rows = [_one(shared, *each) for each in zip(saliency, small, scores, strict=True)]
    strength = np.log(saliency.max(axis=(1, 2)).astype(np.float64) + 1e-6)
    company = np.full(len(rows), math.log(len(rows)))
    return np.column_stack([np.array(rows), strength - strength.max(), company])


def _one(
    shared: Bool[np.ndarray, "h w"], saliency: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"], score: float
) -> tuple[float, ...]:
    """The first seven; ``shared`` is where more than one class's mask is."""
    odds = min(max(score, 1e-9), 1 - 1e-9)
    pixels = int(mask.sum())
    total, inside = float(saliency.sum()), float(saliency[mask].sum())
    mean_inside = inside / max(pixels, 1)
    mean_outside = (total - inside) / max(mask.size - pixels, 1)
    low, middle, high = (saliency > share * saliency.max() for share in (0.2, 0.35, 0.7))
    return (
        min(max(math.log(odds / (1 - odds)), -6.0), 6.0),
        math.log(pixels / mask.size + 1e-4),
        mean_inside / (mean_inside + mean_outside) if total else 0.5,
        float((middle & mask).sum() / max((middle | mask).sum(), 1)),
        math.log(high.mean() + 1e-4) - math.log(low.mean() + 1e-4),
        float((shared & mask).sum() / max(pixels, 1)),
        float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean()),
    )


def expected_iou(values: Float[np.ndarray, "n 9"], recipe: str | None) -> list[float] | list[None]:
    """The IoU with the true mask to expect of each class, in [0, 1], from its features.

    Args:
        recipe: the name of one of gradcut's recipes. Where none was fitted, which is so for every recipe that is not in
            ``confidence.json`` and for None, nothing is known: a list of None.
    """
    fitted = None if recipe is None else coefficients().get(recipe)
    if fitted is None:
        return [None] * len(values)
    odds: list[float] = (values @ np.array(fitted["weights"]) + fitted["bias"]).tolist()
    return [1 / (1 + math.exp(-min(max(value, -50.0), 50.0))) for value in odds]


def expected(
    saliency: Float[np.ndarray, "n h w"],
    masks: Bool[np.ndarray, "n H W"] | Sequence[CompactMask],
    scores: Sequence[float],
    recipe: str | None,
) -> list[float | None]:
    """The IoU to expect of each class, as `expected_iou` says; 0 for one without a mask whose map says nothing."""
    values = expected_iou(features(saliency, masks, scores), recipe)
    return [
        0.0 if value is not None and is_constant(own) and not mask.any() else value
        for value, own, mask in zip(values, saliency, masks, strict=True)
    ]


@cache
def coefficients() -> Mapping[str, Any]:
    """By recipe: ``weights`` in the order of `FEATURES`, and ``bias``."""
    document: dict[str, Any] = json.loads((Path(__file__).parent / "data/confidence.json").read_text(encoding="utf-8"))
    return document


#: Which recipes give confidences, for messages.
CONFIDENT = "only the recipes default, best and fast, on a head with weights for places such as coco80's,"


def check_confidence(argument: str, least: object) -> None:
    """Raise GradcutError unless it is a number from 0 to 1."""
    if isinstance(least, bool) or not isinstance(least, float | int) or not 0 <= least <= 1:
        raise GradcutError(f"{argument}: expected a confidence from 0 to 1, got {least!r}")


#: How `support` changes what a mask is made from: the sizes of the two sides' seeds, and the exponent of the saliency.
VARIANTS = ((0.4, 1.6, 1.5), (0.7, 1.3, 1.2), (1.4, 0.7, 0.85), (2.0, 0.4, 0.7))


def support(
    photograph: Photograph,
    saliency: Float[np.ndarray, "n h w"],
    seeds: Sequence[Seeds],
    masks: Bool[np.ndarray, "n H W"],
    maker: Callable[..., Bool[np.ndarray, "n H W"]],
) -> Float[np.ndarray, "n H W"]:
    """In how many of five masks a pixel is, as a share: the mask itself, two from stricter and two from laxer seeds.

    A stricter variant keeps the most salient part of the foreground seeds and widens the background's; a laxer one
    the other way round. Each costs as much as the mask did.
    """
    votes = masks.astype(np.float32)
    for foreground, background, exponent in VARIANTS:
        peak = saliency.max(axis=(1, 2), keepdims=True, initial=0)
        bent = (saliency / np.where(peak > 0, peak, 1)) ** exponent * peak
        others = [resized(s, each, foreground, background) for s, each in zip(saliency, seeds, strict=True)]
        votes += maker(photograph, bent.astype(saliency.dtype), others)
    return votes / (1 + len(VARIANTS))


def resized(saliency: Float[np.ndarray, "h w"], seeds: Seeds, foreground: float, background: float) -> Seeds:
    """Seeds with so many times the pixels: a smaller side keeps its surest ones, a larger one adds the next sure."""
    inside = _resized(seeds.foreground, saliency, foreground, ~seeds.background)
    return Seeds(inside, _resized(seeds.background, -saliency, background, ~inside))


def _resized(
    side: Bool[np.ndarray, "h w"], sure: Float[np.ndarray, "h w"], times: float, allowed: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    number = max(1, round(times * side.sum())) if side.any() else 0
    # The side's own pixels come first, whatever their saliency; pixels of the other side never.
    rank = np.lexsort((-sure.ravel(), ~side.ravel(), ~allowed.ravel()))
    chosen = np.zeros(side.size, dtype=bool)
    chosen[rank[:number]] = True
    kept: np.ndarray = chosen.reshape(side.shape) & allowed
    return kept
