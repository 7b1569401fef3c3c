"""What the commands share: options, the console for results, and how a classifier is loaded."""

from __future__ import annotations

import errno
import os
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from gradcut import __version__, catalogue, files, labels
from gradcut.cli.help import ASKED, HELP, MASKS, PHOTOGRAPHS, RUNNING, WRITTEN, App, Group
from gradcut.errors import GradcutError, OutputError, one_line

if TYPE_CHECKING:
    from gradcut.classifiers.classifier import Classifier

#: Which one is asked where none is named, as by `load_classifier`, which takes torch to import.
CLASSIFIER = "coco80"

app = App(
    cls=Group,
    help="Turns any image classifier into a segmenter, with no segmentation training.",
    epilog="gradcut segment cat.jpg holidays/ -o out/    # masks of what is in photographs\n"
    "gradcut COMMAND --help                       # more about a command",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=HELP,
    pretty_exceptions_enable=False,
)
out = Console(markup=False)


def named(check: Callable[[str], object], names: Collection[str]) -> dict[str, Any]:
    """For an option or an argument that takes one or several names: they are checked before anything slow is imported.

    Args:
        check: raises an error for a wrong name.
        names: what a shell completes, with what each name is where that is known.
    """

    def callback(value: Any) -> Any:
        for name in [value] if isinstance(value, str) else value or ():
            check(name)
        return value

    def complete(incomplete: str) -> list[tuple[str, str]]:
        said = names if isinstance(names, Mapping) else dict.fromkeys(names, "")
        return [(name, text) for name, text in said.items() if name.startswith(incomplete)]

    return {"callback": callback, "autocompletion": complete}


def _one_of(argument: str, names: Collection[str]) -> dict[str, Any]:
    return named(partial(catalogue.check, argument, names=names), names)


recipe_names = _one_of("recipe", catalogue.RECIPES)
saliency_names = _one_of("saliency", catalogue.METHODS)
faithfulness_names = _one_of("faithfulness", {**catalogue.FAITHFULNESS, "all": "every one of them"})
format_names = _one_of("format", catalogue.FORMATS)
dataset_names = _one_of("dataset", catalogue.DATASETS)
labels_names = _one_of("labels", catalogue.LABELS)
engine_names = _one_of("engine", catalogue.ENGINES)
device_names = named(catalogue.check_device, catalogue.DEVICES)
classifier_names = named(
    catalogue.check_classifier,
    {name: what for name, what in catalogue.CLASSIFIERS.items() if name.islower()}
    | {"timm/": catalogue.CLASSIFIERS["timm/NAME"], "hf/": catalogue.CLASSIFIERS["hf/ORG/NAME"]},
)


