from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gradcut import Classifier
from gradcut.saliency import CAM, Affinity, Gradient, MultiScale, Rivals, SaliencyError, recording


@pytest.fixture
def x(brightness, drawn):
    return brightness.prepare([drawn[0], drawn[0][::-1].copy()])


PAIRS = [(0, 0), (0, 1), (1, 0)]


def test_rivals_follow_their_formula(brightness, x):
    maps = CAM()(brightness, x, PAIRS)
    n = maps / maps.amax((1, 2), keepdim=True)
    strongest = torch.maximum(n[0], n[1]).clamp(min=1e-38)
    rivals = Rivals(CAM(), 2.0)(brightness, x, PAIRS)
    assert torch.allclose(rivals[0], n[0] * (n[0] / strongest) ** 2)
    assert torch.allclose(rivals[1], n[1] * (n[1] / strongest) ** 2)
    assert torch.allclose(rivals[2], n[2])  # alone in its photograph


class Halves(torch.nn.Module):
    """Features that are alike within the left and within the right half; evidence in one corner of the left."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 1, bias=False)
        self.fc = torch.nn.Linear(3, 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3)[:, :, None, None])
            self.fc.weight.copy_(torch.tensor([[0.0, 0, 1.0]]))

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


@pytest.fixture
def halves():
    return Classifier(Halves().eval(), ["corner"], 16, (0, 0, 0), (1, 1, 1), multilabel=True)


@pytest.fixture
def corner():
    """The left half red, the right half green, and a blue tinge in the left half's upper corner."""
    x = torch.zeros(1, 3, 16, 16)
    x[:, 0, :, :8] = 1
    x[:, 1, :, 8:] = 1
    x[:, 2, :4, :4] = 0.2
    return x


def test_the_walk_spreads_over_what_looks_alike(halves, corner):
    (before,), (after,) = (method(halves, corner, [(0, 0)]) for method in (CAM(), Affinity(CAM(), grid=16, levels=1)))
    assert before[8:, :8].max() == 0
    assert after[8:, :8].min() > 0.5 * after[:4, :4].max()
    assert after[:, 8:].max() < 0.01 * after[:, :8].min()
    assert after.min() == 0


def test_a_walk_that_reaches_everywhere_keeps_its_contrast(halves, corner):
    """Where all places are alike the walk tends to a constant, which is no saliency."""
    classifier, x = halves, corner + 3
    walked = Affinity(CAM(), grid=16, levels=1, steps=(50,))(classifier, x, [(0, 0)])
    assert walked.min() == 0
    assert walked.max() > 0


def test_classes_compete_between_two_walks(embedded, cat):
    small = embedded.at(128)
    x, pairs = small.prepare([cat]), [(0, 285), (0, 904)]
    found = Affinity(CAM(), grid=16, steps=(8, 4))(small, x, pairs)
    with recording() as passes:
        maps = CAM()(small, x, pairs)
    features = [
        F.normalize(
            (F.adaptive_avg_pool2d(m, 16) if m.shape[2] > 16 else F.interpolate(m, (16, 16), mode="bilinear"))[0]
            .flatten(1),
            dim=0,
        )
        for m in passes[0].maps[-3:]
    ]  # fmt: skip
    affinity = (sum(f.T @ f for f in features) / 3).clamp(min=0) ** 12
    walk = affinity / affinity.sum(1, keepdim=True)
    at = F.adaptive_avg_pool2d(maps, 16).flatten(1) @ torch.linalg.matrix_power(walk, 8).T
    n = at / at.amax(1, keepdim=True)
    at = (n * n / n.amax(0)) @ torch.linalg.matrix_power(walk, 4).T
    expected = F.interpolate((at - at.amin(1, True)).view(1, 2, 16, 16), (128, 128), mode="bilinear")[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert found.amax((1, 2)).min() > 0.05


@pytest.mark.parametrize(
    ("method", "scale", "passes"),
    [(CAM(), 1.0, 1), (CAM(), 1.5, 2), (MultiScale(CAM(), (1, 1.5), flip=False), 1.5, 2), (Gradient(), 1.0, 1)],
)
def test_features_come_from_the_methods_own_pass_where_there_is_one(embedded, cat, method, scale, passes):
    small = embedded.at(64)
    x, pairs = small.prepare([cat]), [(0, 285)]
    with recording() as made:
        shared = Affinity(method, grid=8, scale=scale)(small, x, pairs)
    assert len(made) == passes
    maps = method(small, x, pairs)
    alone = Affinity(lambda _, __, targets: maps[: len(targets(small.logits(x)))], grid=8, scale=scale)(small, x, pairs)
    assert torch.allclose(shared, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "option", [{"grid": 8}, {"power": 1.0}, {"steps": (1,)}, {"steps": (8, 4)}, {"levels": 2}, {"scale": 1.5}]
)
def test_every_option_of_the_walk_matters(embedded, cat, option):
    x = embedded.at(128).prepare([cat])
    plain, changed = (
        Affinity(CAM(), **o)(embedded.at(128), x, [(0, 285), (0, 904)]) for o in ({"grid": 16}, {"grid": 16} | option)
    )
    assert plain.shape == changed.shape
    assert not torch.allclose(plain, changed)


@pytest.mark.parametrize("method", [Affinity(Rivals(CAM()), grid=16), Rivals(Gradient()), Affinity(Gradient(), grid=8)])
def test_batches_targets_and_no_targets(embedded, cat, method):
    small = embedded.at(96)
    x = small.prepare([cat, np.ascontiguousarray(cat[:, ::-1])])
    pairs = [(0, 285), (1, 281), (0, 281)]
    together = method(small, x, pairs)
    assert together.shape == (3, 96, 96)
    assert (together >= 0).all()
    alone = method(small, x[1:], [(0, 281)])
    assert torch.allclose(together[1], alone[0], rtol=1e-3, atol=1e-5)
    seen = []
    called = method(small, x, lambda logits: seen.append(logits.shape) or pairs)
    assert torch.equal(called, together)
    assert seen == [(2, 1000)]
    assert method(small, x, []).shape == (0, 96, 96)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Rivals(CAM(), -1.0), "strength: expected a number from 0, got -1.0"),
        (lambda: Affinity(CAM(), grid=1), "grid: expected at least 2, got 1"),
        (lambda: Affinity(CAM(), levels=0), "levels: expected at least 1, got 0"),
        (lambda: Affinity(CAM(), steps=()), r"steps: expected a tuple of one number at least, none below 0, got \(\)"),
        (lambda: Affinity(CAM(), steps=(-1,)), "steps: expected a tuple of one number at least, none below 0, got "),
        (lambda: Affinity(CAM(), scale=0), "scale: expected a number above 0, got 0"),
    ],
)
def test_unusable_options(build, message):
    with pytest.raises(SaliencyError, match=message):
        build()


def test_places_without_features_keep_what_they_have(brightness, drawn):
    """Black is 0 in every feature of this classifier: the walk must not divide by 0."""
    x = brightness.prepare([drawn[0], np.zeros_like(drawn[0])])
    maps = Affinity(CAM(), grid=16)(brightness, x, [(0, 0), (1, 0)])
    assert maps.isfinite().all()
    assert maps[0].max() > 0
    assert (maps[1] == 0).all()
