"""What every saliency method promises, one row a method, and the gradients and class activation maps themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import Deconvolution
from captum.attr import GuidedBackprop as CaptumGuided
from captum.attr import Saliency as CaptumSaliency
from networks import SmallNet, SmallTransformer, small_words
from torch import Tensor, nn

from gradcut import RECIPES, Segmenter
from gradcut import saliency as package
from gradcut.catalogue import OF_WORDS
from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.heads import PlacedLinear, PlaceWeights
from gradcut.errors import SaliencyError
from gradcut.network.view import View
from gradcut.saliency import (
    CAM,
    LRP,
    RISE,
    AblationCAM,
    Attention,
    AttentionGradient,
    AttentionRollout,
    AttnLRP,
    BeyondIntuition,
    Box,
    Composite,
    Crops,
    DeconvNet,
    DenseProbability,
    EigenCAM,
    EigenGradCAM,
    Epsilon,
    Features,
    FinerCAM,
    FullGrad,
    Gamma,
    GradCAM,
    GradCAMPlusPlus,
    Gradient,
    GradientXInput,
    GuidedBackprop,
    GuidedGradCAM,
    HiResCAM,
    IntegratedGradients,
    KernelSHAP,
    LayerCAM,
    LeGrad,
    Mean,
    Method,
    MultiScale,
    Occlusion,
    PlaceProbability,
    RefineCAM,
    Rivals,
    ScoreCAM,
    ShapleyCAM,
    SmoothGrad,
    SoftmaxGradCAM,
    VarGrad,
    Walk,
    XGradCAM,
    resolved,
    sized,
)

METHODS: dict[str, Any] = {
    "Gradient": Gradient(),
    "Gradient, signed": Gradient(of="logit", signed=True),
    "Gradient, sum": Gradient(of="contrast", channels="sum"),
    "Gradient, L2": Gradient(of="logit", channels="l2"),
    "GuidedBackprop": GuidedBackprop(of="logit"),
    "DeconvNet": DeconvNet(of="logit"),
    "GradientXInput": GradientXInput(),
    "SmoothGrad": SmoothGrad(samples=3),
    "SmoothGrad(GuidedBackprop)": SmoothGrad(GuidedBackprop(of="logit"), samples=3),
    "VarGrad": VarGrad(samples=3),
    "IntegratedGradients": IntegratedGradients(steps=4),
    "LRP": LRP(),
    "LRP, gamma, box": LRP(composite=Composite(Gamma(), Epsilon(0.1), Box())),
    "CAM": CAM(),
    "CAM, contrast": CAM(of="contrast"),
    "PlaceProbability": PlaceProbability(),
    "GradCAM": GradCAM(),
    "GradCAM, fused": GradCAM(layers=2),
    "GradCAM, named": GradCAM(layers="features.2"),
    "GradCAM++": GradCAMPlusPlus(),
    "LayerCAM": LayerCAM(),
    "LayerCAM, fused": LayerCAM(layers=2, fuse="max"),
    "HiResCAM": HiResCAM(),
    "RefineCAM": RefineCAM(layers=2),
    "XGradCAM": XGradCAM(),
    "EigenCAM": EigenCAM(),
    "EigenGradCAM": EigenGradCAM(),
    "FinerCAM": FinerCAM(),
    "ShapleyCAM": ShapleyCAM(of="probability"),
    "FullGrad": FullGrad(),
    "ScoreCAM": ScoreCAM(batch=5),
    "AblationCAM": AblationCAM(batch=5),
    "Occlusion": Occlusion(window=0.25),
    "RISE": RISE(masks=60, cells=4),
    "KernelSHAP": KernelSHAP(segments=12, samples=200),
    "GuidedGradCAM": GuidedGradCAM(),
    "MultiScale(CAM)": MultiScale(CAM()),
    "Crops(CAM)": Crops(CAM()),
    "Rivals(CAM)": Rivals(CAM()),
    "Mean": Mean((Walk(MultiScale(CAM(), (1, 2), flip=False), Features(8, power=80.0), (2,)), GradCAM())),
    "Walk(Rivals(CAM))": Walk(Rivals(CAM()), Features(8, power=80.0), (2, 1)),
    "Walk(Rivals(MultiScale(CAM)))": Walk(
        Rivals(MultiScale(CAM(), (1, 1.5, 2), flip=False)), Features(8, power=80.0), (2, 1)
    ),
    "MultiScale(Gradient)": MultiScale(Gradient(), scales=(1.0, 1.5)),
    "Gradient, transformer": Gradient(of="logit"),
    "GuidedBackprop, transformer": GuidedBackprop(of="logit"),
    "LRP, transformer": LRP(composite=Composite(attention="constant")),
    "AttnLRP, transformer": AttnLRP(),
    "GradCAM, transformer": GradCAM(),
    "AblationCAM, transformer": AblationCAM(of="contrast", layers="features.4"),
    "ShapleyCAM, transformer": ShapleyCAM(layers="features.4"),
    "LayerCAM, transformer": LayerCAM(layers="features.4"),
    "AttentionRollout, transformer": AttentionRollout(),
    "AttentionGradient, transformer": AttentionGradient(),
    "Walk over attention, transformer": Walk(GradCAM(), Attention()),
    "DenseProbability, transformer": DenseProbability(),
    "LeGrad, transformer": LeGrad(layers=1),
    "BeyondIntuition, transformer": BeyondIntuition(steps=3),
    "SoftmaxGradCAM, words, transformer": SoftmaxGradCAM(of="contrast"),
}


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """New weights, and normalisation statistics that are not the defaults."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.is_floating_point():
                draw = torch.randn(value.shape, generator=generator)
                value.copy_(draw.abs() + 0.5 if "running_var" in name else draw * 0.3)
    return model


