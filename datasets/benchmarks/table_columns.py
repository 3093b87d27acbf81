"""Tables of numbers and words as arrays: what each column is, learned on the training tables.

Numbers are standardised by their mean and standard deviation over the rows of all training tables;
a missing one becomes 0, and where training tables miss some, a further input says so with a 1.
Words become an input for each of the words that the training tables have, at most `MOST_WORDS` of
the most frequent ones; of a word that is none of them, and of a missing one, all these are 0.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.datasets.episodes.hash_random import Floats, Integers
from zoo.datasets.readers.base import one_line, optional_module
from zoo.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".csv", ".parquet")
FACTS = "tables.json"  # which columns are outputs, and which are left out
MOST_WORDS = 32


class Facts(NamedTuple):
    """What `FACTS` says; without the file, the columns' names decide."""

    targets: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


class Table(NamedTuple):
    """One file: its inputs and outputs, as they were read."""

    name: str
    inputs: "pd.DataFrame"
    targets: "pd.DataFrame"


def read_facts(folder: Path) -> Facts:
    """The columns that `FACTS` names, if the folder has such a file.

    Raises:
        UsageError: it is not as expected.
    """
    path = folder / FACTS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lists = {key: tuple(content.pop(key, ())) for key in ("targets", "leave_out")}
        if content or not all(isinstance(name, str) for names in lists.values() for name in names):
            raise ValueError(f"unknown keys {', '.join(content)}" if content else "no names")
    except FileNotFoundError:
        return Facts()
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f'{path}: {one_line(error)}; expected {{"targets": ["a"], "leave_out": ["id"]}}, names '
            "of columns"
        ) from error
    return Facts(lists["targets"], lists["leave_out"])


def read_table(path: Path, facts: Facts) -> Table:
    """A csv or parquet file; rows of which an output is missing are left out.

    Outputs are the columns that `facts` names, or else those called target or y, or beginning with
    target_ or y_, or else the last one.

    Raises:
        UsageError: the file cannot be read, or it has no such columns.
    """
    import pandas as pd

    if path.suffix != ".csv":
        optional_module("pyarrow.parquet", path)
    try:
        frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError, OverflowError) as error:  # the kinds that pandas and pyarrow raise
        raise UsageError(
            f"{path}: expected a table, it cannot be read ({one_line(error)}); write it again"
        ) from error
    frame.columns = frame.columns.map(str)
    names = [*frame.columns]
    if len({*names}) < len(names):
        (twice, _), *_ = Counter(names).most_common(1)
        raise UsageError(f"{path}: column {twice!r} is there twice; rename one")
    targets = [*facts.targets] or [name for name in names if is_target(name)] or names[-1:]
    if missing := [name for name in targets if name not in names]:
        raise UsageError(
            f"{path}: no column {missing[0]!r}, an output by {FACTS}; it has {', '.join(names[:9])}"
        )
    inputs = [name for name in names if name not in (*targets, *facts.left_out)]
    if not inputs:
        raise UsageError(
            f"{path}: columns {', '.join(names)} are outputs or left out; expected inputs too"
        )
    frame = frame.replace([np.inf, -np.inf], np.nan).dropna(subset=targets)
    return Table(path.stem, frame[inputs], frame[targets])


def is_target(name: str) -> bool:
    """Whether a column is an output by its name."""
    return name.lower() in ("target", "y") or name.lower().startswith(("target_", "y_"))


class Numbers(NamedTuple):
    """A column of numbers."""

    name: str
    mean: float
    deviation: float
    some_missing: bool

    @property
    def width(self) -> int:
        """Inputs that it becomes."""
        return 1 + self.some_missing

    def encode(self, values: "pd.Series[Any]") -> Floats:
        """Values (n,) -> (n, width)."""
        numbers = as_numbers(values)
        gone = np.isnan(numbers)
        standard = np.where(gone, 0, (numbers - self.mean) / self.deviation)
        columns = [standard, gone.astype(float)] if self.some_missing else [standard]
        return np.stack(columns, 1)


class Words(NamedTuple):
    """A column of words."""

    name: str
    words: tuple[str, ...]

    @property
    def width(self) -> int:
        """Inputs that it becomes."""
        return len(self.words)

    def encode(self, values: "pd.Series[Any]") -> Floats:
        """Values (n,) -> (n, width)."""
        text = values.map(str, na_action="ignore").to_numpy(object)
        return (text[:, None] == np.array(self.words, object)).astype(float)


