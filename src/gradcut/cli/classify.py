"""'gradcut classify', 'recipes' and 'classifiers'."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from typing import Annotated, Any

import typer
from rich.table import Table

from gradcut import catalogue
from gradcut.cli.help import ASKED
from gradcut.cli.options import (
    CLASSIFIER,
    AsJson,
    BackgroundWords,
    ClassifierName,
    Device,
    LabelsFile,
    Paths,
    Size,
    Templates,
    Threshold,
    TopK,
    ValueRange,
    app,
    check_labels,
    classifier_names,
    listing,
    load,
    out,
    read_labels,
    recipe_names,
)
from gradcut.cli.progress import bar, err, working
from gradcut.errors import GradcutError


@app.command(
    examples="""
    gradcut classify cat.jpg                    # the best five
    gradcut classify cat.jpg --threshold 0.1 --top-k 20  # what reaches 0.1
    gradcut classify holidays/ -c embedded --json        # ImageNet's classes
    gradcut classify in/ -c hf/openai/clip-vit-base-patch16 --label forklift
    """
)
def classify(
    paths: Paths,
    classifier: ClassifierName = CLASSIFIER,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", rich_help_panel=ASKED, show_default=False,
            help="Show the score of this class instead of the best; may be repeated. A classifier that takes words is "
            "asked for any.",
        ),
    ] = None,
    labels: LabelsFile = None,
    template: Templates = None,
    background: BackgroundWords = None,
    top_k: TopK = None,
    threshold: Threshold = None,
    size: Size = None,
    value_range: ValueRange = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Print what the classifier sees in photographs.

    The five best classes with their scores; those that 'gradcut segment' would leave out, for the threshold or --top-k,
    are marked "not detected". With --threshold or --top-k only the detected ones. Scores are those by which default
    detects, but for what the preparation of larger photographs changes in the last digits.
    """
    from gradcut import files, images

    check_labels(classifier, label or ())
    words = read_labels(labels)
    photographs, errors = files.find(paths)
    results: dict[str, Any] = {}
    table = Table("photograph", "label", "score")
    if not all(files.is_missing(path) for path, _ in photographs):  # else what is slow is spared
        with working(f"loading {classifier}"):
            from gradcut.classifiers.classifier import Detection
            from gradcut.saliency.presence import detection_logits

            asked = load(classifier, device, label, words, template, background)
            asked = asked if size is None else asked.at(size)
            members = {name: asked.find(name) for name in label or ()}
    with bar("classifying", len(photographs)) as track:
        for path, _ in track(photographs):
            try:
                photograph = images.read(path, value_range=value_range)
            except GradcutError as error:
                errors.append(str(error))
                continue
            logits = detection_logits(asked, [photograph])
            if label:
                scores = asked.probabilities(logits)[0]
                every = [Detection(name, outputs, asked.score(scores, outputs)) for name, outputs in members.items()]
                best = sorted(every, key=lambda one: -one.score)[:top_k]
                detected = tuple(detection for detection in best if detection.score >= (threshold or 0))
            else:
                detected = asked.decide(logits, threshold, top_k)[0]
            results[str(path)] = [asdict(detection) for detection in detected]
            # Somebody who named no limits is shown what comes next, too.
            limited = bool(label) or threshold is not None or top_k is not None
            shown = detected if limited else asked.decide(logits, 0, 5)[0]
            for number, detection in enumerate(sorted({*detected, *shown}, key=lambda one: -one.score)):
                below = "" if detection in detected else "  not detected"
                table.add_row("" if number else str(path), detection.label, f"{detection.score:.3f}{below}")
            if not shown:
                table.add_row(str(path), "(nothing reaches the threshold)", "")
    if as_json:
        print(json.dumps({"results": results, "errors": errors}, indent=1))
    elif table.row_count:
        out.print(table)
    for reason in [*files.left_out(paths), *errors]:
        err.print(f"gradcut: {reason}")
    raise typer.Exit(1 if errors else 0)


@app.command(
    examples="""
    gradcut recipes                             # all, a sentence each
    gradcut recipes default fast                # the steps of two of them
    gradcut recipes default -c embedded         # what default is on a classifier
    """
)
def recipes(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            **recipe_names,
            show_default=False,
            help="Show the steps of these recipes.",
        ),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            "--classifier", "-c", **classifier_names, metavar="NAME", show_default=False,
            help="Show the steps that they take on this classifier.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """List the recipes: the ways from a photograph to a mask.

    A recipe names a saliency method, a seed rule and a mask maker. Which saliency methods 'default', 'best' and
    'fast' have depends on the classifier's network.
    """
    if not names and not as_json and classifier is None:
        listing(catalogue.RECIPES.items())
        return
    with working("loading the recipes"):
        from gradcut.recipes import RECIPES, serving

    chosen = {name: RECIPES[name] for name in names or RECIPES}
    kind = {}
    if classifier is not None:
        with working(f"loading {classifier}"):
            from gradcut.saliency import kind_of
            from gradcut.segmenter import Segmenter

            asked = load(classifier, None, label=["object"])  # words, if it takes such, change no network
            served = chosen if names else serving(asked)
            chosen = {name: Segmenter(asked, recipe).recipe for name, recipe in served.items()}
            kind = {"network": str(kind_of(asked) or "no map of more than one place was found in it")}
    if as_json:
        steps = {name: {"summary": r.summary, "steps": repr(r), **kind} for name, r in chosen.items()}
        print(json.dumps(steps, indent=1))
        return
    for said in kind.values():
        print(f"{classifier}: {said}")
    for name, recipe in chosen.items():
        listing([(name, recipe.summary)])
        for step in ("saliency", "seeds", "masks"):
            first, *others = nested(getattr(recipe, step))
            listing([(f"  {step:{len('saliency')}}", first), *((" " * 10, line) for line in others)])


def nested(step: object, name: str = "", depth: int = 0) -> Iterator[str]:
    """A line for a step with its options, and lines for the steps that it changes, further to the right."""
    options = {part.name: getattr(step, part.name) for part in fields(step) if part.repr} if is_dataclass(step) else {}
    steps = {key: value if isinstance(value, tuple) else (value,) for key, value in options.items()}
    inner = {key: several for key, several in steps.items() if several and all(map(is_dataclass, several))}
    plain = ", ".join(f"{key}={value!r}" for key, value in options.items() if key not in inner)
    yield f"{'  ' * depth}{name}{f'{type(step).__name__}({plain})' if is_dataclass(step) else repr(step)}"
    for key, several in inner.items():
        for value in several:
            yield from nested(value, f"{key}: ", depth + 1)


@app.command(
    examples="""
    gradcut classifiers                         # what --classifier takes
    gradcut classifiers 'resnet*'               # timm's models of that name
    """
)
def classifiers(
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="PATTERN",
            show_default=False,
            help="List timm's models, too, with this in their name; * stands for any letters.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the classifiers that can be named."""
    if pattern is None:
        found = dict(catalogue.CLASSIFIERS)
    else:
        with working("looking through timm's models"):
            from gradcut.classifiers.sources import list_classifiers

            found = list_classifiers(pattern)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    if not found:
        raise GradcutError(f"PATTERN: no classifier is called like {pattern!r}")
    listing(found.items())
