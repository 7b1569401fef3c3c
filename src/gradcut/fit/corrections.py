"""A fitted head learns from photographs that a person has corrected: the classes in them, and the pixels of each.

Ten photographs are too few to learn classes from. So the weights as they are count as what is known before, and what
the photographs say moves them: the mode of a posterior whose prior is a Gaussian round the old weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Float64, Int
from scipy.optimize import minimize
from scipy.special import expit

from gradcut import images
from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.heads import Head, PlaceWeights, places_of
from gradcut.errors import FitError, check_least
from gradcut.fit.cache import cached
from gradcut.fit.features import Track, features
from gradcut.fit.head import spread
from gradcut.fit.labels import ImageLabels
from gradcut.fit.places import FEATURES, on_grid, scales_of, softmax_regression
from gradcut.network.view import View
from gradcut.saliency.cams import linear_head
from gradcut.saliency.presence import detection_logits, with_places

#: Of a photograph's number, its class map: 0 is background, i + 1 class i, `UNKNOWN` neither.
ClassMaps = Callable[[int], Int[np.ndarray, "H W"]]

#: A pixel of which nothing is known.
UNKNOWN = -1

#: How many times as firmly as weights biases are held. Corrected photographs are no random ones, if the least certain
#: come first, and say little of how frequent a class is.
FIRM = 10.0


@dataclass(frozen=True)
class CorrectionFit:
    """The least ``loss + pull / 2 |change|^2``, with the losses of so many photographs added up.

    The weights for places have a softmax regression's loss on single places, each of which is of the class, or of
    background, that most of its pixels are of. A photograph's places add up to one: background to a half, and every
    class to an equal part of the other. Where not all classes are known of a photograph, its background may be of the
    others, as in `PlaceFit`.

    The head has the logistic loss of every class that is known of a photograph. Its logit there is the one that the
    class is detected by, with what the surest places said before; how much that counts stays as it is, and so does the
    threshold.

    Biases are pulled `FIRM` times as much as weights, so that what no photograph speaks of stays. A head without
    weights for places learns from the classes alone.

    Args:
        head: the pull on the head's rows, > 0; features are centred and scaled to a mean squared norm of 1.
        weights: the pull on the weights for places, > 0, the same.
        places: at most so many of each class in a photograph, and as many of background, taken at random.
        seed: of which places are taken.

    Raises:
        FitError: options out of range.
    """

    head: float = 0.3
    weights: float = 0.03
    places: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("head", "weights"):
            if not 0 < getattr(self, name) < float("inf"):
                raise FitError(f"{name}: expected a positive number, got {getattr(self, name)}")
        check_least(FitError, self, places=1)

    def __call__(
        self,
        head: Head,
        classifier: Classifier,
        data: ImageLabels,
        classmaps: ClassMaps,
        track: Track = iter,
        cache: Path | None = None,
    ) -> Head:
        """The head with what the photographs say, its card apart.

        Args:
            head: what is known before.
            classifier: with this head.
            data: the photographs, which classes are in them and of which that is known.
            classmaps: of the photographs, in the order of the head's labels.
            track: wraps the photographs, for a progress bar.
            cache: a folder that keeps what is computed of each photograph, so that a run that was stopped goes on.

        Raises:
            FitError: a class map with other numbers than the head's classes have.
            ImageError: a photograph cannot be read.
            OutputError: the cache cannot be written.
        """
        if not data.files:
            return head
        seen = []
        for number, file in enumerate(track(data.files)):
            classmap = classmaps(number)
            made_by = (classifier.record(), data.value_range, _digest(classmap), self.places, self.seed)
            look = partial(self._look, classifier, file, classmap, data)
            seen.append(cached(cache, made_by, file, look))
        return self.solve(head, data, *map(list, zip(*seen, strict=True)))

    def solve(
        self,
        head: Head,
        data: ImageLabels,
        means: Sequence[Float32[np.ndarray, " d"]],
        logits: Sequence[Float64[np.ndarray, " k"]],
        features: Sequence[Float[np.ndarray, "_ d"]],
        classes: Sequence[Int[np.ndarray, " _"]],
    ) -> Head:
        """The head, from what was seen of each photograph.

        Args:
            means: of the features at the classifier's size.
            logits: by which the classes were detected.
            features, classes: of the examples for places; the class after the last is background.
        """
        slope = 1.0 if head.presence is None else head.presence.slope
        weight, bias = logistic_change(
            np.stack(means).astype(np.float64), np.stack(logits), data.truth, data.known, slope, self.head
        )
        changed = replace(
            head,
            weight=(head.weight.double() + torch.from_numpy(weight)).float(),
            bias=(head.bias.double() + torch.from_numpy(bias)).float(),
        )
        if head.places is None or not any(map(len, classes)):
            return changed
        background = len(head.labels)
        unknown = np.repeat(~data.known, list(map(len, classes)), axis=0)
        x, of = np.concatenate(features).astype(np.float32), np.concatenate(classes)
        others = np.zeros((len(x), background + 1), dtype=bool)
        others[:, :-1] = unknown & (of == background)[:, None]
        importance = np.concatenate([_importance(each, background) for each in classes]).astype(np.float32)
        prior, biases = (values.double().numpy() for values in head.places)
        solved = softmax_regression(
            x, of, importance, prior, self.weights / float(importance.sum()), others, biases, FIRM
        )
        return replace(changed, places=PlaceWeights(*map(torch.from_numpy, solved)))

    def _look(
        self, classifier: Classifier, file: Path, classmap: Int[np.ndarray, "H W"], data: ImageLabels
    ) -> list[np.ndarray]:
        """The mean features, the logits of the classes, and the features and classes of examples for places."""
        photograph = images.read(file, value_range=data.value_range)
        if photograph.shape[:2] != classmap.shape:
            raise FitError(f"classmaps: expected {photograph.shape[:2]} pixels for {file}, got {classmap.shape}")
        if classmap.min() < UNKNOWN or classmap.max() > len(data.labels):
            raise FitError(f"classmaps: expected numbers up to {len(data.labels)} for {file}, got {classmap.max()}")
        if places_of(classifier.model) is None:
            mean = features(classifier, [file], mirror=False, value_range=data.value_range)[0, 0]
            scores = detection_logits(classifier, [photograph])[0].double().cpu().numpy()
            return [mean, scores, np.zeros((0, len(mean)), np.float16), np.zeros(0, np.int64)]
        larger = max(scales_of(classifier))
        view = View(classifier, classifier.at(classifier.scaled(larger)).prepare([photograph]))
        with torch.no_grad():
            own, large = view.at(1.0), view.at(larger)
            large.share()
            FEATURES.declare(large)
            fine = linear_head(large, "PlaceFit").features
            logits, coarse, _ = linear_head(own, "PlaceFit")
            logits = with_places(view, logits)
            grid = FEATURES.grid_of(large.kept.maps)
            rows = on_grid(fine, grid)
            places, classes = self.examples(classmap, grid, len(data.labels))
            taken = rows[0].flatten(1).T.cpu().numpy()[places].astype(np.float16)
            return [coarse[0].float().mean((1, 2)).cpu().numpy(), logits[0].double().cpu().numpy(), taken, classes]

    def examples(
        self, classmap: Int[np.ndarray, "H W"], grid: tuple[int, int], background: int
    ) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
        """Places of the grid, and the class of each.

        A place is of what more than half of its pixels are of; a class that no place is of has the one with most.
        """
        random = np.random.default_rng([self.seed, *bytes.fromhex(_digest(classmap))])
        found = []
        for value in np.unique(classmap[classmap != UNKNOWN]).tolist():
            share = F.adaptive_avg_pool2d(torch.from_numpy(classmap == value)[None].float(), grid).flatten().numpy()
            places = np.flatnonzero(share > 0.5)
            if value > 0 and not len(places):
                places = np.array([share.argmax()])
            places = random.permutation(places)[: self.places]
            found.append((places, np.full(len(places), background if value == 0 else value - 1)))
        nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64))
        places, classes = (np.concatenate(each) for each in zip(nothing, *found, strict=True))
        return places, classes


def _digest(classmap: Int[np.ndarray, "H W"]) -> str:
    return hashlib.sha256(repr(classmap.shape).encode() + classmap.astype("<i8").tobytes()).hexdigest()


def _importance(classes: Int[np.ndarray, " m"], background: int) -> Float[np.ndarray, " m"]:
    """How much each of a photograph's examples counts; all together 1."""
    values, positions, counts = np.unique(classes, return_inverse=True, return_counts=True)
    several = values != background
    both = 1.0 if several.all() or not several.any() else 0.5
    parts = np.where(several, both / max(several.sum(), 1), both)
    each: np.ndarray = (parts / counts)[positions]
    return each


