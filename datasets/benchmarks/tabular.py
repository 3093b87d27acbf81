"""Own tables: a folder of csv or parquet files, one task of regression or classification each.

A task's episode is some rows of its table to learn from, and others to predict; of classes, rows of
N classes of the table. Splits are the
folders train, val and test, or what splits.csv says of each file, or a rule that depends on the
files' names and a seed, as for own images. `table_columns` says what becomes of the columns.
"""

import csv
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.benchmarks.regression import Regression
from zoo.datasets.benchmarks.table_columns import (
    Encoding,
    Table,
    TableArrays,
    encoded,
    files_of,
    read_facts,
    read_table,
)
from zoo.datasets.episodes.hash_random import Integers, derive, draw
from zoo.datasets.episodes.sampler import EpisodeSampler, Indices
from zoo.datasets.readers.any_folders import divide
from zoo.datasets.readers.own_listing import folders_of_splits, split_of
from zoo.errors import UsageError
from zoo.registry import register_benchmark

if TYPE_CHECKING:  # the doctor reads this file, and needs no torch
    from zoo import Episode

SPLITS_FILE = "splits.csv"
EXPECTED = "a folder of csv or parquet files, one task each"


class TableSampler(EpisodeSampler):
    """Draws a table, and rows of it: task i has the same table and queries whatever the shot."""

    def __init__(
        self, tables: TableArrays, shot: int, query: int, key: NDArray[np.uint64], split: str
    ) -> None:
        """Check that such tasks can be drawn.

        Args:
            tables: of the split.
            shot: K, the rows that are shown.
            query: Q.
            key: from `zoo.datasets.episodes.hash_random.key_of`.
            split: its name, for messages.

        Raises:
            UsageError: a table has fewer than K + Q rows.
        """
        smallest = int(tables.counts.argmin())
        rows, name = int(tables.counts[smallest]), tables.names[smallest]
        if rows < shot + query:
            flag = "--train_" if split == "train" else "--"
            few = int((tables.counts < shot + query).sum())
            raise UsageError(
                f"shot {shot} + query {query}: {few} of {len(tables.counts)} {split} tables have "
                f"fewer rows, {name!r} has {rows}; take a smaller {flag}shot and {flag}query, or "
                "leave small tables out with tabular[least=...]"
            )
        super().__init__(tables.counts, 1, shot, query, key, split, tables.names)


class Tables:
    """The tables of a split; for tabular tasks what a store is for images."""

    def __init__(self, tables: TableArrays, outputs: int) -> None:
        self.tables, self.outputs = tables, outputs
        self.starts = np.cumsum([0, *tables.counts])
        digest = blake2b("\n".join(tables.names).encode(), digest_size=16)
        for array in (tables.counts, tables.x, tables.y):
            digest.update(np.ascontiguousarray(array).data)
        self.fingerprint = digest.hexdigest()

    def sampler(
        self, way: int, shot: int, query: int, key: NDArray[np.uint64], split: str = ""
    ) -> TableSampler:
        """The sampler of its tasks; `way` is not used, as the number of outputs is fixed."""
        return TableSampler(self.tables, shot, query, key, split)

    def meta_batch(self, drawn: TableSampler, indices: Indices) -> "Episode":
        """The tasks as a learner is given them: x (T, n, D) and y (T, n, outputs), float."""
        import torch

        from zoo import Episode, Examples

        rows = self.starts[indices.classes] + indices.images[:, 0]  # (T, Q+K)
        x, y = (torch.from_numpy(array[rows]) for array in (self.tables.x, self.tables.y))
        queries = drawn.query
        support, query = (Examples(x[:, part], y[:, part]) for part in _parts(queries))
        return Episode(support, query, self.outputs)


def _parts(queries: int) -> tuple[slice, slice]:
    """Where the support and the queries are: the queries are drawn first."""
    return slice(queries, None), slice(None, queries)


class TableOfClasses(NamedTuple):
    """The rows of each class of one table."""

    name: str
    rows: dict[str, NDArray[np.float32]]  # (n, D)


