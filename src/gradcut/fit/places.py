"""Weights for places: where in a photograph a class is, fitted from the same image-level labels as the head.

A head fitted to means over whole photographs weighs a class's surroundings with it. Its maps are sure of some places
all the same, the more so once the classes have competed and their maps have walked over the network's features. A
softmax regression on the features of those single places learns to tell the classes and the background apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int, Shaped
from scipy.optimize import minimize
from scipy.special import logsumexp
from torch import Tensor

from gradcut import images
from gradcut.classifiers.classifier import Classifier, NoMemoryError
from gradcut.classifiers.heads import Head, PlaceWeights
from gradcut.errors import ClassifierError, FitError, check_least
from gradcut.fit.cache import cached, digest
from gradcut.fit.features import Track, prior_rows
from gradcut.fit.head import spread
from gradcut.fit.labels import ImageLabels
from gradcut.images import Photograph
from gradcut.known import Known
from gradcut.network.view import View
from gradcut.saliency.cams import linear_head, place_probabilities
from gradcut.saliency.maps import against_each_other
from gradcut.saliency.walks import Features, walked

#: Factors of the classifier's size: maps are summed over all, features are those of the last.
SCALES = (1.0, 5 / 3)

#: What the walk that makes the maps sure goes over; places are those of its grid.
FEATURES = Features()

#: By size: whether a network takes photographs of the largest of `SCALES`.
_LARGE: Known[bool] = Known()


def scales_of(backbone: Classifier) -> tuple[float, ...]:
    """`SCALES`, or 1 alone for a network that takes photographs of its own size only.

    Raises:
        NoMemoryError: memory does not hold a pass.
    """
    takes = _LARGE.get(backbone.model, backbone.size)
    if takes is None:
        try:
            with torch.inference_mode():
                x = torch.zeros(1, 3, *backbone.scaled(max(SCALES)), device=backbone.device, dtype=backbone.dtype)
                backbone.logits(x)
            takes = True
        except NoMemoryError:
            raise
        except ClassifierError:
            takes = False
        _LARGE.put(backbone.model, backbone.size, takes)
    return SCALES if takes else (1.0,)


@dataclass(frozen=True)
class PlaceFit:
    """Softmax regression of labels and background on single places, with L2 towards a prior.

    In each photograph with labels, the maps of these are summed over two sizes, compete as `Rivals` has it, walk as
    `Walk` has it and compete again. Relative to a map's maximum, a place above ``high`` is an example of the
    highest class there, a place where all are below ``low`` one of background; in photographs without a label all
    places are background. A second round starts from the first's maps. Refitting a classifier to what its own
    maps point at is the idea of ReCAM (Chen et al. 2022), which refits to features averaged over the maps.

    In a photograph of which not all is known, what would be background may be any class that nobody looked for. Such a
    place is an example of all of these and the background together: its loss is ``-log`` of the sum of their
    probabilities, the likelihood of a partial label (Jin & Ghahramani 2002). So it still teaches which classes are not
    there. Left out, such photographs would show classes only, which would make these too frequent; and where no
    photograph is known in full, nothing would be learnt of the background.

    Args:
        l2: strength of the pull towards the prior, > 0; features are centred and scaled to a mean squared norm of 1.
        prior: factor of `gradcut.fit.head.prior_rows`; the background's row is 0.
        high, low: relative saliency of sure places, 0 < low <= high < 1.
        places: at most so many of a photograph's classes, and as many of background, taken at random; each costs
            two bytes a feature.
        rounds: at least 1; each looks at all the photographs.
        seed: of which places are taken.
    """

    l2: float = 6e-6
    prior: float = 1.5
    high: float = 0.5
    low: float = 0.2
    places: int = 24
    rounds: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.l2 < float("inf"):
            raise FitError(f"l2: expected a positive number, got {self.l2}")
        if not self.prior >= 0:
            raise FitError(f"prior: expected 0 or more, got {self.prior}")
        if not 0 < self.low <= self.high < 1:
            raise FitError(f"high, low: expected 0 < low <= high < 1, got {self.high}, {self.low}")
        check_least(FitError, self, places=1, rounds=1)

    def __call__(
        self,
        backbone: Classifier,
        data: ImageLabels,
        heads: Sequence[Head],
        parts: Sequence[Bool[np.ndarray, " n"]],
        track: Track = iter,
        cache: Path | None = None,
    ) -> list[PlaceWeights]:
        """Weights for places, for each of several heads on one backbone, which looks at each photograph once a round.

        Args:
            heads: fitted to whole photographs.
            parts: the photographs that each of them was fitted to, and that its places are taken from.
            track: wraps the photographs to be looked at, and then the heads, in each round, for a progress bar.
            cache: a folder that keeps each photograph's examples, so that a run that was stopped goes on.

        Raises:
            SaliencyError: the backbone's logits are not linear in the mean of its last map.
            ImageError: a photograph cannot be read.
            OutputError: the cache cannot be written.
        """
        prior = self.prior_of(backbone, data.labels)
        same = (backbone.record(), data.value_range, len(data.labels), self.high, self.low, self.places, self.seed)
        found: list[PlaceWeights] = []
        for _ in range(self.rounds):
            so_far = [(head, found[n] if found else None) for n, head in enumerate(heads)]
            digests = [digest(head.weight, *(places or ())) for head, places in so_far]
            taken: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in heads]
            for number, file in enumerate(track(data.files)):
                using = [n for n, part in enumerate(parts) if part[number]]
                present = np.flatnonzero(data.truth[number])
                made_by = (same, number, present.tolist(), [digests[n] for n in using])
                read = partial(images.read, file, value_range=data.value_range)
                look = partial(self._examples, backbone, read, present, [so_far[n] for n in using], data, number)
                features, *examples = cached(cache, made_by, file, look)
                for n, rows, classes in zip(using, examples[::2], examples[1::2], strict=True):
                    taken[n].append((features[rows], classes))
            examples_of = track(zip(taken, parts, strict=True))
            found = [self.weights(rows, prior, ~data.known[part]) for rows, part in examples_of]
        return found

    def _examples(
        self,
        backbone: Classifier,
        read: Callable[[], Photograph],
        present: Int[np.ndarray, " k"],
        heads: Sequence[tuple[Head, PlaceWeights | None]],
        data: ImageLabels,
        number: int,
    ) -> list[np.ndarray]:
        """The features of the places that any head takes, and for each head its rows of them and their classes."""
        features, maps = self._look(backbone, read(), present, heads)
        random = [np.random.default_rng([self.seed, number]) for _ in heads]
        sure = [self.sure(m, present, len(data.labels), r) for m, r in zip(maps, random, strict=True)]
        taken = np.unique(np.concatenate([places for places, _ in sure])) if sure else np.zeros(0, np.int64)
        examples = [(np.searchsorted(taken, places), classes) for places, classes in sure]
        return [features[taken].astype(np.float16), *chain.from_iterable(examples)]

    def _look(
        self,
        backbone: Classifier,
        photograph: Photograph,
        present: Int[np.ndarray, " k"],
        heads: Sequence[tuple[Head, PlaceWeights | None]],
    ) -> tuple[Float32[np.ndarray, "p d"], Float32[np.ndarray, "heads k p"]]:
        """The features of the photograph's places, and for each head how sure the classes are of them, in [0, 1]."""
        scales = scales_of(backbone)
        view = View(backbone, backbone.at(backbone.scaled(max(scales))).prepare([photograph]))
        of = [n for n in range(len(heads)) for _ in present]
        coarse = []
        with torch.no_grad():
            for scale in scales:
                at = view.at(scale)
                FEATURES.declare(at)
                features = linear_head(at, "PlaceFit").features
                coarse += [[_maps(features, present, *each)[None] for each in (heads if len(present) else ())]]
            grid = FEATURES.grid_of(at.kept.maps)
            rows = on_grid(features, grid)[0].flatten(1).T.cpu().numpy()
            if not len(present):
                return rows, np.zeros((len(heads), 0, len(rows)), np.float32)
            maps = torch.zeros(len(of), *grid, device=view.x.device)
            for at_scale in coarse:
                for n, each in enumerate(at_scale):
                    maps[n * len(present) :][: len(present)] += F.interpolate(each, grid, mode="bilinear")[0]
            grid, walks = FEATURES.shares(at, [0])
            maps = walked(against_each_other(maps, of), of, dict.fromkeys(of, walks[0]), grid, FEATURES.steps)
            sure = against_each_other(maps, of).cpu().numpy()
        return rows, sure.reshape(len(heads), len(present), len(rows))

    def sure(
        self,
        maps: Float32[np.ndarray, "k p"],
        present: Int[np.ndarray, " k"],
        background: int,
        random: np.random.Generator,
    ) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
        """A photograph's examples: places, and the class of each.

        Args:
            maps: how sure each class that is present is of each place, in [0, 1].
            present: the numbers of these classes; without any, all places are background.
            background: its number.
        """
        if not len(present):
            maps, present = np.zeros((1, maps.shape[1]), np.float32), np.array([background])
        highest = maps.max(0)
        inside, outside = (np.flatnonzero(which) for which in (highest > self.high, highest < self.low))
        inside, outside = (random.permutation(which)[: self.places] for which in (inside, outside))
        classes = np.concatenate([present[maps.argmax(0)[inside]], np.full(len(outside), background)])
        return np.concatenate([inside, outside]), classes

    def prior_of(self, backbone: Classifier, names: Sequence[str]) -> Float[np.ndarray, "rows d"]:
        """What the weights are pulled to: the backbone's rows of the classes, and nothing for the background."""
        rows = prior_rows(backbone, names)
        return self.prior * np.vstack([rows, np.zeros((1, rows.shape[1]))])

    def weights(
        self,
        examples: Sequence[tuple[Shaped[np.ndarray, "_ d"], Int[np.ndarray, " _"]]],
        prior: Float[np.ndarray, "rows d"],
        unknown: Bool[np.ndarray, "photographs k"] | None = None,
    ) -> PlaceWeights:
        """From the features and the class of each example, photograph by photograph: each counts the same.

        Args:
            unknown: the classes that examples of background in a photograph may be of instead; by default none.
        """
        x = np.concatenate([features for features, _ in examples]).astype(np.float32)
        classes = np.concatenate([each for _, each in examples])
        importance = np.concatenate([np.full(len(each), 1 / max(len(each), 1)) for _, each in examples])
        others = np.zeros((len(x), len(prior)), dtype=bool)
        if unknown is not None:
            background = classes == unknown.shape[1]
            others[:, :-1] = np.repeat(unknown, [len(each) for _, each in examples], axis=0) & background[:, None]
        solved = softmax_regression(x, classes, importance.astype(np.float32), prior, self.l2, others)
        return PlaceWeights(*map(torch.from_numpy, solved))


