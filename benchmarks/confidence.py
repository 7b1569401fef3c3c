"""Fit and judge the confidence: the IoU to expect of a mask, on photographs with known masks.

    python benchmarks/confidence.py IMAGES ANNOTATIONS [--folds FOLDER] [--write] [-o FILE]

Every object of the truth's classes is cut with the recipe, its features and its true IoU are noted, and a logistic
function of the features is fitted to the IoU. The figures are of photographs that the fit has not seen: five folds
over photographs, and, with --folds, the heads of `gradcut fit --folds`, each asked about photographs that it was not
fitted to. `--write` stores the coefficients of the fit to all photographs in the package.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.stats import spearmanr

from gradcut import Segmenter, confidence, datasets, load_classifier
from gradcut.evaluation import read_folds


def measure(samples, segmenters, of):
    """Photograph's number, features and true IoU of every object."""
    rows = []
    for number, sample in enumerate(samples):
        segment = segmenters[of(sample.name)]
        known = [label for label in sample.masks if label in segment.classifier.labels]
        if not known:
            continue
        (evidence,) = segment.explain([sample.image], known)
        result = segment.cut(evidence)
        values = confidence.features(
            sample.image, evidence.saliency, np.stack([o.mask for o in result.objects]),
            [o.score for o in result.objects],
        )  # fmt: skip
        for found, measured in zip(result.objects, values, strict=True):
            mask, truth = found.mask & ~sample.ignore, sample.masks[found.label] & ~sample.ignore
            iou = (mask & truth).sum() / max((mask | truth).sum(), 1)
            rows.append((number, *measured, iou))
    return np.array(rows)


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("annotations")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--classifier", default="coco80")
    parser.add_argument("--folds", type=Path, help="folder of out-of-fold heads with folds.csv")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--write", action="store_true", help="store the coefficients in the package")
    parser.add_argument("-o", "--output", type=Path, help="the figures as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    samples = datasets.coco(arguments.images, arguments.annotations)[: arguments.limit]
    if arguments.folds:
        folds = read_folds(arguments.folds / "folds.csv")
        heads = {
            n: Segmenter(load_classifier(str(arguments.folds / f"fold-{n}.safetensors")), arguments.recipe)
            for n in sorted(set(folds.values()))
        }
        rows = measure(samples, heads, lambda name: folds[Path(name).name])
    else:
        rows = measure(samples, {0: Segmenter(load_classifier(arguments.classifier), arguments.recipe)}, lambda _: 0)
    photograph, x, iou = rows[:, 0].astype(int), rows[:, 1:-1], rows[:, -1]

    unseen = np.zeros(len(x))
    parts = np.random.default_rng(0).integers(0, 5, photograph.max() + 1)[photograph]
    for part in range(5):
        inside = parts == part
        unseen[inside] = predict(x[inside], *fit(x[~inside], iou[~inside]))
    means = [(unseen[photograph == p].mean(), iou[photograph == p].mean()) for p in np.unique(photograph)]
    edges = np.quantile(unseen, np.linspace(0, 1, 6))
    bins = np.clip(np.searchsorted(edges, unseen, side="right") - 1, 0, 4)
    table = {
        "recipe": arguments.recipe,
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
    print(json.dumps(table, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(table, indent=1) + "\n")
    if arguments.write:
        weights, bias = fit(x, iou)
        path = Path(confidence.__file__).parent / "data/confidence.json"
        stored = json.loads(path.read_text())
        stored[arguments.recipe] = {"weights": np.round(weights, 4).tolist(), "bias": round(float(bias), 4)}
        path.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
