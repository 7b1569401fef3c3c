"""A linear multi-label head on a frozen backbone, from image-level labels alone.

Features are taken once and kept in a file. The head minimises a convex loss, so the result depends on the
data and the options only. Its probabilities are calibrated, and its scores measured, on photographs that
took no part in the fit (cross-validation).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize
from scipy.special import expit, logit

from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.heads import Head
from gradcut.classifiers.weights import weights_sha256
from gradcut.errors import FitError, check_least
from gradcut.fit.calibration import best_threshold, calibration_error, platt, stratified_folds
from gradcut.fit.features import linear_layer, prior_rows
from gradcut.fit.labels import ImageLabels
from gradcut.ranking import average_precision


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted head's weights, and what cross-validation says of it.

    Attributes:
        weight, bias: calibrated: the sigmoid of ``features @ weight.T + bias`` is a probability.
        threshold: of the probability, where F1 over all pairs of photograph and class is best.
        folds: the fold of each photograph.
        scores: each photograph's probabilities from the head that was fitted without its fold.
        average_precision: of each class, over ``scores``.
        mean_average_precision: their mean.
        f1, precision, recall: of all pairs of photograph and class at ``threshold``.
        calibration_error: expected calibration error of ``scores``, over 15 bins of equal width.
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
    the logistic loss plus ``l2 / 2 |w - prior * p|^2``, where ``p`` is the class's prior row.

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
        folds: Int[np.ndarray, " n"] | None = None,
    ) -> Fitted:
        """Fit a head.

        Args:
            x: features; the first view is the photograph as it is, and the one that scores are taken of.
            truth: whether a class is in a photograph.
            prior: a row a class, as `prior_rows` makes them.
            folds: of the cross-validation, instead of its own.

        Raises:
            FitError: fewer photographs than folds.
        """
        n = len(truth)
        if n < self.folds:
            raise FitError(f"folds: expected at most as many as photographs, got {self.folds} for {n}")
        folds = stratified_folds(truth, self.folds, self.seed) if folds is None else folds
        z = np.zeros(truth.shape)
        for fold in np.unique(folds):
            kept = folds != fold
            weight, bias = self._solve(x[:, kept], truth[kept], prior)
            z[~kept] = x[0, ~kept] @ weight.T + bias
        slope, offset = platt(z, truth)
        scores = expit(slope * z + offset)
        threshold, f1, precision, recall = best_threshold(truth, scores)
        weight, bias = self._solve(x, truth, prior)
        each = np.array(
            [average_precision(scores=z[:, k], truth=truth[:, k]) for k in range(truth.shape[1])], dtype=float
        )
        return Fitted(
            slope * weight, slope * bias + offset, threshold, folds, scores, each, float(np.nanmean(each)),
            f1, precision, recall, calibration_error(truth, scores),
        )  # fmt: skip

    def _solve(
        self, x: Float[np.ndarray, "views n d"], truth: Bool[np.ndarray, "n k"], prior: Float[np.ndarray, "k d"]
    ) -> tuple[Float[np.ndarray, "k d"], Float[np.ndarray, " k"]]:
        views, n, d = x.shape
        y = np.tile(truth, (views, 1)).astype(np.float64)
        rows = x.reshape(views * n, d).astype(np.float64)
        centre = rows.mean(0)
        rows = rows - centre
        scale = spread(rows, centre)
        rows /= scale
        start = self.prior * prior * scale
        # The pull is towards the prior, so the solution leaves it only in the span of the photographs.
        basis = np.linalg.qr(rows.T)[0] if len(rows) < d else np.eye(d)
        inside, fixed = rows @ basis, rows @ start.T
        # Half a photograph more on either side: a class that a fold lacks keeps a finite bias.
        base = logit((truth.sum(0) + 0.5) / (n + 1))
        k, r = truth.shape[1], inside.shape[1]

        def loss(parameters: Float[np.ndarray, " p"]) -> tuple[float, Float[np.ndarray, " p"]]:
            w, b = parameters[: k * r].reshape(k, r), parameters[k * r :]
            z = inside @ w.T + fixed + b
            residual = (expit(z) - y) / len(y)
            value = (np.logaddexp(0, z) - y * z).sum() / len(y)
            value += self.l2 / 2 * float((w**2).sum()) + BIAS_L2 / 2 * float(((b - base) ** 2).sum())
            gradient = (residual.T @ inside + self.l2 * w).ravel(), residual.sum(0) + BIAS_L2 * (b - base)
            return float(value), np.concatenate(gradient)

        first = np.concatenate([np.zeros(k * r), base])
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
    rounding = 1e-5 * float(np.sqrt((centre**2).sum()))  # single precision, and a sum over thousands of rows
    return scale if scale > rounding else 1.0


#: Keeps the bias of a class without a positive example finite; far below what the data say otherwise.
BIAS_L2 = 1e-4


def fit(
    backbone: Classifier,
    data: ImageLabels,
    options: LinearFit,
    x: Float[np.ndarray, "views n d"],
    folds: Int[np.ndarray, " n"] | None = None,
) -> tuple[Head, Fitted]:
    """A head for the backbone, and what cross-validation says of it.

    Args:
        x: `features` of the data's photographs.
    """
    fitted = options(x, data.truth, prior_rows(backbone, data.labels), folds)
    counts = data.truth.sum(0)
    figures: dict[str, Any] = {
        "options": asdict(options) | {"views": len(x)},
        "photographs": len(data.files),
        "labels_sha256": data.sha256,
        **({} if data.value_range is None else {"range": data.value_range}),
        "mean_average_precision": round(fitted.mean_average_precision, 4),
        "average_precision": {
            name: None if np.isnan(value) else round(float(value), 4)
            for name, value in zip(data.labels, fitted.average_precision, strict=True)
        },
        "examples": {name: int(count) for name, count in zip(data.labels, counts, strict=True)},
        "f1": round(fitted.f1, 4),
        "precision": round(fitted.precision, 4),
        "recall": round(fitted.recall, 4),
        "calibration_error": round(fitted.calibration_error, 4),
    }
    head = Head(
        weight=torch.from_numpy(fitted.weight).float(),
        bias=torch.from_numpy(fitted.bias).float(),
        labels=data.labels,
        backbone=backbone.name,
        backbone_sha256=weights_sha256(backbone.model),
        layer=linear_layer(backbone),
        size=backbone.size,
        threshold=fitted.threshold,
        figures=figures,
    )
    return head, fitted
