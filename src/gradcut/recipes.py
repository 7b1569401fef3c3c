"""Recipes: named settings of the steps from a photograph to masks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from gradcut.errors import GradcutError
from gradcut.masks import ColourCut, Expansion, GraphCut, MaskMaker
from gradcut.saliency import (
    DeconvNet,
    Gradient,
    GuidedBackprop,
    MultiScale,
    PlaceProbability,
    Rivals,
    Saliency,
    Walk,
    scales_of,
)
from gradcut.seeds import Fractions, Percentiles, SeedRule


@dataclass(frozen=True)
class Recipe:
    """A named choice of every step.

    Args:
        summary: one line for a person.
        size: of the classifier's input, height and width; None leaves the classifier's own.
        detail: how many times that size the photographs given to the saliency method have; None takes the largest that
            it looks at. Above 1 it is for methods that look at several sizes, as `MultiScale`; the maps come back at
            the classifier's size.
    """

    name: str
    summary: str
    saliency: Saliency
    seeds: SeedRule
    masks: MaskMaker
    size: int | tuple[int, int] | None = None
    detail: float | None = None

    def __post_init__(self) -> None:
        if self.detail is not None and not 0 < self.detail < float("inf"):
            raise GradcutError(f"detail: expected a number above 0, got {self.detail}")

    @property
    def largest(self) -> float:
        """``detail``, or what it stands for."""
        return max(scales_of(self.saliency)) if self.detail is None else self.detail

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what the steps are, in hexadecimal digits."""
        steps = (self.saliency, self.seeds, self.masks, self.size, self.largest)
        return hashlib.sha256(repr(steps).encode()).hexdigest()


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "default",
            "classes of places (or activation maps) at three sizes, rivalry, affinity of features, cut with colours",
            Walk(Rivals(MultiScale(PlaceProbability(), (1.0, 5 / 3, 8 / 3), flip=False)), steps=(8, 4)),
            Fractions(0.95, 0.02),
            ColourCut(),
        ),
        Recipe(
            "fast",
            "as default, from one forward pass at one size",
            Walk(Rivals(PlaceProbability()), steps=(8, 4)),
            Fractions(0.95, 0.02),
            ColourCut(middle=0.6),
        ),
        Recipe(
            "simonyan",
            "gradient of the probability, 95th and 30th percentile, graph cut, at 448 x 448",
            Gradient(of="probability"),
            Percentiles(95, 30),
            GraphCut(),
            size=448,
        ),
        Recipe(
            "guided",
            "as simonyan, with guided backpropagation",
            GuidedBackprop(of="probability"),
            Percentiles(95, 30),
            GraphCut(),
            size=448,
        ),
        Recipe(
            "deconvnet",
            "as simonyan, with DeconvNet's backward ReLU",
            DeconvNet(of="probability"),
            Percentiles(95, 30),
            GraphCut(),
            size=448,
        ),
        Recipe(
            "expansion",
            "gradient of the probability, grown from its 50 highest pixels over those above its 90th percentile",
            Gradient(of="probability"),
            Percentiles(90, 30),
            Expansion(50, 90),
            size=448,
        ),
    )
}


def as_recipe(recipe: Recipe | str) -> Recipe:
    """The recipe of that name, or the recipe itself.

    Raises:
        GradcutError: no recipe has that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise GradcutError(f"recipe: expected one of {', '.join(RECIPES)}, got {recipe!r}")
    return RECIPES[recipe]
