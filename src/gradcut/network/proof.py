"""Proving that the places of a tensor are places of the photograph, where its shape alone does not say so.

An attention matrix, hidden states, the weights of branches, or tokens in the order of their windows may have the
shape of a map. So photographs are changed at some places, and the tensor has to answer there more than elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gradcut.network.layouts import Layout, MapCall

#: Where the photographs of a pair are changed, the one here and the other there, as shares of height and width. Both
#: places lie in one quarter, so that a map of two places by two can still be told from its neighbours.
PAIRS = (
    ((0.0, 1.0), (0.3, 0.7)),
    ((1.0, 0.0), (0.7, 0.3)),
    ((0.0, 0.35), (0.35, 0.1)),
    ((1.0, 0.65), (0.65, 0.9)),
)
#: The side of what is changed, as a share of the photograph's. A smaller change drowns in a deep network's last map.
PATCH = 0.25
#: The least correlation of a tensor's answers with what was changed. In networks of some 20 families, with weights as
#: drawn, maps have 0.45 and more; attention matrices, hidden states and tokens in another order 0.25 and less. In a
#: row of places a correlation comes about by chance, and in a map of 2 by 2 each place sees the whole photograph.
CORRELATION, IN_A_ROW, OF_FOUR = 0.3, 0.6, 0.15
#: How much the answers of a place have to differ, as a share of their mean. Below the second nothing but rounding does:
#: as before training, where a branch begins with zeros. Such a map is the same everywhere and tells nothing wrong.
LEAST, ALIKE = 0.01, 1e-6


class Proven(NamedTuple):
    """What was found out about a forward pass.

    Attributes:
        calls: how many functions it called; a pass with another number is another.
        maps: the calls that make maps.
    """

    calls: int
    maps: frozenset[MapCall]


def changed_pairs(x: Float[Tensor, "b 3 h w"]) -> Iterator[Float[Tensor, "2 3 h w"]]:
    """For each of `PAIRS` two photographs of noise that differ at its places alone, in the number type of ``x``."""
    h, w = x.shape[2:]
    noise, other = torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(0))
    colour = torch.tensor([3.0, -3.0, 3.0])[:, None, None]
    for pair in PAIRS:
        changed = noise.repeat(2, 1, 1, 1)
        for photograph, (row, column) in zip(changed, pair, strict=True):
            rows, columns = _patch(h, row), _patch(w, column)
            photograph[:, rows, columns] = 1.5 * other[:, rows, columns] + colour
        yield changed.to(x.device, x.dtype)


def _patch(side: int, at: float) -> slice:
    length = max(1, round(PATCH * side))
    start = round(at * (side - length))
    return slice(start, start + length)


class Answers:
    """How the tensors of a forward pass answer to `changed_pairs`, one pair after the other.

    Args:
        size: of the photographs.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self._maps: dict[MapCall, list[Float[Tensor, "h w"]]] = {}

    def note(self, place: MapCall, result: Tensor | None, frame: FrameType) -> None:
        """A tensor that has the shape of a map, as `ForwardPass` tells of it."""
        assert result is not None
        self._maps.setdefault(place, []).append(_answer(place.layout.of(result.detach())))

    def proven(self, calls: int) -> Proven:
        """What answered in the right places."""
        maps = (place for place, answers in self._maps.items() if self._right(answers, place.layout))
        return Proven(calls, frozenset(maps))

    def _right(self, answers: list[Float[Tensor, "h w"]], layout: Layout) -> bool:
        if len(answers) != len(PAIRS) or not self._shaped_as_the_photograph(layout):
            return False
        answer, changed = torch.stack(answers), self._changed(layout)
        if not answer.any():
            return False  # nothing of the photograph comes here
        # Each place beside the others, and beside itself in the other pairs: what always answers much says nothing.
        for axes in ((1, 2), (0,)):
            usual = answer.mean(axes, keepdim=True)
            answer = answer / usual.clamp(min=torch.finfo(usual.dtype).tiny)
        answer, changed = answer - 1, changed - changed.mean(0)
        strength = float(answer.square().mean().sqrt())
        if strength < LEAST:
            return strength < ALIKE
        length = float(answer.norm() * changed.norm())
        least = IN_A_ROW if min(layout.h, layout.w) == 1 else OF_FOUR if layout.h * layout.w == 4 else CORRELATION
        # For all the distances that the answers may lie beside the changes, as those of windows that are moved do.
        products = torch.fft.ifft2(torch.fft.fft2(answer) * torch.fft.fft2(changed).conj()).real.sum(0)
        if float(products[0, 0]) < least * length:
            return False
        best = divmod(int(products.argmax()), layout.w)
        off = [min(at, side - at) for at, side in zip(best, (layout.h, layout.w), strict=True)]
        return all(by <= max(1, side // 28) for by, side in zip(off, (layout.h, layout.w), strict=True))

    def _changed(self, layout: Layout) -> Float[Tensor, "pairs h w"]:
        """How much of each place is changed."""
        changed = torch.zeros(len(PAIRS), 1, *self.size)
        for number, pair in enumerate(PAIRS):
            for row, column in pair:
                changed[number, :, _patch(self.size[0], row), _patch(self.size[1], column)] += 1
        return F.adaptive_avg_pool2d(changed, (layout.h, layout.w))[:, 0]

    def _shaped_as_the_photograph(self, layout: Layout) -> bool:
        """A row or a column of places is a map of an elongated photograph alone: else it is what a mean has left."""
        if min(layout.h, layout.w) > 1:
            return True
        sides = sorted((self.size[0] / layout.h, self.size[1] / layout.w))
        return sides[1] <= 2 * sides[0]


def _answer(tensor: Float[Tensor, "2 c h w"]) -> Float[Tensor, "h w"]:
    """How the channels of each place differ between the two photographs, in relation to their size."""
    first, second = tensor.float()
    size = (first.norm(dim=0) + second.norm(dim=0)) / 2
    # No quotients of two that are next to nothing.
    answer: Tensor = (first - second).norm(dim=0) / (size + size.mean()).clamp(min=torch.finfo(size.dtype).tiny)
    return answer.cpu()
