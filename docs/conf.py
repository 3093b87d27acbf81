"""How Sphinx builds these pages; `make docs` calls it."""

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code beside these pages

project = "The meta-learning zoo"
html_title = project
html_theme = "furo"
html_copy_source = False
html_show_copyright = False
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["plugins"]
nb_execution_mode = "off"  # the tutorial's outputs are committed, and a test holds them
myst_heading_anchors = 4
default_role = "py:obj"  # `zoo.adapt` in a docstring is a link where that is on the page
add_module_names = False
autoclass_content = "both"  # what a class is, and what its constructor takes
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_use_rtype = False


MADE_BY_PYTHON = re.compile(r"(Create new instance of|Alias for field number) ")


def plain_docstring(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Take a docstring as plain text: (n, *image) and **settings are no emphasis to Sphinx.

    What a NamedTuple says of itself without having been asked is left out.
    """
    kept = [line for line in lines if not MADE_BY_PYTHON.match(line)]
    lines[:] = [re.sub(r"(?<!\\)\*", r"\\*", line) for line in kept]


def keep_intervals_together(app: Any, doctree: nodes.document) -> None:
    """No line ends inside 97.01 ± 0.12, however narrow a table's column is."""
    for text in list(doctree.findall(nodes.Text)):
        if " ± " in text:
            text.parent.replace(text, nodes.Text(text.replace(" ± ", "\u00a0±\u00a0")))


def setup(app: Any) -> None:
    """Connect to Sphinx: docstrings before napoleon takes them apart."""
    app.connect("autodoc-process-docstring", plain_docstring, priority=100)
    app.connect("doctree-read", keep_intervals_together)
