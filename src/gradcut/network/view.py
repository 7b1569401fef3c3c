"""Photographs as several methods look at them together, so that what one sees need not be computed for another."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gradcut.classifiers.classifier import Classifier
from gradcut.network.attention import Attended
from gradcut.network.passes import Pass, Wanted, watched


class Kept(NamedTuple):
    """What was kept of a forward pass, without its graph: maps, as in `ForwardPass.maps`, and attention."""

    maps: tuple[Float[Tensor, "b _ _ _"], ...]
    attention: tuple[Attended, ...]


class View:
    """A classifier and photographs at one size.

    A method makes its forward passes with `watch`. One that needs what is inside a pass says so beforehand with
    `keep`, lets another method look, and then asks for `kept`: that comes from the first pass that was made of
    this view, whoever made it.

    Args:
        classifier: whose passes are watched.
        x: photographs as `Classifier.prepare` makes them.
    """

    def __init__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"]) -> None:
        self.classifier = classifier
        self.x = x
        self._levels = 0
        self._attention = False
        self._kept: Kept | None = None
        self._made_of_kept: dict[Hashable, Any] = {}
        self._shared = False
        self._plain: tuple[int, Pass] | None = None  # of how many levels, and the pass
        # Who looks at a size holds on to its view.
        self._others: WeakValueDictionary[tuple[int, int], View] = WeakValueDictionary()

    def at(self, scale: float) -> View:
        """The same photographs at ``scale`` times the classifier's own size; bilinear, antialiased.

        Whoever asks for that size gets the same view, as long as someone has it.
        """
        shape = self.classifier.scaled(scale)
        if shape == tuple(self.x.shape[2:]):
            return self
        view = self._others.get(shape)
        if view is None:
            wide = self.x.to(torch.promote_types(self.x.dtype, torch.float32))  # not every type has a kernel for it
            x = F.interpolate(wide, shape, mode="bilinear", align_corners=False, antialias=True).to(self.x.dtype)
            view = self._others[shape] = View(self.classifier, x)
        return view

    def mirrored(self) -> View:
        """A view of the mirror images, left to right."""
        return View(self.classifier, self.x.flip(3))

    def keep(self, levels: int = 0, attention: bool = False) -> None:
        """Of the next pass, keep the last maps of so many resolutions, and the attention, unless they are there."""
        if levels > self._levels or attention > self._attention:
            self._levels, self._attention = max(self._levels, levels), self._attention or attention
            self._kept = None
            self._made_of_kept.clear()

    def share(self) -> None:
        """Keep the next pass that is watched for maps alone, without gradients, for all who ask for one."""
        self._shared = True

    def watch(self, wanted: Wanted | None = None) -> Pass:
        """A forward pass, as `gradcut.network.passes.watched` makes it."""
        wanted = wanted or Wanted()
        plain = self._shared and wanted == Wanted(levels=wanted.levels) and not torch.is_grad_enabled()
        keeping = self._kept is None and bool(self._levels or self._attention)
        if plain and not keeping and self._plain is not None and wanted.levels <= self._plain[0]:
            return self._plain[1]
        if keeping:
            levels, attention = max(wanted.levels, self._levels), wanted.attention or self._attention
            wanted = replace(wanted, levels=levels, attention=attention)
        made = watched(self.classifier, self.x, wanted)
        if keeping:
            attended = (layer._replace(weights=layer.weights.detach()) for layer in made.attention)
            self._kept = Kept(tuple(level.detach() for level in made.seen.maps), tuple(attended))
        if plain:
            self._plain = wanted.levels, made
        return made

    @property
    def kept(self) -> Kept:
        """What was to be kept of the first pass since; where none was made, of one of its own."""
        if self._kept is None:
            with torch.no_grad():
                self.watch()
        assert self._kept is not None
        return self._kept

    def made_of_kept(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make`` makes of what was kept: once, for all who ask for it by the same key."""
        if key not in self._made_of_kept:
            self._made_of_kept[key] = make()
        return self._made_of_kept[key]
