"""Papers' tables as they are declared in reports/papers/: read, checked, and cell by cell.

A composition root, like plan.py.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

import baselines  # noqa: F401  (fills the register)
from datasets.benchmarks import find_benchmark
from reports import papers, published
from zoo.errors import UsageError
from zoo.plan import SETTINGS, check_tasks, check_way
from zoo.registry import asked
from zoo.settings import Job, load_rows, parse_values, resolve
from zoo.staging import only_asked

FOLDER = Path(__file__).parent.parent / "reports" / "papers"
ROWS = load_rows(SETTINGS)
KEYS: dict[str, type] = {
    "title": str,
    "source": list,
    "caption": str,
    "columns": list,
    "rows": list,
}
COLUMN = {"head", "benchmark", "way", "shot", "metric", "published"}
ROW = {"label", "learner", "published", "note"}


class Paper(NamedTuple):
    """What is declared of a table."""

    title: str
    caption: str
    notes: dict[str, str]  # by the label of a row
    cells: pd.DataFrame  # as `reports.papers.fitting` takes them, and what `ours` says of each


def load(name: str) -> Paper:
    """The table of that name, or of a file of one's own.

    Raises:
        UsageError: there is none; or the file is not as it should be, names a learner or a
            benchmark that there is not, or a cell of it is not one row of published.csv.
    """
    path = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.yaml")))
        raise UsageError(f"no table {name!r}: there are {known}; or name a file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from None
    try:
        check(content)
        return planned(content)
    except (UsageError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from None


def check(content: Any) -> None:
    """Whether a file has the form of a table.

    Raises:
        UsageError: says where it has not.
    """
    if not isinstance(content, dict) or content.keys() != KEYS.keys():
        raise UsageError(f"expected {', '.join(KEYS)}")
    for key, kind in KEYS.items():
        if not isinstance(content[key], kind) or (not content[key] and kind is list):
            raise UsageError(f"{key}: expected {kind.__name__}, not {content[key]!r}")
    for column in content["columns"]:
        if not isinstance(column, dict) or not column.keys() <= COLUMN:
            raise UsageError(f"columns: {column!r}: expected {', '.join(sorted(COLUMN))}")
        if "benchmark" not in column and not {"head", "published"} <= column.keys():
            raise UsageError(f"columns: {column!r}: without benchmark, expected head and published")
        if "benchmark" in column and not isinstance(column.get("shot"), int):
            raise UsageError(f"columns: {column!r}: expected a shot")
    for row in content["rows"]:
        if not isinstance(row, dict) or not {"label"} < row.keys() <= ROW:
            raise UsageError(f"rows: {row!r}: expected label, and of learner, published, note")
        if not row.keys() & {"learner", "published"}:
            raise UsageError(f"rows: {row['label']}: expected learner, published or both")
    for where in (*content["columns"], *content["rows"]):
        if not isinstance(where.get("published") or {}, dict):
            raise UsageError(f"{where!r}: published: expected column: value of published.csv")


def planned(content: dict[str, Any]) -> Paper:
    """The cells of a table.

    Raises:
        UsageError, ValueError: as `load`, without the name of the file.
    """
    frame, lines = published.published(), []
    heads = [head_of(column) for column in content["columns"]]
    labels = [str(row["label"]) for row in content["rows"]]
    for what, names in (("columns", heads), ("rows", labels)):
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"{what}: {twice[0]!r} stands there twice")
    if commas := [head for head in heads if ", " in head]:
        raise UsageError(f"columns: {commas[0]!r}: a head has no comma")
    for (label, row), (head, column) in itertools.product(
        zip(labels, content["rows"], strict=True), zip(heads, content["columns"], strict=True)
    ):
        wanted, at = None, None
        there = bool(row.get("published")) and column.get("published") is not False
        if there:
            wanted = papers.selectors(printed(column, content["source"]), row["published"])
        if wanted is not None:
            places = papers.pick(frame, wanted)
            if len(places) != 1:
                raise UsageError(
                    f"row {label!r}, column {head!r}: expected one row of published.csv, "
                    f"found {len(places) or 'none'} with {wanted}"
                )
            at = places[0]
        void = there and wanted is None  # the paper has no such cell
        cell = ours(None if void else row.get("learner"), column)
        lines.append({"row": label, "column": head, **cell, "published": at, "void": void})
    words = f"Published: {'; '.join(content['source'])}."
    notes = {str(row["label"]): str(row["note"]) for row in content["rows"] if "note" in row}
    cells = pd.DataFrame(lines, dtype=object)
    empty = cells.groupby("row", sort=False)["void"].all()
    for label in empty.index[empty]:
        raise UsageError(f"row {label!r}: its published selectors leave it no column")
    return Paper(content["title"], " ".join([content["caption"], words]).strip(), notes, cells)


def head_of(column: Mapping[str, Any]) -> str:
    """What stands above a column."""
    if "head" in column:
        return str(column["head"])
    benchmark = find_benchmark(column["benchmark"])
    instance = str(column.get("metric", "")).partition("@instance")[2]
    words = f"{column.get('way')}-way" if "way" in column else ""
    words += f" instance {instance}" if instance else f" {column['shot']}-shot"
    return f"{benchmark.title} {words.strip()}"


def printed(column: Mapping[str, Any], sources: list[str]) -> dict[str, Any]:
    """Which rows of published.csv are of a column."""
    wanted = {"source": sources, **{n: column[n] for n in ("way", "shot", "metric") if n in column}}
    if "benchmark" in column:
        wanted["benchmark_key"] = published.benchmark_key(column["benchmark"])
    if instance := str(column.get("metric", "")).partition("@instance")[2]:
        wanted["shot"] = int(instance) - 1  # labelled views seen before
    return wanted | (column.get("published") or {})


def ours(variant: str | None, column: Mapping[str, Any]) -> dict[str, Any]:
    """What a run of a learner must be to stand in a column, and how it is made.

    Raises:
        UsageError: there is no such learner, option or benchmark.
    """
    cell: dict[str, Any] = {"variant": variant, "learner": None, "benchmark": None, "settings": {}}
    cell |= {"way": column.get("way"), "shot": column.get("shot"), "resolved": {}, "why": ""}
    cell["metric"] = column.get("metric", "accuracy")
    if variant is not None:
        cell["learner"], cls, own = asked(variant)
        own = parse_values(cls, own, variant)
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
    for budget in papers.BUDGETS:
        job = Job(cell["learner"], benchmark.variant, way, cell["shot"], "paper", budget)
        found, _ = resolve(
            job, cls, ROWS, query=benchmark.query, backbone=benchmark.backbone, flags=own
        )
        cell["resolved"][budget] = (job, only_asked(found))
        cell["settings"][budget] = {
            name: setting.value for name, setting in only_asked(found).items()
        }
    return cell
