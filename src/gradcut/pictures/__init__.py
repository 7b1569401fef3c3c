"""Drawing: what a person looks at. Arrays in, pictures (``UInt8 "rows columns 3"``) out."""

from gradcut.pictures.drawing import (
    Picture,
    class_colours,
    cut_out,
    draw_seeds,
    heat,
    inferno,
    outline,
    overlay,
    palette,
    stretch,
)
from gradcut.pictures.table import HIGHEST, WIDEST, Row, sheet, strip

__all__ = [
    "HIGHEST",
    "WIDEST",
    "Picture",
    "Row",
    "class_colours",
    "cut_out",
    "draw_seeds",
    "heat",
    "inferno",
    "outline",
    "overlay",
    "palette",
    "sheet",
    "stretch",
    "strip",
]
