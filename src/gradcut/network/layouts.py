"""Which results of a network's functions are maps, and how the places of a map lie in a tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gradcut.network.activations import ACTIVATIONS


class Layout(NamedTuple):
    """How a map of ``h`` by ``w`` places lies in a tensor: which axes they are, and the tokens before them."""

    kind: str  # "channels first": b c h w; "channels last": b h w c; "tokens": b (prefix + h w) c
    h: int
    w: int
    prefix: int = 0

    def of(self, tensor: Tensor) -> Float[Tensor, "b c h w"]:
        """The map, without class and register tokens."""
        if self.kind == "channels first":
            return tensor
        if self.kind == "channels last":
            return tensor.permute(0, 3, 1, 2)
        return tensor[:, self.prefix :].transpose(1, 2).reshape(len(tensor), tensor.shape[2], self.h, self.w)


@dataclass(frozen=True)
class MapCall:
    """A call in a forward pass that makes a map: its number, what is called, its result's shape without the batch."""

    call: int
    function: Callable[..., Any]
    shape: tuple[int, ...]
    layout: Layout

    @property
    def candidate(self) -> bool:
        """Whether it counts without being named: of what has the shape of tokens, much is inside a layer."""
        return self.layout.kind != "tokens" or self.function in TOKENS


#: What asks about a tensor and makes none: a network asks often, and it should cost nothing.
QUESTIONS = frozenset({
    Tensor.shape.__get__, Tensor.ndim.__get__, Tensor.dtype.__get__, Tensor.device.__get__,  # type: ignore[attr-defined]
    Tensor.requires_grad.__get__, Tensor.size, Tensor.dim, Tensor.numel, Tensor.__len__, torch._assert,  # type: ignore[attr-defined]
})  # fmt: skip

SOFTMAXES = frozenset({F.softmax, torch.softmax, Tensor.softmax})

#: Results of these with four axes are attention, or a coarser copy that the head makes of the last map.
NO_MAPS = SOFTMAXES | {
    torch.matmul, Tensor.matmul, Tensor.__matmul__, F.scaled_dot_product_attention,
    F.adaptive_avg_pool2d, F.adaptive_max_pool2d,
}  # fmt: skip

SUMS = frozenset({torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.add_, Tensor.__iadd__})

#: What makes the tokens that count as a map: not the projections inside an attention or a perceptron.
TOKENS = SUMS | {F.layer_norm, F.rms_norm, torch.cat, torch.concat, torch.addcmul}

CONCATENATIONS = frozenset({torch.cat, torch.concat, torch.concatenate})

#: What leaves everything at its place: of a network that has called nothing else, what has a map's shape is a map.
LOCAL = ACTIVATIONS | {
    F.conv2d, F.batch_norm, F.group_norm, F.instance_norm, F.local_response_norm, F.dropout, F.dropout2d, F.pad,
    F.interpolate, F.avg_pool2d, F.max_pool2d, F._max_pool2d, torch.max_pool2d, F.hardsigmoid,  # type: ignore[attr-defined]
    F.sigmoid, torch.sigmoid, Tensor.sigmoid, Tensor.sigmoid_, F.tanh, torch.tanh, Tensor.tanh, torch.clamp,
    Tensor.clamp, Tensor.clamp_, torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.add_, Tensor.__iadd__,
    torch.sub, Tensor.sub, Tensor.__sub__, Tensor.__rsub__, torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__,
    Tensor.mul_, Tensor.__imul__, torch.div, Tensor.div, Tensor.__truediv__, Tensor.div_, Tensor.clone, torch.clone,
    Tensor.contiguous, Tensor.to, Tensor.float, Tensor.type_as, Tensor.detach, Tensor.copy_,
}  # fmt: skip


@cache
def halvings(h: int, w: int) -> frozenset[tuple[int, int]]:
    """A grid, and the grids that halving it again and again leads to, whichever way the odd ones are rounded."""
    if h < 1 or w < 1 or h * w < 2:
        return frozenset()
    coarser = ((-(-h // 2), -(-w // 2)), (h // 2, w // 2), (h // 2 - 1, w // 2 - 1))
    return frozenset({(h, w)}).union(*(halvings(*grid) for grid in coarser))


@cache
def patches(h: int, w: int) -> frozenset[tuple[int, int]]:
    """The grids of square patches, 2 pixels or more, that fill a photograph."""
    sides = (side for side in range(2, min(h, w)) if h % side == 0 and w % side == 0)
    return frozenset((h // side, w // side) for side in sides)
