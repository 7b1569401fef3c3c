"""Layer-wise relevance propagation below the modules: other backward rules for every function, for one forward pass.

What goes back is not relevance itself but relevance per unit: a tensor ``a`` with the gradient ``g`` has the relevance
``a g``. So all that is linear, sums, means, pooling, reshaping, needs no rule: its own gradient shares relevance out in
proportion to what each part contributes. What is not linear gets a rule here (Bach et al. 2015; Montavon et al. 2019;
Achtibat et al. 2024, whose formulas are those of AttnLRP). The forward values stay the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradcut.errors import SaliencyError
from gradcut.network.activations import ACTIVATIONS, CLAMPS, PRODUCTS, SIGMOIDS
from gradcut.network.layouts import SOFTMAXES
from gradcut.network.rules import Composite, InputRule, Layer, LayerRule, stable, wide


class NoRuleError(Exception):
    """A network does what relevance cannot be led back through."""


class Relevance(TorchFunctionMode):
    """While this context is open, a network's functions go backwards by the rules of a composite.

    - Linear layers and convolutions: the composite's. A batch norm with fixed statistics straight after one is made a
      part of it.
    - Element by element (`ACTIVATIONS`, sigmoid, tanh): all relevance goes through, ``g f(a) / a``.
    - Normalisations: what they divide by counts as constant, so that the rest is linear.
    - The product of two tensors: half to each. A sigmoid's result, or a tanh's, that another tensor is multiplied by is
      a gate, which counts as constant (Arras et al. 2017).
    - Softmax: its own gradient; the product of attention and values: as the composite says.

    Functions put together by hand out of others, and `torch.autograd.Function`s, keep their own gradient.

    Args:
        composite: the rules.
        model: the network, whose modules have the names.
        shape: of the photographs.

    Raises:
        SaliencyError: no module has a name.
        NoRuleError: within, where there is no rule for what the network does.

    Attributes:
        outside: what the first layer's own rule gives to the photographs is the gradient with respect to this; None
            where there is no such rule.
        layers: how many layers got a rule.
        attends: whether there was a softmax inside the network.
    """

    def __init__(self, composite: Composite, model: nn.Module, shape: torch.Size) -> None:
        super().__init__()
        modules = dict(model.named_modules()) if composite.named else {}
        for name, _ in composite.named:
            if name not in modules:
                raise SaliencyError(f"named: expected names from model.named_modules(), got {name!r}")
        self._named = {id(modules[name]): rule for name, rule in composite.named}
        self.outside: Tensor | None = None
        self.layers, self.attends = 0, False
        self._composite = composite
        self._shape = shape
        self._padded: tuple[Tensor, Tensor, Any] | None = None  # result, input, by how much
        self._read: Tensor | None = None  # what the first layer reads
        self._last: tuple[Tensor, Tensor, Layer, LayerRule | InputRule, int] | None = None  # with its result's version
        self._gates: list[Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)
        if func in _LAYERS:
            return self._layer(func, *args, **kwargs)
        if func is F.pad:
            result = func(*args, **kwargs)
            self._padded = _zeros_around(result, *args, **kwargs)
            return result
        if not _needs(args[0] if args else kwargs.get("input")) and func in _OF_ONE:
            return func(*args, **kwargs)  # of weights, as some networks standardise them
        if func is F.batch_norm:
            return self._batch_norm(*args, **kwargs)
        if func in _NORMS:
            return _NORMS[func](*args, **kwargs)
        if func in _ELEMENTWISE:
            return self._elementwise(func, args, kwargs)
        if func in SOFTMAXES:
            self.attends = True
            result = func(*args, **kwargs)
            return result.detach() if self._composite.attention == "constant" else result
        if func in _SCALES:
            return func(*args, **kwargs).detach()
        if func in _QUOTIENTS and _needs(args[1]):
            return func(args[0], args[1].detach(), *args[2:], **kwargs)
        if (func in PRODUCTS or func in _MATRIX_PRODUCTS) and len(args) == 2 and not kwargs:
            return self._product(func, *args)
        if func is torch.einsum and len(args) == 3:
            return self._product(partial(func, args[0]), *args[1:])
        return func(*args, **kwargs)

    def _layer(
        self, func: Callable[..., Tensor], input: Tensor, weight: Tensor, bias: Tensor | None = None, *a: Any, **k: Any
    ) -> Tensor:
        layer = Layer(partial(_called, func, a, k), weight.detach(), None if bias is None else bias.detach())
        if not _needs(input):
            return func(input, weight, bias, *a, **k)
        if _needs(weight):
            raise NoRuleError("a layer's weights depend on the photograph, for which relevance has no rule")
        self.layers += 1
        padded, source, pad = self._padded or (None, None, None)
        source = source if padded is input and source is not None else input
        rule = self._of(func, source)
        with torch.no_grad():
            y = func(input, weight, bias, *a, **k)
        if source is not input and isinstance(rule, InputRule):
            # What is around the photograph gets no relevance: the padding is a part of the layer.
            layer, input = layer._replace(function=partial(_called_padded, layer.function, pad)), source
        result = self._ruled(layer, input, y, rule)
        self._last = result, input, layer, rule, result._version
        return result

    def _of(self, func: Callable[..., Tensor], input: Tensor) -> LayerRule | InputRule:
        """The rule of the layer that is called now."""
        frame = sys._getframe(3) if self._named else None
        while frame is not None:  # from the innermost module outwards
            if frame.f_code.co_name in ("forward", "_call_impl"):
                rule = self._named.get(id(frame.f_locals.get("self")))
                if rule is not None:
                    return rule
            frame = frame.f_back
        first = self._composite.first
        if first is not None and (self._read is None or self._read is input):
            self._begin(input)
            return first
        return self._composite.linear if func is F.linear else self._composite.convolution

    def _begin(self, input: Tensor) -> None:
        if self._read is None:
            if input.shape != self._shape:
                raise NoRuleError(
                    f"first: expected None for this network, whose first layer reads {tuple(input.shape[1:])} and not "
                    f"the photograph as it is, got {self._composite.first!r}"
                )
            self._read, self.outside = input, torch.zeros_like(input).requires_grad_()

    def _ruled(self, layer: Layer, input: Tensor, y: Tensor, rule: LayerRule | InputRule) -> Tensor:
        outside = self.outside if isinstance(rule, InputRule) else None
        applied: Tensor = _Ruled.apply(input, outside, (y,), layer, rule)
        return applied

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if running_mean is None or running_var is None or training:
            raise NoRuleError("it has a batch norm without fixed statistics, for which relevance has no rule")
        last, self._last = self._last, None
        if last is None or last[0] is not input or input._version != last[4]:
            return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        _, before, layer, rule, _ = last
        with torch.no_grad():
            y = F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
            scale = (running_var + eps).rsqrt() * (1 if weight is None else weight)
            shift = (0 if layer.bias is None else layer.bias) - running_mean
            merged = layer._replace(
                weight=layer.weight * scale.view(-1, *(1,) * (layer.weight.ndim - 1)),
                bias=shift * scale + (0 if bias is None else bias),
            )
        return self._ruled(merged, before, y, rule)

    def _elementwise(self, func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        kwargs = dict(kwargs)
        x, args = (args[0], args[1:]) if args else (kwargs.pop("input"), ())
        if func in _HOMOGENEOUS:
            return func(x, *args, **kwargs)  # its own gradient is the quotient
        y: Tensor = _Quotient.apply(x, func, args, kwargs, self._composite.epsilon)
        if func in _GATES:
            self._gates.append(y)
        return y

    def _product(self, func: Callable[..., Any], a: Any, b: Any) -> Any:
        if not (_needs(a) and _needs(b)):
            return func(a, b)
        gates = [any(gate is side or gate is side._base for gate in self._gates) for side in (a, b)]
        if gates[0] != gates[1]:
            return func(a.detach(), b) if gates[0] else func(a, b.detach())
        y = func(a, b)
        y.register_hook(_half)
        return y


class _Ruled(torch.autograd.Function):
    """A layer's result ``y``; backwards its rule, in float32 at least."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, outside: Tensor | None, made: tuple[Tensor], layer: Layer, rule: Any) -> Tensor:
        (y,) = made
        ctx.save_for_backward(x, y.clone())  # what comes out may be overwritten
        ctx.layer, ctx.rule, ctx.first = layer, rule, outside is not None
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, y, g = (wide(values) for values in (*ctx.saved_tensors, gradient))
        bias = None if ctx.layer.bias is None else wide(ctx.layer.bias)
        layer = ctx.layer._replace(weight=wide(ctx.layer.weight), bias=bias)
        if ctx.first:
            return None, ctx.rule.relevance(layer, x, y, y * g).to(gradient.dtype), None, None, None
        return ctx.rule(layer, x, y, y * g).to(gradient.dtype), None, None, None, None


