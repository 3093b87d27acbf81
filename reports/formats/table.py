"""What a table is printed in. A table is a frame of plain text, with three or four attributes.

``attrs`` holds `title` and `caption`, plain text; `notes`, a list of (mark, text), the footnotes,
whose marks stand at the ends of cells; `bold`, where there is some: a set of (row, column name)
of cells that are to stand out, a row by its position; and `command`, where it is known: what made
the table. Markdown is here, LaTeX in latex.py, HTML in html.py.
"""

from typing import NamedTuple

import pandas as pd

NONE = "–"
LETTERS = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ"
DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
GROUP_HEAD = "measured"  # heads a column that gives its group the name


class Head(NamedTuple):
    """How a column is headed in two lines."""

    name: str  # of the column
    group: str  # above it and its neighbours; nothing above a column of its own
    head: str


def marked(texts: list[str], marks: dict[str, str]) -> str:
    """The letters of these footnotes; a new one gets the next letter."""
    for text in texts:
        number = len(marks)
        later = "⁽" + "".join(DIGITS[int(digit)] for digit in str(number + 1)) + "⁾"
        marks.setdefault(text, LETTERS[number] if number < len(LETTERS) else later)
    return "".join(mark for text, mark in marks.items() if text in texts)


def shown(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """The columns that say something, and how each is headed: by what stands after its comma."""
    names = [name for name in table.columns if (table[name] != NONE).any()]
    return names, [name.rpartition(", ")[2] for name in names]


def heads(table: pd.DataFrame) -> list[Head]:
    """The columns that say something; what stands before the comma of a name is its group."""
    names, _ = shown(table)
    groups = {group for group, comma, _ in (name.rpartition(", ") for name in names) if comma}
    found = []
    for name in names:
        group, _, head = name.rpartition(", ")
        found.append(Head(name, name, GROUP_HEAD) if name in groups else Head(name, group, head))
    return found
