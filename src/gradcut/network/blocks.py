"""Where in a forward pass a transformer's blocks are, and what its head makes of places one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradcut.classifiers.classifier import Classifier, NoMemoryError
from gradcut.errors import ClassifierError, SaliencyError
from gradcut.known import Known
from gradcut.network.attention import WrittenOut, between_all
from gradcut.network.cuts import OtherPathError
from gradcut.network.layouts import SUMS, Layout, MapCall
from gradcut.network.passes import Wanted, watched
from gradcut.network.replay import Averaged, Changed, Replaced, Replacement, replayed
from gradcut.network.view import View

T = TypeVar("T")

_NORMS = (F.layer_norm, F.rms_norm)


@dataclass(frozen=True)
class Blocks:
    """The layers in which all the places attend to all, in their order, and the last map.

    Args:
        attention: the numbers of the calls that compute it; none in a network without such before its last map.
        before: for each the last map that was made before; where norms come first, that of its block.
        inputs: for each what that map is the norm of, if it is one: what goes into the block.
        output: the last sum of the last block, if there is one.
        last: the last map of all, which the head reads, or tokens beside it.
        calls: how many functions the network calls.
    """

    attention: tuple[int, ...]
    before: tuple[MapCall, ...]
    inputs: tuple[MapCall, ...]
    output: MapCall | None
    last: MapCall
    calls: int


#: By the size of the photographs; whether the head can read one place, by that too: what is wrong, or nothing.
_KNOWN: Known[Blocks] = Known()
_READ: Known[str] = Known()


def with_blocks(view: View, make: Callable[[Blocks], T]) -> T:
    """What is made of a network's blocks, which are found again, once, if they are not where they were.

    Raises:
        SaliencyError: there is no map, or the network takes another path every time.
    """
    model, key = view.classifier.model, tuple(view.x.shape[2:])
    reason = ""
    for _ in range(2):
        blocks = _KNOWN.get(model, key)
        if blocks is None:
            blocks = blocks_of(view.classifier, view.x)
            _KNOWN.put(model, key, blocks)
        try:
            return make(blocks)
        except OtherPathError as error:
            _KNOWN.forget(model, key)
            _READ.forget(model, key)
            reason = str(error)
    raise SaliencyError(
        f"{view.classifier.name}: its forward pass differs from one call to the next ({reason}), so that no map in it "
        "can be found again; Gradient() works with any classifier"
    )


def pair_of(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "2 3 h w"]:
    """The first photograph twice, so that what has no batch is not taken for a map."""
    return x[:1].detach().expand(2, -1, -1, -1)


def blocks_of(classifier: Classifier, x: Float[Tensor, "b 3 h w"]) -> Blocks:
    """The blocks, from a watched forward pass.

    Raises:
        SaliencyError: there is no map.
    """
    maps: list[MapCall] = []
    last = 0

    def note(place: MapCall, result: Tensor | None, frame: object) -> None:
        nonlocal last
        if place.call <= last:
            maps.clear()  # the pass was made again
        last = place.call
        if place.candidate and result is not None:
            maps.append(place)

    with torch.no_grad():
        made = watched(classifier, pair_of(x), Wanted(on_map=note, attention=True))
    if not maps:
        raise SaliencyError(
            f"{classifier.name}: no map of more than one place can be seen in it from photographs of "
            f"{tuple(x.shape[2:])}; Gradient() needs none"
        )
    layers = [layer for layer in between_all(made.attention, 2) if layer.call < maps[-1].call]
    before, inputs, output = [], [], None
    for layer in layers:
        assert layer.layout is not None
        grid = layer.layout[1:3]
        earlier = [place for place in maps if place.call < layer.call and place.layout[1:3] == grid]
        before.append(earlier[-1])
        inputs.append(earlier[-2] if earlier[-1].function in _NORMS and len(earlier) > 1 else earlier[-1])
        sums = [place for place in maps if place.call > layer.call and place.function in SUMS]
        output = next((place for place in reversed(sums) if place.layout[1:3] == grid), None)
    return Blocks(
        tuple(layer.call for layer in layers), tuple(before), tuple(inputs), output, maps[-1], made.seen.calls
    )


def one_place(vectors: Float[Tensor, "m c"], layout: Layout) -> Tensor:
    """Each vector as the map of a photograph of one place, all tokens before it the same; of the layout's kind."""
    if layout.kind == "tokens":
        return vectors[:, None].expand(-1, layout.prefix + 1, -1)
    return vectors[:, :, None, None] if layout.kind == "channels first" else vectors[:, None, None]


