"""Means, intervals, breakdowns and differences, each against the plain way to get it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from gradcut.errors import EvaluationError
from gradcut.evaluation import Counts, summary
from gradcut.evaluation.summary import summarise


def entry(counts: list[int], **more) -> dict:
    return {
        "true": counts[0] + counts[2] > 0, "found": counts[0] + counts[1] > 0, "counts": counts, "joint": counts[:3],
        "instances": 1, "largest": 0.1,
    } | more  # fmt: skip


def rows_of(n: int, recipe: str = "a", seed: int = 0, shift: int = 0) -> list[dict]:
    """Rows with random counts, two classes a photograph."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(n):
        classes = {}
        for label in rng.permutation(["bird", "cat", "dog"])[:2]:
            counts = [int(v) for v in rng.integers(1, 100, 4)]
            counts[0] += shift
            classes[str(label)] = entry(
                counts,
                pointing=bool(rng.random() < 0.5),
                energy=float(rng.random()),
                instances=int(rng.integers(1, 12)),
                largest=float(rng.random() ** 3),
            )
        rows.append(
            {
                "photograph": f"{number}.jpg",
                "recipe": recipe,
                "union": [int(v) + shift for v in rng.integers(1, 100, 4)],
                "background": [int(v) for v in rng.integers(1, 100, 3)],
                "classes": classes,
                "scores": {label: round(float(rng.random()), 1) for label in ("bird", "cat", "dog")},
            }
        )
    return rows


def pairs(rows: list[dict]) -> list[dict]:
    return [one for row in rows for one in row["classes"].values()]


def test_means_are_means():
    rows = rows_of(40)
    found = summarise(rows, resamples=0)["recipes"]["a"]
    assert found["photographs"] == 40
    for name, value in {
        "class_iou": np.mean([Counts(*one["counts"]).iou for one in pairs(rows)]),
        "precision": np.mean([Counts(*one["counts"]).precision for one in pairs(rows)]),
        "recall": np.mean([Counts(*one["counts"]).recall for one in pairs(rows)]),
        "union_iou": np.mean([Counts(*row["union"]).iou for row in rows]),
        "pointing": np.mean([one["pointing"] for one in pairs(rows)]),
        "energy": np.mean([one["energy"] for one in pairs(rows)]),
    }.items():
        assert found[name]["value"] == pytest.approx(value)
        assert found[name]["interval"] is None
    assert found["class_iou"]["n"] == 80


def test_miou_is_that_of_the_summed_confusion_matrix():
    """Class maps of a small dataset, summed up in one matrix, background included."""
    rng = np.random.default_rng(0)
    matrix, rows = np.zeros((4, 4), dtype=int), []
    labels = ["bird", "cat", "dog"]
    for number in range(12):
        truth, prediction = rng.integers(0, 4, (2, 30, 30)) * rng.integers(0, 2, (2, 30, 30))
        np.add.at(matrix, (truth.ravel(), prediction.ravel()), 1)
        joint = [
            [int(((prediction == c) & (truth == c)).sum()), int(((prediction == c) & (truth != c)).sum()),
             int(((prediction != c) & (truth == c)).sum())]
            for c in range(4)
        ]  # fmt: skip
        classes = {label: entry([*joint[c], 0]) for c, label in enumerate(labels, start=1)}
        row = {"photograph": str(number), "recipe": "a", "union": [1, 1, 1, 1], "background": joint[0]}
        rows.append(row | {"classes": classes})
    found = summarise(rows, resamples=0)["recipes"]["a"]
    diagonal = np.diag(matrix)
    assert found["miou"]["value"] == pytest.approx((diagonal / (matrix.sum(0) + matrix.sum(1) - diagonal)).mean())
    assert found["miou"]["n"] == 4
    assert found["pixel_accuracy"]["value"] == pytest.approx(diagonal.sum() / matrix.sum())


def test_map_is_scikit_learns_with_ties_and_doubtful_classes():
    rows = rows_of(60)
    for row in rows[:9]:
        row["doubtful"] = ["cat"]
    expected = []
    for label in ("bird", "cat", "dog"):
        judged = [row for row in rows if label not in row.get("doubtful", ())]
        truth = [label in row["classes"] for row in judged]
        expected.append(average_precision_score(truth, [row["scores"][label] for row in judged]))
    found = summarise(rows, resamples=0)["recipes"]["a"]["map"]
    assert found == {"value": pytest.approx(np.mean(expected)), "interval": None, "n": 3}