def as_classifier(model: nn.Module, classes: int = 5, size: int = 24, multilabel: bool = False) -> Classifier:
    return Classifier(model, [f"class {i}" for i in range(classes)], size, multilabel=multilabel)


@pytest.fixture
def classifier(request: pytest.FixtureRequest) -> Classifier:
    """The network of a row of `METHODS`."""
    return network(request.node.callspec.params.get("name", "") if hasattr(request.node, "callspec") else "")


def network(row: str) -> Classifier:
    """The small network, with weights for places where a row asks for them, or the transformer."""
    model = small_words() if "words" in row else SmallTransformer() if "transformer" in row else SmallNet()
    if "PlaceProbability" in row:
        model.head = PlacedLinear(PlaceWeights(torch.zeros(6, 12), torch.zeros(6)))
    randomised(model)
    if "PlaceProbability" in row:
        model.head.places.weight.data *= 10  # what the features make of them is far from the same everywhere
    if "Dense" in row:
        model.head.weight.data *= 10
    if "ScoreCAM" in row:
        model.head.weight.data *= 40  # its softmax over the channels' scores is far from even
    return as_classifier(model, multilabel="words" in row)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(1))


TARGETS = [(0, 1), (2, 4), (0, 3), (1, 0), (0, 0)]


def state(model: nn.Module) -> dict[str, Any]:
    """All of a model that a method could spoil."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "values": {key: value.detach().clone() for key, value in tensors.items()},
        "identities": {key: id(value) for key, value in tensors.items()},
        "strides": {key: value.stride() for key, value in tensors.items()},
        "requires_grad": {key: value.requires_grad for key, value in tensors.items()},
        "grad": {key: value.grad for key, value in tensors.items()},
        "training": {key: module.training for key, module in model.named_modules()},
        "hooks": {
            key: [
                len(getattr(module, name))
                for name in vars(module)
                if name.endswith("_hooks") or name.endswith("_hooks_with_kwargs")
            ]
            for key, module in model.named_modules()
        },
        "attributes": {key: sorted(vars(module)) for key, module in model.named_modules()},
    }


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    for key, value in before.pop("values").items():
        torch.testing.assert_close(after["values"][key], value, rtol=0, atol=0)
    after.pop("values")
    assert before == after


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_shape_range_and_determinism(self, name: str, classifier: Classifier, x: Tensor) -> None:
        maps = METHODS[name](classifier, x, TARGETS)
        assert maps.shape == (5, 24, 24)
        assert maps.dtype == torch.float32
        assert not maps.requires_grad
        assert maps.isfinite().all()
        assert float(maps.min()) >= 0
        assert float(maps.sum()) > 0
        torch.testing.assert_close(METHODS[name](classifier, x, TARGETS), maps, rtol=0, atol=0)

    def test_any_size_that_is_asked_for(self, name: str, classifier: Classifier, x: Tensor) -> None:
        view = View(classifier, x)
        for size in ((12, 16), (30, 47)):
            assert sized(METHODS[name], view, TARGETS, size).shape == (5, *size)
            assert sized(METHODS[name], view, [], size).shape == (0, *size)

    def test_under_autocast(self, name: str, classifier: Classifier, x: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            maps = METHODS[name](classifier, x, TARGETS)
        assert maps.shape == (5, 24, 24)
        assert maps.dtype == torch.float32

    def test_batch_is_one_by_one(self, name: str, classifier: Classifier, x: Tensor) -> None:
        maps = METHODS[name](classifier, x, TARGETS)
        for number, (saliency, (photograph, _)) in enumerate(zip(maps, TARGETS, strict=True)):
            asked = [number]
            if "Rivals" in name:  # all classes of the photograph, none of another's
                asked = [n for n, (other, _) in enumerate(TARGETS) if other == photograph]
            alone = METHODS[name](classifier, x[photograph : photograph + 1], [(0, TARGETS[n][1]) for n in asked])
            alone = alone[asked.index(number)]
            torch.testing.assert_close(saliency, alone, rtol=1e-4, atol=1e-5 * float(alone.max()))

    def test_targets_may_be_a_function_of_the_logits(self, name: str, classifier: Classifier, x: Tensor) -> None:
        seen = []

        def targets(logits: Tensor) -> list[tuple[int, int]]:
            seen.append(logits)
            return TARGETS

        maps = METHODS[name](classifier, x, targets)
        torch.testing.assert_close(maps, METHODS[name](classifier, x, TARGETS), rtol=0, atol=0)
        assert len(seen) == 1
        with torch.no_grad():
            torch.testing.assert_close(seen[0], classifier.logits(x), rtol=1e-5, atol=1e-5)

    def test_no_targets(self, name: str, classifier: Classifier, x: Tensor) -> None:
        assert METHODS[name](classifier, x, []).shape == (0, 24, 24)

    def test_model_is_left_as_found(self, name: str, classifier: Classifier, x: Tensor) -> None:
        model = classifier.model.to(memory_format=torch.channels_last).train()
        model.features[3].eval()
        model.features[0].weight.requires_grad_(False)
        model.head.weight.grad = torch.ones_like(model.head.weight)
        before, grad_mode = state(model), torch.is_grad_enabled()
        kept = x.clone()
        METHODS[name](classifier, x, TARGETS)
        assert_same(before, state(model))
        torch.testing.assert_close(x, kept, rtol=0, atol=0)
        assert not x.requires_grad
        assert torch.is_grad_enabled() == grad_mode

    def test_model_is_left_as_found_after_an_exception(self, name: str, classifier: Classifier, x: Tensor) -> None:
        class Failing(nn.Module):
            armed = True

            def forward(self, x: Tensor) -> Tensor:
                if self.armed:
                    raise KeyboardInterrupt
                return x

        model = classifier.model.train()
        expected = METHODS[name](classifier, x, TARGETS)
        failing = Failing()
        model.features.append(failing)
        before, grad_mode = state(model), torch.is_grad_enabled()
        with pytest.raises(KeyboardInterrupt):
            METHODS[name](classifier, x, TARGETS)
        assert_same(before, state(model))
        assert torch.is_grad_enabled() == grad_mode
        failing.armed = False
        torch.testing.assert_close(METHODS[name](classifier, x, TARGETS), expected, rtol=0, atol=0)

    def test_classes_give_different_maps(self, name: str, classifier: Classifier, x: Tensor) -> None:
        one, other = METHODS[name](classifier, x, [(0, 1), (0, 3)])
        if (
            "AttentionRollout" in name or name == "EigenCAM"
        ):  # says where the network looks, whatever the class, as its documentation says
            assert one.equal(other)
        else:
            assert relative_difference(one, other) > 0.05

    def test_randomised_parameters_give_another_map(self, name: str, classifier: Classifier, x: Tensor) -> None:
        """The sanity check of Adebayo et al. 2018: a map that ignores the weights explains nothing."""
        other = as_classifier(randomised(copy.deepcopy(classifier.model), seed=9))
        one, another = (METHODS[name](c, x, [(0, 1)])[0] for c in (classifier, other))
        assert relative_difference(one, another) > 0.05

    def test_targets_outside(self, name: str, classifier: Classifier, x: Tensor) -> None:
        for pair in [(3, 0), (0, 5), (-1, 0), (0, -1)]:
            with pytest.raises(SaliencyError, match="targets: expected photographs below 3 and classes below 5"):
                METHODS[name](classifier, x, [pair])

    def test_under_inference_mode(self, name: str, classifier: Classifier, x: Tensor) -> None:
        expected = METHODS[name](classifier, x, TARGETS)
        with torch.inference_mode():
            maps = METHODS[name](classifier, x.clone(), TARGETS)
        torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_in_half_precision(self, name: str, dtype: torch.dtype, classifier: Classifier, x: Tensor) -> None:
        """Maps come in float32, and say what those in float32 say, as far as the network's own rounding lets them."""
        expected = METHODS[name](classifier, x, TARGETS)
        classifier.model.to(dtype)
        maps = METHODS[name](classifier, x.to(dtype), TARGETS)
        assert maps.dtype == torch.float32
        assert maps.isfinite().all()
        assert float(maps.min()) >= 0
        for found, saliency in zip(maps, expected, strict=True):
            assert relative_difference(found, saliency) < (0.4 if dtype == torch.bfloat16 else 0.1)


