"""Any module as a classifier: what it answers, and one line for each thing that it does wrong."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import timm
import torch
from torch import nn

from gradcut import Classifier, load_classifier
from gradcut.classifiers.classifier import evaluating
from gradcut.classifiers.sources import list_classifiers
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
        ({"labels": "cat"}, "labels: expected a list of names in the order of the outputs, or their number, got 'cat'"),
        ({"labels": b"cat"}, "labels: expected a list of names"),
        ({"labels": {0: "a", 1: "b", 2: "c"}}, "labels: expected a list of names"),
        ({"labels": {"a", "b", "c"}}, "labels: expected a list of names"),
        ({"labels": None}, "labels: expected a list of names .* got None"),
        ({"labels": 3.0}, "labels: expected a list of names .* got 3.0"),
        ({"labels": True}, "labels: expected a list of names .* got True"),
        ({"labels": 0}, "number of outputs from 1, got 0"),
        ({"labels": ("a", 2, "c")}, "labels: expected names that are not empty, got 2 among them"),
        ({"labels": ("a", " ", "c")}, "labels: expected names that are not empty, got ' ' among them"),
        ({"size": (0, 3)}, "size: expected a positive whole number, or height and width, got"),
        ({"size": -1}, "size: expected a positive whole number"),
        ({"size": "96"}, "size: expected a positive whole number, or height and width, got '96'"),
        ({"size": 96.0}, "size: expected a positive whole number"),
        ({"size": True}, "size: expected a positive whole number"),
        ({"size": None}, "size: expected a positive whole number"),
        ({"size": (96, 96, 3)}, "size: expected a positive whole number"),
        ({"mean": (0, 0)}, "mean: expected three numbers"),
        ({"mean": 0.5}, "mean: expected three numbers"),
        ({"mean": "abc"}, "mean: expected three numbers"),
        ({"mean": (0, float("nan"), 0)}, "mean: expected three numbers"),
        ({"mean": (123.7, 116.3, 103.5)}, r"mean: expected numbers for colours in \[0, 1\], got .*; divide by 255"),
        ({"std": (58.4, 57.1, 57.4)}, "std: .* divide by 255"),
        ({"std": (1, 0, 1)}, "std: expected three numbers above 0"),
        ({"multilabel": "yes"}, r"multilabel: expected True \(sigmoid\) or False \(softmax\), got 'yes'"),
        ({"multilabel": 1}, "multilabel: expected True"),
        ({"threshold": 2}, "from 0 to 1, got 2"),
        ({"threshold": "0.5"}, "threshold: expected a probability from 0 to 1, got '0.5'"),
        ({"threshold": float("nan")}, "threshold: expected a probability from 0 to 1, got nan"),
        ({"threshold": True}, "threshold: expected a probability"),
        ({"top_k": 0}, "whole number of at least 1, got 0"),
        ({"top_k": 1.5}, "top_k: expected a whole number of at least 1, got 1.5"),
        ({"top_k": "3"}, "top_k: expected a whole number of at least 1, got '3'"),
        ({"name": 3}, "name: expected a string, got 3"),
        ({"channels": "rgb"}, "channels: expected 'RGB' or 'BGR', got 'rgb'"),
        ({"channels": ["RGB"]}, "channels: expected 'RGB' or 'BGR'"),
        ({"model": "resnet50"}, r"model: expected a torch\.nn\.Module, got str"),
    ],
)
def test_wrong_options(unchecked, options, says):
    with pytest.raises(ClassifierError, match=says) as error:
        Classifier(**{"model": Head(lambda z: z), "labels": ("a", "b", "c"), **options})
    one_line(error)


def test_one_output_needs_a_sigmoid():
    model = nn.Sequential(nn.Conv2d(3, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ClassifierError, match=r"multilabel: expected True .* probability 1 whatever") as error:
        Classifier(model, ["crack"], size=16)
    one_line(error)
    (found,) = Classifier(model, ["crack"], size=16, multilabel=True, threshold=0).detect([GREY])
    assert 0 < found[0].score < 1


WRONG = (None, "x", b"x", -1, 1.5, True, float("nan"), object(), [], ["x"], {"x": 1}, np.zeros(3), torch.zeros(2))


#: What of `WRONG` an argument takes all the same.
TAKEN = {"multilabel": (bool,), "name": (str,), "threshold": (type(None),), "top_k": (type(None),)}


def refusal(call) -> str | None:
    """What a ClassifierError says; None without one. Any other error goes through."""
    try:
        call()
    except ClassifierError as error:
        return str(error)
    return None


@pytest.mark.parametrize("argument", [*TAKEN, "model", "labels", "size", "mean", "std", "channels"])
@pytest.mark.parametrize("value", WRONG, ids=lambda value: type(value).__name__)
def test_an_argument_of_another_type_is_refused_by_its_name(unchecked, argument, value):
    options = {"model": Head(lambda z: z), "labels": ("a", "b", "c"), argument: value}
    message = refusal(lambda: Classifier(**options))
    if isinstance(value, TAKEN.get(argument, ())) or (argument == "mean" and isinstance(value, np.ndarray)):
        assert message is None
    else:
        # A list of one label is one output, which has to be a sigmoid.
        assert message.startswith(
            "multilabel: " if argument == "labels" and isinstance(value, list) and value else f"{argument}: "
        )
        assert "\n" not in message


CALLS = {
    "at": lambda c, v: c.at(v), "scaled": lambda c, v: c.scaled(v), "to": lambda c, v: c.to(v),
    "prepare": lambda c, v: c.prepare(v), "detect": lambda c, v: c.detect(v), "index": lambda c, v: c.index(v),
    "find": lambda c, v: c.find(v), "threshold": lambda c, v: c.detect([GREY], threshold=v),
    "top_k": lambda c, v: c.detect([GREY], top_k=v), "load": lambda c, v: load_classifier(v),
    "list": lambda c, v: list_classifiers(v), "from_timm": lambda c, v: Classifier.from_timm(v),
    "labels of timm": lambda c, v: Classifier.from_timm(timm.create_model("test_resnet", num_classes=2), v),
    "in a list": lambda c, v: c.detect([v]),
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("value", WRONG, ids=lambda value: type(value).__name__)
def test_no_call_lets_another_error_out(unchecked, call, value):
    classifier = Classifier(Head(lambda z: z), ("a", "b", "c"), size=16)
    assert "\n" not in (refusal(lambda: CALLS[call](classifier, value)) or "")


def test_labels_may_be_a_number():
    classifier = Classifier(Head(lambda z: z), 3, size=16, top_k=3)
    assert classifier.labels == ("0", "1", "2")
    assert {detection.label for detection in classifier.detect([GREY])[0]} == {"0", "1", "2"}
    assert classifier.find("2") == (2,)


@pytest.mark.parametrize(
    ("photographs", "says"),
    [
        (GREY, r"expected a list of photographs, got an array of shape \(20, 30, 3\); put a single one into a list"),
        (np.stack([GREY, GREY]), r"expected a list of photographs, got an array of shape \(2, 20, 30, 3\)"),
        (None, "expected a list of photographs, got None"),
        ([], "expected at least one, got none"),
        (["cat.jpg"], r"expected uint8 arrays of shape \(H, W, 3\), as gradcut.images.read gives them, got 'cat.jpg'"),
        ([GREY / 255], r"got float64 of shape \(20, 30, 3\)"),
        ([GREY, GREY[:, :, 0]], r"got uint8 of shape \(20, 30\)"),
        ([GREY[:0]], r"got uint8 of shape \(0, 30, 3\)"),
    ],
)
def test_what_are_no_photographs(unchecked, photographs, says):
    with pytest.raises(ClassifierError, match=rf"photographs: .*{says}|photographs: {says}") as error:
        Classifier(Head(lambda z: z), ("a", "b", "c"), size=16).prepare(photographs)
    one_line(error)


def test_wrong_labels_and_devices(unchecked):
    classifier = Classifier(Head(lambda z: z), ("a", "b", "c"), size=16)
    for ask in (classifier.index, classifier.find):
        with pytest.raises(ClassifierError, match="label: expected a string, got 2") as error:
            ask(2)
        one_line(error)
    for device in ("abacus", ["cpu"]):
        with pytest.raises(ClassifierError, match=r"device: .* cannot be used here") as error:
            classifier.to(device)
        one_line(error)
    assert classifier.to("cpu") is classifier


def test_a_classifier_in_16_bits_says_so_in_its_record(unchecked):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = Classifier(model.eval(), tuple("abcd"), size=8)
    before = classifier.record()
    assert "dtype" not in before
    assert classifier.to() is classifier
    assert classifier.record() == before
    for wrong in (torch.int8, "bfloat16"):
        with pytest.raises(ClassifierError, match=r"^dtype: expected a type of real numbers"):
            classifier.to("cpu", wrong)
    after = classifier.to("cpu", torch.bfloat16).record()
    assert after["dtype"] == "bfloat16"
    assert after["sha256"] != before["sha256"]
    assert classifier.prepare([np.zeros((8, 8, 3), np.uint8)]).dtype == torch.bfloat16


def test_every_option_matters():
    model = Head(lambda z: z)
    photograph = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    base = {"size": 16, "mean": (0, 0, 0), "std": (1, 1, 1), "threshold": 0.0, "top_k": 3}

    def found(**options):
        return Classifier(model, ("a", "b", "c"), **{**base, **options}).detect([photograph])

    plain = found()
    assert len(plain[0]) == 3
    for changed in ({"size": 8}, {"mean": (1, 0, 0)}, {"std": (1, 2, 1)}, {"multilabel": True}, {"threshold": 0.4},
                    {"channels": "BGR"}):  # fmt: skip
        assert found(**changed) != plain
    assert len(found(top_k=1)[0]) == 1
    assert sum(detection.score for detection in plain[0]) == pytest.approx(1)


def test_blue_first():
    photograph = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    options = {"size": 16, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    rgb, bgr = (Classifier(Head(lambda z: z), 3, channels=order, **options) for order in ("RGB", "BGR"))
    assert torch.equal(bgr.prepare([photograph]), rgb.prepare([photograph]).flip(1))
    assert torch.equal(bgr.at(8).prepare([photograph]), rgb.at(8).prepare([photograph]).flip(1))
    assert bgr.prepared((0, 0.5, 1)) == rgb.prepared((0, 0.5, 1))[::-1]
    grey = bgr.prepare([np.full((4, 4, 3), (0, 51, 255), np.uint8)])
    assert grey[0, :, 0, 0].tolist() == pytest.approx(bgr.prepared((0, 0.2, 1)))
    assert bgr.record()["channels"] == "BGR"


def test_group_scores():
    p = torch.tensor([0.2, 0.3, 0.5])
    softmax = Classifier(Head(lambda z: z), ("a", "b", "c"), size=16)
    sigmoid = Classifier(Head(lambda z: z), ("a", "b", "c"), size=16, multilabel=True)
    assert softmax.score(p, (1,)) == sigmoid.score(p, (1,)) == pytest.approx(0.3)
    assert softmax.score(p, (0, 1)) == pytest.approx(0.5)
    assert sigmoid.score(p, (0, 1)) == pytest.approx(1 - 0.8 * 0.7)


class OnApple(torch.Tensor):
    """A tensor as Apple's GPU has it: without float64 until it is on the CPU."""

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        if function is torch.Tensor.cpu:
            return arguments[0].as_subclass(torch.Tensor)
        result = super().__torch_function__(function, types, arguments, options or {})
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return result


