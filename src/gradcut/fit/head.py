"""A linear multi-label head on a frozen backbone, from image-level labels alone.

Features are taken once and kept in a file. The head minimises a convex loss, so the result depends on the
data and the options only. Its probabilities are calibrated, and its scores measured, on photographs that
took no part in the fit (cross-validation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize
from scipy.special import expit, logit

from gradcut.classifiers.backbones import is_headless
from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.heads import Head
from gradcut.classifiers.weights import weights_sha256
from gradcut.errors import FitError, check_least
from gradcut.fit.calibration import best_threshold, calibration_error, platt, stratified_folds
from gradcut.fit.features import Track, linear_layer, prior_rows
from gradcut.fit.labels import ImageLabels
from gradcut.ranking import average_precision


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted head's weights, and what cross-validation says of it.

    Attributes:
        weight, bias: calibrated: the sigmoid of ``features @ weight.T + bias`` is a probability.
        threshold: of the probability, where F1 over all pairs of photograph and class is best.
        folds: the fold of each photograph; -1 for one that is not judged, which every fold's head is fitted to.
        scores: each photograph's probabilities from the head that was fitted without its fold; NaN without a fold.
        average_precision: of each class, over ``scores``; NaN without a photograph that shows it or one that does not.
        mean_average_precision: the mean of those that are numbers.
        f1, precision, recall: of all pairs of photograph and class at ``threshold``.
        calibration_error: expected calibration error of ``scores``, over 15 bins of equal width.

    Of the photographs that are judged, all pairs are those of which it is known whether the class is there.
    """

    weight: Float[np.ndarray, "k d"] = field(repr=False)
    bias: Float[np.ndarray, " k"] = field(repr=False)
    threshold: float
    folds: Int[np.ndarray, " n"] = field(repr=False)
    scores: Float[np.ndarray, "n k"] = field(repr=False)
    average_precision: Float[np.ndarray, " k"] = field(repr=False)
    mean_average_precision: float
    f1: float
    precision: float
    recall: float
    calibration_error: float


