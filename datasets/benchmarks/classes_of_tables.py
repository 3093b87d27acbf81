"""The classes of tables as a store: rows of numbers take the place of images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.datasets.benchmarks.tabular import OneTableSampler, TableOfClasses
from zoo.datasets.episodes.image_store import Store


@dataclass(frozen=True, eq=False)
class ClassesOfTables(Store):
    """A store whose ``images`` are rows, float32 (n, D); an episode's classes are of one table."""

    tables: Sequence[TableOfClasses] = field(default=(), kw_only=True)

    @classmethod
    def of(cls, tables: Sequence[TableOfClasses]) -> "ClassesOfTables":
        """A store of all classes of all tables of a split."""
        names = [f"{table.name}: {name}" for table in tables for name in table.rows]
        plain = Store.from_arrays(names, [rows for table in tables for rows in table.rows.values()])
        return cls(plain.images, plain.offsets, plain.names, plain.fingerprint, tables=tables)

    def sampler(
        self, way: int, shot: int, query: int, key: Any, split: str = ""
    ) -> OneTableSampler:
        """The sampler of its episodes."""
        return OneTableSampler(self.tables, way, shot, query, key, split)
