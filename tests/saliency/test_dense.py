"""The head at every place, and what goes with it for transformers and classifiers of words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from networks import Brightness, SmallNet, SmallTransformer, attention_of, small_words
from scipy import ndimage
from torch import Tensor, nn

from gradcut import RECIPES, Classifier, Recipe, Segmenter, load_classifier
from gradcut.errors import GradcutError, SaliencyError
from gradcut.network.blocks import at_places
from gradcut.recipes import serving
from gradcut.saliency import (
    Attention,
    BeyondIntuition,
    DenseProbability,
    GradCAM,
    Gradient,
    LeGrad,
    Mean,
    PlaceProbability,
    Rivals,
    SoftmaxGradCAM,
    View,
    Walk,
    score_gradient,
)
from gradcut.saliency.walks import in_boxes

WAYS = ("maskclip", "sclip", "clearclip", "naclip")


def spread_out(model: nn.Module) -> nn.Module:
    """Weights further apart than before training, so that places and classes differ."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5)
    return model.eval()


def vit(**options) -> Classifier:
    """Three blocks over 4 x 4 places after a class token."""
    kwargs = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 3, "num_heads": 2, "num_classes": 4} | options
    model = spread_out(timm.models.VisionTransformer(**kwargs))
    return Classifier(model, 4, 64, name="vit")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return vit()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


PAIRS = [(0, 0), (1, 2), (0, 3)]


def test_the_head_reads_each_place_as_it_reads_a_class_token(classifier, x):
    model = classifier.model
    with torch.no_grad():
        tokens = model.forward_features(x)[:, 1:]
        expected = model.head(tokens).transpose(1, 2).reshape(2, 4, 4, 4)
        torch.testing.assert_close(at_places(View(classifier, x)), expected)
        maps = DenseProbability(None).coarse(View(classifier, x), PAIRS)
    torch.testing.assert_close(maps, expected.softmax(1)[[0, 1, 0], [0, 2, 3]])


@pytest.mark.parametrize(
    "options", [{"class_token": False, "global_pool": "avg"}, {"global_pool": "map"}, {"reg_tokens": 3}], ids=str
)
def test_other_heads(options, x):
    """The mean, a pool by attention, and registers: the head's answer is that to a photograph of places all alike."""
    other = vit(**options)
    with torch.no_grad():
        tokens = other.model.forward_features(x)
        found = at_places(View(other, x))
        place = tokens[1:2, tokens.shape[1] - 16 + 6]  # the seventh of the second photograph
        alike = other.model.forward_head(place[:, None].expand(-1, tokens.shape[1], -1))
    torch.testing.assert_close(found[1, :, 1, 2], alike[0], rtol=1e-4, atol=1e-5)


def test_where_the_mean_is_read_the_logits_are_the_mean_of_the_places(x):
    other = vit(class_token=False, global_pool="avg", fc_norm=False)
    with torch.no_grad():
        torch.testing.assert_close(at_places(View(other, x)).mean((2, 3)), other.logits(x), rtol=1e-4, atol=1e-5)


def test_networks_without_attention_are_read_as_they_are(x):
    other = Classifier(spread_out(SmallNet()), 5, 64)
    with torch.no_grad():
        torch.testing.assert_close(at_places(View(other, x)).mean((2, 3)), other.logits(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(SaliencyError, match="no layer in which all the places attend to all") as refused:
        DenseProbability()(other, x, [(0, 0)])
    assert "\n" not in str(refused.value)


def test_attention_of_torchs_own_layers(x):
    """`MultiheadAttention` is replaced as `scaled_dot_product_attention` is."""

    class Own(nn.Module):
        def __init__(self, fused: bool) -> None:
            super().__init__()
            self.fused = fused
            self.patches, self.norm = nn.Conv2d(3, 16, 16, 16), nn.LayerNorm(16)
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
            self.mlp, self.head = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16)), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patches(x).flatten(2).transpose(1, 2)
            normed = self.norm(tokens)
            if self.fused:
                q, k, v = (
                    F.linear(normed, *parts).unflatten(2, (2, 8)).transpose(1, 2)
                    for parts in zip(
                        self.attention.in_proj_weight.chunk(3), self.attention.in_proj_bias.chunk(3), strict=True
                    )
                )
                mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
                tokens = tokens + self.attention.out_proj(mixed)
            else:
                tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
            return self.head((tokens + self.mlp(tokens)).mean(1))

    one, other = Own(True).eval(), Own(False).eval()
    spread_out(one)
    other.load_state_dict(one.state_dict())
    for way in WAYS:
        with torch.no_grad():
            fused, own = (at_places(View(Classifier(model, 4, 64), x), way) for model in (one, other))
        torch.testing.assert_close(fused, own, rtol=1e-4, atol=1e-5)


