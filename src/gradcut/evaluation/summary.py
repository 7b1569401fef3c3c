"""From rows of `gradcut.evaluation` to means, intervals, breakdowns and paired differences.

Every figure is a function of weights, one a photograph: with all weights 1 it is the figure itself, and with the
weights of a bootstrap resample (Efron 1979) one of the values that its interval is read from. Photographs are what
is resampled: classes of one photograph depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from gradcut.errors import EvaluationError
from gradcut.evaluation.evaluate import Counts, Row

Figure = dict[str, Any]
Metric = Callable[[Float[np.ndarray, "b n"]], Float[np.ndarray, " b"]]

#: What an object's size is called, by its share of the photograph, from and below.
SIZES: Mapping[str, tuple[float, float]] = {
    "below 3 %": (0.0, 0.03),
    "3 to 20 %": (0.03, 0.20),
    "above 20 %": (0.20, np.inf),
}
#: Groups of numbers of objects, from and below.
NUMBERS: Mapping[str, tuple[float, float]] = {
    "1": (1, 2),
    "2 to 4": (2, 5),
    "5 to 9": (5, 10),
    "10 or more": (10, np.inf),
}


def summarise(rows: Iterable[Row], resamples: int = 1000, seed: int = 0, confidence: float = 0.95) -> dict[str, Any]:
    """All the figures that rows hold.

    A figure is ``{"value", "interval": [low, high], "n"}``; value and interval are None where nothing was counted.

    ``recipes`` holds by recipe:

    ================== ====================================================================================
    photographs, failed how many
    class_iou           mean over pairs of photograph and class, true or found
    precision, recall   likewise, over the pairs where they are defined
    union_iou           mean over photographs, of all masks together: the seed's measure
    miou                pixels summed up over the dataset, background among the classes, as Pascal VOC counts
    pixel_accuracy      share of all pixels that got the right class
    pointing, energy    means over true classes, of the saliency itself
    map                 mean average precision of the classification
    protocol            ImageNet-Segmentation's pixel_accuracy, miou and map, where there are such rows
    by_size             ``class_iou`` by the class's largest object, ``union_iou`` by the photograph's
    by_number           likewise by the number of objects
    by_class            ``class_iou`` and ``n`` by class
    ================== ====================================================================================

    ``differences`` lists of every two recipes the figures of the first minus the second, on the photographs that
    both have, resampled together.

    Args:
        resamples: of the bootstrap; 0 leaves the intervals out.
        seed: of the resamples.
        confidence: of the percentile intervals.

    Raises:
        EvaluationError: no rows, a photograph twice in a recipe, or arguments out of range.
    """
    if resamples < 0 or not 0 < confidence < 1:
        raise EvaluationError(
            f"resamples, confidence: expected 0 or more and a share between 0 and 1, got {resamples} and {confidence}"
        )
    by_recipe: dict[str, dict[str, Row]] = {}
    for row in rows:
        mine = by_recipe.setdefault(row["recipe"], {})
        if row["photograph"] in mine:
            raise EvaluationError(f"scores: {row['photograph']} has two rows of {row['recipe']}")
        mine[row["photograph"]] = row
    if not by_recipe:
        raise EvaluationError("scores: there are no rows")
    draw = _Draw(resamples, seed, confidence)
    good = {
        recipe: {name: row for name, row in mine.items() if "error" not in row} for recipe, mine in by_recipe.items()
    }
    return {
        "recipes": {
            recipe: {"photographs": len(mine), "failed": len(by_recipe[recipe]) - len(mine)}
            | _figures(list(mine.values()), draw)
            for recipe, mine in good.items()
        },
        "differences": [_difference(a, b, good, draw) for a, b in combinations(good, 2)],
        "bootstrap": {"resamples": resamples, "seed": seed, "confidence": confidence},
    }


#: The figures whose paired differences are listed.
COMPARED = ("class_iou", "union_iou", "miou")


def _difference(a: str, b: str, good: Mapping[str, Mapping[str, Row]], draw: _Draw) -> dict[str, Any]:
    common = [name for name in good[a] if name in good[b]]
    left, right = ([good[recipe][name] for name in common] for recipe in (a, b))
    entry: dict[str, Any] = {"recipes": [a, b], "photographs": len(common)}
    for name in COMPARED:
        (one, n), (other, _) = METRICS[name](left), METRICS[name](right)
        entry[name] = draw.figure(len(common), _minus(one, other), n)
    return entry


def _minus(one: Metric, other: Metric) -> Metric:
    return lambda weights: one(weights) - other(weights)


def _figures(rows: Sequence[Row], draw: _Draw) -> dict[str, Any]:
    figures: dict[str, Any] = {name: draw.figure(len(rows), *metric(rows)) for name, metric in METRICS.items()}
    if any("protocol" in row for row in rows):
        figures["protocol"] = {name: draw.figure(len(rows), *metric(rows)) for name, metric in PROTOCOL.items()}
    for key, what, groups in (("by_size", "largest", SIZES), ("by_number", "objects", NUMBERS)):
        figures[key] = {name: _group(rows, what, bounds, draw) for name, bounds in groups.items()}
    labels = sorted({label for row in rows for label in row["classes"]})
    figures["by_class"] = {label: draw.figure(len(rows), *_mean(rows, partial(_of_label, label))) for label in labels}
    return figures


def _of_label(label: str, row: Row) -> list[float]:
    return _ious(entry for name, entry in row["classes"].items() if name == label)


def _group(rows: Sequence[Row], what: str, bounds: tuple[float, float], draw: _Draw) -> dict[str, Figure]:
    """Classes, and photographs, whose largest object or number of objects lies within bounds."""
    low, high = bounds

    def classes(row: Row) -> list[float]:
        return _ious(c for c in row["classes"].values() if c["true"] and low <= c[what] < high)

    def photograph(row: Row) -> list[float]:
        true = [c[what] for c in row["classes"].values() if c["true"]]
        whole = max(true, default=0) if what == "largest" else sum(true)
        return _defined([Counts(*row["union"]).iou]) if true and low <= whole < high else []

    return {
        "class_iou": draw.figure(len(rows), *_mean(rows, classes)),
        "union_iou": draw.figure(len(rows), *_mean(rows, photograph)),
    }


# Metrics: from rows to a function of weights, and how many values it averages ----------------------------------------


def _mean(rows: Sequence[Row], values: Callable[[Row], Sequence[float]]) -> tuple[Metric, int]:
    """The mean over all the values of all photographs."""
    found = [values(row) for row in rows]
    total, number = np.array([sum(v) for v in found], dtype=float), np.array([len(v) for v in found], dtype=float)
    return _ratio(total, number), int(number.sum())


def _ratio(part: Float[np.ndarray, " n"], whole: Float[np.ndarray, " n"]) -> Metric:
    def metric(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        return _divide(weights @ part, weights @ whole)

    return metric


def _divide(part: Float[np.ndarray, "*s"], whole: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """NaN where there is nothing to divide by."""
    shares: Float[np.ndarray, "*s"] = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return shares


def _defined(values: Iterable[float | bool | None]) -> list[float]:
    return [float(value) for value in values if value is not None]


def _ious(classes: Iterable[Row]) -> list[float]:
    return _defined(Counts(*c["counts"]).iou for c in classes)


def _of_classes(value: Callable[[Row], float | bool | None]) -> Callable[[Sequence[Row]], tuple[Metric, int]]:
    return lambda rows: _mean(rows, lambda row: _defined(map(value, row["classes"].values())))


def _union_iou(rows: Sequence[Row]) -> tuple[Metric, int]:
    return _mean(rows, lambda row: _defined([Counts(*row["union"]).iou]))


def _miou(rows: Sequence[Row]) -> tuple[Metric, int]:
    labels = sorted({label for row in rows for label in row["classes"]})
    table = np.zeros((len(rows), 1 + len(labels), 3))
    for number, row in enumerate(rows):
        table[number, 0] = row["background"]
        for label, entry in row["classes"].items():
            table[number, 1 + labels.index(label)] = entry["joint"]
    return _accumulated(table), int((table.sum((0, 2)) > 0).sum())


def _accumulated(table: Float[np.ndarray, "n c 3"]) -> Metric:
    """Mean over classes of the IoU of summed-up pixels [tp, fp, fn]; a class without any is left out."""

    def metric(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        summed = (weights @ table.reshape(len(table), -1)).reshape(len(weights), *table.shape[1:])
        ious = _divide(summed[..., 0], summed.sum(2))
        seen = np.isfinite(ious)
        return _divide(np.where(seen, ious, 0).sum(1), seen.sum(1).astype(float))

    return metric


def _pixel_accuracy(rows: Sequence[Row]) -> tuple[Metric, int]:
    """Of the joint labelling: every valid pixel has one class, or is background."""
    right = [float(row["background"][0] + sum(c["joint"][0] for c in row["classes"].values())) for row in rows]
    # Each wrong pixel misses one class: the true one.
    wrong = [float(row["background"][2] + sum(c["joint"][2] for c in row["classes"].values())) for row in rows]
    return _ratio(np.array(right), np.array(right) + np.array(wrong)), len(rows)


def _map(rows: Sequence[Row]) -> tuple[Metric, int]:
    """Mean over classes of the average precision; a class counts where photographs have it and others do not."""
    labels = sorted({label for row in rows for label in row.get("scores", {})})
    columns = []
    for label in labels:
        judged = [
            n for n, row in enumerate(rows) if label in row.get("scores", {}) and label not in row.get("doubtful", ())
        ]
        scores = np.array([rows[n]["scores"][label] for n in judged])
        true = np.array([rows[n]["classes"].get(label, {}).get("true", False) for n in judged], dtype=float)
        if true.sum() > 0:
            order = np.argsort(-scores, kind="stable")
            ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
            columns.append((np.array(judged)[order], true[order], ends))

    def metric(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        values = np.full((len(columns), len(weights)), np.nan)
        for number, (order, true, ends) in enumerate(columns):
            mine = weights[:, order]
            seen, found = np.cumsum(mine, axis=1)[:, ends], np.cumsum(mine * true, axis=1)[:, ends]
            precision = _divide(found, seen)
            gained = np.diff(found, axis=1, prepend=0)
            values[number] = _divide((gained * np.nan_to_num(precision)).sum(1), found[:, -1])
        good = np.isfinite(values)
        return _divide(np.where(good, values, 0).sum(0), good.sum(0).astype(float))

    return metric, len(columns)


METRICS: Mapping[str, Callable[[Sequence[Row]], tuple[Metric, int]]] = {
    "class_iou": _of_classes(lambda c: Counts(*c["counts"]).iou),
    "precision": _of_classes(lambda c: Counts(*c["counts"]).precision),
    "recall": _of_classes(lambda c: Counts(*c["counts"]).recall),
    "union_iou": _union_iou,
    "miou": _miou,
    "pixel_accuracy": _pixel_accuracy,
    "pointing": _of_classes(lambda c: c.get("pointing")),
    "energy": _of_classes(lambda c: c.get("energy")),
    "map": _map,
}


def _protocol_table(rows: Sequence[Row]) -> Float[np.ndarray, "n 4"]:
    return np.array([row["protocol"]["counts"] if "protocol" in row else [0, 0, 0, 0] for row in rows], dtype=float)


def _protocol_accuracy(rows: Sequence[Row]) -> tuple[Metric, int]:
    table = _protocol_table(rows)
    return _ratio(table[:, 0] + table[:, 3], table.sum(1)), int((table.sum(1) > 0).sum())


def _protocol_miou(rows: Sequence[Row]) -> tuple[Metric, int]:
    """Over foreground and background, each summed up over the dataset."""
    tp, fp, fn, tn = _protocol_table(rows).T
    table = np.stack([np.stack([tn, fn, fp], 1), np.stack([tp, fp, fn], 1)], 1)
    return _accumulated(table), int((table.sum((1, 2)) > 0).sum())


PROTOCOL: Mapping[str, Callable[[Sequence[Row]], tuple[Metric, int]]] = {
    "pixel_accuracy": _protocol_accuracy,
    "miou": _protocol_miou,
    "map": lambda rows: _mean(rows, lambda row: _defined([row["protocol"]["ap"]] if "protocol" in row else [])),
}


# Intervals -----------------------------------------------------------------------------------------------------------


class _Draw:
    """Resamples of n photographs: the same for every figure, so that differences are paired."""

    def __init__(self, resamples: int, seed: int, confidence: float) -> None:
        self.resamples, self.seed, self.confidence = resamples, seed, confidence
        self._weights: dict[int, Float[np.ndarray, "b n"]] = {}

    def weights(self, n: int) -> Float[np.ndarray, "b n"]:
        """How often each photograph is drawn; the first row is the photographs themselves."""
        if n not in self._weights:
            generator = np.random.default_rng([self.seed, n])
            drawn = generator.multinomial(n, np.full(n, 1 / n), size=self.resamples)
            self._weights[n] = np.concatenate([np.ones((1, n)), drawn])
        return self._weights[n]

    def figure(self, photographs: int, metric: Metric, n: int) -> Figure:
        if not photographs or not n:
            return {"value": None, "interval": None, "n": 0}
        value, *drawn = metric(self.weights(photographs))
        if not np.isfinite(value):
            return {"value": None, "interval": None, "n": n}
        finite = np.array(drawn)[np.isfinite(drawn)]
        tail = 50 * (1 - self.confidence)
        interval = [float(v) for v in np.percentile(finite, (tail, 100 - tail))] if len(finite) else None
        return {"value": float(value), "interval": interval, "n": n}
