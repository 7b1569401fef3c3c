"""What becomes of a class's score where the pixels that a map calls important are taken away, put in, or left alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from gradcut.classifiers import Classifier
from gradcut.errors import EvaluationError
from gradcut.saliency import Baseline, Score
from gradcut.saliency.baselines import baseline_of
from gradcut.saliency.perturbation import tried

Map = Float[np.ndarray, "h w"]
#: A class's place among the logits, or those of a group.
Members = int | tuple[int, ...]


class Curve(NamedTuple):
    """The score after so large a share of the pixels was changed, in rising order."""

    shares: tuple[float, ...]
    scores: tuple[float, ...]

    @property
    def area(self) -> float:
        """Under the curve, by the trapezoidal rule, over the shares that it spans."""
        return float(np.trapezoid(self.scores, self.shares)) / (self.shares[-1] - self.shares[0])


def deletion(
    classifier: Classifier,
    x: Float[Tensor, "1 3 h w"],
    map: Map,
    members: Members,
    *,
    steps: int = 10,
    baseline: Baseline = "mean",
    of: Score = "probability",
    seed: int = 0,
    batch: int = 16,
) -> Curve:
    """The score while the most important pixels are covered, step by step (RISE, Petsiuk et al. 2018).

    A good map's score falls soon: a small area is better. Costs ``steps + 1`` forward passes.

    Args:
        x: a photograph as `Classifier.prepare` makes it.
        map: at least 0, of the photograph's size.
        members: the class, or the classes of a group.
        steps: of equally many pixels. The paper takes as many as the photograph has rows.
        baseline: what covers; the paper's is ``"mean"``.
        seed: of the order of pixels whose values are equal.
        batch: so many versions go through the network at once.

    Raises:
        EvaluationError: a map of another size or kind, or less than one step.
    """
    cover = baseline_of(classifier, x, baseline).expand_as(x)
    return _exchanged(classifier, x, cover, map, members, steps, of, seed, batch)


def insertion(
    classifier: Classifier,
    x: Float[Tensor, "1 3 h w"],
    map: Map,
    members: Members,
    *,
    steps: int = 10,
    of: Score = "probability",
    seed: int = 0,
    batch: int = 16,
) -> Curve:
    """The score while the most important pixels are put into the blurred photograph (RISE, Petsiuk et al. 2018).

    A good map's score rises soon: a large area is better. Costs ``steps + 1`` forward passes. The arguments and errors
    are `deletion`'s.
    """
    return _exchanged(classifier, blurred(x), x, map, members, steps, of, seed, batch)


def _exchanged(
    classifier: Classifier,
    start: Float[Tensor, "1 3 h w"],
    end: Float[Tensor, "1 3 h w"],
    map: Map,
    members: Members,
    steps: int,
    of: Score,
    seed: int,
    batch: int,
) -> Curve:
    """The scores on the way from one photograph to another, the most important pixels first."""
    if steps < 1:
        raise EvaluationError(f"steps: expected 1 at least, got {steps}")
    order = torch.from_numpy(ranked(map, start, seed)).to(start.device)
    shares = tuple(step / steps for step in range(steps + 1))

    def versions() -> Iterator[Tensor]:
        for number in (round(share * len(order)) for share in shares):
            version = start[0].flatten(1).clone()
            version[:, order[:number]] = end[0].flatten(1)[:, order[:number]]
            yield version.view_as(start[0])

    return Curve(shares, tried(classifier, versions(), members, of, batch))


def blurred(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """As the paper's code blurs: a Gaussian of 5 pixels in a window of 11, at 224 x 224; at another size in proportion.

    What lies outside the photograph has the classifier's mean colour.
    """
    for axis in (2, 3):
        sigma = 5 * x.shape[axis] / 224
        reach = max(1, round(sigma))
        impulse = np.zeros(2 * reach + 1)
        impulse[reach] = 1
        kernel = torch.from_numpy(gaussian_filter1d(impulse, sigma)).to(x)
        shape = (1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)
        padding = (reach, 0) if axis == 2 else (0, reach)
        x = F.conv2d(x, kernel.view(shape).expand(3, -1, -1, -1).contiguous(), padding=padding, groups=3)
    return x


class Drop(NamedTuple):
    """The score of a photograph, and of what a map lets through."""

    before: float
    after: float

    @property
    def drop(self) -> float:
        """Share of the score that is lost, in [0, 1]: the mean over photographs is the average drop."""
        return max(0.0, self.before - self.after) / self.before if self.before > 0 else 0.0

    @property
    def increase(self) -> float:
        """1 where the score is higher than before, else 0: the mean over photographs is the average increase."""
        return float(self.after > self.before)


def drop(
    classifier: Classifier,
    x: Float[Tensor, "1 3 h w"],
    map: Map,
    members: Members,
    *,
    of: Score = "probability",
    batch: int = 16,
) -> Drop:
    """The score of the photograph times its map, beside that of the photograph (Grad-CAM++, Chattopadhay et al. 2018).

    The map goes from 0 to 1, and what it takes away has the classifier's mean colour. A good map loses little: a small
    drop and a large increase are better. Costs two forward passes. The arguments and errors are `deletion`'s.
    """
    through = x[0] * torch.from_numpy(scaled(map, x)).to(x)
    before, after = tried(classifier, [x[0], through], members, of, batch)
    return Drop(before, after)


# Maps ----------------------------------------------------------------------------------------------------------------


def ranked(map: Map, x: Float[Tensor, "1 3 h w"], seed: int = 0) -> Int[np.ndarray, " n"]:
    """The pixels' numbers, row by row, the most important first; equal ones in an order drawn by lot.

    Without the lot a map's zeros would go from the top of the photograph to its bottom.
    """
    check_map(map, x)
    drawn = np.random.default_rng(seed).permutation(map.size)
    return np.asarray(drawn[np.argsort(-map.ravel()[drawn], kind="stable")])


def scaled(map: Map, x: Float[Tensor, "1 3 h w"]) -> Map:
    """The map from 0 to 1, in float64; zeros where it is the same everywhere."""
    check_map(map, x)
    values = map.astype(np.float64) - float(map.min())
    return values / values.max() if values.max() > 0 else values


def check_map(map: Map, x: Float[Tensor, "1 3 h w"]) -> None:
    """Raise EvaluationError unless it is a map of the photograph."""
    if map.shape != tuple(x.shape[2:]):
        raise EvaluationError(f"map: expected the photograph's size {tuple(x.shape[2:])}, got {map.shape}")
    if not np.isfinite(map).all() or map.min() < 0:
        raise EvaluationError("map: expected finite numbers of at least 0")


def numbers(shares: Sequence[float], n: int) -> list[int]:
    """How many of n pixels each share is.

    Raises:
        EvaluationError: a share that is not above 0 and below 1, or none.
    """
    if not shares or not all(0 < share < 1 for share in shares):
        raise EvaluationError(f"shares: expected one at least, each above 0 and below 1, got {list(shares)}")
    return [round(share * n) for share in shares]
