"""The cuts and the random walker, on drawn scenes and held to their energies written out."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import maxflow as pymaxflow
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import multivariate_normal
from skimage.color import rgb2lab
from skimage.segmentation import random_walker
from typecheck import unchecked

from gradcut import images
from gradcut.errors import MaskError
from gradcut.masks import ColourCut, GraphCut, JointCut, MaskMaker, RandomWalker
from gradcut.masks.contrasts import Exponential, Inverse
from gradcut.masks.maxflow import ends
from gradcut.seeds import Percentiles, Seeds

Scene = tuple[np.ndarray, np.ndarray, np.ndarray, Seeds]


@pytest.fixture(scope="module")
def scene() -> Scene:
    """A green disc on brown, both with noise; a blurred map of half the disc; a few sure pixels."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]
    disc = (y - 50) ** 2 + (x - 44) ** 2 < 26**2
    photograph = np.where(disc[..., None], (60, 160, 70), (150, 110, 60)) + rng.normal(0, 8, (96, 96, 3))
    saliency = np.exp(-((y - 46) ** 2 + (x - 40) ** 2) / (2 * 16**2)).astype(np.float32)
    return photograph.clip(0, 255).astype(np.uint8), disc, saliency, Seeds(saliency > 0.97, saliency < 0.01)


def mask_of(maker: MaskMaker, scene: Scene) -> np.ndarray:
    photograph, _, saliency, seeds = scene
    (mask,) = maker(photograph, saliency[None], [seeds])
    return mask


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


# --- Drawn scenes ---


@pytest.mark.parametrize("maker", [ColourCut(), JointCut(), GraphCut(Exponential()), RandomWalker()], ids=repr)
def test_the_mask_is_the_drawn_disc(scene: Scene, maker: MaskMaker) -> None:
    assert iou(mask_of(maker, scene), scene[1]) > 0.95


def test_colours_carry_the_mask_to_the_drawn_boundary(scene: Scene) -> None:
    assert iou(mask_of(ColourCut(components=0), scene), scene[1]) < iou(mask_of(ColourCut(), scene), scene[1]) - 0.1


@pytest.mark.parametrize("maker", [GraphCut(), ColourCut(grid=96), JointCut(ColourCut(grid=96)), RandomWalker(96)])
def test_seeds_are_hard(scene: Scene, maker: MaskMaker) -> None:
    photograph, _disc, saliency, _ = scene
    inside, outside = np.zeros((2, 96, 96), dtype=bool)
    inside[2:6, 2:6] = True  # far from the disc
    outside[40:50, 40:50] = True  # in its middle
    (mask,) = maker(photograph, saliency[None], [Seeds(inside, outside)])
    assert mask[inside].all()
    assert not mask[outside].any()


def test_a_stroke_carries_its_colours(scene: Scene) -> None:
    """Of two blue discs that the saliency leaves out, a stroke over one brings in the other as well."""
    photograph, disc, saliency, seeds = scene
    y, x = np.mgrid[:96, :96]
    near, far = ((y - 14) ** 2 + (x - column) ** 2 < 10**2 for column in (14, 80))
    photograph = np.where((near | far)[..., None], np.uint8([40, 60, 200]), photograph)
    stroke = seeds.foreground | ((abs(y - 14) < 2) & (abs(x - 14) < 6))

    def cut(maker: MaskMaker, foreground: np.ndarray) -> np.ndarray:
        return mask_of(maker, (photograph, disc, saliency, Seeds(foreground, y > 90)))

    assert not cut(ColourCut(), seeds.foreground)[near | far].any()
    assert not cut(ColourCut(components=0), stroke)[far].any()
    assert iou(cut(ColourCut(), stroke), disc | near | far) > 0.95