@pytest.mark.parametrize("multilabel", [True, False])
def test_scores_need_no_float64_on_the_device(multilabel):
    p = torch.tensor([0.2, 0.3, 0.5]).as_subclass(OnApple)
    with pytest.raises(TypeError, match="float64"):
        p.double()
    classifier = Classifier(Head(lambda z: z), ("a", "b", "c"), size=16, multilabel=multilabel)
    assert classifier.score(p, (0, 1)) == pytest.approx(1 - 0.8 * 0.7 if multilabel else 0.5)


def out_of_memory(error: Exception):
    def answer(z: torch.Tensor) -> torch.Tensor:
        raise error

    return Classifier(Head(answer), ("a", "b", "c"), size=16)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_is_told_apart_from_a_model_that_fails(error):
    with pytest.raises(torch.OutOfMemoryError, match="memory"):
        out_of_memory(error).detect([GREY])
    with pytest.raises(ClassifierError, match="failed on input"):
        out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied")).detect([GREY])


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


# What results depend on --------------------------------------------------------------------------------------------


def coloured(**changes) -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classifier(**{"model": network, "labels": ("a", "b", "c"), "size": 16, **changes})


def test_the_record_is_json_and_has_all_that_decides():
    record = coloured(name="mine").record()
    assert json.loads(json.dumps(record)) == record
    assert record.keys() == {
        "name", "network", "weights", "labels", "size", "mean", "std", "multilabel", "sha256"
    }  # fmt: skip
    assert record["name"] == "mine"
    assert record["sha256"] == coloured().fingerprint


