"""An audit to one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from gradcut import images, pictures
from gradcut.audit.measuring import VERDICTS, Case, known_labels, maps_of
from gradcut.classifiers import Classifier
from gradcut.datasets import Dataset
from gradcut.evaluation.report_parts import data_uri, filled, resource
from gradcut.pictures import Picture
from gradcut.saliency import Saliency

#: Where its own files are, and those that it shares with the page of scores.
_FOLDER, _REPORT = ("audit", "audit_page"), ("evaluation", "report_page")

#: Of a card's pictures, in pixels: the greatest height and width.
_HIGH, _WIDE = 300, 400
_TRUTH = np.array([[255, 255, 255]])


@dataclass(frozen=True, eq=False)
class Card:
    """A case with its photograph and its map, both with the outline of the true mask in white."""

    case: Case
    photograph: Picture = field(repr=False)
    saliency: Picture = field(repr=False)


def draw(cases: Sequence[Case], dataset: Dataset, classifier: Classifier, method: Saliency) -> Iterator[Card]:
    """Ask for the maps of these cases again, and draw them.

    Raises:
        GradcutError: a photograph that was there is not any more.
    """
    members = known_labels(classifier, dataset)
    for name in dict.fromkeys(case.photograph for case in cases):
        sample = dataset.load(name)
        maps = maps_of(sample, classifier, method, members)
        height, width = sample.image.shape[:2]
        scale = min(_HIGH / height, _WIDE / width, 1.0)
        size = max(1, round(height * scale)), max(1, round(width * scale))
        for case in cases:
            if case.photograph == name:
                mask = sample.masks[case.label]
                twice = images.resize(sample.image, (2 * size[0], 2 * size[1]))
                glowing = pictures.glow(twice, maps[case.label])
                yield Card(case, _outlined(twice, mask, size), _outlined(glowing, mask, size))


def _outlined(picture: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "H W"], size: tuple[int, int]) -> Picture:
    inside = images.resize_mask(mask, (picture.shape[0], picture.shape[1])).astype(np.int32)
    return images.resize(pictures.overlay(picture, inside, 0.0, 4, colours=_TRUTH), size)


def page(
    cases: Sequence[Case],
    figures: Mapping[str, Any],
    settings: Mapping[str, Any],
    cards: Sequence[Card] = (),
    errors: Sequence[str] = (),
) -> str:
    """The whole page as HTML.

    Args:
        cases: as `gradcut.audit.ranked` orders them.
        figures: as `gradcut.audit.summarise` makes them of these.
        settings: ``title`` of the data set, ``method`` and ``classifier``, a sentence each, and what else was set.
        cards: of the gallery, in any order.
        errors: a line for each photograph that could not be judged.
    """
    parts = {
        "title": escape(f"gradcut audit: {settings['title']}"),
        "style": resource(*_REPORT, "report.css") + resource(*_FOLDER, "audit.css"),
        "script": resource(*_REPORT, "tables.js") + resource(*_FOLDER, "audit.js"),
        "facts": "".join(f"<li>{escape(fact)}</li>" for fact in _facts(figures, settings, errors)),
        "tiles": _tiles(figures),
        "classes": _classes(figures),
        "verdicts": "".join(
            f'<li><span class="verdict v{number}">{escape(name)}</span> {escape(about)}</li>'
            for number, (name, about) in enumerate(VERDICTS.items())
        ),
        "choices": "".join(f"<option>{escape(verdict)}</option>" for verdict in VERDICTS),
        "gallery": _gallery(cases, cards),
        "settings": escape(json.dumps(settings, indent=1, ensure_ascii=False)),
        "cases": _document(cases),
    }
    return filled(resource(*_FOLDER, "audit.html"), parts)


def _facts(figures: Mapping[str, Any], settings: Mapping[str, Any], errors: Sequence[str]) -> list[str]:
    whole, bootstrap = figures["all"], figures["bootstrap"]
    facts = [
        f"{_number(whole['photographs'], 'photograph')}, {_number(whole['cases'], 'class', 'classes')} in them",
        f"classifier {settings['classifier']['name']}",
        f"evidence by {settings['method']}",
        f"truth: {settings['truth']}",
        f"intervals: {bootstrap['confidence']:.0%}, bootstrap over photographs, {bootstrap['resamples']} resamples",
    ]
    return facts + ([f"{_number(len(errors), 'photograph')} could not be judged"] if errors else [])


def _number(number: int, one: str, several: str | None = None) -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def _tiles(figures: Mapping[str, Any]) -> str:
    """What there is to know in three numbers."""
    whole = figures["all"]
    told = [
        ("inside", "of the evidence lies on the object", f"{_share(whole['area'])} would be chance"),
        ("elsewhere", "of what is seen has its evidence elsewhere", f"of {whole['elsewhere']['n']} that are seen"),
        ("wrong_reason", "is right for the wrong reason", "evidence elsewhere, seen without the object"),
    ]
    return "".join(
        f'<div class="tile t{number}"><b>{_share(whole[key])}</b><span>{words}</span>'
        f"<small>{_interval(whole[key])}{' · ' if whole[key]['interval'] else ''}{more}</small></div>"
        for number, (key, words, more) in enumerate(told)
    )


def _share(figure: Mapping[str, Any]) -> str:
    return "&ndash;" if figure["value"] is None else f"{figure['value']:.0%}"


def _interval(figure: Mapping[str, Any]) -> str:
    return "" if figure["interval"] is None else f"{figure['interval'][0]:.0%} to {figure['interval'][1]:.0%}"


def _classes(figures: Mapping[str, Any]) -> str:
    head = "".join(
        f'<th data-sort title="{about}">{title}</th>'
        for title, about in (
            ("photographs", "with the class"),
            ("evidence on it", "share of the map's sum in the true masks; the mark is what chance puts there"),
            ("chance", "share of the photograph that the masks cover"),
            ("above chance", "the difference"),
            ("seen", "share of the photographs with the class in which the classifier sees it"),
            ("elsewhere", "share of these with the evidence elsewhere"),
            ("wrong reason", "share of these with the evidence elsewhere, seen with the object painted over, too"),
        )
    )
    body = []
    for label, entry in {"all classes": figures["all"], **figures["by_class"]}.items():
        body.append(
            f'<tr{" class=whole" if entry is figures["all"] else ""}><th scope="row">{escape(label)}</th>'
            f'<td class="n" data-v="{entry["photographs"]}">{entry["photographs"]}</td>'
            f"{_cell(entry['inside'], _bar(entry['inside']['value'], entry['area']['value']))}{_cell(entry['area'])}"
            f"{_cell(entry['gain'], sign='+')}{_cell(entry['seen'])}{_cell(entry['elsewhere'])}"
            f"{_cell(entry['wrong_reason'])}</tr>"
        )
    head = f"<thead><tr><th data-sort>class</th>{head}</tr></thead>"
    return f'<table class="sort">{head}<tbody>{"".join(body)}</tbody></table>'


def _cell(figure: Mapping[str, Any], bar: str = "", sign: str = "") -> str:
    if figure["value"] is None:
        return '<td class="n" data-v="">&ndash;</td>'
    interval = figure["interval"]
    value, *ends = (f"{round(100 * number):{sign}d}" for number in (figure["value"], *(interval or ())))
    between = f"<small>{ends[0]} to {ends[1]}</small>" if ends else ""
    return f'<td class="n" data-v="{figure["value"]:.6f}">{value} %{bar}{between}</td>'


def _bar(inside: float | None, area: float | None) -> str:
    """How much lies on the object, with a mark where chance is."""
    if inside is None or area is None:
        return ""
    return f'<span class="bar"><i style="width:{100 * inside:.1f}%"></i><u style="left:{100 * area:.1f}%"></u></span>'


def _gallery(cases: Sequence[Case], cards: Sequence[Card]) -> str:
    order = {(case.photograph, case.label): number for number, case in enumerate(cases)}
    verdicts = list(VERDICTS)
    articles = []
    for card in sorted(cards, key=lambda card: order[card.case.photograph, card.case.label]):
        case = card.case
        inside = "blank" if case.inside is None else f"{case.inside:.0%}"
        number = verdicts.index(case.verdict)
        looks = _figure(card.photograph, "photograph", case) + _figure(card.saliency, "evidence", case)
        articles.append(
            f'<article data-label="{escape(case.label)}" data-verdict="{escape(case.verdict)}" '
            f'data-order="{order[case.photograph, case.label]}" data-inside="{case.inside or 0:.4f}" '
            f'data-score="{case.score:.4f}" data-without="{case.without:.4f}">'
            f'<h3>{escape(case.label)} <span class="verdict v{number}">{escape(case.verdict)}</span>'
            f"<small>{escape(case.photograph)}</small></h3>"
            f'<div class="looks">{looks}</div>'
            f"{_bar(case.inside, case.area)}<dl><div><dt>evidence on it</dt><dd>{inside}</dd></div>"
            f"<div><dt>chance</dt><dd>{case.area:.0%}</dd></div><div><dt>score</dt><dd>{case.score:.2f}</dd></div>"
            f"<div><dt>without it</dt><dd>{case.without:.2f}</dd></div>"
            f"<div><dt>it alone</dt><dd>{case.alone:.2f}</dd></div></dl></article>"
        )
    return "".join(articles)


def _figure(picture: Picture, caption: str, case: Case) -> str:
    source = data_uri(picture, quality=74)
    about = escape(f"{caption}: {case.label} in {case.photograph}")
    height, width = picture.shape[:2]
    return f'<img loading="lazy" width="{width}" height="{height}" alt="{about}" src="{source}">'


def _document(cases: Sequence[Case]) -> str:
    """Every case; the script makes the table, so that it is not in the page twice."""

    def short(value: float | None) -> float | None:
        return None if value is None else round(value, 4)

    rows = [
        [case.photograph, case.label, case.verdict, *map(short, (case.inside, case.area, case.beyond, case.score,
         case.without, case.alone))]
        for case in cases
    ]  # fmt: skip
    # A closing tag inside would end the script.
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