class OneTableSampler(EpisodeSampler):
    """Draws a table, N of its classes, and rows of these."""

    def __init__(
        self,
        tables: Sequence[TableOfClasses],
        way: int,
        shot: int,
        query: int,
        key: NDArray[np.uint64],
        split: str,
    ) -> None:
        """Check that such episodes can be drawn.

        Args:
            tables: of the split.
            way: N.
            shot: K.
            query: Q, rows of each class.
            key: from `zoo.datasets.episodes.hash_random.key_of`.
            split: its name, for messages.

        Raises:
            UsageError: a table has fewer than N classes, or a class fewer than K + Q rows.
        """
        flag = "--train_" if split == "train" else "--"
        for table in tables:
            if len(table.rows) < way:
                raise UsageError(
                    f"{flag}way {way}: {split} table {table.name!r} has {len(table.rows)} classes; "
                    f"take {flag}way {len(table.rows)} at most, or leave that table out"
                )
            for name, rows in table.rows.items():
                if len(rows) < shot + query:
                    raise UsageError(
                        f"shot {shot} + query {query}: class {name!r} of {split} table "
                        f"{table.name!r} has {len(rows)} rows; take a smaller {flag}shot and "
                        f"{flag}query, or leave small classes out with tabular[least=...]"
                    )
        counts = np.array([len(rows) for table in tables for rows in table.rows.values()])
        super().__init__(counts, way, shot, query, key, split)
        self.sizes = np.array([len(table.rows) for table in tables])  # classes of each table

    def classes(self, numbers: NDArray[np.uint64], keys: NDArray[np.uint64]) -> Integers:
        """The classes of episodes, all of one table: (T, N)."""
        table_keys, class_keys = (derive(keys, np.full(1, s, np.uint64)) for s in range(2))
        chosen = draw(table_keys, np.full(len(keys), len(self.sizes)), 1)[:, 0]
        places = draw(class_keys, self.sizes[chosen], self.way)
        first = np.cumsum([0, *self.sizes])[chosen]
        return first[:, None] + places