def test_every_method_is_among_them() -> None:
    classes = {value for name in package.__all__ if isinstance(value := getattr(package, name), type)}
    methods = {value for value in classes if issubclass(value, Method) and is_dataclass(value)}
    assert len(methods) == 39
    parts = {type(part) for method in METHODS.values() for part in (method, *vars(method).values())}
    assert methods <= parts
    assert {Features, Attention} <= parts


@pytest.fixture
def unchecked() -> Iterator[None]:
    """No shape or type is checked, as for a user: what is gradcut's own answer to a wrong one?"""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


PAIRS = (
    "targets: expected a list of pairs (photograph in the batch, class or tuple of classes), such as [(0, 281)], got "
)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (1, PAIRS + "1"),
        ("cat", PAIRS + "'cat'"),
        ([1], PAIRS + "1 in the list"),
        ([(0, "cat")], PAIRS + "(0, 'cat') in the list"),
        ([(0, 1, 2)], PAIRS + "(0, 1, 2) in the list"),
        ([(0.5, 1)], PAIRS + "(0.5, 1) in the list"),
        (lambda logits: 1, PAIRS + "1"),
        (lambda logits: [1], PAIRS + "1 in the list"),
        ([(0, ())], "targets: expected photographs below 3 and classes below 5, got (0, ())"),
    ],
    ids=[str(number) for number in range(9)],
)
@pytest.mark.parametrize("method", [CAM(), Gradient(), SmoothGrad(), GradCAM(), Walk(Rivals(CAM()))], ids=repr)
def test_targets_of_another_kind(method: Any, targets: Any, message: str, classifier: Classifier, x: Tensor) -> None:
    with pytest.raises(SaliencyError) as raised:
        method(classifier, x, targets)
    assert str(raised.value) == message


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "came"),
    [
        (lambda x: x[0], "torch.float32 of shape (3, 24, 24)"),
        (lambda x: x[:, :1], "torch.float32 of shape (3, 1, 24, 24)"),
        (lambda x: x.to(torch.uint8), "torch.uint8 of shape (3, 3, 24, 24)"),
        (lambda x: x.numpy(), "ndarray"),
    ],
)
@pytest.mark.parametrize("method", [CAM(), Gradient(), MultiScale(CAM())], ids=repr)
def test_photographs_of_another_kind(method: Any, change: Any, came: str, classifier: Classifier, x: Tensor) -> None:
    with pytest.raises(SaliencyError) as raised:
        method(classifier, change(x), [(0, 1)])
    expected = "x: expected floats of shape (b, 3, h, w), as Classifier.prepare makes them, got "
    assert str(raised.value) == expected + came


