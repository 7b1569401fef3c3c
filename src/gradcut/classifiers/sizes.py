"""Sizes of photographs that a network takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gradcut.known import Known

Size = tuple[int, int]

#: By model: what came of the sizes that were asked for.
_KNOWN: Known[Size] = Known()


class Patches(nn.Module):
    """Cuts photographs ``(b, 3, h, w)`` into patches, for models of transformers that take these (NaFlex).

    They get ``pixel_values`` ``(b, n, side * side * 3)``, row by row and within a patch as their processor has them, a
    mask of ones ``(b, n)`` and the grid's ``spatial_shapes`` ``(b, 2)``.

    Args:
        model: whose positions are interpolated once a batch, not once a photograph, as all have one grid: so that a
            forward pass calls the same functions for any number of photographs.
    """

    def __init__(self, side: int, model: nn.Module) -> None:
        super().__init__()
        self.side = side
        for module in model.modules():
            resized: Any = getattr(module, "resize_positional_embeddings", None)
            if resized is not None:
                module.resize_positional_embeddings = partial(_resized_once, resized)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h, w = x.shape[2] // self.side, x.shape[3] // self.side
        cut = x.reshape(len(x), 3, h, self.side, w, self.side).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        grid = torch.tensor([[h, w]], device=x.device).expand(len(x), 2)
        mask = torch.ones(len(x), h * w, dtype=torch.int32, device=x.device)
        return {"pixel_values": cut, "pixel_attention_mask": mask, "spatial_shapes": grid}


def _resized_once(resized: Callable[..., Tensor], positions: Tensor, spatial_shapes: Tensor, max_length: int) -> Tensor:
    one: Tensor = resized(positions, spatial_shapes[:1], max_length=max_length)
    return one.expand(len(spatial_shapes), -1, -1)


def joined(cut: Float[Tensor, "b n values"], grid: Tensor, side: int) -> Float[Tensor, "b 3 h w"]:
    """Photographs of one grid ``(2,)``, of the patches that `Patches` makes; those that fill up are left out."""
    h, w = grid.tolist()
    patches = cut[:, : h * w].reshape(len(cut), h, w, side, side, 3)
    return patches.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def patch(model: nn.Module) -> int:
    """Side of the patches that a network cuts a photograph into; 1 for one that does not begin so."""
    cutting = next((module for module in model.modules() if isinstance(module, Patches)), None)
    if cutting is not None:
        return cutting.side
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.kernel_size != first.stride or first.kernel_size[0] != first.kernel_size[1]:
        return 1
    return int(first.kernel_size[0])


def nearest(model: nn.Module, size: Size, takes: Callable[[Size], bool]) -> Size:
    """The size itself, or, where a network that cuts patches does not take it, the nearest one that it takes.

    Only a size that is no multiple of the patch is tried, once, and then the nearest multiples of the patch and of
    what merging patches by twos makes of it. Where none is taken the size stays: the network says why.

    Args:
        takes: whether the network takes photographs of a size.
    """
    side = patch(model)
    if all(length % side == 0 for length in size):
        return size
    known = _KNOWN.get(model, size)
    if known is None:
        steps = [side * 2**merged for merged in range(4)]
        rounded = [(max(1, round(size[0] / n)) * n, max(1, round(size[1] / n)) * n) for n in steps]
        known = next((candidate for candidate in (size, *rounded) if takes(candidate)), size)
        _KNOWN.put(model, size, known)
    return known
