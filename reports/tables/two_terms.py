"""The same comparison under two terms, side by side, and how the ranks change."""

from collections.abc import Mapping, Sequence

import pandas as pd

from zoo.reports.formats.table import Cell, Column, Table
from zoo.reports.metrics import is_error, metric_of
from zoo.reports.tables.comparison import (
    NAME,
    EpisodeValues,
    heading_of,
    main_metric_of,
    measured_cell,
    metric_in,
    named_lines,
)
from zoo.reports.tables.differences import SEEDS_TO_RANK


def ranks(
    parts: Mapping[str, pd.DataFrame],
    benchmark: str,
    title: str,
    order: Sequence[str] = (),
    values: EpisodeValues | None = None,
) -> Table:
    """Each learner's number under each of the terms, and its rank among the learners with both.

    The ranks under the two are written ``2 → 5``. There are none unless every row has three seeds.

    Args:
        parts: by terms, the rows of the frame from `records.load` whose runs were made under them.
        benchmark: a key or variant.
        title: what the caption calls the benchmark.
        order: learner keys, first to last.
        values: the frames from `records.values`.
    """
    tables = {name: named_lines(part, benchmark, order) for name, part in parts.items()}
    lines = [line for table in tables.values() for line in table.values()]
    main_metric = main_metric_of([cell.runs[0] for line in lines for cell in line.values()])
    shapes = sorted({shape for line in lines for shape in line})
    labels = list(dict.fromkeys(label for table in tables.values() for label in table))
    columns = [Column(NAME)]
    rows = [[Cell(label)] for label in labels]
    for shape in shapes:
        metric = metric_in(shape, main_metric)
        means: dict[str, pd.Series] = {}  # by terms
        seeds: list[int] = []  # of each number
        for name, table in tables.items():
            columns.append(Column(name, heading_of(shape)))
            numbers: dict[str, float] = {}
            for label, row in zip(labels, rows, strict=True):
                if shape in table.get(label, {}):
                    measured = measured_cell(table[label][shape].runs, metric, values)
                    numbers[label] = measured.estimate.value
                    seeds.append(len(measured.runs))
                    row.append(Cell(measured.text, measured.remarks))
                else:
                    row.append(Cell())
            means[name] = pd.Series(numbers)
        if not seeds or min(seeds) < SEEDS_TO_RANK:
            continue
        both = pd.DataFrame(means).dropna()
        rank = both.rank(method="min", ascending=is_error(metric)).astype(int)
        columns.append(Column("rank", heading_of(shape)))
        for label, row in zip(labels, rows, strict=True):
            ranked = label in rank.index
            row.append(Cell(" → ".join(map(str, rank.loc[label]))) if ranked else Cell())
    names = " and ".join(tables)
    return Table(
        title=f"{title}, terms {names}",
        caption=f"{metric_of(main_metric).name}; each learner under {names} terms, and, with three "
        "seeds of every row, its rank among those measured under both. Intervals as in the tables "
        "of each. A rank is one among all rows, transductive or not.",
        columns=columns,
        rows=rows,
    )
