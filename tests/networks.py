"""Small networks whose evidence is known, and what they do inside."""

from __future__ import annotations

import torch

from gradcut import Classifier


class Brightness(torch.nn.Module):
    """Sees 'red' where red is bright and 'blue' where blue is: a classifier whose evidence is known.

    A 1 x 1 convolution keeps both channels, ReLU, mean over the pixels, linear.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 1)
        self.act = torch.nn.ReLU()
        self.fc = torch.nn.Linear(2, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0, -1, -1], [-1, -1, 1.0]])[:, :, None, None])
            self.conv.bias.fill_(0.0)
            self.fc.weight.copy_(torch.tensor([[40.0, 0], [0, 40.0]]))
            self.fc.bias.fill_(-2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.act(self.conv(x)).mean((2, 3)))


def attention_of(classifier: Classifier, x: torch.Tensor) -> list[torch.Tensor]:
    """What timm's own layers attend to, seen by hooks."""
    seen: list[torch.Tensor] = []
    handles = [
        block.attn.attn_drop.register_forward_hook(lambda module, args, output: seen.append(output))
        for block in classifier.model.blocks
    ]
    with torch.no_grad():
        classifier.model(x)
    for handle in handles:
        handle.remove()
    return seen