def test_the_fingerprint_depends_on_what_decides_and_on_nothing_else():
    fingerprint = coloured().fingerprint
    assert coloured().fingerprint == fingerprint  # another model with the same weights
    for words in ({"name": "/other/folder/head.safetensors"}, {"threshold": 0.5, "top_k": 3}):
        assert coloured(**words).fingerprint == fingerprint
    for changed in (
        {"labels": ("a", "c", "b")}, {"size": 8}, {"mean": (0, 0, 0)}, {"std": (1, 1, 1)}, {"multilabel": True},
        {"channels": "BGR"},
    ):  # fmt: skip
        assert coloured(**changed).fingerprint != fingerprint
    other = coloured()
    other.model[2] = nn.SiLU()  # the same weights in another network
    assert other.fingerprint != fingerprint


def written_in_place(model: nn.Sequential) -> None:
    with torch.no_grad():
        model[0].weight[0, 0] += 1


def written_through_data(model: nn.Sequential) -> None:
    model[0].weight.data *= 2


def written_through_numpy(model: nn.Sequential) -> None:
    model[0].weight.detach().numpy()[0, 0] = 7


def shuffled(model: nn.Sequential) -> None:
    with torch.no_grad():
        model[0].weight.copy_(model[0].weight.flip(0))  # the same numbers in other places


