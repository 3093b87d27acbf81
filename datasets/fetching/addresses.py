"""Where the image sets can be fetched: the rows of addresses.csv.

In addresses.csv a set is fetched from its first row whose form we read; rows of the same file are
copies of it, the publisher's own first. ``about_mb`` is remembered, never checked. ``md5`` is
certain for that address and refused otherwise; ``md5_elsewhere`` is another copy's.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

ADDRESSES = Path(__file__).parent / "addresses.csv"


@dataclass(frozen=True)
class Source:
    """One row of addresses.csv: an address of one file of a published form; sizes in bytes."""

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
