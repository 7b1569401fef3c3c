"""What becomes of a map where the photograph or the network changes, and whether it tells what covering does."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from gradcut.classifiers import Classifier
from gradcut.errors import EvaluationError
from gradcut.evaluation.faithfulness.curves import Map, Members, check_map, scaled
from gradcut.saliency import Baseline, Saliency, Score
from gradcut.saliency.baselines import baseline_of
from gradcut.saliency.perturbation import tried
from gradcut.seeds import is_constant


def infidelity(
    classifier: Classifier,
    x: Float[Tensor, "1 3 h w"],
    map: Map,
    members: Members,
    *,
    samples: int = 30,
    baseline: Baseline = "mean",
    of: Score = "probability",
    seed: int = 0,
    batch: int = 16,
) -> float:
    """How far a map is from telling how much the score falls where a square is covered (Yeh et al. 2019).

    ``mean((b m - f)^2)`` over random squares, f the fall of the score, m the map's sum in the square, and b the factor
    with which the mean is the least, so that a map's unit does not matter. Smaller is better; a map that says nothing
    has ``mean(f^2)``. This is captum's ``infidelity(normalize=True)`` with squares for perturbations. Costs
    ``samples + 1`` forward passes.

    Args:
        x: a photograph as `Classifier.prepare` makes it.
        map: at least 0, of the photograph's size.
        members: the class, or the classes of a group.
        samples: squares. Their sides are a tenth to a half of the photograph's shorter side.
        baseline: what covers.
        seed: of the squares.
        batch: so many versions go through the network at once.
    """
    check_map(map, x)
    boxes = squares(map.shape[0], map.shape[1], samples, seed)
    cover = baseline_of(classifier, x, baseline).expand_as(x)

    def versions() -> Iterator[Tensor]:
        yield x[0]
        for rows, columns in boxes:
            version = x[0].clone()
            version[:, rows, columns] = cover[0, :, rows, columns]
            yield version

    before, *after = tried(classifier, versions(), members, of, batch)
    fall = before - np.array(after)
    inside = np.array([map[box].sum(dtype=np.float64) for box in boxes])
    own = float((inside**2).sum())
    factor = float((inside * fall).sum()) / own if own > 0 else 0.0
    return float(np.mean((factor * inside - fall) ** 2))


def squares(h: int, w: int, number: int, seed: int = 0) -> list[tuple[slice, slice]]:
    """Rows and columns of random squares that lie inside a photograph."""
    generator = np.random.default_rng(seed)
    shorter = min(h, w)
    sides = generator.integers(max(1, round(shorter / 10)), max(1, round(shorter / 2)) + 1, number)
    corners = [(generator.integers(0, h - side + 1), generator.integers(0, w - side + 1)) for side in sides]
    return [
        (slice(int(top), int(top + side)), slice(int(left), int(left + side)))
        for side, (top, left) in zip(sides, corners, strict=True)
    ]


# What asks for maps again ------------------------------------------------------------------------------------------


class Explanation(NamedTuple):
    """A saliency method and the classes of one photograph that it is asked for, together as a recipe asks."""

    method: Saliency
    groups: tuple[tuple[int, ...], ...]

    def maps(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"]) -> Float[np.ndarray, "b n h w"]:
        """Of each photograph, the maps of all the classes."""
        targets = [(photograph, members) for photograph in range(len(x)) for members in self.groups]
        made = self.method(classifier, x, targets).detach().float()
        return made.reshape(len(x), len(self.groups), *x.shape[2:]).cpu().numpy()


def sensitivity(
    classifier: Classifier,
    x: Float[Tensor, "1 3 h w"],
    explanation: Explanation,
    *,
    samples: int = 10,
    radius: float = 0.02,
    seed: int = 0,
) -> list[float | None]:
    """The most that maps change where the photograph changes a little: sensitivity-max (Yeh et al. 2019).

    ``max |map(x + d) - map(x)| / |map(x)|`` over d uniform in [-radius, radius], of each class; None for one whose map
    is 0. Smaller is better, though a map that is always the same has 0. Costs ``samples + 1`` explanations.

    Args:
        radius: in units of ``x``, as a classifier prepares photographs.
    """
    if samples < 1 or not radius > 0:
        raise EvaluationError(f"samples, radius: expected 1 at least and above 0, got {samples} and {radius}")
    (before,) = explanation.maps(classifier, x)
    generator = torch.Generator().manual_seed(seed)
    most = np.zeros(len(before))
    for _ in range(samples):
        moved = x + radius * (2 * torch.rand(x.shape, generator=generator) - 1).to(x)
        (after,) = explanation.maps(classifier, moved)
        most = np.maximum(most, np.sqrt(((after - before) ** 2).sum((1, 2), dtype=np.float64)))
    sizes = np.sqrt((before.astype(np.float64) ** 2).sum((1, 2)))
    return [float(change / size) if size > 0 else None for change, size in zip(most, sizes, strict=True)]


class Randomised(NamedTuple):
    """How like the network's map is to the maps of networks with more and more layers shuffled, from the top.

    Attributes:
        layers: how many were shuffled, of how many.
        spearman: rank correlation, in [-1, 1]; 0 where either map is the same everywhere.
        ssim: structural similarity of the maps scaled to [0, 1].
    """

    layers: tuple[tuple[int, int], ...]
    spearman: tuple[float, ...]
    ssim: tuple[float, ...]


def randomisation(
    classifier: Classifier, x: Float[Tensor, "1 3 h w"], explanation: Explanation, *, stages: int = 5, seed: int = 0
) -> list[Randomised]:
    """Maps of a network that knows less and less: the cascading parameter randomisation of Adebayo et al. (2018).

    The layers are shuffled in ``stages`` equal parts, from the last to the first: every parameter keeps its values, in
    another order, so that the signal keeps its size. The paper draws them anew as before training. A map that is about
    what the network learnt becomes another: less similarity is better. All on a copy: the classifier stays as it is.
    Costs ``stages + 1`` explanations, and memory for a second network.

    Returns:
        For each class.

    Raises:
        EvaluationError: less than one stage, or a model without parameters.
    """
    if stages < 1:
        raise EvaluationError(f"stages: expected 1 at least, got {stages}")
    total = len(layers_of(classifier.model))
    if not total:
        raise EvaluationError(f"model: expected parameters to shuffle, {classifier.name} has none")
    (before,) = explanation.maps(classifier, x)
    ends = [math.ceil(total * (stage + 1) / stages) for stage in range(stages)]
    found = []
    for end in ends:
        (after,) = explanation.maps(replace(classifier, model=shuffled(classifier.model, end, seed)), x)
        found.append([(spearman(a, b), _ssim(a, b)) for a, b in zip(before, after, strict=True)])
    return [
        Randomised(tuple((end, total) for end in ends), *(tuple(part) for part in zip(*of, strict=True)))
        for of in zip(*found, strict=True)
    ]


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The modules with parameters of their own, the last first, in the order in which they were put into the model."""
    return [module for module in model.modules() if next(module.parameters(recurse=False), None) is not None][::-1]


