"""Fit and judge the confidence: the IoU to expect of a mask, on photographs with known masks.

    python benchmarks/confidence.py IMAGES ANNOTATIONS [--folds FOLDER] [--rows FILE] [--write] [-o FILE]

Every object that the classifier detects is cut with the recipe, its features and its true IoU are noted (0 where the
class is not in the photograph), and a logistic function of the features is fitted to the IoU. The figures are of
photographs that the fit has not seen: five folds over photographs, and, with --folds, the heads of `gradcut fit
--folds`, each asked about photographs that it was not fitted to. The same is told of the truth's classes, each asked
for by name: no class is wrong there, so only the masks count. `--write` stores the coefficients of the fit to the
detected objects of all photographs in the package. `--rows` keeps what was measured, so that another fit takes seconds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from common import Heads
from scipy.optimize import minimize
from scipy.stats import spearmanr

from gradcut import Segmenter, confidence, datasets, evaluation, load_classifier


def measure(samples, segmenter_for):
    """Rows of (photograph's number, features, true IoU), of the detected objects and of the truth's classes."""
    rows = {"detected": [], "asked": []}
    for number, sample in enumerate(samples):
        segment = segmenter_for(sample.name)
        known = [label for label in sample.masks if label in segment.classifier.labels]
        if not known:
            continue
        for kind, labels in (("detected", None), ("asked", known)):
            (evidence,) = segment.explain([sample.image], labels)
            result = segment.cut(evidence)
            if not result.objects:
                continue
            # What has another class's pixels is left out of the result, but is among what the others are compared with.
            items = {item.label: item for item in (*result.objects, *result.dropped)}
            items = [items[detection.label] for detection in evidence.found]
            values = confidence.features(
                evidence.saliency, np.stack([item.mask for item in items]), [item.score for item in items]
            )
            for item, measured in zip(items, values, strict=True):
                if item in result.dropped:
                    continue
                truth = sample.masks.get(item.label, np.zeros_like(sample.ignore))
                iou = evaluation.iou(item.mask, truth, sample.ignore) or 0.0
                rows[kind].append((number, *measured, iou))
    return {kind: np.array(measured) for kind, measured in rows.items()}


def fit(x, y, penalty=1e-3):
    """Logistic regression of a share (Papke & Wooldridge 1996), with a small penalty on standardised weights."""
    mean, scale = x.mean(0), x.std(0) + 1e-9
    z = (x - mean) / scale

    def loss(w):
        p = 1 / (1 + np.exp(-(z @ w[1:] + w[0])))
        value = -(y * np.log(p + 1e-12) + (1 - y) * np.log(1 - p + 1e-12)).mean() + penalty * (w[1:] ** 2).sum()
        slope = (p - y) / len(y)
        return value, np.concatenate([[slope.sum()], z.T @ slope + 2 * penalty * w[1:]])

    w = minimize(loss, np.zeros(x.shape[1] + 1), jac=True).x
    return w[1:] / scale, w[0] - (w[1:] * mean / scale).sum()


def predict(x, weights, bias):
    return 1 / (1 + np.exp(-(x @ weights + bias)))


def figures(sure, iou):
    best = np.argsort(-sure)[: (len(sure) + 1) // 2]
    return {
        "n": len(sure), "spearman": round(float(spearmanr(sure, iou).statistic), 3),
        "mean_iou": round(float(iou.mean()), 3), "mean_iou_best_half": round(float(iou[best].mean()), 3),
        "mean_confidence": round(float(sure.mean()), 3),
    }  # fmt: skip


def judge(rows, fitted):
    """What the n-th of `fitted` says about the photographs of the n-th fold, which took no part in it."""
    photograph, x, iou = rows[:, 0].astype(int), rows[:, 1:-1], rows[:, -1]
    part = folds_of(photograph)
    unseen = np.zeros(len(x))
    for n, (weights, bias) in enumerate(fitted):
        unseen[part == n] = predict(x[part == n], weights, bias)
    means = [(unseen[photograph == p].mean(), iou[photograph == p].mean()) for p in np.unique(photograph)]
    bins = np.clip(np.searchsorted(np.quantile(unseen, np.linspace(0, 1, 6)), unseen, side="right") - 1, 0, 4)
    return {
        "objects": figures(unseen, iou),
        "photographs": figures(*np.array(means).T),
        "calibration": [
            {"confidence": round(float(unseen[bins == b].mean()), 3), "iou": round(float(iou[bins == b].mean()), 3)}
            for b in range(5)
        ],
        "feature_spearman": {
            name: round(float(spearmanr(x[:, i], iou).statistic), 3) for i, name in enumerate(confidence.FEATURES)
        },
    }


def folds_of(photograph):
    return np.random.default_rng(0).integers(0, 5, 1_000_000)[photograph]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("annotations")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--classifier", default="coco80")
    parser.add_argument("--folds", type=Path, help="folder of out-of-fold heads with folds.csv")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--rows", type=Path, help="NPZ file of what was measured: read if it exists, else written")
    parser.add_argument("--write", action="store_true", help="store the coefficients in the package")
    parser.add_argument("-o", "--output", type=Path, help="the figures as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    if arguments.rows and arguments.rows.exists():
        with np.load(arguments.rows) as file:
            rows = dict(file)
    else:
        samples = datasets.coco(arguments.images, arguments.annotations)[: arguments.limit]
        if arguments.folds:
            heads = Heads(arguments.folds)
            rows = measure(samples, lambda name: Segmenter(heads(name), arguments.recipe))
        else:
            segment = Segmenter(load_classifier(arguments.classifier), arguments.recipe)
            rows = measure(samples, lambda _: segment)
        if arguments.rows:
            np.savez(arguments.rows, **rows)
    photograph, x, iou = rows["detected"][:, 0].astype(int), rows["detected"][:, 1:-1], rows["detected"][:, -1]
    part = folds_of(photograph)
    fitted = [fit(x[part != n], iou[part != n]) for n in range(5)]
    table = {
        "recipe": arguments.recipe, "detected": judge(rows["detected"], fitted), "asked": judge(rows["asked"], fitted)
    }  # fmt: skip
    print(json.dumps(table, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(table, indent=1) + "\n")
    if arguments.write:
        weights, bias = fit(x, iou)
        path = Path(confidence.__file__).parent / "data/confidence.json"
        stored = json.loads(path.read_text())
        stored[arguments.recipe] = {"weights": np.round(weights, 4).tolist(), "bias": round(float(bias), 4)}
        if arguments.recipe == "default":  # whose weights serve for the masks of `best`, too
            stored["best"] = stored["default"]
        path.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
