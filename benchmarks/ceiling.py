"""What the weights for places could be at best: fitted to true masks, which gradcut never sees.

    python benchmarks/ceiling.py --images IMAGES --annotations instances.json --folds FOLDS -o CEILING
    gradcut evaluate coco --images IMAGES --annotations instances.json --folds CEILING --labels truth \\
        --recipe default --recipe fast -o ceiling.jsonl

FOLDS is what `gradcut fit --folds` wrote. Each of its heads gets weights fitted as `gradcut.fit.places` does it,
with the same options, but for one thing: which places show a class is read from the masks of the other folds'
photographs, not from the head's own maps. How much of each place a class covers stands for how sure its map is. CEILING
gets these heads, so that whatever takes heads of folds can be asked how far it would come with them.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import torch
from common import Heads, parser, progress

from gradcut import Classifier, datasets, images, load_classifier
from gradcut.classifiers.heads import read_head
from gradcut.fit.places import SCALES, PlaceFit
from gradcut.network.view import View
from gradcut.saliency.cams import linear_head


def examples(classifier: Classifier, sample: datasets.Sample, fit: PlaceFit, number: int) -> tuple:
    """Features and classes of a photograph's places, crowds left out."""
    x = classifier.at(classifier.scaled(max(SCALES))).prepare([sample.image])
    with torch.no_grad():
        features = linear_head(View(classifier, x), "a ceiling").features
    size = features.shape[2:]
    labels = sorted(label for label in sample.masks if label in classifier.labels)
    maps = np.zeros((len(labels), features[0, 0].numel()), np.float32)
    for row, label in zip(maps, labels, strict=True):
        row[:] = images.coverage(sample.masks[label], size).ravel()
    present = np.array([classifier.index(label) for label in labels], dtype=int)
    clear = images.coverage(sample.ignore, size).ravel() == 0
    rows = features[0].flatten(1).T.numpy()[clear]
    random = np.random.default_rng([fit.seed, number])
    places, classes = fit.sure(maps[:, clear], present, len(classifier.labels), random)
    return rows[places].astype(np.float16), classes


def main() -> None:
    options = parser(__doc__).parse_args()
    torch.set_num_threads(1)
    fit, heads = PlaceFit(), Heads(options.folds)
    dataset = datasets.coco(options.images, options.annotations)
    taken: dict[str, tuple] = {}
    for number, name in enumerate(dataset.names):
        taken[name] = examples(heads.all[0], dataset[number], fit, number)  # one backbone and one list of labels in all
        progress(number, len(dataset))
    options.output.mkdir(parents=True, exist_ok=True)
    shutil.copy(options.folds / "folds.csv", options.output)
    files = [options.folds / f"fold-{fold}.safetensors" for fold in range(len(heads.all))]
    first = read_head(files[0])
    prior = fit.prior_of(load_classifier(first.backbone), first.labels)
    for fold, file in enumerate(files):
        rows = [seen for name, seen in taken.items() if heads.fold(name) != fold]
        replace(read_head(file), places=fit.weights(rows, prior)).save(options.output / file.name)
        progress(fold, len(files))


if __name__ == "__main__":
    main()
