"""Scores and pictures to one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from gradcut.evaluation.baselines import BASELINES
from gradcut.evaluation.gallery import Card
from gradcut.evaluation.measures import Counts
from gradcut.evaluation.report_faithfulness import section
from gradcut.evaluation.report_parts import cell, filled, mark, panel, resource, row_name
from gradcut.evaluation.scoring import Row
from gradcut.evaluation.summary import COMPARED, NUMBERS, PROTOCOL, SIZES

_FOLDER = ("evaluation", "report_page")

#: What the columns are called, and what they mean.
NAMES: Mapping[str, tuple[str, str]] = {
    "class_iou": ("class IoU", "intersection over union of mask and truth, mean over every class in every photograph"),
    "union_iou": ("union IoU", "the same of all classes' masks together, mean over photographs"),
    "miou": ("mIoU", "pixels summed up over the dataset, background included, as Pascal VOC counts"),
    "precision": ("precision", "share of the mask that is true, mean over classes and photographs"),
    "recall": ("recall", "share of the truth that is found, mean over classes and photographs"),
    "pixel_accuracy": ("pixels right", "share of all pixels that got the right class"),
    "pointing": ("pointing", "how often the saliency's maximum lies on the object"),
    "energy": ("energy inside", "share of the saliency that lies on the object"),
    "map": ("mAP", "mean average precision of the classification"),
}


def page(
    rows: Sequence[Row],
    figures: Mapping[str, Any],
    settings: Mapping[str, Any],
    cards: Iterable[Card] = (),
    by: str | None = None,
) -> str:
    """The whole page as HTML.

    Args:
        rows: as `gradcut.evaluation.evaluate` yields them.
        figures: as `gradcut.evaluation.summary.summarise` makes them from these rows.
        settings: of the run, as `gradcut.evaluation.settings` makes them.
        cards: of the gallery.
        by: the recipe that the gallery was chosen by.
    """
    cards, recipes = list(cards), list(figures["recipes"])
    colours = {name: _colour(number, name) for number, name in enumerate(recipes)}
    maps = section(rows, figures, cards, colours)
    parts = {
        "title": escape(f"gradcut: {settings['title']}"),
        "style": resource(*_FOLDER, "report.css"),
        "script": resource(*_FOLDER, "tables.js") + resource(*_FOLDER, "report.js"),
        "head": _head(figures, settings),
        "main": _main_table(figures, colours),
        "measures": _measures(figures),
        "differences": _differences(figures),
        "plots": _plots(figures, colours),
        "classes": _class_table(figures, colours),
        "pairs": _pair_table(rows, recipes),
        "link": '<a href="#faithfulness">Maps</a>' if maps else "",
        "faithfulness": maps,
        "gallery": _gallery(cards, colours, by),
        "settings": escape(json.dumps(settings, indent=1, ensure_ascii=False)),
        "legend": _legend(colours),
    }
    return filled(resource(*_FOLDER, "report.html"), parts)


def _colour(number: int, name: str) -> str:
    """A CSS variable; baselines are grey, so that colour means a recipe."""
    return "var(--grey)" if name in BASELINES else f"var(--c{number % 6})"


def _legend(colours: Mapping[str, str]) -> str:
    return "".join(
        f'<span class="key"><svg viewBox="0 0 12 12" style="color:{colour}">{mark(name, 6, 6)}</svg>'
        f"{escape(name)}</span>"
        for name, colour in colours.items()
    )


def _head(figures: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    photographs = max(recipe["photographs"] for recipe in figures["recipes"].values())
    failed = max(recipe["failed"] for recipe in figures["recipes"].values())
    size = settings.get("size")
    blank = [f"{recipe['blank']} of {escape(name)}" for name, recipe in figures["recipes"].items() if recipe["blank"]]
    facts = [
        f"{photographs} photographs" + (f", {failed} failed" if failed else ""),
        "the true classes were asked for" if settings["labels"] == "truth" else "the classifier chose the classes",
        f"squashed to {size} &times; {size}" if size else "at each photograph&rsquo;s own size",
        f"classifier {_source(settings)}",
    ]
    if blank:
        facts.append(f"without a mask, since their saliency is blank: {', '.join(blank)}; they count as not found")
    if any(name in figures["recipes"] for name in BASELINES):
        facts.append(
            "<i>whole</i> is a mask of the whole photograph, <i>box</i> a centre box of "
            f"{BASELINES['box'].side:.0%} of its height and width"
        )
    confidence = figures["bootstrap"]["confidence"]
    facts.append(
        f"intervals: {confidence:.0%}, bootstrap over photographs, {figures['bootstrap']['resamples']} resamples"
    )
    return "".join(f"<li>{fact}</li>" for fact in facts)


def _source(settings: Mapping[str, Any]) -> str:
    source = settings.get("source") or {}
    if source.get("folds"):
        return "out of fold: each photograph judged by a head that was fitted without it"
    return escape(str(source.get("classifier", "of your own")))


def _measures(figures: Mapping[str, Any]) -> str:
    """What each column of `NAMES` that the table has means, one line each."""
    lines = [
        f"<li><b>{title}</b>: {escape(about)}</li>"
        for key, (title, about) in NAMES.items()
        if any(recipe[key]["n"] for recipe in figures["recipes"].values())
    ]
    return "".join(lines)


def _main_table(figures: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    recipes = figures["recipes"]
    columns: list[tuple[str, str, tuple[str, ...]]] = [
        (*NAMES[key], (key,)) for key in NAMES if any(recipe[key]["n"] for recipe in recipes.values())
    ]
    if any("protocol" in recipe for recipe in recipes.values()):
        about = "ImageNet-Segmentation's protocol for the saliency, at 224 by 224"
        columns += [(f"protocol {NAMES[key][0]}", about, ("protocol", key)) for key in PROTOCOL]

    def get(recipe: Mapping[str, Any], path: tuple[str, ...]) -> Any:
        for key in path:
            recipe = recipe.get(key) or {}
        return recipe

    head = "".join(f'<th data-sort title="{escape(about)}">{escape(title)}</th>' for title, about, _ in columns)
    best = [
        max(
            (f["value"] for row in recipes.values() if (f := get(row, path)) and f["value"] is not None),
            default=None,
        )
        for _, _, path in columns
    ]
    body = "".join(
        f"<tr>{row_name(name, colours)}"
        + "".join(
            cell(figure := get(recipe, path), best=bool(figure) and top is not None and figure["value"] == top)
            for (_, _, path), top in zip(columns, best, strict=True)
        )
        + "</tr>"
        for name, recipe in recipes.items()
    )
    return f'<table class="sort"><thead><tr><th data-sort>recipe</th>{head}</tr></thead><tbody>{body}</tbody></table>'


def _differences(figures: Mapping[str, Any]) -> str:
    body = []
    for entry in figures["differences"]:
        cells = []
        for key in COMPARED:
            interval = entry[key]["interval"]
            sure = interval is not None and (interval[0] > 0 or interval[1] < 0)
            cells.append(cell(entry[key], best=sure, sign="+"))
        a, b = map(escape, entry["recipes"])
        body.append(f'<tr><th scope="row">{a} &minus; {b}</th>{"".join(cells)}</tr>')
    head = "".join(f"<th data-sort>{NAMES[key][0]}</th>" for key in COMPARED)
    return (
        f'<table class="sort"><thead><tr><th data-sort>difference</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _plots(figures: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    plots = []
    for key, groups, what in (("by_size", SIZES, "largest instance"), ("by_number", NUMBERS, "number of instances")):
        for measure in ("class_iou", "union_iou"):
            of = "of the class" if measure == "class_iou" else "in the photograph"
            title = f"{NAMES[measure][0]} by {what} {of}"
            series = {
                name: [recipe[key][group][measure] for group in groups] for name, recipe in figures["recipes"].items()
            }
            if any(figure["n"] for values in series.values() for figure in values):
                plots.append(f"<figure><figcaption>{title}</figcaption>{_plot(list(groups), series, colours)}</figure>")
    return "".join(plots)


def _plot(groups: Sequence[str], series: Mapping[str, Sequence[Mapping[str, Any]]], colours: Mapping[str, str]) -> str:
    """Dots with their intervals, one group beside the other."""
    width, height, left, bottom, top = 440, 230, 34, 40, 10
    tallest = max(
        (f["interval"] or [0, f["value"]])[1] for values in series.values() for f in values if f["value"] is not None
    )
    ceiling = min(1.0, max(0.2, np.ceil(tallest * 10) / 10))

    def y(value: float) -> float:
        return float(top + (height - top - bottom) * (1 - value / ceiling))

    marks = []
    for step in np.arange(0, ceiling + 1e-9, 0.1 if ceiling <= 0.6 else 0.2):
        marks.append(f'<line class="grid" x1="{left}" x2="{width}" y1="{y(step):.1f}" y2="{y(step):.1f}"/>')
        marks.append(f'<text x="{left - 6}" y="{y(step) + 4:.1f}" text-anchor="end">{step:.1f}</text>')
    slot = (width - left) / len(groups)
    for g, group in enumerate(groups):
        middle = left + (g + 0.5) * slot
        n = max(values[g]["n"] for values in series.values())
        marks.append(f'<text x="{middle:.1f}" y="{height - 22}" text-anchor="middle">{escape(group)}</text>')
        marks.append(f'<text class="faint" x="{middle:.1f}" y="{height - 6}" text-anchor="middle">n = {n}</text>')
        for s, (name, values) in enumerate(series.items()):
            figure = values[g]
            if figure["value"] is None:
                continue
            x = middle + (s - (len(series) - 1) / 2) * min(16, slot * 0.8 / len(series))
            low, high = figure["interval"] or [figure["value"]] * 2
            about = f"{name}, {group}: {figure['value']:.3f} ({low:.3f} to {high:.3f})"
            marks.append(
                f'<g style="color:{colours[name]}"><title>{escape(about)}</title>'
                f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}"/>'
                f"{mark(name, x, y(figure['value']))}</g>"
            )
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(marks)}</svg>'


def _class_table(figures: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    recipes = figures["recipes"]
    labels = sorted({label for recipe in recipes.values() for label in recipe["by_class"]})
    head = "".join(f'<th data-sort><i style="background:{colours[name]}"></i>{escape(name)}</th>' for name in recipes)
    body = []
    for label in labels:
        cells = [recipe["by_class"].get(label) for recipe in recipes.values()]
        n = max(figure["n"] for figure in cells if figure)
        body.append(
            f'<tr data-label="{escape(label)}"><th scope="row">{escape(label)}</th><td class="n" data-v="{n}">{n}</td>'
            + "".join(cell(figure and {**figure, "interval": None}) for figure in cells)
            + "</tr>"
        )
    return (
        f'<table class="sort"><thead><tr><th data-sort>class</th><th data-sort>photographs</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _pair_table(rows: Sequence[Row], recipes: Sequence[str]) -> str:
    """Every class in every photograph; the script builds the table, so that it is not in the page twice."""
    table: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        for label, entry in row.get("classes", {}).items():
            line = table.setdefault(
                (row["photograph"], label),
                [row["photograph"], label, entry["instances"], round(entry["largest"], 4), *[None] * len(recipes)],
            )
            value = Counts(*entry["counts"]).iou
            line[4 + list(recipes).index(row["recipe"])] = None if value is None else round(value, 3)
    document = {"recipes": list(recipes), "rows": list(table.values())}
    # A closing tag inside would end the script.
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _gallery(cards: Sequence[Card], colours: Mapping[str, str], by: str | None) -> str:
    articles = []
    for number, card in enumerate(cards):
        choice = card.choice
        about = f"{choice.label} in {choice.photograph}"
        rows = []
        for name, panels in card.recipes.items():
            rows.append(
                f'<div class="strip"><h4><i style="background:{colours[name]}"></i>{escape(name)}</h4>'
                f"{''.join(panel(*each, about) for each in panels)}</div>"
            )
        truth = "".join(panel(*each, about) for each in card.truth)
        value = choice.ious.get(by or "", statistics.fmean(choice.ious.values()))
        ious = "".join(f' data-iou-{n}="{choice.ious.get(name, -1):.4f}"' for n, name in enumerate(colours))
        articles.append(
            f'<article data-label="{escape(choice.label)}" data-group="{choice.group}" data-order="{number}"{ious}>'
            f"<h3>{escape(choice.label)} <b>{value:.2f}</b> <small>{choice.group} · {escape(choice.photograph)}</small>"
            f'</h3><div class="pair"><div class="truth">{truth}</div>'
            f'<div class="strips">{"".join(rows)}</div></div></article>'
        )
    return "".join(articles)