def shuffled(model: nn.Module, layers: int, seed: int = 0) -> nn.Module:
    """A copy of a model in whose last ``layers`` layers the values of each parameter are in another order."""
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), torch.no_grad():
        for layer in layers_of(model)[:layers]:
            for parameter in layer.parameters(recurse=False):
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return model


def spearman(a: Map, b: Map) -> float:
    """Rank correlation of two maps; 0 where either is the same everywhere."""
    if is_constant(a) or is_constant(b):
        return 0.0
    return _pearson(rankdata(a), rankdata(b))


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (values.ravel() - values.mean(dtype=np.float64) for values in (a, b))
    sizes = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / sizes if sizes > 0 else 0.0


def _ssim(a: Map, b: Map) -> float:
    a, b = ((m - m.min()) / (m.max() - m.min()) if m.max() > m.min() else np.zeros_like(m) for m in (a, b))
    window = min(7, *a.shape)
    return float(structural_similarity(a, b, data_range=1.0, win_size=window - (window + 1) % 2))


def coherency(classifier: Classifier, x: Float[Tensor, "1 3 h w"], explanation: Explanation) -> list[float]:
    """Whether maps stay where the photograph is seen through them (Poppi et al. 2021): 1 for the same, 0.5 for chance.

    ``(r + 1) / 2`` of each class, r the Pearson correlation of its map and the map of the photograph times it, 0
    of a map that is the same everywhere. Costs one explanation, and one for each class.
    """
    (before,) = explanation.maps(classifier, x)
    values = []
    for number, map in enumerate(before):
        (after,) = explanation.maps(classifier, x * torch.from_numpy(scaled(map, x)).to(x))
        constant = is_constant(map) or is_constant(after[number])
        values.append(0.5 if constant else (_pearson(map, after[number]) + 1) / 2)
    return values