@pytest.mark.parametrize("maker", [GraphCut(Exponential()), ColourCut(), RandomWalker()], ids=repr)
def test_classes_are_cut_one_at_a_time(scene: Scene, maker: MaskMaker) -> None:
    photograph, disc, saliency, seeds = scene
    other = np.roll(saliency, 40, axis=1)
    others = Seeds(other > 0.97, other < 0.01)
    both = maker(photograph, np.stack([saliency, other]), [seeds, others])
    assert np.array_equal(both[0], mask_of(maker, scene))
    assert np.array_equal(both[1], mask_of(maker, (photograph, disc, other, others)))
    assert not np.array_equal(both[0], both[1])


def test_a_flat_photograph_and_a_map_of_zeros_are_cut_all_the_same() -> None:
    flat = np.full((40, 30, 3), 7, dtype=np.uint8)
    half = np.zeros((20, 20), dtype=bool)
    half[:10] = True
    for maker in (GraphCut(), ColourCut(), JointCut(), RandomWalker()):
        (mask,) = maker(flat, np.zeros((1, 20, 20), dtype=np.float32), [Seeds(half, ~half)])
        assert mask[:18].all()
        assert not mask[22:].any()


# --- Options ---


@pytest.mark.parametrize(
    ("maker", "option", "message"),
    [
        (ColourCut, {"middle": 1.0}, "middle: expected a number above 0 and below 1, got 1.0"),
        (ColourCut, {"slope": -1.0}, "slope: expected a number of at least 0, got -1.0"),
        (ColourCut, {"smoothness": float("nan")}, "smoothness: expected a number of at least 0, got nan"),
        (ColourCut, {"components": -1}, "components: expected a whole number of at least 0, got -1"),
        (ColourCut, {"rounds": 0}, "rounds: expected a whole number of at least 1, got 0"),
        (ColourCut, {"grid": 1}, "grid: expected a whole number of at least 2, got 1"),
        (GraphCut, {"grid": 1}, "grid: expected a whole number of at least 2, got 1"),
        (RandomWalker, {"grid": 1}, "grid: expected a whole number of at least 2, got 1"),
        (ColourCut, {"neighbours": 6}, "neighbours: expected 4 or 8, got 6"),
        (GraphCut, {"neighbours": 2}, "neighbours: expected 4 or 8, got 2"),
        (RandomWalker, {"neighbours": 2}, "neighbours: expected 4 or 8, got 2"),
        (ColourCut, {"grid": 160.0}, "grid: expected a whole number of at least 2, got 160.0"),
        (ColourCut, {"rounds": True}, "rounds: expected a whole number of at least 1, got True"),
        (ColourCut, {"slope": "6"}, "slope: expected a number of at least 0, got '6'"),
        (ColourCut, {"slope": float("inf")}, "slope: expected a number of at least 0, got inf"),
        (ColourCut, {"middle": None}, "middle: expected a number, got None"),
        (ColourCut, {"clip": -1.0}, "clip: expected a number of at least 0, got -1.0"),
        (ColourCut, {"seed_weight": -1.0}, "seed_weight: expected a number of at least 0, got -1.0"),
        (ColourCut, {"steepness": -1.0}, "steepness: expected a number of at least 0, got -1.0"),
        (ColourCut, {"sample": 0}, "sample: expected a whole number of at least 1, got 0"),
        (ColourCut, {"iterations": 0}, "iterations: expected a whole number of at least 1, got 0"),
        (ColourCut, {"least_variance": 0.0}, "least_variance: expected a number above 0, got 0.0"),
        (GraphCut, {"neighbours": "8"}, "neighbours: expected 4 or 8, got '8'"),
        (GraphCut, {"neighbours": 8.0}, "neighbours: expected 4 or 8, got 8.0"),
        (GraphCut, {"contrast": "edges"}, "contrast: expected a contrast, got 'edges'"),
        (JointCut, {"cut": GraphCut()}, "cut: expected a ColourCut, got GraphCut"),
    ],
)
def test_unusable_options(maker: Callable[..., MaskMaker], option: dict[str, object], message: str) -> None:
    with pytest.raises(MaskError, match=message):
        unchecked(maker, **option)


