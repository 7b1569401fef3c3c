"""Whether a map says what the network used: measures that ask the network, not the truth.

Each is a function of a classifier, a photograph ``x: Float "1 3 h w"`` as `Classifier.prepare` makes it, a map
``Float "h w"`` of at least 0 of the same size, and a class; those that make maps again take an `Explanation`.
`Faithfulness` asks for several at once, as rows have them. What depends on chance has a seed.
"""

from gradcut.evaluation.faithfulness.asked import Faithfulness
from gradcut.evaluation.faithfulness.curves import Curve, Drop, blurred, deletion, drop, insertion, ranked
from gradcut.evaluation.faithfulness.maps import arcc, area, complexity, gini
from gradcut.evaluation.faithfulness.road import imputed, road, road_gap
from gradcut.evaluation.faithfulness.stability import (
    Explanation,
    Randomised,
    coherency,
    infidelity,
    randomisation,
    sensitivity,
    shuffled,
    spearman,
)

__all__ = [
    "Curve",
    "Drop",
    "Explanation",
    "Faithfulness",
    "Randomised",
    "arcc",
    "area",
    "blurred",
    "coherency",
    "complexity",
    "deletion",
    "drop",
    "gini",
    "imputed",
    "infidelity",
    "insertion",
    "randomisation",
    "ranked",
    "road",
    "road_gap",
    "sensitivity",
    "shuffled",
    "spearman",
]