def softmax_regression(
    x: Float32[np.ndarray, "n d"],
    classes: Int[np.ndarray, " n"],
    importance: Float32[np.ndarray, " n"],
    prior: Float[np.ndarray, "k d"],
    l2: float,
    others: Bool[np.ndarray, "n k"] | None = None,
    biases: Float[np.ndarray, " k"] | None = None,
    firm: float = 1.0,
) -> tuple[Float32[np.ndarray, "k d"], Float32[np.ndarray, " k"]]:
    """Weights and biases of the least ``-sum importance log softmax(z)[class] + l2 / 2 |w - prior|^2``.

    With ``biases`` that belong to the prior they are pulled to these, ``firm`` times as much as weights are, else left
    to the data.

    Convex, but for examples that may be of ``others`` than their class: there it is ``log`` of the sum over all that
    they may be of, and what is found from the prior on is a local optimum. The rows are centred and scaled to a mean
    squared norm of 1, and centre and scale folded into the weights.
    """
    share = importance / importance.sum()
    centre = share @ x
    x = x - centre
    scale = spread(x * np.sqrt(share * len(x))[:, None], centre)
    x /= scale
    start = (prior * scale).astype(np.float32)
    fixed = x @ start.T
    of_bias = BIAS_L2
    if biases is not None:
        fixed, of_bias = fixed + (biases + prior @ centre).astype(np.float32), firm * l2
    k, d = prior.shape
    several = np.zeros(len(x), dtype=bool) if others is None else others.any(1)
    one = np.flatnonzero(~several)
    of_one = classes[one]
    allowed = np.zeros((0, k), dtype=bool) if others is None else others[several]
    allowed[np.arange(len(allowed)), classes[several]] = True

    def loss(parameters: Float[np.ndarray, " p"]) -> tuple[float, Float[np.ndarray, " p"]]:
        w, b = parameters[: k * d].reshape(k, d).astype(np.float32), parameters[k * d :].astype(np.float32)
        z = x @ w.T + (fixed + b)
        z -= z.max(1, keepdims=True)
        own = np.empty_like(share)
        own[one] = z[one, of_one]
        among = np.where(allowed, z[several], -np.inf)
        own[several] = logsumexp(among, axis=1)
        p = np.exp(z)
        total = p.sum(1)
        value = share @ (np.log(total) - own)
        p /= total[:, None]
        p[one, of_one] -= 1
        p[several] -= np.exp(among - own[several][:, None])
        p *= share[:, None]
        value += l2 / 2 * float((w**2).sum()) + of_bias / 2 * float((b**2).sum())
        gradient = (p.T @ x + l2 * w).ravel(), p.sum(0) + of_bias * b
        return float(value), np.concatenate(gradient).astype(np.float64)

    options = {"maxiter": ITERATIONS, "maxcor": 10}
    solved = minimize(loss, np.zeros(k * d + k), jac=True, method="L-BFGS-B", options=options)
    w, b = solved.x[: k * d].reshape(k, d), solved.x[k * d :]
    if biases is not None:  # what has not moved is the prior to its last bit
        weight = prior + w / scale
        return weight.astype(np.float32), (biases + b - w / scale @ centre).astype(np.float32)
    weight = (w + start) / scale
    return weight.astype(np.float32), (b - weight @ centre).astype(np.float32)


#: Keeps biases finite; far below what the data say otherwise.
BIAS_L2 = 1e-4

#: At most. The last digits of the loss tell nothing of labels that were guessed.
ITERATIONS = 60


def _maps(
    features: Float[Tensor, "1 d h w"], present: Int[np.ndarray, " k"], head: Head, places: PlaceWeights | None
) -> Float[Tensor, "k h w"]:
    """What the head says of the classes at every place: as `CAM`, or from the last round as `PlaceProbability`."""
    if places is not None:
        return place_probabilities(features, places)[0, present]
    return torch.einsum("kd,dhw->khw", head.weight[present].to(features), features[0]).float().clamp(min=0)


def on_grid(features: Float[Tensor, "1 d h w"], grid: tuple[int, int]) -> Float[Tensor, "1 d gh gw"]:
    """Features at the places of the walk's grid: in between those of a coarse map, means of those of a fine one."""
    if max(features.shape[2:]) > max(grid):
        return F.adaptive_avg_pool2d(features.float(), grid)
    return F.interpolate(features.float(), grid, mode="bilinear")
