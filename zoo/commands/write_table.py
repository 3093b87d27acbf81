"""Prints a table, and writes it into files of every form."""

import hashlib
import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from zoo.commands.picture_files import figure_bytes
from zoo.files import make_folder, slug, write_bytes, write_text
from zoo.reports.formats.html import to_html
from zoo.reports.formats.latex import to_latex
from zoo.reports.formats.markdown import code_span, to_markdown
from zoo.reports.formats.parquet import parquet_bytes
from zoo.reports.formats.table import Table

FOLDER_FLAGS = ("--data", "--results", "--runs")
LONGEST_STEM = 100  # characters of a file name
# The files that the Markdown file links to: the end of their names, and the words of the link.
LINKS = {
    ".html": "page",
    ".csv": "numbers",
    "-cells.csv": "cells",
    "-differences.csv": "differences",
}


@dataclass(frozen=True)
class Output:
    """Where a command's table goes.

    Args:
        folder: of the results.
        name: words that make up the names of the files.
        command: the words after ``python -m zoo``; the pages say that it made them.
        dry_run: whether it is only printed.
    """

    folder: Path
    name: Sequence[str]
    command: Sequence[str]
    dry_run: bool = False


class Drawing(NamedTuple):
    """A figure, and what it shows in words, for those who cannot see it too."""

    figure: Figure
    caption: str


def write_table(
    output: Output,
    tables: Sequence[Table],
    data: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Drawing],
    printed: int = 1,
) -> None:
    """Print a table, and write it as Markdown, LaTeX, HTML, CSV and Parquet, and its figures.

    Args:
        output: where it goes.
        tables: the table, and further ones below it.
        data: the numbers, one a row, by the ends of their files' names.
        figures: the figures by the ends of their files' names; the HTML page shows them too.
        printed: how many of the tables are printed and put into the Markdown file; the HTML page
            has all.
    """
    texts = [to_markdown(table) for table in tables[:printed]]
    print("\n" + "\n".join(texts))
    if output.dry_run:
        return
    folder = make_folder(output.folder, "--results")
    command = command_line(output.command)
    tables = [replace(table, command=command) for table in tables]
    stem = shortened_stem(slug("-".join(output.name)))
    ends = [".md", ".html"]  # of the names of all files, the stem being the same
    for number, table in enumerate(tables[:printed], 1):
        end = f"-{number}.tex" if printed > 1 else ".tex"
        write_text(folder / f"{stem}{end}", to_latex(table))
        ends.append(end)
    pictures = []
    for end, (figure, caption) in figures.items():
        figure.set_dpi(200)
        contents = {form: figure_bytes(figure, form) for form in ("png", "pdf")}
        for form, content in contents.items():
            write_bytes(folder / f"{stem}{end}.{form}", content)
            ends.append(f"{end}.{form}")
        pictures.append((caption, contents["png"]))
    write_text(folder / f"{stem}.html", to_html(tables, pictures))
    for end, frame in data.items():
        write_text(folder / f"{stem}{end}.csv", frame.to_csv(index=False))
        ends.append(f"{end}.csv")
        try:
            write_bytes(folder / f"{stem}{end}.parquet", parquet_bytes(frame))
            ends.append(f"{end}.parquet")
        except ImportError as error:
            print(f"  {error}")
    links = [f"[{name}]({stem}{end})" for end, name in LINKS.items() if end in ends]
    made = f"Made by {code_span(command)}: {' · '.join(links)}\n"
    write_text(folder / f"{stem}.md", "\n".join([*texts, made]))
    print(f"In {folder}: {stem} {' '.join(ends)}")


def command_line(words: Sequence[str]) -> str:
    """The command without the flags that name this machine's folders."""
    kept: list[str] = []
    for before, word in itertools.pairwise(["", *words]):
        flag = word.partition("=")[0]
        if flag not in FOLDER_FLAGS and before not in FOLDER_FLAGS:
            kept.append(word)
    return shlex.join(["python", "-m", "zoo", *kept])


def shortened_stem(stem: str) -> str:
    """Shorten a file name of more than 100 characters to its beginning and a hash of the whole."""
    if len(stem) <= LONGEST_STEM:
        return stem
    end = hashlib.blake2b(stem.encode(), digest_size=8).hexdigest()
    return f"{stem[: LONGEST_STEM - 17].rstrip('-_')}-{end}"
