"""A campaign of faults against the project; see `tests.faults.__main__`."""
