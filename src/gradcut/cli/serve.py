"""'gradcut serve'."""

from __future__ import annotations

from typing import Annotated

import typer

from gradcut.cli.options import CLASSIFIER, Device, RecipeName, app, err, known_classifier, load
from gradcut.errors import GradcutError


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 7860,
    classifier: Annotated[
        list[str] | None,
        typer.Option(
            "--classifier",
            "-c",
            callback=known_classifier,
            help="For the page's menu; may be repeated, the first is chosen. [default: coco80 and embedded]",
            show_default=False,
        ),
    ] = None,
    recipe: RecipeName = "default",
    device: Device = None,
    max_megabytes: Annotated[float, typer.Option(min=0.001, help="Of one upload.")] = 20,
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Of one photograph.")] = 50,
) -> None:
    """Serve the web page: see masks, correct them with strokes, download them. Needs gradcut[web]."""
    try:
        from gradcut import web
    except ModuleNotFoundError as error:
        raise GradcutError(f"serve: {error.name} is missing; pip install 'gradcut[web]'") from None
    from gradcut.recipes import as_recipe

    asked = {name: load(name, device) for name in classifier or [CLASSIFIER, "embedded"]}
    here = host in ("127.0.0.1", "localhost", "::1")
    limits = web.Limits(megabytes=max_megabytes, megapixels=max_megapixels)
    page = web.create_app(asked, as_recipe(recipe).name, limits, web.LOOPBACK if here else None)
    server = web.Server(page, host, port)
    if not here:
        err.print("gradcut: everyone who reaches this address can use the page; it asks for no password")
    print(server.url, flush=True)
    server.run()
