"""Measures of what the network says of a map: held to pytorch-grad-cam, captum, SciPy and the papers' loops."""

from __future__ import annotations

import itertools
import json

import captum.metrics
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import SmallNet
from pytorch_grad_cam.metrics import arcc as peer_arcc
from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence, IncreaseInConfidence
from pytorch_grad_cam.metrics.perturbation_confidence import (
    PerturbationConfidenceMetric,
    RemoveLeastRelevantFirst,
    RemoveMostRelevantFirst,
)
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from scipy import stats
from scipy.ndimage import gaussian_filter
from torch import nn

from gradcut import Classifier, catalogue
from gradcut.errors import EvaluationError
from gradcut.evaluation import faithfulness as measures
from gradcut.evaluation.faithfulness import Explanation, Faithfulness
from gradcut.evaluation.faithfulness.stability import layers_of, squares
from gradcut.saliency import GradCAM, Gradient

SIZE = (40, 40)
#: A class whose probability is neither near 0 nor near 1.
SURE = 0


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(3)
    model = SmallNet()
    model.head.weight.data *= 20  # so that probabilities move
    return Classifier(model, 5, SIZE)


@pytest.fixture
def x() -> torch.Tensor:
    coarse = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, SIZE, mode="bicubic")


@pytest.fixture
def map() -> np.ndarray:
    """Smooth, and no two pixels are equal."""
    values = gaussian_filter(np.random.default_rng(0).normal(size=SIZE), 3).astype(np.float32)
    return (values - values.min()) / (values.max() - values.min())


def probability(classifier: Classifier, x: torch.Tensor, index: int) -> float:
    with torch.no_grad():
        return float(classifier.model.eval()(x).softmax(1)[0, index])


class Probability:
    """A target of pytorch-grad-cam."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.softmax(0)[self.index]


# Curves --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["deletion", "insertion"])
def test_curves_are_those_of_the_papers_loop(classifier, x, map, mode):
    """The loop of RISE's CausalMetric, a step a row of pixels, on the blur of its code."""
    kernel = np.zeros((11, 11))
    kernel[5, 5] = 1
    kernel = torch.from_numpy(gaussian_filter(kernel, 5)).float().expand(3, 1, -1, -1)
    large = F.interpolate(x, (224, 224), mode="bilinear")
    torch.testing.assert_close(measures.blurred(large), F.conv2d(large, kernel, padding=5, groups=3))

    start, finish = (x, torch.zeros_like(x)) if mode == "deletion" else (measures.blurred(x), x)
    order = np.flip(np.argsort(map.reshape(-1)))
    changed, scores = start.clone(), []
    for step in range(SIZE[0] + 1):
        scores.append(probability(classifier, changed, SURE))
        chosen = order[SIZE[1] * step : SIZE[1] * (step + 1)].copy()
        changed.view(1, 3, -1)[..., chosen] = finish.reshape(1, 3, -1)[..., chosen]
    scores = np.array(scores)
    area = (scores.sum() - scores[0] / 2 - scores[-1] / 2) / SIZE[0]
    curve = getattr(measures, mode)(classifier, x, map, SURE, steps=SIZE[0])
    np.testing.assert_allclose(curve.scores, scores, atol=1e-6)
    assert curve.area == pytest.approx(area, abs=1e-6)
    assert np.ptp(scores) > 0.002


def test_what_the_network_uses_goes_first(brightness, drawn):
    photograph, masks = drawn
    x = brightness.prepare([photograph])
    truth = F.interpolate(torch.from_numpy(masks["red"])[None, None].float(), x.shape[2:])[0, 0].numpy()
    index = brightness.index("red")
    for worse in (1 - truth, np.zeros_like(truth)):
        assert measures.deletion(brightness, x, truth, index).area < measures.deletion(brightness, x, worse, index).area
        better, other = (measures.insertion(brightness, x, of, index).area for of in (truth, worse))
        assert better > other
        gaps = [
            measures.road_gap(
                *(measures.road(brightness, x, of, index, most_relevant_first=first) for first in (True, False))
            )
            for of in (truth, worse)
        ]
        assert gaps[0] > gaps[1] + 0.01
        better, other = (measures.infidelity(brightness, x, of, index) for of in (truth, worse))
        assert better < other


def test_a_positive_factor_changes_nothing(classifier, x, map):
    every = Faithfulness(
        ("deletion", "insertion", "drop", "increase", "road", "infidelity", "sparseness", "complexity")
    )
    one, other = (every(classifier, Gradient(), x, [(2,)], [factor * map])[0] for factor in (1, 4))
    curves, others = one.pop("curves"), other.pop("curves")
    assert one == pytest.approx(other)
    assert curves == others


