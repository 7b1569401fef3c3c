"""What happens inside a network during one forward pass, seen without hooks and without naming layers.

`ForwardPass` is a `TorchFunctionMode`: it sees every torch function that the model calls, numbers the
calls, and keeps the spatial maps among the results.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError
from gradcut.network.activations import Backward
from gradcut.network.faster import FASTER


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
class Place:
    """A call in a forward pass that makes a map: its number, what is called, its result's shape without the batch."""

    call: int
    function: Callable[..., Any]
    shape: tuple[int, ...]
    layout: Layout


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

    Parameters enter every function detached, so that no gradient of theirs is ever prepared, whatever
    their ``requires_grad`` says; the model itself is not touched.

    What counts as a map is a result with the batch's size whose height and width are those of a
    convolution's result, or a halving of them: ``(b, c, h, w)``, ``(b, h, w, c)``, or, made by a
    normalisation, a sum or a concatenation, the tokens ``(b, prefix + h w, c)`` with at most 8 tokens
    before the grid.

    Args:
        x: the photographs; only their number and size are kept.
        cuts: calls, as `layers.run_with_maps` finds them, whose results are wanted in ``cut_tensors`` so that a
            gradient with respect to them can be taken. If the photographs ask for no gradient, the graph
            begins there.
        levels: keep the last map of every resolution in ``maps``, not only the very last. It costs no
            copies, but the maps live as long as this object.
        attention: keep the attention of every head in ``attention``, fit to take gradients of: if nothing before
            asks for one, the graph begins at the first attention.
        prefix: the tokens before the grid, if known.

    Attributes:
        maps: the last map, or the last of every resolution, in the order in which they were made; each a
            view ``Float "b c h w"``. Finest first in an ordinary classifier.
        one_place: the last convolution's channels, if its result is of one place and so no map; else None.
        linear: the last call of a linear layer; None without one.
        cut_tensors: for every cut, the tensor as the model has it; ``cut.layout.of(tensor)`` is the map.
        attention: of every layer ``Float "b heads queries keys"``, rows summing to 1, if this pass or a
            `recording` of it asks for it.
        calls: how many functions were called, questions about a tensor's shape and the like aside.
    """

    def __init__(
        self,
        x: Float[Tensor, "b 3 h w"],
        cuts: Sequence[Place] = (),
        levels: bool = False,
        attention: bool = False,
        prefix: int | None = None,
    ) -> None:
        super().__init__()
        self._photographs = tuple(x.shape)
        wanted = [each for each in _RECORDINGS.get() if each.of is None or _same(each.of, x)]
        self._recordings = [each.passes for each in wanted]
        self.levels = levels or bool(wanted)
        self.one_place: int | None = None
        self.linear: LinearCall | None = None
        self.cut_tensors: list[Tensor] = []
        self.attention: list[Tensor] | None = [] if attention or any(each.attention for each in wanted) else None
        self._graph_from_attention = attention
        self.calls = 0
        self._prefix = prefix
        self._last: dict[tuple[int, int], tuple[Tensor, Layout]] = {}
        self._places = {place.call: place for place in cuts}
        self._grids: set[tuple[int, int]] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _QUESTIONS:
            return func(*args, **kwargs)
        parameter = (args[1] if len(args) > 1 else kwargs["weight"]) if func is F.linear else None
        if torch.is_grad_enabled():
            args = tuple([_detached(value) for value in args])
            kwargs = {key: _detached(value) for key, value in kwargs.items()}
        if func is Tensor.view and not (len(args) == 2 and isinstance(args[1], torch.dtype)):
            func = Tensor.reshape  # the same, but for a model that counts on its photographs' order in memory
        if func in FASTER:
            result: Any = FASTER[func](*args, **kwargs)
        elif self.attention is not None:
            result = self._attend(func, args, kwargs)
        else:
            result = func(*args, **kwargs)
        self.calls += 1
        if not isinstance(result, Tensor):
            return result
        if parameter is not None:
            bias = args[2] if len(args) > 2 else kwargs.get("bias")
            input = args[0] if args else kwargs["input"]
            self.linear = LinearCall(parameter.detach(), _detached(bias), input, parameter)
        if self.calls in self._places:
            result = self._cut(self._places[self.calls], func, result, args)
        layout = self._layout(func, result)
        if layout is not None:
            self._found(func, result, layout)
        return result

    def record(self) -> None:
        """Hand this pass to the recordings that it began in."""
        for passes in self._recordings:
            passes.append(self)
        self._recordings = []  # a cycle would keep the maps until the garbage collector comes by

    @property
    def maps(self) -> tuple[Float[Tensor, "b c h w"], ...]:
        return tuple(layout.of(tensor) for tensor, layout in self._last.values())

    @property
    def feature_map(self) -> Float[Tensor, "b c h w"] | None:
        """The last map."""
        return self.maps[-1] if self._last else None

    def _found(self, func: Callable[..., Any], result: Tensor, layout: Layout) -> None:
        if layout.kind == "tokens" and func not in TOKENS:
            return
        if not self.levels:
            self._last.clear()
        self._last.pop((layout.h, layout.w), None)  # so that the order is that of the calls
        self._last[layout.h, layout.w] = result, layout

    def _layout(self, func: Callable[..., Any], result: Tensor) -> Layout | None:
        shape = result.shape
        if len(shape) not in (3, 4) or shape[0] != self._photographs[0]:
            return None
        if len(shape) == 4:
            if func is F.conv2d:
                self._grids |= _halvings(shape[2], shape[3])
                self.one_place = shape[1] if shape[2] * shape[3] == 1 else None
            if func in _NO_MAPS:
                return None
            if (shape[2], shape[3]) in self._grids:
                return Layout("channels first", shape[2], shape[3])
            if (shape[1], shape[2]) in self._grids:
                return Layout("channels last", shape[1], shape[2])
            return None
        return self.token_grid(shape[1])

    def token_grid(self, n: int) -> Layout | None:
        """The grid in ``n`` tokens that leaves the fewest before it."""
        # A network without convolutions cuts its patches out with reshape.
        grids = self._grids or _patches(*self._photographs[2:])
        fitting = [
            (n - h * w, h, w) for h, w in grids if n - h * w in (range(9) if self._prefix is None else (self._prefix,))
        ]
        if not fitting:
            return None
        prefix, h, w = min(fitting)
        return Layout("tokens", h, w, prefix)

    def _cut(self, place: Place, func: Callable[..., Any], result: Tensor, args: tuple[Any, ...]) -> Tensor:
        if func != place.function or tuple(result.shape[1:]) != place.shape:
            raise OtherPathError(
                f"call {place.call} was {_name(place.function)} with a result {('b', *place.shape)}, "
                f"now {_name(func)} with {('b', *result.shape[1:])}"
            )
        inplace = any(result is value for value in args)  # then the caller may go on with the argument
        if inplace and result.requires_grad:
            self.cut_tensors.append(result)
            return result
        # A copy on either side, so that functions in place, before or after, change neither the graph's
        # beginning nor what is kept.
        kept = result.clone() if result.requires_grad else result.detach().clone().requires_grad_()
        self.cut_tensors.append(kept)
        return result.copy_(kept) if inplace else kept.clone()

    def _attend(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The call itself, with its attention written out and kept where there is one."""
        if func is F.scaled_dot_product_attention:
            value = args[2] if len(args) > 2 else kwargs["value"]
            weights = self._keep(_softmax_of_products(*args, **kwargs))
            return weights @ _repeated(value, weights.shape[-3])
        if func is F.multi_head_attention_forward:
            return self._multi_head(args, kwargs)
        result = func(*args, **kwargs)
        return self._keep(result) if func in _SOFTMAXES and isinstance(result, Tensor) else result

    def _keep(self, weights: Tensor) -> Tensor:
        assert self.attention is not None
        if weights.ndim == 4:
            if self._graph_from_attention and torch.is_grad_enabled() and not weights.requires_grad:
                weights = weights.detach().requires_grad_()
            self.attention.append(weights)
        return weights

    def _multi_head(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """`torch.nn.MultiheadAttention`, whose softmax is out of sight, written out (tokens first: ``t b c``)."""
        given = _MULTI_HEAD.bind(*args, **kwargs)
        given.apply_defaults()
        a = given.arguments
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
        attention = self._keep(_softmax_of_products(query, key, value, mask))
        mixed = (attention @ value).permute(2, 0, 1, 3).flatten(2)
        output = F.linear(mixed, a["out_proj_weight"], a["out_proj_bias"])
        if not a["need_weights"]:
            return output, None
        return output, attention.mean(1) if a["average_attn_weights"] else attention


_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)