# --- Energies ---


def labellings(size: int, k: int = 2) -> np.ndarray:
    return np.array(list(itertools.product(range(k), repeat=size * size))).reshape(-1, size, size)


def cost_of_boundaries(labels: np.ndarray, weights: tuple[np.ndarray, ...]) -> np.ndarray:
    """For many labellings at once."""
    total = np.zeros(len(labels))
    for weight, (a, b) in zip(weights, ends(labels.transpose(1, 2, 0)), strict=False):
        total += (weight[..., None] * (a != b)).sum((0, 1))
    return total


def unaries_by_hand(cut: ColourCut, photograph: np.ndarray, saliency: np.ndarray, seeds: Seeds) -> np.ndarray:
    """For one Gaussian a side, on a photograph of the grid's size."""
    relative = saliency.astype(float) / saliency.max()
    odds = cut.slope * (relative - cut.middle)
    believed = expit(cut.steepness * (relative - cut.middle))
    against = (seeds.foreground & (believed < 0.5)) | (seeds.background & (believed > 0.5))
    belief = np.where(against, seeds.foreground, believed).ravel()
    weight = np.where(against, cut.seed_weight, 1).ravel()
    colours = rgb2lab(photograph).reshape(-1, 3)
    density = []
    for side in (weight * belief, weight * (1 - belief)):
        mean = np.average(colours, axis=0, weights=side)
        covariance = np.cov(colours.T, aweights=side, ddof=0) + cut.least_variance * np.eye(3)
        density.append(multivariate_normal(mean, covariance).logpdf(colours))
    return odds + (density[0] - density[1]).clip(-cut.clip, cut.clip).reshape(odds.shape)


def tiny(seed: int, classes: int = 1) -> tuple[np.ndarray, np.ndarray, list[Seeds]]:
    """A photograph and maps of 3 x 3, whose seeds are the maps' maximum and minimum."""
    rng = np.random.default_rng(seed)
    photograph = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)
    saliency = rng.random((classes, 3, 3)).astype(np.float32)
    return photograph, saliency, [Seeds(each == each.max(), each == each.min()) for each in saliency]