def logistic_change(
    x: Float[np.ndarray, "n d"],
    logits: Float[np.ndarray, "n k"],
    truth: Bool[np.ndarray, "n k"],
    known: Bool[np.ndarray, "n k"],
    slope: float,
    pull: float,
) -> tuple[Float64[np.ndarray, "k d"], Float64[np.ndarray, " k"]]:
    """What weights and biases change by: the least ``sum logistic loss + pull / 2 (|w|^2 + FIRM b^2)``.

    A change enters the logits times ``slope``. Features are centred and scaled to a mean squared norm of 1; both are
    folded into what is returned. A class of which nothing is known stays.
    """
    centre = x.mean(0)
    rows = x - centre
    scale = spread(rows, centre)
    rows = np.hstack([rows / scale, np.full((len(x), 1), FIRM**-0.5)])
    # The pull is towards no change, so the solution lies in the span of the photographs.
    basis = np.linalg.qr(rows.T)[0]
    inside = slope * rows @ basis
    k, r = truth.shape[1], basis.shape[1]

    def loss(parameters: Float[np.ndarray, " p"]) -> tuple[float, Float[np.ndarray, " p"]]:
        w = parameters.reshape(k, r)
        z = logits + inside @ w.T
        value = (known * (np.logaddexp(0, z) - truth * z)).sum() + pull / 2 * (w**2).sum()
        return float(value), ((known * (expit(z) - truth)).T @ inside + pull * w).ravel()

    solved = minimize(loss, np.zeros(k * r), jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    change = solved.x.reshape(k, r) @ basis.T
    weight = change[:, :-1] / scale
    return weight, FIRM**-0.5 * change[:, -1] - weight @ centre
