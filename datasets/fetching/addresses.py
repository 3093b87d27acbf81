"""Where the image sets can be fetched (sources.csv), and the screen that says that one is missing.

In sources.csv a set is fetched from its first row whose form we read; rows of the same file are
copies of it, the publisher's own first. ``about_mb`` is remembered, never checked. ``md5`` is
certain for that address and refused otherwise; ``md5_elsewhere`` is another copy's.
"""

import csv
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.datasets.benchmarks.base import Benchmark

ADDRESSES = Path(__file__).parent / "sources.csv"


class NotFoundError(UsageError):
    """A benchmark's images are not where they were looked for."""


@dataclass(frozen=True)
class Source:
    """One row of sources.csv: an address of one file of a published form; sizes in bytes."""

    form: str
    file: str
    url: str
    size: int | None  # about; None where nobody said
    unpacked: int  # disk that its contents take, where it is an archive
    store: int  # disk that the image store made of it takes
    md5: str
    md5_elsewhere: str


def known_addresses(key: str) -> list[Source]:
    """The known addresses of a benchmark's files, in the order of preference."""

    def size(row: Mapping[str, str], column: str) -> int:
        return round(float(row[column] or 0) * 1e6)

    with ADDRESSES.open(newline="", encoding="utf-8") as file:
        return [
            Source(
                row["form"],
                row["file"],
                row["url"],
                size(row, "about_mb") or None,
                size(row, "unpacked_mb"),
                size(row, "store_mb"),
                row["md5"],
                row["md5_elsewhere"],
            )
            for row in csv.DictReader(file)
            if key in re.split(r",\s*", row["benchmark"])
        ]


def not_found(
    benchmark: "Benchmark", data: Path | None, failures: Mapping[str, str] | None = None
) -> str:
    """One screen: what was looked for where, what lies at which address, and where to put it.

    Args:
        benchmark: whose images are missing.
        data: where they were looked for.
        failures: why an address did not give its file, where fetching was tried.
    """
    failures = failures or {}
    readers = benchmark.readers()
    forms = {reader.form for reader in readers}
    sources = known_addresses(benchmark.key)
    where = f"below {data}" if data else "for want of a data folder"
    tried = ", and could not be fetched" if failures else ""
    lines = [f"{benchmark.title} was not found {where}{tried}.", "Looked for:"]
    lines += looked_for(benchmark)
    for form in dict.fromkeys(source.form for source in sources):
        unread = "" if form in forms else " (not read by this version)"
        lines.append(f"Published as {form}{unread}:")
        for source in sources:
            if source.form == form:
                lines.append(f"  {source.url}")
                lines += textwrap.wrap(
                    failures.get(source.url, ""),
                    initial_indent="    ",
                    subsequent_indent="    ",
                    width=96,
                )
    if not forms.intersection(source.form for source in sources):
        lines.append(f"  no public address of the form {readers[0].form!r} is known")
    elif not failures:
        lines.append(f"To fetch it: python -m zoo fetch {benchmark.key} --data FOLDER")
    lines += [
        f"Put one of these forms into FOLDER/{readers[0].homes[0]}/, or as said above, and run",
        f"  make table-{benchmark.key} DATA=FOLDER",
    ]
    return "\n".join(lines)


def looked_for(benchmark: "Benchmark", homes: bool = True) -> list[str]:
    """The forms of a benchmark, the files that make each, the folders below that may hold them."""
    lines = []
    for reader in benchmark.readers():
        there = f", there or in {', '.join(reader.homes[:2])}" if homes and reader.homes else ""
        text = f"{reader.form}{there}: {reader.needs}"
        lines += textwrap.wrap(
            text, 96, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
        )
    return lines
