"""Any module as a classifier: what it answers, and one line for each thing that it does wrong."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from gradcut import Classifier
from gradcut.classifiers.classifier import evaluating
from gradcut.errors import ClassifierError
from gradcut.labels import imagenet_labels


class Head(nn.Module):
    """Answers with whatever it is told to make of three channel means."""

    def __init__(self, answer, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 3, 1)
        self.answer = answer

    def forward(self, x: torch.Tensor):
        return self.answer(self.conv(x).mean((2, 3)))


GREY = np.full((20, 30, 3), 128, dtype=np.uint8)


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("answer", "channels", "says"),
    [
        (lambda z: (z, z), 3, "expected a tensor of logits, got tuple"),
        (lambda z: z * float("nan"), 3, "NaN or infinite"),
        (lambda z: z[:, :2], 3, r"expected logits of shape \(1, 3\) for 3 labels, got \(1, 2\)"),
        (lambda z: z, 1, r"failed on input \(1, 3, 16, 16\).*1 channel"),
    ],
    ids=["tuple", "NaN", "labels that do not fit", "one channel"],
)
def test_wrong_models(answer, channels, says):
    classifier = Classifier(Head(answer, channels), ("a", "b", "c"), size=16)
    with pytest.raises(ClassifierError, match=says) as error:
        classifier.detect([GREY])
    one_line(error)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"labels": ("a", "a", "b")}, r"no label twice, got \['a'\]"),
        ({"labels": ()}, "at least one"),
        ({"size": (0, 3)}, "positive"),
        ({"mean": (0, 0)}, "three numbers"),
        ({"std": (1, 0, 1)}, "std: expected three numbers above 0"),
        ({"threshold": 2}, "from 0 to 1, got 2"),
        ({"top_k": 0}, "at least 1, got 0"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(ClassifierError, match=says) as error:
        Classifier(**{"model": Head(lambda z: z), "labels": ("a", "b", "c"), **options})
    one_line(error)


def test_every_option_matters():
    model = Head(lambda z: z)
    photograph = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    base = {"size": 16, "mean": (0, 0, 0), "std": (1, 1, 1), "threshold": 0.0, "top_k": 3}

    def found(**options):
        return Classifier(model, ("a", "b", "c"), **{**base, **options}).detect([photograph])

    plain = found()
    assert len(plain[0]) == 3
    for changed in ({"size": 8}, {"mean": (1, 0, 0)}, {"std": (1, 2, 1)}, {"multilabel": True}, {"threshold": 0.4}):
        assert found(**changed) != plain
    assert len(found(top_k=1)[0]) == 1
    assert sum(detection.score for detection in plain[0]) == pytest.approx(1)


def test_group_scores():
    p = torch.tensor([0.2, 0.3, 0.5])
    softmax = Classifier(Head(lambda z: z), ("a", "b", "c"), size=16)
    sigmoid = Classifier(Head(lambda z: z), ("a", "b", "c"), size=16, multilabel=True)
    assert softmax.score(p, (1,)) == sigmoid.score(p, (1,)) == pytest.approx(0.3)
    assert softmax.score(p, (0, 1)) == pytest.approx(0.5)
    assert sigmoid.score(p, (0, 1)) == pytest.approx(1 - 0.8 * 0.7)


def test_labels_are_found():
    classifier = Classifier(Head(lambda z: z), imagenet_labels(), size=16)
    assert classifier.find("dog") == tuple(range(151, 269))
    assert classifier.find("zebra") == classifier.find("Zebra") == (340,)
    assert classifier.find("pottedplant") == (738,)
    assert classifier.find("tabby") == (281,)
    assert classifier.index("cardigan") == 474
    assert classifier.index("Cardigan") == 264
    with pytest.raises(ClassifierError, match=r"no label 'retreiver'; the nearest are .*retriever") as error:
        classifier.find("retreiver")
    one_line(error)


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    model[1].eval()
    flags = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    Classifier(model, ("a", "b"), size=16).detect([GREY])
    assert [module.training for module in model.modules()] == flags
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key])
    with pytest.raises(RuntimeError), evaluating(model):
        raise RuntimeError
    assert [module.training for module in model.modules()] == flags
