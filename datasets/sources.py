"""Where the image sets can be fetched, for the message that says that one is missing."""

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets.benchmarks import Benchmark


def not_found(benchmark: "Benchmark", data: Path | None) -> str:
    """One screen: what was looked for where, what to fetch from where, and where to put it."""
    readers = benchmark.readers()
    where = f"below {data}" if data else "for want of a data folder"
    lines = [f"{benchmark.title} was not found {where}. Nothing was written.", "Looked for:"]
    lines += looked_for(benchmark)
    lines.append("Published at (nothing is downloaded for you):")
    with (Path(__file__).parent / "sources.csv").open(newline="", encoding="utf-8") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if benchmark.key in re.split(r",\s*", row["benchmark"])
        ]
    forms = {reader.form for reader in readers}
    for row in rows:
        mark = "" if row["form"] in forms else f"    [{row['form']}: not read by this version]"
        lines += [f"  {row['url']}", *([mark] if mark else [])]
    if not forms.intersection(row["form"] for row in rows):
        lines.append(f"  no public address of the form {readers[0].form!r} is known")
    lines += [
        f"Unpack into any folder as FOLDER/{readers[0].homes[0]}/ and run",
        f"  make table-{benchmark.key} DATA=FOLDER",
    ]
    return "\n".join(lines)


def looked_for(benchmark: "Benchmark", homes: bool = True) -> list[str]:
    """The forms of a benchmark, the files that make each, the folders below that may hold them."""
    lines = []
    for reader in benchmark.readers():
        lines.append(f"  {reader.form}: {reader.needs}" + "," * homes)
        lines += [f"    there or in {', '.join(reader.homes)}"] * homes
    return lines
