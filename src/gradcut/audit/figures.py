"""What many cases say together: means with intervals, of all classes and of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradcut.audit.measuring import VERDICTS, Case
from gradcut.evaluation.bootstrap import Bootstrap, Figure

#: What is counted of a case, None where it does not count; each has a mean.
_COUNTED: Mapping[str, Callable[[Case], float | None]] = {
    "inside": lambda case: case.inside,
    "area": lambda case: None if case.inside is None else case.area,
    "gain": lambda case: None if case.inside is None else case.inside - case.area,
    "beyond": lambda case: case.beyond,
    "pointing": lambda case: None if case.pointing is None else float(case.pointing),
    "seen": lambda case: float(case.seen),
    "elsewhere": lambda case: float(case.verdict in list(VERDICTS)[:2]) if case.seen else None,
    "wrong_reason": lambda case: float(case.verdict == "without the object") if case.seen else None,
}


def summarise(cases: Sequence[Case], resamples: int = 1000) -> dict[str, Any]:
    """Figures of all the cases together and of each class, with intervals over photographs.

    Returns:
        ``all``, and ``by_class`` by label, the worst first: each with ``photographs``, ``cases``, a count for each of
        `VERDICTS`, and the means ``inside``, ``area``, ``gain`` (inside - area), ``beyond`` and ``pointing`` as in
        `Case`; ``seen``, the share of the cases that are seen; of these the shares ``elsewhere``, whose evidence is,
        and ``wrong_reason``, which of these are seen without the object, too. ``bootstrap`` says how the intervals were
        made.
    """
    bootstrap = Bootstrap(resamples)
    classes = {
        label: _figures([case for case in cases if case.label == label], bootstrap)
        for label in sorted({case.label for case in cases})
    }

    def worst(label: str) -> tuple[bool, float]:
        value = classes[label]["gain"]["value"]
        return value is None, value or 0.0

    return {
        "all": _figures(cases, bootstrap),
        "by_class": {label: classes[label] for label in sorted(classes, key=worst)},
        "bootstrap": {"resamples": resamples, "seed": bootstrap.seed, "confidence": bootstrap.confidence},
    }


def _figures(cases: Sequence[Case], bootstrap: Bootstrap) -> dict[str, Any]:
    photographs: dict[str, list[Case]] = {}
    for case in cases:
        photographs.setdefault(case.photograph, []).append(case)

    def mean(count: Callable[[Case], float | None]) -> Figure:
        counted = [[count(case) for case in several] for several in photographs.values()]
        return bootstrap.mean([[value for value in values if value is not None] for values in counted])

    return {
        "photographs": len(photographs),
        "cases": len(cases),
        "verdicts": {verdict: sum(case.verdict == verdict for case in cases) for verdict in VERDICTS},
        **{name: mean(count) for name, count in _COUNTED.items()},
    }
