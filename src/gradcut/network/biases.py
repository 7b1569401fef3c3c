"""What the biases of a network add to its forward pass, and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode


class Bias(NamedTuple):
    """What a layer adds to every place of its result, and where the gradient with respect to that is found."""

    values: Float[Tensor, " c"]
    edge: GradientEdge


class Biases(TorchFunctionMode):
    """While this context is open, the biases of convolutions and of batch norms with fixed statistics are noted.

    A batch norm's is ``bias - weight mean / sqrt(variance + eps)``. An edge of the graph, unlike a tensor, stays what
    it was where the result is overwritten afterwards.

    Attributes:
        found: in the order of the calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Bias] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in (F.conv2d, F.batch_norm) and result.ndim == 4 and result.requires_grad:
            bias = _of_convolution(*args, **kwargs) if func is F.conv2d else _of_norm(*args, **kwargs)
            if bias is not None:
                self.found.append(Bias(bias.detach(), get_gradient_edge(result)))
        return result


def _of_convolution(input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
    return bias


def _of_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if training or running_mean is None or running_var is None:
        return bias
    mean = -running_mean * (running_var + eps).rsqrt() * (1 if weight is None else weight)
    return mean if bias is None else mean + bias
