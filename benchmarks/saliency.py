"""Time of the saliency methods against the bare passes that they need, and against captum and pytorch-grad-cam.

    python benchmarks/saliency.py -o saliency.json

Every contender does the same work, maps of K classes in each of b photographs, on one thread, in turn within
each round; a time is the least of the rounds, on the CPU of processor time. The bare passes are the plain
model's, written as a person would: a forward pass, and for each class one `torch.autograd.grad` with respect to
the photographs. CAM-like methods need no backward pass through the network, so that theirs are a forward pass
without gradients. Peers' hooks on in-place activations fail, so that they get a copy of the model without.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import captum.attr
import pytorch_grad_cam
import timm
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from gradcut.classifier import Classifier
from gradcut.saliency import (
    CAM,
    DeconvNet,
    GradCAM,
    GradCAMPlusPlus,
    Gradient,
    GradientXInput,
    GuidedBackprop,
    GuidedGradCAM,
    HiResCAM,
    LayerCAM,
    Saliency,
)
from gradcut.sources import load_classifier

Work = Callable[[], object]

PIXELS = ("Gradient", "GuidedBackprop", "DeconvNet", "GradientXInput")
REGIONS = ("CAM", "GradCAM", "GradCAMPlusPlus", "LayerCAM", "HiResCAM")
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
}
CAPTUM = {
    "Gradient": captum.attr.Saliency,
    "GuidedBackprop": captum.attr.GuidedBackprop,
    "DeconvNet": captum.attr.Deconvolution,
    "GradientXInput": captum.attr.InputXGradient,
}


def network(name: str, size: int) -> tuple[Classifier, Callable[[nn.Module], nn.Module]]:
    """A classifier, and where the peers are told that its last map is made."""
    if name == "embedded":
        return load_classifier("embedded").at(size), lambda model: model.bn2
    torch.manual_seed(0)
    model = timm.create_model(name).eval()  # random weights: time does not depend on them
    return Classifier(model, [str(i) for i in range(1000)], size), lambda model: model.layer4[-1]


def bare(model: nn.Module, x: Tensor, classes: Sequence[int], method: str) -> Work:
    def forward() -> None:
        with torch.no_grad():
            model(x)

    def gradients() -> None:
        leaf = x.clone().requires_grad_()
        logits = model(leaf)
        for number, index in enumerate(classes):
            torch.autograd.grad(logits[:, index].sum(), leaf, retain_graph=number + 1 < len(classes))

    if method in PIXELS:
        return gradients
    return forward if method in REGIONS else lambda: (forward(), gradients())


def by_captum(model: nn.Module, layer: nn.Module, x: Tensor, classes: Sequence[int], method: str) -> Work | None:
    if method in CAPTUM:
        attribute = CAPTUM[method](model).attribute
    elif method == "GradCAM":
        attribute = captum.attr.LayerGradCam(model, layer).attribute
    elif method == "GuidedGradCAM":
        attribute = captum.attr.GuidedGradCam(model, layer).attribute
    else:
        return None
    return lambda: [attribute(x.clone().requires_grad_(), target=index) for index in classes]


def by_grad_cam(model: nn.Module, layer: nn.Module, x: Tensor, classes: Sequence[int], method: str) -> Work | None:
    if method not in REGIONS or method == "CAM":
        return None

    def work() -> None:
        with getattr(pytorch_grad_cam, method)(model=model, target_layers=[layer]) as cam:
            for index in classes:
                cam(input_tensor=x, targets=[ClassifierOutputTarget(index)] * len(x))

    return work


def measure(contenders: dict[str, Work], rounds: int, synchronize: Work | None) -> dict[str, float]:
    """Seconds, the least of the rounds; the contenders take turns. A first turn each is not counted.

    On the CPU, seconds of the processor's time, which other processes disturb less; on a GPU, of the clock's.
    """
    clock = time.perf_counter if synchronize else time.process_time
    synchronize = synchronize or (lambda: None)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            synchronize()
            start = clock()
            work()
            synchronize()
            if number:
                times[name].append(clock() - start)
    return {name: min(taken) for name, taken in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["embedded", "resnet50"])
    parser.add_argument("--photographs", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--classes", nargs="+", type=int, default=[1, 3, 10])
    parser.add_argument("--methods", nargs="+", default=list(OURS), choices=list(OURS))
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", "-o", type=Path, help="JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    synchronize = torch.cuda.synchronize if options.device.startswith("cuda") else None

    columns = ("network", "b", "K", "method", "seconds", "/ bare", "captum /", "grad-cam /")
    table = Table(*columns, title="gradcut's time, its ratio to the bare passes, and the peers' to gradcut's")
    rows = []
    for name in options.networks:
        classifier, find = network(name, options.size)
        classifier.to(options.device)
        model = classifier.model
        # The peers' hooks stay on the modules if they fail, so they get their own.
        theirs = copy.deepcopy(model)
        for module in theirs.modules():
            if hasattr(module, "inplace"):
                module.inplace = False
        for b in options.photographs:
            x = torch.randn(b, 3, options.size, options.size, generator=torch.Generator().manual_seed(0))
            x = x.to(options.device)
            for K in options.classes:
                classes = list(range(K))
                targets = [(photograph, index) for photograph in range(b) for index in classes]
                for method in options.methods:
                    every: dict[str, Work | None] = {
                        "bare": bare(model, x, classes, method),
                        "gradcut": lambda m=OURS[method], c=classifier, x=x, t=targets: m(c, x, t),
                        "captum": by_captum(theirs, find(theirs), x, classes, method),
                        "grad-cam": by_grad_cam(theirs, find(theirs), x, classes, method),
                    }
                    seconds = measure({k: v for k, v in every.items() if v}, options.rounds, synchronize)
                    row = {"network": name, "photographs": b, "classes": K, "method": method, "seconds": seconds}
                    rows.append(row)
                    ours = seconds["gradcut"]
                    ratios = [ours / seconds["bare"], *(seconds.get(k, 0) / ours for k in ("captum", "grad-cam"))]
                    cells = [name, str(b), str(K), method, f"{ours:.3f}", *(f"{r:.2f}" if r else "" for r in ratios)]
                    table.add_row(*cells)
                    print("  ".join(cells), flush=True)
                    if options.output:
                        record = {
                            "torch": torch.__version__,
                            "captum": captum.__version__,
                            "device": options.device,
                            "machine": platform.machine(),
                            "threads": 1,
                            "size": options.size,
                            "rounds": options.rounds,
                            "rows": rows,
                        }
                        options.output.write_text(json.dumps(record, indent=1), encoding="utf-8")
    Console().print(table)


if __name__ == "__main__":
    main()
