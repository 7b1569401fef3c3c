"""Attention, which fused functions compute out of sight, written out so that it can be seen."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradcut.errors import SaliencyError
from gradcut.network.layouts import SOFTMAXES, Layout


class Attended(NamedTuple):
    """The attention of a layer, rows summing to 1, and how the places of the map lie in its queries, if they do.

    ``call`` is its number, as `gradcut.network.forward.ForwardPass` numbers calls; ``values`` are the tokens' values by
    the layer's projection without its bias, if they were asked for and seen.
    """

    weights: Float[Tensor, "b heads queries keys"]
    layout: Layout | None
    call: int
    values: Float[Tensor, "b keys c"] | None = None


def between_all(attention: Sequence[Attended], photographs: int) -> list[Attended]:
    """The layers in which all the places of one grid attend to all; of several grids, the last counts.

    Layers of windows, and of queries that are no places, as a pooling head's, are left out.
    """
    whole = [
        layer
        for layer in attention
        if layer.layout is not None
        and layer.weights.shape[2] == layer.weights.shape[3]
        and len(layer.weights) == photographs
    ]
    return [layer for layer in whole if layer.layout == whole[-1].layout]


class WrittenOut(TorchFunctionMode):
    """While this context is open, attention is computed with its softmax in sight: the same but for rounding.

    Args:
        gradients: make the attention fit to take gradients of: if nothing before asks for one, the graph begins at the
            first attention.
        layout: asked, when a layer has so many queries, how the places of the map lie in these.
        calls: asked how many functions the model has called before.
        values: keep the projected values too.

    Attributes:
        layers: the attention of every layer.
    """

    def __init__(
        self,
        gradients: bool,
        layout: Callable[[int], Layout | None],
        calls: Callable[[], int],
        values: bool = False,
    ) -> None:
        super().__init__()
        self.gradients = gradients
        self._layout = layout
        self._calls = calls
        self._values = values
        self._value: Tensor | None = None  # not projected yet
        self.layers: list[Attended] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            value = args[2] if len(args) > 2 else kwargs["value"]
            weights = self._keep(softmax_of_products(*args, **kwargs))
            value = repeated(value, weights.shape[-3])
            self._value = value.transpose(1, 2).flatten(2) if self._values and value.ndim == 4 else None
            return weights @ value
        if func is F.multi_head_attention_forward:
            return multi_head(args, kwargs, self._softmax)
        if func is F.linear and self._value is not None:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            if weight.shape[1] == self._value.shape[2]:
                self.layers[-1] = self.layers[-1]._replace(values=F.linear(self._value, weight))
            self._value = None
        result = func(*args, **kwargs)
        return self._keep(result) if func in SOFTMAXES and isinstance(result, Tensor) else result

    def _softmax(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, output: Tensor) -> Tensor:
        weights = self._keep(softmax_of_products(query, key, value, mask))
        if self._values:
            self.layers[-1] = self.layers[-1]._replace(values=F.linear(value.transpose(1, 2).flatten(2), output))
        return weights

    def _keep(self, weights: Tensor) -> Tensor:
        if weights.ndim == 4:
            if self.gradients and torch.is_grad_enabled() and not weights.requires_grad:
                weights = weights.detach().requires_grad_()
            self.layers.append(Attended(weights, self._layout(weights.shape[2]), self._calls() + 1))
        return weights


def multi_head(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    attend: Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor], Tensor],
) -> tuple[Tensor, Tensor | None]:
    """`F.multi_head_attention_forward`, whose softmax is out of sight, written out (tokens first: ``t b c``).

    Args:
        attend: makes the attention of queries, keys and values ``(b, heads, t, d)``, a mask as
            `F.scaled_dot_product_attention` takes it, and the weight of the output's projection.
    """
    bound = _MULTI_HEAD.bind(*args, **kwargs)
    bound.apply_defaults()
    a = bound.arguments
    unusual = ("bias_k", "bias_v", "add_zero_attn", "key_padding_mask", "static_k", "static_v")
    if any(a[name] is not None and a[name] is not False for name in unusual):
        raise SaliencyError(f"attention with {', '.join(unusual)} cannot be followed; GradCAM() can do without")
    if a["use_separate_proj_weight"]:
        weights = [a[f"{name}_proj_weight"] for name in "qkv"]
    else:
        weights = a["in_proj_weight"].chunk(3)
    biases = (None,) * 3 if a["in_proj_bias"] is None else a["in_proj_bias"].chunk(3)
    heads, mask = a["num_heads"], a["attn_mask"]
    query, key, value = (
        F.linear(a[name], weight, bias).view(*a[name].shape[:2], heads, -1).permute(1, 2, 0, 3)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True)
    )
    if mask is not None:
        # Here True forbids, in scaled_dot_product_attention it allows.
        mask = ~mask if mask.dtype == torch.bool else mask
        mask = mask.view(-1, heads, *mask.shape[1:]) if mask.ndim == 3 else mask
    attention = attend(query, key, value, mask, a["out_proj_weight"])
    mixed = (attention @ value).permute(2, 0, 1, 3).flatten(2)
    output = F.linear(mixed, a["out_proj_weight"], a["out_proj_bias"])
    if not a["need_weights"]:
        return output, None
    return output, attention.mean(1) if a["average_attn_weights"] else attention


_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)


def softmax_of_products(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The attention inside `F.scaled_dot_product_attention`, with its arguments; there is no dropout here."""
    key = repeated(key, query.shape[-3]) if enable_gqa else key
    products = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(products.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        allowed = attn_mask.dtype == torch.bool
        products = products.masked_fill(~attn_mask, -torch.inf) if allowed else products + attn_mask
    return products.softmax(-1)


def repeated(value: Tensor, heads: int) -> Tensor:
    """Keys or values that several heads share, once a head."""
    times = heads // value.shape[-3]
    return value if times == 1 else value.repeat_interleave(times, -3)
