"""EfficientNet-Lite as a PyTorch module, so that embedded classifiers load without timm, whose import takes seconds."""

from __future__ import annotations

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

#: Of EfficientNet-B0: how often a stage's block is repeated, its kernel, its first stride, expansion and channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

#: Lite0, Lite1 and Lite2: factors of the channels and of the repetitions.
_FACTORS = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2))

#: TensorFlow's, which trained them.
_EPSILON = 1e-3


class EfficientNetLite(nn.Module):
    """EfficientNet (Tan & Le 2019) without squeeze-and-excitation, with ReLU6; stem and head of fixed width.

    Its modules and weights are called as timm's ``tf_efficientnet_liteN``, and the function is the same to the bit.

    Args:
        number: 0, 1 or 2.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        width, depth = _FACTORS[number]
        channels = 32
        self.conv_stem = _convolution(3, channels, 3, stride=2)
        self.bn1 = _Norm(channels)
        stages = []
        for place, (times, kernel, stride, expansion, out) in enumerate(_STAGES):
            out = _rounded(out * width)
            # The first and the last stage are not repeated more often.
            times = times if place in (0, len(_STAGES) - 1) else math.ceil(times * depth)
            block = _Separable if expansion == 1 else _Inverted
            blocks = [block(channels if i == 0 else out, out, kernel, stride if i == 0 else 1) for i in range(times)]
            stages.append(nn.Sequential(*blocks))
            channels = out
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _convolution(channels, 1280, 1)
        self.bn2 = _Norm(1280)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        x = self.blocks(self.bn1(self.conv_stem(x)))
        x = self.bn2(self.conv_head(x))
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


class _Separable(nn.Module):
    """A convolution a channel, and one that mixes the channels."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _convolution(channels, channels, kernel, stride, groups=channels)
        self.bn1 = _Norm(channels)
        self.conv_pw = _convolution(channels, out, 1)
        self.bn2 = _Norm(out, active=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        y: Tensor = self.bn2(self.conv_pw(self.bn1(self.conv_dw(x))))
        return y


class _Inverted(nn.Module):
    """The same with six times the channels in between (inverted residual, Sandler et al. 2018), added to its input."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int = 6) -> None:
        super().__init__()
        inner = channels * expansion
        self.conv_pw = _convolution(channels, inner, 1)
        self.bn1 = _Norm(inner)
        self.conv_dw = _convolution(inner, inner, kernel, stride, groups=inner)
        self.bn2 = _Norm(inner)
        self.conv_pwl = _convolution(inner, out, 1)
        self.bn3 = _Norm(out, active=False)
        self._adds = stride == 1 and channels == out

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        y: Tensor = self.bn3(self.conv_pwl(self.bn2(self.conv_dw(self.bn1(self.conv_pw(x))))))
        return y + x if self._adds else y


class _Norm(nn.BatchNorm2d):
    """Batch norm and, after it, the activation ``act``."""

    def __init__(self, channels: int, active: bool = True) -> None:
        super().__init__(channels, eps=_EPSILON)
        self.act: nn.Module = nn.ReLU6(inplace=True) if active else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        y: Tensor = self.act(super().forward(x))
        return y


class _Same(nn.Conv2d):
    """A convolution that pads as TensorFlow does: so that ceil(size / stride) places come out, more at the far end."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        rows, columns = (max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
        # Where the far end lacks one more, a zero before the kernel makes both ends alike: no padded copy of the map.
        weight = F.pad(self.weight, (columns % 2, 0, rows % 2, 0)) if columns % 2 or rows % 2 else self.weight
        padding = ((rows + 1) // 2, (columns + 1) // 2)
        return F.conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)


def _convolution(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    if stride > 1:
        return _Same(channels, out, kernel, stride, groups=groups, bias=False)
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2, groups=groups, bias=False)


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, but no tenth below."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near
