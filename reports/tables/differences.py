"""Every row of a comparison against every other: which differences are significant.

Rows are compared within a block, those that can be compared: the inductive rows, the transductive
ones, or those that were tested on other episodes (`zoo.reports.tables.cells.block_of`).
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from zoo.reports.estimates import columns_of, compare, estimate_in, value_if_equal
from zoo.reports.formats.numbers import ratio_text, with_interval
from zoo.reports.formats.table import NONE, Cell, Column, Table
from zoo.reports.metrics import is_error, metric_of
from zoo.reports.published import counted
from zoo.reports.statistics import episodes_needed, holm
from zoo.reports.tables.cells import RecordRow, runs_of

LEVEL = 0.05
LEAST = 0.005  # the difference in accuracy that `needed` episodes would find: half a point
# What a difference is between: the claim depends on the number of seeds.
TRAINED, NEW = "these two trained models", "a new seed and new episodes"
# Columns in which the runs of a pair must be equal, and the reason to give if they are not.
SAME = {"episodes_fingerprint": "other test episodes", "data_fingerprint": "other data"}
SEEDS_TO_RANK = 3  # with fewer seeds of each row, a difference says little of the methods
DIFFERENCE_COLUMNS = [
    "column",
    "block",
    "metric",
    "first",
    "second",
    *columns_of("difference"),
    "p",
    "p_holm",
    "wilcoxon",
    "wilcoxon_holm",
    "seeds",
    "episodes",
    "claim",
    "needed",
    "why",
]
SEEDS_OF_CLAIM = {TRAINED: "one seed", NEW: "several seeds"}
HEADS = [
    "column",
    "first",
    "second",
    "difference",
    "p",
    "p (Holm)",
    "Wilcoxon (Holm)",
    "seeds x episodes",
    "episodes for 0.5 points",
]
NULLS = {
    TRAINED: "the two trained models are equally good on average over test episodes",
    NEW: "the two learners are equally good on average over seeds and test episodes",
}


def row_differences(
    contenders: pd.DataFrame,
    runs: pd.DataFrame,
    values: Mapping[str, pd.DataFrame],
) -> pd.DataFrame:
    """Compare all pairs of rows in each column and block of a table.

    A pair is compared by `compare` on the seeds and test episodes that both have. Holm's
    correction is over all pairs of a block, in all its columns.

    Args:
        contenders: one line for each run, as `compared_rows` returns it. Columns: `column` of the
            table, `block` of the row, `metric` of the column, `label` of the row, `seed`, `run`.
        runs: the frame from `records.load`.
        values: by finished run, a column per metric and a row per test episode.

    Returns:
        One line for each pair, in the order of the contenders. Columns: `column`, `block`,
        `metric`, `first`, `second`; `difference`, first minus second, or the ratio of squared
        errors, with the ends of its interval, `difference_low` and `difference_high`; p-values
        `p` of the t-test and `wilcoxon`, and with Holm's correction `p_holm` and `wilcoxon_holm`;
        `seeds`, a list; `episodes`, their number; `claim`, `TRAINED` or `NEW`; `needed`, the
        number of episodes that would find a difference of half a point of accuracy, inf where no
        number would; `why`, the reason if there is no comparison, else "". nan where there is no
        value.

    Raises:
        ValueError: two runs of a column have the same label and seed.
    """
    twice = contenders[contenders.duplicated(["column", "label", "seed"])]
    for line in runs_of(twice):
        raise ValueError(f"{line['label']}, {line['column']}: two runs of seed {line['seed']}")
    tested_on = dict(zip(runs["run"], runs[list(SAME)].fillna("").to_numpy().tolist(), strict=True))
    lines: list[dict[str, Any]] = []
    for (column, block), part in contenders.groupby(["column", "block"], sort=False):
        metric = part["metric"].iloc[0]
        table = pd.DataFrame({run: values[run][metric] for run in part["run"] if run in values})
        rows: dict[str, dict[int, _Run]] = {}  # runs by label and seed
        for label, of_row in part.groupby("label", sort=False):
            rows[str(label)] = {
                seed: _Run(table[run].to_numpy(float), len(values[run]), tested_on[run])
                for seed, run in zip(of_row["seed"], of_row["run"], strict=True)
                if run in table
            }
        for first, second in itertools.combinations(rows, 2):
            line = {"column": column, "block": block, "metric": metric}
            line |= {"first": first, "second": second, "seeds": [], "why": ""}
            try:
                line |= _compared(rows[first], rows[second], metric)
            except ValueError as error:
                line["why"] = f"{first} and {second}: {error}"
            lines.append(line)
    frame = pd.DataFrame(lines, columns=DIFFERENCE_COLUMNS)
    tests = ["p", "p_holm", "wilcoxon", "wilcoxon_holm", "needed"]
    numbers = [*columns_of("difference"), *tests]
    frame = frame.astype(dict.fromkeys(numbers, float) | {"episodes": "Int64"})
    frame.loc[frame["metric"].map(is_error).astype(bool), "needed"] = np.nan
    for _, pairs in frame.groupby("block"):
        for name in ("p", "wilcoxon"):
            frame.loc[pairs.index, f"{name}_holm"] = holm(pairs[name])
    return frame


def best_rows(pairs: pd.DataFrame, shown: pd.DataFrame) -> set[tuple[str, str]]:
    """The best row of each column and block, and all that do not differ significantly from it.

    Nothing is best where there is a single row, or where rows have fewer than three seeds: two
    seeds of one method differ by as much as two methods do.

    Args:
        pairs: as `row_differences` returns it.
        shown: the numbers of the table, as `comparison_numbers` returns them.

    Returns:
        Column and label of each.
    """
    chosen: set[tuple[str, str]] = set()
    for column, best, with_best in _pairs_with_best(pairs, shown):
        untested = with_best["p_holm"].isna().any()  # a row not tested may be as good
        if best is None or untested or (with_best["seeds"].map(len) < SEEDS_TO_RANK).any():
            continue
        significant = with_best["p_holm"] < LEVEL
        if (significant & ~_in_favour_of(best, with_best)).any():
            continue  # by the test another row is better than the one with the best number
        alike = with_best[~significant]
        labels = {best, *alike["first"], *alike["second"]}
        chosen |= {(column, str(label)) for label in labels}
    return chosen


def bold_cells(shown: pd.DataFrame, values: Mapping[str, pd.DataFrame]) -> set[tuple[str, str]]:
    """The `best_rows` of a table, computed from its numbers: column and label of each.

    Args:
        shown: one line for each number. Columns: `column`, `block`, `label`, `metric`, `value`;
            `runs`, the finished ones by seed.
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


