"""Networks without a head: their features are the mean of the last map, or of a transformer's tokens of places."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gradcut.classifiers import sizes
from gradcut.classifiers.classifier import Classifier, evaluating, out_of_memory
from gradcut.errors import ClassifierError, one_line


class Backbone(nn.Module):
    """From pixels ``(b, 3, h, w)`` to the mean ``(b, d)`` over all places, and through `head`.

    Args:
        network: from pixels to a map ``(b, d, gh, gw)`` or tokens ``(b, num_prefix_tokens + gh gw, d)``.
        d: how many features a place has.
        num_prefix_tokens: tokens of no place, before the others: of the class, registers. They take no part.
    """

    #: Hands the features on until a fitted one is put in its place.
    head: nn.Module

    def __init__(self, network: nn.Module, d: int, num_prefix_tokens: int = 0) -> None:
        super().__init__()
        self.network = network
        self.num_prefix_tokens = num_prefix_tokens
        self.head = nn.Linear(d, d, bias=False)
        nn.init.eye_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.network(x)
        mean = features.mean((2, 3)) if features.ndim == 4 else features[:, self.num_prefix_tokens :].mean(1)
        pooled: Tensor = self.head(mean)
        return pooled


def is_headless(classifier: Classifier) -> bool:
    """Whether its outputs are features, as `headless` has them."""
    return isinstance(classifier.model, Backbone)


def headless(
    network: nn.Module,
    size: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    name: str,
    channels: str = "RGB",
) -> Classifier:
    """A classifier whose outputs are the features of a network without a head, called "0", "1", ...

    `gradcut.fit` puts a head in the place of the layer that hands them on.

    Args:
        network: from pixels ``(b, 3, h, w)`` to a map ``(b, d, gh, gw)``, or to tokens ``(b, n, d)``, those of places
            last, row by row.

    Raises:
        ClassifierError: it makes something else of a photograph, or fails.
    """
    try:
        with torch.inference_mode(), evaluating(network):
            features = network(torch.zeros(1, 3, *size))
    except (RuntimeError, ValueError, AssertionError, TypeError, AttributeError, LookupError) as error:
        if out_of_memory(error):
            raise
        raise ClassifierError(f"backbone: {name} failed on input {(1, 3, *size)}: {one_line(error)}") from error
    if not isinstance(features, Tensor) or features.ndim not in (3, 4) or len(features) != 1:
        came = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ClassifierError(
            f"backbone: expected a map (1, d, h, w) or tokens (1, n, d) from the last layer of {name}, got {came}"
        )
    prefix = 0 if features.ndim == 4 else _prefix(network, features, size)
    d = features.shape[1 if features.ndim == 4 else 2]
    return Classifier(Backbone(network, d, prefix).eval(), d, size, mean, std, name=name, channels=channels)


#: At most so many tokens of no place are told from places: of the class, of a teacher's class, registers.
_MOST = 8


def _prefix(network: nn.Module, tokens: Float[Tensor, "1 n d"], size: Sequence[int]) -> int:
    """How many tokens are of no place: as timm says, else those beyond the grid of patches or a halving."""
    for module in network.modules():
        if isinstance(said := getattr(module, "num_prefix_tokens", None), int):
            return said
    side = sizes.patch(network)
    h, w = size[0] // side, size[1] // side
    while h * w > tokens.shape[1]:
        h, w = -(-h // 2), -(-w // 2)
    beyond = tokens.shape[1] - h * w
    return beyond if beyond <= _MOST else 0
