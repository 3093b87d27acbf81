"""The screen that says that an image set is missing, and where it can be had."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.datasets.fetching.addresses import known_addresses
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.datasets.readers.base import ImageSet


class NotFoundError(UsageError):
    """The images of a benchmark were not found below the data folder."""


def not_found(
    benchmark: "ImageSet", data: Path | None, failures: Mapping[str, str] | None = None
) -> str:
    """The message about missing images: files looked for, addresses of them, where to put them.

    Args:
        benchmark: whose images are missing.
        data: the folder they were looked for in; None if none was given.
        failures: by address, why its file could not be fetched, if that was tried.
    """
    failures = failures or {}
    readers = benchmark.readers()
    forms = {reader.form for reader in readers}
    sources = known_addresses(benchmark.key)
    where = f"below {data}" if data else "because no data folder was given"
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


def looked_for(benchmark: "ImageSet", homes: bool = True) -> list[str]:
    """Lines that say which forms of a benchmark are read, and which files each form needs.

    Args:
        benchmark: which one.
        homes: whether to name folders that usually hold the files.
    """
    lines = []
    for reader in benchmark.readers():
        folders = f", there or in {', '.join(reader.homes[:2])}" if homes and reader.homes else ""
        text = f"{reader.form}{folders}: {reader.needs}"
        lines += textwrap.wrap(
            text, 96, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
        )
    return lines
