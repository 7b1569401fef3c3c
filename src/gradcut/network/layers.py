"""Finding a map inside any network, by name or without, and starting the graph there.

A first pass finds out which call of the forward pass makes the map; the passes after it cut the graph at
that call, so that everything before costs no memory and no backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError
from gradcut.known import Known
from gradcut.network.blocks import blocks_of
from gradcut.network.cuts import OtherPathError
from gradcut.network.layouts import MapCall
from gradcut.network.passes import Pass, Wanted, gradients, scripted, watched
from gradcut.network.view import View


class _Noted(NamedTuple):
    """A call that makes what has the shape of a map, and its result if a gradient of it can be taken."""

    place: MapCall
    tensor: Tensor | None
    proven: bool


class _Found:
    """The maps of a forward pass, and what each of the named modules made last that has the shape of one."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = modules
        self._begin()

    def _begin(self) -> None:
        self._call = 0
        self.candidates: list[_Noted] = []
        self.made_by: dict[int, _Noted | None] = {id(module): None for module in self._modules}

    def note(self, place: MapCall, result: Tensor | None, frame: FrameType) -> None:
        if place.call <= self._call:
            self._begin()  # the pass was made again, in another order in memory
        self._call = place.call
        noted = _Noted(place, result if result is not None and result.requires_grad else None, result is not None)
        if place.candidate and noted.proven:
            self.candidates.append(noted)
        if self.made_by:
            for owner in _owners(frame) & self.made_by.keys():
                self.made_by[owner] = noted


def _owners(frame: FrameType | None) -> set[int]:
    """The modules whose forward pass is going on, read off the stack: no hook tells, none has to be removed."""
    owners = set()
    while frame is not None:
        if frame.f_code.co_name in ("forward", "_call_impl"):
            owners.add(id(frame.f_locals.get("self")))
        frame = frame.f_back
    return owners


#: The name, which no module has, of a transformer's last map before its last attention.
BEFORE_ATTENTION = "before attention"

#: For the size of the photographs and the layers, the calls, and how many there are in all.
_KNOWN: Known[tuple[tuple[MapCall, ...], int]] = Known()


def pass_from_maps(
    view: View, layers: int | tuple[str, ...], written_out: bool = False
) -> tuple[Pass, tuple[MapCall, ...]]:
    """A forward pass whose graph begins at maps inside the network.

    The first call for a model and a size of photograph makes one or two more forward passes, to find
    the maps; what it found is kept as long as the model lives.

    Args:
        layers: the last map of each of the last so many resolutions, or the last map that is made in
            each of the modules of these names (as in ``model.named_modules()``); `BEFORE_ATTENTION` alone, the last map
            before the last layer in which all the places attend to all.
        written_out: as for `Wanted`.

    Returns:
        The pass, and the calls at which it was cut: ``place.layout.of(tensor)`` of a cut tensor is the map
        ``Float "b c h w"``.

    Raises:
        SaliencyError: no such module, it makes no map, or the network takes another path every time.
    """
    classifier, model = view.classifier, view.classifier.model
    key = (tuple(view.x.shape[1:]), layers)
    for _ in range(2):
        known = _KNOWN.get(model, key)
        if known is None:
            known = _find(classifier, view.x, layers)
            _KNOWN.put(model, key, known)
        places, calls = known
        try:
            made = view.watch(Wanted(cuts=places, written_out=written_out))
            if made.seen.calls != calls:
                raise OtherPathError(f"it called {calls} functions, now {made.seen.calls}")
            return made, places
        except OtherPathError as error:
            # The model has been changed since, or the first pass filled a cache of its own.
            _KNOWN.forget(model, key)
            reason = str(error)
    raise SaliencyError(
        f"{classifier.name}: its forward pass differs from one call to the next ({reason}), so that no map in it can "
        "be found again; Gradient() works with any classifier"
    )


def _find(
    classifier: Classifier, x: Float[Tensor, "b 3 h w"], layers: int | tuple[str, ...]
) -> tuple[tuple[MapCall, ...], int]:
    model = classifier.model
    names: tuple[str, ...] = () if isinstance(layers, int) else layers
    if names == (BEFORE_ATTENTION,):
        blocks = blocks_of(classifier, x)
        if not blocks.before:
            raise SaliencyError(
                f"layers: {BEFORE_ATTENTION!r} needs a layer in which all the places attend to all; {classifier.name} "
                "has none"
            )
        return blocks.before[-1:], blocks.calls
    # Two photographs, so that what has no batch is not taken for a map.
    pair = x[:1].detach().expand(2, -1, -1, -1)
    modules = [_module(model, name) for name in names]
    found = _Found(modules)
    with torch.no_grad():
        made = watched(classifier, pair, Wanted(on_map=found.note))
    if any(noted.place.layout.kind == "tokens" for noted in found.candidates):
        # Then a map may be there of which only the class token is read.
        with torch.enable_grad():
            made = watched(classifier, pair, Wanted(on_map=found.note, gradients=True))
        read = _influential(classifier, found, made.logits)
        if found.candidates and not read:
            raise SaliencyError(
                f"{classifier.name}: its logits depend on no map inside the network; are its weights initialised?"
            )
    else:
        read = {noted.place for noted in found.candidates}
    calls = made.seen.calls
    if names:
        return _named(classifier, names, [found.made_by[id(module)] for module in modules], read), calls
    if not read:
        raise SaliencyError(_no_map(classifier, x))
    last: dict[tuple[int, int], MapCall] = {}
    for place in sorted(read, key=lambda place: place.call):
        last[place.layout.h, place.layout.w] = place
    ordered = sorted(last.values(), key=lambda place: place.call)
    assert isinstance(layers, int)
    if len(ordered) < layers:
        raise SaliencyError(
            f"layers: expected at most {len(ordered)}, the resolutions of {classifier.name}, got {layers}; "
            "name the layers to choose among more"
        )
    return tuple(ordered[-layers:]), calls


def _influential(classifier: Classifier, found: _Found, logits: Tensor) -> set[MapCall]:
    """The maps on whose grid, not only on whose class token, the logits depend."""
    noted = [*found.candidates, *(last for last in found.made_by.values() if last is not None)]
    inside = [(place, tensor) for place, tensor, _ in noted if tensor is not None]
    weights = torch.linspace(1, 2, logits.numel(), dtype=logits.dtype, device=logits.device).view_as(logits)
    leading = gradients(classifier, logits, [tensor for _, tensor in inside], weights)
    return {
        place
        for (place, _), gradient in zip(inside, leading, strict=True)
        if gradient is not None and bool(place.layout.of(gradient).any())
    }


def _named(
    classifier: Classifier,
    names: Sequence[str],
    made: Sequence[_Noted | None],
    read: set[MapCall],
) -> tuple[MapCall, ...]:
    places = []
    for name, noted in zip(names, made, strict=True):
        if noted is None:
            why = "it makes no map of more than one place"
            if scripted(classifier.model):
                why = "a TorchScript module shows none of its functions; use the module that it was made from"
            raise SaliencyError(f"layers: {name!r} of {classifier.name}: {why}")
        if not noted.proven:
            raise SaliencyError(
                f"layers: {name!r} of {classifier.name}: its last result with the shape of a map does not change where "
                "the photograph does, so that its places are not the photograph's; name another layer"
            )
        if noted.place.layout.kind == "tokens" and noted.place not in read:
            raise SaliencyError(
                f"layers: {name!r} of {classifier.name}: the logits do not depend on its map, only on the tokens "
                "before it; name an earlier layer"
            )
        places.append(noted.place)
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