def test_equal_pixels_go_by_lot(x):
    flat = np.zeros(SIZE, np.float32)
    order = measures.ranked(flat, x)
    assert sorted(order) == list(range(flat.size))
    assert (order == measures.ranked(flat, x)).all()
    assert (order != measures.ranked(flat, x, seed=1)).any()
    assert abs(np.mean(order[:800]) - flat.size / 2) < 60, "not from the top"
    assert sorted(order[:100]) != sorted(range(100))


def test_drop_and_increase_are_pytorch_grad_cams(classifier, x, map):
    """Its drop is a difference; the paper's, which torch-cam has too, is a share of the score."""
    for index in range(5):
        lost = measures.drop(classifier, x, map, index)
        arguments = (x, map[None], [Probability(index)], classifier.model.eval())
        assert lost.drop * lost.before == pytest.approx(DropInConfidence()(*arguments)[0], abs=1e-6)
        assert lost.increase == IncreaseInConfidence()(*arguments)[0]
        assert lost.drop == pytest.approx(max(0, 1 - lost.after / lost.before), abs=1e-6)
    assert measures.Drop(0.0, 0.5) == (0, 0.5)
    assert measures.Drop(0.0, 0.5).drop == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"map": np.zeros((3, 3), np.float32)}, r"map: expected the photograph's size \(40, 40\), got \(3, 3\)"),
        ({"map": -np.ones(SIZE, np.float32)}, "map: expected finite numbers of at least 0"),
        ({"map": np.full(SIZE, np.nan, np.float32)}, "map: expected finite numbers of at least 0"),
        ({"steps": 0}, "steps: expected 1 at least, got 0"),
    ],
)
def test_what_cannot_be_measured(unchecked, classifier, x, map, change, words):
    with pytest.raises(EvaluationError, match=words):
        measures.deletion(classifier, x, **{"map": map, "members": 0, **change})


def test_shares_of_road(classifier, x, map):
    for shares in ((), (0.0,), (0.5, 1.0)):
        with pytest.raises(EvaluationError, match="shares: expected one at least, each above 0 and below 1"):
            measures.road(classifier, x, map, 0, shares=shares)


def test_options_matter(classifier, x, map):
    """Of every option but the batch there is a value that changes the numbers."""

    def values(measure, **options):
        result = measure(classifier, x, map, SURE, **options)
        return result if isinstance(result, float) else getattr(result, "scores", tuple(result))

    flat = np.zeros_like(map)
    for measure, options in [
        (measures.deletion, [{"steps": 4}, {"baseline": "white"}, {"of": "logit"}]),
        (measures.insertion, [{"steps": 4}, {"of": "logit"}]),
        (measures.road, [{"shares": (0.5,)}, {"noise": 0.5}, {"of": "logit"}, {"seed": 1}]),
        (measures.road, [{"most_relevant_first": False}]),
        (measures.drop, [{"of": "logit"}]),
        (measures.infidelity, [{"samples": 7}, {"baseline": "white"}, {"of": "logit"}, {"seed": 1}]),
    ]:
        for option in options:
            assert values(measure, **option) != values(measure), (measure, option)
        assert values(measure, batch=3) == pytest.approx(values(measure), abs=1e-5)
    for measure in (measures.deletion, measures.insertion):
        assert measure(classifier, x, flat, SURE, seed=1) != measure(classifier, x, flat, SURE)
    groups = [measures.deletion(classifier, x, map, members).scores for members in ((1, 3), 1, 3)]
    np.testing.assert_allclose(groups[0], np.add(*groups[1:]), atol=1e-6)


# ROAD ----------------------------------------------------------------------------------------------------------------


def test_imputed_is_pytorch_grad_cams(x, map):
    removed = torch.stack([torch.from_numpy(map > level) for level in (0.3, 0.6)] + [torch.rand(SIZE) > 0.3])
    exact = measures.imputed(x[0].double(), removed, tolerance=1e-9)
    usual = measures.imputed(x[0], removed)
    for version, quick, mask in zip(exact, usual, removed, strict=True):
        peer = NoisyLinearImputer(noise=0)(x[0], (~mask).float())
        np.testing.assert_allclose(version.numpy(), peer.numpy(), atol=1e-5)
        assert float((quick - peer).abs().mean()) < 0.01
        assert (quick == x[0])[:, ~mask].all()