def apart(result: Tensor, layout: Layout) -> Tensor:
    """Each place of a map as a photograph of its own, those of one photograph one after the other, in rows."""
    return one_place(layout.of(result).flatten(2).transpose(1, 2).flatten(0, 1), layout)


def at_places(view: View, attention: Replacement | None = None, deviation: float = 5.0) -> Float[Tensor, "b n gh gw"]:
    """The logits that the rest of the network makes of every place of the last map, as if the others were like it.

    That is the head's answer to the place, whatever the head reads: class and register tokens are given the place's
    features too, of places alike the mean is the place, and so is what is pooled by attention, by way of its values.

    Args:
        attention: how the last attention between the places is replaced; None leaves it.
        deviation: as for `Replaced`.

    Raises:
        SaliencyError: no map, a head that cannot read a place, no attention to replace.
    """

    def make(blocks: Blocks) -> Tensor:
        check_read(view, blocks)
        return _at_places(view.classifier, view.x, blocks, attention, deviation)

    return with_blocks(view, make)


def mean_of_places(view: View) -> tuple[Float[Tensor, "b n"], Tensor, Layout]:
    """The logits if the head reads the mean of the places: of their embeddings, or else of their logits.

    Returns:
        The logits, the last map before the last attention, fit to take gradients of, and how its places lie in it.

    Raises:
        SaliencyError: no map, a head that cannot read a place, no attention among places.
    """

    def make(blocks: Blocks) -> tuple[Tensor, Tensor, Layout]:
        check_read(view, blocks)
        check_attention(view.classifier, blocks)
        cut: list[Tensor] = []

        def begin(result: Tensor) -> Tensor:
            cut.append(result.detach().clone().requires_grad_())
            return cut[0].clone()

        layout = blocks.last.layout
        averaged = Averaged(len(view.x), layout.h * layout.w)
        counted = Changed({blocks.before[-1]: begin, blocks.last: lambda result: apart(result, layout)})
        logits = _read(view.classifier, view.x, counted, [averaged])
        if not averaged.done:
            logits = logits.reshape(len(view.x), layout.h * layout.w, -1).mean(1)
        return logits, cut[0], blocks.before[-1].layout

    return with_blocks(view, make)


def means_of_blocks(view: View, layers: int) -> tuple[Float[Tensor, "m n"], list[Tensor], Layout]:
    """The logits that the head makes of the mean token of each of the last blocks, or of all if they are fewer.

    Returns:
        A row for each block and photograph, those of one block one after the other; each block's attention, on which
        its own rows depend and no others; and how the places lie in its tokens.

    Raises:
        SaliencyError: no map, a head that cannot read a place, no attention among places, or no sum after it.
    """

    def make(blocks: Blocks) -> tuple[Tensor, list[Tensor], Layout]:
        check_read(view, blocks)
        check_attention(view.classifier, blocks)
        begin, *ends = _tokens(view.classifier, (*blocks.inputs[-layers:], blocks.output))
        means: list[Tensor] = []

        def note(result: Tensor) -> Tensor:
            means.append(result.mean(1))
            return result.detach()  # so that the blocks after it do not depend on it

        def read(result: Tensor) -> Tensor:
            note(result)
            return one_place(torch.cat(means), layout)

        layout = ends[-1].layout
        changes = {begin: Tensor.detach, **dict.fromkeys(ends[:-1], note), ends[-1]: read}
        counted = Changed(changes)
        written = WrittenOut(True, lambda n: None, lambda: counted.calls)
        logits = _read(view.classifier, view.x, counted, [written])
        calls = blocks.attention[-layers:]
        return logits, [layer.weights for layer in written.layers if layer.call in calls], layout

    return with_blocks(view, make)


class Mixing(NamedTuple):
    """How a block mixes its tokens: the attention, their values by its projection, and the tokens that go in."""

    attention: Float[Tensor, "b heads t t"]
    values: Float[Tensor, "b t c"]
    inputs: Float[Tensor, "b t c"]