Paths = Annotated[
    list[str],  # a Path would take one of the two slashes of an address
    typer.Argument(
        metavar="PHOTOGRAPH", rich_help_panel=PHOTOGRAPHS, show_default=False,
        help="Photographs, folders of them, patterns ('*.jpg') or addresses.",
    ),
]  # fmt: skip
ClassifierName = Annotated[
    str,
    typer.Option(
        "--classifier", "-c", **classifier_names, metavar="NAME", rich_help_panel=ASKED,
        help="Which classifier to ask; 'gradcut classifiers' lists them.",
    ),
]  # fmt: skip
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe", "-r", **recipe_names, metavar="NAME", rich_help_panel=MASKS,
        help="How masks are made; 'gradcut recipes' lists the ways.",
    ),
]  # fmt: skip
SaliencyName = Annotated[
    str | None,
    typer.Option(
        "--saliency", **saliency_names, metavar="NAME",
        rich_help_panel=MASKS, show_default="the recipe's", help="Take this saliency method, such as GradCAM.",
    ),
]  # fmt: skip
Port = Annotated[
    int,
    typer.Option(
        min=0, max=65535, metavar="0..65535", rich_help_panel="Where it listens",
        help="Listen on this port; 0 takes any free one.",
    ),
]  # fmt: skip
AskedFor = Annotated[
    list[str] | None,
    typer.Option(
        "--label", metavar="NAME", rich_help_panel=ASKED, show_default=False,
        help="Ask for this class instead of those that the classifier detects; may be repeated. A classifier that "
        "takes words is asked for any.",
    ),
]  # fmt: skip
LabelsFile = Annotated[
    str | None,
    typer.Option(
        "--labels", metavar="FILE", rich_help_panel=ASKED, show_default=False,
        help="Words for classes, of a classifier that takes such (CLIP, SigLIP): a file with one a line, or coco, voc "
        "or imagenet.",
    ),
]  # fmt: skip
Templates = Annotated[
    list[str] | None,
    typer.Option(
        "--template", metavar="SENTENCE", rich_help_panel=ASKED, show_default="'a photo of a {}.'",
        help="With words: say them in this sentence, in the place of {}; several are averaged.",
    ),
]  # fmt: skip
BackgroundWords = Annotated[
    list[str] | None,
    typer.Option(
        "--background", metavar="WORD", rich_help_panel=ASKED, show_default="28 words for CLIP, none for SigLIP",
        help="With words: let this one contend with every class; may be repeated.",
    ),
]  # fmt: skip
Threshold = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, metavar="0..1", rich_help_panel=ASKED, show_default="the classifier's",
        help="Take classes of at least this probability.",
    ),
]  # fmt: skip
TopK = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", rich_help_panel=ASKED, show_default="the classifier's",
        help="Take at most N classes in a photograph.",
    ),
]  # fmt: skip
MinConfidence = Annotated[
    float | None,
    typer.Option(
        "--min-confidence", min=0, max=1, metavar="0..1", rich_help_panel=ASKED, show_default=False,
        help="Leave objects of a smaller expected IoU out; needs a recipe that gives one.",
    ),
]  # fmt: skip
Disjoint = Annotated[
    bool,
    typer.Option(
        "--disjoint", rich_help_panel=MASKS,
        help="Masks share no pixel: each goes to the class that is strongest there.",
    ),
]  # fmt: skip
Size = Annotated[
    int | None,
    typer.Option(
        min=32, metavar="N", rich_help_panel=PHOTOGRAPHS, show_default="the classifier's",
        help="Show the classifier photographs of N x N pixels, at least 32.",
    ),
]  # fmt: skip
RecipeSize = Annotated[
    int | None,
    typer.Option(
        "--size", min=32, metavar="N", rich_help_panel=PHOTOGRAPHS, show_default="the recipe's, or the classifier's",
        help="Show the classifier photographs of N x N pixels, at least 32; a recipe that looks at several sizes takes "
        "multiples of it. The masks keep the photographs' own size.",
    ),
]  # fmt: skip
Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", **device_names, rich_help_panel=RUNNING, show_default="cpu",
        help="Where the network runs: cpu, cuda or mps.",
    ),
]  # fmt: skip
Half = Annotated[
    bool,
    typer.Option(
        "--bfloat16", rich_help_panel=RUNNING,
        help="Let the network compute in 16 bits: faster on a GPU and on processors that have bfloat16 in hardware; "
        "scores and masks change a little.",
    ),
]  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", rich_help_panel=WRITTEN, help="Print one JSON document.")]
ValueRange = Annotated[
    tuple[float, float] | None,
    typer.Option(
        "--range", metavar="LOW HIGH", rich_help_panel=PHOTOGRAPHS, show_default="what the file says",
        help="Take these numbers for black and white in photographs of more than 8 bits.",
    ),
]  # fmt: skip
Limit = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", rich_help_panel=PHOTOGRAPHS, show_default=False, help="Take the first N photographs only.",
    ),
]  # fmt: skip


Resamples = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", rich_help_panel=WRITTEN, help="Resamples of the bootstrap behind the intervals.",
    ),
]  # fmt: skip


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


#: The greatest length of a name beside which `listing` has room for a description.
_LONG = 44


def listing(entries: Iterable[tuple[str, str]]) -> None:
    """Names, and what they are beside them, in lines of at most 80 characters that break between words only.

    A long name has a line of its own: it does not take the others' place.
    """
    entries = list(entries)
    width = max((len(name) for name, _ in entries if len(name) <= _LONG), default=2) + 2
    for name, text in entries:
        hang = " " * (len(text) - len(text.lstrip()))
        lines = textwrap.wrap(
            text, 80 - width, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False
        ) or [""]
        if len(name) > _LONG:
            lines = ["", *lines]
        print("\n".join(f"{'' if number else name:{width}}{line}" for number, line in enumerate(lines)))


def unslashed(folder: str | None) -> str | None:
    """A folder without the slashes behind it, to which names of files are added."""
    return folder and re.sub(r"(?<=[^/:])/+$", "", folder)


