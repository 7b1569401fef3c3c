"""How much the surest places say about whether a class is there, beside the head's logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gradcut import images
from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.heads import Head, Presence
from gradcut.fit.cache import cached, digest
from gradcut.fit.calibration import platt
from gradcut.fit.features import Track
from gradcut.fit.head import Fitted, figures, measured
from gradcut.fit.labels import ImageLabels
from gradcut.fit.places import scales_of
from gradcut.network.view import View
from gradcut.saliency.cams import linear_head
from gradcut.saliency.presence import evidence


def fit_presence(
    backbone: Classifier,
    data: ImageLabels,
    heads: Sequence[Head],
    fitted: Fitted,
    track: Track = iter,
    cache: Path | None = None,
) -> tuple[list[Head], Fitted]:
    """The heads with what their surest places say, and what cross-validation says of the first then.

    Two slopes and an offset, the same for all classes, calibrate logits and evidence together: a logistic regression,
    Platt's with a column more, on the judged photographs, of each the logits and the evidence of the head that was
    fitted without it. A fold's head has them from the photographs of the other folds.

    Args:
        heads: one of all the photographs, and one for each fold, with weights for places.
        fitted: what is known of the first.
        track: wraps the judged photographs, for a progress bar.
        cache: a folder that keeps what is computed of each photograph, so that a run that was stopped goes on.

    Raises:
        ImageError: a photograph cannot be read.
        OutputError: the cache cannot be written.
    """
    logits, said = np.full((2, *data.truth.shape), np.nan)
    keys = [digest(head.weight, head.bias, *(head.places or ())) for head in heads]
    scale = max(scales_of(backbone))
    judged = fitted.folds >= 0
    for number in track(np.flatnonzero(judged).tolist()):
        own, file = int(fitted.folds[number]) + 1, data.files[number]
        made_by = (backbone.record(), data.value_range, scale, keys[own])
        look = partial(_look, backbone, file, data, heads[own], scale)
        logits[number], said[number] = cached(cache, made_by, file, look)
    parts = [np.ones_like(judged), *(fitted.folds != fold for fold in range(len(heads) - 1))]
    counted = [_solve(logits, said, data, judged & part, scale) for part in parts]
    z = np.stack([how(logits, said) for how in counted])
    # The head of all is judged as its folds' heads judge what they have not seen.
    z[0] = z[fitted.folds + 1, np.arange(len(judged))]
    of_heads, changed = [], []
    for head, part, how, scored in zip(heads, parts, counted, z, strict=True):
        pairs = data.known & (judged & part)[:, None]
        changed.append(measured(fitted.weight, fitted.bias, fitted.folds, scored, data.truth, pairs))
        card = figures(changed[-1], data.part(part), head.figures["options"])
        of_heads.append(replace(head, presence=how, threshold=changed[-1].threshold, figures=card))
    return of_heads, changed[0]


def _solve(
    logits: Float[np.ndarray, "n k"],
    said: Float[np.ndarray, "n k"],
    data: ImageLabels,
    part: Bool[np.ndarray, " n"],
    scale: float,
) -> Presence:
    pairs = data.known & part[:, None]
    (slope, surest), offset = platt(np.stack([logits[pairs], said[pairs]]), data.truth[pairs])
    return Presence(scale, float(slope), float(surest), offset)


def _look(backbone: Classifier, file: Path, data: ImageLabels, head: Head, larger: float) -> list[np.ndarray]:
    """A head's logits of a photograph at the backbone's size, and the evidence of its places at the larger one."""
    photograph = images.read(file, value_range=data.value_range)
    view = View(backbone, backbone.at(backbone.scaled(larger)).prepare([photograph]))

    def features(scale: float) -> Float[Tensor, "1 d h w"]:
        return linear_head(view.at(scale), "presence").features.float()

    assert head.places is not None
    with torch.no_grad():
        logits = features(1.0).mean((2, 3)) @ head.weight.to(view.x).T + head.bias.to(view.x)
        return [each[0].cpu().numpy() for each in (logits, evidence(features(larger), head.places))]
