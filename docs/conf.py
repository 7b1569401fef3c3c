"""How the documentation's site is made of these pages and of the program's own docstrings: `make docs`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import gradcut

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "gradcut"
author = "The gradcut authors"
copyright = "the gradcut authors, Apache-2.0"
release = version = gradcut.__version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml", "program"]
exclude_patterns = ["extensions", "static"]

# The pages are Markdown as GitHub shows it too; what only the site has stands between colons.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

# In docstrings one backtick names something of gradcut, two are code.
default_role = "py:obj"
autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 110
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False
toc_object_entries_show_parents = "hide"

# The whole site is its own files: no fonts, scripts or pictures of other hosts, so that it can be read from a folder.
html_theme = "furo"
html_title = f"gradcut {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

#: A name between single backticks, and letters that follow it.
_NAME = re.compile(r"(?<![`:\w])`([A-Za-z_][\w.]*)(?:\(\))?`(?![`_])(\w?)")


def _linked(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Make links of the names between single backticks in a docstring; one that no page describes stays code.

    What begins with a capital or has a point in it is looked for everywhere, another name where it is written.
    """

    def link(found: re.Match[str]) -> str:
        everywhere = "." if "." in found[1] or found[1][0].isupper() else ""
        return f":py:obj:`{everywhere}{found[1]}`" + (f"\\ {found[2]}" if found[2] else "")

    lines[:] = [_NAME.sub(link, line) for line in lines]


def setup(app: object) -> None:
    app.connect("autodoc-process-docstring", _linked, priority=900)  # type: ignore[attr-defined]  # after napoleon
