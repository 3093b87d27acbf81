"""A table as every format writes it: columns, and rows of cells that may have footnotes.

Who builds a table gives a cell its footnotes as texts. Which letter refers to which text is found
when the table is written, by `assigned_marks`, the same for Markdown, LaTeX and HTML.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

NONE = "–"  # the text of a cell that says nothing
LETTERS = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ"
DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹"


@dataclass(frozen=True)
class Column:
    """How a column is headed, in one line (Markdown) or in two (LaTeX, HTML)."""

    name: str  # in one line
    group: str = ""  # in two lines: above it and its neighbours of the same group
    head: str = ""  # in two lines: below the group, where that is not the name

    @property
    def lower_head(self) -> str:
        """The lower of two lines; the only one of a column without a group."""
        return self.head or self.name


@dataclass(frozen=True)
class Cell:
    """What a cell says."""

    text: str = NONE
    footnotes: Sequence[str] = ()  # their texts; cells with the same text get the same letter
    sign: str = ""  # right after the text, as ↓; the table's legend says what it means
    bold: bool = False

    @property
    def empty(self) -> bool:
        """Whether it says nothing."""
        return self.text == NONE and not self.footnotes and not self.sign


@dataclass(frozen=True)
class Footnote:
    """A note below a table, and the mark by which cells refer to it: ᵃ, ⁽²⁷⁾, ↓."""

    mark: str
    text: str

    @property
    def letter(self) -> str:
        """The mark as plain text: a, (27), ↓."""
        return unicodedata.normalize("NFKC", self.mark)


@dataclass(frozen=True)
class Table:
    """A table of text; the first column says what a row is about.

    Raises:
        ValueError: a row has not one cell a column, or a cell has a sign without a meaning.
    """

    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    legend: Mapping[str, str] = field(default_factory=dict)  # what the signs of cells mean
    command: str = ""  # what made the table, where that is known
    blocks: Sequence[str] = ()  # of each row the heading it stands under; none for one block

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
    """Each row, and before it the heading that it is the first row under, else ""."""
    before = ""
    for number, row in enumerate(table.rows):
        heading = table.blocks[number] if table.blocks else ""
        yield heading if heading != before else "", row
        before = heading


def without_empty_columns(table: Table) -> Table:
    """The table without the columns whose cells all say nothing.

    A column that gives its group the name stands without a group where it is the only one left.
    """
    kept = [at for at in range(len(table.columns)) if not all(row[at].empty for row in table.rows)]
    columns = [table.columns[at] for at in kept]
    members = Counter(column.group for column in columns)
    columns = [
        Column(column.name)
        if column.name == column.group and members[column.group] == 1
        else column
        for column in columns
    ]
    return replace(table, columns=columns, rows=[[row[at] for at in kept] for row in table.rows])


def assigned_marks(table: Table) -> list[Footnote]:
    """The notes below a table: lettered as they first appear row by row, then the legend."""
    texts = dict.fromkeys(text for row in table.rows for cell in row for text in cell.footnotes)
    lettered = [Footnote(_mark(number), text) for number, text in enumerate(texts)]
    return lettered + [Footnote(sign, meaning) for sign, meaning in table.legend.items()]


def lettered_notes(cell: Cell, notes: Sequence[Footnote]) -> list[Footnote]:
    """Those of a table's notes that a cell has a letter for, in the order of the letters."""
    return [note for note in notes if note.text in cell.footnotes]


def marked_text(cell: Cell, notes: Sequence[Footnote]) -> str:
    """The text of a cell and its marks, in one line of Unicode: ``98.8↓ᵃᵇ``."""
    letters = "".join(note.mark for note in lettered_notes(cell, notes))
    return cell.text + cell.sign + letters


def _mark(number: int) -> str:
    """A letter; after the last one a number in brackets."""
    if number < len(LETTERS):
        return LETTERS[number]
    return "⁽" + "".join(DIGITS[int(digit)] for digit in str(number + 1)) + "⁾"
