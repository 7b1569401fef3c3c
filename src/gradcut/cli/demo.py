"""'gradcut demo'."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradcut.cli.help import WRITTEN
from gradcut.cli.options import CLASSIFIER, RecipeName, app, check_output, load, out
from gradcut.cli.progress import err, working

if TYPE_CHECKING:
    from gradcut.results import Object


@app.command(
    examples="""
    gradcut demo                                # into gradcut-demo/
    gradcut demo -r simonyan -o out/            # by another recipe
    """
)
def demo(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", rich_help_panel=WRITTEN, help="Folder for the results."),
    ] = Path("gradcut-demo"),
    recipe: RecipeName = "default",
) -> None:
    """Segment a photograph of a cup of coffee, offline."""
    check_output(output)
    with working(f"loading {CLASSIFIER}"):
        from skimage.data import coffee

        from gradcut import results
        from gradcut.segmenter import Segmenter

        segmenter = Segmenter(load(CLASSIFIER, None), recipe)
    with working("segmenting a cup of coffee"):
        result = segmenter(coffee())
    record = results.save(result, output, "coffee")
    width = max(len(item.label) for item in result)
    for item in result:
        out.print(f"{item.label:<{width}}  {_told(item)}", highlight=False, soft_wrap=True)
    print(output / record["files"]["picture"])
    err.print(f"gradcut: next, your own photographs: {program()} segment PHOTOGRAPH")
    err.print(f"gradcut: or look and correct in the browser: {program()} serve")


def program() -> str:
    """What to type for this program: after 'make demo' it is in .venv/bin, where a shell does not look."""
    return "gradcut" if shutil.which("gradcut") else sys.argv[0]


def _told(item: Object) -> str:
    """What is known of an object: score, expected IoU if there is one, share of the photograph, and doubt."""
    parts = [f"score {item.score:.2f}"]
    if item.confidence is not None:
        parts.append(f"expected IoU {item.confidence:.2f}")
    parts.append("blank: no mask" if item.blank else f"{item.mask.mean():4.0%} of the photograph")
    if item.unsure and not item.blank:
        parts.append("(unsure)")
    return "  ".join(parts)
