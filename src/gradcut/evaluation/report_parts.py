"""What the pages of scores, and of audits, are built of."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any

from PIL import Image

from gradcut.pictures import Picture


def mark(name: str, x: float, y: float) -> str:
    """A dot; the baselines share a colour, so the whole photograph is a ring and the box a square."""
    if name == "box":
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    kind = ' class="ring"' if name == "whole" else ""
    return f'<circle{kind} cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'


def cell(figure: Mapping[str, Any] | None, best: bool = False, sign: str = "") -> str:
    """A figure in a table, with its interval."""
    if not figure or figure["value"] is None:
        return '<td class="n" data-v="">&ndash;</td>'
    value, interval = figure["value"], figure["interval"]
    between = f"<small>{interval[0]:{sign}.3f} to {interval[1]:{sign}.3f}</small>" if interval else ""
    shown = f"<b>{value:{sign}.3f}</b>" if best else f"{value:{sign}.3f}"
    return f'<td class="n" data-v="{value:.6f}">{shown}{between}</td>'


def row_name(name: str, colours: Mapping[str, str]) -> str:
    """A recipe's name at the head of a row, in its colour."""
    return f'<th scope="row"><i style="background:{colours[name]}"></i>{escape(name)}</th>'


def panel(caption: str, picture: Picture, about: str) -> str:
    """A picture with a caption; ``about`` is said where the picture cannot be seen."""
    about = escape(f"{caption}: {about}")
    height, width = picture.shape[:2]
    return (
        f'<figure><img loading="lazy" width="{width}" height="{height}" alt="{about}" src="{data_uri(picture)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def data_uri(picture: Picture, quality: int = 72) -> str:
    """The picture as a JPEG inside the page."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def resource(*names: str) -> str:
    """The text of a file of the package, by its path below it."""
    return resources.files("gradcut").joinpath(*names).read_text(encoding="utf-8")


def filled(template: str, parts: Mapping[str, str]) -> str:
    """A template with every ``<!--key-->`` replaced."""
    for key, value in parts.items():
        template = template.replace(f"<!--{key}-->", value)
    return template