def test_refusals(x):
    class Sorted(SmallTransformer):
        """Reads places together."""

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.features(x).sort(1).values[:, 10:].mean(1))

    class Before(SmallTransformer):
        """Reads a map before the last, too."""

        def forward(self, x: Tensor) -> Tensor:
            early = self.features[:5](x)
            return self.head(self.features[5:](early).mean(1) + early.mean(1))

    class Written(SmallTransformer):
        """Computes its attention in its own code, and its block has one sum."""

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.features[:6](x)
            attention = (tokens @ tokens.transpose(1, 2))[:, None].softmax(-1)
            return self.head((tokens + (attention @ tokens[:, None])[:, 0]).mean(1))

    class OneSum(SmallTransformer):
        def forward(self, x: Tensor) -> Tensor:
            tokens = self.features[:4](x)
            return self.head((F.scaled_dot_product_attention(*[tokens[:, None]] * 3)[:, 0] + tokens).mean(1))

    small = F.interpolate(x, (24, 24))
    for model, way, words in [
        (Sorted(), "naclip", "cannot read one place by itself"),
        (Before(), "naclip", "cannot read one place by itself"),
        (Written(), "naclip", "computes its attention in its own code"),
        (OneSum(), "naclip", "expected 'maskclip', 'sclip' or None for this network"),
        (nn.Sequential(nn.Flatten(), nn.Linear(1728, 5)), None, "no map of more than one place can be seen"),
    ]:
        with pytest.raises(SaliencyError, match=words) as refused:
            DenseProbability(way)(Classifier(model.eval(), 5, 24, name="net"), small, [(0, 0)])
        assert "\n" not in str(refused.value)
    assert DenseProbability("maskclip")(Classifier(OneSum().eval(), 5, 24), small, [(0, 0)]).max() > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenseProbability("own"), r"attention: expected 'maskclip', .* or None, got 'own'"),
        (lambda: DenseProbability(deviation=0), "deviation: expected .*, got 0"),
        (lambda: LeGrad(layers=0), "layers: expected .*at least 1, got 0"),
        (lambda: LeGrad(of="loss"), "of: expected"),
        (lambda: BeyondIntuition(steps=0), "steps: expected .*at least 1, got 0"),
        (lambda: BeyondIntuition(layers=0), "layers: expected .*at least 1, got 0"),
        (lambda: SoftmaxGradCAM("loss"), "of: expected"),
        (lambda: Attention(sinkhorn=-1), "sinkhorn: expected .*at least 0, got -1"),
        (lambda: Attention(boxes=1.0), "boxes: expected a number above 0 and below 1, or None, got 1.0"),
    ],
)
def test_options_are_checked(make, message, unchecked):
    with pytest.raises(SaliencyError, match=message):
        make()


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (DenseProbability(), [{"attention": way} for way in (None, *WAYS[:3])] + [{"deviation": 1.0}]),
        (LeGrad(), [{"layers": 1}, {"layers": 3}, {"of": "contrast"}]),
        (BeyondIntuition(steps=2), [{"layers": 1}, {"layers": 3}, {"of": "probability"}, {"steps": 3}]),
        (Walk(Gradient(), Attention(power=1.0)), [{"over": Attention(power=1.0, sinkhorn=1)}]),
        (
            Walk(Gradient(), Attention(power=1.0, sinkhorn=3)),
            [
                {"over": Attention(power=2.0, sinkhorn=3)},
                {"over": Attention(power=1.0, sinkhorn=1)},
                {"over": Attention(power=1.0, sinkhorn=3, boxes=0.95)},
            ],
        ),
        (GradCAM(), [{"layers": "before attention"}]),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_every_option_matters(method, options, x):
    mean = vit(class_token=False, global_pool="avg", fc_norm=False)
    plain = method(mean, x, PAIRS)
    for option in options:
        changed = replace(method, **option)(mean, x, PAIRS)
        assert changed.shape == plain.shape
        assert float((changed / changed.max() - plain / plain.max()).abs().max()) > 1e-3, option