def test_targets_of_numpy_and_torch(classifier: Classifier, x: Tensor) -> None:
    expected = CAM()(classifier, x, [(0, 1), (2, (0, 3))])
    for number in (np.int64, torch.tensor):
        targets = [(number(0), number(1)), (number(2), [number(0), number(3)])]
        assert CAM()(classifier, x, lambda _, t=targets: t).equal(expected)


def test_who_needs_what_is_called_by_name(x: Tensor) -> None:
    placed = network("PlaceProbability")
    placed.model.features.append(nn.AdaptiveAvgPool2d(1))
    with pytest.raises(SaliencyError, match=r"^CAM needs .* last feature map"):
        CAM()(as_classifier(randomised(nn.Sequential(nn.Flatten(), nn.Linear(1728, 5)))), x, [(0, 0)])
    placed.model.head.register_forward_pre_hook(lambda module, args: args[0] ** 2)
    with pytest.raises(SaliencyError, match=r"^PlaceProbability needs a classifier whose logits are a linear layer"):
        PlaceProbability()(placed, x, [(0, 0)])


def test_the_method_that_runs_is_told() -> None:
    """`PlaceProbability` leaves it to another where the head has no weights for places; wrappers say so too."""
    placed, plain = network("PlaceProbability"), network("CAM")
    method = Walk(Rivals(MultiScale(PlaceProbability(GradCAM()), (1, 2))), steps=(3,))
    assert resolved(method, placed) is method
    assert resolved(method, plain) == Walk(Rivals(MultiScale(GradCAM(), (1, 2))), steps=(3,))
    assert resolved(PlaceProbability(), plain) == CAM()
    assert resolved(PlaceProbability(PlaceProbability()), plain) == CAM()
    assert resolved(GuidedGradCAM(regions=PlaceProbability()), plain) == GuidedGradCAM(regions=CAM())
    both = Mean((Walk(PlaceProbability()), Walk(CAM())))
    assert resolved(both, plain) == Walk(CAM())
    assert resolved(Rivals(Mean((PlaceProbability(), CAM(), GradCAM()))), plain) == Rivals(Mean((CAM(), GradCAM())))
    assert resolved(both, placed) is both
    assert resolved(len, plain) is len


