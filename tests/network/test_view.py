"""Passes that several methods share, and what is kept of them."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradcut import Classifier
from gradcut.errors import SaliencyError
from gradcut.network.view import View
from gradcut.saliency import CAM, GradCAM, Gradient, GuidedBackprop, Mean, MultiScale, SmoothGrad, Walk, explained
from gradcut.saliency.maps import relative


class Counted(nn.Module):
    """Two resolutions, a linear head, and the sizes of the photographs that it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse, self.head = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1), nn.Linear(6, 3)
        self.asked: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(tuple(x.shape))
        return self.head(self.coarse(self.fine(x).relu()).relu().mean((2, 3)))


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(3)
    return Classifier(Counted().eval(), ("a", "b", "c"), 16)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


METHODS = [CAM(), Gradient(), GradCAM(), GuidedBackprop(), SmoothGrad(samples=1)]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_what_is_kept_comes_from_the_pass_that_a_method_makes(method: Any, classifier: Classifier, x: Tensor) -> None:
    targets = [(0, 1)]
    expected = method(classifier, x, lambda logits: targets)  # and compares its passes with bare ones
    classifier.model.asked.clear()
    method(classifier, x, lambda logits: targets)
    alone = len(classifier.model.asked)
    view = View(classifier, x)
    view.keep(levels=5)
    assert explained(method, view, lambda logits: targets).equal(expected)
    assert [tuple(m.shape) for m in view.kept.maps] == [(2, 4, 8, 8), (2, 6, 4, 4)]
    assert len(classifier.model.asked) == 2 * alone
    assert not any(m.requires_grad for m in view.kept.maps)
    with torch.no_grad():
        fine = classifier.model.fine(x).relu()
    torch.testing.assert_close(view.kept.maps[0], fine, rtol=1e-4, atol=1e-5)


def test_without_another_pass_it_makes_its_own(classifier: Classifier, x: Tensor) -> None:
    view = View(classifier, x)
    view.keep(levels=1)
    assert [tuple(m.shape) for m in view.kept.maps] == [(2, 6, 4, 4)]


def test_a_size_is_seen_once(classifier: Classifier, x: Tensor) -> None:
    view = View(classifier, x)
    assert view.at(1.0) is view
    larger = view.at(2.0)
    assert larger.x.shape == (2, 3, 32, 32)
    assert view.at(2.0) is larger
    del larger
    assert len(view._others) == 0  # nobody looks at it any more


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_resized_in_float32(dtype: torch.dtype, classifier: Classifier, x: Tensor) -> None:
    half = View(classifier, x.to(dtype)).at(0.5).x
    assert half.dtype == dtype
    assert half.equal(View(classifier, x.to(dtype).float()).at(0.5).x.to(dtype))


def test_only_what_was_declared_is_kept(classifier: Classifier, x: Tensor) -> None:
    """Of three sizes the walk reads the middle one; of the others no map may live on."""
    seen: list[list[int]] = []

    class Spy(CAM):
        def sized(self, view: View, targets: Any, size: Any) -> Tensor:
            tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor) and thing.ndim == 4]
            seen.append(sorted(t.shape[2] for t in tensors if len(t) == 2 and t.shape[1] in (4, 6)))
            return super().sized(view, targets, size)

    Walk(MultiScale(Spy(), (1.0, 2.0, 3.0), flip=False))(classifier, x, [(0, 1)])
    assert seen == [[], [], [8, 16]]


def test_methods_of_a_mean_share_their_passes(classifier: Classifier, x: Tensor) -> None:
    def walk(method: Any) -> Walk:
        return Walk(MultiScale(method, (1.0, 2.0), flip=False), steps=(1,))

    first, second = walk(CAM()), walk(CAM(of="contrast"))
    expected = relative(first(classifier, x, [(0, 1), (1, 2)])) + relative(second(classifier, x, [(0, 1), (1, 2)]))
    classifier.model.asked.clear()
    torch.testing.assert_close(Mean((first, second))(classifier, x, [(0, 1), (1, 2)]), expected / 2)
    assert classifier.model.asked == [(2, 3, 16, 16), (2, 3, 32, 32)]
    gradients = Mean((CAM(), GradCAM(), Gradient()))
    gradients(classifier, x, [(0, 1)])
    classifier.model.asked.clear()
    gradients(classifier, x, [(0, 1)])
    assert len(classifier.model.asked) == 3, "a pass with gradients is nobody else's"


def test_a_view_goes_without_the_garbage_collector(classifier: Classifier, x: Tensor) -> None:
    gc.disable()
    try:
        view = View(classifier, x)
        view.keep(levels=2)
        explained(MultiScale(CAM(), (1.0, 2.0)), view, [(0, 1)])
        level, view_itself = weakref.ref(view.kept.maps[0]), weakref.ref(view)
        del view
        assert level() is None
        assert view_itself() is None
    finally:
        gc.enable()


def never(classifier: Classifier, x: Tensor, targets: Any) -> Tensor:
    return torch.zeros(1, 16, 16)


def twice(classifier: Classifier, x: Tensor, targets: Any) -> Tensor:
    logits = classifier.logits(x)
    return torch.zeros(len(targets(logits)), 16, 16) + len(targets(logits))


@pytest.mark.parametrize("wrapper", [Walk, MultiScale], ids=lambda wrapper: wrapper.__name__)
def test_a_method_of_ones_own_asks_for_its_targets_once(wrapper: Any, classifier: Classifier, x: Tensor) -> None:
    with pytest.raises(SaliencyError, match="method: expected never to ask for its targets, it did not"):
        wrapper(never)(classifier, x, [(0, 1)])
    with pytest.raises(SaliencyError, match="method: expected twice to ask for its targets once, it asked again"):
        wrapper(twice)(classifier, x, [(0, 1)])
