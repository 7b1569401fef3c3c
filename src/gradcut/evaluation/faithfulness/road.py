"""ROAD: what a score becomes where pixels are removed so that nothing shows where they were (Rong et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from gradcut.classifiers import Classifier
from gradcut.evaluation.faithfulness.curves import Curve, Map, Members, numbers, ranked
from gradcut.saliency import Score
from gradcut.saliency.maps import wide
from gradcut.saliency.perturbation import tried

#: What a neighbour weighs beside a pixel, and at its corner.
_BESIDE, _CORNER = 1 / 6, 1 / 12
#: Shares of the pixels that are removed.
SHARES = (0.2, 0.4, 0.6, 0.8)


def road(
    classifier: Classifier,
    x: Float[Tensor, "1 3 h w"],
    map: Map,
    members: Members,
    *,
    most_relevant_first: bool = True,
    shares: Sequence[float] = SHARES,
    noise: float = 0.01,
    of: Score = "probability",
    seed: int = 0,
    batch: int = 16,
) -> Curve:
    """The score where shares of the pixels are removed and imputed (ROAD, Rong et al. 2022).

    A good map's curve lies low where the most relevant go first, and high where the least relevant do. Costs a forward
    pass a share.

    Args:
        x: a photograph as `Classifier.prepare` makes it.
        map: at least 0, of the photograph's size.
        members: the class, or the classes of a group.
        noise: standard deviation of what is added to an imputed value, in units of ``x``.
        seed: of the noise, and of the order of pixels whose values are equal.
        batch: so many versions go through the network at once.

    Raises:
        EvaluationError: a map of another size or kind, or a share that is not above 0 and below 1.
    """
    order = ranked(map, x, seed)
    order = order if most_relevant_first else order[::-1]
    removed = np.zeros((len(shares), order.size), dtype=bool)
    for version, number in zip(removed, numbers(shares, order.size), strict=True):
        version[order[:number]] = True
    generator = torch.Generator().manual_seed(seed)
    every = torch.from_numpy(removed).view(len(shares), *x.shape[2:])

    def versions() -> Iterator[Tensor]:
        for part in (every[first : first + batch] for first in range(0, len(every), batch)):
            filled = imputed(x[0], part)
            for version, mask in zip(filled, part, strict=True):
                drawn = noise * torch.randn(version.shape, generator=generator)
                yield torch.where(mask.to(x.device), version + drawn.to(x), version)

    return Curve(tuple(shares), tried(classifier, versions(), members, of, batch))


def road_gap(most: Curve, least: Curve) -> float:
    """What ROAD comes to as pytorch-grad-cam's ``ROADCombined`` has it; higher is better.

    ``mean(least - most) / 2`` over the shares, of the curves with the least and with the most relevant pixels removed
    first; at most 0.5, and 0 for an order by chance.
    """
    return float(np.mean(least.scores) - np.mean(most.scores)) / 2


def imputed(
    x: Float[Tensor, "3 h w"], removed: Bool[Tensor, "m h w"], tolerance: float = 2e-4
) -> Float[Tensor, "m 3 h w"]:
    """Photographs whose removed pixels are each the weighted mean of their eight neighbours, removed or not.

    The paper's linear imputation without its noise: neighbours beside a pixel weigh 1/6, those at its corners 1/12,
    those outside the photograph nothing. Solved by conjugate gradients, in float32 at least, from the solution of
    half the size.

    Args:
        removed: of each version; none removes every pixel.
        tolerance: root mean square of how far a pixel may be from its neighbours' mean, in units of ``x``.
    """
    unknown = removed[:, None].to(x.device)
    return _solved(wide(x).expand(len(unknown), -1, -1, -1), unknown, tolerance).to(x.dtype)


def _solved(
    x: Float[Tensor, "m 3 h w"], unknown: Bool[Tensor, "m 1 h w"], tolerance: float
) -> Float[Tensor, "m 3 h w"]:
    if not bool(unknown.any()):
        return x
    kernel = x.new_tensor([[_CORNER, _BESIDE, _CORNER], [_BESIDE, 0, _BESIDE], [_CORNER, _BESIDE, _CORNER]])
    kernel = kernel.expand(3, 1, 3, 3)
    weight = F.conv2d(torch.ones_like(x[:1, :1]), kernel[:1], padding=1)
    values = torch.where(unknown, _guess(x, unknown, tolerance), x)

    def neighbours(v: Tensor) -> Tensor:
        return F.conv2d(v, kernel, padding=1, groups=3)

    residual = (neighbours(values) - weight * values).masked_fill_(~unknown, 0)
    direction, error = residual.clone(), residual.square().sum((1, 2, 3), keepdim=True)
    enough = tolerance**2 * 3 * unknown.sum((1, 2, 3), keepdim=True)
    while bool((going := error > enough).any()):
        applied = (weight * direction - neighbours(direction)).masked_fill_(~unknown, 0)
        step = error / (direction * applied).sum((1, 2, 3), keepdim=True).clamp(min=1e-30)
        step = step * going  # what is solved stays, whatever else is in the batch
        values += step * direction
        residual -= step * applied
        before, error = error, residual.square().sum((1, 2, 3), keepdim=True)
        direction = residual + error / before.clamp(min=1e-30) * direction
    return values


def _guess(x: Float[Tensor, "m 3 h w"], unknown: Bool[Tensor, "m 1 h w"], tolerance: float) -> Float[Tensor, "m 3 h w"]:
    """The solution at half the size, where a pixel is the mean of those of its four that were left."""
    known = F.avg_pool2d((~unknown).to(x.dtype), 2, ceil_mode=True)
    coarse = F.avg_pool2d(x.masked_fill(unknown, 0), 2, ceil_mode=True) / known.clamp(min=1e-12)
    coarse = _solved(coarse, known == 0, tolerance)
    return F.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=False)