_SOFTMAXES = frozenset({F.softmax, torch.softmax, Tensor.softmax})

#: What asks about a tensor and makes none: a network asks often, and it should cost nothing.
_QUESTIONS = frozenset({
    Tensor.shape.__get__, Tensor.ndim.__get__, Tensor.dtype.__get__, Tensor.device.__get__,  # type: ignore[attr-defined]
    Tensor.requires_grad.__get__, Tensor.size, Tensor.dim, Tensor.numel, Tensor.__len__, torch._assert,  # type: ignore[attr-defined]
})  # fmt: skip

#: Results of these with four axes are attention, or a coarser copy that the head makes of the last map.
_NO_MAPS = _SOFTMAXES | {
    torch.matmul, Tensor.matmul, Tensor.__matmul__, F.scaled_dot_product_attention,
    F.adaptive_avg_pool2d, F.adaptive_max_pool2d,
}  # fmt: skip

#: What makes the tokens that count as a map: not the projections inside an attention or a perceptron.
TOKENS = frozenset({
    F.layer_norm, F.rms_norm, torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.add_, Tensor.__iadd__,
    torch.cat, torch.concat, torch.addcmul,
})  # fmt: skip


@cache
def _halvings(h: int, w: int) -> frozenset[tuple[int, int]]:
    """A grid, and the grids that halving it again and again leads to, whichever way the odd ones are rounded."""
    if h < 1 or w < 1 or h * w < 2:
        return frozenset()
    coarser = ((-(-h // 2), -(-w // 2)), (h // 2, w // 2), (h // 2 - 1, w // 2 - 1))
    return frozenset({(h, w)}).union(*(_halvings(*grid) for grid in coarser))


@cache
def _patches(h: int, w: int) -> frozenset[tuple[int, int]]:
    """The grids of square patches, 2 pixels or more, that fill a photograph."""
    sides = (side for side in range(2, min(h, w)) if h % side == 0 and w % side == 0)
    return frozenset((h // side, w // side) for side in sides)


def _detached(value: Any) -> Any:
    if type(value) in _NO_PARAMETERS:  # isinstance, which nn.Parameter overrides, is slow
        return value
    if isinstance(value, nn.Parameter):
        return value.detach()
    if isinstance(value, list | tuple) and any(isinstance(item, nn.Parameter) for item in value):
        return type(value)(map(_detached, value))
    return value


_NO_PARAMETERS = frozenset({Tensor, int, float, bool, str, type(None)})


def _softmax_of_products(
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
    key = _repeated(key, query.shape[-3]) if enable_gqa else key
    products = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(products.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        allowed = attn_mask.dtype == torch.bool
        products = products.masked_fill(~attn_mask, -torch.inf) if allowed else products + attn_mask
    return products.softmax(-1)


def _repeated(value: Tensor, heads: int) -> Tensor:
    """Keys or values that several heads share, once a head."""
    times = heads // value.shape[-3]
    return value if times == 1 else value.repeat_interleave(times, -3)


class _Recording(NamedTuple):
    passes: list[ForwardPass]
    of: Tensor | None
    attention: bool


_RECORDINGS: ContextVar[tuple[_Recording, ...]] = ContextVar("_RECORDINGS", default=())


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


@contextmanager
def recording(of: Float[Tensor, "b 3 h w"] | None = None, attention: bool = False) -> Iterator[list[ForwardPass]]:
    """Keep what every forward pass of a classifier inside this block saw, with ``levels``.

    A step that wants the features beside the saliency so gets them from the forward pass that saliency
    makes anyway:

        with recording() as passes:
            maps = CAM()(classifier, x, targets)
        finest, *_, coarsest = passes[0].maps

    A method that makes several passes records all of them, in order. The first is of the photographs as
    they are, except for methods that look only at changed ones (`SmoothGrad`, `IntegratedGradients`).

    Args:
        of: keep only passes of exactly these photographs.
        attention: keep the attention of every head too.
    """
    passes: list[ForwardPass] = []
    token = _RECORDINGS.set((*_RECORDINGS.get(), _Recording(passes, of, attention)))
    try:
        yield passes
    finally:
        _RECORDINGS.reset(token)


def run(
    classifier: Classifier, x: Float[Tensor, "b 3 h w"], seen: ForwardPass, rule: Backward | None = None
) -> Float[Tensor, "b classes"]:
    """The classifier's logits, with the pass watched.

    Compiled code runs as it was before compilation: the compiled one shows none of its functions.

    Raises:
        ClassifierError: as `Classifier.logits`.
    """
    # The rule goes round the watch, so that the watch sees the calls that the model itself makes.
    with as_written(classifier.model), rule or nullcontext(), seen:
        logits = classifier.logits(x)
    seen.record()
    return logits


def fresh(classifier: Classifier, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """The same photographs, detached, fit for a graph of their own.

    On the CPU the channels of a pixel lie side by side, which makes convolutions faster; TorchScript is given
    what it was made for.
    """
    x = x.clone() if x.is_inference() else x.detach()
    if x.device.type == "cpu" and not scripted(classifier.model):
        return x.contiguous(memory_format=torch.channels_last)
    return x


@contextmanager
def as_written(model: nn.Module) -> Iterator[None]:
    """Run what has been compiled as it was before."""
    if "torch._dynamo" in sys.modules and any(
        isinstance(module, torch._dynamo.OptimizedModule) or module._compiled_call_impl is not None
        for module in model.modules()
    ):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield


def scripted(model: nn.Module) -> bool:
    """Whether any part of a model is TorchScript, whose functions cannot be seen."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())


class OtherPathError(Exception):
    """A forward pass called other functions than the one before."""


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))
