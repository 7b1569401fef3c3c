"""Directives that write what the program itself knows: its commands, recipes and classifiers.

=================== ===========================================================
``{commands}``      a section for each command, with its options and examples
``{recipes}``       a section for each recipe, with its steps
=================== ===========================================================
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from typer.main import get_command

from gradcut.cli import app as program
from gradcut.cli.classify import nested
from gradcut.recipes import RECIPES


class Commands(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        group: Any = get_command(program)
        lines = ["## `gradcut`", *_described(group, "gradcut")]
        for name, command in group.commands.items():
            lines += [f"## `gradcut {name}`", *_described(command, f"gradcut {name}")]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


class Recipes(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        for name, recipe in RECIPES.items():
            lines += [f"## `{name}`", "", _text(f"{recipe.summary[0].upper()}{recipe.summary[1:]}."), ""]
            for step in ("saliency", "seeds", "masks"):
                lines += [
                    f"`{step}`",
                    "",
                    ":::{code-block} text",
                    ":class: wrapped",
                    *nested(getattr(recipe, step)),
                    ":::",
                    "",
                ]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _described(command: Any, path: str) -> list[str]:
    """A command's usage, text, options in their groups, and examples, as Markdown."""
    context = command.make_context(path, [], resilient_parsing=True)
    lines = [
        "",
        "```text",
        " ".join([path, *command.collect_usage_pieces(context)]),
        "```",
        "",
        _text(command.help),
        "",
    ]
    for heading, options in command.entries(context).items():
        lines += [f"**{heading}**", ""]
        for name, sentence in options:
            lines += [f"`{name}`", f": {_text(sentence)}", ""]
    if command.epilog:
        lines += ["**Examples**", "", "```sh", command.epilog, "```", ""]
    return lines


def _text(plain: str) -> str:
    """Plain text that Markdown leaves as it is; what is between quotes with a program's name is code."""
    coded = re.sub(r"'(gradcut [^']+)'", r"`\1`", plain)
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\*_<>\[\]#|~$])", r"\\\1", part)
        for part in re.split(r"(`[^`]*`)", coded)
    )


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("commands", Commands)
    app.add_directive("recipes", Recipes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
