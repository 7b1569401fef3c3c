"""What the saliency methods of this package have in common."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from jaxtyping import Float
from torch import Tensor

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError
from gradcut.network.view import View
from gradcut.saliency.maps import Size, resized
from gradcut.saliency.targets import Saliency, Targets


class Method:
    """A saliency method that can share forward passes: what it computes is written in `explain`.

    A method of one's own need not be one: any function ``(classifier, x, targets)`` will do. It then makes its
    own forward passes.
    """

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        """A map for each target.

        Raises:
            SaliencyError: photographs or targets of another kind, or a classifier that this method cannot explain.
            ClassifierError: as `Classifier.logits`.
        """
        _check_photographs(x)
        return self.explain(View(classifier, x), targets)

    def explain(self, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
        """A map for each target, of photographs that others may look at too."""
        raise NotImplementedError

    def coarse(self, view: View, targets: Targets) -> Float[Tensor, "n _ _"]:
        """The maps as a walk takes them; what some methods say at a grid of their own, others at the photographs'."""
        return self.explain(view, targets)

    def resolved(self, classifier: Classifier) -> Saliency:
        """What runs with a classifier in the place of this method: itself, with what its options are `resolved` to."""
        return self.changed(lambda part: resolved(part, classifier))

    def changed(self, change: Callable[[Saliency], Saliency]) -> Saliency:
        """The method with a change made to every method among its options; itself where that changes nothing."""

        def of(option: Any) -> Any:
            if isinstance(option, tuple):
                parts = tuple(map(of, option))
                return option if all(map(operator.is_, parts, option)) else parts
            return change(option) if isinstance(option, Method) else option

        options = {name: (option, of(option)) for name, option in vars(self).items()}
        changes = {name: new for name, (option, new) in options.items() if new is not option}
        return cast(Saliency, replace(cast(Any, self), **changes)) if changes else self

    @property
    def scales(self) -> tuple[float, ...]:
        """The sizes of photographs that it looks at, as factors of the classifier's own."""
        return (1.0,)


class GridMethod(Method):
    """A method whose maps have a grid of their own, from which they are brought to any size that is asked for.

    So maps of 40 x 40 places need not be as large as the photographs before they are made smaller again. A subclass
    has `sized`; what it wrote into `explain` would be left out.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.explain is not GridMethod.explain:  # also by another base
            raise TypeError(f"{cls.__name__}: a GridMethod computes its maps in sized, not in explain")

    def sized(self, view: View, targets: Targets, size: Size) -> Float[Tensor, "n _ _"]:
        """A map for each target, of this height and width."""
        raise NotImplementedError

    def explain(self, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
        return self.sized(view, targets, view.x.shape[2:])


def explained(method: Saliency, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
    """What any method says of a view: it shares the passes if it can."""
    if isinstance(method, Method):
        return method.explain(view, targets)
    return method(view.classifier, view.x, targets)


def sized(method: Saliency, view: View, targets: Targets, size: Size) -> Float[Tensor, "n _ _"]:
    """What any method says of a view, brought to a height and width."""
    if isinstance(method, GridMethod):
        return method.sized(view, targets, size)
    return resized(explained(method, view, targets), size)


def coarsely(method: Saliency, view: View, targets: Targets) -> Float[Tensor, "n _ _"]:
    """What any method says of a view, at its own grid if it has one."""
    return method.coarse(view, targets) if isinstance(method, Method) else explained(method, view, targets)


def resolved(method: Saliency, classifier: Classifier) -> Saliency:
    """The method that runs with this classifier; a function of one's own is that itself.

    `PlaceProbability` may leave it to another, and of a `Mean` of methods that are then the same one is left.
    """
    return method.resolved(classifier) if isinstance(method, Method) else method


def scales_of(method: Saliency) -> tuple[float, ...]:
    """The sizes that a method looks at; a function of one's own looks at the classifier's."""
    scales: tuple[float, ...] = getattr(method, "scales", (1.0,))
    return scales


def _check_photographs(x: Any) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim != 4 or x.shape[1] != 3:
        came = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise SaliencyError(f"x: expected floats of shape (b, 3, h, w), as Classifier.prepare makes them, got {came}")