def test_one_default_score() -> None:
    """The unnormalised one, as Simonyan et al. took it; only the student project's recipes say otherwise."""
    scores = {type(m).__name__: m.of for m in (CAM(), Gradient(), GuidedBackprop(), DeconvNet(), GradCAM(), LayerCAM())}
    scores["SmoothGrad"], scores["IntegratedGradients"] = SmoothGrad().method.of, IntegratedGradients().method.of
    assert set(scores.values()) == {"logit"}
    assert {name: r.saliency.of for name, r in RECIPES.items() if isinstance(r.saliency, Gradient)} == dict.fromkeys(
        ("simonyan", "guided", "deconvnet", "expansion"), "probability"
    )


@pytest.mark.parametrize("device", ["cuda", "mps"])
@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in OF_WORDS])
def test_every_recipe_on_an_accelerator(device: str, recipe: str, embedded: Classifier, cat: np.ndarray) -> None:
    """From photograph to masks, of classes that are asked for by name."""
    if not getattr(torch, device).is_available():
        pytest.skip(f"no {device} device here")
    labels = ["Egyptian cat", "cat", "beagle"]
    expected = Segmenter(embedded, recipe)(cat, labels=labels)
    there = Classifier(
        copy.deepcopy(embedded.model), embedded.labels, embedded.size, embedded.mean, embedded.std, name="embedded"
    )
    found = Segmenter(there.to(device), recipe)(cat, labels=labels)
    assert [o.label for o in found.objects] == labels
    for one, other in zip(found.objects, expected.objects, strict=True):
        assert one.score == pytest.approx(other.score, abs=0.01)
        assert relative_difference(torch.from_numpy(one.saliency), torch.from_numpy(other.saliency)) < 0.1
        union = (one.mask | other.mask).sum()
        assert (one.mask & other.mask).sum() > 0.9 * union, one.label


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_every_method_on_an_accelerator(device: str, x: Tensor) -> None:
    if not getattr(torch, device).is_available():
        pytest.skip(f"no {device} device here")
    for name, method in METHODS.items():
        classifier = network(name)
        expected = method(classifier, x, TARGETS)
        classifier.to(device)
        found = method(classifier, x.to(device), TARGETS)
        assert found.device.type == device
        assert found.dtype == torch.float32
        assert relative_difference(found.cpu(), expected) < 0.01 * len(TARGETS), name
        with torch.autocast(device, torch.bfloat16):
            assert method(classifier, x.to(device), TARGETS).dtype == torch.float32


def relative_difference(one: Tensor, other: Tensor) -> float:
    """Between maps scaled to a sum of 1: 0 the same, 2 disjoint."""
    one, other = (saliency / saliency.sum().clamp(min=1e-12) for saliency in (one, other))
    return float((one - other).abs().sum())


