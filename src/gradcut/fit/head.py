"""A linear multi-label head on a frozen backbone, from image-level labels alone.

Features are taken once and kept in a file. The head minimises a convex loss, so the result depends on the
data and the options only. Its probabilities are calibrated, and its scores measured, on photographs that
took no part in the fit (cross-validation).
"""

from __future__ import annotations

import csv
import hashlib
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize
from scipy.special import expit, logit

from gradcut import images, labels
from gradcut.classifiers import heads
from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.heads import Head
from gradcut.classifiers.weights import weights_sha256
from gradcut.errors import FitError, check_least
from gradcut.files import replacing
from gradcut.ranking import average_precision

Track = Callable[[Sequence[Path]], Iterable[Path]]


@dataclass(frozen=True, eq=False)
class ImageLabels:
    """Photographs and the classes that are in them.

    Attributes:
        files: the photographs.
        labels: the classes, in the order of the head's outputs.
        truth: whether a class is in a photograph.
        sha256: of the labels file.
    """

    files: tuple[Path, ...] = field(repr=False)
    labels: tuple[str, ...]
    truth: Bool[np.ndarray, "n k"] = field(repr=False)
    sha256: str

    def part(self, chosen: Bool[np.ndarray, " n"]) -> ImageLabels:
        """Some of the photographs, with all the labels."""
        files = tuple(file for file, wanted in zip(self.files, chosen, strict=True) if wanted)
        return ImageLabels(files, self.labels, self.truth[chosen], self.sha256)


