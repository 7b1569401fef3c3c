"""What corrections of a run teach the head, for the photographs that nobody corrected.

    python benchmarks/corrections.py --images ../shared/data/coco-dev/images --head without-coco.safetensors \
        --annotations ../shared/data/coco-dev/annotations/instances_dev.json -o out/coco
    python benchmarks/corrections.py --voc ../shared/data/voc-dev --split dev --head without-voc.safetensors -o out/voc

The head has to be fitted without these photographs. Every third is held back, the others are a run's. Of these the
truth corrects n: those that `gradcut review` lists first, the least certain, or n at random, with as many seeds as
--seeds says. Corrected, a photograph has its true classes: what was found wrongly is removed, what was missed is added
by name, and each class gets at most --strokes strokes, as `strokes.py` paints them; it stops where a class has an IoU
of 0.9. Crowds and void borders teach nothing; the classes that count as known are the data set's that the run found
anywhere, or the truth added.

Then `gradcut.fit.corrections.CorrectionFit` goes on from the head, and all photographs of the run that were not
corrected, and all that were held back, are segmented again: asked for their true classes by name ("truth"), and with
what the head detects ("predicted", where a class that is missed, or found where it is not, has IoU 0). Figures stand
beside those of the head before, on the same photographs; intervals are of the bootstrap over photographs.

Networks are asked once a photograph: features at all sizes and the walk are kept in OUTPUT/kept, 9 MB each, and
rows in OUTPUT/rows, so that a stopped script goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from common import between, progress
from strokes import iou, refined, stroke

from gradcut import Classifier, Detection, Segmentation, Segmenter, datasets, load_classifier
from gradcut.classifiers.heads import Head, PlacedLinear, attach, read_head
from gradcut.datasets import Sample
from gradcut.evaluation.bootstrap import Bootstrap
from gradcut.evaluation.measures import Counts
from gradcut.evaluation.scoring import Row, score
from gradcut.fit.corrections import UNKNOWN, CorrectionFit
from gradcut.fit.labels import ImageLabels
from gradcut.fit.places import FEATURES, SCALES, on_grid
from gradcut.network.passes import Pass
from gradcut.network.view import View
from gradcut.runs.run import doubt
from gradcut.saliency import Features, Mean, explained, scales_of
from gradcut.saliency.presence import with_places
from gradcut.segmenter import Evidence

ENOUGH = 0.9


class Kept(View):
    """What a network's passes of one photograph gave, for any head on it.

    It is as large as the classifier's own size whatever it shows, so that maps are not made larger than they are used.
    """

    def __init__(self, classifier: Classifier, maps: dict[int, torch.Tensor], walk: torch.Tensor, side: int) -> None:
        super().__init__(classifier, torch.zeros(1).expand(1, 3, *classifier.size))
        self.maps, self.walk, self.side = maps, walk, side

    def at(self, scale: float) -> Kept:
        return Kept(self.classifier, self.maps, self.walk, self.classifier.scaled(scale)[0])

    def watch(self, wanted: object = None) -> Pass:
        features = self.maps[self.side][None]
        (layer,) = (module for module in self.classifier.model.modules() if isinstance(module, PlacedLinear))
        logits = layer(features.mean((2, 3)))
        linear = SimpleNamespace(weight=layer.weight, bias=layer.bias, parameter=layer.weight, input=None)
        seen = SimpleNamespace(feature_map=features, linear=linear, maps=())
        return Pass(self.x, logits, seen, (), (), 0)


@dataclass(frozen=True)
class KeptWalk(Features):
    """The walk that was kept."""

    def declare(self, view: View) -> None:
        pass

    def shares(self, view: Kept, photographs: Sequence[int]) -> tuple[tuple[int, int], dict[int, torch.Tensor]]:
        return (self.grid, self.grid), dict.fromkeys(photographs, view.walk)


class Photographs:
    """A data set's photographs with what the network said of each, kept on disk."""

    def __init__(self, dataset: datasets.Dataset, backbone: Classifier, recipe: str, folder: Path) -> None:
        self.dataset, self.backbone, self.folder = dataset, backbone, folder
        self.recipe = recipe

    @cached_property
    def scales(self) -> list[float]:
        return sorted(scales_of(Segmenter("coco80", self.recipe).recipe.saliency))

    def kept(self, number: int, classifier: Classifier) -> Kept:
        path = self.folder / f"{number}.npz"
        if not path.exists():
            self._look(number, path)
        with np.load(path) as arrays:
            maps = {int(name): torch.from_numpy(arrays[name].astype(np.float32)) for name in arrays if name != "walk"}
            walk = torch.from_numpy(arrays["walk"].astype(np.float32))
        walk /= walk.sum(1, keepdim=True)
        return Kept(classifier, maps, walk, classifier.scaled(max(self.scales))[0])

    def _look(self, number: int, path: Path) -> None:
        network = self.backbone
        image = self.dataset[number].image
        view = View(network, network.at(network.scaled(max(self.scales))).prepare([image]))
        arrays = {}
        with torch.no_grad():
            for scale in self.scales:
                at = view.at(scale)
                FEATURES.declare(at)
                arrays[str(at.x.shape[3])] = at.kept.maps[-1][0]
                if scale == self.scales[len(self.scales) // 2]:
                    arrays["walk"] = FEATURES.walk(at.kept.maps)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".part").open("wb") as file:
            np.savez(file, **{name: values.half().numpy() for name, values in arrays.items()})
        path.with_suffix(".part").rename(path)


