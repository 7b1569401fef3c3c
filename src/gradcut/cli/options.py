"""What the commands share: options, the console for results, and how a classifier is loaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from gradcut import __version__, catalogue

if TYPE_CHECKING:
    from gradcut.classifiers.classifier import Classifier

#: Which one is asked where none is named, as by `load_classifier`, which takes torch to import.
CLASSIFIER = "coco80"

app = typer.Typer(
    help="Turns any image classifier into a segmenter, with no segmentation training.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
out = Console(markup=False)

Paths = Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.", show_default=False)]


def checked(check: Callable[[str], object]) -> Callable[[Any], Any]:
    """What checks an option's or an argument's names, one or several, before anything slow is imported."""

    def callback(value: Any) -> Any:
        for name in [value] if isinstance(value, str) else value or ():
            check(name)
        return value

    return callback


known_recipe = checked(partial(catalogue.check, "recipe", names=catalogue.RECIPES))
known_format = checked(partial(catalogue.check, "format", names=catalogue.FORMATS))
known_classifier = checked(catalogue.check_classifier)


ClassifierName = Annotated[
    str,
    typer.Option(
        "--classifier", "-c", callback=known_classifier, metavar="NAME",
        help="Which classifier to ask; see 'gradcut classifiers'.",
    ),
]  # fmt: skip
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe",
        "-r",
        callback=known_recipe,
        metavar="NAME",
        help="How masks are made; see 'gradcut recipes'.",
    ),
]
SaliencyName = Annotated[
    str | None,
    typer.Option(
        "--saliency", callback=checked(partial(catalogue.check, "saliency", names=catalogue.METHODS)), metavar="NAME",
        help="A method instead of the recipe's, such as GradCAM.", show_default=False,
    ),
]  # fmt: skip
Threshold = Annotated[
    float | None,
    typer.Option(help="Least probability of a class. [default: the classifier's]", show_default=False),
]
TopK = Annotated[
    int | None,
    typer.Option(help="Most classes in a photograph. [default: the classifier's]", show_default=False),
]
Size = Annotated[
    int | None,
    typer.Option(min=32, help="Photographs are resized to SIZE x SIZE for the classifier.", show_default=False),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps. [default: cpu]", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ValueRange = Annotated[
    tuple[float, float] | None,
    typer.Option(
        "--range", metavar="LOW HIGH", show_default=False,
        help="What becomes black and white in photographs of more than 8 bits. [default: what the file says]",
    ),
]  # fmt: skip
Limit = Annotated[int | None, typer.Option(min=1, help="Take the first LIMIT photographs only.", show_default=False)]


def _version(asked: bool) -> bool:
    if asked:
        print(f"gradcut {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def load(name: str, device: str | None) -> Classifier:
    from gradcut.classifiers.sources import load_classifier

    classifier = load_classifier(name)
    return classifier if device is None else classifier.to(device)
