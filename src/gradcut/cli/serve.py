"""'gradcut serve'."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from gradcut.cli.help import ASKED, RUNNING
from gradcut.cli.options import (
    CLASSIFIER,
    BackgroundWords,
    Device,
    RecipeName,
    Templates,
    app,
    classifier_names,
    load,
)
from gradcut.cli.progress import err, working
from gradcut.errors import GradcutError
from gradcut.listening import listen


@app.command(
    examples="""
    gradcut serve                               # open the address that it prints
    gradcut serve -c coco80 -c timm/resnet50    # both in the page's menu
    gradcut serve -c hf/openai/clip-vit-base-patch16 --label forklift
    gradcut serve --host 0.0.0.0 --port 8000    # other machines may use it
    """
)
def serve(
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", rich_help_panel="Where it listens", help="Listen here; 0.0.0.0 lets other machines in."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, metavar="0..65535", rich_help_panel="Where it listens",
            help="Listen on this port; 0 takes any free one.",
        ),
    ] = 7860,
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

    It needs gradcut[web], works offline, and listens on this machine only unless told otherwise.
    """
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise GradcutError(f"serve: {missing[0]} is missing; pip install 'gradcut[web]'")
    listening = listen(host, port)  # before what takes seconds: an address that is taken is told of at once
    names = classifier or [CLASSIFIER, "embedded"]
    with working(f"loading {' and '.join(names)}"):
        from gradcut import web
        from gradcut.classifiers.sources import takes_words
        from gradcut.classifiers.words import words_of
        from gradcut.recipes import as_recipe

        asked = {}
        for name in names:
            words = (label, template, background) if takes_words(name) else (None, None, None)
            asked[name] = load(name, device, None, *words)
        given = {"label": label, "template": template, "background": background}
        if any(given.values()) and not any(words_of(classifier.model) for classifier in asked.values()):
            option = next(name for name, values in given.items() if values)
            raise GradcutError(f"--{option}: none of {', '.join(names)} takes words; CLIP and SigLIP do")
    alone = host in ("127.0.0.1", "localhost", "::1")
    limits = web.Limits(megabytes=max_megabytes, megapixels=max_megapixels)
    page = web.create_app(asked, as_recipe(recipe).name, limits, web.LOOPBACK if alone else None)
    server = web.Server(page, listening)
    if not alone:
        err.print("gradcut: everyone who reaches this address can use the page; it asks for no password")
    print(server.url, flush=True)
    err.print("gradcut: open it in a browser; Ctrl-C stops it")
    server.run()