@pytest.mark.parametrize("neighbours", [4, 8])
@pytest.mark.parametrize("seed", range(6))
def test_the_colour_cut_minimises_its_energy(seed: int, neighbours: int) -> None:
    cut = ColourCut(grid=3, components=1, neighbours=neighbours, smoothness=1.5)
    photograph, saliency, seeds = tiny(seed)
    odds = unaries_by_hand(cut, photograph, saliency[0], seeds[0])
    every = labellings(3)
    allowed = every[(every[:, seeds[0].foreground].all(1)) & ~every[:, seeds[0].background].any(1)]
    weights = tuple(1.5 * each for each in Exponential()(photograph)[: neighbours // 2])
    energies = (odds * (allowed == 0)).sum((1, 2)) + cost_of_boundaries(allowed, weights)
    (mask,) = cut(photograph, saliency, seeds)
    (found,) = np.flatnonzero((allowed == mask).all((1, 2)))
    assert energies[found] == pytest.approx(energies.min(), abs=1e-3)


@pytest.mark.parametrize("seed", [0, 2, 3, 4])
def test_the_joint_cut_minimises_its_energy(seed: int) -> None:
    """Alpha-expansion need not find the minimum; here it does."""
    cut = ColourCut(grid=3, components=1, smoothness=0.7)
    photograph, saliency, seeds = tiny(seed, classes=2)
    odds = np.stack([np.zeros((3, 3)), *(map(unaries_by_hand, [cut] * 2, [photograph] * 2, saliency, seeds))])
    every = labellings(3, 3)
    claimed = seeds[0].foreground | seeds[1].foreground
    possible = (every[:, claimed] > 0).all(1)
    for number, each in enumerate(seeds, start=1):
        possible &= (every[:, claimed & ~each.foreground] != number).all(1)
        possible &= (every[:, each.background & ~each.foreground] != number).all(1)
    allowed = every[possible]
    weights = tuple(0.7 * each for each in Exponential()(photograph))
    energies = cost_of_boundaries(allowed, weights) - np.take_along_axis(odds[None], allowed[:, None], 1).sum((1, 2, 3))
    masks = JointCut(cut)(photograph, saliency, seeds)
    assert (masks.sum(axis=0) <= 1).all()
    (found,) = np.flatnonzero((allowed == masks[0] + 2 * masks[1]).all((1, 2)))
    assert energies[found] == pytest.approx(energies.min(), abs=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_the_graph_cut_is_the_student_projects(seed: int) -> None:
    """1 / (1 + squared colour difference) over 4 neighbours between the two seeds, and nothing else."""
    photograph, saliency, seeds = tiny(seed)
    colour = photograph.astype(float)
    right = 1 / (1 + ((colour[:, 1:] - colour[:, :-1]) ** 2).sum(2))
    down = 1 / (1 + ((colour[1:] - colour[:-1]) ** 2).sum(2))
    every = labellings(3)
    allowed = every[(every[:, seeds[0].foreground].all(1)) & ~every[:, seeds[0].background].any(1)]
    energies = cost_of_boundaries(allowed, (right, down))
    (mask,) = GraphCut()(photograph, saliency, seeds)
    assert np.array_equal(mask, allowed[energies.argmin()])


def test_the_graph_cut_is_as_cheap_as_pymaxflows(cat: np.ndarray) -> None:
    photograph = images.resize(cat, (60, 90))
    y, x = np.mgrid[:60, :90]
    saliency = np.exp(-((y - 35) ** 2 + (x - 45) ** 2) / 500)
    seeds = Percentiles(95, 30)(saliency)
    colour = photograph.astype(float)
    graph = pymaxflow.Graph[float]()
    nodes = graph.add_grid_nodes((60, 90))
    for a, b in (np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1]):
        weight = 1 / (1 + ((colour[a] - colour[b]) ** 2).sum(2))
        graph.add_edges(nodes[a].ravel(), nodes[b].ravel(), weight.ravel(), weight.ravel())
    graph.add_grid_tedges(nodes, np.where(seeds.foreground, 1e9, 0), np.where(seeds.background, 1e9, 0))
    least = graph.maxflow()
    (mask,) = GraphCut()(photograph, saliency[None], [seeds])
    assert mask[seeds.foreground].all()
    assert not mask[seeds.background].any()
    energy = cost_of_boundaries(mask[None].astype(int), Inverse()(photograph)[:2])[0]
    assert energy == pytest.approx(least, rel=1e-6)


# --- The joint cut ---


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_with_one_class_the_joint_cut_is_the_cut_itself(seed: int, rounds: int) -> None:
    rng = np.random.default_rng(seed)
    h, w, grid = rng.integers(1, 30), rng.integers(1, 30), int(rng.integers(2, 20))
    photograph = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    saliency = rng.random((1, 9, 7)).astype(np.float32)
    cut, seeds = ColourCut(grid=grid, rounds=rounds), [Percentiles()(saliency[0])]
    assert np.array_equal(JointCut(cut)(photograph, saliency, seeds), cut(photograph, saliency, seeds))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 4))
