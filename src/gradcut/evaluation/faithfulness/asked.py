"""`Faithfulness`: several measures of the maps of one photograph, as rows have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Float
from torch import Tensor

from gradcut.catalogue import FAITHFULNESS, check
from gradcut.classifiers import Classifier
from gradcut.errors import EvaluationError, check_least
from gradcut.evaluation.faithfulness.curves import Curve, Map, deletion, drop, insertion
from gradcut.evaluation.faithfulness.maps import arcc, area, complexity, gini
from gradcut.evaluation.faithfulness.road import SHARES, road, road_gap
from gradcut.evaluation.faithfulness.stability import Explanation, coherency, infidelity, randomisation, sensitivity
from gradcut.saliency import Saliency


class _Lot(TypedDict):
    seed: int
    batch: int


@dataclass(frozen=True)
class Faithfulness:
    """Which measures of `gradcut.evaluation.faithfulness` to make, and how finely.

    The score is the class's probability everywhere.

    Args:
        measures: names in `gradcut.catalogue.FAITHFULNESS`.
        steps: of `deletion` and `insertion`.
        squares: of `infidelity`.
        moves: of `sensitivity`.
        stages: of `randomisation`.
        seed: of all that is drawn by lot.
        batch: so many versions of a photograph go through the network at once.

    Raises:
        EvaluationError: no measure, an unknown one, or a number out of range.
    """

    measures: tuple[str, ...] = ("deletion", "insertion", "drop", "increase", "road")
    steps: int = 10
    squares: int = 30
    moves: int = 10
    stages: int = 5
    seed: int = 0
    batch: int = 16

    def __post_init__(self) -> None:
        if not self.measures:
            raise EvaluationError(f"measures: expected one at least of {', '.join(FAITHFULNESS)}, got none")
        names = [check("measures", name, FAITHFULNESS, EvaluationError) for name in self.measures]
        # In their own order, so that the same choice is the same record.
        object.__setattr__(self, "measures", tuple(name for name in FAITHFULNESS if name in names))
        check_least(EvaluationError, self, steps=1, squares=1, moves=1, stages=1, seed=0, batch=1)

    def record(self) -> dict[str, Any]:
        """What its numbers depend on, as JSON values. The batch is not among it."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items() if key != "batch"}

    def __call__(
        self,
        classifier: Classifier,
        method: Saliency,
        x: Float[Tensor, "1 3 h w"],
        groups: Sequence[tuple[int, ...]],
        maps: Sequence[Map],
    ) -> list[dict[str, Any]]:
        """The measures of each class, as JSON values; None where one is not defined.

        ``curves`` has the scores of deletion and insertion at equal steps from none to all of the pixels, and those of
        ROAD at `road.SHARES`, ``most`` and ``least`` relevant first.

        Args:
            method: what made the maps, for the measures that make more.
            groups: the classes of each map, as a recipe asks for them together.

        Raises:
            GradcutError: as the measures.
        """
        parts = [self._of_map(classifier, x, map, members) for members, map in zip(groups, maps, strict=True)]
        if groups and {"sensitivity", "randomisation", "arcc"} & {*self.measures}:
            self._of_method(classifier, x, Explanation(method, tuple(groups)), maps, parts)
        return [{name: part[name] for name in (*self.measures, "curves") if name in part} for part in parts]

    def _of_map(
        self,
        classifier: Classifier,
        x: Float[Tensor, "1 3 h w"],
        map: Float[np.ndarray, "h w"],
        members: tuple[int, ...],
    ) -> dict[str, Any]:
        asked, lot = {*self.measures}, _Lot(seed=self.seed, batch=self.batch)
        values: dict[str, Any] = {}
        curves: dict[str, Curve] = {}
        if "deletion" in asked:
            curves["deletion"] = deletion(classifier, x, map, members, steps=self.steps, **lot)
        if "insertion" in asked:
            curves["insertion"] = insertion(classifier, x, map, members, steps=self.steps, **lot)
        values |= {name: curve.area for name, curve in curves.items()}
        if asked & {"drop", "increase"}:
            lost = drop(classifier, x, map, members, batch=self.batch)
            values |= {"drop": lost.drop, "increase": lost.increase}
        if asked & {"road", "arcc"}:
            curves |= {
                name: road(classifier, x, map, members, most_relevant_first=name == "most", **lot)
                for name in ("most", "least")
            }
            values["road"] = road_gap(curves["most"], curves["least"])
        if "infidelity" in asked:
            values["infidelity"] = infidelity(classifier, x, map, members, samples=self.squares, **lot)
        if "sparseness" in asked:
            values["sparseness"] = gini(map)
        if "complexity" in asked:
            values["complexity"] = complexity(map)
        return values | ({"curves": {name: list(curve.scores) for name, curve in curves.items()}} if curves else {})

    def _of_method(
        self,
        classifier: Classifier,
        x: Float[Tensor, "1 3 h w"],
        explanation: Explanation,
        maps: Sequence[Map],
        parts: Sequence[dict[str, Any]],
    ) -> None:
        """Add what needs more maps to what each class has."""
        more: dict[str, Sequence[Any]] = {}
        if "sensitivity" in self.measures:
            more["sensitivity"] = sensitivity(classifier, x, explanation, samples=self.moves, seed=self.seed)
        if "randomisation" in self.measures:
            several = randomisation(classifier, x, explanation, stages=self.stages, seed=self.seed)
            more["randomisation"] = [float(np.mean(each.spearman)) for each in several]
            for part, each in zip(parts, several, strict=True):
                part.setdefault("curves", {})["randomisation"] = list(each.spearman)
        if "arcc" in self.measures:
            coherencies = coherency(classifier, x, explanation)
            more["arcc"] = [
                arcc(value, area(map), part["road"]) for value, map, part in zip(coherencies, maps, parts, strict=True)
            ]
        for name, values in more.items():
            for part, value in zip(parts, values, strict=True):
                part[name] = value


def shares_of(curve: str, number: int) -> tuple[float, ...]:
    """Where along the way a row's curve has its scores: shares of pixels, or of layers."""
    if curve in ("most", "least"):
        return SHARES
    if curve == "randomisation":
        return tuple((stage + 1) / number for stage in range(number))
    return tuple(step / (number - 1) for step in range(number))