@contextmanager
def _looking(option: str, path: Path) -> Iterator[None]:
    """Turn what the system says of a path that it does not let us look at into one line."""
    try:
        yield
    except OSError as error:
        raise GradcutError(f"{option}: {path} cannot be read: {error.strerror or error}") from error


def check_folder(option: str, path: Path) -> None:
    """Refuse a folder to read from that is none, before anything slow is imported."""
    with _looking(option, path):
        if not path.is_dir():
            reason = f"{path} is a file, expected a folder" if path.exists() else f"no such folder: {path}"
            raise GradcutError(f"{option}: {reason}")


def check_file(option: str, path: Path) -> None:
    """Refuse a file to read that is none, before anything slow is imported."""
    with _looking(option, path):
        if not path.is_file():
            reason = f"{path} is a folder, expected a file" if path.exists() else f"no such file: {path}"
            raise GradcutError(f"{option}: {reason}")


def check_output(output: str | Path) -> None:
    """Refuse a folder to write to that cannot be one, before the work is done.

    A file has its name, or its parent's, or what is there may not be written to.
    """
    folder = files.Folder(str(output)).local
    if folder is None:
        return
    with files.writing(output):
        if folder.is_file():
            raise OutputError(f"output: {output} is a file; -o takes a folder")
        for parent in folder.parents:
            if parent.is_file():
                raise OutputError(f"output: {output} cannot be a folder: {parent} is a file")
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if not os.access(there, os.W_OK):
            raise PermissionError(errno.EACCES, f"no permission to write to {there}")


def check_gives_confidence(recipes: Sequence[str], saliency: str | None, size: int | None) -> None:
    """Refuse --min-confidence for recipes to which no confidence was fitted, or which are changed."""
    from gradcut.confidence import CONFIDENT, coefficients  # it imports NumPy, which a command's help does without

    for recipe in recipes:
        changes = [f"--{name} {value}" for name, value in (("saliency", saliency), ("size", size)) if value is not None]
        if recipe not in coefficients() or changes:
            changed = " ".join([repr(recipe), *(["with", *changes] if changes else [])])
            raise GradcutError(f"--min-confidence: {CONFIDENT} give confidences; {changed} gives none")


def check_labels(classifier: str, wanted: Sequence[str]) -> None:
    """Refuse labels that a classifier does not have, as `Classifier.find` would, if its classes are known by its name.

    Raises:
        ClassifierError: with the nearest labels.
    """
    if classifier in catalogue.VOCABULARIES:
        own = labels.vocabulary(catalogue.VOCABULARIES[classifier]) or ()
        for label in wanted:
            if not labels.group(label, own):
                labels.position(label, own, classifier)


def read_labels(name: str | None) -> tuple[str, ...] | None:
    """The classes that --labels means: those of a vocabulary or in a file; None where it was not given.

    Raises:
        GradcutError: no such file, or one that cannot be read as names.
    """
    if name is None:
        return None
    if (own := labels.vocabulary(name)) is not None:
        return own
    path = Path(name)
    check_file("--labels", path)
    try:
        names = labels.read_names(path.read_bytes(), path.suffix.lower() in (".csv", ".tsv"))
    except (OSError, GradcutError) as error:
        raise GradcutError(f"--labels: {name}: {one_line(error)}") from error
    if not any(names):
        raise GradcutError(f"--labels: {name}: expected a name a line, got none")
    return names


def check_web(command: str) -> None:
    """Refuse a command that serves where what it needs for that is not installed."""
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise GradcutError(f"{command}: {missing[0]} is missing; pip install 'gradcut[web]'")


def load(
    name: str,
    device: str | None,
    label: Sequence[str] | None = None,
    words: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
    background: Sequence[str] | None = None,
    half: bool = False,
) -> Classifier:
    """The classifier of that name, on its device.

    Args:
        label: the classes that are asked for; where it takes words and no ``words`` are given, these are its classes.
        half: in bfloat16.
    """
    import torch

    from gradcut.classifiers.sources import load_classifier, takes_words

    if label and words is None and takes_words(name):
        words = label
    asked = {"labels": words, "templates": templates or None, "background": background or None}
    classifier = load_classifier(name, **{key: value for key, value in asked.items() if value is not None})
    return classifier.to(device, torch.bfloat16 if half else None)
