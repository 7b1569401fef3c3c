"""From seeds, saliency and photograph to masks: every mask maker, in one place.

A mask maker is called as ``maker(photograph, saliency, seeds)`` with the maps and seeds of all the classes of one
photograph, at the maps' size, and returns ``Bool "n H W"`` at the photograph's size. The cuts and the random walker
take seeds as hard, so that a user's strokes are seeds like any other; `Threshold`, `Otsu`, `Superpixels` and
`Expansion` look at the saliency alone. `Vote`, `Cleaned` and `Outlined` are made of other makers. A `Contrast` says
how firmly neighbouring pixels hold together in a cut.
"""

from gradcut.errors import MaskError
from gradcut.masks.combined import Cleaned, Vote
from gradcut.masks.contrasts import Contrast, EdgeMap, Edges, Exponential, Inverse
from gradcut.masks.cuts import ColourCut, GraphCut, JointCut, RandomWalker
from gradcut.masks.makers import MaskMaker
from gradcut.masks.outlines import Outlined
from gradcut.masks.thresholds import Expansion, Otsu, Superpixels, Threshold

__all__ = [
    "Cleaned",
    "ColourCut",
    "Contrast",
    "EdgeMap",
    "Edges",
    "Expansion",
    "Exponential",
    "GraphCut",
    "Inverse",
    "JointCut",
    "MaskError",
    "MaskMaker",
    "Otsu",
    "Outlined",
    "RandomWalker",
    "Superpixels",
    "Threshold",
    "Vote",
]
