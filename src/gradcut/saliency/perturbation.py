"""Saliency by trying out: what becomes of a class score where something is taken away.

No gradient is needed, so that `Occlusion` and `RISE` explain any network, TorchScript too, as `KernelSHAP` does in a
module of its own. They cost many forward passes, whose number each says beforehand; ``batch`` versions of a photograph
go through the network at once, and all the classes of a photograph share them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError, check_least
from gradcut.network.cuts import OtherPathError
from gradcut.network.layers import pass_from_maps
from gradcut.network.layouts import Layout, MapCall
from gradcut.network.replay import Changed, replayed
from gradcut.network.view import View
from gradcut.saliency.baselines import Baseline, baseline_of, check_baseline
from gradcut.saliency.gradcams import GradCAM, fused
from gradcut.saliency.gradients import decided
from gradcut.saliency.maps import Size, above_least, resized, rows_by_photograph, upsampled, wide
from gradcut.saliency.method import Method
from gradcut.saliency.targets import Score, Target, Targets, check_score, resolve, scores

#: Called after every batch with how many versions of photographs have been looked at, and how many there are.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Occlusion(Method):
    """How much the score falls where a window is covered (Zeiler & Fergus 2014).

    ``ReLU(mean of S(x) - S(x covered))`` over the windows in which a pixel is; a window at the edge is cut off there.
    Needs nothing. Costs one forward pass, and one for each window: 170 at the defaults, whatever the number of
    classes.

    Args:
        of: which score, see `Score`.
        window: the window's sides, as shares of the photograph's; above 0, at most 1.
        stride: from one window to the next, as a share of the window's side; above 0, at most 1.
        baseline: what covers, see `Baseline`.
        batch: so many covered photographs go through the network at once.
        progress: called after every batch, see `Progress`.
    """

    of: Score = "logit"
    window: float = 1 / 7
    stride: float = 0.5
    baseline: Baseline = "mean"
    batch: int = 16
    progress: Progress | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_score(self.of)
        check_baseline(self.baseline)
        check_least(SaliencyError, self, batch=1)
        for name in ("window", "stride"):
            _check_share(name, getattr(self, name))

    def windows(self, h: int, w: int) -> list[tuple[slice, slice]]:
        """The rows and columns of the windows in a photograph of that size."""
        sides = [max(1, round(self.window * side)) for side in (h, w)]
        steps = [max(1, round(self.stride * side)) for side in sides]
        tops, lefts = (
            [step * n for n in range(math.ceil((whole - side) / step) + 1)]
            for whole, side, step in zip((h, w), sides, steps, strict=True)
        )
        return [(slice(top, top + sides[0]), slice(left, left + sides[1])) for top in tops for left in lefts]

    def explain(self, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
        classifier, x = view.classifier, view.x.detach()
        with torch.no_grad():
            whole = view.watch().logits
            pairs = resolve(targets, whole)
            maps = wide(x.new_zeros(len(pairs), *x.shape[2:]))
            windows = self.windows(*x.shape[2:])
            count = maps.new_zeros(x.shape[2:])
            for window in windows:
                count[window] += 1
            cover = baseline_of(classifier, x, self.baseline).expand_as(x)
            steps = Steps(self.progress, len(windows) * len({b for b, _ in pairs}))
            for b, rows, groups in by_photograph(pairs):
                before = scores(classifier, whole[b : b + 1], groups, self.of)[0]
                for first in range(0, len(windows), self.batch):
                    chosen = windows[first : first + self.batch]
                    covered = x[b].expand(len(chosen), -1, -1, -1).clone()
                    for version, (top, left) in zip(covered, chosen, strict=True):
                        version[:, top, left] = cover[b, :, top, left]
                    fall = before - scores(classifier, plain_logits(classifier, covered), groups, self.of)
                    for falls, (top, left) in zip(fall, chosen, strict=True):
                        for row, value in zip(rows, falls.tolist(), strict=True):
                            maps[row, top, left] += value
                    steps.done(len(chosen))
            return (maps / count).clamp(min=0)


@dataclass(frozen=True)
class RISE(Method):
    """What randomly masked photographs have in common that keep the score up (Petsiuk et al. 2018).

    ``sum_i (S(x M_i) - mean S) M_i / (N p)``, less its minimum, of N masks: grids of 0 and 1, the latter with
    probability p, made smooth by bilinear interpolation and moved by up to a cell. What a mask takes away has the
    classifier's mean colour. The paper does not subtract the mean of the scores; with more and more masks both come to
    the same, up to what is the same everywhere, and with few the masks' own sum does not drown what they say. Needs
    nothing. Costs N forward passes, and one more where the targets are a function.

    Args:
        of: which score, see `Score`; the paper takes the probability.
        masks: N. The paper takes 4000 or 8000; the map is the finer and the less random the more there are.
        cells: of a mask along each side.
        keep: p, above 0, at most 1.
        seed: of the masks, which are the same for every photograph.
        batch: so many masked photographs go through the network at once.
        progress: called after every batch, see `Progress`.
    """

    of: Score = "probability"
    masks: int = 1000
    cells: int = 7
    keep: float = 0.5
    seed: int = 0
    batch: int = 16
    progress: Progress | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_score(self.of)
        check_least(SaliencyError, self, masks=1, cells=1, seed=0, batch=1)
        _check_share("keep", self.keep)

    def explain(self, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
        classifier, x = view.classifier, view.x.detach()
        pairs = decided(view, targets)
        h, w = x.shape[2:]
        cell = -(-h // self.cells), -(-w // self.cells)
        # Drawn together and on the CPU, so that neither the batch nor the device decides what comes.
        generator = torch.Generator().manual_seed(self.seed)
        grids = torch.rand(self.masks, self.cells, self.cells, generator=generator) < self.keep
        shifts = torch.stack([torch.randint(0, side, (self.masks,), generator=generator) for side in cell], 1)
        with torch.no_grad():
            maps = wide(x.new_zeros(len(pairs), h, w))
            about: dict[int, Tensor] = {}
            all_masks, all_scores = maps.new_zeros(h, w), maps.new_zeros(len(pairs))
            steps = Steps(self.progress, self.masks * len({b for b, _ in pairs}))
            for first in range(0, self.masks if pairs else 0, self.batch):
                chosen = slice(first, first + self.batch)
                masks = _smooth(grids[chosen], shifts[chosen], cell, (h, w)).to(maps)
                all_masks += masks.sum(0)
                for b, rows, groups in by_photograph(pairs):
                    logits = plain_logits(classifier, x[b] * masks[:, None].to(x.dtype))
                    found = scores(classifier, logits, groups, self.of)
                    # Less the first masks' mean, so that what is subtracted in the end is small.
                    found = found - about.setdefault(b, found.mean(0))
                    maps[rows] += torch.einsum("mn,mhw->nhw", found, masks)
                    all_scores[rows] += found.sum(0)
                    steps.done(len(masks))
            usual = all_scores[:, None, None] * all_masks / self.masks
            return above_least((maps - usual) / (self.masks * self.keep))


def _smooth(
    grids: Bool[Tensor, "m s s"], shifts: Int[Tensor, "m 2"], cell: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "m h w"]:
    """Masks in [0, 1] of grids, each begun so many pixels inside its first cell."""
    larger = [(grids.shape[1] + 1) * side for side in cell]
    wider = F.interpolate(grids[:, None].float(), larger, mode="bilinear", align_corners=False)[:, 0]
    corners = zip(wider, shifts.tolist(), strict=True)
    return torch.stack([mask[top : top + size[0], left : left + size[1]] for mask, (top, left) in corners])


@dataclass(frozen=True)
class OfChannels(GradCAM):
    """A class activation map whose channels are weighed by trying each out; what it costs depends on their number."""

    batch: int = 32
    progress: Progress | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(SaliencyError, self, batch=1)

    def sized(self, view: View, targets: Targets, size: Size) -> Float[Tensor, "n _ _"]:
        layers = (self.layers,) if isinstance(self.layers, str) else self.layers
        with torch.inference_mode(False), torch.enable_grad():  # a graph finds maps that the logits depend on
            made, places = pass_from_maps(view, layers)
            pairs = resolve(targets, made.logits)
        with torch.no_grad():
            logits = made.logits.detach()
            features = [place.layout.of(cut.detach()) for place, cut in zip(places, made.cut, strict=True)]
            steps = Steps(self.progress, sum(A.shape[1] for A in features) * len({b for b, _ in pairs}))
            maps = []
            for place, A in zip(places, features, strict=True):
                coarse = wide(A.new_zeros(len(pairs), *A.shape[2:]))
                for b, rows, groups in by_photograph(pairs):
                    before = scores(view.classifier, logits[b : b + 1], groups, self.of)[0]
                    weights = self.weights(view, b, place, A[b], groups, before, steps)
                    coarse[rows] = torch.einsum("cn,chw->nhw", weights, wide(A[b])).clamp(min=0).to(coarse.dtype)
                maps.append(resized(coarse, size))
            return fused(maps, self.fuse)

    def weights(
        self,
        view: View,
        photograph: int,
        place: MapCall,
        A: Float[Tensor, "c gh gw"],
        groups: Sequence[tuple[int, ...]],
        before: Float[Tensor, " n"],
        steps: Steps,
    ) -> Float[Tensor, "c n"]:
        """Of each channel for each of the photograph's targets, whose scores are ``before`` as it is."""
        raise NotImplementedError


