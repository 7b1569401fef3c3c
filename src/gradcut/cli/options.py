"""What the commands share: options, the two consoles, the progress bar, and how a classifier is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from gradcut.classifiers.classifier import Classifier
app = typer.Typer(
    help="Turns any image classifier into a segmenter, with no segmentation training.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
out = Console()
err = Console(stderr=True, soft_wrap=True, highlight=False)

Paths = Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.", show_default=False)]
ClassifierName = Annotated[str, typer.Option("--classifier", "-c", help="Which classifier to ask.")]
RecipeName = Annotated[str, typer.Option("--recipe", "-r", help="How masks are made; see 'gradcut recipes'.")]
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
Limit = Annotated[int | None, typer.Option(min=1, help="Take the first LIMIT photographs only.", show_default=False)]


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[Iterable[Path]], Iterator[Path]]]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def track(items: Iterable[Path]) -> Iterator[Path]:
            for item in items:
                yield item
                bar.advance(task)

        yield track


def load(name: str, device: str | None) -> Classifier:
    from gradcut.classifiers.sources import load_classifier

    classifier = load_classifier(name)
    return classifier if device is None else classifier.to(device)