def pairs_with_best(pairs: pd.DataFrame, shown: pd.DataFrame) -> pd.DataFrame:
    """In each column and block, the pairs of the row with the best number and each other row.

    Where fewer than two rows have a number there is no best one, and all pairs are kept.

    Args:
        pairs: as `row_differences` returns it.
        shown: as `comparison_numbers` returns it.
    """
    kept = [with_best for _, _, with_best in _pairs_with_best(pairs, shown)]
    return pd.concat(kept, ignore_index=True) if kept else pairs


def _in_favour_of(label: str, pairs: pd.DataFrame) -> pd.Series:
    """For each pair of this row and another one, whether this row is the better one."""
    equal = pairs["metric"].map(value_if_equal)
    first_better = (pairs["difference"] > equal) != pairs["metric"].map(is_error)
    return first_better == (pairs["first"] == label)


def _pairs_with_best(
    pairs: pd.DataFrame, shown: pd.DataFrame
) -> Iterator[tuple[str, str | None, pd.DataFrame]]:
    """For each column and block: the column, its best row, and the pairs that contain this row.

    Where fewer than two rows have a number, there is no best row, and all pairs are given.
    """
    for (column, _), part in pairs.groupby(["column", "block"], sort=False):
        best = _best(part, shown, str(column))
        if best is None:
            yield str(column), None, part
        else:
            yield str(column), best, part[(part["first"] == best) | (part["second"] == best)]


def _best(pairs: pd.DataFrame, shown: pd.DataFrame, column: str) -> str | None:
    """The row of these pairs with the best number; None where fewer than two have one."""
    numbers = shown[shown["column"].astype(str) == column].set_index("label")["value"]
    labels = set(pairs["first"]) | set(pairs["second"])
    numbers = numbers[numbers.index.isin(labels)]
    if len(numbers) < 2:
        return None
    return str(numbers.idxmin() if is_error(pairs["metric"].iloc[0]) else numbers.idxmax())


