"""What a person reads who asks for help or mistypes: plain text in named groups, examples to copy, one-line errors.

`typer` draws groups in boxes, with markup, or drops them; here they are headings, so that help can be copied, piped and
searched.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from gradcut.cli.progress import err
from gradcut.errors import GradcutError
from gradcut.files import SUFFIXES

#: The groups that options have. The last two end every help.
PHOTOGRAPHS, ASKED, MASKS = "Photographs", "What to ask", "How masks are made"
WRITTEN, RUNNING = "What is written", "How it runs"
_ORDER = (WRITTEN, RUNNING)

#: What asks for help.
HELP = {"help_option_names": ["-h", "--help"]}

#: Every error in how a command was called; `typer` exports some of its kinds only.
_UsageError: Any = typer.BadParameter.__base__


class App(typer.Typer):
    """An app whose commands have examples, which end their help."""

    def command(self, name: str | None = None, *, examples: str = "", **options: Any) -> Callable[[Any], Any]:
        return super().command(name, cls=Command, epilog=inspect.cleandoc(examples), context_settings=HELP, **options)


class _Plain:
    """How the help of a command and of the program is written."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = [part for part in self.get_params(ctx) if part.param_type_name == "argument"]  # type: ignore[attr-defined]
        names = [_name(part) if part.required else f"[{_name(part)}]" for part in arguments]
        return ["[OPTIONS]", *names, *(["COMMAND ..."] if hasattr(self, "commands") else [])]

    def entries(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """What the help lists, under its headings: a parameter or a command, and what it does."""
        groups: dict[str, list[tuple[str, str]]] = {}
        *parameters, asked = self.get_params(ctx)  # type: ignore[attr-defined]
        for parameter in parameters:
            usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
            groups.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append(_entry(parameter))
        if not hasattr(self, "commands"):
            groups.setdefault(RUNNING, [])  # for --help
        names = sorted(groups, key=lambda group: _ORDER.index(group) if group in _ORDER else -1)
        groups[names[-1]].append(_entry(asked))  # --help, which click puts last
        for command in getattr(self, "commands", {}).values():
            groups.setdefault("Commands", []).append((command.name, command.help.partition("\n")[0]))
        return {group: groups[group] for group in dict.fromkeys([*names, *groups])}

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for group, entries in self.entries(ctx).items():
            with formatter.section(group):
                formatter.write_dl(entries, col_max=24)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.epilog:  # type: ignore[attr-defined]
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line}\n" for line in self.epilog.splitlines()))  # type: ignore[attr-defined]


class Command(_Plain, TyperCommand):
    """A command with plain help."""


class Group(_Plain, TyperGroup):
    """The program: plain help, and a wrong option or command is a `GradcutError`, hence one line."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _one_line():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _one_line():
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:  # which typer would end without a word
                err.print("gradcut: stopped")
                raise typer.Exit(130) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """'gradcut help segment' is 'gradcut segment --help', and a photograph's name is no command's."""
        name, *others = args
        if ctx.resilient_parsing:  # a shell completes
            return super().resolve_command(ctx, args)
        if name == "help":
            if not others:
                typer.echo(self.get_help(ctx))
                raise typer.Exit
            return super().resolve_command(ctx, [others[0], "--help"])
        if name not in self.commands and (Path(name).suffix.lower() in SUFFIXES or Path(name).exists()):
            raise GradcutError(f"no such command: {name}; did you mean 'gradcut segment {shlex.join(args)}'?")
        return super().resolve_command(ctx, args)


def _name(parameter: Any) -> str:
    """How a parameter is written on the command line."""
    if parameter.param_type_name == "argument":
        return f"{parameter.metavar}{'' if parameter.nargs == 1 else '...'}"
    name = ", ".join(sorted(parameter.opts, key=len)) + "".join(f" / {no}" for no in parameter.secondary_opts)
    return name if parameter.is_flag else f"{name} {parameter.metavar}"


def _entry(parameter: Any) -> tuple[str, str]:
    """A parameter, and what it does."""
    default, shown = parameter.default, parameter.show_default
    if getattr(parameter, "secondary_opts", None):
        default = (parameter.opts if default else parameter.secondary_opts)[0].strip("-")
    if parameter.required:
        note = " [required]"
    elif isinstance(shown, str) or (shown and default is not None and default is not False):
        note = f" [default: {shown if isinstance(shown, str) else default}]"
    else:
        note = ""
    return _name(parameter), f"{parameter.help}{note}"


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # it is the help
            raise
        near = getattr(error, "possibilities", None)
        said = f"{error.message}; did you mean {near[0]!r}?" if near else _unusable(error) or error.format_message()
        where = "" if error.ctx is None else f" See '{error.ctx.command_path} --help'."
        raise GradcutError(" ".join(f"{said}{'' if said.endswith(('.', '?')) else '.'}{where}".split())) from None


#: What was expected of a value, by pydantic's name of what is wrong with it.
_EXPECTED = {
    "greater_than_equal": "at least {ge:g}", "less_than_equal": "at most {le:g}", "int_parsing": "a whole number",
    "float_parsing": "a number",
}  # fmt: skip


def _unusable(error: Any) -> str:
    """What was expected of an option's value, and what came; empty for what is no matter of numbers."""
    for reason in getattr(error.__cause__, "errors", list)():
        if reason["type"] in _EXPECTED and error.param is not None:
            expected = _EXPECTED[reason["type"]].format(**reason.get("ctx", {}))
            return f"{_title(error.param)}: expected {expected}, got {reason['input']}"
    return ""


def _title(parameter: Any) -> str:
    """What a message calls a parameter: an option's long name, an argument's word."""
    return str(parameter.metavar if parameter.param_type_name == "argument" else max(parameter.opts, key=len))