@dataclass(frozen=True)
class LinearFit:
    """Logistic regression of each class, with L2 towards a prior, in cross-validation.

    Features are centred and scaled to a mean squared norm of 1, so that ``l2`` means the same for every
    backbone; centre and scale are folded into the weights. The loss is the mean over the photographs of
    the logistic loss plus ``l2 / 2 |w - prior * p|^2``, where ``p`` is the class's prior row. All of this, centre and
    scale too, is of the photographs of which it is known whether they show the class: its row is the one that a fit of
    this class alone, to these photographs alone, has.

    Args:
        l2: strength of the pull towards the prior, > 0.
        prior: factor of the prior rows; 0 pulls towards zero.
        folds: of the cross-validation, at least 2.
        seed: of the folds.
    """

    l2: float = 2e-4
    prior: float = 1.5
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.l2 > 0 or not np.isfinite(self.l2):
            raise FitError(f"l2: expected a positive number, got {self.l2}")
        if not self.prior >= 0:
            raise FitError(f"prior: expected 0 or more, got {self.prior}")
        check_least(FitError, self, folds=2)

    def __call__(
        self,
        x: Float[np.ndarray, "views n d"],
        truth: Bool[np.ndarray, "n k"],
        prior: Float[np.ndarray, "k d"],
        known: Bool[np.ndarray, "n k"] | None = None,
        judged: Bool[np.ndarray, " n"] | None = None,
        track: Track = iter,
    ) -> Fitted:
        """Fit a head.

        Args:
            x: features; the first view is the photograph as it is, and the one that scores are taken of.
            truth: whether a class is in a photograph.
            prior: a row a class, as `prior_rows` makes them.
            known: whether that is known; without it, everything is.
            judged: the photographs that make up the folds, and that the figures are of; without it, all.
            track: wraps what is solved for, ``folds + 1`` times, for a progress bar.

        Raises:
            FitError: fewer photographs to judge than folds.
        """
        known = np.ones_like(truth) if known is None else known
        judged = np.ones(len(truth), dtype=bool) if judged is None else judged
        if judged.sum() < self.folds:
            raise FitError(f"folds: expected at most as many as photographs, got {self.folds} for {judged.sum()}")
        folds = np.full(len(truth), -1)
        folds[judged] = stratified_folds((truth & known)[judged], self.folds, self.seed)
        z = np.full(truth.shape, np.nan)
        # At last without any fold left out: these weights are the head's.
        for fold in track([*np.unique(folds[judged]).tolist(), None]):
            part = np.ones_like(judged) if fold is None else folds != fold
            weight, bias = self._solve(x[:, part], truth[part], prior, known[part])
            z[~part] = x[0, ~part] @ weight.T + bias
        pairs = known & judged[:, None]
        (slope,), offset = platt(z[pairs][None], truth[pairs])
        return measured(slope * weight, slope * bias + offset, folds, slope * z + offset, truth, pairs)

    def _solve(
        self,
        x: Float[np.ndarray, "views n d"],
        truth: Bool[np.ndarray, "n k"],
        prior: Float[np.ndarray, "k d"],
        known: Bool[np.ndarray, "n k"] | None = None,
    ) -> tuple[Float[np.ndarray, "k d"], Float[np.ndarray, " k"]]:
        views, n, d = x.shape
        known = np.ones_like(truth) if known is None else known
        y, counted = (np.tile(each, (views, 1)).astype(np.float64) for each in (truth & known, known))
        counts = np.maximum(counted.sum(0), 1)
        rows = x.reshape(views * n, d).astype(np.float64)
        centre = rows.mean(0)
        rows = rows - centre
        scale = spread(rows, centre)
        rows /= scale
        # Each class's own centre and squared scale, as they are here.
        middle = counted.T @ rows / counts[:, None]
        square = counted.T @ (rows**2).sum(1) / counts - (middle**2).sum(1)
        rounding = ROUNDING * np.linalg.norm(middle * scale + centre, axis=1)
        square = np.where(square * scale**2 > rounding**2, square, 1 / scale**2)
        start = self.prior * prior * scale
        # The pull is towards the prior, so the solution leaves it only in the span of the photographs.
        basis = np.linalg.qr(rows.T)[0] if len(rows) < d else np.eye(d)
        inside, fixed = rows @ basis, rows @ start.T
        middle_inside, middle_fixed = middle @ basis, (middle * start).sum(1)
        # Half a photograph more on either side: a class that a fold lacks keeps a finite bias.
        base = logit(((truth & known).sum(0) + 0.5) / (known.sum(0) + 1))
        pull = self.l2 * square
        k, r = truth.shape[1], inside.shape[1]

        def loss(parameters: Float[np.ndarray, " p"]) -> tuple[float, Float[np.ndarray, " p"]]:
            w, b = parameters[: k * r].reshape(k, r), parameters[k * r :]
            z = inside @ w.T + fixed + b
            residual = counted * (expit(z) - y) / counts
            value = ((counted * (np.logaddexp(0, z) - y * z)).sum(0) / counts).sum()
            off = b + middle_fixed + (w * middle_inside).sum(1) - base
            value += 0.5 * float((pull * (w**2).sum(1)).sum()) + BIAS_L2 / 2 * float((off**2).sum())
            of_w = residual.T @ inside + pull[:, None] * w + BIAS_L2 * off[:, None] * middle_inside
            return float(value), np.concatenate([of_w.ravel(), residual.sum(0) + BIAS_L2 * off])

        first = np.concatenate([np.zeros(k * r), base - middle_fixed])
        options = {"maxiter": 2000, "maxfun": 4000, "maxcor": 20, "gtol": 1e-6, "ftol": 1e-10}
        solved = minimize(loss, first, jac=True, method="L-BFGS-B", options=options)
        if not np.isfinite(solved.fun):
            raise FitError("features: expected finite numbers, the loss is not finite")
        weight = (solved.x[: k * r].reshape(k, r) @ basis.T + start) / scale
        return weight, solved.x[k * r :] - weight @ centre


