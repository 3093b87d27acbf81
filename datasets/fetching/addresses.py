"""Where the image sets can be fetched: the rows of addresses.csv.

The rows of a set are in the order in which its forms are tried. Several rows with the same file are
addresses of its copies, the publisher's first. ``about_mb`` was written down from memory and is not
compared with the file. A file with another md5 than ``md5`` is refused. ``md5_elsewhere`` is the
md5 of a copy at another address; a file that differs from it is only reported.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ADDRESSES = Path(__file__).parent / "addresses.csv"


@dataclass(frozen=True)
class Source:
    """One row of addresses.csv: an address of one file of a published form; sizes in bytes."""

    form: str
    file: str
    url: str
    size: int | None  # about; None if unknown
    unpacked: int  # disk space of its contents, if it is an archive
    store: int  # disk space of the image store that is made of it
    md5: str
    md5_elsewhere: str


def known_addresses(key: str) -> list[Source]:
    """The addresses of the files of a benchmark, in the order in which they are tried."""

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
