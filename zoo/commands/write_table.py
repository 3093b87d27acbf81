"""Where a table goes: to the terminal, and into files of every form."""

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
# What the Markdown file links to, by the end of the file's name.
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
        name: words that the files are named by.
        command: the words after ``python -m zoo``, which the pages name.
        dry_run: print it, and write nothing.
    """

    folder: Path
    name: Sequence[str]
    command: Sequence[str]
    dry_run: bool = False


class Drawing(NamedTuple):
    """A figure, and what it shows in words: its caption, and its text where it is not seen."""

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
        output: where to.
        tables: the table, and what goes below it.
        data: numbers, one a row, by the end of their files' names.
        figures: by the end of their files' names; the HTML page shows them too.
        printed: how many of the tables are printed, and stand in the Markdown file.
    """
    texts = [to_markdown(table) for table in tables[:printed]]
    print("\n" + "\n".join(texts))
    if output.dry_run:
        return
    folder = make_folder(output.folder, "--results")
    command = command_line(output.command)
    tables = [replace(table, command=command) for table in tables]
    stem = shortened_stem(slug("-".join(output.name)))
    ends = [".md", ".html"]
    for number, table in enumerate(tables[:printed], 1):
        ends.append(f"-{number}.tex" if printed > 1 else ".tex")
        write_text(folder / f"{stem}{ends[-1]}", to_latex(table))
    drawn = []
    for end, (figure, caption) in figures.items():
        figure.set_dpi(200)
        contents = {kind: figure_bytes(figure, kind) for kind in ("png", "pdf")}
        for kind, content in contents.items():
            write_bytes(folder / f"{stem}{end}.{kind}", content)
        ends += [f"{end}.{kind}" for kind in contents]
        drawn.append((caption, contents["png"]))
    write_text(folder / f"{stem}.html", to_html(tables, drawn))
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
    """The command in words, without where it reads and writes on some machine."""
    kept: list[str] = []
    for before, word in itertools.pairwise(["", *words]):
        flag = word.partition("=")[0]
        if flag not in FOLDER_FLAGS and before not in FOLDER_FLAGS:
            kept.append(word)
    return shlex.join(["python", "-m", "zoo", *kept])


def shortened_stem(stem: str) -> str:
    """A file name of at most 100 characters: of a longer one the beginning, and its hash."""
    if len(stem) <= LONGEST_STEM:
        return stem
    end = hashlib.blake2b(stem.encode(), digest_size=8).hexdigest()
    return f"{stem[: LONGEST_STEM - 17].rstrip('-_')}-{end}"
