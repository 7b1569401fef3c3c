"""Recipes: named settings of the steps from a photograph to masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float

from gradcut import __version__, catalogue, saliency
from gradcut.classifiers import Classifier
from gradcut.classifiers.words import words_of
from gradcut.compact import CompactMask
from gradcut.errors import GradcutError, MaskError, SeedError
from gradcut.images import Photograph
from gradcut.masks import Cleaned, ColourCut, Expansion, GraphCut, MaskMaker, Outlined
from gradcut.masks.makers import CompactMaker
from gradcut.records import described, fingerprint
from gradcut.saliency import (
    CAM,
    Attention,
    DeconvNet,
    DenseProbability,
    Gradient,
    GuidedBackprop,
    Mean,
    Method,
    MultiScale,
    PlaceProbability,
    Rivals,
    Saliency,
    SoftmaxGradCAM,
    Walk,
    resolved,
    scales_of,
    suited,
)
from gradcut.seeds import Fractions, Percentiles, SeedRule, Seeds, is_constant

#: Raise it when a step gives other masks for the same options: what another version began is not continued then.
REVISION = 3
#: The version of what the steps compute: gradcut's major and minor number, and the above.
ALGORITHMS = f"{'.'.join(__version__.split('.')[:2])}+{REVISION}"


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

    def make_seeds(self, saliency: Float[np.ndarray, "h w"]) -> Seeds:
        """What the seed rule makes of one map, if it is what a seed rule promises; none where the map says nothing.

        Raises:
            SeedError: the rule returns something else; the message names it.
        """
        if is_constant(saliency):
            nowhere = np.zeros(saliency.shape, dtype=bool)
            return Seeds(nowhere, nowhere.copy())
        rule, seeds = self.seeds, self.seeds(saliency)
        sides = tuple(seeds) if isinstance(seeds, Seeds) else ()
        if not sides or not all(isinstance(side, np.ndarray) and side.dtype == np.bool_ for side in sides):
            raise SeedError(
                f"seeds: expected {rule!r} to return Seeds of two boolean arrays, got {type(seeds).__name__}"
            )
        if any(side.shape != saliency.shape for side in sides):
            shapes = " and ".join(str(side.shape) for side in sides)
            raise SeedError(f"seeds: expected {rule!r} to return two sides of shape {saliency.shape}, got {shapes}")
        shared, sizes = int((sides[0] & sides[1]).sum()), [int(side.sum()) for side in sides]
        if shared or not all(sizes):
            raise SeedError(
                f"seeds: expected {rule!r} to return two sides that share no pixel, neither empty, "
                f"got {sizes[0]} and {sizes[1]} pixels, {shared} in both"
            )
        return seeds

    def make_masks(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> list[CompactMask]:
        """What the mask maker makes, if it is what a mask maker promises; nothing of a class without seeds.

        Raises:
            MaskError: the maker returns something else; the message names it.
        """
        maker, shape = self.masks, (len(saliency), *photograph.shape[:2])
        if isinstance(maker, CompactMaker):
            masks = maker.compact(photograph, saliency, seeds)
        else:
            made = maker(photograph, saliency, seeds)
            if not isinstance(made, np.ndarray) or made.dtype != np.bool_ or made.shape != shape:
                came = f"{made.dtype} of shape {made.shape}" if isinstance(made, np.ndarray) else type(made).__name__
                raise MaskError(f"masks: expected {maker!r} to return booleans of shape {shape}, got {came}")
            masks = [CompactMask(mask) for mask in made]
        # Not every maker looks at seeds.
        nothing = CompactMask(np.zeros((1, 1), dtype=bool), shape[1:])
        return [mask if any(map(np.any, sides)) else nothing for mask, sides in zip(masks, seeds, strict=True)]

    def record(self) -> dict[str, Any]:
        """What a result depends on of the recipe, as JSON values, and its name for people.

        Raises:
            GradcutError: a step of one's own whose source cannot be read.
        """
        document = {
            "name": self.name, "saliency": described(self.saliency), "seeds": described(self.seeds),
            "masks": described(self.masks), "size": list(self.size) if isinstance(self.size, tuple) else self.size,
            "detail": self.largest, "algorithms": ALGORITHMS,
        }  # fmt: skip
        return document | {"sha256": fingerprint(document)}

    @property
    def largest(self) -> float:
        """``detail``, or what it stands for."""
        return max(scales_of(self.saliency)) if self.detail is None else self.detail

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what decides a pixel: the steps, the sizes and `ALGORITHMS`; in hexadecimal digits."""
        return str(self.record()["sha256"])


