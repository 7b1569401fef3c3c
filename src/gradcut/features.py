"""What happens inside a network during one forward pass, seen without hooks and without naming layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class ForwardPass(TorchFunctionMode):
    """While this context is open, watches a classifier's forward pass.

    Parameters enter every function detached, so that no gradient of theirs is ever prepared, whatever
    their ``requires_grad`` says; the model itself is not touched.

    ``feature_map`` is the last result of shape (b, c, h, w) that still has a spatial extent; ``head`` the
    weight (n, c) and bias (n) of the last linear layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.feature_map: Tensor | None = None
        self.head: tuple[Tensor, Tensor | None] | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        args = tuple(_detached(value) for value in args)
        kwargs = {key: _detached(value) for key, value in (kwargs or {}).items()}
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and result.ndim == 4 and result.shape[2] * result.shape[3] > 1:
            self.feature_map = result
        if func is F.linear:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            self.head = weight, args[2] if len(args) > 2 else kwargs.get("bias")
        return result


def _detached(value: Any) -> Any:
    if isinstance(value, nn.Parameter):
        return value.detach()
    if isinstance(value, list | tuple) and any(isinstance(item, nn.Parameter) for item in value):
        return type(value)(map(_detached, value))
    return value