class Asker:
    """A recipe with a head, on what was kept: the `Segmenter`'s masks, but for a pixel here and there."""

    def __init__(self, photographs: Photographs, head: Head) -> None:
        self.photographs = photographs
        self.classifier = attach(photographs.backbone, head, "head")
        self.segmenter = Segmenter(self.classifier, photographs.recipe)
        own = self.segmenter.recipe.saliency
        self.method = Mean([replace(method, over=KeptWalk()) for method in own.methods])

    def logits(self, number: int) -> torch.Tensor:
        view = self.photographs.kept(number, self.classifier)
        with torch.no_grad():
            return with_places(view, view.at(1.0).watch().logits)

    def __call__(self, number: int, image: np.ndarray, labels: Sequence[str] | None = None) -> Segmentation:
        view, classifier = self.photographs.kept(number, self.classifier), self.classifier
        with torch.no_grad():
            logits = with_places(view, view.at(1.0).watch().logits)
            found = classifier.decide(logits)[0]
            if labels is not None:
                (scores,) = classifier.probabilities(logits)
                asked = self.segmenter.asked(labels).items()
                found = tuple(Detection(label, of, classifier.score(scores, of)) for label, of in asked)
            saliency = np.zeros((0, *classifier.size), np.float32)
            if found:
                saliency = explained(self.method, view, [(0, each.members) for each in found]).numpy()
        return self.segmenter.cut(Evidence(image, found, (), saliency, {}, asked=labels is not None))


def corrected(result: Segmentation, sample: Sample, strokes: int) -> tuple[np.ndarray, int]:
    """The class map after at most so many strokes a class, and how many strokes these were."""
    made = 0
    for label in [item.label for item in result.objects]:
        for _ in range(strokes):
            mask = next(item.mask for item in result.objects if item.label == label)
            if iou(mask, sample, label) >= ENOUGH:
                break
            one = stroke(mask, sample.masks[label], sample.ignore)
            if one is None:
                break
            result, made = refined(result, label, one), made + 1
    classmap = result.classmap().astype(np.int64) if result.objects else np.zeros(sample.ignore.shape, np.int64)
    classmap[sample.ignore] = UNKNOWN
    return classmap, made


