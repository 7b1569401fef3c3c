"""'gradcut label-masks'."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any

import typer

from gradcut import files
from gradcut.cli.exports import tell_without
from gradcut.cli.help import ASKED, PHOTOGRAPHS, WRITTEN
from gradcut.cli.options import (
    CLASSIFIER,
    ClassifierName,
    Device,
    LabelsFile,
    RecipeName,
    app,
    check_labels,
    check_output,
    load,
    out,
    read_labels,
)
from gradcut.cli.progress import bar, err, working
from gradcut.errors import GradcutError


@app.command(
    "label-masks",
    examples="""
    gradcut label-masks sam/ photos/ -o labelled.json      # PNG or JSON of SAM
    gradcut label-masks coco.json photos/ -o out.json --label cat --label dog
    """,
)
def label_masks(
    masks: Annotated[
        str,
        typer.Argument(
            metavar="MASKS", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="A folder with NAME.png (a number a mask), NAME/KEY.png or NAME.json for each photograph NAME, or a "
            "COCO file.",
        ),
    ],
    photographs: Annotated[
        str,
        typer.Argument(
            metavar="PHOTOGRAPHS", rich_help_panel=PHOTOGRAPHS, show_default=False, help="The photographs' folder.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", rich_help_panel=WRITTEN, show_default=False,
            help="COCO's JSON to write: masks with classes, scores and the next best classes.",
        ),
    ],
    classifier: ClassifierName = CLASSIFIER,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", rich_help_panel=ASKED, show_default="the 10 most probable of each photograph",
            help="Choose among these classes; may be repeated.",
        ),
    ] = None,
    labels: LabelsFile = None,
    recipe: RecipeName = "default",
    device: Device = None,
) -> None:  # fmt: skip
    """Say which class each of the masks that you have holds.

    A mask gets the class whose saliency, times its probability, is highest inside against outside.
    """
    check_labels(classifier, label or ())
    words = read_labels(labels)
    if output.is_dir():
        raise GradcutError(f"output: {output} is a folder; -o takes a file here")
    check_output(output.parent)
    with files.writing(output):  # now, not after hours
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=output.parent):
            pass
    with working(f"loading {classifier}"):
        from gradcut import images
        from gradcut.formats.proposals import labelled_document, read_proposals, shape
        from gradcut.naming import name_masks
        from gradcut.segmenter import Segmenter

        every, without = read_proposals(masks, photographs)
        segmenter = Segmenter(load(classifier, device, label, words), recipe)
    tell_without(masks, without)
    own = segmenter.classifier.labels
    asked = () if label is None else segmenter.asked(label)
    done: list[Any] = []
    failed = False
    with bar("labelling", len(every)) as track:
        for proposals in track(every):
            try:
                photograph, given = images.read(proposals.path), proposals.masks()
                named = name_masks(segmenter, photograph, list(given.values()), label)
            except GradcutError as error:
                failed = True
                err.print(f"gradcut: {error if proposals.path in str(error) else f'{proposals.path}: {error}'}")
                continue
            held = {key: (shape(mask), found) for (key, mask), found in zip(given.items(), named, strict=True)}
            done.append((proposals, photograph.shape[:2], held))
            told = ", ".join(
                f"{key} {found[0].label} {found[0].score:.2f}" if found else f"{key} ?"
                for key, (_, found) in held.items()
            )
            out.print(f"{proposals.path}: {told or 'no masks'}", highlight=False, soft_wrap=True)
    document = labelled_document([*own, *(name for name in asked if name not in own)], done)
    with files.writing(output), files.replacing(output) as temporary:
        temporary.write_text(json.dumps(document), encoding="utf-8")
    left = len(document["unlabelled"])
    count = len(document["annotations"])
    err.print(f"gradcut: {count} mask{'' if count == 1 else 's'} with a class in {output}, {left} without")
    raise typer.Exit(1 if failed else 0)
