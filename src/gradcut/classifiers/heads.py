"""A classifier's last linear layer: found, taken off to get features, put on again with other classes, kept in a file.

A head file is safetensors with ``weight: Float32 "n d"``, ``bias: Float32 "n"`` and, if it was fitted to places too,
``places.weight: Float32 "n+1 d"`` and ``places.bias: Float32 "n+1"``, and in its metadata under ``gradcut`` a card in
JSON: labels, backbone, preparation, threshold, how the surest places count, and how it was fitted.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.weights import weights_sha256
from gradcut.errors import ClassifierError, one_line
from gradcut.files import replacing

FORMAT = "gradcut head 1"


class PlaceWeights(NamedTuple):
    """Weights that tell where in a photograph a label is: a softmax over the n labels and, last, the background.

    They are applied to the features of single places before pooling; `gradcut.fit.places` fits them.
    """

    weight: Float[Tensor, "rows d"]
    bias: Float[Tensor, " rows"]


class Presence(NamedTuple):
    """How the surest places count in a label's logit, where photographs are looked at in a larger size, too.

    `gradcut.saliency.presence.evidence` says what the evidence is; `gradcut.fit.presence` fits the three numbers.

    Attributes:
        scale: of the larger size, as a factor of the classifier's own.
    """

    scale: float
    slope: float
    surest: float
    offset: float

    def __call__(self, logits: Any, evidence: Any) -> Any:
        """``slope * logits + surest * evidence + offset``, of tensors or arrays."""
        return self.slope * logits + self.surest * evidence + self.offset


@dataclass(frozen=True, eq=False)
class Head:
    """A linear multi-label head for a frozen backbone: ``logits = features @ weight.T + bias``.

    Args:
        weight: ``Float32 "n d"``, one row a label.
        bias: ``Float32 "n"``.
        labels: one name a row.
        backbone: the name that `gradcut.load_classifier` knows the backbone by.
        backbone_sha256: of the backbone's weights, `gradcut.classifiers.weights.weights_sha256`.
        layer: the dotted name of the linear layer that this head replaces.
        size: height and width that photographs had when it was fitted.
        threshold: the least probability of a detection.
        figures: how it was fitted and how well, as JSON values, for the record.
        places: what tells the labels and the background apart place by place; takes no part in the logits.
        presence: how the surest places count in a detection; None without such weights, or where nobody has fitted it.
        headless: the backbone is what `gradcut.classifiers.load_backbone` makes of its name.
    """

    weight: Float[Tensor, "n d"] = field(repr=False)
    bias: Float[Tensor, " n"] = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    backbone: str
    backbone_sha256: str
    layer: str
    size: tuple[int, int]
    threshold: float
    figures: Mapping[str, Any] = field(default_factory=dict, repr=False)
    places: PlaceWeights | None = field(default=None, repr=False)
    presence: Presence | None = None
    headless: bool = False

    def save(self, path: Path) -> None:
        """Write the file, all or nothing.

        Raises:
            OSError: it cannot be written.
        """
        card = {
            "format": FORMAT,
            "labels": list(self.labels),
            "backbone": self.backbone,
            "backbone_sha256": self.backbone_sha256,
            **({"headless": True} if self.headless else {}),
            "layer": self.layer,
            "size": list(self.size),
            "multilabel": True,
            "threshold": self.threshold,
            **({} if self.presence is None else {"presence": self.presence._asdict()}),
            "fit": dict(self.figures),
        }
        tensors = {"weight": self.weight, "bias": self.bias}
        if self.places is not None:
            tensors |= {"places.weight": self.places.weight, "places.bias": self.places.bias}
        tensors = {name: tensor.float().contiguous() for name, tensor in tensors.items()}
        with replacing(path) as temporary:
            temporary.write_bytes(save(tensors, {"gradcut": json.dumps(card, ensure_ascii=False)}))


def read_head(path: Path) -> Head:
    """A head from its file. Nothing in it is executed.

    Raises:
        ClassifierError: not a head file, damaged, or with a card that does not fit its weights.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = set(file.keys())
            tensors = {name: file.get_tensor(name) for name in names & _TENSORS}
    except FileNotFoundError:
        raise ClassifierError(f"{path}: no such file") from None
    except (OSError, SafetensorError) as error:
        raise ClassifierError(f"{path}: cannot be read as safetensors: {one_line(error)}") from error
    try:
        card = json.loads(metadata["gradcut"])
        if card["format"] != FORMAT:
            raise ClassifierError(f"{path}: expected a head of format {FORMAT!r}, got {card['format']!r}")
        head = Head(
            labels=tuple(card["labels"]),
            backbone=card["backbone"],
            backbone_sha256=card["backbone_sha256"],
            layer=card["layer"],
            size=(int(card["size"][0]), int(card["size"][1])),
            threshold=float(card["threshold"]),
            figures=card.get("fit", {}),
            weight=tensors["weight"],
            bias=tensors["bias"],
            places=PlaceWeights(tensors["places.weight"], tensors["places.bias"])
            if "places.weight" in tensors
            else None,
            presence=Presence(**{name: float(value) for name, value in card["presence"].items()})
            if "presence" in card
            else None,
            headless=bool(card.get("headless", False)),
        )
    except (KeyError, TypeError, IndexError, json.JSONDecodeError) as error:
        raise ClassifierError(
            f"{path}: not a head that 'gradcut fit' wrote: its card or its weights lack {error}"
        ) from error
    n = len(head.labels)
    if head.weight.ndim != 2 or len(head.weight) != n or head.bias.shape != (n,):
        raise ClassifierError(
            f"{path}: expected weights for {n} labels, got weight {tuple(head.weight.shape)} and "
            f"bias {tuple(head.bias.shape)}"
        )
    d = head.weight.shape[1]
    if head.places is not None and (head.places.weight.shape != (n + 1, d) or head.places.bias.shape != (n + 1,)):
        raise ClassifierError(
            f"{path}: expected weights for places of shape {(n + 1, d)} and {n + 1} biases, got "
            f"{tuple(head.places.weight.shape)} and {tuple(head.places.bias.shape)}"
        )
    if head.presence is not None and head.places is None:
        raise ClassifierError(f"{path}: expected weights for places beside 'presence', got none")
    return head