def test_protocol():
    rng, rows = np.random.default_rng(0), rows_of(20)
    for row in rows[:15]:
        row["protocol"] = {"counts": [int(v) for v in rng.integers(1, 50, 4)], "ap": float(rng.random())}
    tp, fp, fn, tn = np.array([row["protocol"]["counts"] for row in rows[:15]]).sum(0)
    found = summarise(rows, resamples=0)["recipes"]["a"]["protocol"]
    assert found["pixel_accuracy"]["value"] == pytest.approx((tp + tn) / (tp + fp + fn + tn))
    assert found["miou"]["value"] == pytest.approx((tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2)
    assert found["map"]["value"] == pytest.approx(np.mean([row["protocol"]["ap"] for row in rows[:15]]))
    assert found["map"]["n"] == 15


def test_intervals_are_those_of_a_plain_bootstrap():
    """Resampling the photographs one by one, with another generator, gives nearly the same interval."""
    rows = rows_of(80)
    found = summarise(rows, resamples=2000)["recipes"]["a"]
    ious = np.array([[Counts(*one["counts"]).iou for one in pairs([row])] for row in rows])
    rng = np.random.default_rng(7)
    drawn = [ious[rng.integers(0, 80, 80)].mean() for _ in range(2000)]
    assert found["class_iou"]["interval"] == pytest.approx(list(np.percentile(drawn, (2.5, 97.5))), abs=0.006)
    low, high = found["class_iou"]["interval"]
    assert low < found["class_iou"]["value"] < high


def test_intervals_are_seeded_and_follow_their_options():
    rows = rows_of(30)
    interval = lambda **options: summarise(rows, **options)["recipes"]["a"]["miou"]["interval"]  # noqa: E731
    usual = interval(resamples=200)
    assert usual == interval(resamples=200)
    assert usual != interval(resamples=200, seed=1)
    assert usual != interval(resamples=300)
    narrow = interval(resamples=200, confidence=0.5)
    assert usual[0] < narrow[0] < narrow[1] < usual[1]
    assert interval(resamples=0) is None


def test_an_interval_covers_the_truth_as_often_as_it_says():
    """Photographs drawn from a known distribution, 40 datasets of 30: 95 % intervals should hold its mean."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(40):
        rows = [
            {"photograph": str(n), "recipe": "a", "union": [int(v), 100 - int(v), 0, 0], "background": [1, 0, 0],
             "classes": {}}
            for n, v in enumerate(rng.integers(0, 101, 30))
        ]  # fmt: skip
        low, high = summarise(rows, resamples=100)["recipes"]["a"]["union_iou"]["interval"]
        held += low <= 0.5 <= high
    assert 34 <= held <= 40


def test_differences_are_paired():
    """The same photographs, one recipe always a little better: sure, though the means' intervals overlap widely."""
    one, other = rows_of(40), rows_of(40, "b", shift=3)
    found = summarise([*one, *other[:30]])
    (difference,) = found["differences"]
    assert difference["recipes"] == ["a", "b"]
    assert difference["photographs"] == 30
    by = [np.mean([Counts(*c["counts"]).iou for c in pairs(rows[:30])]) for rows in (one, other)]
    assert difference["class_iou"]["value"] == pytest.approx(by[0] - by[1])
    low, high = difference["class_iou"]["interval"]
    assert low < high < 0
    a, b = (found["recipes"][name]["class_iou"]["interval"] for name in "ab")
    assert a[1] > b[0]
    assert high - low < (a[1] - a[0]) / 3


def test_breakdowns_by_size_and_number():
    rows = rows_of(60)
    found = summarise(rows, resamples=0)["recipes"]["a"]
    for key, what, groups in (("by_size", "largest", summary.SIZES), ("by_number", "instances", summary.NUMBERS)):
        for name, (low, high) in groups.items():
            mine = [Counts(*c["counts"]).iou for c in pairs(rows) if low <= c[what] < high]
            assert found[key][name]["class_iou"]["n"] == len(mine) > 0
            assert found[key][name]["class_iou"]["value"] == pytest.approx(np.mean(mine))
        assert sum(group["union_iou"]["n"] for group in found[key].values()) == 60
    photographs = [
        Counts(*row["union"]).iou for row in rows if 5 <= sum(c["instances"] for c in row["classes"].values()) < 10
    ]
    assert found["by_number"]["5 to 9"]["union_iou"]["value"] == pytest.approx(np.mean(photographs))
    assert found["by_class"]["cat"]["value"] == pytest.approx(
        np.mean([Counts(*row["classes"]["cat"]["counts"]).iou for row in rows if "cat" in row["classes"]])
    )


def test_failures_and_empty_figures():
    rows = rows_of(3)
    rows.append({"photograph": "x", "recipe": "a", "error": "broken"})
    for row in rows[:3]:
        del row["scores"]
    found = summarise(rows, resamples=10)["recipes"]["a"]
    assert (found["photographs"], found["failed"]) == (3, 1)
    assert found["map"] == {"value": None, "interval": None, "n": 0}
    nothing = summarise(rows[3:])["recipes"]["a"]
    assert nothing["class_iou"]["value"] is None


def test_unusable_rows_and_options():
    with pytest.raises(EvaluationError, match="no rows"):
        summarise([])
    with pytest.raises(EvaluationError, match=r"0.jpg has two rows of a"):
        summarise(rows_of(1) * 2)
    with pytest.raises(EvaluationError, match=r"got 10 and 1.5"):
        summarise(rows_of(1), resamples=10, confidence=1.5)
    with pytest.raises(EvaluationError, match="got -1"):
        summarise(rows_of(1), resamples=-1)
