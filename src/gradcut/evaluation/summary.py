"""From rows of `gradcut.evaluation` to means, intervals, breakdowns and paired differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from gradcut.catalogue import FAITHFULNESS
from gradcut.errors import EvaluationError
from gradcut.evaluation.bootstrap import Bootstrap, Figure, Metric, divide, mean_of, minus, ratio
from gradcut.evaluation.faithfulness.asked import shares_of
from gradcut.evaluation.measures import Counts
from gradcut.evaluation.scoring import Row
from gradcut.ranking import average_precisions

#: What an instance's size is called, by its share of the photograph, from and below.
SIZES: Mapping[str, tuple[float, float]] = {
    "below 3 %": (0.0, 0.03),
    "3 to 20 %": (0.03, 0.20),
    "above 20 %": (0.20, np.inf),
}
#: Groups of numbers of instances, from and below.
NUMBERS: Mapping[str, tuple[float, float]] = {
    "1": (1, 2),
    "2 to 4": (2, 5),
    "5 to 9": (5, 10),
    "10 or more": (10, np.inf),
}


def summarise(rows: Iterable[Row], resamples: int = 1000, seed: int = 0, confidence: float = 0.95) -> dict[str, Any]:
    """All the figures that rows hold.

    A figure is ``{"value", "interval": [low, high], "n"}``; value and interval are None where nothing was counted, the
    interval also where one photograph was.

    ``recipes`` holds by recipe:

    =================== ====================================================================================
    photographs, failed how many
    blank               how many pairs of photograph and class have no mask because the saliency is blank
    class_iou           mean over pairs of photograph and class, true or found
    precision, recall   likewise, over the pairs where they are defined
    union_iou           mean over photographs, of all masks together: the seed's measure
    miou                pixels summed up over the dataset, background among the classes, as Pascal VOC counts
    pixel_accuracy      share of all pixels that got the right class
    pointing, energy    means over true classes, of the saliency itself
    map                 mean average precision of the classification
    protocol            ImageNet-Segmentation's pixel_accuracy, miou and map, where there are such rows
    by_size             ``class_iou`` by the class's largest instance, ``union_iou`` by the photograph's
    by_number           likewise by the number of instances
    by_class            ``class_iou`` and ``n`` by class
    faithfulness        means over classes that were found, by measure, of rows that have it
    curves              of such rows: by curve, the ``shares`` where it has values, and the mean ``figures`` there
    =================== ====================================================================================

    ``differences`` lists of every two recipes the figures of the first minus the second, on the photographs that
    both have, resampled together.

    Args:
        resamples: of the bootstrap; 0 leaves the intervals out.
        seed: of the resamples.
        confidence: of the percentile intervals.

    Raises:
        EvaluationError: no rows, a photograph twice in a recipe, or arguments out of range.
    """
    draw = Bootstrap(resamples, seed, confidence)
    by_recipe: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_photograph = by_recipe.setdefault(row["recipe"], {})
        if row["photograph"] in by_photograph:
            raise EvaluationError(f"scores: {row['photograph']} has two rows of {row['recipe']}")
        by_photograph[row["photograph"]] = row
    if not by_recipe:
        raise EvaluationError("scores: there are no rows")
    judged = {
        recipe: {name: row for name, row in by_photograph.items() if "error" not in row}
        for recipe, by_photograph in by_recipe.items()
    }
    return {
        "recipes": {
            recipe: {
                "photographs": len(by_photograph),
                "failed": len(by_recipe[recipe]) - len(by_photograph),
                "blank": sum("blank" in entry for row in by_photograph.values() for entry in row["classes"].values()),
            }
            | _figures(list(by_photograph.values()), draw)
            for recipe, by_photograph in judged.items()
        },
        "differences": [_difference(a, b, judged, draw) for a, b in combinations(judged, 2)],
        "bootstrap": {"resamples": resamples, "seed": seed, "confidence": confidence},
    }


#: The figures whose paired differences are listed.
COMPARED = ("class_iou", "union_iou", "miou")


def _difference(a: str, b: str, judged: Mapping[str, Mapping[str, Row]], draw: Bootstrap) -> dict[str, Any]:
    common = [name for name in judged[a] if name in judged[b]]
    left, right = ([judged[recipe][name] for name in common] for recipe in (a, b))
    entry: dict[str, Any] = {"recipes": [a, b], "photographs": len(common)}
    for name in COMPARED:
        (metric, n), (other, _) = METRICS[name](left), METRICS[name](right)
        entry[name] = draw.figure(len(common), minus(metric, other), n)
    if measures := [name for name in FAITHFULNESS if _asked(left, name) and _asked(right, name)]:
        entry["faithfulness"] = {
            name: draw.paired(*([_faithful(row, name) for row in rows] for rows in (left, right))) for name in measures
        }
    return entry


def _asked(rows: Sequence[Row], measure: str) -> bool:
    return any(measure in entry.get("faithfulness", {}) for row in rows for entry in row["classes"].values())


def _faithful(row: Row, measure: str) -> list[float]:
    return _defined(entry.get("faithfulness", {}).get(measure) for entry in row["classes"].values())


def _curves(rows: Sequence[Row], draw: Bootstrap) -> dict[str, Any]:
    """The mean of each curve at each of its shares."""
    several = [[entry.get("faithfulness", {}) for entry in row["classes"].values()] for row in rows]
    curves = [[each["curves"] for each in of if "curves" in each] for of in several]
    lengths = {name: len(values) for of in curves for each in of for name, values in each.items()}
    return {
        name: {
            "shares": list(shares_of(name, length)),
            "figures": [draw.mean([[each[name][at] for each in of] for of in curves]) for at in range(length)],
        }
        for name, length in lengths.items()
    }


def _figures(rows: Sequence[Row], draw: Bootstrap) -> dict[str, Any]:
    figures: dict[str, Any] = {name: draw.figure(len(rows), *metric(rows)) for name, metric in METRICS.items()}
    if any("protocol" in row for row in rows):
        figures["protocol"] = {name: draw.figure(len(rows), *metric(rows)) for name, metric in PROTOCOL.items()}
    if measures := [name for name in FAITHFULNESS if _asked(rows, name)]:
        figures["faithfulness"] = {name: draw.mean([_faithful(row, name) for row in rows]) for name in measures}
        figures["curves"] = _curves(rows, draw)
    for key, what, groups in (("by_size", "largest", SIZES), ("by_number", "instances", NUMBERS)):
        figures[key] = {name: _breakdown(rows, what, bounds, draw) for name, bounds in groups.items()}
    labels = sorted({label for row in rows for label in row["classes"]})
    figures["by_class"] = {label: draw.mean([_of_label(label, row) for row in rows]) for label in labels}
    return figures


def _of_label(label: str, row: Row) -> list[float]:
    return _ious(entry for name, entry in row["classes"].items() if name == label)


def _breakdown(rows: Sequence[Row], what: str, bounds: tuple[float, float], draw: Bootstrap) -> dict[str, Figure]:
    """Classes, and photographs, whose largest instance or number of instances lies within bounds."""
    low, high = bounds

    def classes(row: Row) -> list[float]:
        return _ious(c for c in row["classes"].values() if c["true"] and low <= c[what] < high)

    def photograph(row: Row) -> list[float]:
        true = [c[what] for c in row["classes"].values() if c["true"]]
        whole = max(true, default=0) if what == "largest" else sum(true)
        return _defined([Counts(*row["union"]).iou]) if true and low <= whole < high else []

    return {
        "class_iou": draw.mean([classes(row) for row in rows]),
        "union_iou": draw.mean([photograph(row) for row in rows]),
    }


# Metrics: from rows to a function of weights, and how many values it averages ----------------------------------------


def _mean(rows: Sequence[Row], values: Callable[[Row], Sequence[float]]) -> tuple[Metric, int]:
    """The mean over all the values of all photographs."""
    return mean_of([values(row) for row in rows])


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
        ious = divide(summed[..., 0], summed.sum(2))
        seen = np.isfinite(ious)
        return divide(np.where(seen, ious, 0).sum(1), seen.sum(1).astype(float))

    return metric


def _pixel_accuracy(rows: Sequence[Row]) -> tuple[Metric, int]:
    """Of the joint labelling: every valid pixel has one class, or is background."""
    right = [float(row["background"][0] + sum(c["joint"][0] for c in row["classes"].values())) for row in rows]
    # Each wrong pixel misses one class: the true one.
    wrong = [float(row["background"][2] + sum(c["joint"][2] for c in row["classes"].values())) for row in rows]
    return ratio(np.array(right), np.array(right) + np.array(wrong)), len(rows)


def _map(rows: Sequence[Row]) -> tuple[Metric, int]:
    """Mean over classes of the average precision; a class counts where photographs have it and others do not."""
    labels = sorted({label for row in rows for label in row.get("scores", {})})
    columns = []
    for label in labels:
        judged = [
            n for n, row in enumerate(rows) if label in row.get("scores", {}) and label not in row.get("doubtful", ())
        ]
        scores = np.array([rows[n]["scores"][label] for n in judged], dtype=float)
        truth = np.array([rows[n]["classes"].get(label, {}).get("true", False) for n in judged], dtype=bool)
        if truth.any():
            columns.append((judged, scores, truth))

    def metric(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        values = np.array([
            average_precisions(scores=scores, truth=truth, weights=weights[:, judged])
            for judged, scores, truth in columns
        ]).reshape(len(columns), len(weights))  # fmt: skip
        finite = np.isfinite(values)
        return divide(np.where(finite, values, 0).sum(0), finite.sum(0).astype(float))

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
    return ratio(table[:, 0] + table[:, 3], table.sum(1)), int((table.sum(1) > 0).sum())


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
