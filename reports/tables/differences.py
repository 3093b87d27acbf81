"""Every row of a comparison against every other: which differences are real."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from zoo.reports.estimates import columns_of, compare, equality, estimate_in
from zoo.reports.formats.numbers import ratio_text, with_interval
from zoo.reports.formats.table import NONE, Cell, Column, Table
from zoo.reports.metrics import is_error, metric_of
from zoo.reports.published import counted
from zoo.reports.statistics import episodes_needed, holm
from zoo.reports.tables.cells import RecordRow, runs_of

LEVEL = 0.05
LEAST = 0.005  # the difference in accuracy that `needed` is about: half a point
TRAINED, NEW = "these two trained models", "a new seed and new episodes"  # claims
SAME = {"episodes_fingerprint": "other test episodes", "data_fingerprint": "other data"}
SEEDS_TO_RANK = 3  # of each row, from which a difference is one between methods
DIFFERENCE_COLUMNS = [
    "column", "block", "metric", "first", "second", *columns_of("difference"), "p", "p_holm",
    "wilcoxon", "wilcoxon_holm", "seeds", "episodes", "claim", "needed", "why",
]  # fmt: skip
SEEDS = {TRAINED: "one seed", NEW: "several seeds"}
HEADS = [
    "column", "first", "second", "difference", "p", "p (Holm)", "Wilcoxon (Holm)",
    "seeds x episodes", "episodes for 0.5 points",
]  # fmt: skip
NULLS = {
    TRAINED: "the two trained models are equally good on average over test episodes",
    NEW: "the two learners are equally good on average over seeds and test episodes",
}


def row_differences(
    contenders: pd.DataFrame,
    runs: pd.DataFrame,
    values: Mapping[str, pd.DataFrame],
) -> pd.DataFrame:
    """All pairs of rows of each column and block of a table.

    A pair is compared by `compare` on the seeds and test episodes that both have. Holm's
    correction is over the pairs of a block, of all its columns.

    Args:
        contenders: one line a run. Columns: `column` of the table, `block` that the row stands
            in, `metric` that the column shows, `label` of the row, `seed`, `run`; as
            `compared_rows` returns it.
        runs: as `records.load` returns it.
        values: by run, a column a metric, a row a test episode; of the finished runs alone.

    Returns:
        One line a pair, in the order of the contenders: `column`, `block`, `first`, `second`;
        `difference`, first minus second, or of squared errors their ratio, with the ends of its
        interval, `difference_low` and `difference_high`; `p` of the t-test, `wilcoxon`, and both
        as `_holm`; `seeds`, a list; `episodes`, how many; `claim`, whom it is about;
        `needed`, how many episodes would tell half a point of accuracy from 0, inf where none
        would; `why` there is no comparison, else "". nan where there is none.

    Raises:
        ValueError: two runs of a column have the same label and seed.
    """
    twice = contenders[contenders.duplicated(["column", "label", "seed"])]
    for line in runs_of(twice):
        raise ValueError(f"{line['label']}, {line['column']}: two runs of seed {line['seed']}")
    proofs = dict(zip(runs["run"], runs[list(SAME)].fillna("").to_numpy().tolist(), strict=True))
    lines: list[dict[str, Any]] = []
    for (column, block), part in contenders.groupby(["column", "block"], sort=False):
        metric = part["metric"].iloc[0]
        table = pd.DataFrame({run: values[run][metric] for run in part["run"] if run in values})
        found = {
            run: _Run(table[run].to_numpy(float), len(values[run]), proofs[run])
            for run in map(str, table)
        }
        sides = {
            str(label): {
                seed: found[run]
                for seed, run in zip(own["seed"], own["run"], strict=True)
                if run in found
            }
            for label, own in part.groupby("label", sort=False)
        }
        for first, second in itertools.combinations(sides, 2):
            line = {"column": column, "block": block, "metric": metric}
            line |= {"first": first, "second": second, "seeds": [], "why": ""}
            try:
                line |= _compared(sides[first], sides[second], metric)
            except ValueError as error:
                line["why"] = f"{first} and {second}: {error}"
            lines.append(line)
    frame = pd.DataFrame(lines, columns=DIFFERENCE_COLUMNS)
    tests = ["p", "p_holm", "wilcoxon", "wilcoxon_holm", "needed"]
    numbers = [*columns_of("difference"), *tests]
    frame = frame.astype(dict.fromkeys(numbers, float) | {"episodes": "Int64"})
    frame.loc[frame["metric"].map(is_error).astype(bool), "needed"] = np.nan
    for _, family in frame.groupby("block"):
        for name in ("p", "wilcoxon"):
            frame.loc[family.index, f"{name}_holm"] = holm(family[name])
    return frame


def best_rows(found: pd.DataFrame, shown: pd.DataFrame) -> set[tuple[str, str]]:
    """The best row of each column and block, and those that are not told from it: (column, label).

    Of a single row there is nothing to be said, nor of rows with fewer than three seeds: one
    method's own seeds differ by as much as two methods do.

    Args:
        found: as `row_differences` returns it.
        shown: the numbers of the table, as `comparison_numbers` returns them.
    """
    chosen: set[tuple[str, str]] = set()
    for column, top, against in _against_best(found, shown):
        untested = against["p_holm"].isna().any()  # a row not tested may be as good
        if top is None or untested or (against["seeds"].map(len) < SEEDS_TO_RANK).any():
            continue
        told = against["p_holm"] < LEVEL
        if (told & ~_for(against, top)).any():
            continue  # by the test another row is better than the one with the best number
        near = against[~told]
        alike = {top, *near["first"], *near["second"]}
        chosen |= {(column, str(label)) for label in alike}
    return chosen


def bold_cells(shown: pd.DataFrame, values: Mapping[str, pd.DataFrame]) -> set[tuple[str, str]]:
    """The `best_rows` of a table, from its numbers alone.

    Args:
        shown: one line a number. Columns: `column`, `block`, `label`, `metric`, `value`; `runs`,
            the finished ones by seed.
        values: as for `row_differences`.
    """
    runs = [
        {name: line[name] for name in ("column", "block", "label", "metric")} | run
        for line in runs_of(shown)
        for run in line["runs"]
    ]
    if not runs:
        return set()
    frame = pd.DataFrame(runs)
    return best_rows(row_differences(frame, frame, values), shown)


def pairs_with_best(found: pd.DataFrame, shown: pd.DataFrame) -> pd.DataFrame:
    """The pairs of each column and block that have its best row, by the number it shows.

    Where fewer than two rows show a number there is no best one, and all pairs are kept.

    Args:
        found: as `row_differences` returns it.
        shown: as `comparison_numbers` returns it.
    """
    kept = [against for _, _, against in _against_best(found, shown)]
    return pd.concat(kept, ignore_index=True) if kept else found


def _for(pairs: pd.DataFrame, label: str) -> pd.Series:
    """Which of these pairs, all with a label, speak for it."""
    equal = pairs["metric"].map(equality)
    first_better = (pairs["difference"] > equal) != pairs["metric"].map(is_error)
    return first_better == (pairs["first"] == label)


def _against_best(
    found: pd.DataFrame, shown: pd.DataFrame
) -> Iterator[tuple[str, str | None, pd.DataFrame]]:
    """Of each column and block the column, its best row, and the pairs that have it.

    Where fewer than two rows show a number, there is no best row, and all pairs are given.
    """
    for (column, _), pairs in found.groupby(["column", "block"], sort=False):
        top = _best(pairs, shown, str(column))
        with_top = (pairs["first"] == top) | (pairs["second"] == top)
        yield str(column), top, pairs if top is None else pairs[with_top]


def _best(pairs: pd.DataFrame, shown: pd.DataFrame, column: str) -> str | None:
    """The row of these pairs that shows the best number; None where fewer than two show one."""
    own = shown[shown["column"].astype(str) == column].set_index("label")["value"]
    labels = set(pairs["first"]) | set(pairs["second"])
    own = own[own.index.isin(labels)]
    if len(own) < 2:
        return None
    return str(own.idxmin() if is_error(pairs["metric"].iloc[0]) else own.idxmax())


def differences_table(found: pd.DataFrame, title: str, power: bool = True) -> Table:
    """The `row_differences` as a table; of three seeds and more those told from 0 are bold.

    Args:
        found: as `row_differences` returns it.
        title: what the caption begins with.
        power: whether to say how many episodes half a point needs.
    """
    if not power:
        found = found.assign(needed=np.nan)
    rows = []
    for line in runs_of(found):
        why = [line["why"]] if line["why"] else []
        told = line["p_holm"] < LEVEL and len(line["seeds"]) >= SEEDS_TO_RANK
        rows.append(
            [
                Cell(line["column"]),
                Cell(line["first"]),
                Cell(line["second"]),
                Cell(_difference(line), why, bold=told),
                Cell(_p(line["p"])),
                Cell(_p(line["p_holm"])),
                Cell(_p(line["wilcoxon_holm"])),
                Cell(NONE if why else f"{len(line['seeds'])} x {line['episodes']}"),
                Cell(_needed(line["needed"])),
            ]
        )
    several = len(set(found["block"])) > 1
    return Table(
        title,
        _caption(found),
        [Column(head) for head in _heads(found)],
        rows,
        blocks=list(found["block"]) if several else (),
    )


def _heads(found: pd.DataFrame) -> list[str]:
    """The heads; of one seed each, the difference is headed by whom it is between."""
    claims = set(found["claim"].dropna())
    difference = "difference between these two trained models" if claims == {TRAINED} else HEADS[3]
    return [*HEADS[:3], difference, *HEADS[4:]]


class _Run(NamedTuple):
    values: np.ndarray  # (E,) of all episodes that a run of the column was tested on, nan for none
    total: int  # of its own episodes
    proofs: list[str]  # what SAME names


def _compared(a: Mapping[int, _Run], b: Mapping[int, _Run], metric: str) -> dict[str, Any]:
    """What two rows, each with its runs by seed, differ in.

    Raises:
        ValueError: they cannot be compared.
    """
    if not a or not b:
        raise ValueError("a row without a finished run")
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        raise ValueError("no seed in common")
    runs = [side[seed] for side in (a, b) for seed in seeds]
    for text, *proofs in zip(SAME.values(), *(run.proofs for run in runs), strict=True):
        if len(set(proofs)) > 1:
            raise ValueError(text)
    if any(np.isfinite(run.values).sum() < run.total for run in runs):
        raise ValueError("an episode without a number")
    both = np.stack([run.values for run in runs])
    x, y = np.split(both[:, ~np.isnan(both).any(0)], 2)
    test = compare(x, y, metric)
    return {
        **test.estimate.columns("difference"),
        "p": test.p,
        "wilcoxon": test.wilcoxon,
        "seeds": seeds,
        "episodes": x.shape[1],
        "claim": TRAINED if len(seeds) == 1 else NEW,
        "needed": episodes_needed(x - y, LEAST),
    }


def _caption(found: pd.DataFrame) -> str:
    """Which claim is made, of how many, and what is corrected for."""
    claims = found["claim"].value_counts()
    if claims.empty:
        return "No pair can be compared."
    nulls = [
        f"of {counted(claims[c], 'pair', 'pairs')} ({SEEDS[c]}) that {NULLS[c]}"
        for c in NULLS
        if c in claims
    ]
    metric = str(found["metric"].iloc[0])
    kind = "the first's error over the second's" if is_error(metric) else "first minus second"
    if is_error(metric):
        kind += " (ratio of geometric means over the tasks)"
    words = [
        f"{metric_of(metric).name}; {kind}, paired over the seeds and test episodes that both "
        "have, with its 95 % interval.",
        f"p is the t-test's{' of logarithms' * is_error(metric)}, its null hypothesis "
        f"{'; '.join(nulls)}.",
        "Holm's correction is over all pairs of a block, shown or not.",
        "Wilcoxon's test is of the signed ranks of the episodes, so of the trained models alone.",
    ]
    if (found["seeds"].map(len) >= SEEDS_TO_RANK).any():
        words.append("Bold are those below 5 % with three seeds or more.")
    else:
        words.append("Nothing is bold: that takes three seeds of both rows.")
    if found["needed"].notna().any():
        never = "; ∞ where none would, with so few seeds" * bool(np.isinf(found["needed"]).any())
        words.append(
            "Episodes for 0.5 points: how many would tell such a difference from 0 (two-sided at "
            f"5 %, power 80 %){never}."
        )
    return " ".join(words)


def _difference(line: RecordRow) -> str:
    found = estimate_in(line, "difference")
    if is_error(line["metric"]):
        return ratio_text(found)
    _, unit, form, *_ = metric_of(line["metric"])
    return with_interval(found.times(unit), form, "+")


def _p(value: float) -> str:
    return NONE if pd.isna(value) else "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _needed(value: float) -> str:
    return NONE if pd.isna(value) else "∞" if np.isinf(value) else f"{value:,.0f}"
