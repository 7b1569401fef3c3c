"""Every recipe and saliency method on small networks of most of timm's families, with weights as drawn at random.

For every network and every recipe: works, or the line that refuses it. And for every map and layer of attention that
gradcut takes out of the network: whether it changes where the photograph is changed. Rows are kept in a file, so that a
stopped sweep goes on. It ends with status 1 if an error escapes, or a map changes in the wrong place.

    OMP_NUM_THREADS=1 python benchmarks/sweep.py -o sweep.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn

from gradcut import RECIPES, Classifier, GradcutError, Segmenter
from gradcut.network.layers import pass_from_maps
from gradcut.network.passes import Wanted, watched
from gradcut.network.view import View
from gradcut.recipes import METHODS, Recipe, with_saliency

#: A small network of most of timm's modules (85 of 98 in timm 1.0.31), and more where one module has several kinds.
ARCHITECTURES = """
beit_base_patch16_224 halonet26t botnet26t_256 lambda_resnet26t gernet_s repvgg_b0 mobileone_s0 gcresnext26ts
cait_xxs24_224 coat_lite_mini coat_mini convit_tiny convmixer_768_32 convnext_atto convnextv2_atto
crossvit_tiny_240 cspresnet50 cs3darknet_s davit_tiny deit_tiny_patch16_224 deit_tiny_distilled_patch16_224
deit3_small_patch16_224 densenet121 dla46_c dpn48b edgenext_xx_small efficientformer_l1 efficientformerv2_s0
efficientnet_b0 mixnet_s tinynet_e mnasnet_small efficientvim_m1 efficientvit_b0 efficientvit_m0
eva02_tiny_patch14_224 vit_small_patch16_dinov3 fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny
ghostnet_050 hardcorenas_a hgnetv2_b0 hiera_tiny_224 hrnet_w18_small inception_next_atto inception_resnet_v2
inception_v3 inception_v4 levit_128s levit_conv_128s mambaout_femto maxvit_pico_rw_256 coatnet_pico_rw_224
poolformer_s12 caformer_s18 convformer_s18 mixer_s32_224 gmlp_ti16_224 resmlp_12_224 mobilenetv3_small_050
mobilenetv4_conv_small lcnet_050 mobilevit_xxs mobilevitv2_050 mvitv2_tiny nest_tiny nextvit_small nf_resnet26
eca_nfnet_l0 pit_ti_224 pnasnet5large pvt_v2_b0 rdnet_tiny regnetx_002 regnety_002 repghostnet_050 repvit_m0_9
res2net50_26w_4s resnest14d resnet18 seresnet18 resnetv2_50 rexnet_100 selecsls42 legacy_seresnet18
sequencer2d_s shvit_s1 skresnet18 starnet_s1 swiftformer_xs swin_tiny_patch4_window7_224
swinv2_tiny_window8_256 swinv2_cr_tiny_224 tiny_vit_5m_224 tnt_s_patch16_224 tresnet_m twins_svt_small
twins_pcpvt_small vgg11 visformer_tiny vit_tiny_patch16_224 vit_medium_patch16_gap_240
vit_small_patch14_reg4_dinov2 vit_tiny_r_s16_p8_224 vit_relpos_small_patch16_224 samvit_base_patch16_224
vitamin_small_224 volo_d1_224 ese_vovnet19b_slim legacy_xception xception41 xcit_nano_12_p16_224
""".split()  # noqa: SIM905

CLASSES = 4
#: The shares of height and width at which the quarters of a photograph begin.
CORNERS = ((0.0, 0.0), (0.0, 0.5), (0.5, 0.0), (0.5, 0.5))


def network(architecture: str) -> Classifier:
    """The network as training leaves one: no branch, scale or head at the zero that it begins with."""
    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=CLASSES).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and not name.endswith("bias") and float(parameter.detach().abs().max()) < 0.1:
            nn.init.constant_(parameter, 0.5)  # the scale of a layer's branch, or of a normalisation in it
        elif parameter.ndim > 1 and float(parameter.detach().std()) < 1e-3:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    side = model.pretrained_cfg["input_size"][1]
    return Classifier(model, [f"class {number}" for number in range(CLASSES)], size=side, name=architecture)


def drawing(side: int = 224) -> np.ndarray:
    """Blurred noise with a bright disc in it: ``UInt8 "h w 3"``."""
    noise = np.random.default_rng(0).normal(size=(side // 8, side // 8, 3)).repeat(8, 0).repeat(8, 1)
    rows, columns = np.indices(noise.shape[:2])
    inside = (rows - 0.6 * side) ** 2 + (columns - 0.3 * side) ** 2 < (0.2 * side) ** 2
    return np.clip(110 + 40 * noise + 90 * inside[..., None], 0, 255).astype(np.uint8)


def outcome(work: Callable[[], str]) -> str:
    try:
        return work()
    except GradcutError as error:
        return f"refused: {error}"
    except Exception as error:  # what must not escape is what the sweep looks for
        return f"ESCAPED: {type(error).__name__}: {error}".splitlines()[0]


def masks_of(classifier: Classifier, recipe: Recipe | str, image: np.ndarray) -> str:
    state = Segmenter(classifier, recipe)(image, labels=["class 0"]).state
    return "works" if state == "done" else state


def places(classifier: Classifier) -> list[str]:
    """What is taken out of the network that does not change where the photograph does."""
    h, w = classifier.size
    generator = torch.Generator().manual_seed(1)
    photograph, other = torch.randn(2, 1, 3, h, w, generator=generator)
    changed = photograph.repeat(len(CORNERS), 1, 1, 1)
    for number, (top, left) in enumerate(CORNERS):
        part = (slice(round(top * h), round(top * h) + h // 2), slice(round(left * w), round(left * w) + w // 2))
        changed[number, :, *part] += 0.05 * other[0, :, *part]  # little, lest all that comes after is saturated
    taken: dict[str, tuple[Tensor, Tensor]] = {}
    for kind, views in (("before", View(classifier, photograph)), ("after", View(classifier, changed))):
        with torch.no_grad():
            made = watched(classifier, views.x, Wanted(levels=3, attention=True))
        for number, features in enumerate(made.seen.maps):
            _add(taken, f"level {number} {tuple(features.shape[1:])}", features, kind)
        for number, (weights, layout) in enumerate(made.attention):
            if layout is not None and weights.shape == (len(views.x), *weights.shape[1:3], weights.shape[2]):
                # Of the layers that are walked over; what a place attends to changes with it, and what attends to it.
                both = torch.cat((weights.transpose(1, 2).flatten(2), weights.flatten(1, 2).transpose(1, 2)), 2)
                _add(taken, f"attention {number} {tuple(weights.shape[1:])}", layout.of(both), kind)
        for levels in (3, 2, 1):
            try:
                with torch.enable_grad():
                    cut, calls = pass_from_maps(views, levels)
            except GradcutError:
                continue
            for number, (call, tensor) in enumerate(zip(calls, cut.cut, strict=True)):
                _add(taken, f"cut {number} of {levels} {call.shape}", call.layout.of(tensor.detach()), kind)
            break
    return [name for name, (before, after) in taken.items() if not _answers(before, after)]


def _add(taken: dict, name: str, features: Tensor, kind: str) -> None:
    if kind == "before":
        taken[name] = features.float(), features.new_zeros(0)
    elif name in taken:
        taken[name] = taken[name][0], features.float()


def _answers(before: Tensor, after: Tensor) -> bool:
    """Whether the quarters change where those of the photograph do, more than with the quarters in any other order."""
    if len(after) != len(CORNERS):
        return False
    change = (after - before).norm(dim=1) / before.norm(dim=1).clamp(min=1e-12)
    if float(change.max()) < 1e-5 or float(change.std()) < 1e-4 * float(change.mean()):
        return True  # the same everywhere but for rounding: it says nothing, and nothing wrong
    h, w = change.shape[1:]
    if min(h, w) < 2:
        return True
    quarters = torch.stack(
        [
            change[:, round(top * h) : round(top * h) + h // 2, round(left * w) : round(left * w) + w // 2].mean((1, 2))
            for top, left in CORNERS
        ],
        1,
    )
    beside = quarters / quarters.mean(0, keepdim=True)
    beside = beside / beside.mean(1, keepdim=True)
    if float((beside - 1).abs().max()) < 0.1:
        return True  # every place sees the whole photograph
    orders = torch.tensor(list(permutations(range(len(CORNERS)))))  # the first is the right one
    return int(beside[torch.arange(len(CORNERS)), orders].sum(1).argmax()) == 0


def measure(architecture: str) -> dict[str, object]:
    started = time.perf_counter()
    classifier, image = network(architecture), drawing()
    rows = {name: outcome(lambda name=name: masks_of(classifier, name, image)) for name in RECIPES}
    for method in METHODS:
        recipe = with_saliency("fast", method)
        rows[method] = outcome(lambda recipe=recipe: masks_of(classifier, recipe, image))
    wrong = []
    line = outcome(lambda: wrong.extend(places(classifier)) or "works")
    return {"architecture": architecture, "recipes": rows, "maps": line, "wrong": wrong,
            "seconds": round(time.perf_counter() - started, 1)}  # fmt: skip


def report(rows: list[dict]) -> int:
    """Print what each recipe did; the exit status."""
    for name in rows[0]["recipes"]:
        lines = {row["architecture"]: row["recipes"].get(name, "missing") for row in rows}
        kinds = Counter(line.partition(":")[0] for line in lines.values())
        print(f"{name}: {', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}")
        reasons = Counter(
            line.replace(architecture, "NETWORK")
            for architecture, line in lines.items()
            if not line.startswith("works")
        )
        for line, count in reasons.most_common():
            print(f"    {count:3d}  {line}")
    escaped = [row["architecture"] for row in rows if "ESCAPED" in json.dumps(row)]
    wrong = {row["architecture"]: row["wrong"] for row in rows if row["wrong"]}
    print(f"{len(rows)} networks; errors that escaped: {escaped or 'none'}; maps in the wrong place: {wrong or 'none'}")
    return 1 if escaped or wrong else 0


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", "-o", type=Path, required=True, help="a file of rows (JSON lines)")
    options.add_argument("--only", nargs="*", default=ARCHITECTURES, help="some architectures of timm")
    arguments = options.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    lines = arguments.output.read_text("utf-8").splitlines() if arguments.output.exists() else []
    known = {row["architecture"]: row for row in map(json.loads, lines)}
    for number, architecture in enumerate(arguments.only):
        if architecture not in known:
            known[architecture] = measure(architecture)
            with arguments.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(known[architecture]) + "\n")
        row = known[architecture]
        print(f"{number + 1} of {len(arguments.only)}  {architecture}: {row['maps']}, {row['wrong'] or 'right'},",
              f"{row['seconds']} s", file=sys.stderr, flush=True)  # fmt: skip
    return report([known[architecture] for architecture in arguments.only])


if __name__ == "__main__":
    sys.exit(main())
