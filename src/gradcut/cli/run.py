"""'gradcut export' and 'review': what is done with a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gradcut import labels as names
from gradcut.cli.exports import given, opened, written
from gradcut.cli.help import PHOTOGRAPHS, WRITTEN
from gradcut.cli.options import AsJson, Limit, app, check_output, format_names, unslashed
from gradcut.cli.progress import err
from gradcut.cli.telling import trust
from gradcut.errors import GradcutError

Finished = Annotated[
    str,
    typer.Argument(
        metavar="RUN", callback=unslashed, show_default=False, help="The folder that 'gradcut segment' wrote.",
    ),
]  # fmt: skip


#: The group of what is exported.
WHAT = "What is exported"

Exported = Annotated[
    str,
    typer.Argument(
        metavar="RUN", callback=unslashed, rich_help_panel=WHAT, show_default=False,
        help="The folder that 'gradcut segment' wrote; or, with --images, a folder of masks as PNG files.",
    ),
]  # fmt: skip


@app.command(
    examples="""
    gradcut export runs/coco80-default -f coco            # instances.json
    gradcut export out/ -f yolo -f voc -o exports/        # two formats
    gradcut export out/ -f coco --uncorrected -o before/  # as the run found them
    gradcut export masks/ --images photos/ -f label-studio  # PNG masks you have
    """
)
def export(
    run: Exported,
    formats: Annotated[
        list[str],
        typer.Option(
            "--format", "-f", **format_names, metavar="NAME", rich_help_panel=WRITTEN, show_default=False,
            help="coco, coco-results, yolo, voc, label-studio, labelme, cvat, fiftyone or cutouts; may be "
            "repeated.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", rich_help_panel=WRITTEN,
            show_default="RUN/exports/NAME, of masks MASKS-exports/NAME", help="Folder for the export.",
        ),
    ] = None,
    polygons: Annotated[
        bool,
        typer.Option(
            "--polygons", rich_help_panel=WRITTEN,
            help="Write outlines, not masks: coco, label-studio, labelme, fiftyone.",
        ),
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, metavar="PIXELS", rich_help_panel=WRITTEN,
            help="Let outlines leave the mask's edge by so many pixels; 0 keeps the mask exactly.",
        ),
    ] = 0,
    minimum: Annotated[
        float,
        typer.Option(
            "--min-confidence", min=0, max=1, metavar="0..1", rich_help_panel=WRITTEN,
            help="Leave objects of a smaller expected IoU out.",
        ),
    ] = 0,
    disjoint: Annotated[
        bool,
        typer.Option(
            "--disjoint", rich_help_panel=WRITTEN,
            help="Give a pixel to one object alone, as the run's label maps do.",
        ),
    ] = False,
    uncorrected: Annotated[
        bool,
        typer.Option(
            "--uncorrected", rich_help_panel=WHAT,
            help="Take what the run found, as if there were no corrections.",
        ),
    ] = False,
    photographs: Annotated[
        str | None,
        typer.Option(
            "--images", metavar="DIR", rich_help_panel=WHAT, show_default=False,
            help="Export masks that you have: the photographs that PNG files NAME.png (class maps), NAME/CLASS.png or "
            "CLASS/NAME.png belong to.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", rich_help_panel=WHAT, show_default="labels.json or labelmap.txt beside the masks",
            help="With --images: what the numbers or colours of class maps mean.",
        ),
    ] = None,
) -> None:  # fmt: skip
    """Write a run, or masks, for annotation and training tools.

    What a person has corrected takes the place of what the run found; rejected photographs are left out.
    """
    if output is not None:
        check_output(output)
    if photographs is None and labels is not None:
        raise GradcutError("--labels: it is for masks, with --images; a run knows its classes")
    if photographs is not None and uncorrected:
        raise GradcutError("--uncorrected: it is for a run, not with --images")
    pile = opened(run, uncorrected) if photographs is None else given(run, photographs, labels)
    usual = f"{run}/exports" if photographs is None else f"{run}-exports"  # not among the masks
    for name in formats:
        folder = output if output is not None and len(formats) == 1 else Path(output or usual) / name
        print(written(pile, folder, name, polygons=polygons, tolerance=tolerance, minimum=minimum, disjoint=disjoint))
    if pile.problems:
        raise typer.Exit(1)


@app.command(
    examples="""
    gradcut review runs/coco80-default          # what to look at first
    gradcut review out/ --label dog --limit 20  # dogs only, 20 photographs
    gradcut review out/ --untouched             # what nobody has looked at yet
    """
)
def review(
    run: Finished,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="List photographs with this class only; may be repeated.",
        ),
    ] = None,
    untouched: Annotated[
        bool,
        typer.Option(
            "--untouched", rich_help_panel=PHOTOGRAPHS,
            help="List photographs only that nobody has corrected, accepted or rejected.",
        ),
    ] = False,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """List a finished run's photographs, the least certain first.

    In front stands how sure a photograph's least sure object is: the IoU to expect of its mask, or the score where
    the recipe has none. Where a person has corrected some, their states come next: untouched, corrected, accepted,
    rejected, or damaged; classes, numbers and pictures remain those that the run found.
    """
    from gradcut.runs.corrections import standing
    from gradcut.runs.run import review as ranked

    known, problems = standing(run)
    for problem in problems.values():
        err.print(f"gradcut: {problem}")
    states = {name: state for name, (state, _) in known.items()} | dict.fromkeys(problems, "damaged")
    every = [line | {"correction": states.get(line["name"], "untouched")} for line in ranked(run)]
    if label:
        own = sorted({item["label"] for line in every for item in line["objects"]})
        wanted = {own[names.position(name, own, f"the run {run}")] for name in label}
        every = [line for line in every if {item["label"] for item in line["objects"]} & wanted]
    if untouched:
        every = [line for line in every if line["correction"] == "untouched"]
    lines = every[:limit]
    if as_json:
        print(json.dumps(lines, indent=1, ensure_ascii=False))
        raise typer.Exit(1 if problems else 0)
    for line in lines:
        state = f"{line['correction']:<9}  " if states else ""
        found = ", ".join(f"{o['label']}{trust(o)}" for o in line["objects"]) or "nothing found"
        sure = "   -" if line["certainty"] is None else f"{line['certainty']:.2f}"
        picture = line["files"].get("picture")
        print(f"{sure}  {state}{line['photograph']}: {found}{f'  {run}/{picture}' if picture else ''}")
    without = sum(not line["objects"] for line in every)
    err.print(
        f"gradcut: {len(lines)} of {len(every)} photographs, {without} without an object; "
        f"'gradcut serve {run}' goes through them, 'gradcut export {run} -f coco' takes them to an annotation tool"
    )
    raise typer.Exit(1 if problems else 0)