def read_labels(path: Path, folder: Path, classes: Sequence[str] | None = None) -> ImageLabels:
    """Read a CSV with the columns ``file`` (below ``folder``) and ``labels`` (separated by ``;``, may be empty).

    A class with one photograph gives a warning with its name: cross-validation cannot judge it.

    Args:
        classes: the head's classes in order; by default those in the file, sorted by name.

    Raises:
        FitError: the file cannot be read, names a photograph twice, names one that does not exist, or lacks a
            photograph of a class; the message names it.
    """
    try:
        content = path.read_bytes()
        rows = list(csv.DictReader(content.decode("utf-8-sig").splitlines()))
    except FileNotFoundError:
        raise FitError(f"labels: {path}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FitError(f"labels: {path} cannot be read: {error}") from error
    if not rows or not {"file", "labels"} <= set(rows[0]):
        got = f"the columns {', '.join(filter(None, rows[0]))}" if rows else "no rows"
        raise FitError(f"labels: expected a CSV with the columns file and labels in {path}, got {got}")
    found = [
        list(dict.fromkeys(name.strip() for name in (row["labels"] or "").split(";") if name.strip())) for row in rows
    ]
    files = [folder / row["file"] for row in rows]
    twice = {file for file in files if files.count(file) > 1} if len(set(files)) < len(files) else set()
    if twice:
        raise FitError(f"labels: {path} names {len(twice)} photographs twice, the first is {sorted(twice)[0]}")
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise FitError(f"images: {len(missing)} of {len(files)} photographs do not exist, the first is {missing[0]}")
    names = tuple(sorted({name for row in found for name in row}) if classes is None else classes)
    if not names:
        raise FitError(f"labels: {path} has no label in any row")
    unknown = sorted({name for row in found for name in row} - set(names))
    if unknown:
        raise FitError(f"labels: {path} has labels that are not among the classes: {', '.join(unknown[:5])}")
    truth = np.array([[name in row for name in names] for row in found], dtype=bool)
    counts = truth.sum(0)
    if (counts == 0).any():
        without = ", ".join(name for name, count in zip(names, counts, strict=True) if count == 0)
        raise FitError(f"labels: no photograph has {without}")
    if (counts == len(files)).any():
        always = ", ".join(name for name, count in zip(names, counts, strict=True) if count == len(files))
        raise FitError(f"labels: every photograph has {always}; photographs without it are needed too")
    if (counts == 1).any():
        once = ", ".join(name for name, count in zip(names, counts, strict=True) if count == 1)
        warnings.warn(f"only one photograph has {once}: nothing can be said of how well it is found", stacklevel=2)
    return ImageLabels(tuple(files), names, truth, hashlib.sha256(content).hexdigest())


def features(
    backbone: Classifier,
    files: Sequence[Path],
    cache: Path | None = None,
    mirror: bool = True,
    track: Track = iter,
) -> Float[np.ndarray, "views n d"]:
    """What the backbone's last linear layer sees in each photograph, at the backbone's size.

    Args:
        cache: an ``.npz`` file to keep the features in; it is used again when the photographs' contents, the
            backbone's weights, its preparation and ``mirror`` are the same.
        mirror: take each photograph's mirror image as a second view.
        track: wraps the photographs to be looked at, for a progress bar.

    Raises:
        ImageError: a photograph cannot be read.
        ClassifierError: the backbone's logits are not linear in features.
    """
    layer = heads.find_layer(backbone)
    digest = hashlib.sha256(repr((backbone, layer, mirror, weights_sha256(backbone.model))).encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    key = digest.hexdigest()
    if cache is not None and (kept := _kept(cache, key)) is not None:
        return kept
    model = heads.extractor(backbone, layer)
    rows = []
    with torch.inference_mode():
        for file in track(files):
            x = backbone.prepare([images.read(file)])
            views = torch.cat([x, x.flip(3)]) if mirror else x
            rows.append(model(views).float().cpu().numpy())
    found = np.stack(rows, axis=1)
    if cache is not None:
        with replacing(cache) as temporary, temporary.open("wb") as file_object:
            np.savez(file_object, features=found, key=key)
    return found


def _kept(cache: Path, key: str) -> Float[np.ndarray, "views n d"] | None:
    try:
        with np.load(cache, allow_pickle=False) as document:
            return document["features"] if str(document["key"]) == key else None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def prior_rows(backbone: Classifier, names: Sequence[str]) -> Float[np.ndarray, "k d"]:
    """The backbone's own opinion of each class: the mean of its rows that mean the class, less the mean of all.

    A class that the backbone does not know gets zeros.
    """
    weight = heads.linear_of(backbone, heads.find_layer(backbone)).weight.detach().cpu().double().numpy()
    rows = np.zeros((len(names), weight.shape[1]))
    for row, name in zip(rows, names, strict=True):
        own = labels.kinds(name, backbone.labels, related=True) or labels.group(name, backbone.labels)
        if own:
            row[:] = weight[list(own)].mean(0) - weight.mean(0)
    return rows


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
        scale = float(np.sqrt((rows**2).sum(1).mean())) or 1.0
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
    layer = heads.find_layer(backbone)
    fitted = options(x, data.truth, prior_rows(backbone, data.labels), folds)
    counts = data.truth.sum(0)
    figures: dict[str, Any] = {
        "options": asdict(options) | {"views": len(x)},
        "photographs": len(data.files),
        "labels_sha256": data.sha256,
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
        layer=layer,
        size=backbone.size,
        threshold=fitted.threshold,
        figures=figures,
    )
    return head, fitted


def stratified_folds(truth: Bool[np.ndarray, "n k"], folds: int, seed: int) -> Int[np.ndarray, " n"]:
    """A fold for each photograph, so that every class is spread as evenly as its examples allow.

    Iterative stratification (Sechidis et al. 2011): the rarest class that is left goes first, each of its
    photographs to the fold that lacks the class most.
    """
    random = np.random.default_rng(seed)
    fold = np.full(len(truth), -1)
    lacking = np.tile(truth.sum(0) / folds, (folds, 1))
    room = np.full(folds, len(truth) / folds)
    order = random.permutation(len(truth))
    while (fold < 0).any():
        left = truth[fold < 0].sum(0)
        rarest = int(np.argmin(np.where(left > 0, left, np.inf))) if left.any() else None
        for photograph in order:
            if fold[photograph] >= 0 or (rarest is not None and not truth[photograph, rarest]):
                continue
            need = np.zeros(folds) if rarest is None else lacking[:, rarest]
            best = int(np.lexsort((random.random(folds), room, need))[-1])
            fold[photograph] = best
            lacking[best] -= truth[photograph]
            room[best] -= 1
    return fold


def platt(z: Float[np.ndarray, "n k"], truth: Bool[np.ndarray, "n k"]) -> tuple[float, float]:
    """Slope and offset that turn logits into calibrated ones (Platt 1999), the same for all classes."""
    y = truth.astype(np.float64)

    def loss(p: Float[np.ndarray, " 2"]) -> tuple[float, Float[np.ndarray, " 2"]]:
        logits = p[0] * z + p[1]
        residual = expit(logits) - y
        value = float((np.logaddexp(0, logits) - y * logits).mean())
        return value, np.array([(residual * z).mean(), residual.mean()])

    solved = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(1e-3, None), (None, None)])
    return float(solved.x[0]), float(solved.x[1])


def best_threshold(
    truth: Bool[np.ndarray, "n k"], scores: Float[np.ndarray, "n k"]
) -> tuple[float, float, float, float]:
    """Threshold (two decimals) with the best F1 over all pairs of photograph and class; F1, precision, recall."""
    best = (0.5, 0.0, 0.0, 0.0)
    for threshold in np.round(np.arange(0.01, 1, 0.01), 2):
        found = scores >= threshold
        hits = int((found & truth).sum())
        f1 = 2 * hits / max(1, int(found.sum()) + int(truth.sum()))
        if f1 > best[1]:
            best = (float(threshold), f1, hits / max(1, int(found.sum())), hits / max(1, int(truth.sum())))
    return best


def calibration_error(truth: Bool[np.ndarray, "n k"], scores: Float[np.ndarray, "n k"], bins: int = 15) -> float:
    """Expected calibration error over bins of equal width (Naeini et al. 2015)."""
    place = np.minimum((scores.ravel() * bins).astype(int), bins - 1)
    gap = np.bincount(place, scores.ravel() - truth.ravel(), bins)
    return float(np.abs(gap).sum() / scores.size)