@pytest.mark.parametrize(
    ("method", "captum"),
    [(Gradient, CaptumSaliency), (GuidedBackprop, CaptumGuided), (DeconvNet, Deconvolution)],
)
@pytest.mark.filterwarnings("ignore:Setting (forward, )?backward hooks")
def test_gradients_are_captums(method: type, captum: type, x: Tensor) -> None:
    model = randomised(SmallNet(nn.ReLU)).eval()
    for index in range(3):
        expected = captum(model).attribute(x.clone().requires_grad_(), target=index).abs().amax(1)
        maps = method(of="logit")(as_classifier(model), x, [(i, index) for i in range(3)])
        torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("multilabel", [False, True])
def test_gradient_of_the_probability(multilabel: bool, x: Tensor) -> None:
    classifier = as_classifier(randomised(SmallNet()).eval(), multilabel=multilabel)
    leaf = x.clone().requires_grad_()
    logits = classifier.model(leaf)
    probability = (logits.sigmoid() if multilabel else logits.softmax(1))[1, 2]
    (expected,) = torch.autograd.grad(probability, leaf)
    (found,) = Gradient(of="probability")(classifier, x, [(1, 2)])
    torch.testing.assert_close(found, expected[1].abs().amax(0), rtol=1e-4, atol=1e-7)


def test_a_saturated_probability_still_has_a_gradient(x: Tensor) -> None:
    classifier = as_classifier(randomised(SmallNet()))
    with torch.no_grad():
        classifier.model.head.bias[1] += 40
        assert classifier.logits(x)[0].softmax(0)[1] == 1  # in float32: autograd through the softmax gives 0
    probability = Gradient(of="probability")(classifier, x[:1], [(0, 1)])
    assert float(probability.max()) > 0


def test_cam_is_the_weighted_sum_of_the_features(classifier: Classifier, x: Tensor) -> None:
    maps = CAM()(classifier, x, TARGETS)
    model = classifier.model.eval()
    with torch.no_grad():
        features = model.features(x)
        for saliency, (photograph, index) in zip(maps, TARGETS, strict=True):
            weighted = (model.head.weight[index][:, None, None] * features[photograph]).sum(0)
            # exact: its mean and the bias are the logit
            torch.testing.assert_close(
                weighted.mean() + model.head.bias[index], model(x)[photograph, index], rtol=1e-4, atol=1e-5
            )
            expected = F.interpolate(weighted.clamp(min=0)[None, None], (24, 24), mode="bilinear")[0, 0]
            torch.testing.assert_close(saliency, expected, rtol=1e-5, atol=1e-6)


def test_cam_needs_a_linear_head(x: Tensor) -> None:
    class TwoLayers(SmallNet):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.features(x).mean((2, 3)).relu() ** 2)

    with pytest.raises(SaliencyError, match="CAM needs a classifier whose logits are a linear layer"):
        CAM()(as_classifier(randomised(TwoLayers())), x, [(0, 0)])


@pytest.mark.parametrize("side", [2, 4])
def test_cam_says_when_the_last_map_is_a_single_place(side: int, classifier: Classifier, x: Tensor) -> None:
    small = x[:, :, :side, :side]
    with pytest.raises(SaliencyError, match=f"CAM needs photographs .* custom's has one from {side} by {side} pixels"):
        CAM()(classifier, small, [(0, 0)])
    with pytest.raises(SaliencyError, match=r"from 4 by 4 pixels\. Use larger .* larger scales\), or Gradient"):
        MultiScale(CAM(), scales=(1 / 6,))(classifier, x, [(0, 0)])


def test_rules_need_activations(x: Tensor) -> None:
    classifier = as_classifier(randomised(SmallNet(nn.Identity)))
    for method in (GuidedBackprop(), DeconvNet()):
        with pytest.raises(SaliencyError, match="no ReLU-like function was seen"):
            method(classifier, x, [(0, 0)])