class _Quotient(torch.autograd.Function):
    """``function(x)`` forwards; backwards the quotient of the two, 0 where the value is."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        function: Callable[..., Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        epsilon: float,
    ) -> Tensor:
        before = wide(x).clone()
        y = function(x, *args, **kwargs)
        ctx.save_for_backward((wide(y) / stable(before, epsilon)).to(x.dtype))
        if y is x:
            ctx.mark_dirty(x)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient * ctx.saved_tensors[0], None, None, None, None


def _called(func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: Any, x: Tensor, *weights: Any) -> Tensor:
    return func(x, *weights, *args, **kwargs)


def _called_padded(func: Callable[..., Tensor], pad: Any, x: Tensor, *weights: Any) -> Tensor:
    return func(F.pad(x, pad), *weights)


def _zeros_around(
    result: Tensor, input: Tensor, pad: Any, mode: str = "constant", value: float | None = None
) -> tuple[Tensor, Tensor, Any] | None:
    return (result, input, pad) if mode == "constant" and not value else None


def _half(gradient: Tensor) -> Tensor:
    return gradient / 2


def _needs(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _scaled(x: Tensor, scale: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = x * scale.detach()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(axes, keepdim=True)
    return _scaled(centred, (centred.square().mean(axes, keepdim=True) + eps).rsqrt(), weight, bias)


def _rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _scaled(input, (input.square().mean(axes, keepdim=True) + eps).rsqrt(), weight, None)


def _group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    groups = input.reshape(len(input), num_groups, -1)
    centred = groups - groups.mean(2, keepdim=True)
    y = centred * (centred.square().mean(2, keepdim=True) + eps).rsqrt().detach()
    shape = (1, -1, *(1,) * (input.ndim - 2))
    y = y.view_as(input)
    y = y if weight is None else y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)


def _normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None) -> Tensor:
    length: Tensor = input.detach().norm(p, dim, keepdim=True)
    return input / length.clamp_min(eps)


_LAYERS = frozenset({F.linear, F.conv1d, F.conv2d})
_NORMS: dict[Any, Callable[..., Tensor]] = {
    F.layer_norm: _layer_norm, F.rms_norm: _rms_norm, F.group_norm: _group_norm, F.normalize: _normalize,
}  # fmt: skip
#: What others are divided by, or multiplied with, to be normalised.
_SCALES = frozenset({
    torch.rsqrt, Tensor.rsqrt, torch.reciprocal, Tensor.reciprocal, torch.std, Tensor.std, torch.var, Tensor.var,
    torch.norm, Tensor.norm, torch.linalg.norm, torch.linalg.vector_norm,
})  # fmt: skip
_QUOTIENTS = frozenset({torch.div, Tensor.div, Tensor.__truediv__, Tensor.div_, torch.true_divide})
_MATRIX_PRODUCTS = frozenset({torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm})
_GATES = SIGMOIDS | {torch.tanh, Tensor.tanh, F.tanh, F.hardsigmoid, Tensor.sigmoid_}
#: Whose value is the input times their slope.
_HOMOGENEOUS = frozenset({
    F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.leaky_relu, F.leaky_relu_, F.prelu, torch.prelu,
})  # fmt: skip
_ELEMENTWISE = ACTIVATIONS | CLAMPS | _GATES
_OF_ONE = _ELEMENTWISE | _NORMS.keys() | {F.batch_norm}
