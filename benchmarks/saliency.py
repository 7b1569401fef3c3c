"""Time of the saliency methods against the bare passes that they need, and against captum, pytorch-grad-cam and zennit.

    OMP_NUM_THREADS=1 python benchmarks/saliency.py -o saliency.json

Every contender makes maps of K classes in each of b photographs on one thread, all of them in turn within each
round; a time is the least of the rounds, on the CPU of processor time. The bare passes are the plain model's,
written as a person would: a forward pass, and for each class one `torch.autograd.grad` with respect to the
photographs. CAM-like methods need no backward pass through the network, so that theirs are a forward pass
without gradients, although they do take the gradient from the logits to the last map.

Peers are called as their documentation says, once a class with all the photographs: neither takes several classes of
one photograph in one call. Their hooks fail on activations in place, so that they get a copy of the model without.

What takes long gets fewer rounds: a contender takes part in another while all of them together would take less than
`--patience` seconds, and a peer whose K calls take longer than that has two of them timed and multiplied. Both are in
the JSON (`rounds`, `calls`), and the table says how many rounds there were and whose calls were multiplied. With
`--patience 1000` nothing is cut short. Rows already in the JSON are not measured again: an interrupted run goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import captum.attr
import pytorch_grad_cam
import timm
import torch
import torch.nn.functional as F
import zennit.attribution
import zennit.composites
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from zennit.canonizers import SequentialMergeBatchNorm

from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.sources import load_classifier
from gradcut.saliency import (
    CAM,
    LRP,
    RISE,
    AblationCAM,
    AlphaBeta,
    Composite,
    DeconvNet,
    EigenCAM,
    EigenGradCAM,
    Epsilon,
    FinerCAM,
    FullGrad,
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
    MultiScale,
    Occlusion,
    RefineCAM,
    Saliency,
    ScoreCAM,
    ShapleyCAM,
    SmoothGrad,
    VarGrad,
    XGradCAM,
)

Work = Callable[[], object]

PLUS = Composite(AlphaBeta(1.0, 0.0), Epsilon())
SAMPLES = 2  # noisy copies, or steps: on every side, so that a run ends; time is proportional to them
OURS: dict[str, Saliency] = {
    "Gradient": Gradient(of="logit"),
    "GuidedBackprop": GuidedBackprop(of="logit"),
    "DeconvNet": DeconvNet(of="logit"),
    "GradientXInput": GradientXInput(),
    "CAM": CAM(),
    "GradCAM": GradCAM(),
    "GradCAMPlusPlus": GradCAMPlusPlus(),
    "LayerCAM": LayerCAM(),
    "HiResCAM": HiResCAM(),
    "GuidedGradCAM": GuidedGradCAM(),
    "MultiScale(CAM)": MultiScale(CAM()),
    "SmoothGrad": SmoothGrad(samples=SAMPLES),
    "VarGrad": VarGrad(samples=SAMPLES),
    "IntegratedGradients": IntegratedGradients(steps=SAMPLES),
    "XGradCAM": XGradCAM(),
    "EigenCAM": EigenCAM(),
    "EigenGradCAM": EigenGradCAM(),
    "FinerCAM": FinerCAM(),
    "ShapleyCAM": ShapleyCAM(),
    "RefineCAM": RefineCAM(layers=1),
    "FullGrad": FullGrad(),
    "ScoreCAM": ScoreCAM(),
    "AblationCAM": AblationCAM(),
    "Occlusion": Occlusion(window=1 / 4, stride=1.0),
    "RISE": RISE(masks=16),
    "KernelSHAP": KernelSHAP(samples=14),
    "LRP": LRP(composite=PLUS),
}
SAMPLED = ("SmoothGrad", "VarGrad", "IntegratedGradients")
REGIONS = (
    "CAM", "GradCAM", "GradCAMPlusPlus", "LayerCAM", "HiResCAM", "XGradCAM", "EigenCAM", "EigenGradCAM", "FinerCAM",
    "ShapleyCAM", "RefineCAM",
)  # fmt: skip
#: Methods that look at many versions of a photograph; for the bare passes, how many: of a channel each, where None.
TRIED = {"ScoreCAM": None, "AblationCAM": None, "Occlusion": 17, "RISE": 17, "KernelSHAP": 17}
CAPTUM = {
    "Gradient": captum.attr.Saliency,
    "GuidedBackprop": captum.attr.GuidedBackprop,
    "DeconvNet": captum.attr.Deconvolution,
    "GradientXInput": captum.attr.InputXGradient,
    "SmoothGrad": captum.attr.Saliency,
    "VarGrad": captum.attr.Saliency,
    "IntegratedGradients": captum.attr.IntegratedGradients,
}
#: Where the peers see no activation to guide, they make the plain gradient, which is less work.
GUIDED = ("GuidedBackprop", "DeconvNet", "GuidedGradCAM")


@dataclass(frozen=True)
class Contender:
    """Work to be timed, in one call or in several of the same kind."""

    calls: Sequence[Work]

    def turn(self, clock: Callable[[], float], patience: float) -> tuple[float, int]:
        """Seconds, and how many calls were made, at least two; with fewer than all, the seconds are made up."""
        start = clock()
        for number, call in enumerate(self.calls, 1):
            call()
            taken = clock() - start
            if number >= 2 and taken > patience:
                break
        return taken * len(self.calls) / number, number


def network(name: str, size: int) -> tuple[Classifier, Callable[[nn.Module], nn.Module], int]:
    """A classifier, where the peers are told that its last map is made, and its channels."""
    if name == "embedded":
        return load_classifier("embedded").at(size), lambda model: model.bn2, 1280
    torch.manual_seed(0)
    model = timm.create_model(name).eval()  # random weights: time does not depend on them
    return Classifier(model, [str(i) for i in range(1000)], size), lambda model: model.layer4[-1], model.num_features


def bare(model: nn.Module, x: Tensor, classes: Sequence[int], method: str, channels: int) -> Work:
    def forward(x: Tensor = x) -> None:
        with torch.no_grad():
            model(x)

    def gradients() -> None:
        leaf = x.clone().requires_grad_()
        logits = model(leaf)
        for number, index in enumerate(classes):
            torch.autograd.grad(logits[:, index].sum(), leaf, retain_graph=number + 1 < len(classes))

    if method in REGIONS:
        return forward
    if method in TRIED:
        versions = TRIED[method] or channels + 1
        batches = [min(16, versions - first) for first in range(0, versions, 16)]
        return lambda: [forward(one.expand(m, -1, -1, -1).contiguous()) for one in x for m in batches]
    if method == "MultiScale(CAM)":
        sizes = [[round(side * scale) for side in x.shape[2:]] for scale in (1, 0.5, 1.5)]
        resized = [F.interpolate(x, size, mode="bilinear") for size in sizes for _ in ("as it is", "mirrored")]
        return lambda: [forward(at) for at in resized]
    if method == "GuidedGradCAM":
        return lambda: (forward(), gradients())
    return (lambda: [gradients() for _ in range(SAMPLES)]) if method in SAMPLED else gradients


def by_captum(model: nn.Module, layer: nn.Module, x: Tensor, index: int, method: str) -> Work | None:
    options: dict[str, Any] = {"target": index}
    if method in CAPTUM:
        attribute = CAPTUM[method](model).attribute
        if method in ("SmoothGrad", "VarGrad"):
            attribute = captum.attr.NoiseTunnel(CAPTUM[method](model)).attribute
            options |= {"nt_type": method.lower(), "nt_samples": SAMPLES, "nt_samples_batch_size": 1, "stdevs": 0.5}
        elif method == "IntegratedGradients":
            options |= {"n_steps": SAMPLES, "internal_batch_size": len(x)}  # a step at a time, as the others
        return lambda: attribute(x.clone().requires_grad_(), **options).detach().abs().amax(1)
    if method == "GradCAM":
        grad_cam = captum.attr.LayerGradCam(model, layer)

        def work() -> Tensor:
            low = grad_cam.attribute(x.clone(), target=index, relu_attributions=True)
            return captum.attr.LayerAttribution.interpolate(low, x.shape[2:], "bilinear")[:, 0].detach()

        return work
    if method == "GuidedGradCAM":
        guided = captum.attr.GuidedGradCam(model, layer)
        options |= {"interpolate_mode": "bilinear"}
        return lambda: guided.attribute(x.clone().requires_grad_(), **options).detach().abs().amax(1)
    if method == "Occlusion":
        side = x.shape[2] // 4
        options |= {"sliding_window_shapes": (3, side, side), "strides": (3, side, side), "perturbations_per_eval": 16}
        occlusion = captum.attr.Occlusion(model)
        return lambda: [occlusion.attribute(one[None], **options)[:, 0].clamp(min=0) for one in x]
    if method == "KernelSHAP":
        own, asked = KernelSHAP(), Classifier(model, 1000, tuple(x.shape[2:]))
        shap = captum.attr.KernelShap(model)
        options |= {"n_samples": 16, "perturbations_per_eval": 16, "baselines": 0}

        def work() -> list[Tensor]:
            masks = [own.superpixels(asked, one)[None, None] for one in x]
            found = [shap.attribute(x[n : n + 1], feature_mask=mask, **options)[:, 0] for n, mask in enumerate(masks)]
            return [values.clamp(min=0) for values in found]

        return work
    return None


def by_zennit(model: nn.Module, x: Tensor, index: int, method: str) -> Work | None:
    if method != "LRP":
        return None
    composite = zennit.composites.EpsilonPlus(canonizers=[SequentialMergeBatchNorm()])

    def work() -> Tensor:
        with zennit.attribution.Gradient(model=model, composite=composite) as attributor:
            _, relevance = attributor(x.clone().requires_grad_(), lambda logits: logits.detach() * _only(index, logits))
            return relevance.sum(1).clamp(min=0)

    return work


def _only(index: int, like: Tensor) -> Tensor:
    asked = torch.zeros_like(like)
    asked[:, index] = 1
    return asked


def by_grad_cam(model: nn.Module, layer: nn.Module, x: Tensor, index: int, method: str) -> Work | None:
    if method == "GuidedBackprop":
        guided = pytorch_grad_cam.GuidedBackpropReLUModel(model)  # of one photograph at a time
        return lambda: [abs(guided(one[None].clone(), index)).max(2) for one in x]
    others = ("FullGrad", "ScoreCAM", "AblationCAM")
    if (method not in REGIONS and method not in others) or method == "CAM":
        return None

    def work() -> None:
        if method in ("FinerCAM", "RefineCAM"):  # has no context of its own, or none that takes a target's class
            peer = getattr(pytorch_grad_cam, method)(model, [layer])
            with peer.base_cam if method == "FinerCAM" else peer.base_cam_per_layer[0]:
                if method == "FinerCAM":
                    peer(x, target_idx=index)
                else:
                    peer(x, [ClassifierOutputTarget(index)] * len(x))
            return
        layer_list = [] if method == "FullGrad" else [layer]
        with getattr(pytorch_grad_cam, method)(model=model, target_layers=layer_list) as cam:
            cam(input_tensor=x, targets=[ClassifierOutputTarget(index)] * len(x))

    return work


def measure(
    contenders: dict[str, Contender], rounds: int, patience: float, synchronize: Work | None
) -> dict[str, dict[str, Any]]:
    """Of every contender: seconds, the least of the rounds, how many rounds, and how many calls a round.

    On the CPU, seconds of the processor's time, which other processes disturb less; on a GPU, of the clock's. A first
    turn, with what only a first turn needs, counts only where there is no other.
    """

    def clock() -> float:
        if synchronize is None:
            return time.process_time()
        synchronize()
        return time.perf_counter()

    def turn(name: str) -> tuple[float, float, int]:
        start = clock()
        seconds, calls = contenders[name].turn(clock, patience)
        return seconds, clock() - start, calls

    first = {name: turn(name) for name in contenders}
    affordable = {name: min(rounds, int(patience / taken)) for name, (_, taken, _) in first.items()}
    # These two are compared the most closely, so that they get the same chances.
    affordable["bare"] = affordable["gradcut"] = min(affordable["bare"], affordable["gradcut"])
    turns = {name: [] for name in contenders}
    for number in range(max(affordable.values())):
        for name, times in affordable.items():
            if number < times:
                turns[name].append(turn(name))
    return {
        name: {"seconds": min(s for s, _, _ in taken), "rounds": len(taken), "calls": min(c for _, _, c in taken)}
        for name, taken in ((name, turns[name] or [first[name]]) for name in contenders)
    }


def tables(rows: Sequence[dict[str, Any]]) -> list[Table]:
    """One for each network: methods by (classes, photographs)."""
    made = []
    for name in dict.fromkeys(row["network"] for row in rows):
        here = [row for row in rows if row["network"] == name]
        cells = sorted({(row["classes"], row["photographs"]) for row in here})
        table = Table(
            "method", *(f"{K} class{'es' * (K > 1)}, {b}" for K, b in cells),
            title=f"{name}: gradcut / bare, captum / gradcut, pytorch-grad-cam / gradcut (rounds of bare and gradcut)",
            caption="* the peer sees no activation to guide, and makes the plain gradient; + two of its K calls timed",
        )  # fmt: skip
        for method in (method for method in OURS if any(row["method"] == method for row in here)):
            of = {(row["classes"], row["photographs"]): row for row in here if row["method"] == method}
            table.add_row(method, *(cell(of[at]) if at in of else "" for at in cells))
        made.append(table)
    return made


def cell(row: dict[str, Any]) -> str:
    times = row["times"]
    ours = times["gradcut"]["seconds"]
    parts = [f"{ours / times['bare']['seconds']:.2f}"]
    for peer in ("captum", "zennit" if "zennit" in times else "grad-cam"):
        part = "-"
        if peer in times:
            cut = "+" * (times[peer]["calls"] < row["classes"])
            part = f"{times[peer]['seconds'] / ours:.1f}{'*' * row['unlike']}{cut}"
        parts.append(part)
    return " ".join(parts) + f" ({times['gradcut']['rounds']})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["embedded", "resnet50"])
    parser.add_argument("--photographs", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--classes", nargs="+", type=int, default=[1, 3, 10])
    parser.add_argument("--methods", nargs="+", default=list(OURS), choices=list(OURS))
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--rounds", type=int, default=5, help="at most")
    parser.add_argument("--patience", type=float, default=6.0, help="seconds for all the rounds of a contender")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", "-o", type=Path, help="JSON, read and continued if it is there")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="Setting (forward, )?backward hooks")
    warnings.filterwarnings("ignore", message="Internal batch size")
    torch.set_num_threads(1)
    synchronize = torch.cuda.synchronize if options.device.startswith("cuda") else None
    record: dict[str, Any] = {
        "torch": torch.__version__, "captum": captum.__version__, "zennit": version("zennit"), "device": options.device,
        "machine": platform.machine(), "threads": 1, "size": options.size, "samples": SAMPLES,
        "rounds": options.rounds, "patience": options.patience, "rows": [],
    }  # fmt: skip
    if options.output and options.output.exists():
        earlier = json.loads(options.output.read_text(encoding="utf-8"))
        differs = [key for key, value in record.items() if key != "rows" and earlier.get(key) != value]
        if differs:
            parser.error(f"{options.output} was measured with other settings: {', '.join(differs)}")
        record["rows"] = earlier["rows"]
    done = {(row["network"], row["photographs"], row["classes"], row["method"]) for row in record["rows"]}

    networks = {name: network(name, options.size) for name in options.networks}
    # What takes least comes first, so that a run that is broken off has the most.
    cells = sorted(((b, K) for b in options.photographs for K in options.classes), key=lambda at: at[0] * at[1])
    for (b, K), (name, (classifier, find, channels)) in ((at, item) for at in cells for item in networks.items()):
        model = classifier.to(options.device).model
        x = torch.randn(b, 3, options.size, options.size, generator=torch.Generator().manual_seed(0))
        x = x.to(options.device)
        targets = [(photograph, index) for photograph in range(b) for index in range(K)]
        for method in options.methods:
            if (name, b, K, method) in done:
                continue
            # A first call for a model and a size finds the maps, and keeps where they are.
            OURS[method](classifier, x[:1], [(0, 0)])
            theirs = copy.deepcopy(model)  # their own: hooks that fail stay on the modules
            for module in theirs.modules():
                if hasattr(module, "inplace"):
                    module.inplace = False
            contenders = {
                "bare": Contender([bare(model, x, range(K), method, channels)]),
                "gradcut": Contender([partial(OURS[method], classifier, x, targets)]),
            }
            peers = {
                "captum": partial(by_captum, theirs, find(theirs)),
                "grad-cam": partial(by_grad_cam, theirs, find(theirs)),
                "zennit": partial(by_zennit, theirs),
            }
            for peer, make in peers.items():
                calls = [make(x, index, method) for index in range(K)]
                if calls[0] is not None:
                    contenders[peer] = Contender([call for call in calls if call is not None])
            relu = any(isinstance(module, nn.ReLU) for module in theirs.modules())
            row = {
                "network": name, "photographs": b, "classes": K, "method": method,
                "unlike": method in GUIDED and not relu,
                "times": measure(contenders, options.rounds, options.patience, synchronize),
            }  # fmt: skip
            record["rows"].append(row)
            print(f"{name}, {b} photographs, {K} classes, {method}: {cell(row)}", flush=True)
            if options.output:
                partly = options.output.with_suffix(".partly")
                partly.write_text(json.dumps(record, indent=1), encoding="utf-8")
                partly.replace(options.output)
    for table in tables(record["rows"]):
        Console(width=160).print(table)


if __name__ == "__main__":
    main()
