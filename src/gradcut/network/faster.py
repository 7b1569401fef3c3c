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
        weight.shape[2:] == (1, 1)
        and groups == 1
        and _all(stride, 1)
        and _all(padding, 0)
        and input.ndim == 4
        and input.dtype == weight.dtype == torch.float32
        and input.device.type == weight.device.type == "cpu"
        and not (torch.is_grad_enabled() and (weight.requires_grad or (bias is not None and bias.requires_grad)))
        and not torch.is_autocast_enabled("cpu")  # it would take another number type
    )
    if not (single and torch.get_num_threads() == 1 and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    if not (input.requires_grad and torch.is_grad_enabled()):
        return _pointwise(input, weight, bias)
    y: Tensor = _Pointwise.apply(input, weight, bias)
    return y


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


#: By the function that a network calls, the one that takes its place.
FASTER: Mapping[Callable[..., Any], Callable[..., Tensor]] = {F.conv2d: conv2d, F.batch_norm: batch_norm}


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
