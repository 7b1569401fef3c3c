"""Starting the graph inside a network, at calls that make a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradcut.network.layouts import QUESTIONS, MapCall


class OtherPathError(Exception):
    """A forward pass called other functions than the one before."""


class Cuts(TorchFunctionMode):
    """While this context is open, the results of the given calls are kept so that gradients can be taken of them.

    If the photographs ask for no gradient, the graph begins at the first of them: all before costs no memory and no
    backward pass. Calls are numbered as `gradcut.network.forward.ForwardPass` numbers them.

    Args:
        places: calls, as `gradcut.network.layers.pass_from_maps` finds them.

    Attributes:
        tensors: the results as the model has them; ``place.layout.of(tensor)`` is the map.

    Raises:
        OtherPathError: within, where another function is called, or its result has another shape.
    """

    def __init__(self, places: Sequence[MapCall]) -> None:
        super().__init__()
        self.tensors: list[Tensor] = []
        self._places = {place.call: place for place in places}
        self._calls = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in QUESTIONS:
            return result
        self._calls += 1
        place = self._places.get(self._calls)
        if place is None:
            return result
        check_call(place, func, result)
        return self._cut(result, args)

    def _cut(self, result: Tensor, args: tuple[Any, ...]) -> Tensor:
        inplace = any(result is value for value in args)  # then the caller may go on with the argument
        if inplace and result.requires_grad:
            self.tensors.append(result)
            return result
        # A copy on either side, so that functions in place, before or after, change neither the graph's
        # beginning nor what is kept.
        start = result.clone() if result.requires_grad else result.detach().clone().requires_grad_()
        self.tensors.append(start)
        return result.copy_(start) if inplace else start.clone()


def check_call(place: MapCall, func: Callable[..., Any], result: Any) -> None:
    """Raise OtherPathError unless a call that made a map is the same again."""
    if func != place.function or not isinstance(result, Tensor) or tuple(result.shape[1:]) != place.shape:
        shape = ("b", *result.shape[1:]) if isinstance(result, Tensor) else type(result).__name__
        raise OtherPathError(
            f"call {place.call} was {_name(place.function)} with a result {('b', *place.shape)}, "
            f"now {_name(func)} with {shape}"
        )


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))
