"""Shapley values of superpixels: what each adds to a class score, over all the company that it may have."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from skimage.segmentation import slic
from torch import Tensor

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError, check_least
from gradcut.network.view import View
from gradcut.saliency.baselines import Baseline, baseline_of, check_baseline
from gradcut.saliency.gradients import decided
from gradcut.saliency.maps import wide
from gradcut.saliency.method import Method
from gradcut.saliency.perturbation import Progress, Steps, by_photograph, plain_logits
from gradcut.saliency.targets import Score, Targets, check_score, scores


@dataclass(frozen=True)
class KernelSHAP(Method):
    """Shapley values of superpixels by regression (Lundberg & Lee 2017).

    ``ReLU(phi_s)`` in the pixels of superpixel s (SLIC, Achanta et al. 2012). The phi are the weights of the linear
    function of which superpixels are there, the others being covered, that fits the scores best under the Shapley
    kernel and is exact where all and where none are there, in closed form (Covert & Lee 2021): they sum to S(x) -
    S(covered). Sets of superpixels are drawn by that kernel, each with its complement; where there are no more than
    ``samples`` sets at all, every one is taken, and the phi are the Shapley values themselves. Needs nothing. Costs a
    forward pass for each set, two more, and one more where the targets are a function.

    Args:
        of: which score, see `Score`.
        segments: about how many superpixels.
        samples: how many sets, an even number; the map is the less random the more there are.
        seed: of the sets.
        baseline: what covers, see `Baseline`.
        batch: so many covered photographs go through the network at once.
        progress: called after every batch, see `Progress`.
    """

    of: Score = "logit"
    segments: int = 50
    samples: int = 500
    seed: int = 0
    baseline: Baseline = "mean"
    batch: int = 16
    progress: Progress | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_score(self.of)
        check_baseline(self.baseline)
        check_least(SaliencyError, self, segments=1, samples=2, seed=0, batch=1)
        if self.samples % 2:
            raise SaliencyError(f"samples: expected an even number, got {self.samples}")

    def explain(self, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
        classifier, x = view.classifier, view.x.detach()
        pairs = decided(view, targets)
        with torch.no_grad():
            maps = wide(x.new_zeros(len(pairs), *x.shape[2:]))
            cover = baseline_of(classifier, x, self.baseline).expand_as(x)
            regions = {b: self.superpixels(classifier, x[b]) for b in dict.fromkeys(b for b, _ in pairs)}
            drawn = {b: self.sets(int(region.max()) + 1) for b, region in regions.items()}
            steps = Steps(self.progress, sum(len(there) + 2 for there, _ in drawn.values()))
            for b, rows, groups in by_photograph(pairs):
                (there, weights), region = drawn[b], regions[b].to(x.device)
                count = there.shape[1]
                every = torch.cat([torch.zeros(1, count), torch.ones(1, count), there]).bool()
                values = []
                for first in range(0, len(every), self.batch):
                    chosen = every[first : first + self.batch].to(x.device)
                    versions = torch.where(chosen[:, region][:, None], x[b], cover[b])
                    values.append(scores(classifier, plain_logits(classifier, versions), groups, self.of))
                    steps.done(len(chosen))
                phi = shapley_values(there, weights, torch.cat(values).cpu().double())
                maps[rows] = phi.clamp(min=0).to(maps)[region].permute(2, 0, 1)
            return maps

    def superpixels(self, classifier: Classifier, x: Float[Tensor, "3 h w"]) -> Int[Tensor, "h w"]:
        """The number of each pixel's superpixel, from 0, in a photograph as `Classifier.prepare` makes it."""
        x = wide(x if classifier.channels == "RGB" else x.flip(0)).cpu()
        mean, std = (torch.tensor(value, dtype=x.dtype).view(3, 1, 1) for value in (classifier.mean, classifier.std))
        # In steps of 8 bits, as photographs are: what a network's number type rounds does not move an outline.
        photograph = ((x * std + mean).clamp(0, 1) * 255).round().div(255).permute(1, 2, 0).double().numpy()
        found = slic(photograph, self.segments, compactness=20, sigma=1, start_label=0, channel_axis=2)
        _, numbers = np.unique(found, return_inverse=True)
        return torch.from_numpy(numbers.reshape(found.shape).astype(np.int64))

    def sets(self, count: int) -> tuple[Bool[Tensor, "m count"], Float[Tensor, " m"]]:
        """Sets of so many superpixels, neither none nor all of them, and the weight of each in the regression."""
        sizes = torch.arange(1, count, dtype=torch.float64)
        kernel = (count - 1) / (sizes * (count - sizes))  # of all the sets of a size together
        if 2**count - 2 <= self.samples:
            numbers = torch.arange(1, 2**count - 1)
            there = (numbers[:, None] >> torch.arange(count) & 1).bool()
            each = kernel / torch.tensor([math.comb(count, k) for k in range(1, count)], dtype=torch.float64)
            return there, each[there.sum(1) - 1]
        # On the CPU, so that the device does not decide what comes.
        generator = torch.Generator().manual_seed(self.seed)
        drawn = 1 + torch.multinomial(kernel, self.samples // 2, replacement=True, generator=generator)
        places = torch.rand(self.samples // 2, count, generator=generator).argsort(1).argsort(1)
        there = places < drawn[:, None]
        return torch.cat([there, ~there]), torch.ones(self.samples, dtype=torch.float64)


def shapley_values(
    there: Bool[Tensor, "m count"], weights: Float[Tensor, " m"], values: Float[Tensor, "m+2 n"]
) -> Float[Tensor, "count n"]:
    """The weights of the linear function that fits values of sets best, exact for none and for all.

    Args:
        there: which are in each set.
        weights: of the sets.
        values: of no one, of all, and of the sets.
    """
    none, total = values[0], values[1] - values[0]
    Z = there.to(values)
    A = Z.T @ (weights[:, None] * Z)
    inverse: Tensor = torch.linalg.pinv(A, hermitian=True)
    free: Tensor = inverse @ (Z.T @ (weights[:, None] * (values[2:] - none)))
    ones = inverse.sum(1, keepdim=True)
    if len(there) == 0:  # a single one has all there is
        return total.expand(there.shape[1], -1)
    return free + ones * (total - free.sum(0)) / ones.sum()