def as_numbers(values: "pd.Series[Any]") -> Floats:
    """Values as float64, those that are no numbers as nan."""
    import pandas as pd

    return pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def standard(numbers: Floats) -> tuple[float, float]:
    """Mean and standard deviation of numbers; a deviation of 0 counts as 1."""
    return float(numbers.mean()), float(numbers.std()) or 1.0


class Encoding:
    """How tables become arrays; made from training tables, and the same for all."""

    def __init__(self, tables: Sequence[Table]) -> None:
        """Look at the columns of the training tables."""
        import pandas as pd

        self.outputs = [*tables[0].targets.columns]
        self.columns: list[Numbers | Words] = []
        names = dict.fromkeys(name for table in tables for name in table.inputs.columns)
        for name in names:
            parts = [t.inputs[name] for t in tables if name in t.inputs.columns]
            missing = len(parts) < len(tables)
            values = pd.concat([part for part in parts if len(part)] or parts[:1])
            present = values.dropna()
            numbers = as_numbers(present)
            if np.isnan(numbers).any():
                counts = Counter(present.map(str))
                kept = sorted(counts, key=lambda word: (-counts[word], word))[:MOST_WORDS]
                self.columns.append(Words(name, tuple(sorted(kept))))
            elif len(numbers):
                missing = missing or len(present) < len(values)
                self.columns.append(Numbers(name, *standard(numbers), missing))
        self.tables = tables

    @cached_property
    def scale(self) -> list[tuple[float, float]]:
        """Mean and standard deviation of each output, over the rows of the training tables."""
        targets = np.concatenate([self.numbers(table) for table in self.tables])
        return [standard(column) for column in targets.T]

    @property
    def inputs(self) -> int:
        """D: the numbers that a row of inputs becomes."""
        return sum(column.width for column in self.columns)

    def x(self, table: Table) -> Floats:
        """The inputs of a table, float32 (n, D)."""
        import pandas as pd

        nothing = pd.Series(np.nan, index=table.inputs.index, dtype=object)
        parts = [column.encode(table.inputs.get(column.name, nothing)) for column in self.columns]
        return np.concatenate(parts, 1).astype(np.float32)

    def y(self, table: Table) -> Floats:
        """The standardised outputs of a table, float32 (n, outputs)."""
        mean, deviation = np.array(self.scale).T
        return ((self.numbers(table) - mean) / deviation).astype(np.float32)

    def numbers(self, table: Table) -> Floats:
        """The outputs of a table as they are, (n, outputs).

        Raises:
            UsageError: it has another number of outputs, or one that is not of numbers.
        """
        if len(table.targets.columns) != len(self.outputs):
            raise UsageError(
                f"table {table.name!r} has the outputs {', '.join(table.targets.columns)}, the "
                f"first table {', '.join(self.outputs)}; expected as many in every table: name "
                f"them in {FACTS}"
            )
        columns = [as_numbers(table.targets[name]) for name in table.targets.columns]
        for name, numbers in zip(table.targets.columns, columns, strict=True):
            if np.isnan(numbers).any():
                raise UsageError(
                    f"table {table.name!r}: its output {name!r} is not of numbers; for classes "
                    f"name the benchmark tabular[task=classification], or the outputs in {FACTS}"
                )
        return np.stack(columns, 1)


class TableArrays(NamedTuple):
    """The tables of a split as arrays, one table's rows after the other's."""

    names: list[str]
    counts: Integers  # (tables,)
    x: Floats  # (rows, D) float32
    y: Floats  # (rows, outputs) float32


def encoded(tables: Sequence[Table], encoding: Encoding) -> TableArrays:
    """Encode the tables of a split."""
    pairs = [(encoding.x(table), encoding.y(table)) for table in tables]
    counts = np.array([len(x) for x, _ in pairs], np.int64)
    x, y = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    return TableArrays([table.name for table in tables], counts, x, y)


def files_of(folder: Path) -> list[Path]:
    """The tables in a folder, in the order of their names.

    Raises:
        UsageError: two have the same name but for the ending.
    """
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in ENDINGS and path.is_file() and path.name[0] != "."
    )
    seen: Mapping[str, int] = Counter(path.stem for path in paths)
    for path in paths:
        if seen[path.stem] > 1:
            raise UsageError(f"{path}: there is another {path.stem}; expected one file a table")
    return paths