def red_and_green() -> tuple[Classifier, Tensor, Tensor, Tensor]:
    """A network that counts red and green pixels, a photograph of a red and a green square, and the two squares."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.append(nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -1, -1], [-1, 1, -1]]).view(2, 3, 1, 1))
        model[4].weight.copy_(torch.eye(2))
        model[4].bias.zero_()
    classifier = as_classifier(model, classes=2, size=32, multilabel=True)
    x = torch.full((1, 3, 32, 32), 0.01)
    red, green = torch.zeros(2, 32, 32, dtype=torch.bool)
    red[4:12, 4:12], green[20:30, 16:28] = True, True
    x[0, 0, red], x[0, 1, green] = 1, 1
    return classifier, x, red, green


@pytest.mark.parametrize(
    "method",
    [
        Gradient(), Gradient(signed=True), GuidedBackprop(), GradientXInput(), IntegratedGradients(), CAM(), GradCAM(),
        GradCAMPlusPlus(), LayerCAM(), HiResCAM(), GuidedGradCAM(), MultiScale(CAM(), scales=(1, 2)),
    ],
    ids=repr,
)  # fmt: skip
def test_maps_see_the_object(method: Any) -> None:
    """The count of red pixels depends on the red square alone, and that of green ones on the green square."""
    classifier, x, red, green = red_and_green()
    maps = method(classifier, x, [(0, 0), (0, 1)])
    for saliency, inside, outside in [(maps[0], red, green), (maps[1], green, red)]:
        assert float(saliency[inside].mean()) > 10 * float(saliency[outside].mean())
        assert float(saliency[inside].sum()) > 0.8 * float(saliency.sum())


def test_deconvnet_sees_every_way_up_alike() -> None:
    """It lets gradients pass where the activation was off, so that on this network it shows no place at all."""
    classifier, x, _, _ = red_and_green()
    (saliency,) = DeconvNet()(classifier, x, [(0, 0)])
    assert float(saliency.min()) == pytest.approx(float(saliency.max()))


class TestCrops:
    def found(self, crops: list[Tensor]) -> Callable[..., Tensor]:
        """Finds rows 6 to 11 and columns 8 to 15 in the first photographs it sees, and the left half in the others."""

        def method(classifier: Classifier, x: Tensor, targets: Any) -> Tensor:
            crops.append(x)
            maps = torch.zeros(len(list(targets(torch.zeros(3, 5)) if callable(targets) else targets)), 24, 24)
            if len(crops) == 1:
                maps[:, 6:12, 8:16] = 4.0
                maps[:, 0, 0] = 1.0
            else:
                maps[:, :, :12] = 2.0
            return maps

        return method

    def test_what_it_looks_at_and_what_it_makes(self, x: Tensor) -> None:
        crops: list[Tensor] = []
        (found,) = Crops(self.found(crops))(as_classifier(SmallNet()), x, [(2, 1)])
        assert len(crops) == 2
        # A quarter of 6 rows, rounded to 2, and of 8 columns, on each side.
        box = x[2:3, :, 4:14, 6:18]
        torch.testing.assert_close(crops[1], F.interpolate(box, (24, 24), mode="bilinear"))
        assert found[0, 0] == 0.125
        assert found[8, 7] == pytest.approx(0.5)  # not found at first, but in the crop
        assert found[8, 10] == pytest.approx(1)
        assert found[8, 15] == pytest.approx(0.5)  # found at first, not in the crop
        assert found[20, 20] == 0

    def test_every_option_matters(self, x: Tensor) -> None:
        seen = {}
        for name, options in {"plain": {}, "at": {"at": 0.1}, "margin": {"margin": 0.0}}.items():
            crops: list[Tensor] = []
            Crops(self.found(crops), **options)(as_classifier(SmallNet()), x, [(0, 1)])
            seen[name] = crops[1]
        assert not torch.equal(seen["plain"], seen["at"])
        torch.testing.assert_close(seen["margin"], F.interpolate(x[:1, :, 6:12, 8:16], (24, 24), mode="bilinear"))

    def test_a_crop_without_saliency_changes_nothing(self, x: Tensor) -> None:
        def once(classifier: Classifier, x: Tensor, targets: Any) -> Tensor:
            if callable(targets):  # the crops are asked for by name
                targets(torch.zeros(3, 5))
                maps = torch.zeros(1, 24, 24)
                maps[0, 3, 4] = 2.0
                return maps
            return torch.zeros(1, 24, 24)

        (found,) = Crops(once)(as_classifier(SmallNet()), x, [(0, 1)])
        assert found[3, 4] == 1
        assert found.sum() == 1

    def test_wrong_options(self) -> None:
        with pytest.raises(SaliencyError, match="at: expected a number above 0 and below 1, got 1"):
            Crops(CAM(), at=1)
        with pytest.raises(SaliencyError, match="margin: expected a number from 0, got -1"):
            Crops(CAM(), margin=-1)