def put_in_the_place_of_another(model: nn.Sequential) -> None:
    model[0].weight = nn.Parameter(torch.zeros_like(model[0].weight))


def loaded(model: nn.Sequential) -> None:
    model.load_state_dict({key: value + 1 for key, value in model.state_dict().items()})


def trained(model: nn.Sequential) -> None:
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.ones(2, 3, 4, 4)).sum().backward()
    optimiser.step()


def statistics_gathered(model: nn.Sequential) -> None:
    model.train()(torch.rand(2, 3, 4, 4))


@pytest.mark.parametrize(
    "change",
    [
        written_in_place, written_through_data, written_through_numpy, shuffled, put_in_the_place_of_another, loaded,
        trained, statistics_gathered,
    ],
)  # fmt: skip
def test_the_fingerprint_follows_the_weights(change):
    classifier = coloured()
    before = classifier.fingerprint
    assert classifier.fingerprint == before
    change(classifier.model)
    assert classifier.fingerprint != before


def test_a_fingerprint_in_inference_mode():
    with torch.inference_mode():
        classifier = coloured()
        before = classifier.fingerprint
        assert before == coloured().fingerprint
        classifier.model[0].weight[0, 0] += 1
        assert classifier.fingerprint != before
    assert coloured().fingerprint == before


# timm --------------------------------------------------------------------------------------------------------------


def test_from_timm_takes_the_models_own_configuration():
    model = timm.create_model("test_resnet")
    classifier = Classifier.from_timm(model)
    assert classifier.model is model
    assert classifier.labels == imagenet_labels()
    assert classifier.size == model.pretrained_cfg["input_size"][1:]
    assert (classifier.mean, classifier.std) == (model.pretrained_cfg["mean"], model.pretrained_cfg["std"])
    assert classifier.name == "timm/test_resnet"
    changed = Classifier.from_timm(model, size=64, std=(1, 1, 1), multilabel=True, name="mine")
    assert (changed.size, changed.std, changed.multilabel, changed.name) == ((64, 64), (1, 1, 1), True, "mine")
    assert changed.mean == classifier.mean


def test_from_timm_asks_for_labels_that_it_cannot_know():
    model = timm.create_model("test_resnet", num_classes=2)
    with pytest.raises(
        ClassifierError, match=r"labels: timm does not know what the 2 outputs of .*; give labels="
    ) as error:
        Classifier.from_timm(model)
    one_line(error)
    classifier = Classifier.from_timm(model, labels=["cat", "dog"])
    assert classifier.labels == ("cat", "dog")
    assert len(classifier.detect([GREY])[0]) == 1
    assert Classifier.from_timm(model, 2).labels == ("0", "1")
    with pytest.raises(ClassifierError, match=r"pretrained_cfg, got Head; Classifier\(model, labels, size") as error:
        Classifier.from_timm(Head(lambda z: z))
    one_line(error)
