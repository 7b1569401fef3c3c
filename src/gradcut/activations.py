"""Other backward rules for ReLU-like functions, for the time of one forward pass.

The rules work below the modules: a `TorchFunctionMode` sees every call of a torch function, whichever
module makes it and however (``nn.ReLU``, ``F.relu``, ``x.relu_()``), so no hook is set, no module is
patched and nothing has to be undone. The forward values stay the same whatever the rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: From the gradient that comes from above and the activation's derivative at its input, both of the
#: input's shape, to the gradient that is passed below.
Rule = Callable[[Tensor, Tensor], Tensor]


def guided(gradient: Tensor, derivative: Tensor) -> Tensor:
    """Guided backpropagation (Springenberg et al. 2014, "Striving for Simplicity").

    A gradient passes where it is positive and where the activation rises: for ReLU, where its input was
    positive, as in the paper. For other functions the slope weighs it, where the slope is not negative.
    """
    return gradient.clamp(min=0) * derivative.clamp(min=0)


def deconvnet(gradient: Tensor, derivative: Tensor) -> Tensor:
    """DeconvNet (Zeiler & Fergus 2013): a ReLU on the way back, whatever happened on the way forward."""
    return gradient.clamp(min=0)


class Backward(TorchFunctionMode):
    """While this context is open, ReLU-like functions get ``rule`` as their backward pass.

    ``followed`` counts the activations that took part; 0 means that the rule changed nothing, so that
    the result would be the plain gradient.
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.followed = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func not in ACTIVATIONS:
            return func(*args, **kwargs)
        x, args = (args[0], args[1:]) if args else (kwargs.pop("input"), ())
        if not (torch.is_grad_enabled() and x.requires_grad):
            return func(x, *args, **kwargs)
        self.followed += 1
        return _Activation.apply(x, self.rule, func, args, kwargs)


class _Activation(torch.autograd.Function):
    """``function(x, *args, **kwargs)`` forwards, ``rule`` backwards."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        rule: Rule,
        function: Callable[..., Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Tensor:
        ctx.rule = rule
        # The derivative first: an in-place function overwrites its input.
        ctx.save_for_backward(_derivative(function, x, args, kwargs))
        y = function(x, *args, **kwargs)
        if y is x:
            ctx.mark_dirty(x)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (derivative,) = ctx.saved_tensors
        return ctx.rule(gradient, derivative), None, None, None, None


_RELUS = frozenset({F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})

#: The functions that count as ReLU-like: element by element, and rectifying the larger part of their range.
ACTIVATIONS = _RELUS | {
    F.relu6, F.hardtanh, F.hardtanh_, F.leaky_relu, F.leaky_relu_, F.rrelu, F.rrelu_, F.prelu, torch.prelu,
    F.elu, F.elu_, F.selu, torch.selu_, F.celu, torch.celu_, F.silu, F.gelu, F.mish, F.hardswish, F.softplus,
    F.threshold, F._threshold,  # type: ignore[attr-defined]
}  # fmt: skip


def _derivative(function: Callable[..., Tensor], x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Of an element-wise function at ``x``, which is left as it is."""
    if function in _RELUS:
        return (x > 0).to(x.dtype)
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        # In-place functions need something to overwrite that is not the leaf.
        y = function(leaf.clone(), *args, **kwargs)
        return torch.autograd.grad(y, leaf, torch.ones_like(y))[0]
