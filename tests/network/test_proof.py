"""What has the shape of a map and is none, beside what is one, in networks small enough to read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError
from gradcut.network import passes
from gradcut.network.passes import Wanted, watched
from gradcut.saliency import GradCAM


class Net(nn.Module):
    """Patches of 8 pixels, something in the middle, the mean over the places, a linear layer."""

    def __init__(self, middle: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.mix = nn.Parameter(torch.randn(16, 16, generator=generator) / 4)
        self.order = torch.randperm(64, generator=generator)
        self.head = nn.Linear(16, 3)
        self.middle = Middle(self, middle)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.patches(x).relu()).mean(1))


class Middle(nn.Module):
    """A module of its own, so that it has a name."""

    def __init__(self, net: Net, does: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.does = lambda x: does(net, x)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(self.does(x), (16,))


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def untouched(net: Net, x: Tensor) -> Tensor:
    return tokens(x) @ net.mix


def shuffled(net: Net, x: Tensor) -> Tensor:
    return tokens(x)[:, net.order]


def in_windows(net: Net, x: Tensor) -> Tensor:
    """Tokens window by window, as some hierarchical networks keep them."""
    b, c, h, w = x.shape
    return x.view(b, c, 2, h // 2, 2, w // 2).permute(0, 2, 4, 3, 5, 1).reshape(b, h * w, c)


def turned(net: Net, x: Tensor) -> Tensor:
    """Columns for rows: on a square grid, the shape stays."""
    return tokens(x.transpose(2, 3))


def hidden_states(net: Net, x: Tensor) -> Tensor:
    """16 states, as many as a grid of 4 by 4 has places, each a mean over all places."""
    return (tokens(x) @ net.mix).softmax(1).transpose(1, 2) @ tokens(x)


def attention(net: Net, x: Tensor) -> Tensor:
    """Among 16 tokens the attention, ``b heads 16 16`` after its dropout, has the shape of a map of a finer grid."""
    pooled = tokens(F.avg_pool2d(x, 2))
    heads = (pooled @ net.mix).view(len(x), 16, 4, 4).transpose(1, 2)
    weights = F.dropout((heads @ heads.transpose(2, 3)).softmax(-1), 0.1, False)
    return pooled + (weights @ heads).transpose(1, 2).reshape(pooled.shape)


#: What is done in the middle, the side of the photographs, and the grids that are maps.
MAPS: dict[str, tuple[Callable[[Net, Tensor], Tensor], int, list[tuple[int, int]]]] = {
    "tokens in raster order": (untouched, 64, [(8, 8)]),
    "tokens shuffled": (shuffled, 64, [(8, 8)]),
    "tokens in windows": (in_windows, 64, [(8, 8)]),
    "tokens turned": (turned, 64, [(8, 8)]),
    "hidden states": (hidden_states, 64, [(8, 8)]),
    "attention": (attention, 64, [(8, 8), (4, 4)]),
}


def classifier(middle: Callable[[Net, Tensor], Tensor]) -> Classifier:
    torch.manual_seed(0)
    return Classifier(Net(middle).eval(), 3, 64)


@pytest.mark.parametrize("case", MAPS)
def test_a_map_changes_where_the_photograph_does(case: str) -> None:
    middle, side, grids = MAPS[case]
    network = classifier(middle)
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    changed = x.clone()
    changed[:, :, side // 2 : 3 * side // 4, : side // 4] += 1  # the third quarter from above, at the left
    with torch.no_grad():
        before, after = (watched(network, each, Wanted(levels=3)).seen.maps for each in (x, changed))
    assert [tuple(level.shape[2:]) for level in after] == grids
    for level, other in zip(after, before, strict=True):
        change = F.adaptive_avg_pool2d((level - other).norm(dim=1), 4)[0]
        assert int(change.argmax()) == 2 * 4, change  # row 2, column 0
        assert float(change[2, 0]) > 4 * float(change.mean())


@pytest.mark.parametrize("middle", [shuffled, in_windows, turned])
def test_a_named_layer_whose_places_are_moved_is_refused(middle: Callable[[Net, Tensor], Tensor]) -> None:
    message = "layers: 'middle' of custom: its last result with the shape of a map does not change where the photograph"
    with pytest.raises(SaliencyError, match=message):
        GradCAM(layers="middle")(classifier(middle), torch.randn(1, 3, 64, 64), [(0, 1)])
    assert GradCAM(layers="middle")(classifier(untouched), torch.randn(1, 3, 64, 64), [(0, 1)]).shape == (1, 64, 64)


def test_a_network_of_convolutions_needs_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    def prove(*arguments: object) -> None:
        raise AssertionError("a proof was made")

    monkeypatch.setattr(passes, "_prove", prove)
    torch.manual_seed(0)
    network = Classifier(timm.create_model("resnet18", num_classes=3).eval(), 3, 64)
    with torch.no_grad():
        assert len(watched(network, torch.randn(1, 3, 64, 64), Wanted(levels=3)).seen.maps) == 3


def test_a_proof_is_made_once_for_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, prove = [], passes._prove
    monkeypatch.setattr(
        passes, "_prove", lambda network, x, order: sizes.append(x.shape[2:]) or prove(network, x, order)
    )
    network = classifier(untouched)
    with torch.no_grad():
        for size in ((64, 64), (64, 64), (64, 96)):
            watched(network, torch.randn(2, 3, *size), Wanted(levels=1))
        watched(network, torch.randn(2, 3, 96, 96))  # asks for no map
    assert sizes == [(64, 64), (64, 96)]


@pytest.mark.parametrize(
    ("architecture", "side", "grids"),
    [
        ("swinv2_cr_tiny_224", (224, 224), {(56, 56), (28, 28), (14, 14), (7, 7)}),
        ("efficientvim_m1", (224, 224), {(14, 14), (7, 7), (4, 4)}),
        ("resnest14d", (224, 320), {(56, 80), (28, 40), (14, 20), (7, 10)}),
    ],
)
def test_levels_of_networks_with_more_than_maps(
    architecture: str, side: tuple[int, int], grids: set[tuple[int, int]]
) -> None:
    """Attention among windows, hidden states and the weights of branches are none of the levels."""
    torch.manual_seed(0)
    network = Classifier(timm.create_model(architecture, num_classes=3).eval(), 3, side)
    with torch.no_grad():
        maps = watched(network, torch.randn(1, 3, *side), Wanted(levels=3)).seen.maps
    sizes = [tuple(level.shape[2:]) for level in maps]
    assert set(sizes) <= grids
    assert sizes == sorted(sizes, reverse=True)