def test_before_the_last_attention_is_after_the_last_blocks_first_norm(classifier, x):
    """Of a class token's network that is the last map that is read; of another's it is not."""
    for network in (classifier, vit(class_token=False, global_pool="avg")):
        named, told = (GradCAM(layers=layers)(network, x, PAIRS) for layers in ("blocks.2.norm1", "before attention"))
        torch.testing.assert_close(told, named)
    torch.testing.assert_close(
        GradCAM()(classifier, x, PAIRS), GradCAM(layers="before attention")(classifier, x, PAIRS)
    )
    with pytest.raises(SaliencyError, match="'before attention' needs a layer in which all the places attend to all"):
        GradCAM(layers="before attention")(Classifier(Brightness().eval(), 2, 64), x, [(0, 0)])


@contextmanager
def attended(block: nn.Module) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []
    handle = block.attn.attn_drop.register_forward_hook(lambda module, args, output: seen.append(output))
    yield seen
    handle.remove()


def test_legrad_follows_its_formula(classifier, x):
    """With hooks and timm's own modules: of each block the head reads the mean token."""
    model = classifier.model
    for block in model.blocks:
        block.attn.fused_attn = False
    total = torch.zeros(16)
    for number in (1, 2):
        with attended(model.blocks[number]) as seen:
            tokens = model.norm_pre(model._pos_embed(model.patch_embed(x[:1])))
            for block in model.blocks[: number + 1]:
                tokens = block(tokens)
        score = model.head(model.norm(tokens.mean(1)))[0, 3]
        (gradient,) = torch.autograd.grad(score, seen)
        total += gradient[0].clamp(min=0).mean((0, 1))[1:]
    for block in model.blocks:
        block.attn.fused_attn = True
    expected = F.interpolate((total - total.min()).view(1, 1, 4, 4), (64, 64), mode="bilinear")[0]
    torch.testing.assert_close(LeGrad()(classifier, x[:1], [(0, 3)]), expected, rtol=1e-4, atol=1e-7)


