"""What commands print, put into the pages that show it.

A page of docs/ shows a command of ours in a block of the language console: a line ``$ zoo ...`` and
what it prints. ``python -m tests.pages.console`` runs the commands of every page in their order,
each page in a folder of its own, and writes what they print where it is no longer what the page
shows. ``test_console.py`` holds them.
"""

import contextlib
import io
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from PIL import Image

from tests.pages.same_output import same_output
from zoo.commands import main
from zoo.datasets.benchmarks.glyphs import load
from zoo.files import write_text
from zoo.runs.environment import commit

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```console\n(.*?)```\n", re.DOTALL)
COMMAND = re.compile(r"^\$ (.*)\n", re.MULTILINE)
PAGES = sorted(
    page for page in (ROOT / "docs").glob("*.md") if BLOCK.search(page.read_text(encoding="utf-8"))
)


def shown(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a page, each with the output that the page shows."""
    for block in BLOCK.findall(text):
        _, *parts = COMMAND.split(block)
        yield from zip(parts[::2], parts[1::2], strict=True)


def run(command: str) -> str:
    """What one of our commands prints, in the folder where we are.

    Raises:
        ValueError: it is not one of ours, or it failed.
    """
    name, *words = shlex.split(command)
    if name != "zoo":
        raise ValueError(f"{command}: expected a command that begins with zoo")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            status = main(words)
        except SystemExit as stop:  # of argparse, after a help
            status = stop.code
    if status:
        raise ValueError(f"{command}: ended with {status}")
    return printed.getvalue()


def with_outputs(text: str) -> str:
    """A page's text with each block's output made anew, unless it says the same."""

    def made_anew(block: re.Match[str]) -> str:
        lines = []
        for command, output in shown(block[0]):
            given = run(command)
            lines += [f"$ {command}\n", output if same_output(output, given) else given]
        return f"```console\n{''.join(lines)}```\n"

    return BLOCK.sub(made_anew, text)


@contextlib.contextmanager
def as_on_the_pages() -> Iterator[None]:
    """In a folder with photos alone, a terminal of 80 columns, and one thread of the CPU.

    Uncommitted code is taken for committed: tables would mark it.
    """
    threads, committed = torch.get_num_threads(), (commit()[0], False)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        tempfile.TemporaryDirectory() as cache,
        mock.patch.dict(os.environ, COLUMNS="80", OMP_NUM_THREADS="1", XDG_CACHE_HOME=cache),
        mock.patch("zoo.runs.environment.commit", return_value=committed),
        mock.patch("torch.cuda.is_available", return_value=False),
    ):
        for name in ("ZOO_DATA", "ZOO_STORE"):
            os.environ.pop(name, None)
        torch.set_num_threads(1)
        write_photos(Path("photos"))
        yield
    torch.set_num_threads(threads)


def write_photos(folder: Path) -> None:
    """Drawings of Glyphs as a user's photos: two of each of three letters are known, three new."""
    names, images = load()["test"]
    for letter in ("ALPHA", "BETA", "LAMDA"):
        (number,) = [
            n for n, name in enumerate(names) if name.endswith(f"GREEK SMALL LETTER {letter}")
        ]
        for k, image in enumerate(images[number, :5]):
            path = folder / ("known" if k < 2 else "new") / letter.lower() / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(255 - image).save(path)


def write() -> None:
    """Put into every page what its commands print."""
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        with as_on_the_pages():
            after = with_outputs(before)
        if after != before:
            write_text(page, after)
            print(f"{page.relative_to(ROOT)}: written")


if __name__ == "__main__":
    write()