def _agreed(*sizes: float, walk: float | None = None) -> Mean:
    """What weights for places and the head for whole photographs agree on, each over several sizes, if any.

    Args:
        walk: as `Walk.scale`.
    """
    methods: list[Method] = [PlaceProbability(), CAM()]
    if sizes:
        methods = [MultiScale(method, sizes, flip=False) for method in methods]
    return Mean([Walk(Rivals(method), steps=(8, 4), scale=walk) for method in methods])


#: The paper's two steps with the options of its public code; the boxes are those for Pascal VOC.
_CLIP_ES = Walk(SoftmaxGradCAM(), Attention(power=1.0, sinkhorn=3, boxes=0.4))

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "default",
            catalogue.RECIPES["default"],
            _agreed(1.0, 5 / 3, 8 / 3),
            Fractions(0.95, 0.02),
            Outlined(Cleaned(ColourCut())),
        ),
        Recipe(
            "best",
            catalogue.RECIPES["best"],
            _agreed(1.0, 5 / 3, 8 / 3, 4.0, walk=5 / 3),
            Fractions(0.95, 0.02),
            Outlined(Cleaned(ColourCut())),
        ),
        Recipe(
            "fast",
            catalogue.RECIPES["fast"],
            _agreed(),
            Fractions(0.95, 0.02),
            Outlined(Cleaned(ColourCut(middle=0.6))),
        ),
        Recipe(
            "simonyan",
            catalogue.RECIPES["simonyan"],
            Gradient(of="probability"),
            Percentiles(95, 30),
            GraphCut(),
            size=448,
        ),
        Recipe(
            "guided",
            catalogue.RECIPES["guided"],
            GuidedBackprop(of="probability"),
            Percentiles(95, 30),
            GraphCut(),
            size=448,
        ),
        Recipe(
            "deconvnet",
            catalogue.RECIPES["deconvnet"],
            DeconvNet(of="probability"),
            Percentiles(95, 30),
            GraphCut(),
            size=448,
        ),
        Recipe(
            "expansion",
            catalogue.RECIPES["expansion"],
            Gradient(of="probability"),
            Percentiles(90, 30),
            Expansion(50, 90),
            size=448,
        ),
        Recipe(
            "clip-es",
            catalogue.RECIPES["clip-es"],
            _CLIP_ES,
            Fractions(0.95, 0.02),
            Outlined(Cleaned(ColourCut())),
            size=448,
        ),
        Recipe(
            "words",
            catalogue.RECIPES["words"],
            Mean((Walk(Rivals(DenseProbability()), Attention(power=1.0, sinkhorn=3)), _CLIP_ES)),
            Fractions(0.95, 0.02),
            Outlined(Cleaned(ColourCut())),
            size=448,
        ),
    )
}


def for_classifier(recipe: Recipe, classifier: Classifier) -> Recipe:
    """The recipe as it runs with a classifier, and as results record it.

    The saliency of `default`, `best` and `fast`, for a linear layer on the mean of the last map, leaves its place to
    what suits the network (`gradcut.saliency.suited`); any other is what its methods are `resolved` to.

    Raises:
        NoMemoryError: memory does not hold a pass of the network.
        SaliencyError: a method among the recipe's cannot serve such a classifier, as `clip-es` and `words` only serve
            one of words.
    """
    method = recipe.saliency
    if method in [RECIPES[name].saliency for name in ("default", "best", "fast")]:
        method = suited(method, classifier)
    method = resolved(method, classifier)
    return recipe if method == recipe.saliency else replace(recipe, saliency=method)


