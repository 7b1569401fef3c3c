"""'gradcut evaluate' and 'report'."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gradcut import catalogue
from gradcut.cli.figures import print_figures
from gradcut.cli.help import ASKED, MASKS, PHOTOGRAPHS, RUNNING, WRITTEN
from gradcut.cli.memory import keep_freed_memory
from gradcut.cli.options import (
    CLASSIFIER,
    AsJson,
    BackgroundWords,
    Device,
    Disjoint,
    Half,
    Limit,
    MinConfidence,
    Resamples,
    Templates,
    Threshold,
    TopK,
    ValueRange,
    app,
    check_file,
    check_folder,
    check_gives_confidence,
    classifier_names,
    dataset_names,
    faithfulness_names,
    labels_names,
    recipe_names,
    saliency_names,
)
from gradcut.cli.progress import bar, err, working
from gradcut.cli.telling import tell_errors
from gradcut.errors import GradcutError
from gradcut.files import left_out, replacing, writing


@app.command(
    examples="""
    gradcut evaluate coco --images val2017/ --annotations instances.json
    gradcut evaluate voc --root VOCdevkit/ --names coco -r default -r fast
    gradcut evaluate folder --images in/ --masks masks/ --label cat
    gradcut evaluate pets --root pets/ -o scores.jsonl   # for 'gradcut report'
    """
)
def evaluate(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET", rich_help_panel=PHOTOGRAPHS, **dataset_names, show_default=False,
            help="coco, voc, imagenet-s, imagenet-seg, pets or folder.",
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", rich_help_panel=PHOTOGRAPHS, show_default=False, help="coco, folder: the photographs.",
        ),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=PHOTOGRAPHS, show_default=False, help="coco: the file instances_*.json.",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="voc, imagenet-s, pets: the dataset's folder; imagenet-seg: gtsegs_ijcv.mat.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=PHOTOGRAPHS, show_default="val, validation, test",
            help="voc: train, val or trainval; imagenet-s: validation or train-semi; pets: test or trainval.",
        ),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=PHOTOGRAPHS, show_default="voc; species",
            help="Whose class names: for voc, those of voc or coco; for pets, species or breed.",
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", rich_help_panel=PHOTOGRAPHS, show_default="beside the photographs",
            help="folder: the mask PNGs.",
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="folder: the name of every pixel that is not 0.",
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="folder: a text file whose line i names the value i of the masks.",
        ),
    ] = None,
    only_known: Annotated[
        bool,
        typer.Option(
            "--only-known", rich_help_panel=PHOTOGRAPHS,
            help="Leave classes that the classifier does not know out of the truth.",
        ),
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(
            min=32, metavar="N", rich_help_panel=PHOTOGRAPHS, show_default="their own size",
            help="Squash photographs and masks to N x N pixels first, at least 32.",
        ),
    ] = None,
    value_range: ValueRange = None,
    limit: Limit = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            "--classifier", "-c", **classifier_names, metavar="NAME", rich_help_panel=ASKED,
            show_default="coco80; imagenet-*: embedded",
            help="Which classifier to ask; 'gradcut classifiers' lists them.",
        ),
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", rich_help_panel=ASKED, show_default=False,
            help="Folder of 'gradcut fit --folds': each photograph is judged by the head that was fitted without it.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="WHOSE", rich_help_panel=ASKED, **labels_names,
            show_default="truth; imagenet-seg: predicted",
            help="truth: ask for the classes that are there; predicted: leave it to the classifier.",
        ),
    ] = None,
    template: Templates = None,
    background: BackgroundWords = None,
    threshold: Threshold = None,
    top_k: TopK = None,
    min_confidence: MinConfidence = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe", "-r", **recipe_names, metavar="NAME", rich_help_panel=MASKS, show_default="default",
            help="How masks are made; may be repeated, to compare.",
        ),
    ] = None,
    saliency: Annotated[
        list[str] | None,
        typer.Option(
            "--saliency", **saliency_names, metavar="NAME", rich_help_panel=MASKS, show_default="the recipe's",
            help="Take this saliency method, such as GradCAM; may be repeated, to compare.",
        ),
    ] = None,
    faithfulness: Annotated[
        list[str] | None,
        typer.Option(
            "--faithfulness", **faithfulness_names, metavar="NAME", rich_help_panel=MASKS, show_default=False,
            help="Ask the network about the maps, too, at so many passes a class: deletion, insertion (11 each), drop, "
            "increase (2), road (8), infidelity (31), sensitivity (11 maps), randomisation (6 maps), sparseness, "
            "complexity (0), arcc (8 and 2 maps), or all; may be repeated.",
        ),
    ] = None,
    disjoint: Disjoint = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", rich_help_panel=WRITTEN, show_default=False,
            help="Write JSON lines, one a photograph and recipe; another call goes on there.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=WRITTEN, help="Begin the file anew.")
    ] = False,
    resamples: Resamples = 1000,
    as_json: AsJson = False,
    workers: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", rich_help_panel=RUNNING,
            help="Work in so many processes; the numbers do not depend on it.",
        ),
    ] = 1,
    device: Device = None,
    bfloat16: Half = False,
) -> None:  # fmt: skip
    """Compare masks with the truth, beside two baselines.

    The baselines are the whole photograph and a centre box. A classifier that takes words is asked for the dataset's
    classes.
    """
    options = {
        "images": images, "annotations": annotations, "root": root, "split": split, "names": names, "masks": masks,
        "label": label, "classes": classes,
    }  # fmt: skip
    keep_freed_memory()
    from gradcut.datasets.opening import LAYOUTS, open_dataset

    if missing := [f"--{name}" for name in LAYOUTS[dataset].needs if options[name] is None]:
        raise GradcutError(f"evaluate {dataset} needs {' and '.join(missing)}")
    for name, path in {"images": images, "masks": masks, "root": root, "folds": folds}.items():
        if path is not None:
            (check_file if name == "root" and dataset == "imagenet-seg" else check_folder)(f"--{name}", path)
    for name, path in {"annotations": annotations, "classes": classes}.items():
        if path is not None:
            check_file(f"--{name}", path)
    if min_confidence is not None:
        check_gives_confidence(recipe or ["default"], saliency[0] if saliency else None, None)
    where: dict[str, Any] = {"kind": dataset}
    where |= {key: str(value) for key, value in options.items() if value is not None}
    where |= {} if value_range is None else {"value_range": list(value_range)}
    with working(f"opening {dataset}"):
        samples = open_dataset(**where)[:limit]

        from gradcut import evaluation
        from gradcut.evaluation import summary

    if dataset == "folder" and images is not None:
        for sentence in left_out([images]):
            err.print(f"gradcut: {sentence}")
    asked = labels or ("predicted" if samples.labels is None else "truth")
    source: dict[str, Any] = {
        "classifier": classifier or ("embedded" if dataset.startswith("imagenet") else CLASSIFIER),
        "folds": None if folds is None else str(folds), "threshold": threshold, "top_k": top_k,
    }  # fmt: skip
    source |= {} if min_confidence is None else {"min_confidence": min_confidence}
    source |= {"disjoint": True} if disjoint else {}
    source |= {"half": True} if bfloat16 else {}
    with working(f"loading {source['folds' if folds else 'classifier']}"):
        source |= _words(None if folds else source["classifier"], samples.labels, template, background)
        chosen = recipe or ["default"]
        if saliency:
            methods = [catalogue.check("saliency", method, catalogue.METHODS) for method in saliency]
            chosen = [f"{name} with {method}" for name in chosen for method in methods]
        segmenters = evaluation.open_segmenters(chosen, **source, device=device)
        measures = None
        if faithfulness:
            named = tuple(catalogue.FAITHFULNESS) if "all" in faithfulness else tuple(faithfulness)
            measures = evaluation.Faithfulness(named)
    settings = evaluation.settings(samples.title, where, source, segmenters, asked, size, only_known, measures)
    rows: list[dict[str, Any]] = []
    if output is not None:
        with writing(output):
            rows = evaluation.resume(output, settings, overwrite)
    names_here, wanted = set(samples.names), {*segmenters, *evaluation.BASELINES}
    rows = [row for row in rows if row["photograph"] in names_here and row["recipe"] in wanted]
    more = evaluation.evaluate(
        samples, segmenters, asked, size=size, only_known=only_known, faithfulness=measures, workers=workers,
        skip={(row["photograph"], row["recipe"]) for row in rows},
    )  # fmt: skip
    with bar("evaluating", len(samples) * len(wanted), completed=len(rows)) as track:
        for row in track(more):
            rows.append(row)
            if output is not None:
                with writing(output), output.open("a", encoding="utf-8") as file:
                    file.write(evaluation.line(row))
    errors = list(dict.fromkeys(row["error"] for row in rows if "error" in row))
    tell_errors(errors, ", in the JSON" if as_json else f", in {output}" if output else "; -o FILE keeps them")
    with working("resampling"):
        figures = summary.summarise(rows, resamples)
    if as_json:
        print(json.dumps({"settings": settings, **figures, "errors": errors}, indent=1))
    else:
        print_figures(samples.title, asked, figures)
    if output is not None:
        err.print(f"gradcut: the scores are in {output}; 'gradcut report {output}' makes a page of them")
    raise typer.Exit(1 if errors else 0)


def _words(
    classifier: str | None,
    labels: Sequence[str] | None,
    templates: Sequence[str] | None,
    background: Sequence[str] | None,
) -> dict[str, dict[str, list[str]]]:
    """What a classifier of words is asked for, as `open_segmenters` takes it; of another, what was given."""
    from gradcut.classifiers.sources import takes_words

    asked = {"templates": templates, "background": background}
    if classifier is not None and takes_words(classifier):
        if labels is None:
            raise GradcutError(f"classifier: {classifier} takes words for classes, and this dataset names no classes")
        asked["labels"] = labels
    words = {key: list(values) for key, values in asked.items() if values}
    return {"words": words} if words else {}


@app.command(
    examples="""
    gradcut report scores.jsonl                 # into report.html
    gradcut report scores.jsonl -o page.html --gallery 0   # no photographs
    """
)
def report(
    scores: Annotated[
        Path,
        typer.Argument(metavar="SCORES", show_default=False, help="The file that 'gradcut evaluate -o' wrote."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", rich_help_panel=WRITTEN, help="The HTML file.")
    ] = Path("report.html"),
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", "-r", metavar="NAME", rich_help_panel=WRITTEN, show_default="the best class IoU",
            help="Choose the gallery's photographs by this recipe.",
        ),
    ] = None,
    gallery: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", rich_help_panel=WRITTEN,
            help="Show N of the best, the median and the worst; 0 needs no photographs.",
        ),
    ] = 8,
    resamples: Resamples = 1000,
    device: Device = None,
) -> None:  # fmt: skip
    """Write a page of scores: tables, breakdowns and a gallery.

    For the gallery the chosen photographs are run again.
    """
    _check_scores(scores)
    with working("loading"):
        from gradcut import evaluation
        from gradcut.datasets import open_dataset
        from gradcut.evaluation import gallery as drawing
        from gradcut.evaluation import report as page
        from gradcut.evaluation import summary

    with working("resampling"):
        rows = evaluation.read_rows(scores)
        settings = evaluation.read_settings(scores)
        figures = summary.summarise(rows, resamples)
    cards: list[drawing.Card] = []
    ours = [name for name in settings["recipes"] if name in figures["recipes"]]
    by = recipe or max(ours, key=lambda name: figures["recipes"][name]["class_iou"]["value"] or 0, default=None)
    if gallery and by:
        choices = drawing.choose(rows, by, gallery)
        dataset = open_dataset(**settings["dataset"])
        segmenters = evaluation.open_segmenters(ours, **settings["source"], device=device)
        evaluation.check_unchanged(scores, settings, segmenters)
        with bar("drawing", len(choices)) as track:
            drawn = drawing.draw(
                choices, dataset, segmenters, settings["labels"], settings["size"], settings["only_known"]
            )
            cards.extend(track(drawn))
    text = page.page(rows, figures, settings, cards, by)
    with writing(output), replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(output)


def _check_scores(scores: Path) -> None:
    """Refuse what cannot be the file of 'gradcut evaluate -o', before anything slow is imported."""
    check_file("SCORES", scores)
    try:
        with scores.open(encoding="utf-8") as file:
            row = json.loads(next(file, "{}"))
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise GradcutError(f"SCORES: expected the JSON lines that 'gradcut evaluate -o' writes, got {scores}")
