"""Keeping a model's parameters out of the graph, without touching the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Frozen(TorchFunctionMode):
    """While this context is open, parameters enter every function detached.

    So no gradient of theirs is ever prepared, whatever their ``requires_grad`` says.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return func(*map(_detached, args), **{key: _detached(value) for key, value in (kwargs or {}).items()})


def _detached(value: Any) -> Any:
    if type(value) in _NO_PARAMETERS:  # isinstance, which nn.Parameter overrides, is slow
        return value
    if isinstance(value, nn.Parameter):
        return value.detach()
    if isinstance(value, list | tuple) and any(isinstance(item, nn.Parameter) for item in value):
        return type(value)(map(_detached, value))
    return value


_NO_PARAMETERS = frozenset({Tensor, int, float, bool, str, type(None)})
