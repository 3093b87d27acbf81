"""Published few-shot numbers, and which of them a run is compared with.

The numbers are in published.csv, the meaning of each column in published.md, beside this file.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zoo.reports.estimates import Estimate

RunLike = Mapping[str, Any] | pd.Series

# The default class split of each benchmark, named as in the column `split` of published.csv.
SPLITS = {
    "miniimagenet": "ravi",
    "tieredimagenet": "ren",
    "cifarfs": "bertinetto",
    "fc100": "oreshkin",
    "omniglot": "vinyals",
}
SAME_TEST = {"1200/423", "vinyals"}  # Omniglot splits that differ in their training classes only
LENGTH = {"updates", "validations"}  # settings of how long a run trains
# Where a paper's text can be read in two ways, its number is compared with either setting.
READINGS = {("normalise", "both"), ("normalise", "support")}
REACHED, BELOW = "↑", "↓"
DIFFERENT = (
    "the interval of the difference does not hold 0; a number printed without interval is taken to "
    "have ours"
)
AGREEMENT = {
    BELOW: f"worse than published: {DIFFERENT}",
    REACHED: f"better than published: {DIFFERENT}",
}
CONV4_WIDTH = re.compile(r"(?:conv4-|channels=)(\d+)")  # as settings and papers write it
# Remarks of a published number, by what published.csv has in a column.
REMARKS = {
    ("ci_over", "seeds"): "published: ± over training seeds",
    ("ci_over", "std"): "published: ± 1 deviation",
    ("origin", "rerun"): "published: re-run by a later paper",
    ("confidence", "secondary"): "published: read in a summary only",
    ("confidence", "remembered"): "published: remembered, not yet read",
}
# Remarks that are left out where the row's own note contains this word, and so says it better.
SAID_BY_NOTE = {
    "published: re-run by a later paper": "rerun",
    "published: ± over training seeds": "seeds",
    "published: split vinyals80-20, other test classes": "80/20",
}
COLUMN_NOTE = "shot = labelled views seen (K-1)"  # about a column of published.csv, not the number
TRANSDUCTIVE = "transductive: a query's prediction may depend on the other queries"


def published() -> pd.DataFrame:
    """All rows, in file order.

    Text columns are stripped, and "" where the file has nothing. `way`, `shot` and `primary` are
    nullable integers ("var" becomes missing), `value` and `ci95` floats. `printed` is the two as
    the file writes them: "98.8", "48.70 ± 1.84".
    """
    path = Path(__file__).with_name("published.csv")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    frame = frame.apply(lambda column: column.str.strip())
    frame["printed"] = (frame["value"] + " ± " + frame["ci95"]).str.removesuffix(" ± ")
    for name in ("way", "shot", "primary"):
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype("Int64")
    for name in ("value", "ci95"):
        frame[name] = pd.to_numeric(frame[name])
    return frame


def match(run: RunLike, published: pd.DataFrame, metric: str = "accuracy") -> pd.Series | None:
    """The published number that a run is compared with, if there is one.

    A published row fits if it is primary, has the run's learner, benchmark, backbone family, way,
    shot and metric, all its `settings` equal the run's, and they name every override of the run's
    variant. Two kinds of override need not be named: the length of training (tables show the share
    of the paper's tasks instead) and `READINGS`. Of several rows that fit, the one with most
    settings is taken, or else the first in the file.

    The accuracy at the K-th instance of a class is published as that of K - 1 shots. A run that
    tests the weights of another run (`zoo test`) is compared with none: papers train on the
    benchmark that they test on.

    Args:
        run: a row of the frame from `records.load`.
        published: as `published()` returns it.
        metric: as the record names it.
    """
    if isinstance(run.get("trained_on"), str):
        return None
    _, _, instance = metric.partition("@instance")
    wanted = {
        "primary": 1,
        "learner_key": run["learner"],
        "benchmark_key": benchmark_key(run["benchmark"]),
        "backbone_key": run["backbone_family"],
        "way": run["way"],
        "shot": int(instance) - 1 if instance else run["shot"],
        "metric": metric,
    }
    fits = np.ones(len(published), dtype=bool)
    for column, value in wanted.items():
        cells = published[column]
        equal = cells.isna() if pd.isna(value) else cells == value
        fits &= equal.to_numpy(bool, na_value=False)
    rows = published[fits]
    resolved = {name: format_value(value) for name, value in run["settings"].items()}
    overrides = {pair[0] for pair in run["variant"].items() if pair not in READINGS} - LENGTH
    best = None
    most_settings = -1
    for position, text in enumerate(rows["settings"]):
        settings = dict(pair.split("=", 1) for pair in text.split(";") if pair)
        equal = all(resolved.get(name) == value for name, value in settings.items())
        if equal and overrides <= set(settings) and len(settings) > most_settings:
            best = position
            most_settings = len(settings)
    return None if best is None else rows.iloc[best]


def _transductive_remark(row: pd.Series, run: RunLike | None) -> list[str]:
    """A remark on whether the published number is transductive, where it needs one."""
    if row["transductive"] == "yes":
        return [TRANSDUCTIVE]
    if run is None:
        return []
    if row["transductive"] == "?":
        return ["published: not known whether transductive"]
    return ["published: not transductive, our run is"] if run["transductive"] else []


def remarks(row: pd.Series, run: RunLike | None) -> list[str]:
    """Footnotes of a published number: how its protocol departs from that of our run.

    Without a run, from the benchmark's usual protocol.
    """
    texts = _transductive_remark(row, run)
    split = row["split"]
    our_split = SPLITS.get(row["benchmark_key"]) if run is None else _split(run)
    same_test = {split, our_split} == SAME_TEST
    if split == "?":
        texts.append("published: split not known")
    elif split not in ("-", our_split) and not (same_test and run is None):
        test = "the same" if same_test else "other"
        texts.append(f"published: split {split}, {test} test classes")
    queries = None if run is None else run["settings"].get("query")
    if row["queries"].isdigit() and queries is not None and row["queries"] != str(queries):
        texts.append(f"published: {counted(row['queries'], 'query', 'queries')} a class")
    if row["ensemble"] not in ("1", "?", ""):
        texts.append(f"published: average of {row['ensemble']} models")
    texts += [text for (column, value), text in REMARKS.items() if row[column] == value]
    theirs = CONV4_WIDTH.search(row["backbone"])
    ours = CONV4_WIDTH.search(_backbone(run))
    if theirs and ours and theirs[1] != ours[1]:
        texts.append(f"published: {theirs[1]} channels")
    note = row["note"].replace(COLUMN_NOTE, "")
    texts = [text for text in texts if text not in SAID_BY_NOTE or SAID_BY_NOTE[text] not in note]
    if note:
        texts.append(f"published: {note}")
    return texts


def agreement(ours: Estimate, theirs: float, their_ci95: float) -> str:
    """Compare a measured accuracy with a published one: `REACHED`, `BELOW` or "".

    `REACHED` is significantly better than published, `BELOW` significantly worse, "" neither: the
    95 % interval of the difference, whose half-width is the root of the sum of both squared
    half-widths, holds 0. A number printed without an interval is taken to have ours. "" also
    where we have no interval.

    Args:
        ours: in the unit of the published number.
        theirs: the published number.
        their_ci95: half of its interval's width; nan where none was printed.
    """
    difference = minus_published(ours, theirs, their_ci95)
    if difference.low > 0:
        return REACHED
    return BELOW if difference.high < 0 else ""


def minus_published(ours: Estimate, theirs: float, their_ci95: float) -> Estimate:
    """A measured accuracy minus a published one, with its 95 % interval.

    Half of its width is the root of the sum of both squared half-widths, on each side.

    Args:
        ours: in the unit of the published number.
        theirs: the published number.
        their_ci95: half of its interval's width; nan where none was printed, and then ours is
            taken.
    """

    def half_width(of_ours: float) -> float:
        return math.hypot(of_ours, of_ours if np.isnan(their_ci95) else their_ci95)

    difference = ours.value - theirs
    return Estimate(
        difference,
        difference - half_width(ours.value - ours.low),
        difference + half_width(ours.high - ours.value),
    )


def benchmark_key(benchmark: str) -> str:
    """``omniglot`` of ``omniglot[split=1200/423]``."""
    return benchmark.partition("[")[0]


def counted(number: Any, one: str, many: str) -> str:
    """``1 query``, ``15 queries``."""
    return f"{number} {one if int(number) == 1 else many}"


def format_value(value: Any) -> str:
    """A setting's value as variants, tables and published.csv write it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def format_overrides(overrides: Mapping[str, Any]) -> str:
    """``first_order=true,inner_lr=0.1``, sorted by name; "" without overrides."""
    return ",".join(f"{name}={format_value(overrides[name])}" for name in sorted(overrides))


def _backbone(run: RunLike | None) -> str:
    """The backbone of a run; a plain Conv-4 with its 64 channels written out; "" without a run."""
    text = "" if run is None else str(run["settings"].get("backbone", ""))
    if text in ("conv4", "conv4_strided", "conv4_mean"):
        return f"{text}[channels=64]"
    return text


def _split(run: RunLike) -> str | None:
    """The class split of a run, named as in published.csv."""
    texts = run["benchmark"].partition("[")[2].rstrip("]").split(",")
    options = dict(text.split("=", 1) for text in texts if "=" in text)
    chosen = options.get("split") or run["settings"].get("split")
    return str(chosen) if chosen else SPLITS.get(benchmark_key(run["benchmark"]))
