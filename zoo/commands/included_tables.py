"""The command ``zoo include``: puts tables of the results folder into README and docs."""

import argparse
import re
from pathlib import Path

from zoo.errors import UsageError
from zoo.files import write_text

BLOCK_START, BLOCK_END = "<!-- table: ", "<!-- end of table -->"
BLOCK = re.compile(rf"{BLOCK_START}(?P<file>\S+) -->\n.*?{BLOCK_END}", re.DOTALL)


def include_command(options: argparse.Namespace) -> int:
    """Put into each page the tables that it names, as their files have them."""
    for page in options.pages:
        try:
            before = page.read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{page}: {error.strerror}") from None
        after = with_tables(before, page)
        if after != before:
            write_text(page, after)
            print(f"{page}: written")
    return 0


def with_tables(text: str, page: Path) -> str:
    """A page's text with each block replaced by the file that it names.

    A block begins with ``<!-- table: results/NAME.md -->``, where the path is relative to the page,
    and ends with ``<!-- end of table -->``.

    Raises:
        UsageError: a block has no end, or its file does not exist.
    """
    if len(BLOCK.findall(text)) != text.count(BLOCK_START):
        raise UsageError(
            f"{page}: a line {BLOCK_START}FILE --> without a line {BLOCK_END} after it"
        )
    return BLOCK.sub(lambda block: _block(block["file"], page), text)


def _block(name: str, page: Path) -> str:
    path = page.parent / name
    try:
        table = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{page} names {name}: {error.strerror}; make the table first") from None
    folder = Path(name).parent.as_posix()
    table = re.sub(r"\]\((?!https?:|#|/)([^)]+)\)", rf"]({folder}/\1)", table)
    return f"{BLOCK_START}{name} -->\n{table}{BLOCK_END}"
