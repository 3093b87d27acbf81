"""A table as Markdown."""

import re

import pandas as pd
from tabulate import tabulate

from zoo.reports.formats.table import shown


def to_markdown(table: pd.DataFrame) -> str:
    """Title, caption, table and footnotes; columns that say nothing are left out."""
    parts = [f"**{_escaped(table.attrs['title'])}**: {_escaped(table.attrs['caption'])}"]
    if len(table):
        names, titles = shown(table)
        bold = table.attrs.get("bold", set())
        cells = [
            [
                f"**{_escaped(line[name])}**" if (row, name) in bold else _escaped(line[name])
                for name in names
            ]
            for row, line in enumerate(table.to_dict("records"))
        ]
        parts.append(tabulate(cells, titles, tablefmt="github", disable_numparse=True))
    if table.attrs["notes"]:
        lines = [f"- {mark} {_escaped(text)}" for mark, text in table.attrs["notes"]]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    """One line that Markdown leaves as it is."""
    return re.sub(r"\||<(?=[A-Za-z/!?])", r"\\\g<0>", " ".join(text.split()))