def spread(rows: Float[np.ndarray, "n d"], centre: Float[np.ndarray, " d"]) -> float:
    """The root of the mean squared norm of centred rows; 1 where they are equal but for rounding.

    Args:
        centre: what was subtracted: it says how large the rows' rounding may be.
    """
    scale = float(np.sqrt((rows**2).sum(1).mean()))
    return scale if scale > ROUNDING * float(np.sqrt((centre**2).sum())) else 1.0


def measured(
    weight: Float[np.ndarray, "k d"],
    bias: Float[np.ndarray, " k"],
    folds: Int[np.ndarray, " n"],
    z: Float[np.ndarray, "n k"],
    truth: Bool[np.ndarray, "n k"],
    pairs: Bool[np.ndarray, "n k"],
) -> Fitted:
    """What cross-validation says of a head.

    Args:
        z: calibrated logits, each from a head that was fitted without the photograph's fold.
        pairs: of a photograph and a class: those that the figures are of.
    """
    scores = expit(z)
    threshold, f1, precision, recall = best_threshold(truth[pairs], scores[pairs])
    precisions = np.array([_ranked(*columns) for columns in zip(z.T, truth.T, pairs.T, strict=True)])
    ranked = precisions[~np.isnan(precisions)]
    return Fitted(
        weight, bias, threshold, folds, scores, precisions, float(ranked.mean()) if len(ranked) else np.nan,
        f1, precision, recall, calibration_error(truth[pairs], scores[pairs]),
    )  # fmt: skip


def _ranked(scores: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"], pairs: Bool[np.ndarray, " n"]) -> float:
    """A class's average precision over some photographs; NaN where they all show it, or none does."""
    truth = truth[pairs]
    if truth.all():
        return np.nan
    area = average_precision(scores=scores[pairs], truth=truth)
    return np.nan if area is None else area


#: Of the centre's norm: what rows may differ by in single precision, after a sum over thousands of them.
ROUNDING = 1e-5

#: Keeps the bias of a class without a positive example finite; far below what the data say otherwise.
BIAS_L2 = 1e-4


def fit(
    backbone: Classifier,
    data: ImageLabels,
    options: LinearFit,
    x: Float[np.ndarray, "views n d"],
    track: Track = iter,
) -> tuple[Head, Fitted]:
    """A head for the backbone, and what cross-validation says of it.

    Args:
        x: `features` of the data's photographs.
        track: as for `LinearFit`.

    Raises:
        FitError: fewer photographs to judge than folds.
    """
    fitted = options(x, data.truth, prior_rows(backbone, data.labels), data.known, data.judged, track)
    head = Head(
        weight=torch.from_numpy(fitted.weight).float(),
        bias=torch.from_numpy(fitted.bias).float(),
        labels=data.labels,
        backbone=backbone.name,
        backbone_sha256=weights_sha256(backbone.model),
        layer=linear_layer(backbone),
        size=backbone.size,
        threshold=fitted.threshold,
        figures=figures(fitted, data, asdict(options) | {"views": len(x)}),
        headless=is_headless(backbone),
    )
    return head, fitted


def figures(fitted: Fitted, data: ImageLabels, options: Mapping[str, Any]) -> dict[str, Any]:
    """How a head was fitted and how well, as JSON values, for its card."""
    return {
        "options": dict(options),
        "labels_sha256": data.sha256,
        **({} if data.value_range is None else {"range": data.value_range}),
        "mean_average_precision": _rounded(fitted.mean_average_precision),
        "average_precision": {
            name: _rounded(value) for name, value in zip(data.labels, fitted.average_precision, strict=True)
        },
        **_counts(data),
        **({} if data.judged.all() else {"judged": _counts(data.part(data.judged))}),
        "f1": round(fitted.f1, 4),
        "precision": round(fitted.precision, 4),
        "recall": round(fitted.recall, 4),
        "calibration_error": round(fitted.calibration_error, 4),
    }


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _counts(data: ImageLabels) -> dict[str, Any]:
    """How many photographs there are; of each class, how many show it, and of how many that is known."""
    return {
        "photographs": len(data.files),
        "examples": {name: int(count) for name, count in zip(data.labels, data.truth.sum(0), strict=True)},
        "known": {name: int(count) for name, count in zip(data.labels, data.known.sum(0), strict=True)},
    }
