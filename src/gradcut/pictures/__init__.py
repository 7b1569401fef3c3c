"""Drawing: what a person looks at. Arrays in, pictures (``UInt8 "rows columns 3"``) out."""

from gradcut.pictures.comparison import Heading, Panel, comparison
from gradcut.pictures.drawing import (
    Picture,
    class_colours,
    cut_out,
    draw_seeds,
    glow,
    heat,
    inferno,
    outline,
    overlay,
    palette,
    stretch,
)
from gradcut.pictures.mattes import edge_of, soft_cut_out
from gradcut.pictures.table import HIGHEST, WIDEST, Row, sheet, strip

__all__ = [
    "HIGHEST",
    "WIDEST",
    "Heading",
    "Panel",
    "Picture",
    "Row",
    "class_colours",
    "comparison",
    "cut_out",
    "draw_seeds",
    "edge_of",
    "glow",
    "heat",
    "inferno",
    "outline",
    "overlay",
    "palette",
    "sheet",
    "soft_cut_out",
    "stretch",
    "strip",
]
