"""What a table says, for assertions."""

from zoo.reports.formats.table import Cell, Table, assigned_marks


def cells_under(table: Table, name: str, group: str | None = None) -> list[Cell]:
    """The cells of the one column of that name, of that group if one is given."""
    (at,) = (
        number
        for number, column in enumerate(table.columns)
        if column.name == name and group in (None, column.group)
    )
    return [row[at] for row in table.rows]


def texts_under(table: Table, name: str, group: str | None = None) -> list[str]:
    """What they say, without their footnotes."""
    return [cell.text for cell in cells_under(table, name, group)]


def note_texts(table: Table) -> list[str]:
    """The footnotes in the order of their letters, then what the signs mean."""
    return [note.text for note in assigned_marks(table)]
