"""Formulas as MathML, which browsers draw themselves: no script, no font, no picture."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_markup(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{_markup(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def _markup(formula: str, display: str) -> str:
    """Bars as high as letters, though browsers would stretch them, and an overline as wide as what is below it."""
    bars = convert(formula, display=display).replace("<mo>&#x0007C;</mo>", '<mo stretchy="false">&#x0007C;</mo>')
    return bars.replace('<mo accent="true">&#x02015;</mo>', '<mo stretchy="true">&#x000AF;</mo>')


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
