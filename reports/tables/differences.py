"""Every row of a comparison against every other: which differences are real."""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from zoo.reports.formats.numbers import with_interval
from zoo.reports.formats.table import NONE, Cell, Column, Table
from zoo.reports.metrics import metric_of
from zoo.reports.published import counted
from zoo.reports.statistics import episodes_needed, holm, paired_test
from zoo.reports.tables.cells import RecordRow, runs_of

LEVEL = 0.05
LEAST = 0.005  # the difference in accuracy that `needed` is about: half a point
TRAINED, NEW = "these two trained models", "a new seed and new episodes"  # claims
SAME = {"episodes_fingerprint": "other test episodes", "data_fingerprint": "other data"}
DIFFERENCE_COLUMNS = [
    "column", "metric", "first", "second", "difference", "ci95", "p", "p_holm", "wilcoxon",
    "wilcoxon_holm", "seeds", "episodes", "claim", "needed", "why",
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
    """All pairs of rows of each column of a table, with Holm's correction over all of them.

    A pair is compared by `paired_test` on the seeds and test episodes that both have.

    Args:
        contenders: one line a run. Columns: `column` of the table, `metric` that it shows, `label`
            of the row, `seed`, `run`; as `tables.contenders` returns it.
        runs: as `records.load` returns it.
        values: by run, a column a metric, a row a test episode; of the finished runs alone.

    Returns:
        One line a pair, in the order of the contenders: `column`, `first`, `second`; `difference`,
        first - second, and `ci95`, the half-width of its interval; `p` of the t-test, `wilcoxon`,
        and both as `_holm`; `seeds`, a list; `episodes`, how many; `claim`, whom it is about;
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
    for column, part in contenders.groupby("column", sort=False):
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
            line = {"column": column, "metric": metric, "first": first, "second": second}
            line |= {"seeds": [], "why": ""}
            try:
                line |= _compared(sides[first], sides[second])
            except ValueError as error:
                line["why"] = f"{first} and {second}: {error}"
            lines.append(line)
    frame = pd.DataFrame(lines, columns=DIFFERENCE_COLUMNS)
    numbers = ["difference", "ci95", "p", "p_holm", "wilcoxon", "wilcoxon_holm", "needed"]
    frame = frame.astype(dict.fromkeys(numbers, float) | {"episodes": "Int64"})
    frame.loc[frame["metric"] == "mse", "needed"] = np.nan
    for name in ("p", "wilcoxon"):
        frame[f"{name}_holm"] = holm(frame[name])
    return frame


def best_rows(found: pd.DataFrame, shown: pd.DataFrame) -> set[tuple[str, str]]:
    """The best row of each column, and those that are not told from it: (column, label).

    Of a single row there is nothing to be said.

    Args:
        found: as `row_differences` returns it.
        shown: the numbers of the table, as `tables.numbers` returns them.
    """
    chosen: set[tuple[str, str]] = set()
    told = found["p_holm"] < LEVEL
    pairs = found.loc[~told, ["column", "first", "second"]].to_numpy()
    near = {(column, *each) for column, *pair in pairs for each in (pair, pair[::-1])}
    for column, part in shown.groupby(shown["column"].astype(str)):
        means = part.set_index("label")["mean"]
        if len(means) < 2:
            continue
        less = part["metric"].iloc[0] == "mse"
        top = means.idxmin() if less else means.idxmax()
        with_top = (found["first"] == top) | (found["second"] == top)
        if found.loc[with_top & (found["column"] == column), "p_holm"].isna().any():
            continue  # a row that was not tested against the best may be as good
        for label in map(str, means.index):
            if label == top or (column, top, label) in near:
                chosen.add((str(column), label))
    return chosen


def differences_table(found: pd.DataFrame, title: str, power: bool = True) -> Table:
    """The `row_differences` as a table; those told from 0 are bold.

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
        rows.append(
            [
                Cell(line["column"]),
                Cell(line["first"]),
                Cell(line["second"]),
                Cell(_difference(line), why, bold=line["p_holm"] < LEVEL),
                Cell(_p(line["p"])),
                Cell(_p(line["p_holm"])),
                Cell(_p(line["wilcoxon_holm"])),
                Cell(NONE if why else f"{len(line['seeds'])} x {line['episodes']}"),
                Cell(_needed(line["needed"])),
            ]
        )
    return Table(title, _caption(found), [Column(head) for head in HEADS], rows)


class _Run(NamedTuple):
    values: np.ndarray  # (E,) of all episodes that a run of the column was tested on, nan for none
    total: int  # of its own episodes
    proofs: list[str]  # what SAME names


def _compared(a: Mapping[int, _Run], b: Mapping[int, _Run]) -> dict[str, Any]:
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
    test = paired_test(x, y)
    return {
        "difference": test.mean,
        "ci95": test.ci95,
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
    words = [
        f"{metric_of(found['metric'].iloc[0]).name}; first minus second, paired over the seeds "
        "and test episodes that both have; ± is the 95 % interval.",
        f"p is the t-test's, its null hypothesis {'; '.join(nulls)}.",
        f"Holm's correction is over {counted(found['p_holm'].count(), 'pair', 'pairs')}; bold are "
        "those below 5 %.",
        "Wilcoxon's test is of the signed ranks of the episodes, so of the trained models alone.",
    ]
    if found["needed"].notna().any():
        never = "; ∞ where none would, with so few seeds" * bool(np.isinf(found["needed"]).any())
        words.append(
            "Episodes for 0.5 points: how many would tell such a difference from 0 (two-sided at "
            f"5 %, power 80 %){never}."
        )
    return " ".join(words)


def _difference(line: RecordRow) -> str:
    _, unit, form = metric_of(line["metric"])
    return with_interval(unit * line["difference"], unit * line["ci95"], form, "+")


def _p(value: float) -> str:
    return NONE if pd.isna(value) else "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _needed(value: float) -> str:
    return NONE if pd.isna(value) else "∞" if np.isinf(value) else f"{value:,.0f}"
