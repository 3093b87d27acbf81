"""A table before it is written in a format: columns, and rows of cells that may have footnotes.

A cell holds its footnotes as texts. When the table is written, as Markdown, LaTeX or HTML,
`assigned_marks` gives each text its letter.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

NONE = "–"  # the text of an empty cell
LETTERS = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ"
DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹"


@dataclass(frozen=True)
class Column:
    """The heading of a column, in one line (Markdown) or in two (LaTeX, HTML)."""

    name: str  # the heading in one line
    group: str = ""  # the upper of two lines, shared with its neighbours of the same group
    head: str = ""  # the lower of two lines, where it is not the name

    @property
    def lower_head(self) -> str:
        """The lower line of the heading; the only line of a column without a group."""
        return self.head or self.name


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and what marks it."""

    text: str = NONE
    footnotes: Sequence[str] = ()  # their texts; cells with the same text get the same letter
    sign: str = ""  # right after the text, such as ↓; the table's legend explains it
    bold: bool = False

    @property
    def empty(self) -> bool:
        """Whether it has neither text nor marks."""
        return self.text == NONE and not self.footnotes and not self.sign


@dataclass(frozen=True)
class Footnote:
    """A note below a table, and the mark that refers to it from cells: ᵃ, ⁽²⁷⁾, ↓."""

    mark: str
    text: str

    @property
    def letter(self) -> str:
        """The mark as plain text: a, (27), ↓."""
        return unicodedata.normalize("NFKC", self.mark)


@dataclass(frozen=True)
class Table:
    """A table of text; the first column names the rows.

    Raises:
        ValueError: a row does not have one cell for each column, there is not one heading for each
            row, or the legend does not explain a cell's sign.
    """

    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    legend: Mapping[str, str] = field(default_factory=dict)  # sign of cells -> its meaning
    command: str = ""  # the command that made the table, if known
    blocks: Sequence[str] = ()  # for each row the heading it is under; empty: no headings

    def __post_init__(self) -> None:
        if self.blocks and len(self.blocks) != len(self.rows):
            raise ValueError(f"{self.title}: {len(self.rows)} rows, {len(self.blocks)} headings")
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"{self.title}: {len(row)} cells in a row, {len(self.columns)} columns"
                )
            for cell in row:
                if cell.sign and cell.sign not in self.legend:
                    raise ValueError(f"{self.title}: the legend does not explain {cell.sign!r}")


def rows_in_blocks(table: Table) -> Iterator[tuple[str, Sequence[Cell]]]:
    """Each row with the heading to write above it, which is "" unless a block begins there."""
    previous = ""
    for number, row in enumerate(table.rows):
        heading = table.blocks[number] if table.blocks else ""
        yield heading if heading != previous else "", row
        previous = heading


def without_empty_columns(table: Table) -> Table:
    """The table without the columns whose cells are all empty.

    Where only one column of a group is left, and it is named as the group, the group is dropped.
    """
    kept = [
        number
        for number in range(len(table.columns))
        if not all(row[number].empty for row in table.rows)
    ]
    members = Counter(table.columns[number].group for number in kept)
    columns = []
    for number in kept:
        column = table.columns[number]
        if column.name == column.group and members[column.group] == 1:
            column = Column(column.name)
        columns.append(column)
    rows = [[row[number] for number in kept] for row in table.rows]
    return replace(table, columns=columns, rows=rows)


def assigned_marks(table: Table) -> list[Footnote]:
    """The notes below a table: those of cells in the order of the rows, then the legend."""
    texts = dict.fromkeys(text for row in table.rows for cell in row for text in cell.footnotes)
    lettered = [Footnote(_mark(number), text) for number, text in enumerate(texts)]
    return lettered + [Footnote(sign, meaning) for sign, meaning in table.legend.items()]


def lettered_notes(cell: Cell, notes: Sequence[Footnote]) -> list[Footnote]:
    """The notes that a cell refers to by a letter, in the order of the letters."""
    return [note for note in notes if note.text in cell.footnotes]


def marked_text(cell: Cell, notes: Sequence[Footnote]) -> str:
    """The text of a cell with its marks in Unicode: ``98.8↓ᵃᵇ``."""
    letters = "".join(note.mark for note in lettered_notes(cell, notes))
    return cell.text + cell.sign + letters


def _mark(number: int) -> str:
    """The n-th mark, from 0: a letter, and after the last letter n + 1 in brackets."""
    if number < len(LETTERS):
        return LETTERS[number]
    return "⁽" + "".join(DIGITS[int(digit)] for digit in str(number + 1)) + "⁾"