@dataclass(frozen=True)
class ScoreCAM(OfChannels):
    """Score-CAM (Wang et al. 2020): each channel weighed by the score of the photograph seen through it.

    ``ReLU(sum_k w_k A_k)``, w the softmax over the channels of ``S(x M_k)``, M_k the channel from 0 to 1, resized to
    the photograph; what it takes away has the classifier's mean colour. Needs a map inside the network. Costs one
    forward pass, and one for each of its channels that is not the same everywhere, whatever the number of classes.

    Args:
        of, layers, fuse: as for `GradCAM`.
        batch: so many masked photographs go through the network at once.
        progress: called after every batch, see `Progress`.
    """

    def weights(
        self,
        view: View,
        photograph: int,
        place: MapCall,
        A: Float[Tensor, "c gh gw"],
        groups: Sequence[tuple[int, ...]],
        before: Float[Tensor, " n"],
        steps: Steps,
    ) -> Float[Tensor, "c n"]:
        x = view.x[photograph].detach()
        values = before.new_zeros(len(A), len(groups))
        varied = wide(A).flatten(1).std(1) > 0
        # Seen through any of the others there is nothing left, which need be tried once only.
        tried = [*varied.nonzero()[:, 0].tolist(), *(~varied).nonzero()[:1, 0].tolist()]
        for first in range(0, len(tried), self.batch):
            chosen = tried[first : first + self.batch]
            masks = upsampled(A[chosen], x.shape[1:])
            masks = masks - masks.amin((1, 2), keepdim=True)
            masks = masks / (masks.amax((1, 2), keepdim=True) + 1e-8)
            logits = plain_logits(view.classifier, x * masks[:, None].to(x.dtype))
            values[chosen] = scores(view.classifier, logits, groups, self.of).to(values.dtype)
            steps.done(len(chosen))
        if len(tried) < len(A):
            values[~varied] = values[tried[-1]].clone()
            steps.done(len(A) - len(tried))
        return values.softmax(0)


