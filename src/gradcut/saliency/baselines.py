"""What stands for nothing in a photograph: a colour, or a photograph of one's own."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError

#: The classifier's ``"mean"`` colour, ``"black"`` or ``"white"``, or values as `Classifier.prepare` makes them, of a
#: shape that broadcasts to that of the photographs: ``3 1 1``, ``3 h w`` or ``b 3 h w``.
Baseline = Literal["mean", "black", "white"] | Tensor


def check_baseline(baseline: object) -> None:
    """Raise SaliencyError unless it is a `Baseline`."""
    if not isinstance(baseline, Tensor) and baseline not in ("mean", "black", "white"):
        raise SaliencyError(f"baseline: expected 'mean', 'black', 'white' or a tensor, got {baseline!r}")


def baseline_of(classifier: Classifier, x: Float[Tensor, "b 3 h w"], baseline: Baseline) -> Float[Tensor, "_ 3 _ _"]:
    """The baseline prepared as photographs are, of a shape that broadcasts to theirs.

    Raises:
        SaliencyError: a tensor of another shape.
    """
    if isinstance(baseline, Tensor):
        try:
            shape = torch.broadcast_shapes(baseline.shape, x.shape)  # type: ignore[no-untyped-call]
            fits = shape == x.shape and baseline.shape[-3:-2] == (3,)
        except RuntimeError:
            fits = False
        if not fits:
            raise SaliencyError(
                f"baseline: expected a shape that broadcasts to the photographs' {tuple(x.shape)}, such as "
                f"{(3, *x.shape[2:])}, got {tuple(baseline.shape)}"
            )
        return baseline.detach().to(x).view(*(1,) * (4 - baseline.ndim), *baseline.shape)
    colour = {"mean": classifier.mean, "black": (0.0,) * 3, "white": (1.0,) * 3}[baseline]
    return x.new_tensor(classifier.prepared(colour)).view(1, 3, 1, 1)
