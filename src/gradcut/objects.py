"""A class that was found in a photograph, and its mask."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from gradcut import confidence
from gradcut.compact import CompactMask, as_compact
from gradcut.seeds import Seeds, is_constant


class _Mask:
    """The attribute ``mask`` of an `Object`: a mask of either kind in, an array out."""

    def __get__(self, item: Object, kind: type[Object]) -> Bool[np.ndarray, "H W"]:
        return item.compact.array()

    def __set__(self, item: Object, mask: Bool[np.ndarray, "H W"] | CompactMask) -> None:
        vars(item)["mask"] = as_compact(mask)


@dataclass(frozen=True, eq=False)
class Object:
    """A class that was found, and where.

    ``members`` are the classifier's outputs that the class consists of, ``score`` is its probability in [0, 1];
    ``saliency`` and ``seeds`` have the classifier's input size, ``mask`` the photograph's own. ``confidence`` is the
    IoU to expect of the mask, in [0, 1], as `gradcut.confidence.expected_iou` says, 0 where the class is `blank`, and
    None where it was fitted to no masks of this kind. ``borrowed_from`` is the surer class that most of the mask's
    pixels are those of, as `gradcut.overlaps.owners` says; None where they are the class's own. ``strokes`` is what
    `gradcut.refine` was given, at the photograph's size.

    Of a large photograph the mask is held as small as it was cut, as a `gradcut.compact.CompactMask`, and made at the
    photograph's size each time somebody asks for it and nobody has it in use; what is made so is read-only.
    """

    label: str
    members: tuple[int, ...]
    score: float
    saliency: Float[np.ndarray, "h w"] = field(repr=False)
    seeds: Seeds = field(repr=False)
    if TYPE_CHECKING:
        mask: Bool[np.ndarray, "H W"] = field(repr=False)
    else:  # what it may be made from
        mask: Bool[np.ndarray, "H W"] | CompactMask = field(repr=False)
    confidence: float | None
    borrowed_from: str | None = None
    strokes: Seeds | None = field(default=None, repr=False)

    @property
    def blank(self) -> bool:
        """Whether the saliency is the same everywhere, so that nothing says where the class is: there is no mask."""
        return is_constant(self.saliency) and not self.compact.any()

    @property
    def compact(self) -> CompactMask:
        """The mask as it is held."""
        held: CompactMask = vars(self)["mask"]
        return held

    def changed(self, **changes: Any) -> Object:
        """As `dataclasses.replace`, which would make the mask at the photograph's size."""
        return Object(**{**vars(self), **changes})

    @property
    def unsure(self) -> bool:
        """Whether the confidence is below `gradcut.confidence.UNSURE`; never so where there is none."""
        return self.confidence is not None and self.confidence < confidence.UNSURE

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return self.compact.area

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """The mask's left, top, width and height in pixels, as COCO has it; None for an empty mask."""
        return self.compact.box


# After the dataclass is made, which would take it for the mask's default.
Object.mask = _Mask()  # type: ignore[assignment]
