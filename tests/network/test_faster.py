"""Torch functions made another way: the same values and gradients, and PyTorch's own where there is no better way."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradcut import Classifier
from gradcut.network import faster
from gradcut.network.faster import Faster, batch_norm, conv2d, linear, pad
from gradcut.network.frozen import Frozen
from gradcut.network.view import View
from gradcut.saliency import CAM, PlaceProbability
from gradcut.saliency.gradients import input_gradient


def random(*shape: int, **options) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), **options)


def agree(ours, theirs, x: Tensor) -> Tensor:
    """Both functions' values and gradients are equal; ours is returned."""
    a, b = (x.clone().requires_grad_() for _ in range(2))
    found, expected = ours(a), theirs(b)
    upstream = random(*expected.shape).to(expected.dtype)
    found.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-5)
    return found


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [None, random(7)])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_convolution_of_single_pixels_is_onednns_on_one_thread(layout, bias, batch):
    x, weight = random(batch, 5, 6, 4).contiguous(memory_format=layout), random(7, 5, 1, 1)
    found = agree(lambda x: conv2d(x, weight, bias), lambda x: F.conv2d(x, weight, bias), x)
    assert "Pointwise" in type(found.grad_fn).__name__
    assert found.is_contiguous(memory_format=layout)


@pytest.mark.parametrize(
    ("shape", "options", "dtype"),
    [
        ((7, 5, 3, 3), {}, torch.float32),
        ((7, 5, 1, 1), {"stride": 2}, torch.float32),
        ((7, 5, 1, 1), {"stride": (1, 2)}, torch.float32),
        ((7, 5, 1, 1), {"padding": 1}, torch.float32),
        ((7, 5, 1, 1), {"padding": "same"}, torch.float32),
        ((10, 1, 1, 1), {"groups": 5}, torch.float32),
        ((7, 5, 1, 1), {}, torch.float64),
    ],
)
def test_other_convolutions_are_pytorchs(shape, options, dtype):
    x, weight = random(2, 5, 6, 4, dtype=dtype), random(*shape, dtype=dtype)
    found = agree(lambda x: conv2d(x, weight, **options), lambda x: F.conv2d(x, weight, **options), x)
    assert "Pointwise" not in type(found.grad_fn).__name__


def test_pytorchs_convolution_keeps_the_gradient_of_weights_and_takes_one_photograph_without_a_batch():
    x, weight = random(1, 5, 6, 4), random(7, 5, 1, 1).requires_grad_()
    conv2d(x, weight).sum().backward()
    assert weight.grad is not None
    assert conv2d(x[0], weight.detach()).shape == (7, 6, 4)


def test_autocast_has_its_own_number_type():
    x, weight = random(1, 5, 6, 4), random(7, 5, 1, 1)
    with torch.autocast("cpu"):
        assert conv2d(x, weight).dtype == F.conv2d(x, weight).dtype == torch.bfloat16


def test_several_threads_leave_the_convolution_to_pytorch():
    x, weight = random(1, 5, 6, 4).requires_grad_(), random(7, 5, 1, 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert "Pointwise" not in type(conv2d(x, weight).grad_fn).__name__
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("bias", [None, random(7)])
@pytest.mark.parametrize("shape", [(20, 5), (2, 9, 5), (2, 3, 4, 5)])
def test_a_linear_layer_of_many_rows_is_onednns(shape, bias):
    x, weight = random(*shape), random(7, 5)
    found = agree(lambda x: linear(x, weight, bias), lambda x: F.linear(x, weight, bias), x)
    assert "_Linear" in type(found.grad_fn).__name__


def test_other_linear_layers_are_pytorchs():
    few, wide = random(3, 5), random(20, 5, dtype=torch.float64)
    for x in (few, wide, random(20, 5, dtype=torch.bfloat16)):
        weight = random(7, 5).to(x.dtype)
        a, b = (x.clone().requires_grad_() for _ in range(2))
        assert "_Linear" not in type(linear(a, weight).grad_fn).__name__
        torch.testing.assert_close(linear(a, weight), F.linear(b, weight), rtol=0, atol=0)
    weight = random(7, 5).requires_grad_()
    linear(random(20, 5), weight).sum().backward()
    assert weight.grad is not None
    with torch.autocast("cpu"):
        assert linear(random(20, 5), random(7, 5)).dtype == torch.bfloat16


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("sides", [(0, 1, 0, 1), (1, 2, 3, 0), (0, 0, 0, 0)])
@pytest.mark.parametrize("value", [None, -1.5])
def test_a_border_round_a_map(layout, sides, value):
    x = random(2, 5, 6, 4).contiguous(memory_format=layout)
    found = agree(lambda x: pad(x, sides, value=value), lambda x: F.pad(x, sides, value=value), x)
    assert found.is_contiguous(memory_format=layout)
    assert "_Padded" in type(found.grad_fn).__name__


@pytest.mark.parametrize(
    ("sides", "mode"), [((-1, 1, 0, 0), "constant"), ((1, 1), "constant"), ((1, 1, 1, 1), "reflect")]
)
def test_other_borders_are_pytorchs(sides, mode):
    found = agree(lambda x: pad(x, sides, mode), lambda x: F.pad(x, sides, mode), random(2, 5, 6, 4))
    assert "_Padded" not in type(found.grad_fn).__name__


def test_a_batch_norm_with_fixed_statistics_is_a_multiplication():
    mean, variance, weight, bias = random(5), random(5).abs() + 0.1, random(5), random(5)
    x = random(2, 5, 6, 4)
    for scale, shift in ((weight, bias), (None, None)):
        arguments = mean, variance, scale, shift
        found = agree(lambda x: batch_norm(x, *arguments), lambda x: F.batch_norm(x, *arguments), x)  # noqa: B023
        assert "FixedNorm" in type(found.grad_fn).__name__
    trained = agree(
        lambda x: batch_norm(x, None, None, training=True), lambda x: F.batch_norm(x, None, None, training=True), x
    )
    assert "FixedNorm" not in type(trained.grad_fn).__name__


def test_a_classifiers_gradients_go_through_both():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ).eval()  # fmt: skip
    x = random(1, 3, 6, 5)
    seen = []

    class Names(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.grad_fn is not None:
                seen.append(type(result.grad_fn).__name__)
            return result

    with Faster(), Frozen(), Names():
        model(x.clone().requires_grad_())
    assert sum("Pointwise" in name for name in seen) == 2
    assert sum("FixedNorm" in name for name in seen) == 1
    expected = x.clone().requires_grad_()
    model(expected)[0, 2].backward()
    found = input_gradient(View(Classifier(model, tuple("abcd"), size=8), x), [(0, 2)])
    torch.testing.assert_close(found, expected.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", [CAM(), PlaceProbability()], ids=repr)
@pytest.mark.parametrize("trained", [True, False])
def test_passes_without_gradients_are_faster_too(method, trained, monkeypatch):
    """Whether the weights could be trained makes no difference."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.append(nn.Linear(4, 2)).eval().requires_grad_(trained)
    shapes = []
    pointwise = faster._pointwise
    monkeypatch.setattr(faster, "_pointwise", lambda x, w, b: shapes.append(tuple(w.shape)) or pointwise(x, w, b))
    method(Classifier(model, ("a", "b"), size=8), random(1, 3, 8, 8), [(0, 1)])
    assert shapes == [(8, 3, 1, 1), (4, 8, 1, 1)]