class Simulation:
    """A run, its corrections, and what the head makes of the other photographs."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.strokes, self.output = arguments.strokes, arguments.output
        if arguments.voc:
            dataset = datasets.open_dataset("voc", root=arguments.voc, split=arguments.split, names="coco")
        else:
            dataset = datasets.open_dataset("coco", images=arguments.images, annotations=arguments.annotations)
        self.dataset = dataset
        self.head = read_head(arguments.head)
        self.vocabulary = [label for label in dataset.labels if label in self.head.labels]
        backbone = load_classifier(self.head.backbone).at(self.head.size)
        self.photographs = Photographs(dataset, backbone, arguments.recipe, self.output / "kept")
        self.numbers = list(range(0, len(dataset), arguments.every))
        self.held = self.numbers[2::3]
        self.pool = [number for number in self.numbers if number not in set(self.held)]
        self.before = Asker(self.photographs, self.head)

    def rows(self, name: str, asker: Asker, numbers: Sequence[int], kind: str) -> dict[int, Row]:
        """Of each photograph what the head makes of it."""
        path = self.output / "rows" / f"{name}-{kind}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        rows = {row["number"]: row for row in map(json.loads, lines)}
        for position, number in enumerate(numbers):
            if number not in rows:
                sample = self.dataset[number]
                labels = None if kind == "predicted" else sorted(set(sample.masks) & set(self.vocabulary))
                result = asker(number, sample.image, labels)
                objects = [
                    {"state": "blank" if item.blank else "done", "score": item.score, "confidence": item.confidence}
                    for item in result.objects
                ]
                row = {"number": number, "objects": objects, "found": [item.label for item in result.objects]}
                rows[number] = row | score(result, sample, self.vocabulary)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[number]) + "\n")
                progress(position, len(numbers))
        return {number: rows[number] for number in numbers}

    def correction(self, number: int) -> tuple[np.ndarray, int]:
        path = self.output / "corrections" / f"{number}.npz"
        if not path.exists():
            sample = self.dataset[number]
            labels = sorted(set(sample.masks) & set(self.vocabulary))
            result = self.before(number, sample.image, labels)
            classmap, made = corrected(result, sample, self.strokes)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, classmap=classmap.astype(np.int16), made=made)
        with np.load(path) as arrays:
            return arrays["classmap"].astype(np.int64), int(arrays["made"])

    def taught(self, numbers: Sequence[int], found: set[str], options: CorrectionFit) -> Head:
        """The head after these photographs were corrected."""
        labels, k = self.head.labels, len(self.head.labels)
        truth, known = np.zeros((2, len(numbers), k), dtype=bool)
        seen = []
        for position, number in enumerate(numbers):
            sample = self.dataset[number]
            classmap, _ = self.correction(number)
            true = set(sample.masks) - sample.doubtful
            truth[position] = [label in true for label in labels]
            known[position] = [label in found and label not in sample.doubtful for label in labels]
            view = self.photographs.kept(number, self.before.classifier)
            places, classes = options.examples(classmap, (FEATURES.grid, FEATURES.grid), k)
            fine = view.at(max(SCALES)).watch().seen.feature_map
            rows = on_grid(fine, (FEATURES.grid, FEATURES.grid))[0].flatten(1).T.numpy()[places]
            mean = view.at(1.0).watch().seen.feature_map.mean((2, 3))[0].numpy()
            seen.append((mean, self.before.logits(number)[0].double().numpy(), rows.astype(np.float16), classes))
        files = tuple(Path(self.dataset.names[number]) for number in numbers)
        data = ImageLabels(files, labels, truth, truth | known, np.ones(len(files), bool), "")
        return options.solve(self.head, data, *map(list, zip(*seen, strict=True)))

    def least_certain(self) -> list[int]:
        rows = self.rows("before", self.before, self.pool, "predicted")
        return sorted(self.pool, key=lambda number: doubt(rows[number]["objects"], self.dataset.names[number]))

    def found(self) -> set[str]:
        """The classes that the run found in any photograph."""
        rows = self.rows("before", self.before, self.pool, "predicted")
        return {label for row in rows.values() for label in row["found"]}

    def chosen(self, order: str, n: int) -> list[int]:
        if order == "least certain":
            return self.least_certain()[:n]
        random = np.random.default_rng(int(order.removeprefix("random ")))
        return random.permutation(self.pool)[:n].tolist()


def spaced(numbers: Sequence[int], most: int) -> list[int]:
    positions = np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round().astype(int)
    return [numbers[position] for position in positions]


def values(row: Row, what: str) -> list[float]:
    several = [row["union"]] if what == "union" else [entry["counts"] for entry in row["classes"].values()]
    return [iou for iou in (Counts(*counts).iou for counts in several) if iou is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--voc", type=Path, help="in the place of --images and --annotations")
    parser.add_argument("--split", default="val")
    parser.add_argument("--head", type=Path, required=True, help="fitted without these photographs")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th photograph")
    parser.add_argument("--strokes", type=int, default=3)
    parser.add_argument("--judged", type=int, default=10000, help="judge at most so many of either part, evenly spaced")
    parser.add_argument("--number", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--seeds", type=int, default=2, help="orders at random")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()

    torch.set_grad_enabled(False)
    simulation = Simulation(arguments)
    # The order and the classes that the run found are read from all of them.
    simulation.rows("before", simulation.before, simulation.pool, "predicted")
    found = simulation.found()
    orders = {"least certain": ["least certain"], "random": [f"random {seed}" for seed in range(arguments.seeds)]}
    figures = []
    for n in arguments.number:
        for name, several in orders.items():
            after: dict[str, list[dict[int, Row]]] = {"truth": [], "predicted": []}
            strokes = []
            for order in several:
                chosen = simulation.chosen(order, n)
                made = [simulation.correction(number)[1] for number in chosen]
                strokes.append(sum(made) / len(made))
                added = {label for number in chosen for label in simulation.dataset[number].masks}
                known = (found | added) & set(simulation.vocabulary)
                asker = Asker(simulation.photographs, simulation.taught(chosen, known, CorrectionFit()))
                others = [number for number in simulation.pool if number not in set(chosen)]
                rest = [number for part in (others, simulation.held) for number in spaced(part, arguments.judged)]
                for kind in after:
                    after[kind].append(simulation.rows(f"{order}-{n}".replace(" ", "-"), asker, rest, kind))
            for kind, judged in after.items():
                numbers = sorted(set().union(*judged))
                before = simulation.rows("before", simulation.before, numbers, kind)
                figures += report(n, name, kind, judged, before, set(simulation.held), float(np.mean(strokes)))
    (arguments.output / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def report(
    n: int, order: str, kind: str, after: list[dict[int, Row]], before: dict[int, Row], held: set[int], strokes: float
) -> list[dict]:
    """The figures of the photographs that were held back, and of the others that nobody corrected."""
    figures, draw = [], Bootstrap(2000)
    for part in ("others", "held back"):
        numbers = [
            number
            for number in before
            if (number in held) == (part == "held back") and any(number in rows for rows in after)
        ]
        line = {"n": n, "order": order, "labels": kind, "part": part, "photographs": len(numbers), "strokes": strokes}
        for what in ("classes", "union"):
            # Of several seeds a photograph has the values of all in which nobody corrected it.
            new, old = (
                [
                    [value for rows in after if number in rows for value in values(source(rows)[number], what)]
                    for number in numbers
                ]
                for source in (lambda rows: rows, lambda rows: before)
            )
            line[what] = {"after": draw.mean(new), "before": draw.mean(old), "difference": draw.paired(new, old)}
        figures.append(line)
        told = "  ".join(
            f"{what} {line[what]['before']['value']:.3f} -> {line[what]['after']['value']:.3f} "
            f"({between(line[what]['difference']['interval'])})"
            for what in ("classes", "union")
        )
        print(f"{n:4} {order:13} {kind:9} {part:9} {len(numbers):4}  {told}", flush=True)
    return figures


if __name__ == "__main__":
    main()