def test_road_is_pytorch_grad_cams(classifier, x, map):
    for first, remove in ((True, RemoveMostRelevantFirst), (False, RemoveLeastRelevantFirst)):
        curve = measures.road(classifier, x, map, 2, most_relevant_first=first, noise=0)
        for share, score in zip(curve.shares, curve.scores, strict=True):
            metric = PerturbationConfidenceMetric(remove(round(100 * (1 - share)), NoisyLinearImputer(noise=0)))
            (peer,) = metric(x, map[None], [Probability(2)], classifier.model.eval(), return_diff=False)
            assert score == pytest.approx(float(peer), abs=0.005)
    most, least = measures.Curve((0.5,), (0.2,)), measures.Curve((0.5,), (0.8,))
    assert measures.road_gap(most, least) == pytest.approx(0.3)


# Of methods ----------------------------------------------------------------------------------------------------------


def test_infidelity_is_captums(classifier, x, map):
    boxes = iter(squares(*SIZE, 30))

    def cover(versions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        covered, perturbations = versions.clone(), torch.zeros_like(versions)
        for version, perturbation in zip(covered, perturbations, strict=True):
            rows, columns = next(boxes)
            version[:, rows, columns] = 0
            perturbation[:, rows, columns] = 1 / 3
        return perturbations, covered

    peer = captum.metrics.infidelity(
        lambda versions: classifier.model.eval()(versions).softmax(1), cover, x,
        torch.from_numpy(map).expand(1, 3, -1, -1), target=2, n_perturb_samples=30, normalize=True,
    )  # fmt: skip
    found = measures.infidelity(classifier, x, map, 2)
    assert found == pytest.approx(float(peer), rel=1e-4)
    assert found < measures.infidelity(classifier, x, np.zeros_like(map), 2)


def test_sensitivity_is_captums(classifier, x):
    explanation = Explanation(Gradient(), ((2,), (4,)))
    generator = torch.Generator().manual_seed(0)
    moves = [0.3 * (2 * torch.rand(x.shape, generator=generator) - 1) for _ in range(4)]
    values = measures.sensitivity(classifier, x, explanation, samples=4, radius=0.3)
    for number, value in enumerate(values):
        turns = itertools.cycle(moves)

        def explain(inputs: tuple[torch.Tensor], number: int = number) -> tuple[torch.Tensor]:
            return (torch.from_numpy(explanation.maps(classifier, inputs[0])[:, number]),)

        peer = captum.metrics.sensitivity_max(
            explain, x, lambda inputs, radius, turns=turns: (inputs[0] + torch.cat([next(turns) for _ in inputs[0]]),),
            n_perturb_samples=4, max_examples_per_batch=1,
        )  # fmt: skip
        assert value == pytest.approx(float(peer), rel=1e-4)
    constant = Explanation(lambda classifier, x, targets: torch.zeros(len(targets), *x.shape[2:]), ((2,),))
    assert measures.sensitivity(classifier, x, constant) == [None]
    with pytest.raises(EvaluationError, match="samples, radius"):
        measures.sensitivity(classifier, x, explanation, radius=0)


def test_randomisation_leaves_the_model_alone(classifier, x):
    before = {name: value.clone() for name, value in classifier.model.state_dict().items()}
    explanation = Explanation(Gradient(of="logit"), ((2,), (4,)))
    found = measures.randomisation(classifier, x, explanation, stages=3)
    assert [of.layers for of in found] == [((2, 5), (4, 5), (5, 5))] * 2
    assert all(abs(value) < 0.9 for of in found for value in (of.spearman[-1], of.ssim[-1]))
    assert all((before[name] == value).all() for name, value in classifier.model.state_dict().items())
    assert found == measures.randomisation(classifier, x, explanation, stages=3)
    assert found != measures.randomisation(classifier, x, explanation, stages=3, seed=1)

    def blind(classifier, x, targets):
        return torch.arange(x[0, 0].numel()).float().view(1, *x.shape[2:]).expand(len(targets), -1, -1)

    (of,) = measures.randomisation(classifier, x, Explanation(blind, ((2,),)), stages=2)
    assert of.spearman == pytest.approx((1, 1))
    assert of.ssim == pytest.approx((1, 1))
    with pytest.raises(EvaluationError, match="stages"):
        measures.randomisation(classifier, x, explanation, stages=0)
    bare = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 3, SIZE)
    with pytest.raises(EvaluationError, match="model: expected parameters to shuffle, custom has none"):
        measures.randomisation(bare, x, explanation)


