"""What kind of network a classifier has, told by a look into forward passes, and the saliency that suits each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gradcut.classifiers.backbones import Backbone
from gradcut.classifiers.classifier import Classifier, NoMemoryError
from gradcut.classifiers.heads import places_of
from gradcut.errors import ClassifierError, SaliencyError
from gradcut.known import Known
from gradcut.network.layers import pass_from_maps
from gradcut.network.layouts import MapCall
from gradcut.network.passes import Wanted
from gradcut.network.view import View
from gradcut.saliency.attentions import between_places
from gradcut.saliency.cams import linear_head
from gradcut.saliency.gradcams import GradCAM, HiResCAM
from gradcut.saliency.method import Method, scales_of
from gradcut.saliency.scales import MultiScale
from gradcut.saliency.targets import Saliency
from gradcut.saliency.walks import Attention, Rivals, Walk

#: What the head of a network reads.
Reads = Literal["places", "mean", "map", "tokens", "class token"]


@dataclass(frozen=True)
class Kind:
    """What matters of a network to the choice of a saliency method.

    Args:
        reads: what the logits are made of, a row of `SUITED`.
        attention: whether there is a layer in which all the places attend to all; asked of tokens only.
        moves: whether it does more than convolve, pool and the like, so that another size may be another matter.
    """

    reads: Reads
    attention: bool = False
    moves: bool = False

    def __str__(self) -> str:
        return SUITED[self.reads].head


class Suited(NamedTuple):
    """A row of `SUITED`: what the head reads, in words; what makes the maps; the largest sizes that are worth it."""

    head: str
    maps: type[GradCAM] | None
    scales: tuple[float, ...]


#: By what the head reads. Where that is the mean, the recipe's own method suits. Tokens have positions that were learnt
#: at one size: photographs of more than twice that are unlike any that the network knows.
SUITED: Mapping[Reads, Suited] = {
    "places": Suited("the head has weights for places of the last map", None, (1.0, 5 / 3, 8 / 3)),
    "mean": Suited("the head is linear on the mean of the last map", None, (1.0, 5 / 3, 8 / 3)),
    "map": Suited("the head does more to the last map than a linear layer on its mean", HiResCAM, (1.0, 5 / 3, 8 / 3)),
    "tokens": Suited("the head reads the tokens of all places", HiResCAM, (1.0, 5 / 3)),
    "class token": Suited("the head reads a class token", GradCAM, (1.0, 5 / 3)),
}

#: For the size and number type of the photographs.
_KINDS: Known[Kind] = Known()
_FITS: Known[bool] = Known()


def kind_of(classifier: Classifier) -> Kind | None:
    """The kind of a classifier's network, at its size of photograph; None where that cannot be told.

    It looks into forward passes of noise, once for a model and a size. That is the case where the network has no map of
    more than one place, cannot be followed, or fails: whoever explains it says why.

    Raises:
        NoMemoryError: memory does not hold a pass.
    """
    placed = places_of(classifier.model) is not None
    if placed and not isinstance(classifier.model, Backbone):
        return Kind("places")
    kind = _looked(View(classifier, _noise(classifier, classifier.size)))
    return Kind("places", moves=kind.moves) if placed and kind is not None else kind


def suited(method: Saliency, classifier: Classifier) -> Saliency:
    """What to ask a classifier in the place of a method that needs a linear layer on the mean of the last map.

    The method itself, where that is so; else what `SUITED` has, at several sizes if the method looks at such. At the
    classifier's own size alone, if it takes no other.

    Raises:
        NoMemoryError: memory does not hold a pass.
    """
    kind = kind_of(classifier)
    if kind is None:
        return HiResCAM()
    _, maps, scales = SUITED[kind.reads]
    if maps is not None:
        inner: Method = maps()
        if len(scales_of(method)) > 1:
            inner = MultiScale(inner, scales, flip=False)
        method = Walk(Rivals(inner), Attention()) if kind.attention else Walk(Rivals(inner), steps=(8, 4))
    elif kind.reads == "places" and kind.moves:
        method = _up_to(method, max(SUITED["tokens"].scales))
    return method if _takes_all(method, classifier, kind) else at_one_size(method)


def at_one_size(method: Saliency) -> Saliency:
    """The method without a `MultiScale` in it: each leaves its place to its own method, and walks go at that size."""
    if isinstance(method, MultiScale):
        return at_one_size(method.method)
    if isinstance(method, Walk):
        method = replace(method, scale=None)
    return method.changed(at_one_size) if isinstance(method, Method) else method


def _up_to(method: Saliency, largest: float) -> Saliency:
    """The method without the sizes above that one."""
    if isinstance(method, MultiScale):
        return replace(method, scales=tuple(scale for scale in method.scales if scale <= largest))
    return method.changed(lambda inner: _up_to(inner, largest)) if isinstance(method, Method) else method


def _takes_all(method: Saliency, classifier: Classifier, kind: Kind) -> bool:
    """Whether the network takes photographs of all the sizes that a method looks at, and has its maps there too."""
    others = [scale for scale in scales_of(method) if scale != 1]
    if others and not kind.moves:
        # It takes every size or one: a small photograph tells it soonest.
        return _fits(classifier, classifier.at(_half(classifier.size)).size, None)
    return all(_fits(classifier, classifier.scaled(scale), kind) for scale in others)


def _half(size: tuple[int, int]) -> tuple[int, int]:
    return max(1, size[0] // 2), max(1, size[1] // 2)


def _fits(classifier: Classifier, size: tuple[int, int], kind: Kind | None) -> bool:
    """Whether a network takes photographs of a size, and is of that kind there, if one is given."""
    key = (size, classifier.dtype, kind)
    known = _FITS.get(classifier.model, key)
    if known is None:
        x = _noise(classifier, size)
        if kind is not None:
            known = _looked(View(classifier, x)) == kind
        else:
            try:
                with torch.inference_mode():
                    classifier.logits(x[:1])
                known = True
            except NoMemoryError:
                raise
            except ClassifierError:
                known = False
        _FITS.put(classifier.model, key, known)
    return known


def _noise(classifier: Classifier, size: tuple[int, int]) -> Tensor:
    noise = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    return noise.to(classifier.device, classifier.dtype)


def _looked(view: View) -> Kind | None:
    classifier = view.classifier
    key = (tuple(view.x.shape[2:]), view.x.dtype)
    kind = _KINDS.get(classifier.model, key)
    if kind is None:
        kind = _look(view)
        if kind is not None:
            _KINDS.put(classifier.model, key, kind)
    return kind


def _look(view: View) -> Kind | None:
    """The kind, from passes of two photographs; of one, where that is enough."""
    classifier = view.classifier
    one = View(classifier, view.x[:1])
    one.share()
    with torch.no_grad():
        try:
            linear_head(one, "")
            return Kind("mean", moves=one.watch(Wanted(levels=1)).seen.doubtful)
        except NoMemoryError:
            raise
        except ClassifierError:
            return None
        except SaliencyError:
            pass  # another kind, or none
    last: list[MapCall] = []

    def note(place: MapCall, result: Tensor | None, frame: object) -> None:
        if place.candidate and result is not None:
            last[:] = [place]

    try:
        with torch.inference_mode(False), torch.enable_grad():
            _, (read,) = pass_from_maps(view, 1)
        with torch.no_grad():
            made = view.watch(Wanted(levels=1, on_map=note))
    except NoMemoryError:
        raise
    except (ClassifierError, SaliencyError):
        return None
    moves = made.seen.doubtful
    if read.layout.kind != "tokens":
        return Kind("map", moves=moves)
    # Where a token apart from the places is read, it does not depend on what the last layers make of these.
    return Kind("tokens" if last == [read] else "class token", _attends(view), moves)


def _attends(view: View) -> bool:
    """Whether there is a layer in which all the places attend to all."""
    try:
        with torch.no_grad():
            made = view.watch(Wanted(attention=True))
        between_places(view.classifier, made.attention, len(view.x), "")
    except NoMemoryError:
        raise
    except (ClassifierError, SaliencyError):
        return False
    return True
