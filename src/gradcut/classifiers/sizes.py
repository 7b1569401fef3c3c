"""Sizes of photographs that a network takes."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from gradcut.known import Known

Size = tuple[int, int]

#: By model: what came of the sizes that were asked for.
_KNOWN: Known[Size] = Known()


def patch(model: nn.Module) -> int:
    """Side of the patches that a network cuts a photograph into; 1 for one that does not begin so."""
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
