"""Trains a small segmentation head on pseudo-labels for a minute: photographs in, a network that segments out.

    python examples/train.py OUTPUT [--seconds 60] [PHOTOGRAPH OR FOLDER ...]

`OUTPUT` becomes a run of gradcut, whose class maps are the labels; pixels that the run is unsure of do not count. The
head stands on the frozen EfficientNet-Lite0 that gradcut embeds. What it says of the photographs that it was trained on
is compared with the labels: whether it has learnt, not how good it is.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
import torch.nn.functional as F
from photographs import FOLDER, OUTLINES
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gradcut import Segmenter, load_classifier, segment_folder
from gradcut.integrations.pytorch import PseudoLabels

SIZE = (256, 256)


class Head(nn.Module):
    """Classes of pixels from two stages of a frozen network, at strides 8 and 16."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        classifier = load_classifier("embedded")
        network = classifier.model.eval().requires_grad_(False)
        self.fine = nn.Sequential(network.conv_stem, network.bn1, *network.blocks[:3])
        self.coarse = network.blocks[3:5]
        self.head = nn.Sequential(nn.Conv2d(40 + 112, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, classes, 1))
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (classifier.mean, classifier.std))

    def forward(self, photographs: Tensor) -> Tensor:
        with torch.no_grad():
            fine = self.fine((photographs - self.mean) / self.std)
            coarse = F.interpolate(self.coarse(fine), fine.shape[2:], mode="bilinear")
        logits = self.head(torch.cat([fine, coarse], dim=1))
        return F.interpolate(logits, photographs.shape[2:], mode="bilinear")


def main(output: str, paths: list[str], seconds: float) -> None:
    photographs = paths or [FOLDER / name for name in OUTLINES]
    for line in segment_folder(Segmenter("coco80", "fast"), photographs, output, void=(0.25, 0.75), pictures=False):
        if line["state"] == "failed":
            print(line["error"], file=sys.stderr)

    torch.manual_seed(0)
    labels = PseudoLabels(output, SIZE)
    batches = DataLoader(labels, batch_size=4, shuffle=True)
    network = Head(len(labels.classes))
    optimiser = torch.optim.AdamW(network.head.parameters(), lr=2e-3)
    losses, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        for batch, classmaps in batches:
            loss = F.cross_entropy(network(batch), classmaps, ignore_index=labels.ignored)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    print(f"{len(labels)} photographs, {len(losses)} steps: cross-entropy from {losses[0]:.2f} to {losses[-1]:.2f}")

    with torch.inference_mode():
        pairs = [(network(photograph[None])[0].argmax(0), classmap) for photograph, classmap in labels]
    predicted, asked = (torch.cat([pair[side].flatten() for pair in pairs]) for side in (0, 1))
    predicted, asked = predicted[asked != labels.ignored], asked[asked != labels.ignored]
    for number in asked.unique().tolist():
        mine, its = predicted == number, asked == number
        print(f"{labels.classes[number]:14}IoU with the labels {(mine & its).sum() / (mine | its).sum():.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output")
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--seconds", type=float, default=60)
    main(**vars(parser.parse_args()))
