"""What a backbone's last linear layer sees in photographs, and what its own rows say of classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gradcut import images, labels
from gradcut.classifiers.backbones import is_headless
from gradcut.classifiers.classifier import Classifier
from gradcut.errors import ClassifierError
from gradcut.fit.cache import cached
from gradcut.known import Known
from gradcut.network.passes import Pass, watched
from gradcut.ranges import Range

#: Hands items on, and shows how far it is.
Track = Callable[[Iterable[Any]], Iterable[Any]]

#: By model and size of photograph: the name of its last linear layer.
_LAYERS: Known[str] = Known()


def linear_layer(classifier: Classifier) -> str:
    """The dotted name of the linear layer that makes the logits out of the features, seen in a forward pass.

    Raises:
        ClassifierError: the logits are not the outputs of one ``nn.Linear`` over a vector of features.
    """
    known = _LAYERS.get(classifier.model, classifier.size)
    if known is not None:
        return known
    x = torch.rand(1, 3, *classifier.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = watched(classifier, x.to(classifier.device, classifier.dtype))
    linear = made.seen.linear
    if linear is not None and linear.input.ndim == 2:
        expected = F.linear(linear.input, linear.weight, linear.bias)
        tolerance = 1e-3 * float(made.logits.abs().max())
        if expected.shape == made.logits.shape and torch.allclose(expected, made.logits, rtol=1e-3, atol=tolerance):
            for name, module in classifier.model.named_modules():
                if name and isinstance(module, nn.Linear) and module.weight is linear.parameter:
                    _LAYERS.put(classifier.model, classifier.size, name)
                    return str(name)
    raise ClassifierError(
        f"backbone: expected a classifier whose logits come from one nn.Linear over a vector of features; those of "
        f"{classifier.name} do not"
    )


def _input(made: Pass) -> Float[Tensor, "b d"]:
    linear = made.seen.linear
    assert linear is not None  # `linear_layer` has seen it
    return linear.input


def features(
    backbone: Classifier,
    files: Sequence[Path],
    cache: Path | None = None,
    mirror: bool = True,
    track: Track = iter,
    value_range: Range | None = None,
) -> Float[np.ndarray, "views n d"]:
    """What the backbone's last linear layer sees in each photograph, at the backbone's size.

    Args:
        cache: a folder that keeps each photograph's features as soon as they are there, so that a run that was stopped
            goes on. They are used again when the photograph's content, the backbone's weights, its preparation,
            ``mirror`` and ``value_range`` are the same, wherever the photograph is and whatever it is called.
        mirror: take each photograph's mirror image as a second view.
        track: wraps the photographs, for a progress bar.
        value_range: as for `gradcut.images.read`.

    Raises:
        ImageError: a photograph cannot be read.
        ClassifierError: the backbone's logits are not linear in features.
        OutputError: the cache cannot be written.
    """
    made_by = (backbone.record(), linear_layer(backbone), mirror, *(value_range or ()))

    def views(file: Path) -> list[Float[np.ndarray, "views d"]]:
        x = backbone.prepare([images.read(file, value_range=value_range)])
        with torch.no_grad():
            return [_input(watched(backbone, torch.cat([x, x.flip(3)]) if mirror else x)).float().cpu().numpy()]

    return np.stack([cached(cache, made_by, file, partial(views, file))[0] for file in track(files)], axis=1)


def prior_rows(backbone: Classifier, names: Sequence[str]) -> Float[np.ndarray, "k d"]:
    """The backbone's own opinion of each class: the mean of its rows that mean the class, less the mean of all.

    A class that the backbone does not know gets zeros, and so does every class of a backbone without a head.
    """
    linear = backbone.model.get_submodule(linear_layer(backbone))
    assert isinstance(linear, nn.Linear)
    weight = linear.weight.detach().cpu().double().numpy()
    rows = np.zeros((len(names), weight.shape[1]))
    if is_headless(backbone):
        return rows
    for row, name in zip(rows, names, strict=True):
        own = labels.kinds(name, backbone.labels, related=True) or labels.group(name, backbone.labels)
        if own:
            row[:] = weight[list(own)].mean(0) - weight.mean(0)
    return rows
