"""Tables and figures as one HTML page that needs no other file, no network and no script."""

import base64
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from zoo.reports.formats.table import (
    NONE,
    Footnote,
    Table,
    assigned_marks,
    lettered_notes,
    rows_in_blocks,
    without_empty_columns,
)

IMAGE_TYPES = {  # first bytes of a file -> its media type
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"<?xml": "image/svg+xml",
    b"<svg": "image/svg+xml",
}


class Card(NamedTuple):
    """A small picture with lines of text below it."""

    picture: bytes  # PNG or JPEG
    lines: Sequence[str]  # the first is printed bold
    kind: str = ""  # "right", "wrong" or "unsure": how the card is marked


class Gallery(NamedTuple):
    """Small pictures side by side."""

    title: str
    cards: Sequence[Card]


def to_html(
    tables: Sequence[Table],
    figures: Sequence[tuple[str, bytes]] = (),
    galleries: Sequence[Gallery] = (),
) -> str:
    """A whole page: the tables with their footnotes, then the galleries, then the figures.

    A page with galleries is long: below the first table are links to what follows. The page itself
    is the template page.html, beside this file.

    Args:
        tables: the title of the first is the title of the page.
        figures: caption and PNG, JPEG or SVG of each.
        galleries: of small pictures.

    Raises:
        ValueError: a figure is none of these.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["one_line"] = _one_line
    environment.filters["data_url"] = _data_url
    return environment.get_template("page.html").render(
        title=tables[0].title if tables else "Figures",
        tables=[_table_for_page(table) for table in tables],
        galleries=galleries,
        figures=[_figure_for_page(caption, content) for caption, content in figures],
    )


def _table_for_page(table: Table) -> dict[str, Any]:
    """What page.html says of a table."""
    table = without_empty_columns(table)
    notes = assigned_marks(table)
    marked: set[str] = set()  # letters that occurred in a cell so far
    rows = []
    for heading, cells in rows_in_blocks(table):
        cells_for_page = []
        for number, cell in enumerate(cells):
            marks = []
            signs = [note for note in notes if cell.sign and note.mark == cell.sign]
            for note in signs + lettered_notes(cell, notes):
                letter = _letter(note)
                marks.append({"letter": letter, "is_first": letter not in marked})
                marked.add(letter)
            text = _one_line(cell.text)
            # Words may be broken into lines after a comma, a number with its interval may not.
            is_words = number == 0 or text[0].isalpha()
            parts = text.split(",") if is_words else [text]
            cells_for_page.append(
                {"parts": parts, "is_words": is_words, "bold": cell.bold, "marks": marks}
            )
        rows.append((heading, cells_for_page))
    groups = [
        (group, [column.lower_head for column in columns])
        for group, columns in groupby(table.columns, key=lambda column: column.group)
    ]
    return {
        "title": table.title,
        "caption": table.caption,
        "command": table.command,
        "groups": groups,  # (heading of a group or "", headings of its columns)
        "has_groups": any(group for group, _ in groups),
        "rows": rows,
        "notes": [
            {"letter": _letter(note), "text": note.text, "is_marked": _letter(note) in marked}
            for note in notes
        ],
    }


def _figure_for_page(caption: str, content: bytes) -> dict[str, str]:
    try:
        return {"caption": caption, "url": _data_url(content)}
    except ValueError as error:
        raise ValueError(f"figure {caption!r}: {error}") from None


def _letter(note: Footnote) -> str:
    return note.letter.strip("()")


def _one_line(text: str) -> str:
    return " ".join(text.split()) or NONE


def _data_url(content: bytes) -> str:
    """A picture as a data URL.

    Raises:
        ValueError: it is no PNG, JPEG or SVG.
    """
    for start, media_type in IMAGE_TYPES.items():
        if content.startswith(start):
            return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
    raise ValueError(f"expected PNG, JPEG or SVG, not {content[:8]!r}")
