"""Torch functions that PyTorch's own code for the CPU is slow at, made another way: the same values but for rounding.

While `Faster` is open these are called in the place of their namesakes, which they leave to PyTorch wherever they know
no better way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """`F.conv2d`, with its arguments. Over single pixels, on one thread, it is left to oneDNN, forwards and backwards.

    PyTorch gives those to MKL's matrix product where there is one thread and few photographs. On an AMD EPYC with
    AVX-512 that took twice the time, and they are most of the arithmetic of an EfficientNet.
    """
    single = (
        weight.shape[2:] == (1, 1) and groups == 1 and _all(stride, 1) and _all(padding, 0) and input.ndim == 4
        and torch.get_num_threads() == 1
    )  # fmt: skip
    if not (single and _is_onednns(input, weight, bias)):
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    if not (input.requires_grad and torch.is_grad_enabled()):
        return _pointwise(input, weight, bias)
    y: Tensor = _Pointwise.apply(input, weight, bias)
    return y


def _is_onednns(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN can be called by its name: float32 on the CPU, and no gradient is wanted of the weights."""
    return (
        input.dtype == weight.dtype == torch.float32
        and input.device.type == weight.device.type == "cpu"
        and not (torch.is_grad_enabled() and (weight.requires_grad or (bias is not None and bias.requires_grad)))
        and not torch.is_autocast_enabled("cpu")  # it would take another number type
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )


def _all(value: Any, wanted: int) -> bool:
    return value in (wanted, (wanted,), (wanted, wanted), [wanted], [wanted, wanted])


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.mkldnn_convolution(x, weight, bias, (0, 0), (1, 1), (1, 1), 1)


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # The other way about, and once for the backward passes of all the classes.
        ctx.save_for_backward(weight.transpose(0, 1).contiguous())
        return _pointwise(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (transposed,) = ctx.saved_tensors
        return _pointwise(gradient, transposed, None), None, None


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`F.batch_norm`, with its arguments. With fixed statistics it is a multiplication, and so is its backward pass.

    PyTorch's own on the CPU adds up the gradients of weight and bias whether asked to or not, which took a fifth
    of EfficientNet-Lite0's backward pass.
    """
    fixed = not training and running_mean is not None and running_var is not None
    graph = input.requires_grad and torch.is_grad_enabled()
    if not (fixed and graph and input.device.type == "cpu"):
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    y: Tensor = _FixedNorm.apply(input, running_mean, running_var, weight, bias, eps)
    return y


class _FixedNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        scale = (variance + eps).rsqrt()
        scale = scale if weight is None else scale * weight
        ctx.save_for_backward(scale.view(1, -1, *(1,) * (x.ndim - 2)))
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = ctx.saved_tensors
        return gradient * scale.to(gradient.dtype), None, None, None, None, None


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, with its arguments. Of many rows it is left to oneDNN, forwards and backwards.

    PyTorch gives it to MKL. On an AMD EPYC with AVX-512 that took 2.1 to 2.3 times the time, and it is most of the
    arithmetic of a transformer.
    """
    if not (_is_onednns(input, weight, bias) and input.shape[:-1].numel() >= _ROWS):
        return F.linear(input, weight, bias)
    if not (input.requires_grad and torch.is_grad_enabled()):
        return _product(input, weight, bias)
    y: Tensor = _Linear.apply(input, weight, bias)
    return y


#: From so many rows on oneDNN's product is the faster.
_ROWS = 16


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight.T.contiguous())
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (transposed,) = ctx.saved_tensors
        return _product(gradient, transposed, None), None, None


def pad(input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """`F.pad`, with its arguments. Round a map only the border is filled.

    PyTorch fills all of the result before it copies the map into it.
    """
    border = mode == "constant" and input.ndim == 4 and len(pad) == 4 and min(pad) >= 0
    if not (border and input.device.type == "cpu"):
        return F.pad(input, pad, mode, value)
    y: Tensor = _Padded.apply(input, tuple(pad), value or 0)
    return y


class _Padded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sides: tuple[int, int, int, int], value: float) -> Tensor:
        (left, right, top, bottom), (height, width) = sides, x.shape[2:]
        ctx.rows, ctx.columns = slice(top, top + height), slice(left, left + width)
        padded = _empty(x, (top + height + bottom, left + width + right))
        for border in (
            padded[:, :, :top],
            padded[:, :, top + height :],
            padded[..., :left],
            padded[..., left + width :],
        ):
            border.fill_(value)
        padded[:, :, ctx.rows, ctx.columns] = x
        return padded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inner = gradient[:, :, ctx.rows, ctx.columns]
        # In the order in memory that it comes in, and dense: what follows would make a copy in another one.
        return _empty(gradient, (inner.shape[2], inner.shape[3])).copy_(inner), None, None


def _empty(like: Tensor, size: tuple[int, int]) -> Tensor:
    """Of another height and width, in the same order in memory."""
    order = torch.channels_last if like.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return torch.empty((*like.shape[:2], *size), dtype=like.dtype, memory_format=order)


#: By the function that a network calls, the one that takes its place.
FASTER: Mapping[Callable[..., Any], Callable[..., Tensor]] = {
    F.conv2d: conv2d,
    F.linear: linear,
    F.batch_norm: batch_norm,
    F.pad: pad,
}


class Faster(TorchFunctionMode):
    """While this context is open, the functions of `FASTER` take the place of their namesakes."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        func = FASTER.get(func, func)
        return func(*args, **(kwargs or {}))