def test_the_joint_cuts_masks_never_overlap(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    h, w, grid = rng.integers(1, 30), rng.integers(1, 30), int(rng.integers(2, 12))
    photograph = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    saliency = rng.random((classes, 5, 5)).astype(np.float32)
    masks = JointCut(ColourCut(grid=grid))(photograph, saliency, [Percentiles(60, 30)(each) for each in saliency])
    assert masks.shape == (classes, h, w)
    assert (masks.sum(axis=0) <= 1).all()


def test_classes_compete_in_the_joint_cut(scene: Scene) -> None:
    """A second, stronger class takes the lower half of the disc, which on its own the first has too."""
    photograph, disc, saliency, seeds = scene
    rival = np.zeros_like(saliency)
    rival[52:, 20:70] = 1
    maps, both = np.stack([saliency, rival]), [seeds, Seeds(np.zeros_like(disc), rival == 0)]
    alone, joint = ColourCut()(photograph, maps, both), JointCut()(photograph, maps, both)
    assert (alone[0] & alone[1]).sum() > 200
    assert not (joint[0] & joint[1]).any()
    assert joint[1].sum() > 200
    assert joint[0].sum() < alone[0].sum() - 200


def test_a_place_that_two_classes_claim_goes_to_the_surer(scene: Scene) -> None:
    photograph, disc, saliency, _ = scene
    claimed, nowhere = np.zeros((2, *disc.shape), dtype=bool)
    claimed[4:8, 4:8] = True
    weak, strong = saliency.copy(), saliency.copy()
    strong[:12, :12] = 1
    masks = JointCut()(photograph, np.stack([weak, strong]), [Seeds(claimed, nowhere)] * 2)
    assert masks[1][claimed].all()
    assert not masks[0][claimed].any()


# --- The random walker ---


@pytest.mark.parametrize("seed", range(3))
def test_the_random_walker_is_scikit_images(seed: int) -> None:
    """Given its weights, which take the contrast from the spread of the whole photograph."""
    rng = np.random.default_rng(seed)
    photograph = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
    marks = rng.choice([0, 1, 2], (24, 24), p=[0.9, 0.05, 0.05])

    def contrast(photograph: np.ndarray) -> tuple[np.ndarray, ...]:
        colour = photograph / 255
        scale = 130 / (10 * colour.std() * np.sqrt(3))
        return tuple(np.exp(-scale * ((a - b) ** 2).sum(2)) for a, b in ends(colour))

    chance = random_walker(photograph, marks, mode="bf", return_full_prob=True, channel_axis=-1)[0]
    (mask,) = RandomWalker(24, contrast)(photograph, np.ones((1, 24, 24)), [Seeds(marks == 1, marks == 2)])
    sure = abs(chance - 0.5) > 1e-3
    assert sure.mean() > 0.9
    assert np.array_equal(mask[sure], chance[sure] > 0.5)


def test_the_random_walkers_degenerate_seeds(scene: Scene) -> None:
    photograph, disc, saliency, _ = scene
    nowhere, corner = np.zeros((2, *disc.shape), dtype=bool)
    corner[:9, :9] = True

    def mask(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        return mask_of(RandomWalker(96), (photograph, disc, saliency, Seeds(inside, outside)))

    assert not mask(nowhere, corner).any()
    assert mask(corner, nowhere).all()
    assert not mask(nowhere, nowhere).any()
    assert np.array_equal(mask(disc, ~disc), disc)
    assert 0 < mask(corner, np.roll(corner, 50)).mean() < 1


def test_the_random_walk_does_not_shrink_round_few_seeds() -> None:
    """Half of a flat square between a seed pixel and three times as many: the cut takes the pixel alone."""
    flat = np.full((15, 15, 3), 50, dtype=np.uint8)
    inside, outside = np.zeros((2, 15, 15), dtype=bool)
    inside[7, 3] = True
    outside[7, 11] = True
    seeds = Seeds(inside, outside)
    (walked,), (cut,) = (
        maker(flat, np.ones((1, 15, 15)), [seeds]) for maker in (RandomWalker(15), GraphCut(Exponential()))
    )
    assert walked[:, :7].all()
    assert not walked[:, 7:].any()  # the middle is as near to either seed, and rounding decides nothing
    assert cut.sum() == 1
