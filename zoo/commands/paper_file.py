"""Reads and checks papers' tables, which are declared in reports/papers/, cell by cell."""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from zoo.commands.definition_files import read_definition
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.registry import learner_of
from zoo.reports import published
from zoo.reports.tables.paper import TRAINED_BUDGETS, pick_published, selectors
from zoo.runs.request import RunRequest
from zoo.runs.resolved import check_tasks, check_way, resolve_request
from zoo.runs.settings import learner_variant

PAPER_KEYS: dict[str, type] = {
    "title": str,
    "source": list,
    "caption": str,
    "columns": list,
    "rows": list,
}
COLUMN_KEYS = {"head", "benchmark", "way", "shot", "metric", "published"}
ROW_KEYS = {"label", "learner", "published", "note"}


class Paper(NamedTuple):
    """What the file of a paper's table holds.

    `cells` has a row for each cell, with the columns that `zoo.reports.tables.paper.fitting_runs`
    needs and those that `our_cell` returns.
    """

    title: str
    caption: str
    notes: dict[str, str]  # by the label of a row
    cells: pd.DataFrame


def load_paper(name: str) -> Paper:
    """Read the table of that name, or one from the user's own file.

    Raises:
        UsageError: there is no such table, its file is malformed, it names a learner or a benchmark
            that does not exist, or one of its cells does not fit exactly one row of published.csv.
    """
    path, content = read_definition("papers", name, "table", PAPER_KEYS)
    try:
        check_paper(content)
        return paper_of(content)
    except (UsageError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from None


def check_paper(content: Mapping[str, Any]) -> None:
    """Check that a file has the form of a table.

    Raises:
        UsageError: it has not; the message says where.
    """
    for key in ("source", "columns", "rows"):
        if not content[key]:
            raise UsageError(f"{key}: expected list, not {content[key]!r}")
    for column in content["columns"]:
        _check_column(column)
    for row in content["rows"]:
        _check_row(row)


def _check_column(column: Any) -> None:
    if not isinstance(column, dict) or not column.keys() <= COLUMN_KEYS:
        raise UsageError(f"columns: {column!r}: expected {', '.join(sorted(COLUMN_KEYS))}")
    if "benchmark" not in column and not {"head", "published"} <= column.keys():
        raise UsageError(f"columns: {column!r}: without benchmark, expected head and published")
    if "benchmark" in column and not isinstance(column.get("shot"), int):
        raise UsageError(f"columns: {column!r}: expected a shot")
    _check_published(column)


def _check_row(row: Any) -> None:
    if not isinstance(row, dict) or not {"label"} < row.keys() <= ROW_KEYS:
        raise UsageError(f"rows: {row!r}: expected label with learner, published or note")
    if not row.keys() & {"learner", "published"}:
        raise UsageError(f"rows: {row['label']}: expected learner, published or both")
    _check_published(row)


def _check_published(entry: Mapping[str, Any]) -> None:
    if not isinstance(entry.get("published") or {}, dict):
        raise UsageError(f"{entry!r}: published: expected column: value of published.csv")


def paper_of(content: dict[str, Any]) -> Paper:
    """Find every cell of a table.

    Raises:
        UsageError, ValueError: as `load_paper`, without the name of the file.
    """
    published_numbers = published.published()
    heads = [column_head(column) for column in content["columns"]]
    labels = [str(row["label"]) for row in content["rows"]]
    for what, names in (("columns", heads), ("rows", labels)):
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"{what}: {twice[0]!r} is given twice")
    if with_comma := [head for head in heads if ", " in head]:
        raise UsageError(f"columns: {with_comma[0]!r}: a head has no comma")
    lines = []
    for (label, row), (head, column) in itertools.product(
        zip(labels, content["rows"], strict=True), zip(heads, content["columns"], strict=True)
    ):
        place = None  # the cell's row in `published_numbers`
        void = False  # whether the paper's table has no such cell
        if row.get("published") and column.get("published") is not False:
            wanted = selectors(published_selectors(column, content["source"]), row["published"])
            void = wanted is None
            if wanted is not None:
                places = pick_published(published_numbers, wanted)
                if len(places) != 1:
                    raise UsageError(
                        f"row {label!r}, column {head!r}: expected one row of published.csv, "
                        f"found {len(places) or 'none'} with {wanted}"
                    )
                place = places[0]
        cell = our_cell(None if void else row.get("learner"), column)
        lines.append({"row": label, "column": head, **cell, "published": place, "void": void})
    sources = f"Published: {'; '.join(content['source'])}."
    notes = {str(row["label"]): str(row["note"]) for row in content["rows"] if "note" in row}
    cells = pd.DataFrame(lines, dtype=object)
    for name, cells_of_row in cells.groupby("row", sort=False):
        if cells_of_row["void"].all():
            raise UsageError(f"row {name!r}: its published selectors leave it no column")
    return Paper(content["title"], f"{content['caption']} {sources}".strip(), notes, cells)


def column_head(column: Mapping[str, Any]) -> str:
    """The text above a column."""
    if "head" in column:
        return str(column["head"])
    benchmark = find_benchmark(column["benchmark"])
    instance = str(column.get("metric", "")).partition("@instance")[2]
    words = f"{column.get('way')}-way" if "way" in column else ""
    words += f" instance {instance}" if instance else f" {column['shot']}-shot"
    return f"{benchmark.title} {words.strip()}"


def published_selectors(column: Mapping[str, Any], sources: list[str]) -> dict[str, Any]:
    """What the rows of published.csv that belong to a column have in common."""
    wanted: dict[str, Any] = {"source": sources}
    for name in ("way", "shot", "metric"):
        if name in column:
            wanted[name] = column[name]
    if "benchmark" in column:
        wanted["benchmark_key"] = find_benchmark(column["benchmark"]).key
    if instance := str(column.get("metric", "")).partition("@instance")[2]:
        wanted["shot"] = int(instance) - 1  # labelled images of the class that were seen before
    return wanted | (column.get("published") or {})


def our_cell(variant: str | None, column: Mapping[str, Any]) -> dict[str, Any]:
    """Which runs of a learner fit a column, and how one is made.

    Args:
        variant: the learner; None if the row has only published numbers.
        column: as the file declares it.

    Returns:
        The learner, benchmark, shape and metric; for each budget the request `resolved` and its
        `settings`; and `why` the learner cannot be run there, "" if it can.

    Raises:
        UsageError: there is no such learner, option or benchmark.
    """
    cell: dict[str, Any] = {
        "variant": variant,
        "learner": None,
        "benchmark": None,
        "settings": {},
        "way": column.get("way"),
        "shot": column.get("shot"),
        "resolved": {},
        "why": "",
        "metric": column.get("metric", "accuracy"),
    }
    if variant is not None:
        cell["variant"] = variant = learner_variant(variant)
        cell["learner"], cls, _ = learner_of(variant)
    if "benchmark" not in column:
        return cell
    benchmark = find_benchmark(column["benchmark"])
    cell["benchmark"] = benchmark.variant
    way = check_way(benchmark, cell["way"])
    if benchmark.regression:
        cell["metric"] = "mse"
    else:
        cell["way"] = way
    if variant is None:
        return cell
    try:
        check_tasks(cls, cell["learner"], benchmark)
    except UsageError as error:
        return cell | {"why": str(error)}
    for budget in TRAINED_BUDGETS:
        request = RunRequest(variant, benchmark.variant, cell["way"], cell["shot"], "paper", budget)
        cell["resolved"][budget] = resolve_request(request)
        cell["settings"][budget] = cell["resolved"][budget].values
    return cell
