"""Other backward rules for ReLU-like functions, for the time of one forward pass.

The rules work below the modules: a `TorchFunctionMode` sees every call of a torch function, whichever
module makes it and however (``nn.ReLU``, ``F.relu``, ``x.relu_()``), so no hook is set, no module is
patched and nothing has to be undone. The forward values stay the same whatever the rule.
"""

from __future__ import annotations

import weakref
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

    Those are the functions in `ACTIVATIONS`, ``clamp(min=0)``, and swish written by hand, ``x * sigmoid(x)`` or
    ``x * sigmoid(c * x)``. Other compositions, and functions with a backward pass of their own
    (`torch.autograd.Function`), cannot be told apart from the rest of the network and keep their gradient.

    ``followed`` counts the activations that took part; 0 means that the rule changed nothing, so that
    the result would be the plain gradient.
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.followed = 0
        self._scaled: _Link | None = None
        self._gate: _Link | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in ACTIVATIONS or (func in CLAMPS and _is_rectifier(func, args[1:], kwargs)):
            x, args = (args[0], args[1:]) if args else (kwargs.pop("input"), ())
            if torch.is_grad_enabled() and x.requires_grad:
                return self._follow(x, func, args, kwargs)
            return func(x, *args, **kwargs)
        if func in PRODUCTS and len(args) == 2 and not kwargs:
            return self._multiply(func, *args)
        result = func(*args, **kwargs)
        if func in SIGMOIDS and args:
            scaled = self._scaled
            known = scaled is not None and scaled.result() is args[0]
            self._gate = _Link(
                scaled.x() if known and scaled else args[0], result, scaled.by if known and scaled else 1.0
            )
        return result

    def _follow(self, x: Tensor, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        self.followed += 1
        if self.rule is guided and func in _MONOTONE:
            # The function's own backward pass multiplies by a derivative that is never negative, so that
            # clamping what comes from above is all that is left to do. Same result as below, no memory.
            y: Tensor = func(x, *args, **kwargs)
            y.register_hook(_positive_part)  # type: ignore[no-untyped-call]  # on this pass's tensor, which dies with its graph
            return y
        applied: Tensor = _Activation.apply(x, self.rule, func, args, kwargs)
        return applied

    def _multiply(self, func: Callable[..., Any], a: Any, b: Any) -> Any:
        gate = self._gate
        if gate is not None:
            x = gate.x()
            if x is not None and gate.unchanged(x) and ((a is x and gate.holds(b)) or (b is x and gate.holds(a))):
                self._gate = None
                if torch.is_grad_enabled() and x.requires_grad:
                    swish = _swish_ if func in _PRODUCTS_IN_PLACE and a is x else _swish
                    return self._follow(x, swish, (gate.by,), {})
        result = func(a, b)
        if isinstance(a, Tensor) and isinstance(b, int | float):
            self._scaled = _Link(a, result, float(b))
        elif isinstance(b, Tensor) and isinstance(a, int | float):
            self._scaled = _Link(b, result, float(a))
        return result


class _Link:
    """``result`` was made from ``x``; neither is kept alive."""

    def __init__(self, x: Tensor | None, result: Tensor, by: float) -> None:
        self.x: Callable[[], Tensor | None] = (lambda: None) if x is None else weakref.ref(x)
        self.result = weakref.ref(result)
        self.by = by
        self._version = -1 if x is None or x.is_inference() else x._version

    def holds(self, value: Any) -> bool:
        return isinstance(value, Tensor) and self.result() is value

    def unchanged(self, x: Tensor) -> bool:
        return not x.is_inference() and x._version == self._version


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
        overwrites = function.__name__.endswith("_") or any(v is True for v in (*args, *kwargs.values()))
        if rule is deconvnet:  # asks for no derivative
            y = function(x, *args, **kwargs)
        else:
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                y = function(leaf.clone() if overwrites else leaf, *args, **kwargs)
                (derivative,) = torch.autograd.grad(y, leaf, torch.ones_like(y))
            ctx.save_for_backward(derivative)
            y = x.copy_(y.detach()) if overwrites else y.detach()
        if y is x:
            ctx.mark_dirty(x)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        derivative = ctx.saved_tensors[0] if ctx.saved_tensors else gradient
        return ctx.rule(gradient, derivative), None, None, None, None


def _positive_part(gradient: Tensor) -> Tensor:
    return gradient.clamp(min=0)


def _swish(x: Tensor, by: float) -> Tensor:
    return x * (x if by == 1 else x * by).sigmoid()


def _swish_(x: Tensor, by: float) -> Tensor:
    return x.mul_((x if by == 1 else x * by).sigmoid())


#: Activations that fall nowhere (PReLU may, by its weight).
_MONOTONE = frozenset({
    F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6, F.hardtanh, F.hardtanh_, F.leaky_relu,
    F.leaky_relu_, F.rrelu, F.rrelu_, F.elu, F.elu_, F.selu, torch.selu_, F.celu, torch.celu_, F.softplus,
    F.threshold, F._threshold,  # type: ignore[attr-defined]
})  # fmt: skip

#: The functions that count as ReLU-like: element by element, and rectifying the larger part of their range.
ACTIVATIONS = _MONOTONE | {F.prelu, torch.prelu, F.silu, F.gelu, F.mish, F.hardswish}

CLAMPS = frozenset({
    torch.clamp, torch.clamp_, torch.clip, torch.clip_, Tensor.clamp, Tensor.clamp_, Tensor.clip, Tensor.clip_,
    torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_,
})  # fmt: skip
_MONOTONE |= CLAMPS
SIGMOIDS = frozenset({torch.sigmoid, Tensor.sigmoid, F.sigmoid})
_PRODUCTS_IN_PLACE = frozenset({Tensor.mul_, Tensor.__imul__})
PRODUCTS = _PRODUCTS_IN_PLACE | {torch.mul, torch.multiply, Tensor.mul, Tensor.__mul__, Tensor.__rmul__}


def _is_rectifier(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a clamp cuts at 0 from below, as ReLU does."""
    low = args[0] if args else kwargs.get("min")
    return isinstance(low, int | float) and low == 0
