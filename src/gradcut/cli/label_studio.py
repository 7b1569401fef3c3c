"""'gradcut label-studio'."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from gradcut.cli.help import ASKED, MASKS, RUNNING
from gradcut.cli.options import (
    CLASSIFIER,
    BackgroundWords,
    ClassifierName,
    Device,
    Disjoint,
    MinConfidence,
    Port,
    RecipeName,
    Templates,
    Threshold,
    TopK,
    app,
    check_web,
    load,
)
from gradcut.cli.progress import err, working
from gradcut.errors import GradcutError
from gradcut.listening import is_own, listen


@app.command(
    "label-studio",
    examples="""
    gradcut label-studio                              # of http://localhost:8080
    gradcut label-studio http://localhost:8080 -c embedded -r fast
    gradcut label-studio --photographs-from https://photographs.example.org
    """,
)
def label_studio(
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS", rich_help_panel=ASKED,
            help="Label Studio's own address; photographs are fetched from there, with the token in the environment "
            "variable LABEL_STUDIO_API_KEY, else with what Label Studio sends.",
        ),
    ] = "http://localhost:8080",
    photographs_from: Annotated[
        list[str] | None,
        typer.Option(
            "--photographs-from", metavar="ADDRESS", rich_help_panel=ASKED, show_default=False,
            help="Another address that photographs may come from, without a token; may be repeated.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", rich_help_panel="Where it listens",
            help="Listen here. Any other than this machine's own needs BASIC_AUTH_USER and BASIC_AUTH_PASS in the "
            "environment.",
        ),
    ] = "127.0.0.1",
    port: Port = 9090,
    classifier: ClassifierName = CLASSIFIER,
    template: Templates = None,
    background: BackgroundWords = None,
    threshold: Threshold = None,
    top_k: TopK = None,
    min_confidence: MinConfidence = None,
    recipe: RecipeName = "default",
    disjoint: Disjoint = False,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, metavar="PIXELS", rich_help_panel=MASKS,
            help="Let polygons leave the mask's edge by so many pixels; 0 keeps the mask exactly.",
        ),
    ] = 1.0,
    max_megabytes: Annotated[
        float,
        typer.Option(min=0.001, metavar="N", rich_help_panel=RUNNING, help="Refuse photographs of more megabytes."),
    ] = 100,
    device: Device = None,
) -> None:  # fmt: skip
    """Serve masks to Label Studio, as a machine learning backend.

    Add the address that it prints to a project under Settings, Model. It answers with brush strokes or polygons, as the
    project's labelling interface has them, for labels that are called as the classifier's classes or groups. Painted
    with a brush or key points that are "smart", a mask is cut again. It needs gradcut[web].
    """
    check_web("label-studio")
    login = os.environ.get("BASIC_AUTH_USER", ""), os.environ.get("BASIC_AUTH_PASS", "")
    alone = is_own(host)
    if not alone and not all(login):
        raise GradcutError(f"--host: {host} lets other machines in; set BASIC_AUTH_USER and BASIC_AUTH_PASS first")
    listening = listen(host, port)  # before what takes seconds: an address that is taken is told of at once
    with working(f"loading {classifier}"):
        from gradcut import web
        from gradcut.classifiers.sources import takes_words
        from gradcut.integrations import label_studio as tool
        from gradcut.segmenter import Segmenter

        photographs = tool.Photographs(
            address, os.environ.get("LABEL_STUDIO_API_KEY"), photographs_from or (), max_megabytes
        )
        # The words of a classifier that takes them are the labels of each project; until then it has this one.
        words = ("object",) if takes_words(classifier) else None
        loaded = load(classifier, device, None, words, template, background)
        segmenter = Segmenter(loaded, recipe, threshold, top_k, min_confidence, disjoint)
        backend = tool.Backend(segmenter, photographs, tolerance)
    hosts = web.LOOPBACK if alone else None
    server = web.Server(tool.create_app(backend, hosts, login if all(login) else None), listening)
    print(server.url, flush=True)
    err.print("gradcut: connect a project of Label Studio to it under Settings, Model; Ctrl-C stops it")
    server.run()
