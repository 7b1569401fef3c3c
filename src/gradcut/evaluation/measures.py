"""Pure functions of masks and maps: what a mask or a map is worth beside the true one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from gradcut import images
from gradcut.ranking import average_precision
from gradcut.seeds import is_constant

#: Raised whenever a row's numbers are computed otherwise: rows of two versions are not put together.
MEASURES = 1


class Counts(NamedTuple):
    """Pixels that are in both masks, in the prediction alone, in the truth alone, in neither.

    A ratio without pixels to speak of is None.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def iou(self) -> float | None:
        """Intersection over union (Jaccard 1912); None where both masks are empty."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float | None:
        """Share of the prediction that is true; None for an empty prediction."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """Share of the truth that was found; None where the truth is empty."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def accuracy(self) -> float | None:
        """Share of the pixels that are right."""
        return _ratio(self.tp + self.tn, sum(self))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def counts(
    prediction: Bool[np.ndarray, "*size"],
    truth: Bool[np.ndarray, "*size"],
    ignore: Bool[np.ndarray, "*size"] | None = None,
) -> Counts:
    """Compare two masks, or pixels of them, one by one, without the ignored ones."""
    if ignore is not None and ignore.any():
        prediction, truth = prediction[~ignore], truth[~ignore]
    both, predicted, true = map(int, map(np.count_nonzero, (prediction & truth, prediction, truth)))
    return Counts(both, predicted - both, true - both, truth.size - predicted - true + both)


def iou(
    prediction: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"], ignore: Bool[np.ndarray, "H W"] | None = None
) -> float | None:
    """Intersection over union in [0, 1]; None where both masks are empty."""
    return counts(prediction, truth, ignore).iou


def pointing(
    saliency: Float[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"], ignore: Bool[np.ndarray, "H W"]
) -> bool | None:
    """The pointing game (Zhang et al. 2016): does the map's maximum, its first, lie in the mask? No tolerance.

    A map that is the same everywhere, up to rounding, points nowhere: a miss.
    """
    if ignore.all():
        return None
    return not is_constant(saliency) and bool(truth.flat[np.argmax(np.where(ignore, -np.inf, saliency))])


def energy_inside(
    saliency: Float[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"], ignore: Bool[np.ndarray, "H W"]
) -> float | None:
    """Share of the map's sum that lies in the mask (Wang et al. 2020, there in the box); None for an empty map."""
    total = float(saliency[~ignore].sum(dtype=np.float64))
    return float(saliency[truth & ~ignore].sum(dtype=np.float64)) / total if total > 0 else None


#: Of the ImageNet-Segmentation protocol, height and width.
PROTOCOL_SIZE = (224, 224)


def protocol(saliency: Float[np.ndarray, "h w"], truth: Bool[np.ndarray, "H W"]) -> dict[str, Any]:
    """ImageNet-Segmentation's way to judge a saliency map (Chefer et al. 2021), everything at 224 x 224.

    The map, scaled to [0, 1], is foreground above its mean. The average precision ranks both classes' pixels
    together: each pixel once with the map as foreground, once with its complement as background.

    Returns:
        ``counts`` of pixels of the thresholded map, and the average precision ``ap``.
    """
    values = images.resize_map(saliency, PROTOCOL_SIZE).astype(np.float64)
    constant = is_constant(values)
    values = np.zeros_like(values) if constant else (values - values.min()) / float(values.max() - values.min())
    height, width = PROTOCOL_SIZE
    target = np.asarray(Image.fromarray(truth).resize((width, height), Image.Resampling.NEAREST))
    both = np.concatenate([1 - values.ravel(), values.ravel()])
    ap = average_precision(scores=both, truth=np.concatenate([~target.ravel(), target.ravel()]))
    return {"counts": list(counts(values > values.mean(), target)), "ap": ap}
