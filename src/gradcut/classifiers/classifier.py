"""`Classifier`: a model, its labels, how a photograph is prepared for it, and what it detects."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from gradcut import images
from gradcut import labels as vocabularies
from gradcut.classifiers import arguments, sizes
from gradcut.classifiers.weights import weights_sha256
from gradcut.classifiers.words import words_of
from gradcut.errors import ClassifierError, one_line
from gradcut.images import Photograph, Photographs


@dataclass(frozen=True)
class Detection:
    """A class that the classifier sees: its label, the outputs that it consists of, and its probability in [0, 1].

    ``members`` has one output, or those of a group of classes as `Classifier.find` finds it; then the score is the
    probability of any of them.
    """

    label: str
    members: tuple[int, ...]
    score: float


@dataclass(frozen=True, eq=False)
class Classifier:
    """An image classifier, and all that is needed to ask it about a photograph.

    Args:
        model: maps ``(b, 3, h, w)`` to logits ``(b, len(labels))``. It is used in evaluation mode and
            otherwise left exactly as it is.
        labels: one name an output, no name twice; or how many outputs there are, which are then called "0", "1", ...
        size: height and width that a photograph is resized to. The whole photograph
            is squashed into it: a centre crop would leave the border without saliency.
        mean, std: of RGB in [0, 1], subtracted and divided, whatever ``channels`` says.
        multilabel: sigmoid when true, softmax when false.
        threshold: the least probability of a detection. By default 0.75 for a multi-label classifier, else 0.
        top_k: the most detections in one photograph. By default 20 for a multi-label classifier, else 1.
        name: what to call it in records.
        channels: in what order the model takes colours: ``"RGB"``, or ``"BGR"`` as OpenCV has them.

    Raises:
        ClassifierError: an argument of another type or range; the message names it.
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
    channels: str = field(default="RGB", repr=False)

    # Written out, because it takes more types than the fields have.
    def __init__(
        self,
        model: nn.Module,
        labels: Sequence[str] | int,
        size: int | Sequence[int] = (224, 224),
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        multilabel: bool = False,
        threshold: float | None = None,
        top_k: int | None = None,
        name: str = "custom",
        channels: str = "RGB",
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ClassifierError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
        if not isinstance(multilabel, bool):
            raise ClassifierError(f"multilabel: expected True (sigmoid) or False (softmax), got {multilabel!r}")
        if not isinstance(name, str):
            raise ClassifierError(f"name: expected a string, got {name!r}")
        if not isinstance(channels, str) or channels not in ("RGB", "BGR"):
            raise ClassifierError(f"channels: expected 'RGB' or 'BGR', got {channels!r}")
        arguments.check_limits(threshold, top_k)
        normalised: dict[str, Any] = {
            "model": model, "labels": arguments.as_labels(labels), "size": arguments.as_size(size),
            "mean": arguments.as_colour("mean", mean), "std": arguments.as_colour("std", std), "multilabel": multilabel,
            "threshold": (0.75 if multilabel else 0.0) if threshold is None else float(threshold),
            "top_k": (20 if multilabel else 1) if top_k is None else int(top_k), "name": name,
            "channels": channels,
        }  # fmt: skip
        if len(normalised["labels"]) == 1 and not multilabel:
            raise ClassifierError(
                "multilabel: expected True for a model with one output, got False: under a softmax a single output has "
                "the probability 1 whatever the photograph shows"
            )
        for key, value in normalised.items():
            object.__setattr__(self, key, value)  # a frozen dataclass sets its own fields so

    @classmethod
    def from_timm(cls, model: nn.Module, labels: Sequence[str] | int | None = None, **options: Any) -> Classifier:
        """A model of timm that is in memory, with the size, mean, std and labels of its pretrained configuration.

        Args:
            labels: as for `Classifier`; needed where timm does not know what the outputs are called.
            options: further arguments of `Classifier`, in the place of the configuration's.

        Raises:
            ClassifierError: a model without such a configuration, or without known labels.
        """
        config = getattr(model, "pretrained_cfg", None)
        if not isinstance(config, Mapping) or not {"input_size", "mean", "std"} <= set(config):
            raise ClassifierError(
                f"model: expected a model that timm.create_model made, with its pretrained_cfg, got "
                f"{type(model).__name__}; Classifier(model, labels, size, mean, std) takes any"
            )
        outputs = getattr(model, "num_classes", None)
        if labels is None:
            labels = vocabularies.timm_labels(model)
            if labels is not None and outputs is not None and len(labels) != outputs:
                labels = None
        if labels is None:
            raise ClassifierError(
                f"labels: timm does not know what the {outputs} outputs of this "
                f"{config.get('architecture', type(model).__name__)} are called; give labels=, or their number"
            )
        settings = {"size": tuple(config["input_size"][1:]), "mean": config["mean"], "std": config["std"]}
        return cls(model, labels, **{**settings, "name": f"timm/{config.get('architecture', 'model')}", **options})

    def at(self, size: int | tuple[int, int]) -> Classifier:
        """The same classifier at another input size, or at the nearest that a network of patches takes."""
        return replace(self, size=self._taken(arguments.as_size(size)))

    def scaled(self, factor: float) -> tuple[int, int]:
        """Height and width of photographs at ``factor`` times the classifier's own size, at least 1.

        For a network of patches that is the nearest size that it takes.

        Raises:
            ClassifierError: something else than a finite number above 0.
        """
        arguments.check_factor(factor)
        height, width = (max(1, round(side * factor)) for side in self.size)
        return self._taken((height, width))

    def _taken(self, size: tuple[int, int]) -> tuple[int, int]:
        def takes(size: tuple[int, int]) -> bool:
            try:
                with torch.inference_mode():
                    self.logits(torch.zeros(1, 3, *size, device=self.device, dtype=self.dtype))
            except NoMemoryError:
                raise
            except ClassifierError:
                return False
            return True

        return size if size == self.size else sizes.nearest(self.model, size, takes)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Classifier:
        """Move the model itself to a device and into a number type, as torch does, and return this same classifier.

        In ``torch.bfloat16`` a network has 8 bits for a number's digits instead of 24, so that scores, maps and masks
        change; it is faster on a GPU, and on a processor that has it in hardware. What is made of the network's
        answers is computed in float32.

        Raises:
            ClassifierError: no such device on this machine, or a type that is none of real numbers.
        """
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ClassifierError(f"dtype: expected a type of real numbers, such as torch.bfloat16, got {dtype!r}")
        try:
            self.model.to(device, dtype)
        except (RuntimeError, AssertionError, TypeError) as error:
            raise ClassifierError(f"device: {device!r} cannot be used here: {one_line(error)}") from error
        return self

    def prepare(self, photographs: Photographs) -> Float[Tensor, "b 3 h w"]:
        """The photographs resized, scaled, normalised and on the model's device.

        Raises:
            ClassifierError: none at all, or something else than a list of photographs.
        """
        arguments.check_photographs(photographs)
        return self.normalised([self.resized(photograph) for photograph in photographs])

    def resized(self, photograph: Photograph) -> UInt8[np.ndarray, "h w 3"]:
        """A photograph of the classifier's size; the part of `prepare` that any thread may do beforehand."""
        return images.resize(photograph, self.size)

    def normalised(self, resized: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Float[Tensor, "b 3 h w"]:
        """The rest of `prepare`: on the device, in the network's number type, of the mean and spread that it knows."""
        pixels = torch.from_numpy(np.stack(resized))
        if self.device.type == "cuda":  # from memory that is pinned the copy goes on while the network works
            pixels = pixels.pin_memory()
        x = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2).to(self.dtype).div_(255)
        mean, std = (torch.tensor(v, dtype=x.dtype, device=x.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        x = x.sub_(mean).div_(std)
        return (x if self.channels == "RGB" else x.flip(1)).contiguous()

    def prepared(self, colour: Sequence[float]) -> tuple[float, float, float]:
        """What `prepare` makes of one colour, of RGB in [0, 1]."""
        red, green, blue = ((c - mean) / std for c, mean, std in zip(colour, self.mean, self.std, strict=True))
        return (red, green, blue) if self.channels == "RGB" else (blue, green, red)

    def logits(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n"]:
        """The model's outputs, with gradients as the caller's context has them.

        Raises:
            ClassifierError: the model fails on ``x`` or answers with something else than finite ``(b, n)``.
            NoMemoryError: memory does not hold the pass; fewer photographs may fit.
        """
        with memory_errors(len(x), tuple(x.shape[2:])):
            try:
                with evaluating(self.model):
                    logits = self.model(x)
            except (RuntimeError, ValueError, AssertionError, TypeError, AttributeError, LookupError) as error:
                if out_of_memory(error):
                    raise
                reason = one_line(error)
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
        arguments.check_limits(threshold, top_k)
        scores, indices = self.probabilities(logits).topk(min(top_k, len(self.labels)))
        return [
            tuple(Detection(self.labels[i], (i,), s) for s, i in zip(ss, ii, strict=True) if s >= threshold)
            for ss, ii in zip(scores.tolist(), indices.tolist(), strict=True)
        ]

    def detect(
        self, photographs: Photographs, threshold: float | None = None, top_k: int | None = None
    ) -> list[tuple[Detection, ...]]:
        """What the network alone sees in each photograph, at the classifier's size. No gradient is computed.

        `gradcut.saliency.presence.detect` counts in what a head's weights for places say, as recipes that look at
        several sizes do.
        """
        with torch.inference_mode():
            return self.decide(self.logits(self.prepare(photographs)), threshold, top_k)

    def index(self, label: str) -> int:
        """The output of that name; where two names differ in case only, the case counts.

        Raises:
            ClassifierError: unknown; the message lists the nearest labels.
        """
        if not isinstance(label, str):
            raise ClassifierError(f"label: expected a string, got {label!r}")
        return vocabularies.position(label, self.labels, self.name)

    def find(self, label: str) -> tuple[int, ...]:
        """The outputs that mean a label: the one of that name, or a group. ``dog`` is 118 of ImageNet's classes.

        A group is the label's namesake in COCO or Pascal VOC, or else the classes of its kind, as
        `gradcut.labels.group` has them.

        Raises:
            ClassifierError: as for `index`.
        """
        members = vocabularies.group(label, self.labels) if isinstance(label, str) else ()
        return members or (self.index(label),)

    def score(self, probabilities: Float[Tensor, " n"], members: tuple[int, ...]) -> float:
        """The probability of any of some classes: their sum under a softmax, else 1 - prod (1 - p)."""
        chosen = probabilities[list(members)].cpu().double()  # not every device has float64
        return float(1 - (1 - chosen).prod()) if self.multilabel else min(1.0, float(chosen.sum()))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what decides the probabilities: network, weights, labels, preparation; in hexadecimal digits."""
        return str(self.record()["sha256"])

    def record(self) -> dict[str, Any]:
        """What a result depends on of the classifier, as JSON values, with its name for people.

        ``sha256`` is over all the rest but the name. ``threshold`` and ``top_k`` are not among it: who detects with
        them records what was detected.
        """
        # Networks of the same weights may differ, in an activation for one.
        kinds = [type(module).__qualname__ for module in self.model.modules()]
        document = {
            "network": f"{kinds[0]} {_sha256(kinds)[:12]}", "weights": weights_sha256(self.model),
            "labels": _sha256(self.labels), "size": list(self.size), "mean": list(self.mean), "std": list(self.std),
            "multilabel": self.multilabel,
        }  # fmt: skip
        if self.dtype != torch.float32:
            document["dtype"] = str(self.dtype).removeprefix("torch.")
        if self.channels != "RGB":  # named where it matters only, so that other classifiers' records stay theirs
            document["channels"] = self.channels
        if (words := words_of(self.model)) is not None:
            document["words"] = words.record()
        return {"name": self.name, **document, "sha256": _sha256(document)}


class NoMemoryError(ClassifierError, torch.OutOfMemoryError):
    """Memory does not hold so many photographs at once; fewer may fit."""


#: What PyTorch says of memory that it could not get, where its error has no type of its own.
_NO_MEMORY = re.compile("out of memory|not enough memory|can't allocate memory|alloc_failed", re.IGNORECASE)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, whichever device or library says it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None


@contextmanager
def memory_errors(number: int, size: tuple[int, ...]) -> Iterator[None]:
    """Turn whatever says in the block that memory ran out into one line about so many photographs of that size.

    Raises:
        NoMemoryError: in the place of such an error.
    """
    try:
        yield
    except NoMemoryError:
        raise
    except Exception as error:
        if not out_of_memory(error):
            raise
        photographs = f"{number} photograph{'' if number == 1 else 's'} of {' x '.join(map(str, size))}"
        raise NoMemoryError(f"memory: there is not enough for {photographs} at once: {one_line(error)}") from error


def _sha256(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, ensure_ascii=False).encode()).hexdigest()


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
