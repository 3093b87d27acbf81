"""A table as Markdown."""

import re

from tabulate import tabulate

from zoo.reports.formats.table import (
    Cell,
    Footnote,
    Table,
    assigned_marks,
    marked_text,
    rows_in_blocks,
    without_empty_columns,
)

# Characters that Markdown would not print as they are. An underscore inside a word it does print,
# and a lone <, [ or ~.
SPECIAL = re.compile(r"[\\`*$|]|<(?=[A-Za-z/!?])|\](?=\()|~(?=~)|(?<![^\W_])_|_(?![^\W_])")


def to_markdown(table: Table) -> str:
    """Title, caption, table and footnotes; empty columns are left out."""
    table, notes = without_empty_columns(table), assigned_marks(table)
    parts = [f"**{_escaped(table.title)}**: {_escaped(table.caption)}"]
    if table.rows:
        cells = []
        for heading, row in rows_in_blocks(table):
            if heading:
                cells.append([f"*{_escaped(heading)}*"] + [""] * (len(row) - 1))
            cells.append([_cell(cell, notes) for cell in row])
        names = [_escaped(column.name) for column in table.columns]
        parts.append(tabulate(cells, names, tablefmt="github", disable_numparse=True))
    if notes:
        parts.append("\n".join(f"- {note.mark} {_escaped(note.text)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _cell(cell: Cell, notes: list[Footnote]) -> str:
    text = _escaped(marked_text(cell, notes))
    return f"**{text}**" if cell.bold else text


def code_span(text: str) -> str:
    """The text as code."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _escaped(text: str) -> str:
    """One line that Markdown leaves as it is: no table, code, emphasis, link, tag or formula."""
    return SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
