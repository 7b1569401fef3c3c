"""'gradcut compare'."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gradcut import catalogue
from gradcut.cli.help import ASKED, WRITTEN
from gradcut.cli.options import (
    CLASSIFIER,
    AskedFor,
    BackgroundWords,
    ClassifierName,
    Device,
    LabelsFile,
    Limit,
    Paths,
    Size,
    Templates,
    Threshold,
    ValueRange,
    app,
    check_labels,
    check_output,
    load,
    named,
    read_labels,
    recipe_names,
)
from gradcut.cli.progress import bar, err, working
from gradcut.cli.telling import tell_letters
from gradcut.errors import GradcutError

#: The group of the options that say what is compared.
_COMPARED = "What is compared"

_ALL = "all"


def _check_method(name: str) -> None:
    if name.casefold() != _ALL:
        catalogue.check("saliency", name, catalogue.METHODS)


@app.command(
    examples="""
    gradcut compare cat.jpg                     # a few methods, into comparisons/
    gradcut compare in/ --saliency GradCAM --saliency RISE -c timm/resnet50
    gradcut compare cat.jpg --saliency all -o methods.png   # takes a while
    gradcut compare cat.jpg -r default -r simonyan --label cat   # with masks
    """
)
def compare(
    paths: Paths,
    size: Size = None,
    value_range: ValueRange = None,
    limit: Limit = None,
    classifier: ClassifierName = CLASSIFIER,
    label: AskedFor = None,
    labels: LabelsFile = None,
    template: Templates = None,
    background: BackgroundWords = None,
    threshold: Threshold = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", rich_help_panel=ASKED, show_default="4, or what the classifier takes if that is less",
            help="Take at most N classes in a photograph.",
        ),
    ] = None,
    saliency: Annotated[
        list[str] | None,
        typer.Option(
            "--saliency", **named(_check_method, (*catalogue.METHODS, _ALL)), metavar="NAME",
            rich_help_panel=_COMPARED, show_default="quick ones that the classifier allows",
            help="Show the maps of this method, such as GradCAM; may be repeated. all: every method.",
        ),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe", "-r", **recipe_names, metavar="NAME", rich_help_panel=_COMPARED, show_default=False,
            help="Show the maps and masks of this recipe; may be repeated.",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="PATH", rich_help_panel=WRITTEN,
            help="Folder for the pictures, PNG files; for one photograph also a file that ends in .png.",
        ),
    ] = Path("comparisons"),
    device: Device = None,
) -> None:  # fmt: skip
    """Draw the maps of several methods side by side.

    One picture a photograph: methods by classes. Where no class reaches the threshold, the most probable is shown. A
    method that cannot explain the classifier's network is named with the reason, and left out.
    """
    from gradcut import files, images

    check_labels(classifier, label or ())
    words = read_labels(labels)
    found, errors = files.find(paths)
    found = found[:limit]
    single = output if output.suffix.lower() == ".png" else None
    if single is not None and len(found) > 1:
        raise GradcutError(f"output: expected a folder for {len(found)} photographs, got {output}")
    if single is None and output.suffix.lower() in files.SUFFIXES and not output.is_dir():
        raise GradcutError(f"output: expected a folder or a file that ends in .png, got {output}")
    check_output(output if single is None else output.parent)
    if all(files.is_missing(path) for path, _ in found):  # what is slow is spared
        errors += [f"{path}: no such file" for path, _ in found]
        found = []
    else:
        with working(f"loading {classifier}"):
            from gradcut.comparison import cheap_methods
            from gradcut.comparison import compare as asked_of
            from gradcut.recipes import METHODS
            from gradcut.segmenter import Segmenter

            loaded = load(classifier, device, label, words, template, background)
            loaded = loaded if size is None else loaded.at(size)
            every = any(name.casefold() == _ALL for name in saliency or ())
            names = catalogue.METHODS if every else [catalogue.check("saliency", n, METHODS) for n in saliency or ()]
            methods = {name: METHODS[name]() for name in names} if saliency or recipe else cheap_methods(loaded)
            steps: dict[str, Any] = {**methods, **{name: Segmenter(loaded, name) for name in recipe or ()}}
            top_k = top_k or min(4, loaded.top_k)
    told: set[str] = set()
    drawn: set[str] = set()
    with bar("comparing", len(found) * len(steps) if found else 0) as track:
        for path, name in found:
            try:
                photograph = images.read(path, value_range=value_range)
                result = asked_of(loaded, photograph, steps, label, threshold, top_k, track)
                called = path.name if isinstance(path, Path) else path
                picture = images.encode_png(result.picture(called))
            except GradcutError as error:
                errors.append(str(error) if str(path) in str(error) else f"{path}: {error}")
                continue
            place = single or output / f"{name}.png"
            with files.writing(place), files.replacing(place) as temporary:
                temporary.write_bytes(picture)
            print(place)
            for method, reason in result.impossible.items():
                if method not in told:
                    err.print(f"gradcut: {method}: {reason}")
            told |= set(result.impossible)
            drawn |= {called, *(found.label for found in result.classes)}
    tell_letters(drawn)
    for sentence in [*files.left_out(paths), *errors]:
        err.print(f"gradcut: {sentence}")
    raise typer.Exit(1 if errors or (told and not every) else 0)
