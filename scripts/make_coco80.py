"""Fit the head that `load_classifier("coco80")` loads, and put it into the package.

    python scripts/make_coco80.py --images DIR --labels image_labels.csv [--folds-to FOLDER]
    python scripts/make_coco80.py --images train2017 --instances instances_train2017.json --limit 352

The labels are a CSV as `gradcut fit` reads it, or are taken from COCO's own instances file: every
photograph with an object, in the order of the ids. The head in the package was fitted on 352 photographs of
train2017; its card (`gradcut classifiers coco80`) has the options, the scores and the SHA-256 of the labels.
"""

import argparse
import json
import tempfile
from pathlib import Path

import gradcut
from gradcut.fit import LinearFit, PlaceFit, fit_folds, read_labels
from gradcut.labels import vocabulary

#: Chosen by cross-validation on the development photographs.
SIZE, OPTIONS = 384, LinearFit(l2=2e-4, prior=1.5)
HOME = Path(__file__).parent.parent / "src/gradcut/data/coco80.safetensors"


def labels_from(instances: Path, limit: int | None) -> str:
    """COCO's instances as the CSV that `gradcut fit` reads."""
    document = json.loads(instances.read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in document["categories"]}
    found: dict[int, set[str]] = {}
    for annotation in document["annotations"]:
        found.setdefault(annotation["image_id"], set()).add(names[annotation["category_id"]])
    files = {image["id"]: image["file_name"] for image in document["images"]}
    rows = [f"{files[image]},{';'.join(sorted(found[image]))}" for image in sorted(found)[:limit]]
    return "\n".join(["file,labels", *rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--labels", type=Path)
    source.add_argument("--instances", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--folds-to", type=Path, help="keep the heads of the cross-validation here")
    parser.add_argument("--output", type=Path, default=HOME)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        labels = arguments.labels or Path(temporary) / "labels.csv"
        if arguments.instances:
            labels.write_text(labels_from(arguments.instances, arguments.limit), encoding="utf-8")
        data = read_labels(labels, arguments.images, vocabulary("coco"))
    backbone = gradcut.load_classifier("lite2").at(SIZE)
    heads = fit_folds(backbone, data, OPTIONS, PlaceFit(), every_fold=arguments.folds_to is not None)
    if arguments.folds_to:
        heads.save(arguments.folds_to)
    heads.save(arguments.output)
    gradcut.load_classifier("coco80" if arguments.output == HOME else str(arguments.output))
    print(arguments.output)


if __name__ == "__main__":
    main()
