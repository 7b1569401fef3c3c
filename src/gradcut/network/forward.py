"""What happens inside a network during one forward pass, seen without hooks and without naming layers.

`ForwardPass` is a `TorchFunctionMode`: it sees every torch function that the model calls, numbers the
calls, and keeps the spatial maps among the results. It changes nothing; what is to happen otherwise is other contexts'
business, which stand around it: `gradcut.network.passes` puts them together.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradcut.network.layouts import (
    CONCATENATIONS,
    LOCAL,
    NO_MAPS,
    QUESTIONS,
    Layout,
    MapCall,
    halvings,
    patches,
)

#: Told of a call that makes a map, its result, and the frame that called, off which can be read who was at work. In
#: place of a result that has the shape of a map and was not proven to be one comes None.
OnMap = Callable[[MapCall, Tensor | None, FrameType], None]


class LinearCall(NamedTuple):
    """A call of a linear layer: ``F.linear(input, weight, bias)``, its weight and bias without gradients.

    ``parameter`` is the weight as the model gave it, so that the layer can be found among the model's by identity.
    """

    weight: Float[Tensor, "n c"]
    bias: Float[Tensor, " n"] | None
    input: Float[Tensor, "*b c"]
    parameter: Tensor


class ForwardPass(TorchFunctionMode):
    """While this context is open, watches a classifier's forward pass.

    What has the shape of a map is a result with the batch's size whose height and width are those of a
    convolution's result, or a halving of them: ``(b, c, h, w)``, ``(b, h, w, c)``, or, made by a
    normalisation, a sum or a concatenation, the tokens ``(b, prefix + h w, c)`` with at most 8 tokens
    before the grid.

    Args:
        x: the photographs; only their number and size are kept.
        levels: keep the last maps of so many resolutions, those that were made last. It costs no copies, but the maps
            live as long as this object.
        prefix: the tokens before the grid, if known.
        on_map: called for each map, and for all that has the shape of tokens, whatever made it.
        proven: the calls that make maps, where that was found out; None takes all that have the shape.

    Attributes:
        doubtful: something with the shape of a map was made after a function that may have moved places about, so that
            the shape alone does not say that it is one.
        one_place: the last convolution's channels, if its result is of one place and so no map; else None.
        calls: how many functions were called, questions about a tensor's shape and the like aside.
    """

    def __init__(
        self,
        x: Float[Tensor, "b 3 h w"],
        levels: int = 1,
        prefix: int | None = None,
        on_map: OnMap | None = None,
        proven: Collection[MapCall] | None = None,
    ) -> None:
        super().__init__()
        self.levels = levels
        self.one_place: int | None = None
        self.doubtful = False
        self.calls = 0
        self._photographs = tuple(x.shape)
        self._prefix = prefix
        self._on_map = on_map
        self._proven = proven
        self._moved = False
        self._linear: tuple[Tensor, Tensor | None, Tensor] | None = None
        self._last: dict[tuple[int, int], tuple[Tensor, Layout]] = {}
        self._grids: set[tuple[int, int]] = set()
        self._before_attention: dict[int, Layout] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func not in QUESTIONS:
            # What is asked here of tensors is not the network's, and would go through the contexts around this one.
            with torch._C.DisableTorchFunction():
                self._note(func, result, args, kwargs, sys._getframe(1))
        return result

    def _note(
        self, func: Callable[..., Any], result: Any, args: tuple[Any, ...], kwargs: dict[str, Any], caller: FrameType
    ) -> None:
        self.calls += 1
        self._moved = self._moved or self._moves(func, result, args, kwargs)
        if not isinstance(result, Tensor):
            return
        if func is F.linear:
            self._linear = _linear(*args, **kwargs)
        layout = self._layout(func, result)
        if layout is None:
            return
        place = MapCall(self.calls, func, tuple(result.shape[1:]), layout)
        self.doubtful = self.doubtful or self._moved
        proven = self._proven is None or place in self._proven
        if proven:
            self._before_attention[layout.prefix + layout.h * layout.w] = layout
            if place.candidate:
                self._keep(result, layout)
        if self._on_map is not None:
            self._on_map(place, result if proven else None, caller)

    @property
    def linear(self) -> LinearCall | None:
        """The last call of a linear layer; None without one."""
        if self._linear is None:
            return None
        weight, bias, input = self._linear
        return LinearCall(weight.detach(), None if bias is None else bias.detach(), input, weight)

    @property
    def maps(self) -> tuple[Float[Tensor, "b c h w"], ...]:
        """The last maps of the last resolutions, in the order in which they were made; each a view.

        In an ordinary classifier the finest comes first.
        """
        return tuple(layout.of(tensor) for tensor, layout in self._last.values())

    @property
    def feature_map(self) -> Float[Tensor, "b c h w"] | None:
        """The last map."""
        return self.maps[-1] if self._last else None

    def queries(self, n: int) -> Layout | None:
        """How the places lie in the ``n`` queries of a layer of attention that is made now.

        They do if, since the layer of attention before, a map was made of so many places; a layer whose queries are
        learnt, as a pooling head's, makes none.
        """
        layout = self._before_attention.pop(n, None)
        return None if layout is None else Layout("tokens", layout.h, layout.w, layout.prefix)

    def _token_grid(self, n: int) -> Layout | None:
        """The grid in ``n`` tokens that leaves the fewest before it."""
        # A network without convolutions cuts its patches out with reshape.
        grids = self._grids or patches(*self._photographs[2:])
        fitting = [
            (n - h * w, h, w) for h, w in grids if n - h * w in (range(9) if self._prefix is None else (self._prefix,))
        ]
        if not fitting:
            return None
        prefix, h, w = min(fitting)
        return Layout("tokens", h, w, prefix)

    def _moves(self, func: Callable[..., Any], result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a function may have put something elsewhere than at its place, or made places of something else."""
        if isinstance(result, tuple | list):
            return any(self._moves(func, part, args, kwargs) for part in result)
        if not isinstance(result, Tensor) or result.shape[:1] != self._photographs[:1]:
            return False
        if sum(side > 1 for side in result.shape[1:]) < 2:
            return False  # a vector
        if func in CONCATENATIONS:
            return kwargs.get("dim", args[1] if len(args) > 1 else 0) != 1 or result.ndim != 4
        return func not in LOCAL

    def _keep(self, result: Tensor, layout: Layout) -> None:
        self._last.pop((layout.h, layout.w), None)  # so that the order is that of the calls
        self._last[layout.h, layout.w] = result, layout
        if len(self._last) > self.levels:
            del self._last[next(iter(self._last))]

    def _layout(self, func: Callable[..., Any], result: Tensor) -> Layout | None:
        shape = result.shape
        if len(shape) not in (3, 4) or shape[0] != self._photographs[0]:
            return None
        if len(shape) == 4:
            if func is F.conv2d:
                self._grids |= halvings(shape[2], shape[3])
                self.one_place = shape[1] if shape[2] * shape[3] == 1 else None
            if func in NO_MAPS:
                return None
            if (shape[2], shape[3]) in self._grids:
                return Layout("channels first", shape[2], shape[3])
            if (shape[1], shape[2]) in self._grids:
                return Layout("channels last", shape[1], shape[2])
            return None
        return self._token_grid(shape[1])


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor]:
    return weight, bias, input
