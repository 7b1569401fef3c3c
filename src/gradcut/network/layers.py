"""Finding a map inside any network, by name or without, and starting the graph there.

A first pass finds out which call of the forward pass makes the map; the passes after it cut the graph at
that call, so that everything before costs no memory and no backward pass.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError
from gradcut.network.forward import TOKENS, ForwardPass, Layout, OtherPathError, Place, as_written, run, scripted


class _Probe(ForwardPass):
    """Notes every map of a forward pass, and in which of the named modules it was made."""

    def __init__(self, x: Tensor, modules: Sequence[nn.Module], prefix: int | None) -> None:
        super().__init__(x, prefix=prefix)
        self.candidates: list[tuple[Place, Tensor | None]] = []
        self.made_by: dict[int, tuple[Place, Tensor | None] | None] = {id(module): None for module in modules}

    def _found(self, func: Callable[..., Any], result: Tensor, layout: Layout) -> None:
        place = Place(self.calls, func, tuple(result.shape[1:]), layout)
        kept = result if result.requires_grad else None
        if layout.kind != "tokens" or func in TOKENS:
            self.candidates.append((place, kept))
        if self.made_by:
            for owner in _owners(sys._getframe(2)) & self.made_by.keys():
                self.made_by[owner] = place, kept


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
                raise OtherPathError(f"it called {calls} functions, now {seen.calls}")
            return logits, places, seen.cut_tensors
        except OtherPathError as found:
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
    if any(place.layout.kind == "tokens" for place, _ in probe.candidates):
        # Then a map may be there of which only the class token is read.
        with torch.enable_grad():
            probe, logits = _look(classifier, pair.requires_grad_(), modules)
        read = _influential(probe, logits)
        if probe.candidates and not read:
            raise SaliencyError(
                f"{classifier.name}: its logits depend on no map inside the network; are its weights initialised?"
            )
    else:
        read = {place for place, _ in probe.candidates}
    if names:
        return _named(classifier, names, [probe.made_by[id(module)] for module in modules], read), probe.calls
    if not read:
        raise SaliencyError(_no_map(classifier, x))
    last: dict[tuple[int, int], Place] = {}
    for place in sorted(read, key=lambda place: place.call):
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
    with as_written(classifier.model), probe:
        return probe, classifier.logits(x)


def _influential(probe: _Probe, logits: Tensor) -> set[Place]:
    """The maps on whose grid, not only on whose class token, the logits depend."""
    found = [*probe.candidates, *(made for made in probe.made_by.values() if made is not None)]
    inside = [(place, tensor) for place, tensor in found if tensor is not None]
    weights = torch.linspace(1, 2, logits.numel(), dtype=logits.dtype, device=logits.device).view_as(logits)
    gradients = torch.autograd.grad((logits * weights).sum(), [tensor for _, tensor in inside], allow_unused=True)
    return {
        place
        for (place, _), gradient in zip(inside, gradients, strict=True)
        if gradient is not None and bool(place.layout.of(gradient).any())
    }


def _named(
    classifier: Classifier,
    names: Sequence[str],
    made: Sequence[tuple[Place, Tensor | None] | None],
    read: set[Place],
) -> tuple[Place, ...]:
    places = []
    for name, found in zip(names, made, strict=True):
        if found is None:
            why = "it makes no map of more than one place"
            if scripted(classifier.model):
                why = "a TorchScript module shows none of its functions; use the module that it was made from"
            raise SaliencyError(f"layers: {name!r} of {classifier.name}: {why}")
        if found[0].layout.kind == "tokens" and found[0] not in read:
            raise SaliencyError(
                f"layers: {name!r} of {classifier.name}: the logits do not depend on its map, only on the tokens "
                "before it; name an earlier layer"
            )
        places.append(found[0])
    calls = [place.call for place in places]
    if calls != sorted(set(calls)):
        raise SaliencyError(f"layers: expected each map once and in the network's order, got {tuple(names)}")
    return tuple(places)


def _module(model: nn.Module, name: str) -> nn.Module:
    # A compiled module has itself, as it was written, inside.
    modules: dict[str, nn.Module] = {
        ".".join(part for part in path.split(".") if part != "_orig_mod"): module
        for path, module in model.named_modules()
    }
    if not name or name not in modules:
        raise SaliencyError(
            f"layers: expected names from model.named_modules(), such as {_some(list(modules))}, got {name!r}"
        )
    return modules[name]


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
