"""Help that one can read: groups, sentences, examples that work, and lines that fit a terminal."""

from __future__ import annotations

import re
import shlex

import pytest
from typer.main import get_command

from gradcut import catalogue
from gradcut.cli import app

PROGRAM = get_command(app)
COMMANDS = PROGRAM.commands
NAMES = ["", *COMMANDS]


@pytest.fixture
def help_of(command, monkeypatch):
    def read(name: str) -> str:
        monkeypatch.setenv("COLUMNS", "80")
        status, out, err = command(*name.split(), "--help")
        assert (status, err) == (0, "")
        return out

    return read


def parsed(line: str) -> dict:
    """The values of an example's parameters, as the command's own parser has them."""
    _, name, *arguments = shlex.split(line, comments=True)
    return COMMANDS[name].make_context(name, arguments).params


def examples(name: str) -> list[str]:
    return (COMMANDS[name].epilog or "").splitlines()


def sections(text: str) -> dict[str, list[str]]:
    """The lines below each heading."""
    parts = re.split(r"^(\S.*):\n", text, flags=re.MULTILINE)
    return {heading: body.splitlines() for heading, body in zip(parts[1::2], parts[2::2], strict=True)}


def options(name: str) -> list:
    command = COMMANDS[name] if name else PROGRAM
    return [part for part in command.params if part.param_type_name == "option"]


@pytest.mark.parametrize("name", NAMES)
def test_help_fits_a_terminal_and_names_no_types(help_of, name):
    text = help_of(name)
    assert max(map(len, text.splitlines())) <= 80
    for word in ("INTEGER", "FLOAT", "TEXT", "RANGE", "list[", "<int>", "<str>", "x>=", "│"):
        assert word not in text.replace("--range", "")
    assert "..." not in re.sub(r"(PHOTOGRAPH|NAME|COMMAND )\.\.\.", "", text)


def test_the_list_of_commands_shows_each_whole_summary(help_of):
    listed = sections(help_of(""))["Commands"]
    assert len([line for line in listed if line.strip()]) == len(COMMANDS)
    for name, command in COMMANDS.items():
        summary = command.help.splitlines()[0]
        assert summary.endswith(".")
        assert f"  {name:{max(map(len, COMMANDS))}}  {summary}" in listed


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_explained_and_many_stand_in_groups(help_of, name):
    text = help_of(name)
    flat = " ".join(text.split())
    for part in COMMANDS[name].params:
        assert part.help.endswith("."), part.name
        assert part.metavar or part.is_flag, part.name
        assert part.help in flat.replace("- ", "-") or part.help in flat, part.name
    if len(options(name)) > 8:
        assert all(part.rich_help_panel for part in options(name)), "every option needs a group"
        assert {"Options", "Arguments"}.isdisjoint(sections(text))
    for group, lines in sections(text).items():
        if group != "Examples":
            assert sum(line.startswith("  -") for line in lines) <= 13, f"{group} is long"


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_stand_at_the_end_and_parse(help_of, name):
    shown = [line.strip() for line in sections(help_of(name))["Examples"] if line.strip()]
    assert shown == examples(name)
    assert 2 <= len(shown) <= 4
    assert any(line.split()[1] == name for line in shown)
    for line in shown:
        assert line.startswith("gradcut ")
        values = parsed(line)  # wrong names, options and numbers are refused here
        for recipe in [values.get("recipe")] if isinstance(values.get("recipe"), str) else values.get("recipe") or ():
            assert recipe in catalogue.RECIPES


def test_an_example_that_does_not_work_would_be_seen():
    for line in ("gradcut segment a.jpg --recip fast", "gradcut segment a.jpg -r fats", "gradcut export out/"):
        with pytest.raises(Exception, match=r"recip|fats|Missing|format"):
            parsed(line)


def test_defaults_and_brackets_are_shown(help_of):
    segment, fit = " ".join(help_of("segment").split()), " ".join(help_of("fit").split())
    for default in (
        "[default: coco80]", "[default: default]", "[default: pictures]", "[default: runs/CLASSIFIER-RECIPE]",
        "[default: the classifier's]", "[default: 0]",
    ):  # fmt: skip
        assert default in segment
    for default in ("[required]", "[default: lite2]", "[default: 0.0002]"):
        assert default in fit
    assert "gradcut[web]" in help_of("serve")


@pytest.mark.parametrize("name", COMMANDS)
def test_how_to_get_help_stands_last_of_how_it_runs(help_of, name):
    assert [line for line in sections(help_of(name))["How it runs"] if line.strip()][-1].startswith("  -h, --help ")


def test_groups_of_segment(help_of):
    named = [heading for heading in sections(help_of("segment")) if heading != "Usage"]
    assert named == [
        "Photographs", "What to ask", "How masks are made", "What is written", "How it runs", "Examples",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("segment a.jpg --recip fast", "No such option: --recip; did you mean '--recipe'?"),
        ("segmnt", "No such command 'segmnt'. Did you mean 'segment'?"),
        ("export out", "Missing option '--format' / '-f'."),
        ("segment a.jpg --size 5", "--size: expected at least 32, got 5."),
        ("segment a.jpg --batch two", "--batch: expected a whole number, got two."),
        ("segment a.jpg --void 0 much", "--void: expected a number, got much."),
        ("serve --port 70000", "--port: expected at most 65535, got 70000."),
        ("evaluate", "Missing argument 'DATASET'."),
    ],
)
def test_a_wrong_call_is_one_line_that_leads_to_help(command, line, said):
    status, out, err = command(*line.split())
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"gradcut: {said}")
    assert "--help'." in err


def test_no_arguments_print_the_help(command):
    _, out, err = command()
    assert "Commands:" in out + err


@pytest.mark.parametrize("line", ["recipes", "recipes default simonyan expansion", "classifiers"])
def test_lists_fit_a_terminal_and_break_between_words(command, line):
    status, out, err = command(*line.split())
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "│" not in out
    flat = " ".join(out.split())
    shown = catalogue.CLASSIFIERS if line == "classifiers" else {"default": catalogue.RECIPES["default"]}
    for name, text in shown.items():
        assert any(listed.startswith(f"{name} ") for listed in lines)
        assert text in flat
    if line.startswith("recipes default"):
        for step in ("saliency  Gradient(of='probability', ", "seeds     Percentiles(foreground=95, background=30)"):
            assert step in out
