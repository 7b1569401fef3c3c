"""`Classifier`: a model, its labels, how a photograph is prepared for it, and what it detects."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gradcut import images
from gradcut import labels as vocabularies
from gradcut.errors import ClassifierError
from gradcut.images import Photographs


@dataclass(frozen=True)
class Detection:
    """A class that the classifier sees: its label, its index, and its probability in [0, 1].

    A group of classes, as `Classifier.find` finds it, has its members' indices, and the probability of any of them.
    """

    label: str
    index: int | tuple[int, ...]
    score: float


@dataclass(frozen=True, eq=False)
class Classifier:
    """An image classifier, and all that is needed to ask it about a photograph.

    Args:
        model: maps ``(b, 3, h, w)`` to logits ``(b, len(labels))``. It is used in evaluation mode and
            otherwise left exactly as it is.
        labels: one name an output, no name twice.
        size: height and width that a photograph is resized to. The whole photograph is squashed into
            it: a centre crop would leave the border without saliency.
        mean, std: of RGB in [0, 1], subtracted and divided.
        multilabel: sigmoid when true, softmax when false.
        threshold: the least probability of a detection. By default 0.75 for a multi-label classifier, else 0.
        top_k: the most detections in one photograph. By default 20 for a multi-label classifier, else 1.
        name: what to call it in records.
    """

    model: nn.Module = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    multilabel: bool
    threshold: float
    top_k: int
    name: str

    def __init__(
        self,
        model: nn.Module,
        labels: Sequence[str],
        size: int | tuple[int, int] = (224, 224),
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        multilabel: bool = False,
        threshold: float | None = None,
        top_k: int | None = None,
        name: str = "custom",
    ) -> None:
        threshold = (0.75 if multilabel else 0.0) if threshold is None else threshold
        top_k = (20 if multilabel else 1) if top_k is None else top_k
        normalised = {
            "model": model, "labels": tuple(labels),
            "size": (size, size) if isinstance(size, int) else tuple(size), "mean": tuple(map(float, mean)),
            "std": tuple(map(float, std)), "multilabel": multilabel, "threshold": threshold, "top_k": top_k,
            "name": name,
        }  # fmt: skip
        for key, value in normalised.items():
            object.__setattr__(self, key, value)  # a frozen dataclass sets its own fields so
        self._check()

    def _check(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise ClassifierError(f"model: expected a torch.nn.Module, got {type(self.model).__name__}")
        if not self.labels or len(set(self.labels)) != len(self.labels):
            twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
            raise ClassifierError(f"labels: expected at least one and no label twice, got {twice or 'none'}")
        if len(self.size) != 2 or min(self.size) < 1:
            raise ClassifierError(f"size: expected positive height and width, got {self.size}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ClassifierError(f"mean, std: expected three numbers each, std > 0, got {self.mean}, {self.std}")
        check_limits(self.threshold, self.top_k)

    def at(self, size: int | tuple[int, int]) -> Classifier:
        """The same classifier at another input size."""
        return replace(self, size=(size, size) if isinstance(size, int) else size)

    def scaled(self, factor: float) -> tuple[int, int]:
        """Height and width of photographs at ``factor`` times the classifier's own size, at least 1."""
        height, width = (max(1, round(side * factor)) for side in self.size)
        return height, width

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)

    def to(self, device: str | torch.device) -> Classifier:
        """Move the model itself to a device.

        Raises:
            ClassifierError: no such device on this machine.
        """
        try:
            self.model.to(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ClassifierError(f"device: {device!r} cannot be used here: {reason}") from error
        return self

    def prepare(self, photographs: Photographs) -> Float[Tensor, "b 3 h w"]:
        """The photographs resized, scaled, normalised and on the model's device."""
        if not photographs:
            raise ClassifierError("photographs: expected at least one, got none")
        pixels = np.stack([images.resize(photograph, self.size) for photograph in photographs])
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).to(self.dtype).div_(255)
        mean, std = (torch.tensor(v, dtype=x.dtype, device=x.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return x.sub_(mean).div_(std).contiguous()

    def logits(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n"]:
        """The model's outputs, with gradients as the caller's context has them.

        Raises:
            ClassifierError: the model fails on ``x`` or answers with something else than finite ``(b, n)``.
        """
        try:
            with evaluating(self.model):
                logits = self.model(x)
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ClassifierError(f"model: {self.name} failed on input {tuple(x.shape)}: {reason}") from error
        if not isinstance(logits, Tensor):
            raise ClassifierError(
                f"model: expected a tensor of logits, got {type(logits).__name__}; wrap it so that it returns one"
            )
        if logits.shape != (len(x), len(self.labels)):
            raise ClassifierError(
                f"model: expected logits of shape {(len(x), len(self.labels))} for {len(self.labels)} labels, "
                f"got {tuple(logits.shape)}"
            )
        if not logits.isfinite().all():
            raise ClassifierError(f"model: {self.name} answers with NaN or infinite logits")
        return logits

    def probabilities(self, logits: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """Sigmoid or softmax, in float32 at least."""
        logits = logits.detach().float()
        return logits.sigmoid() if self.multilabel else logits.softmax(1)

    def decide(
        self, logits: Float[Tensor, "b n"], threshold: float | None = None, top_k: int | None = None
    ) -> list[tuple[Detection, ...]]:
        """A photograph's ``top_k`` most probable classes of at least ``threshold``, best first."""
        threshold = self.threshold if threshold is None else threshold
        top_k = self.top_k if top_k is None else top_k
        check_limits(threshold, top_k)
        scores, indices = self.probabilities(logits).topk(min(top_k, len(self.labels)))
        return [
            tuple(Detection(self.labels[i], i, s) for s, i in zip(ss, ii, strict=True) if s >= threshold)
            for ss, ii in zip(scores.tolist(), indices.tolist(), strict=True)
        ]

    def detect(
        self, photographs: Photographs, threshold: float | None = None, top_k: int | None = None
    ) -> list[tuple[Detection, ...]]:
        """What the classifier sees in each photograph. No gradient is computed."""
        with torch.inference_mode():
            return self.decide(self.logits(self.prepare(photographs)), threshold, top_k)

    def index(self, label: str) -> int:
        """The output of that name; where two names differ in case only, the case counts.

        Raises:
            ClassifierError: unknown; the message lists the nearest labels.
        """
        if label in self.labels:
            return self.labels.index(label)
        if label.casefold() in self._indices:
            return self._indices[label.casefold()]
        known = list(self.labels)
        within = [name for name in known if label.casefold() in name.casefold()]
        near = difflib.get_close_matches(label, known, n=5, cutoff=0.5)
        nearest = list(dict.fromkeys(within + near))[:5]
        hint = f"the nearest are {', '.join(map(repr, nearest))}" if nearest else "no label is near it"
        raise ClassifierError(f"label: {self.name} has no label {label!r}; {hint}")

    def find(self, label: str) -> int | tuple[int, ...]:
        """The output of that name, or the group of those that mean it: ``dog`` is 118 of ImageNet's classes.

        A group is the label's namesake in COCO or Pascal VOC, a group of one, else the classes of its kind, as
        `gradcut.labels.group` has them.

        Raises:
            ClassifierError: as for `index`.
        """
        found = vocabularies.group(label, self.labels)
        if not found:
            return self.index(label)
        # A namesake keeps the name that it was asked for by, as a class of its own beside the classifier's.
        own = len(found) == 1 and self.labels[found[0]].casefold() == label.casefold()
        return found[0] if own else found

    def score(self, probabilities: Float[Tensor, " n"], index: int | tuple[int, ...]) -> float:
        """The probability of a class, or of any of a group: their sum under a softmax, else 1 - prod (1 - p)."""
        chosen = probabilities[[index] if isinstance(index, int) else list(index)].double()
        return float(1 - (1 - chosen).prod()) if self.multilabel else min(1.0, float(chosen.sum()))

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {label.casefold(): index for index, label in enumerate(self.labels)}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weights, the labels and the preparation, in hexadecimal digits."""
        digest = hashlib.sha256(repr((self, self.labels)).encode())
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(key.encode())
            if isinstance(value, Tensor):
                digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def check_limits(threshold: Any, top_k: Any) -> None:
    """Raise ClassifierError unless 0 <= threshold <= 1 and top_k >= 1."""
    if threshold is not None and not 0 <= threshold <= 1:
        raise ClassifierError(f"threshold: expected a probability from 0 to 1, got {threshold}")
    if top_k is not None and top_k < 1:
        raise ClassifierError(f"top_k: expected at least 1, got {top_k}")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the time of the block; every submodule gets its own flag back."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True