def test_beyond_intuition_follows_its_formula(classifier, x):
    model, steps = classifier.model, 3
    for block in model.blocks:
        block.attn.fused_attn = False
    gradient = 0
    for part in torch.linspace(0, 1, steps):
        with attended(model.blocks[2]) as seen:
            logits = model(x[:1] * part)
        gradient = gradient + torch.autograd.grad(logits[0, 3], seen)[0][0] / steps
    attention = attention_of(classifier, x[:1])
    mixed = torch.eye(17)
    with torch.no_grad():
        tokens = model.norm_pre(model._pos_embed(model.patch_embed(x[:1])))
        for number, block in enumerate(model.blocks):
            if number > 0:  # half of three layers, upwards
                value = block.attn.qkv(block.norm1(tokens)).chunk(3, 2)[2] @ block.attn.proj.weight.T
                weight = value[0].norm(dim=1) / tokens[0].norm(dim=1)
                mixed = mixed + attention[number][0].mean(0) @ torch.diag(weight) @ mixed
            tokens = block(tokens)
    for block in model.blocks:
        block.attn.fused_attn = True
    row = (gradient.clamp(min=0).mean(0) * mixed.abs())[0, 1:]
    expected = F.interpolate(row.detach().view(1, 1, 4, 4), (64, 64), mode="bilinear")[0]
    found = BeyondIntuition(steps=steps)(classifier, x[:1], [(0, 3)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_sinkhorn_ends_in_a_walk_that_is_the_same_both_ways(classifier, x):
    view = View(classifier, x)
    view.keep(attention=True)
    over = Attention(power=1.0, sinkhorn=200)
    grid, walks = over.shares(view, [0])
    assert grid == (4, 4)
    torch.testing.assert_close(walks[0], walks[0].T)
    torch.testing.assert_close(walks[0].sum(1), torch.ones(16), rtol=1e-4, atol=1e-4)


def test_boxes():
    maps = torch.zeros(2, 5, 6)
    maps[0, 0, 0] = maps[0, 1, 1] = 1.0  # one part, by its corner
    maps[0, 4, 3:5] = 0.5
    maps[0, 0, 1], maps[0, 2, 2], maps[0, 3, 3] = 0.3, 0.3, 0.3
    kept = in_boxes(maps, 0.4)
    assert kept[0].nonzero().tolist() == [[0, 0], [0, 1], [1, 1], [4, 3], [4, 4]]
    assert kept[1].max() == 0
    assert in_boxes(maps, 0.6)[0].nonzero().tolist() == [[0, 0], [0, 1], [1, 1]]
    assert ndimage.label(maps[0] > 0.4)[1] == 3  # without corners there would be another box


@pytest.fixture(scope="module")
def words() -> Classifier:
    torch.manual_seed(0)
    model = spread_out(small_words())
    with torch.no_grad():
        model.head.weight.mul_(4)
    return Classifier(model, tuple("abcde"), 24, multilabel=True, threshold=0.5, name="words")


SMALL = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(2))


def test_a_share_is_that_of_a_softmax_with_the_background(words):
    """Log-odds against the background words and 0 for these: the softmax of the words' own logits."""
    with torch.no_grad():
        logits = words.logits(SMALL).double()
    z = logits[0, [1, 3]].clone().requires_grad_()
    share = torch.cat([z, torch.zeros(1, dtype=z.dtype)]).softmax(0)
    expected = torch.zeros(3, 5, dtype=z.dtype)
    for row, number in ((0, 0), (2, 1)):
        (expected[row, [1, 3]],) = torch.autograd.grad(share[number], [z], retain_graph=True)
    alone = logits[1, 2].sigmoid()
    expected[1, 2] = alone * (1 - alone)
    found = score_gradient(words, logits, [(0, (1,)), (1, (2,)), (0, (3,))], "share")
    torch.testing.assert_close(found, expected)
    group = score_gradient(words, logits, [(0, (1, 3))], "share")[0, [1, 3]]
    torch.testing.assert_close(group, torch.autograd.grad(share[:2].sum(), [z])[0])
    with pytest.raises(SaliencyError, match="of: 'share' needs a classifier with sigmoids"):
        Gradient(of="share")(Classifier(SmallNet().eval(), 5, 24), SMALL, [(0, 0)])


def test_what_is_asked_for_besides_matters_to_a_share(words):
    alone = SoftmaxGradCAM()(words, SMALL[:1], [(0, 1)])[0]
    beside = SoftmaxGradCAM()(words, SMALL[:1], [(0, 1), (0, 3)])[0]
    assert float((alone / alone.max() - beside / beside.max()).abs().max()) > 1e-3
    other = SoftmaxGradCAM(of="logit")(words, SMALL[:1], [(0, 1), (0, 3)])[0]
    assert float((other / other.max() - beside / beside.max()).abs().max()) > 1e-3


def test_of_a_group_the_probability_is_that_of_any(words):
    one, other, both = DenseProbability().coarse(View(words, SMALL), [(0, 1), (0, 3), (0, (1, 3))])
    torch.testing.assert_close(both, 1 - (1 - one) * (1 - other))


def test_places_are_left_to_the_head_where_there_are_no_weights_for_them(classifier, x):
    method = PlaceProbability(DenseProbability())
    torch.testing.assert_close(method(classifier, x, PAIRS), DenseProbability()(classifier, x, PAIRS))


def test_maps_move_with_the_patch():
    """A token is made of its patch, the head knows one patch: over a dark photograph the map is where that is."""
    model = timm.models.VisionTransformer(img_size=64, patch_size=16, embed_dim=48, depth=2, num_heads=2, num_classes=2)
    spread_out(model)
    bright = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(5)) * 3
    moving = Classifier(model, 2, 64, name="moving")

    def photograph(row: int, column: int) -> Tensor:
        x = torch.zeros(1, 3, 64, 64)
        x[0, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = bright
        return x

    with torch.no_grad():  # the head is what the patch's token has more than the others
        model.head.weight.zero_()
        tokens = model.forward_features(photograph(1, 1))
        model.head.weight[0] = tokens[0, 1 + 5] - tokens[0, 1:].mean(0)
    for row, column in ((0, 0), (2, 3), (3, 1)):
        maps = DenseProbability("maskclip").coarse(View(moving, photograph(row, column)), [(0, 0)])
        assert divmod(int(maps.argmax()), 4) == (row, column)


@pytest.mark.parametrize(
    "method",
    [
        *(DenseProbability(way) for way in WAYS),
        LeGrad(),
        BeyondIntuition(steps=2),
        GradCAM(layers="before attention"),
        Walk(DenseProbability(None), Attention(power=1.0, sinkhorn=3, boxes=0.9)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("options", [{}, {"class_token": False, "global_pool": "map"}], ids=str)
def test_maps_go_where_the_patches_go(method, options, x):
    """Without positions, patches in another order, rows for columns, give the same map in that order."""
    other = vit(**options)
    with torch.no_grad():
        other.model.pos_embed.zero_()
    patches = x.unflatten(3, (4, 16)).unflatten(2, (4, 16))  # b 3 row y column x
    swapped = patches.transpose(2, 4).flatten(4, 5).flatten(2, 3)
    before, after = (F.adaptive_avg_pool2d(method(other, each, PAIRS), 4) for each in (x, swapped))
    assert float((before - before.mT).abs().max()) > 0.01 * float(before.max())
    torch.testing.assert_close(after, before.mT, rtol=1e-3, atol=1e-4 * float(before.max()))


def test_a_forward_pass_that_changes_is_found_again(x):
    """As one does that fills a cache first, or was changed since."""
    other = vit()
    before = DenseProbability(None)(other, x, PAIRS)
    inner = other.model.pos_drop
    other.model.pos_drop = nn.Sequential(inner, nn.Dropout(), nn.Dropout())
    torch.testing.assert_close(DenseProbability(None)(other, x, PAIRS), before)


PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_recipes_for_words(kind, tmp_path):
    worded = pytest.importorskip("worded")
    worded.written(kind, tmp_path)
    clip = load_classifier(f"hf/{tmp_path}", labels=["cat", "forklift"])
    for name in ("clip-es", "words"):
        recipe = replace(RECIPES[name], size=64)
        segment = Segmenter(clip, recipe)
        assert segment.recipe is recipe
        result = segment(PHOTOGRAPH, labels=["cat", "forklift"])
        assert result.masks.shape == (2, 60, 50)
        assert all(item.saliency.max() > 0 for item in result.objects)
        again = segment(PHOTOGRAPH, labels=["cat", "forklift"])
        assert np.array_equal(result.masks, again.masks)


def test_recipes_for_words_are_refused_elsewhere(classifier, words):
    assert list(serving(words)) == list(RECIPES)
    assert list(serving(classifier)) == [name for name in RECIPES if name not in ("clip-es", "words")]
    for name in ("clip-es", "words"):
        with pytest.raises(GradcutError, match="SoftmaxGradCAM needs a classifier of words, such as") as refused:
            Segmenter(classifier, replace(RECIPES[name], size=None))
        assert "\n" not in str(refused.value)
    with pytest.raises(SaliencyError, match="needs a classifier of words"):
        SoftmaxGradCAM()(classifier, torch.zeros(1, 3, 64, 64), [(0, 0)])


def test_the_recipes_share_what_the_paper_has():
    clip_es = RECIPES["clip-es"].saliency
    assert clip_es == Walk(SoftmaxGradCAM(of="share"), Attention(layers=None, power=1.0, sinkhorn=3, boxes=0.4))
    assert (clip_es.over.steps, clip_es.steps) == ((2,), None)
    dense = Walk(Rivals(DenseProbability("naclip", 5.0)), Attention(power=1.0, sinkhorn=3))
    assert RECIPES["words"].saliency == Mean((dense, clip_es))
    assert isinstance(RECIPES["words"], Recipe)