def differences_table(pairs: pd.DataFrame, title: str, power: bool = True) -> Table:
    """The `row_differences` as a table; significant ones are bold where rows have three seeds.

    Args:
        pairs: as `row_differences` returns it.
        title: what the caption begins with.
        power: whether to tell how many episodes it takes to find half a point.
    """
    if not power:
        pairs = pairs.assign(needed=np.nan)
    rows = []
    for line in runs_of(pairs):
        why = [line["why"]] if line["why"] else []
        significant = line["p_holm"] < LEVEL and len(line["seeds"]) >= SEEDS_TO_RANK
        rows.append(
            [
                Cell(line["column"]),
                Cell(line["first"]),
                Cell(line["second"]),
                Cell(_difference(line), why, bold=significant),
                Cell(_p(line["p"])),
                Cell(_p(line["p_holm"])),
                Cell(_p(line["wilcoxon_holm"])),
                Cell(NONE if why else f"{len(line['seeds'])} x {line['episodes']}"),
                Cell(_needed(line["needed"])),
            ]
        )
    in_blocks = len(set(pairs["block"])) > 1
    return Table(
        title,
        _caption(pairs),
        [Column(head) for head in _heads(pairs)],
        rows,
        blocks=list(pairs["block"]) if in_blocks else (),
    )


def _heads(pairs: pd.DataFrame) -> list[str]:
    """The headings; with one seed each, that of the difference names the claim."""
    if set(pairs["claim"].dropna()) == {TRAINED}:
        return [*HEADS[:3], f"difference between {TRAINED}", *HEADS[4:]]
    return HEADS


class _Run(NamedTuple):
    values: np.ndarray  # (E,) over all episodes of the column's runs, nan where it was not tested
    episodes: int  # the number that it was tested on
    tested_on: list[str]  # its fingerprints, in the order of SAME


def _compared(a: Mapping[int, _Run], b: Mapping[int, _Run], metric: str) -> dict[str, Any]:
    """The difference of two rows, each given by its runs by seed.

    Raises:
        ValueError: they cannot be compared.
    """
    if not a or not b:
        raise ValueError("a row without a finished run")
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        raise ValueError("no seed in common")
    runs = [row[seed] for row in (a, b) for seed in seeds]
    for number, what_differs in enumerate(SAME.values()):
        if len({run.tested_on[number] for run in runs}) > 1:
            raise ValueError(what_differs)
    if any(np.isfinite(run.values).sum() < run.episodes for run in runs):
        raise ValueError("an episode without a number")
    values = np.stack([run.values for run in runs])
    x, y = np.split(values[:, ~np.isnan(values).any(0)], 2)  # the episodes that all runs have
    result = compare(x, y, metric)
    return {
        **result.estimate.columns("difference"),
        "p": result.p,
        "wilcoxon": result.wilcoxon,
        "seeds": seeds,
        "episodes": x.shape[1],
        "claim": TRAINED if len(seeds) == 1 else NEW,
        "needed": episodes_needed(x - y, LEAST),
    }


def _caption(pairs: pd.DataFrame) -> str:
    """What a difference is, the null hypotheses, the correction, and what bold means."""
    claims = pairs["claim"].value_counts()
    if claims.empty:
        return "No pair can be compared."
    nulls = "; ".join(
        f"of {counted(claims[claim], 'pair', 'pairs')} ({SEEDS_OF_CLAIM[claim]}) that {null}"
        for claim, null in NULLS.items()
        if claim in claims
    )
    metric = str(pairs["metric"].iloc[0])
    if is_error(metric):
        difference = "the first's error over the second's (ratio of geometric means over the tasks)"
        test = "t-test's of logarithms"
    else:
        difference = "first minus second"
        test = "t-test's"
    words = [
        f"{metric_of(metric).name}; {difference}, paired over the seeds and test episodes that "
        "both have, with its 95 % interval.",
        f"p is the {test}, its null hypothesis {nulls}.",
        "Holm's correction is over all pairs of a block, shown or not.",
        "Wilcoxon's test is of the signed ranks of the episodes, so of the trained models alone.",
    ]
    if (pairs["seeds"].map(len) >= SEEDS_TO_RANK).any():
        words.append("Bold are those below 5 % with three seeds or more.")
    else:
        words.append("Nothing is bold: that takes three seeds of both rows.")
    if pairs["needed"].notna().any():
        infinite = ""
        if np.isinf(pairs["needed"]).any():
            infinite = "; ∞ where none would, with so few seeds"
        words.append(
            "Episodes for 0.5 points: how many would tell such a difference from 0 (two-sided at "
            f"5 %, power 80 %){infinite}."
        )
    return " ".join(words)


def _difference(line: RecordRow) -> str:
    difference = estimate_in(line, "difference")
    if is_error(line["metric"]):
        return ratio_text(difference)
    metric = metric_of(line["metric"])
    return with_interval(difference.times(metric.unit), metric.form, "+")


def _p(value: float) -> str:
    if pd.isna(value):
        return NONE
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _needed(value: float) -> str:
    if pd.isna(value):
        return NONE
    return "∞" if np.isinf(value) else f"{value:,.0f}"
