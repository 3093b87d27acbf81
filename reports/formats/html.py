"""Tables and figures as one HTML page that needs no other file, no network and no script."""

import base64
from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

from zoo.reports.formats.table import (
    NONE,
    Cell,
    Footnote,
    Table,
    assigned_marks,
    lettered_notes,
    rows_in_blocks,
    without_empty_columns,
)

STYLE = """\
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --line: #bbb; --soft: #555;
  --link: #0b57a4 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #17191c; --line: #555; --soft: #aaa; --link: #8ab8f0 } }
body { font: 1rem/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 70rem; margin: 0 auto; padding: 1rem }
h1, h2 { font-size: 1.25rem; line-height: 1.3 }
section, figure { margin: 0 0 3rem }
a { color: var(--link); text-decoration: none }
.wide { overflow-x: auto }
table { border-spacing: 0; border-block: 2px solid var(--ink); font-size: .9rem;
  font-variant-numeric: tabular-nums }
th, td { padding: .3em .8em; text-align: left; white-space: nowrap }
th { font-weight: normal }
th[scope=colgroup] { text-align: center; background:
  linear-gradient(var(--line), var(--line)) bottom / calc(100% - 1.6em) 1px no-repeat }
thead tr:last-child th, thead th[rowspan] { border-bottom: 1px solid var(--ink);
  vertical-align: bottom }
tbody th, thead tr:first-child th:first-child { position: sticky; left: 0;
  background: var(--paper); border-right: 1px solid var(--line) }
tbody th { white-space: normal; min-width: 8rem; overflow-wrap: break-word }
thead th, td.words { white-space: normal; min-width: 5.5em; overflow-wrap: break-word }
tbody tr.block th { font-style: italic; padding-top: .8em; border-right: 0 }
tbody tr:hover > * { background: color-mix(in srgb, var(--ink) 8%, var(--paper)) }
sup { line-height: 0 }
sup a + a { margin-left: .1em }
.notes { list-style: none; padding: 0; font-size: .85rem; color: var(--soft) }
.notes :target, td :target, th :target { outline: 2px solid var(--link) }
img { width: 34rem; max-width: 100%; height: auto; background: #fff }
nav { margin: -2rem 0 3rem }
nav ul { padding-left: 1.2rem; margin: 0 }
code { overflow-wrap: anywhere }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .8rem }
.card { display: flex; flex-direction: column; font-size: .8rem; line-height: 1.35;
  padding: .4rem; border: 1px solid var(--line); border-left-width: 4px; border-radius: 4px;
  overflow-wrap: anywhere }
.card img { width: 100%; aspect-ratio: 1; object-fit: contain; margin-bottom: .3rem }
.card.right { border-left-color: #009e73 }
.card.wrong { border-left-color: #d55e00 }
.card.unsure { border-left-style: dashed }
@media print {
  :root { --ink: #000; --paper: #fff; --line: #999; --soft: #000; --link: #000 }
  body { max-width: none; padding: 0; font-size: 9pt }
  table { font-size: 7.5pt }
  th, td { padding: .2em .4em; white-space: normal }
  .wide { overflow: visible }
  tbody th, thead tr:first-child th:first-child { position: static; min-width: 0 }
  tr, figure { break-inside: avoid }
  .back { display: none } }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
IMAGE_TYPES = {  # first bytes of a file -> its media type
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"<?xml": "image/svg+xml",
    b"<svg": "image/svg+xml",
}


def to_html(
    tables: Sequence[Table],
    figures: Sequence[tuple[str, bytes]] = (),
    galleries: Sequence["Gallery"] = (),
) -> str:
    """A whole page: the tables with their footnotes, then the galleries, then the figures.

    A page with galleries is long: below the first table are links to what follows.

    Args:
        tables: the title of the first is the title of the page.
        figures: caption and PNG, JPEG or SVG of each.
        galleries: of small pictures.

    Raises:
        ValueError: a figure is none of these.
    """
    title = escape(tables[0].title) if tables else "Figures"
    sections = [_section(table, number) for number, table in enumerate(tables, 1)]
    if galleries:
        sections.insert(1, _links_to(tables, galleries, figures))
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>{title}</title>",
            f"<style>\n{STYLE}</style>",
            "</head>",
            "<body>",
            *sections,
            *(_gallery(gallery, number) for number, gallery in enumerate(galleries, 1)),
            *(_figure(*figure, number) for number, figure in enumerate(figures, 1)),
            "</body>",
            "</html>\n",
        ]
    )


class Card(NamedTuple):
    """A small picture with lines of text below it."""

    picture: bytes  # PNG or JPEG
    lines: Sequence[str]  # the first is printed bold
    kind: str = ""  # "right", "wrong" or "unsure": how the card is marked


class Gallery(NamedTuple):
    """Small pictures side by side."""

    title: str
    cards: Sequence[Card]


def _links_to(
    tables: Sequence[Table], galleries: Sequence[Gallery], figures: Sequence[tuple[str, bytes]]
) -> str:
    """Links to the second table, those after it, the galleries and the figures."""
    places = [(f"title-{number}", table.title) for number, table in enumerate(tables[1:], 2)]
    places += [(f"gallery-{number}", part.title) for number, part in enumerate(galleries, 1)]
    places += [("figure-1", "Figures")] if figures else []
    links = [f'<li><a href="#{place}">{_text(title)}</a></li>' for place, title in places]
    return "\n".join(["<nav><ul>", *links, "</ul></nav>"])


def _gallery(gallery: Gallery, number: int) -> str:
    """A section of cards, as many side by side as fit."""
    title = _text(gallery.title)
    lines = [f'<section>\n<h2 id="gallery-{number}">{title}</h2>', '<div class="cards">']
    for card in gallery.cards:
        first, *others = map(_text, card.lines)
        text = f"<strong>{first}</strong>" + "".join(f"<span>{line}</span>" for line in others)
        picture = f'<img src="{_data_url(card.picture)}" alt="{first}" loading="lazy">'
        lines.append(f'<div class="card {escape(card.kind)}">{picture}{text}</div>')
    return "\n".join([*lines, "</div>\n</section>"])


def _data_url(content: bytes) -> str:
    """A picture as a data URL.

    Raises:
        ValueError: it is no PNG, JPEG or SVG.
    """
    for start, media_type in IMAGE_TYPES.items():
        if content.startswith(start):
            return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
    raise ValueError(f"expected PNG, JPEG or SVG, not {content[:8]!r}")


class _Links(NamedTuple):
    """The footnotes of one table, linked: each mark to its note, the note to its first mark."""

    table: int  # number of the table in the page
    notes: list[Footnote]
    marked: set[str]  # letters that occurred in a cell so far

    def to_notes(self, cell: Cell) -> str:
        """The marks of a cell, its sign before the letters, as links to their notes."""
        notes = [note for note in self.notes if cell.sign and note.mark == cell.sign]
        notes += lettered_notes(cell, self.notes)
        return f"<sup>{''.join(map(self._to_note, notes))}</sup>" if notes else ""

    def _to_note(self, note: Footnote) -> str:
        letter = _letter(note)
        anchor = "" if letter in self.marked else f' id="from-{self.table}-{letter}"'
        self.marked.add(letter)
        return f'<a href="#note-{self.table}-{letter}"{anchor}>{letter}</a>'

    def item(self, note: Footnote) -> str:
        """A note as an item of the list below the table, with a link back to its first mark."""
        letter = _letter(note)
        name = f"{self.table}-{letter}"
        back = ""
        if letter in self.marked:
            back = f'&nbsp;<a class="back" href="#from-{name}" aria-label="back to the table">↩</a>'
        return f'<li id="note-{name}"><sup>{letter}</sup> {_text(note.text)}{back}</li>'


def _letter(note: Footnote) -> str:
    return escape(note.letter.strip("()"))


def _section(table: Table, number: int) -> str:
    """A table, its notes, and the command that made it."""
    table = without_empty_columns(table)
    links = _Links(number, assigned_marks(table), set())
    rank = "h1" if number == 1 else "h2"
    title, caption = _text(table.title), _text(table.caption)
    lines = [f'<section>\n<{rank} id="title-{number}">{title}</{rank}>']
    lines.append(f'<p id="caption-{number}">{caption}</p>')
    if table.rows:
        named = f'aria-labelledby="title-{number}"'
        lines += [
            f'<div class="wide" role="region" {named} tabindex="0">',
            f'<table {named} aria-describedby="caption-{number}">',
            *_head(table),
            *_body(table, links),
            "</table>\n</div>",
        ]
    if links.notes:
        lines += ['<ul class="notes">', *map(links.item, links.notes), "</ul>"]
    if table.command:
        lines.append(f"<p>Made by <code>{_text(table.command)}</code></p>")
    return "\n".join([*lines, "</section>"])


def _head(table: Table) -> list[str]:
    """One line of headings, or two if any columns form groups."""
    upper: list[str] = []
    lower: list[str] = []
    height = ' rowspan="2"' if any(column.group for column in table.columns) else ""
    for group, members in groupby(table.columns, key=lambda column: column.group):
        heads = [_text(column.lower_head) for column in members]
        if group:
            upper.append(f'<th scope="colgroup" colspan="{len(heads)}">{_text(group)}</th>')
            lower += [f'<th scope="col">{head}</th>' for head in heads]
        else:
            upper += [f'<th scope="col"{height}>{head}</th>' for head in heads]
    rows = [f"<tr>{''.join(row)}</tr>" for row in (upper, lower) if row]
    return ["<thead>", *rows, "</thead>"]


def _body(table: Table, links: _Links) -> list[str]:
    """The rows; the cells of the first column are their headings."""
    lines = ["<tbody>"]
    for heading, (first, *others) in rows_in_blocks(table):
        if heading:
            span = f'colspan="{len(table.columns)}" scope="rowgroup"'
            lines.append(f'<tr class="block"><th {span}>{_text(heading)}</th></tr>')
        cells = [f'<th scope="row">{_breaking(first)}{links.to_notes(first)}</th>']
        for cell in others:
            if cell.text[:1].isalpha():  # words may break into lines
                cells.append(f'<td class="words">{_breaking(cell)}{links.to_notes(cell)}</td>')
            else:  # a number with its interval may not
                number = _strong(_text(cell.text), cell)
                cells.append(f"<td>{number}{links.to_notes(cell)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return [*lines, "</tbody>"]


def _breaking(cell: Cell) -> str:
    """The text of a cell, which may break after a comma."""
    return _strong(_text(cell.text).replace(",", ",<wbr>"), cell)


def _strong(text: str, cell: Cell) -> str:
    return f"<strong>{text}</strong>" if cell.bold else text


def _figure(caption: str, content: bytes, number: int) -> str:
    """A picture with its caption, as an <img>, so that no script in an SVG runs."""
    text = _text(caption)
    try:
        image = f'<img src="{_data_url(content)}" alt="{text}">'
    except ValueError as error:
        raise ValueError(f"figure {caption!r}: {error}") from None
    return f'<figure id="figure-{number}">\n{image}\n<figcaption>{text}</figcaption>\n</figure>'


def _text(text: str) -> str:
    return escape(" ".join(text.split())) or NONE