@dataclass(frozen=True)
class AblationCAM(OfChannels):
    """Ablation-CAM (Desai & Ramaswamy 2020): each channel weighed by how much the score falls without it.

    ``ReLU(sum_k (S - S_k) A_k)``, S_k the score where channel k is 0 at all places. The paper divides the weights by S,
    one factor for the whole map that turns it around where S is negative; here it is left out. Needs a map inside
    the network on which all that follows is built. Costs one forward pass, one for every ``batch`` channels up to the
    map, and one for every channel from the map on, whatever the number of classes.

    Args:
        of, layers, fuse: as for `GradCAM`.
        batch: the rest of the network is computed for so many channels at once.
        progress: called after every batch, see `Progress`.
    """

    def weights(
        self,
        view: View,
        photograph: int,
        place: MapCall,
        A: Float[Tensor, "c gh gw"],
        groups: Sequence[tuple[int, ...]],
        before: Float[Tensor, " n"],
        steps: Steps,
    ) -> Float[Tensor, "c n"]:
        x = view.x[photograph : photograph + 1]
        falls = []
        for first in range(0, len(A), self.batch):
            channels = torch.arange(first, min(first + self.batch, len(A)), device=x.device)
            changed = Changed({place: partial(_without, layout=place.layout, channels=channels)})
            try:
                logits = replayed(view.classifier, x, [changed])
                changed.check()
            except OtherPathError as error:
                raise SaliencyError(
                    f"{view.classifier.name}: its forward pass differs from one call to the next ({error}); RISE() and "
                    "Occlusion() work with any classifier"
                ) from None
            falls.append(before - scores(view.classifier, logits, groups, self.of).to(before.dtype))
            steps.done(len(channels))
        return torch.cat(falls)


def _without(map: Tensor, layout: Layout, channels: Int[Tensor, " m"]) -> Tensor:
    """The map of one photograph once for each of the channels, which is 0 at all places; other tokens as they are."""
    several = map.expand(len(channels), *map.shape[1:]).clone()
    versions = torch.arange(len(channels), device=map.device)
    if layout.kind == "channels first":
        several[versions, channels] = 0
    else:
        several[versions, layout.prefix if layout.kind == "tokens" else 0 :, ..., channels] = 0
    return several


class Steps:
    """Counts what has been looked at, for `Progress`."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def done(self, number: int) -> None:
        self._done += number
        if self._progress is not None:
            self._progress(self._done, self._total)


def by_photograph(pairs: Sequence[Target]) -> Iterator[tuple[int, list[int], list[tuple[int, ...]]]]:
    """The photographs asked about, each with its targets' positions and classes."""
    for b, rows in rows_by_photograph([photograph for photograph, _ in pairs]).items():
        yield b, rows, [pairs[row][1] for row in rows]


def plain_logits(classifier: Classifier, x: Float[Tensor, "m 3 h w"]) -> Float[Tensor, "m classes"]:
    return View(classifier, x).watch().logits


def tried(
    classifier: Classifier,
    versions: Iterable[Float[Tensor, "3 h w"]],
    members: int | tuple[int, ...],
    of: Score = "probability",
    batch: int = 16,
) -> tuple[float, ...]:
    """The scores of a class, or of a group, in versions of a photograph, ``batch`` through the network at once.

    Args:
        versions: made when their turn comes, so that a generator keeps no more than a batch of them.
    """
    groups, coming = [members if isinstance(members, tuple) else (members,)], iter(versions)
    found: list[float] = []
    with torch.no_grad():
        while chosen := list(islice(coming, batch)):
            found += scores(classifier, plain_logits(classifier, torch.stack(chosen)), groups, of)[:, 0].tolist()
    return tuple(found)


def _check_share(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise SaliencyError(f"{name}: expected a number above 0, at most 1, got {value!r}")