@register_benchmark("tabular")
class Tabular(Regression):
    """Own tables: a folder of csv or parquet files, one regression or classification task each."""

    key = "tabular"
    title = "Tables"
    tables = True
    query = 15
    allowed: ClassVar = {
        "task": ("regression", "classification"),
        "outputs": tuple(range(1, 17)),
        "least": (0, 20, 30, 50, 100, 200, 500),
        "seed": tuple(range(10)),
    }
    licence = "that of your tables"

    @property
    def regression(self) -> bool:  # type: ignore[override]
        """Whether numbers are predicted, and not classes."""
        return self.options["task"] == "regression"

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """The numbers that are predicted for each row."""
        return self.options["outputs"]

    def open(self, data: Path | None = None) -> dict[str, Any]:
        """The tables of each split, normalised by those of training: `Tables`, or a `Store`.

        Raises:
            UsageError: there are none, or they do not go together; the message says what to do.
        """
        if data is None or not data.is_dir():
            raise UsageError(f"--data {data}: expected {EXPECTED}; there is no such folder")
        facts = read_facts(data)
        splits = {
            split: list(self._large(read_table(path, facts) for path in paths))
            for split, paths in self._files(data).items()
        }
        least = self.options["least"]
        for split, tables in splits.items():
            if not tables:
                raise UsageError(
                    f"{data}: no {split} table has {max(least, 1)} rows with an output"
                )
        encoding = Encoding(splits["train"])
        if not encoding.inputs:
            raise UsageError(f"{data}: no column of inputs has a value in the training tables")
        if not self.regression:
            from zoo.datasets.benchmarks.classes_of_tables import ClassesOfTables

            by_split = {
                split: [rows_by_class(table, encoding, least) for table in tables]
                for split, tables in splits.items()
            }
            for split, tables_of in by_split.items():
                by_split[split] = [table for table in tables_of if len(table.rows) > 1]
                if not by_split[split]:
                    raise UsageError(f"{data}: no {split} table has two classes of {least} rows")
            return {split: ClassesOfTables.of(tables) for split, tables in by_split.items()}
        if len(encoding.outputs) != self.outputs:
            raise UsageError(
                f"{data}: tables have {len(encoding.outputs)} outputs "
                f"({', '.join(encoding.outputs[:5])}); name the benchmark "
                f"tabular[outputs={len(encoding.outputs)}], or the outputs in tables.json"
            )
        return {
            split: Tables(encoded(tables, encoding), self.outputs)
            for split, tables in splits.items()
        }

    def learn_input_shape(self, stores: Any) -> None:
        """Learn from opened tables how many inputs there are."""
        train = stores["train"]
        x = train.tables.x if self.regression else train.images
        self.image = (x.shape[1],)  # type: ignore[misc]

    def _large(self, tables: Iterator[Table]) -> Iterator[Table]:
        least = max(self.options["least"], 1)  # of classes: rows of each, see `rows_by_class`
        return (table for table in tables if len(table.inputs) >= least)

    def _files(self, data: Path) -> dict[str, list[Path]]:
        """The tables' files by split.

        Raises:
            UsageError: there are none for training or for the test, or a line names no file.
        """
        folders = {split: files_of(place) for split, place in folders_of_splits(data).items()}
        files = {split: paths for split, paths in folders.items() if paths}
        if "train" not in files:
            paths = [path for path in files_of(data) if path.name != SPLITS_FILE]
            if (data / SPLITS_FILE).is_file():
                files = _by_list(data / SPLITS_FILE, paths)
            else:
                by_name = {path.stem: path for path in paths}
                lists = divide([*by_name], self.options["seed"])
                files = {
                    split: [by_name[n] for n in sorted(names)] for split, names in lists.items()
                }
        for split in ("train", "test"):
            if not files.get(split):
                raise UsageError(
                    f"{data}: expected {EXPECTED}, found none to {split} on; have at least four, "
                    "or the folders train, val and test"
                )
        return {split: files[split] for split in ("train", "val", "test") if files.get(split)}


def rows_by_class(table: Table, encoding: Encoding, least: int) -> TableOfClasses:
    """The encoded rows of each class of a table; classes with fewer than `least` are left out.

    Raises:
        UsageError: it has several outputs, or only one class although none was left out.
    """
    if len(table.targets.columns) != 1:
        raise UsageError(
            f"table {table.name!r} has the outputs {', '.join(table.targets.columns)}; expected "
            "one column of classes: name it in tables.json"
        )
    labels = table.targets.iloc[:, 0].map(str).to_numpy(object)
    x = encoding.x(table)
    rows = {name: x[labels == name] for name in sorted({*labels})}
    if len(rows) < 2:
        raise UsageError(f"table {table.name!r} has {len(rows)} classes; expected two or more")
    rows = {name: of_class for name, of_class in rows.items() if len(of_class) >= least}
    return TableOfClasses(table.name, rows)


def _by_list(path: Path, paths: list[Path]) -> dict[str, list[Path]]:
    """The files of each split, by a csv of file and split."""
    by_name = {name: each for each in paths for name in (each.name, each.stem)}
    files: dict[str, list[Path]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [*csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: expected a csv file of file,split; write it again") from error
    for line, row in enumerate(rows, 1):
        if line == 1 and row == ["file", "split"]:
            continue
        split = split_of(row[1]) if len(row) == 2 else None
        if split is None or row[0] not in by_name:
            raise UsageError(
                f"{path}, line {line}: {','.join(row)!r:.60}; expected the name of a table beside "
                "it and its split, train, val or test"
            )
        files.setdefault(split, []).append(by_name[row[0]])
    for split, listed in files.items():
        if len({*listed}) < len(listed):
            raise UsageError(f"{path}: a table is twice in {split}; expected each once")
    both = [each for each in paths if sum(each in listed for listed in files.values()) > 1]
    if both:
        raise UsageError(f"{path}: {both[0].name} is in two splits; expected it in one")
    return files
