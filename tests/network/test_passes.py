"""What is explained is what the model computes: watched passes are compared with bare ones."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradcut import Classifier
from gradcut.errors import ClassifierError, SaliencyError
from gradcut.known import Known
from gradcut.network import passes
from gradcut.network.passes import watched
from gradcut.saliency import CAM, GradCAM, Gradient, GuidedBackprop, IntegratedGradients, SmoothGrad
from gradcut.saliency.method import Method


class Small(nn.Module):
    """A convolution, something in between, and a linear head on all its values or their mean."""

    def __init__(self, between: Any, features: int = 4) -> None:
        super().__init__()
        self.conv, self.head, self.between = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(features, 5), between
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.head(self.between(self.conv(x)))


def classifier(between: Any, features: int = 4) -> Classifier:
    torch.manual_seed(0)
    return Classifier(Small(between, features).eval(), ("a", "b", "c", "d", "e"), 16)


X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def mean(y: Tensor) -> Tensor:
    return y.mean((2, 3))


def through_a_view(y: Tensor) -> Tensor:
    y.view(len(y), -1).clamp_(min=0)
    return mean(y)


def as_a_row(y: Tensor) -> Tensor:
    return y.relu().view(len(y), -1)


def by_the_order_in_memory(y: Tensor) -> Tensor:
    """Values as they lie in memory, whatever the axes say: the order decides what is computed."""
    y = y.relu()
    return torch.as_strided(y, (len(y), 196), (196, 1))


def by_a_question(y: Tensor) -> Tensor:
    return mean(y.relu() if y.is_contiguous() else y.sigmoid())


NETWORKS = {
    "writes through a view": (through_a_view, 4),
    "a view of all values": (as_a_row, 196),
    "values as they lie in memory": (by_the_order_in_memory, 196),
    "asks how they lie": (by_a_question, 4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_that_count_on_the_order_in_memory(name: str) -> None:
    network = classifier(*NETWORKS[name])
    with torch.no_grad():
        logits = network.model(X)
        torch.testing.assert_close(watched(network, X).logits, logits, rtol=1e-5, atol=1e-5)
    leaf = X.clone().requires_grad_()
    (expected,) = torch.autograd.grad(network.model(leaf)[0, 1], leaf)
    found = Gradient()(network, X, [(0, 1)])
    torch.testing.assert_close(found[0], expected[0].abs().amax(0), rtol=1e-4, atol=1e-6)
    seen: list[Tensor] = []
    GradCAM()(network, X, lambda z: seen.append(z) or [(0, 1)])
    torch.testing.assert_close(seen[0], logits, rtol=1e-5, atol=1e-5)
    network.model.passes = 0
    Gradient()(network, X, [(0, 1)])
    assert network.model.passes == 1  # its order is remembered


def test_a_network_that_looks_at_who_watches_cannot_be_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = classifier(lambda y: mean(y) * (1.01 if torch.overrides._len_torch_function_stack() else 1))
    for method in (CAM(), Gradient(), GradCAM(), GuidedBackprop()):
        with pytest.raises(SaliencyError, match=r"^custom: gradcut cannot follow this network: watched, .* by 0\.\d+"):
            method(network, X, [(0, 1)])


def test_a_network_that_is_random_in_evaluation_mode() -> None:
    network = classifier(lambda y: mean(F.dropout(y.relu(), 0.5, training=True)))
    for method in (CAM(), Gradient(), GradCAM()):
        with pytest.raises(SaliencyError, match=r"^custom: its logits for the same photographs differ from one call"):
            method(network, X, [(0, 1)])


def test_a_network_that_fails_fails_as_it_does_alone() -> None:
    network = classifier(lambda y: y.view(7, 7, 7))
    with pytest.raises(ClassifierError, match=r"model: custom failed on input \(2, 3, 16, 16\): shape '\[7, 7, 7\]'"):
        Gradient()(network, X, [(0, 1)])


def test_each_kind_of_pass_is_compared_once() -> None:
    network = classifier(lambda y: mean(y.relu()))

    def cost(method: Any, x: Tensor) -> int:
        before = network.model.passes
        method(network, x, [(0, 1)])
        return network.model.passes - before

    larger = torch.cat([X, X], 3)
    assert [cost(CAM(), x) for x in (X, X[:1], larger, larger)] == [2, 1, 1, 1]
    assert [cost(Gradient(), X), cost(GuidedBackprop(), X), cost(GuidedBackprop(), X)] == [1, 2, 1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_bare_models_rounding_is_allowed(dtype: torch.dtype) -> None:
    network = classifier(lambda y: mean(y.relu()))
    network.model.to(dtype)
    assert watched(network, X.to(dtype)).logits.dtype == dtype


def test_photographs_are_left_as_they_are() -> None:
    """A model may write over what it was given."""
    network = Classifier(
        nn.Sequential(nn.Hardtanh(inplace=True), nn.Flatten(), nn.Linear(768, 5)).eval(), tuple("abcde"), 16
    )
    kept = X.clone()
    with torch.no_grad():
        watched(network, X)
    assert X.equal(kept)


def test_what_is_known_of_a_model_goes_with_it() -> None:
    network = classifier(lambda y: mean(y.relu()))
    Gradient()(network, X, [(0, 1)])
    assert len(passes._CHECKED._facts) > 0
    model = weakref.ref(network.model)
    del network
    gc.collect()
    assert model() is None


def test_many_threads_may_remember_and_forget() -> None:
    known: Known[int] = Known()
    models, errors = [nn.Identity() for _ in range(3)], []

    def work() -> None:
        try:
            for number in range(2000):
                for model in models:
                    known.put(model, number % 5, number)
                    known.get(model, number % 5)
                    known.forget(model, number % 5)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    known.forget(models[0], "never known")
    assert known.get(models[0], 0) is None


class Switched(nn.Module):
    """A network that computes its features, or all, where torch keeps no graph."""

    def __init__(self, where: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(8, 3)
        self.where = where

    def forward(self, x: Tensor) -> Tensor:
        if self.where == "inference mode":
            with torch.inference_mode():
                return self.head(self.features(x).mean((2, 3)))
        if self.where == "everything":
            with torch.no_grad():
                return self.head(self.features(x).mean((2, 3)))
        if self.where == "features":
            with torch.no_grad():
                features = self.features(x)
        else:
            features = self.features(x)
        pooled = features.mean((2, 3))
        return self.head(pooled.detach() if self.where == "detached" else pooled)


@pytest.mark.parametrize("where", ["everything", "features", "detached", "inference mode"])
@pytest.mark.parametrize("method", [Gradient(), GradCAM(), IntegratedGradients(), SmoothGrad()])
def test_gradients_switched_off_inside_a_model_are_said_in_one_line(where: str, method: Method) -> None:
    classifier = Classifier(Switched(where).eval(), 3, 32)
    x = torch.randn(1, 3, 32, 32)
    with pytest.raises(SaliencyError, match=r"custom: no gradient leads from its logits back"):
        method(classifier, x, [(0, 1)])
    assert CAM()(classifier, x, [(0, 1)]).max() > 0