_TENSORS = {"weight", "bias", "places.weight", "places.bias"}


class PlacedLinear(nn.Linear):
    """A head's linear layer that has `PlaceWeights` and `Presence` with it, so that they go where the model goes."""

    counted: Tensor

    def __init__(self, places: PlaceWeights, presence: Presence | None = None, **where: Any) -> None:
        rows, d = places.weight.shape
        super().__init__(d, rows - 1, **where)
        self.places = nn.Linear(d, rows, **where)
        # A buffer, so that the weights' digest holds it.
        self.register_buffer("counted", torch.tensor(presence or (), dtype=torch.float64))
        with torch.no_grad():
            self.places.weight.copy_(places.weight)
            self.places.bias.copy_(places.bias)


def places_of(model: nn.Module) -> nn.Linear | None:
    """From the features of one place to the logits of labels and background, if the model's head has such."""
    placed = _placed(model)
    return None if placed is None else placed.places


def presence_of(model: nn.Module) -> Presence | None:
    """How the surest places count in a detection, if the model's head says so."""
    placed = _placed(model)
    return Presence(*placed.counted.tolist()) if placed is not None and len(placed.counted) else None


def _placed(model: nn.Module) -> PlacedLinear | None:
    return next((module for module in model.modules() if isinstance(module, PlacedLinear)), None)


def attach(backbone: Classifier, head: Head, name: str) -> Classifier:
    """The backbone with this head in the place of its own; the backbone itself stays as it is.

    Raises:
        ClassifierError: the head was fitted on other weights or for another architecture.
    """
    found = weights_sha256(backbone.model)
    if found != head.backbone_sha256:
        raise ClassifierError(
            f"classifier: {name} was fitted on a backbone with weights {head.backbone_sha256[:12]}, "
            f"{backbone.name} has {found[:12]}; fit it again, or bring the backbone that it was fitted on"
        )
    n, d = head.weight.shape
    where: dict[str, Any] = {"device": backbone.device, "dtype": backbone.dtype}
    linear = nn.Linear(d, n, **where) if head.places is None else PlacedLinear(head.places, head.presence, **where)
    with torch.no_grad():
        linear.weight.copy_(head.weight)
        linear.bias.copy_(head.bias)
    return Classifier(
        _replaced(backbone.model, head.layer, linear),
        labels=head.labels,
        size=head.size,
        mean=backbone.mean,
        std=backbone.std,
        channels=backbone.channels,
        multilabel=True,
        threshold=head.threshold,
        name=name,
    )


def _replaced(model: nn.Module, layer: str, replacement: nn.Module) -> nn.Module:
    """A copy of the model with another module at ``layer``."""
    model = copy.deepcopy(model)
    parent, _, leaf = layer.rpartition(".")
    try:
        owner = model.get_submodule(parent)
        owner.get_submodule(leaf)
    except AttributeError:
        raise ClassifierError(f"backbone: expected a layer {layer!r}, the model has none") from None
    setattr(owner, leaf, replacement)
    return model
