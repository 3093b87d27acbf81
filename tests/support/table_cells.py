"""Cells and notes of a table, for assertions."""

from zoo.reports.formats.table import Cell, Table, assigned_marks


def cells_under(table: Table, name: str, group: str | None = None) -> list[Cell]:
    """The cells of the only column with this name, and this group if one is given."""
    (wanted,) = (
        number
        for number, column in enumerate(table.columns)
        if column.name == name and group in (None, column.group)
    )
    return [row[wanted] for row in table.rows]


def texts_under(table: Table, name: str, group: str | None = None) -> list[str]:
    """The texts of the cells of `cells_under`, without their footnotes."""
    return [cell.text for cell in cells_under(table, name, group)]


def note_texts(table: Table) -> list[str]:
    """The texts of the footnotes in the order of their letters, then of the signs."""
    return [note.text for note in assigned_marks(table)]
