"""What happens inside a network during one forward pass, seen without hooks and without naming layers.

`ForwardPass` is a `TorchFunctionMode`: it sees every torch function that the model calls, numbers the
calls, and keeps the spatial maps among the results. `find_maps` runs a model once to find out which calls
make the maps that a method needs; `ForwardPass(cuts=...)` then starts the graph at those calls, so that
everything before them costs no memory and no backward pass.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from types import FrameType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradcut.activations import Backward
from gradcut.classifier import Classifier
from gradcut.targets import SaliencyError


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
        return tensor[:, self.prefix :].transpose(1, 2).reshape(len(tensor), -1, self.h, self.w)


@dataclass(frozen=True)
class Place:
    """A call in a forward pass that makes a map: its number, what is called, its result's shape without the batch."""

    call: int
    function: Callable[..., Any]
    shape: tuple[int, ...]
    layout: Layout


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
        cuts: calls, as `find_maps` gives them, whose results are wanted in ``cut_tensors`` so that a gradient with
            respect to them can be taken. If the photographs ask for no gradient, the graph begins there.
        levels: keep the last map of every resolution in ``maps``, not only the very last. It costs no
            copies, but the maps live as long as this object.
        attention: keep the attention of every head in ``attention``.
        prefix: the tokens before the grid, if known.

    Attributes:
        maps: the last map, or the last of every resolution, in the order in which they were made; each a
            view ``Float "b c h w"``. Finest first in an ordinary classifier.
        head: the weight ``(n, c)`` and bias ``(n,)`` of the last linear layer.
        cut_tensors: for every cut, the tensor as the model has it; ``cut.layout.of(tensor)`` is the map.
        attention: of every layer ``Float "b heads queries keys"``, rows summing to 1, if it was asked for.
        calls: how many functions were called.
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
        self.levels = levels or bool(_RECORDINGS.get())
        self.head: tuple[Tensor, Tensor | None] | None = None
        self.cut_tensors: list[Tensor] = []
        self.attention: list[Tensor] | None = [] if attention else None
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
        args = tuple(_detached(value) for value in args)
        kwargs = {key: _detached(value) for key, value in (kwargs or {}).items()}
        result = self._attend(func, args, kwargs) if self.attention is not None else func(*args, **kwargs)
        self.calls += 1
        if not isinstance(result, Tensor):
            return result
        if func is F.linear:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            self.head = weight, args[2] if len(args) > 2 else kwargs.get("bias")
        if self.calls in self._places:
            result = self._cut(self._places[self.calls], func, result, args)
        layout = self._layout(func, result)
        if layout is not None:
            self._found(func, result, layout)
        return result

    @property
    def maps(self) -> tuple[Float[Tensor, "b c h w"], ...]:
        return tuple(layout.of(tensor) for tensor, layout in self._last.values())

    @property
    def feature_map(self) -> Float[Tensor, "b c h w"] | None:
        """The last map."""
        return self.maps[-1] if self._last else None

    def _found(self, func: Callable[..., Any], result: Tensor, layout: Layout) -> None:
        if layout.kind == "tokens" and func not in _TOKENS:
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
            raise _OtherPathError(
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
            if torch.is_grad_enabled() and not weights.requires_grad:
                weights = weights.detach().requires_grad_()  # the graph begins at the first attention
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

#: Results of these with four axes are attention, not maps.
_SOFTMAXES = frozenset({F.softmax, torch.softmax, Tensor.softmax})
_NO_MAPS = _SOFTMAXES | {torch.matmul, Tensor.matmul, Tensor.__matmul__, F.scaled_dot_product_attention}

#: What makes the tokens that count as a map: not the projections inside an attention or a perceptron.
_TOKENS = frozenset({
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
    if isinstance(value, nn.Parameter):
        return value.detach()
    if isinstance(value, list | tuple) and any(isinstance(item, nn.Parameter) for item in value):
        return type(value)(map(_detached, value))
    return value


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


_RECORDINGS: ContextVar[tuple[list[ForwardPass], ...]] = ContextVar("_RECORDINGS", default=())


@contextmanager
def recording() -> Iterator[list[ForwardPass]]:
    """Keep what every forward pass of a classifier inside this block saw, with ``levels``.

    A step that wants the features beside the saliency so gets them from the forward pass that saliency
    makes anyway:

        with recording() as passes:
            maps = CAM()(classifier, x, targets)
        finest, *_, coarsest = passes[0].maps

    A method that makes several passes records all of them, in order. The first is of the photographs as
    they are, except for methods that look only at changed ones (`SmoothGrad`, `IntegratedGradients`).
    """
    passes: list[ForwardPass] = []
    token = _RECORDINGS.set((*_RECORDINGS.get(), passes))
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
    with _as_written(classifier.model), rule or nullcontext(), seen:
        logits = classifier.logits(x)
    for passes in _RECORDINGS.get():
        passes.append(seen)
    return logits


@contextmanager
def _as_written(model: nn.Module) -> Iterator[None]:
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


class _OtherPathError(Exception):
    """A forward pass called other functions than the one before."""


class _Probe(ForwardPass):
    """Notes every map of a forward pass, and in which of the named modules it was made."""

    def __init__(self, x: Tensor, modules: Sequence[nn.Module], prefix: int | None) -> None:
        super().__init__(x, prefix=prefix)
        self.candidates: list[tuple[Place, Tensor | None]] = []
        self.made_by: dict[int, Place | None] = {id(module): None for module in modules}

    def _found(self, func: Callable[..., Any], result: Tensor, layout: Layout) -> None:
        place = Place(self.calls, func, tuple(result.shape[1:]), layout)
        if layout.kind != "tokens" or func in _TOKENS:
            self.candidates.append((place, result if result.requires_grad else None))
        if self.made_by:
            for owner in _owners(sys._getframe(2)) & self.made_by.keys():
                self.made_by[owner] = place


def _owners(frame: FrameType | None) -> set[int]:
    """The modules whose forward pass is going on, read off the stack: no hook tells, none has to be removed."""
    owners = set()
    while frame is not None:
        if frame.f_code.co_name in ("forward", "_call_impl"):
            owners.add(id(frame.f_locals.get("self")))
        frame = frame.f_back
    return owners


#: By model: for the size of the photographs and the layers, the calls, and how many there are in all.
_KNOWN: WeakKeyDictionary[nn.Module, dict[Any, tuple[tuple[Place, ...], int]]] = WeakKeyDictionary()


def run_with_maps(
    classifier: Classifier, x: Float[Tensor, "b 3 h w"], layers: int | tuple[str, ...]
) -> tuple[Float[Tensor, "b classes"], tuple[Place, ...], list[Tensor]]:
    """The logits, and maps inside the network from which their graph begins.

    The first call for a model and a size of photograph makes one or two more forward passes, to find
    the maps; what it found is kept as long as the model lives.

    Args:
        layers: the last map of each of the last so many resolutions, or the last map that is made in
            each of the modules of these names (as in ``model.named_modules()``).

    Returns:
        logits, places, and for each place the tensor to take gradients of; ``place.layout.of(tensor)`` is
        the map ``Float "b c h w"``.

    Raises:
        SaliencyError: no such module, it makes no map, or the network takes another path every time.
    """
    key = (tuple(x.shape[1:]), layers)
    known = _KNOWN.setdefault(classifier.model, {})
    for _ in range(2):
        if key not in known:
            known[key] = _find(classifier, x, layers)
        places, calls = known[key]
        seen = ForwardPass(x, cuts=places)
        try:
            logits = run(classifier, x, seen)
            if seen.calls != calls:
                raise _OtherPathError(f"it called {calls} functions, now {seen.calls}")
            return logits, places, seen.cut_tensors
        except _OtherPathError as found:
            # The model has been changed since, or the first pass filled a cache of its own.
            del known[key]
            reason = str(found)
    raise SaliencyError(
        f"{classifier.name}: its forward pass differs from one call to the next ({reason}), so that no map in it can "
        "be found again; Gradient() works with any classifier"
    )


def _find(
    classifier: Classifier, x: Float[Tensor, "b 3 h w"], layers: int | tuple[str, ...]
) -> tuple[tuple[Place, ...], int]:
    model = classifier.model
    names: tuple[str, ...] = () if isinstance(layers, int) else layers
    modules = [_module(model, name) for name in names]
    # Two photographs, so that what has no batch is not taken for a map.
    pair = x[:1].detach().expand(2, -1, -1, -1).clone()
    with torch.no_grad():
        probe, _ = _look(classifier, pair, modules)
    if names:
        return _named(classifier, x, names, [probe.made_by[id(module)] for module in modules]), probe.calls
    candidates = [place for place, _ in probe.candidates]
    if any(place.layout.kind == "tokens" for place in candidates):
        with torch.enable_grad():
            probe, logits = _look(classifier, pair.requires_grad_(), modules)
        influential = _influential(probe.candidates, logits)
        if candidates and not influential:
            raise SaliencyError(
                f"{classifier.name}: its logits depend on no map inside the network; are its weights initialised?"
            )
        candidates = influential
    if not candidates:
        raise SaliencyError(_no_map(classifier, x))
    last: dict[tuple[int, int], Place] = {}
    for place in candidates:
        last[place.layout.h, place.layout.w] = place
    ordered = sorted(last.values(), key=lambda place: place.call)
    assert isinstance(layers, int)
    if len(ordered) < layers:
        raise SaliencyError(
            f"layers: expected at most {len(ordered)}, the resolutions of {classifier.name}, got {layers}; "
            "name the layers to choose among more"
        )
    return tuple(ordered[-layers:]), probe.calls


def _look(classifier: Classifier, x: Tensor, modules: Sequence[nn.Module]) -> tuple[_Probe, Tensor]:
    probe = _Probe(x, modules, _prefix(classifier.model))
    with _as_written(classifier.model), probe:
        return probe, classifier.logits(x)


def _influential(candidates: Sequence[tuple[Place, Tensor | None]], logits: Tensor) -> list[Place]:
    """Those on whose grid, not only on whose class token, the logits depend."""
    inside = [(place, tensor) for place, tensor in candidates if tensor is not None]
    weights = torch.linspace(1, 2, logits.numel(), dtype=logits.dtype, device=logits.device).view_as(logits)
    gradients = torch.autograd.grad((logits * weights).sum(), [tensor for _, tensor in inside], allow_unused=True)
    return [
        place
        for (place, _), gradient in zip(inside, gradients, strict=True)
        if gradient is not None and bool(place.layout.of(gradient).any())
    ]


def _named(classifier: Classifier, x: Tensor, names: Sequence[str], made: Sequence[Place | None]) -> tuple[Place, ...]:
    places = []
    for name, place in zip(names, made, strict=True):
        if place is None:
            why = _no_map(classifier, x) if scripted(classifier.model) else "it makes no map of more than one place"
            raise SaliencyError(f"layers: {name!r} of {classifier.name}: {why}")
        places.append(place)
    calls = [place.call for place in places]
    if calls != sorted(set(calls)):
        raise SaliencyError(f"layers: expected each map once and in the network's order, got {tuple(names)}")
    return tuple(places)


def _module(model: nn.Module, name: str) -> nn.Module:
    modules: dict[str, nn.Module] = dict(model.named_modules())
    for known in (name, f"_orig_mod.{name}"):
        if name and known in modules:
            return modules[known]
    raise SaliencyError(
        f"layers: expected names from model.named_modules(), such as {_some(list(modules))}, got {name!r}"
    )


def _some(names: Sequence[str]) -> str:
    outer = [name for name in names if name and name.count(".") == 0]
    return ", ".join(map(repr, outer[-4:]))


def _prefix(model: nn.Module) -> int | None:
    """The tokens before the grid, where the model says so, as timm's do."""
    for module in model.modules():
        known = getattr(module, "num_prefix_tokens", None)
        if isinstance(known, int):
            return known
    return None


def _no_map(classifier: Classifier, x: Tensor) -> str:
    if scripted(classifier.model):
        return (
            f"{classifier.name} is a TorchScript module, whose functions cannot be seen; use the module that it was "
            "made from, or Gradient(), which needs to see none"
        )
    return (
        f"{classifier.name} makes no map of more than one place from photographs of {tuple(x.shape[2:])}; use larger "
        "ones, or Gradient(), which needs no map"
    )


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))