def serving(classifier: Classifier) -> Mapping[str, Recipe]:
    """Those of `RECIPES` that the classifier can be asked with: `clip-es` and `words` only if it is one of words."""
    worded = words_of(classifier.model) is not None
    return {name: recipe for name, recipe in RECIPES.items() if worded or name not in catalogue.OF_WORDS}


def as_recipe(recipe: Recipe | str) -> Recipe:
    """The recipe of that name, or the recipe itself.

    Raises:
        GradcutError: no recipe has that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if not isinstance(recipe, str):
        raise GradcutError(f"recipe: expected a Recipe or the name of one, got {type(recipe).__name__}")
    return RECIPES[catalogue.check("recipe", recipe, RECIPES)]


#: The saliency methods that `with_saliency` knows: those that need no other method. The rest change a method.
METHODS: Mapping[str, type[Method]] = {
    method.__name__: method
    for method in (
        saliency.AblationCAM,
        saliency.AttentionGradient,
        saliency.AttentionRollout,
        saliency.AttnLRP,
        saliency.BeyondIntuition,
        CAM,
        DeconvNet,
        DenseProbability,
        saliency.EigenCAM,
        saliency.EigenGradCAM,
        saliency.FinerCAM,
        saliency.FullGrad,
        saliency.GradCAM,
        saliency.GradCAMPlusPlus,
        Gradient,
        saliency.GradientXInput,
        GuidedBackprop,
        saliency.GuidedGradCAM,
        saliency.HiResCAM,
        saliency.IntegratedGradients,
        saliency.KernelSHAP,
        saliency.LRP,
        saliency.LayerCAM,
        saliency.LeGrad,
        saliency.Occlusion,
        PlaceProbability,
        saliency.RISE,
        saliency.RefineCAM,
        saliency.ScoreCAM,
        saliency.ShapleyCAM,
        saliency.SmoothGrad,
        SoftmaxGradCAM,
        saliency.VarGrad,
        saliency.XGradCAM,
    )
}


def with_saliency(recipe: Recipe | str, name: str) -> Recipe:
    """The recipe with another saliency method, as it is without options; the seeds and the masks stay the recipe's.

    >>> with_saliency("fast", "GradCAM").saliency
    GradCAM(of='logit', layers=1, fuse='mean')

    Args:
        name: one of `METHODS`, whatever its case.

    Raises:
        GradcutError: no recipe, or no method, of that name; the message has the nearest ones.
    """
    recipe = as_recipe(recipe)
    method = catalogue.check("saliency", name, METHODS)
    title, summary = f"{recipe.name} with {method}", f"{recipe.summary}; with the saliency {method}"
    return replace(recipe, name=title, summary=summary, saliency=METHODS[method]())


#: What `blank_advice` names, the surest first.
_ELSE = ("GuidedBackprop", "GradCAM", "LayerCAM")


def blank_advice(labels: Sequence[str], recipe: Recipe) -> str:
    """A sentence: these classes' saliency is blank, so they have no mask, and what else to try."""
    others = [name for name in _ELSE if not isinstance(recipe.saliency, METHODS[name])]
    ways = [f"another method ({' or '.join(f'--saliency {name}' for name in others[:2])}, or recipes.with_saliency)"]
    if getattr(recipe.saliency, "of", None) == "probability":
        ways.append('of="logit", since the gradient of a probability near 1 vanishes')
    if hasattr(recipe.saliency, "layers"):
        ways.append("layers of the method above 1, since its last feature map says nothing")
    named = ", ".join(labels)
    return (
        f"{named}: the saliency is blank (the same everywhere), so there is no mask; try {', '.join(ways)}, "
        "or another recipe"
    )


def fitted_name(recipe: Recipe) -> str | None:
    """Which of `RECIPES` a recipe is, by all that decides a pixel and not by its name; None for any other."""
    try:
        return _by_fingerprint().get(recipe.fingerprint)
    except GradcutError:  # a step of one's own without a source is none of gradcut's
        return None


@cache
def _by_fingerprint() -> Mapping[str, str]:
    return {recipe.fingerprint: name for name, recipe in RECIPES.items()}
