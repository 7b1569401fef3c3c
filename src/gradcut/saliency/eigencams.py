"""What varies most over the places of a map inside the network: its first principal component."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gradcut.classifiers.classifier import Classifier
from gradcut.network.layouts import Layout
from gradcut.saliency.gradcams import GradCAM
from gradcut.saliency.maps import wide
from gradcut.saliency.targets import Target


@dataclass(frozen=True)
class EigenGradCAM(GradCAM):
    """The first principal component of gradient times map (pytorch-grad-cam's, after Muhammad & Yeasin 2020).

    ``ReLU((X - mean X) v)`` of the rows ``X = G A`` of all places, v their first principal direction, with the sign by
    which it goes with ``sum_k G_k A_k``, `HiResCAM`'s map: a principal direction itself has none. Needs and costs as
    much as `GradCAM`, and an eigenproblem as large as the number of places or of channels, the smaller.
    """

    def weighted(self, A: Float[Tensor, "n c h w"], G: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
        return first_component(wide(G * A))


@dataclass(frozen=True)
class EigenCAM(GradCAM):
    """The first principal component of the map (Muhammad & Yeasin 2020), whatever the class.

    As `EigenGradCAM` of the map alone, so that all the targets of one photograph get the same map: what stands out in
    it. The paper takes the first singular vector of the map as it is; pytorch-grad-cam subtracts the mean over the
    places first, and so does this. Needs a map inside the network. Costs one forward pass.
    """

    def at_layers(
        self,
        classifier: Classifier,
        logits: Float[Tensor, "b classes"],
        pairs: Sequence[Target],
        layouts: Sequence[Layout],
        cut: Sequence[Tensor],
    ) -> list[Float[Tensor, "n _ _"]]:
        photographs = [photograph for photograph, _ in pairs]
        with torch.no_grad():
            maps = (first_component(wide(layout.of(A.detach()))) for layout, A in zip(layouts, cut, strict=True))
            return [wide(each.clamp(min=0)[photographs]) for each in maps]


def first_component(X: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
    """The places' projections on their first principal direction; its sign is that of its channels' sum.

    With it the projection goes up where the sum over the channels does.
    """
    n, c, h, w = X.shape
    X = X.flatten(2)
    X = X - X.mean(2, keepdim=True)
    # Of the two Gram matrices the smaller; their eigenvalues are the same.
    if c < h * w:
        direction = torch.linalg.eigh(X @ X.transpose(1, 2))[1][:, :, -1]
        projected = torch.einsum("nc,ncp->np", direction, X)
    else:
        values, vectors = torch.linalg.eigh(X.transpose(1, 2) @ X)
        projected = vectors[:, :, -1] * values[:, -1:].clamp(min=0).sqrt()
    along = (projected * X.sum(1)).sum(1, keepdim=True)
    return (projected * torch.where(along < 0, -1.0, 1.0).to(X.dtype)).view(n, h, w)
