"""The report's section on what the network says of the maps: tables, curves, and the maps side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from gradcut.catalogue import FAITHFULNESS
from gradcut.evaluation.gallery import Card
from gradcut.evaluation.report_parts import cell, panel, row_name
from gradcut.evaluation.scoring import Row

#: What a curve is, and along what it goes.
CURVES: Mapping[str, tuple[str, str]] = {
    "deletion": ("Deletion: the most important pixels are covered", "share of the pixels"),
    "insertion": ("Insertion: the most important pixels are put into the blurred photograph", "share of the pixels"),
    "most": ("ROAD: the most relevant pixels are removed first", "share of the pixels"),
    "least": ("ROAD: the least relevant pixels are removed first", "share of the pixels"),
    "randomisation": ("Likeness of the map where layers are shuffled, from the top", "share of the layers"),
}


def section(rows: Sequence[Row], figures: Mapping[str, Any], cards: Sequence[Card], colours: Mapping[str, str]) -> str:
    """The section as HTML; nothing where no recipe has such figures."""
    recipes = {key: recipe for key, recipe in figures["recipes"].items() if "faithfulness" in recipe}
    measures = [measure for measure in FAITHFULNESS if any(measure in r["faithfulness"] for r in recipes.values())]
    if not measures:
        return ""
    meant = "".join(
        f"<li><b>{measure}</b>: {escape('; '.join(FAITHFULNESS[measure].split('; ')[:2]))}</li>" for measure in measures
    )
    return (
        '<section id="faithfulness"><h2>What the network says of the maps</h2>'
        "<p>Measures that ask the network, not the truth. The best of each column is bold; in the second table what "
        "leaves out 0.</p>"
        f'<div class="wide">{_table(recipes, measures, colours)}</div><ul class="measures">{meant}</ul>'
        f'<div class="wide below">{_differences(figures, measures)}</div>'
        f'<div class="plots below">{_curves(recipes, colours)}</div>{_maps(rows, cards, measures)}</section>'
    )


def _table(recipes: Mapping[str, Any], measures: Sequence[str], colours: Mapping[str, str]) -> str:
    best = {}
    for measure in measures:
        values = [r["faithfulness"][measure]["value"] for r in recipes.values() if measure in r["faithfulness"]]
        known = [value for value in values if value is not None]
        if "better" in FAITHFULNESS[measure]:
            best[measure] = (min if "lower is better" in FAITHFULNESS[measure] else max)(known, default=None)
    body = "".join(
        f"<tr>{row_name(key, colours)}"
        + "".join(
            cell(of, best=of is not None and of["value"] is not None and of["value"] == best.get(measure))
            for measure in measures
            for of in [recipe["faithfulness"].get(measure)]
        )
        + "</tr>"
        for key, recipe in recipes.items()
    )
    return _sorted("recipe", measures, body)


def _differences(figures: Mapping[str, Any], measures: Sequence[str]) -> str:
    body = []
    for entry in figures["differences"]:
        if "faithfulness" not in entry:
            continue
        cells = []
        for measure in measures:
            of = entry["faithfulness"].get(measure)
            interval = of and of["interval"]
            cells.append(cell(of, best=bool(interval) and (interval[0] > 0 or interval[1] < 0), sign="+"))
        a, b = map(escape, entry["recipes"])
        body.append(f'<tr><th scope="row">{a} &minus; {b}</th>{"".join(cells)}</tr>')
    return _sorted("difference", measures, "".join(body)) if body else ""


def _sorted(first: str, measures: Sequence[str], body: str) -> str:
    head = "".join(f"<th data-sort>{measure}</th>" for measure in measures)
    return f'<table class="sort"><thead><tr><th data-sort>{first}</th>{head}</tr></thead><tbody>{body}</tbody></table>'


def _curves(recipes: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    plots = []
    for curve, (title, along) in CURVES.items():
        series = {key: recipe["curves"][curve] for key, recipe in recipes.items() if curve in recipe["curves"]}
        if series:
            plots.append(f"<figure><figcaption>{title}</figcaption>{_plot(series, along, colours)}</figure>")
    return "".join(plots)


def _plot(series: Mapping[str, Mapping[str, Any]], along: str, colours: Mapping[str, str]) -> str:
    """Mean curves in bands of their intervals, over shares from 0 to 1."""
    width, height, left, bottom, top = 440, 240, 40, 34, 10
    bounds = [
        bound
        for curve in series.values()
        for figure in curve["figures"]
        for bound in [figure["value"], *(figure["interval"] or [])]
        if bound is not None
    ]
    ticks = _ticks(min(0.0, *bounds), max(*bounds, 1e-3))
    low, high = ticks[0], ticks[-1]

    def at(share: float, value: float) -> str:
        x = left + (width - left - 14) * share  # half of the last number finds room
        y = top + (height - top - bottom) * (high - value) / (high - low)
        return f"{x:.1f},{y:.1f}"

    marks = []
    for value in ticks:
        y = at(0, value).split(",")[1]
        marks.append(f'<line class="grid" x1="{left}" x2="{width}" y1="{y}" y2="{y}"/>')
        marks.append(f'<text x="{left - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for step in range(6):
        x = at(step / 5, 0).split(",")[0]
        marks.append(f'<text x="{x}" y="{height - 18}" text-anchor="middle">{step / 5:.1f}</text>')
    marks.append(f'<text class="faint" x="{width / 2}" y="{height - 3}" text-anchor="middle">{along}</text>')
    for key, curve in series.items():
        points = [
            (share, f) for share, f in zip(curve["shares"], curve["figures"], strict=True) if f["value"] is not None
        ]
        bands = [(share, f["interval"] or [f["value"]] * 2) for share, f in points]
        around = [at(share, band[1]) for share, band in bands] + [at(share, band[0]) for share, band in reversed(bands)]
        line = " ".join(at(share, f["value"]) for share, f in points)
        marks.append(
            f'<g style="color:{colours[key]}"><title>{escape(key)}</title>'
            f'<polygon class="band" points="{" ".join(around)}"></polygon>'
            f'<polyline class="curve" points="{line}"></polyline></g>'
        )
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(along)}">{"".join(marks)}</svg>'


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers at equal distances, five steps or a few more, from at most the one to at least the other."""
    power = 10.0 ** math.floor(math.log10((high - low) / 5))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= (high - low) / 5 - 1e-12)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.6g}") for number in range(first, last + 1)]


def _maps(rows: Sequence[Row], cards: Sequence[Card], measures: Sequence[str]) -> str:
    """A line of pictures a card: the photograph, and each recipe's map with what the network says of it."""
    entries = {
        (row["photograph"], row["recipe"], label): entry["faithfulness"]
        for row in rows
        for label, entry in row.get("classes", {}).items()
        if "faithfulness" in entry
    }
    lines = []
    for card in cards:
        choice = card.choice
        about = f"{choice.label} in {choice.photograph}"
        pictures = [panel(*card.truth[0], about)]
        for key, panels in card.recipes.items():
            values = entries.get((choice.photograph, key, choice.label), {})
            said = ", ".join(f"{m} {values[m]:.2f}" for m in measures[:3] if values.get(m) is not None)
            pictures.append(panel(f"{key}{': ' if said else ''}{said}", panels[0][1], about))
        lines.append(f'<div class="maps"><h4>{escape(about)}</h4>{"".join(pictures)}</div>')
    return f'<h3 class="below">Maps side by side</h3>{"".join(lines)}' if lines else ""
