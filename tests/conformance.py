"""Does what `default` asks of a network answer where the signal is? For architectures of timm, without trained weights.

A network with weights as drawn at random sees much in a photograph but calls none of it by a name. So its last linear
layer is fitted to tell photographs with a checked patch from the same ones without, and then, in others, the map of
that class has to move with the patch.

    OMP_NUM_THREADS=1 python tests/conformance.py -o runs/conformance.jsonl

writes the table in docs/classifiers.md. Rows are kept in a file, so that a run that was stopped goes on. It ends with
status 1 if a network is refused, or its map does not move with the patch.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradcut import Classifier, GradcutError, Segmenter
from gradcut.classifiers.hub import create_timm
from gradcut.network.layouts import MapCall
from gradcut.network.passes import Wanted, watched
from gradcut.saliency import Attention, MultiScale, Walk, kind_of

#: Small networks of timm's families.
ARCHITECTURES = """
resnet18 vit_tiny_patch16_224 convnext_atto mobilenetv3_small_050 swin_tiny_patch4_window7_224 edgenext_xx_small
efficientvit_b0 efficientvit_m0 efficientvim_m1 fasternet_t0 ghostnet_050 hgnetv2_b0 lcnet_050 mambaout_femto mixnet_s
mnasnet_small mobilenetv4_conv_small mobileone_s0 mobilevit_xxs mobilevitv2_050 pit_ti_224 pvt_v2_b0 regnety_002
repghostnet_050 repvit_m0_9 rexnet_100 shvit_s1 starnet_s1 swiftformer_xs tiny_vit_5m_224 vit_tiny_r_s16_p8_224
xcit_nano_12_p16_224 levit_128s inception_next_atto efficientnet_b0 efficientformerv2_s0 fastvit_t8
deit_tiny_distilled_patch16_224 cait_xxs24_224 coat_lite_mini convit_tiny crossvit_tiny_240 eva02_tiny_patch14_224
visformer_tiny gmlp_ti16_224 convnextv2_atto cs3darknet_s repvgg_b0 gernet_s nf_resnet26 gcresnext26ts poolformer_s12
efficientformer_l1 mixer_s32_224 resmlp_12_224 selecsls42 vit_small_patch16_dinov3 vit_relpos_small_patch16_224
vit_small_patch14_reg4_dinov2 hiera_tiny_224 coatnet_pico_rw_224 tnt_s_patch16_224 twins_svt_small twins_pcpvt_small
deit3_small_patch16_224 mvitv2_tiny focalnet_tiny_srf davit_tiny
""".split()  # noqa: SIM905

#: Height and width of the photographs, where a network takes them: no squares, and no multiples of every patch. The
#: larger ones are for networks to whose few places on the smaller the patch is too small.
SIZES = ((128, 160), (224, 280))
#: Where a patch is put, as shares of what its own size leaves of height and width; its sides, as shares of these.
PLACES = ((0.1, 0.1), (0.1, 0.9), (0.9, 0.1), (0.9, 0.9), (0.5, 0.5))
PATCH = 0.35
#: Pairs of photographs that the head is fitted to, and the least correlation of the maps with the patches. Of places in
#: another order, and of maps of one place, it is 0.1 at most.
PAIRS, CORRELATION = 16, 0.25
#: By how much the fitted class rises with a patch, and the least share of that which other photographs have to show.
RISE, TOLD = 4.0, 0.3
#: Whose last map has, before training, little part in what the fitted head tells.
WEAK = ("crossvit_tiny_240", "gcresnext26ts", "mobilenetv4_conv_small", "vit_tiny_r_s16_p8_224", "xcit_nano_12_p16_224")
LABELS = ("checks", "no checks")
DOC = Path(__file__).parents[1] / "docs" / "classifiers.md"
BEGIN, END = "<!-- made by make conformance -->\n", "<!-- end -->\n"


@dataclass(frozen=True)
class Row:
    """What came of one network.

    ``correlation`` is that of the maps' differences, from patch to patch, with the patches'; ``told`` by how much the
    fitted class rises with a patch in other photographs, 1 being what it was fitted to; ``early`` whether a later map
    was left out, because it does not change where the photograph does. ``refused`` is the reason, if there is one.
    """

    architecture: str
    family: str
    size: tuple[int, int]
    reads: str = ""
    map: str = ""
    walk: str = ""
    sizes: int = 0
    correlation: float = 0.0
    told: float = 0.0
    state: str = ""
    early: bool = False
    refused: str = ""

    @property
    def verdict(self) -> str:
        if self.refused:
            return f"refused: {self.refused}"
        if self.told < TOLD:
            return "no head could be fitted"
        if self.correlation >= CORRELATION:
            return "right"
        return "the last places are all alike" if self.early else "weak"


def network(architecture: str, size: tuple[int, int] = SIZES[0]) -> Classifier:
    """The network as training leaves one: no branch, scale or position at the zero that it begins with.

    At that size, if it takes that and has its maps there, else at its own.
    """
    torch.manual_seed(0)
    model = create_timm(architecture, architecture, num_classes=len(LABELS)).eval()
    drawn(model)
    own = Classifier(model, LABELS, size=model.pretrained_cfg["input_size"][1], name=architecture)
    other = own.at(size)
    return own if kind_of(other) is None else other


def drawn(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and not name.endswith("bias") and float(parameter.detach().abs().max()) < 0.1:
            nn.init.constant_(parameter, 0.5)  # the scale of a layer's branch, or of a normalisation in it
        elif parameter.ndim > 1 and float(parameter.detach().std()) < 1e-3:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)


def photograph(size: tuple[int, int], seed: int, place: tuple[float, float] | None = None) -> tuple[Any, Any]:
    """Coarse noise, with a checked patch or without, and where the patch is: ``UInt8 "h w 3"``, ``Bool "h w"``."""
    h, w = size
    noise = np.random.default_rng(seed).normal(size=(h // 16 + 1, w // 16 + 1, 3)).repeat(16, 0).repeat(16, 1)[:h, :w]
    image, inside = np.clip(110 + 30 * noise, 0, 255), np.zeros(size, dtype=bool)
    if place is not None:
        sides = round(PATCH * h), round(PATCH * w)
        top, left = (round(at * (all_ - side)) for at, all_, side in zip(place, size, sides, strict=True))
        inside[top : top + sides[0], left : left + sides[1]] = True
        rows, columns = np.indices(size) // max(2, h // 28)
        image[inside] = ((rows + columns) % 2)[inside, None] * np.array([215, 160, 10]) + 20
    return image.astype(np.uint8), inside


def fit(classifier: Classifier) -> None:
    """The last linear layer, fitted by ridge regression: the first class is `RISE` with a patch and 0 without."""
    random, images = np.random.default_rng(1), []
    for seed in range(PAIRS):
        images += [photograph(classifier.size, seed)[0], photograph(classifier.size, seed, tuple(random.random(2)))[0]]
    features = []
    with torch.no_grad():
        for first in range(0, len(images), 8):
            made = watched(classifier, classifier.prepare(images[first : first + 8]))
            assert made.seen.linear is not None
            features.append(made.seen.linear.input.reshape(len(made.logits), -1).double())
        x, y = torch.cat(features), torch.tensor([0.0, RISE] * PAIRS).double()
        ridge = 0.01 * (x - x.mean(0)).square().sum(1).mean()
        weight = x.T @ torch.linalg.solve(x @ x.T + ridge * torch.eye(len(x)).double(), y)
        for module in classifier.model.modules():  # a network may have several heads, and take their mean
            if isinstance(module, nn.Linear) and len(module.weight) == len(LABELS):
                module.weight.zero_()
                if module.bias is not None:
                    module.bias.zero_()
        made.seen.linear.parameter[0] = weight.float()


def correlation(classifier: Classifier, segment: Segmenter) -> tuple[float, float]:
    """`Row.correlation` and `Row.told`."""
    images, patches = zip(*(photograph(classifier.size, 100 + i, p) for i, p in enumerate(PLACES)), strict=True)
    bare = [photograph(classifier.size, 100 + i)[0] for i in range(len(PLACES))]
    with torch.no_grad():
        with_patch, without = (classifier.logits(classifier.prepare(some))[:, 0] for some in (list(images), bare))
    maps = torch.from_numpy(np.stack([segment.explain([image], LABELS[:1])[0].saliency[0] for image in images]))
    maps = maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-30)
    inside = F.interpolate(torch.from_numpy(np.stack(patches))[:, None].float(), maps.shape[1:], mode="area")[:, 0]
    return alike(maps, inside), round(float((with_patch - without).mean()) / RISE, 2)


def alike(maps: Tensor, inside: Tensor) -> float:
    """The correlation of what differs from photograph to photograph."""
    a, b = (values - values.mean(0) for values in (maps, inside))
    return round(float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-30)), 2)


def tried(architecture: str) -> Row:
    """`measure`, at the larger size too where the map is not right at the smaller."""
    row = measure(network(architecture))
    if row.verdict != "right" and row.size != (other := network(architecture, SIZES[1])).size:
        row = max(row, measure(other), key=lambda row: (row.verdict == "right", row.correlation))
    return row


def measure(classifier: Classifier) -> Row:
    """Of `fast` the map before the walk, which is over features that nobody trained; and `default` to the end."""
    model = getattr(classifier.model, "model", classifier.model)
    row = Row(classifier.name, type(model).__name__, classifier.size)
    try:
        fit(classifier)
        segment, fast = Segmenter(classifier), Segmenter(classifier, "fast")
        walk: Any = fast.recipe.saliency
        assert isinstance(walk, Walk)
        inner = walk.method.method
        r, told = correlation(classifier, Segmenter(classifier, replace(fast.recipe, saliency=inner)))
        state = segment(photograph(classifier.size, 200, PLACES[-1])[0], LABELS[:1]).state
    except GradcutError as error:
        return replace(row, refused=str(error))
    kind = kind_of(classifier)
    assert kind is not None
    method: Any = segment.recipe.saliency.method.method
    return replace(
        row, reads=kind.reads, map=type(inner).__name__, correlation=r, told=told, state=state,
        early=left_out(classifier), walk="Attention" if isinstance(walk.over, Attention) else "Features",
        sizes=len(method.scales) if isinstance(method, MultiScale) else 1,
    )  # fmt: skip


def left_out(classifier: Classifier) -> bool:
    """`Row.early`."""
    last: list[bool] = []

    def note(place: MapCall, result: Tensor | None, frame: object) -> None:
        if place.candidate:
            last[:] = [result is None]

    with torch.no_grad():
        watched(classifier, torch.zeros(2, 3, *classifier.size), Wanted(on_map=note))
    return last == [True]


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| family | architecture | reads | map, walk | sizes | at | r |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(rows, key=lambda row: (row.family.casefold(), row.architecture)):
        said = f"{row.reads} | {row.map}, {row.walk} | {row.sizes}" if not row.refused else " | | "
        what = f"{row.correlation:.2f}" if row.verdict == "right" else f"{row.correlation:.2f}, {row.verdict}"
        size = " x ".join(map(str, row.size))
        lines.append(f"| {row.family} | `{row.architecture}` | {said} | {size} | {row.refused or what} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", "-o", required=True, type=Path, help="a file of rows (JSON lines)")
    options.add_argument("--only", nargs="*", default=ARCHITECTURES, help="some architectures; the table stays")
    arguments = options.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    lines = arguments.output.read_text("utf-8").splitlines() if arguments.output.exists() else []
    known = {row["architecture"]: Row(**{**row, "size": tuple(row["size"])}) for row in map(json.loads, lines)}
    for architecture in arguments.only:
        started = time.perf_counter()
        if architecture not in known:
            known[architecture] = tried(architecture)
            with arguments.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(vars(known[architecture])) + "\n")
        row = known[architecture]
        said = f"{row.reads}, {row.sizes} sizes, r {row.correlation:.2f} ({row.told:.2f}), {row.verdict}, {row.state}"
        seconds = time.perf_counter() - started
        print(f"{architecture}: {said}, {seconds:.0f} s", file=sys.stderr, flush=True)
    if arguments.only == ARCHITECTURES:
        before, rest = DOC.read_text("utf-8").split(BEGIN)
        DOC.write_text(before + BEGIN + table(list(known.values())) + END + rest.split(END)[1], "utf-8")
    return int(any((row.verdict == "weak" and row.architecture not in WEAK) or row.refused for row in known.values()))


if __name__ == "__main__":
    sys.exit(main())
