"""Tables and figures in one page of HTML, which needs no other file, no network and no script."""

import base64
import re
import unicodedata
from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

import pandas as pd

from zoo.reports.formats.table import NONE, heads

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
tbody tr:hover > * { background: color-mix(in srgb, var(--ink) 8%, var(--paper)) }
sup { line-height: 0 }
sup a + a { margin-left: .1em }
.notes { list-style: none; padding: 0; font-size: .85rem; color: var(--soft) }
.notes :target, td :target, th :target { outline: 2px solid var(--link) }
img { width: 34rem; max-width: 100%; height: auto; background: #fff }
code { overflow-wrap: anywhere }
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
IMAGE_KINDS = {b"\x89PNG": "image/png", b"<?xml": "image/svg+xml", b"<svg": "image/svg+xml"}


def to_html(tables: Sequence[pd.DataFrame], figures: Sequence[tuple[str, bytes]] = ()) -> str:
    """A whole page: the tables with their footnotes, then the figures.

    Args:
        tables: the first one's title is the page's.
        figures: what is said below each, and its PNG or SVG.

    Raises:
        ValueError: a figure is neither.
    """
    title = escape(tables[0].attrs["title"]) if tables else "Figures"
    sections = [_section(table, number) for number, table in enumerate(tables, 1)]
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
            *(_figure(*figure) for figure in figures),
            "</body>",
            "</html>\n",
        ]
    )


class _Marks(NamedTuple):
    """The footnotes of the table of this number: a mark leads to its note, a note back to it."""

    table: int
    letters: dict[str, str]  # what stands on the page, by the mark as it stands in a cell
    led: set[str]  # marks that a note leads back to

    def split(self, text: str) -> tuple[str, list[str]]:
        """What a cell says, and the marks at its end."""
        either = "|".join(map(re.escape, self.letters)) or "$"
        found = re.search(f"(?:{either})*$", text)
        assert found is not None  # the empty end is always there
        return text[: found.start()], re.findall(either, found[0]) if found[0] else []

    def link(self, mark: str) -> str:
        """From a cell to the note."""
        letter = self.letters[mark]
        own = "" if mark in self.led else f' id="from-{self.table}-{letter}"'
        self.led.add(mark)
        return f'<a href="#note-{self.table}-{letter}"{own}>{letter}</a>'

    def note(self, mark: str, text: str) -> str:
        """An item of the list of notes."""
        at = f"{self.table}-{self.letters[mark]}"
        back = f'&nbsp;<a class="back" href="#from-{at}" aria-label="back to the table">↩</a>'
        item = f'<li id="note-{at}"><sup>{self.letters[mark]}</sup> {_text(text)}'
        return item + (back if mark in self.led else "") + "</li>"


def _section(table: pd.DataFrame, number: int) -> str:
    """A table, its notes, and what made it."""
    rank = "h1" if number == 1 else "h2"
    letters = {
        mark: escape(unicodedata.normalize("NFKC", mark).strip("()"))
        for mark, _ in table.attrs["notes"]
    }
    marks = _Marks(number, letters, set())
    title, caption = _text(table.attrs["title"]), _text(table.attrs["caption"])
    lines = [f'<section>\n<{rank} id="title-{number}">{title}</{rank}>']
    lines.append(f'<p id="caption-{number}">{caption}</p>')
    if len(table):
        named = f'aria-labelledby="title-{number}"'
        lines += [
            f'<div class="wide" role="region" {named} tabindex="0">',
            f'<table {named} aria-describedby="caption-{number}">',
            *_head(table),
            *_body(table, marks),
            "</table>\n</div>",
        ]
    if table.attrs["notes"]:
        notes = [marks.note(mark, text) for mark, text in table.attrs["notes"]]
        lines += ['<ul class="notes">', *notes, "</ul>"]
    if "command" in table.attrs:
        lines.append(f"<p>Made by <code>{_text(table.attrs['command'])}</code></p>")
    return "\n".join([*lines, "</section>"])


def _head(table: pd.DataFrame) -> list[str]:
    """One line of heads, or two where columns have something above them."""
    columns = heads(table)
    upper, lower = [], []
    deep = any(at.group for at in columns)
    for group, members in groupby(columns, key=lambda at: at.group):
        names = [f'<th scope="col">{_text(at.head)}</th>' for at in members]
        if group:
            upper.append(f'<th scope="colgroup" colspan="{len(names)}">{_text(group)}</th>')
            lower += names
        else:
            upper += [name.replace(">", ' rowspan="2">', 1) if deep else name for name in names]
    rows = [f"<tr>{''.join(row)}</tr>" for row in (upper, lower) if row]
    return ["<thead>", *rows, "</thead>"]


def _body(table: pd.DataFrame, marks: _Marks) -> list[str]:
    """The rows; the first column heads them."""
    names = [at.name for at in heads(table)]
    bold = table.attrs.get("bold", set())
    lines = ["<tbody>"]
    for row, line in enumerate(table.to_dict("records")):
        cells: list[str] = []
        for name in names:
            text, own = marks.split(line[name])
            said = _text(text)
            said = said if cells else said.replace(",", ",<wbr>")
            said = f"<strong>{said}</strong>" if (row, name) in bold else said
            said += f"<sup>{''.join(map(marks.link, own))}</sup>" if own else ""
            cells.append(f"<td>{said}</td>" if cells else f'<th scope="row">{said}</th>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return [*lines, "</tbody>"]


def _figure(caption: str, content: bytes) -> str:
    """A picture within the page; nothing in it is run."""
    kind = next((kind for start, kind in IMAGE_KINDS.items() if content.startswith(start)), None)
    if kind is None:
        raise ValueError(f"figure {caption!r}: expected PNG or SVG, not {content[:8]!r}")
    data = base64.b64encode(content).decode()
    said = _text(caption)
    image = f'<img src="data:{kind};base64,{data}" alt="{said}">'
    return f"<figure>\n{image}\n<figcaption>{said}</figcaption>\n</figure>"


def _text(text: str) -> str:
    return escape(" ".join(text.split())) or NONE