def test_layers_are_shuffled_from_the_top(classifier):
    names = {id(module): name for name, module in classifier.model.named_modules()}
    order = [names[id(layer)] for layer in layers_of(classifier.model)]
    assert order == ["head", "features.4", "features.3", "features.1", "features.0"]
    changed = measures.shuffled(classifier.model, 3)
    for name, value in classifier.model.state_dict().items():
        other = changed.state_dict()[name]
        assert (value.flatten().sort()[0] == other.flatten().sort()[0]).all()
        if "weight" in name and value.ndim > 1:
            assert (value == other).all() == (name == "features.0.weight")


def test_similarities_are_scipys(map):
    other = np.random.default_rng(1).random(SIZE).round(1).astype(np.float32)
    assert measures.spearman(map, other) == pytest.approx(stats.spearmanr(map.ravel(), other.ravel()).statistic)
    assert measures.spearman(map, np.ones_like(map)) == 0


def test_coherency_and_arcc_are_pytorch_grad_cams(classifier, x):
    explanation = Explanation(GradCAM(), ((SURE,),))

    def cams(input_tensor: torch.Tensor, targets: object = None) -> np.ndarray:
        (maps,) = explanation.maps(classifier, input_tensor)
        return (maps - maps.min()) / (maps.max() - maps.min())

    (value,) = measures.coherency(classifier, x, explanation)
    peer = peer_arcc.Coherency()(x, cams(x), [], classifier.model, cams)
    assert value == pytest.approx(float(peer[0]), abs=1e-5)
    area = measures.area(explanation.maps(classifier, x)[0, 0])
    assert area == pytest.approx(float(peer_arcc.Complexity()(cams(x))[0]), abs=1e-6)
    metric = peer_arcc.ARCC(cams)
    for gap in (0.2, 0.7):
        metric.road = lambda *_, gap=gap: np.array([gap])
        whole = metric(x, cams(x), [], classifier.model)
        assert measures.arcc(value, area, gap) == pytest.approx(float(whole[0]), abs=1e-5)
    assert measures.arcc(value, area, -0.1) == 0
    blank = Explanation(lambda classifier, x, targets: torch.zeros(len(targets), *x.shape[2:]), ((2,),))
    assert measures.coherency(classifier, x, blank) == [0.5]


def test_what_a_map_is_like(map):
    values = map.ravel().astype(float)
    apart = np.abs(values[:, None] - values).sum() / (2 * values.size**2 * values.mean())
    assert measures.gini(map) == pytest.approx(apart)
    assert measures.complexity(map) == pytest.approx(stats.entropy(values))
    single = np.zeros_like(map)
    single[3, 4] = 2
    assert measures.gini(single) == pytest.approx(1 - 1 / single.size)
    assert measures.complexity(single) == 0
    assert measures.gini(np.ones_like(map)) == pytest.approx(0)
    assert measures.gini(0 * map) is None
    assert measures.complexity(0 * map) is None
    assert measures.area(np.ones_like(map)) == 0


# Several at once -----------------------------------------------------------------------------------------------------


def test_all_at_once_are_each_alone(classifier, x):
    method, groups = GradCAM(), [(2,), (1, 3)]
    maps = list(Explanation(method, tuple(groups)).maps(classifier, x)[0])
    every = Faithfulness(tuple(catalogue.FAITHFULNESS))(classifier, method, x, groups, maps)
    json.dumps(every)
    for name in catalogue.FAITHFULNESS:
        alone = Faithfulness((name,))(classifier, method, x, groups, maps)
        assert [part[name] for part in alone] == [part[name] for part in every], name
        assert all(set(part) <= {name, "curves"} for part in alone)
    few = Faithfulness(("deletion", "road"), batch=3)(classifier, method, x, groups, maps)
    assert [part["deletion"] for part in few] == pytest.approx([part["deletion"] for part in every], abs=1e-5)
    assert set(every[0]["curves"]) == {"deletion", "insertion", "most", "least", "randomisation"}
    assert Faithfulness()(classifier, method, x, [], []) == []


def test_choice_of_measures():
    assert Faithfulness(("ROAD", "deletion")) == Faithfulness(("deletion", "road"))
    assert Faithfulness(batch=3).record() == Faithfulness().record()
    for option in ({"steps": 5}, {"squares": 5}, {"moves": 5}, {"stages": 2}, {"seed": 1}, {"measures": ("road",)}):
        assert Faithfulness(**option).record() != Faithfulness().record()
    with pytest.raises(EvaluationError, match=r"measures: expected one of deletion.*did you mean 'deletion'"):
        Faithfulness(("deletin",))
    with pytest.raises(EvaluationError, match="measures: expected one at least"):
        Faithfulness(())
    with pytest.raises(EvaluationError, match="steps: expected a whole number of at least 1, got 0"):
        Faithfulness(steps=0)
