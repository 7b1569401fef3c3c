"""'gradcut serve'."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gradcut.cli.help import ASKED, RUNNING
from gradcut.cli.options import (
    CLASSIFIER,
    BackgroundWords,
    Device,
    Port,
    RecipeName,
    Templates,
    app,
    check_web,
    classifier_names,
    load,
    unslashed,
)
from gradcut.cli.progress import err, working
from gradcut.errors import GradcutError
from gradcut.listening import is_own, listen

if TYPE_CHECKING:
    from gradcut.classifiers.classifier import Classifier


@app.command(
    examples="""
    gradcut serve                               # open the address that it prints
    gradcut serve runs/coco80-default           # go through a finished run
    gradcut serve -c hf/openai/clip-vit-base-patch16 --label forklift
    gradcut serve --host 0.0.0.0 --port 8000    # other machines may use it
    """
)
def serve(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", callback=unslashed, rich_help_panel=ASKED, show_default=False,
            help="A folder that 'gradcut segment' wrote: go through it, correct it, and have it saved there.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", rich_help_panel="Where it listens", help="Listen here; 0.0.0.0 lets other machines in."
        ),
    ] = "127.0.0.1",
    port: Port = 7860,
    public: Annotated[
        bool,
        typer.Option(
            "--public", rich_help_panel="Where it listens",
            help="Ask other machines for no token: whoever reaches the address may use the page.",
        ),
    ] = False,
    framed_by: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", rich_help_panel="Where it listens", show_default="none",
            help="Let this site's pages show this one in a frame.",
        ),
    ] = None,
    classifier: Annotated[
        list[str] | None,
        typer.Option(
            "--classifier", "-c", **classifier_names, metavar="NAME", rich_help_panel=ASKED,
            show_default="coco80 and embedded",
            help="Put a classifier into the page's menu; may be repeated, the first is chosen.",
        ),
    ] = None,
    recipe: RecipeName = "default",
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="WORD", rich_help_panel=ASKED, show_default=False,
            help="A word for the page to begin with, of classifiers that take words; may be repeated.",
        ),
    ] = None,
    template: Templates = None,
    background: BackgroundWords = None,
    device: Device = None,
    max_megabytes: Annotated[
        float,
        typer.Option(min=0.001, metavar="N", rich_help_panel=RUNNING, help="Refuse uploads of more megabytes."),
    ] = 20,
    max_megapixels: Annotated[
        float,
        typer.Option(min=0.001, metavar="N", rich_help_panel=RUNNING, help="Refuse photographs of more megapixels."),
    ] = 50,
) -> None:  # fmt: skip
    """Serve the web page: see masks, correct them, download them.

    It needs gradcut[web], works offline, and listens on this machine only unless told otherwise. With RUN it goes
    through a finished run, the least certain photograph first, and saves what is changed and decided in its folder.
    """
    check_web("serve")
    words = {"label": label, "template": template, "background": background}
    if run is not None:
        from gradcut.runs.run import read_run

        if public:
            raise GradcutError("--public: a run is for its own people; leave it out")
        read_run(run)
        given = {"classifier": classifier, **words, "recipe": None if recipe == "default" else recipe}
        if option := next((name for name, value in given.items() if value), None):
            raise GradcutError(f"--{option}: a run is gone through with what it was made with; leave it out")
    listening = listen(host, port)  # before what takes seconds: an address that is taken is told of at once
    names = classifier or [CLASSIFIER, "embedded"]
    with working(f"loading {' and '.join(names) if run is None else run}"):
        from gradcut import web
        from gradcut.recipes import as_recipe

        alone = is_own(host)
        limits, hosts = web.Limits(megabytes=max_megabytes, megapixels=max_megapixels), web.LOOPBACK if alone else None
        token = None if alone or public else secrets.token_urlsafe(16)
        if run is None:
            page = web.create_app(
                _asked(names, device, words), as_recipe(recipe).name, limits, hosts, token=token, framed_by=framed_by
            )
        else:
            from gradcut.web.desk import segmenter_of

            segmenter = segmenter_of(run, device)
            asked = {segmenter.classifier.name: segmenter.classifier}
            page = web.create_app(asked, "default", limits, hosts, (run, segmenter), token, framed_by)
    server = web.Server(page, listening)
    if token is not None:
        err.print("gradcut: whoever has this address can use the page; the token in it is new every time")
    print(server.url if token is None else f"{server.url}/?token={token}", flush=True)
    err.print("gradcut: open it in a browser; Ctrl-C stops it")
    server.run()


def _asked(
    names: Sequence[str], device: str | None, words: Mapping[str, Sequence[str] | None]
) -> dict[str, Classifier]:
    """The classifiers of the page's menu, by name; those that take words with these.

    Raises:
        GradcutError: words, and none that takes them.
    """
    from gradcut.classifiers.sources import takes_words
    from gradcut.classifiers.words import words_of

    asked = {}
    for name in names:
        asked[name] = load(name, device, None, *(words.values() if takes_words(name) else ()))
    if any(words.values()) and not any(words_of(classifier.model) for classifier in asked.values()):
        option = next(name for name, values in words.items() if values)
        raise GradcutError(f"--{option}: none of {', '.join(names)} takes words; CLIP and SigLIP do")
    return asked