def mixing_blocks(view: View, layers: int | None) -> tuple[Float[Tensor, "b n"], list[Mixing], Layout]:
    """The logits, how each of the last blocks mixes its tokens, and how the places lie in these.

    Args:
        layers: so many blocks, or all if they are fewer; None takes half of them.

    Raises:
        SaliencyError: no map, no attention among places, or one whose values cannot be seen.
    """

    def make(blocks: Blocks) -> tuple[Tensor, list[Mixing], Layout]:
        check_attention(view.classifier, blocks)
        inputs: list[Tensor] = []

        def note(result: Tensor) -> Tensor:
            inputs.append(result)
            return result

        last = layers or -(-len(blocks.attention) // 2)
        counted = Changed(dict.fromkeys(_tokens(view.classifier, blocks.inputs[-last:]), note))
        written = WrittenOut(False, lambda n: None, lambda: counted.calls, values=True)
        logits = _read(view.classifier, view.x, counted, [written])
        seen = [layer for layer in written.layers if layer.call in blocks.attention[-last:]]
        mixing = [
            Mixing(layer.weights, layer.values, tokens)
            for layer, tokens in zip(seen, inputs, strict=True)
            if layer.values is not None and layer.values.shape[:2] == tokens.shape[:2]
        ]
        if len(mixing) < len(seen):
            raise SaliencyError(
                f"{view.classifier.name}: the values of its attention cannot be seen, as it is computed in the "
                "network's own code and not by torch's scaled_dot_product_attention or MultiheadAttention"
            )
        return logits, mixing, Layout("tokens", *blocks.before[-1].layout[1:])

    return with_blocks(view, make)


def _tokens(classifier: Classifier, places: Sequence[MapCall | None]) -> list[MapCall]:
    """What goes into the blocks and what comes out, if these are tokens that go from each into the next."""
    tokens = [place for place in places if place is not None and place.layout.kind == "tokens"]
    if len(dict.fromkeys(tokens)) < len(places):
        raise SaliencyError(
            f"{classifier.name}: it cannot be told which tokens go from one of its blocks into the next; GradCAM() "
            "works with any that has a feature map"
        )
    return tokens


def check_attention(classifier: Classifier, blocks: Blocks) -> None:
    """Raise SaliencyError if there is no layer in which all the places attend to all."""
    if not blocks.attention:
        raise SaliencyError(
            f"{classifier.name} has no layer in which all the places attend to all, which a method for transformers "
            "needs; GradCAM() works with any that has a feature map"
        )


def check_read(view: View, blocks: Blocks) -> None:
    """Raise SaliencyError if the head cannot read a place by itself; found out once, with two photographs.

    With one, what is read beside the last map might go unseen.
    """
    model, key = view.classifier.model, tuple(view.x.shape[2:])
    reason = _READ.get(model, key)
    if reason is None:
        try:
            with torch.no_grad():
                _at_places(view.classifier, pair_of(view.x), blocks)
            reason = ""
        except NoMemoryError:
            raise
        except ClassifierError as error:
            reason = str(error)
        _READ.put(model, key, reason)
    if reason:
        raise SaliencyError(
            f"{view.classifier.name}: what comes after its last map cannot read one place by itself ({reason}); "
            "GradCAM() works with any that has a feature map"
        )


def _at_places(
    classifier: Classifier,
    x: Float[Tensor, "b 3 h w"],
    blocks: Blocks,
    attention: Replacement | None = None,
    deviation: float = 5.0,
) -> Float[Tensor, "b n gh gw"]:
    layout = blocks.last.layout
    counted = Changed({blocks.last: lambda result: apart(result, layout)})
    modes: list[TorchFunctionMode] = []
    if attention is not None:
        check_attention(classifier, blocks)
        tokens = Layout("tokens", *blocks.before[-1].layout[1:])
        modes = [Replaced(attention, blocks.attention[-1], tokens, deviation, lambda: counted.calls)]
    logits = _read(classifier, x, counted, modes)
    if len(logits) != len(x) * layout.h * layout.w:
        raise ClassifierError(f"{layout.h * layout.w} places of {len(x)} photographs have {len(logits)} answers")
    return logits.reshape(len(x), layout.h, layout.w, -1).permute(0, 3, 1, 2)


def _read(
    classifier: Classifier, x: Float[Tensor, "b 3 h w"], counted: Changed, modes: list[TorchFunctionMode]
) -> Float[Tensor, "m n"]:
    try:
        logits = replayed(classifier, x, [*modes, counted])
        counted.check()
        for mode in modes:
            if isinstance(mode, Replaced):
                mode.check()
    except SaliencyError as error:
        raise SaliencyError(f"{classifier.name}: {error}") from None
    return logits
