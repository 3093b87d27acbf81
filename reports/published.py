"""Published few-shot numbers, and which of them a run is compared with.

The numbers and the meaning of each column: published.csv and published.md beside this file.
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

# The classes a benchmark has where its options do not say otherwise, as `split` names them.
SPLITS = {
    "miniimagenet": "ravi",
    "tieredimagenet": "ren",
    "cifarfs": "bertinetto",
    "fc100": "oreshkin",
    "omniglot": "vinyals",
}
SAME_TEST = {"1200/423", "vinyals"}  # Omniglot: other training classes, the same test classes
LENGTH = {"updates", "validations"}  # settings of how long a run trains
# Settings that take a paper's text in one way or another: its number stands beside each.
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
CONV4_WIDTH = re.compile(r"(?:conv4-|channels=)(\d+)")  # of a Conv-4, as settings and papers say
# Remarks that a note says better, by a word of it.
SAID = {
    "published: re-run by a later paper": "rerun",
    "published: ± over training seeds": "seeds",
    "published: split vinyals80-20, other test classes": "80/20",
}
OF_THE_FILE = "shot = labelled views seen (K-1)"  # a note on a column of published.csv
TRANSDUCTIVE = "transductive: a query's prediction may depend on the other queries"


def published() -> pd.DataFrame:
    """All rows, in file order.

    Text columns are stripped and "" where the file says nothing; `way`, `shot` and `primary` are
    nullable integers ("var" counts as none); `value` and `ci95` are floats, and `printed` is both
    as the file writes them: "98.8", "48.70 ± 1.84".
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
    """The published number that a run stands beside, if there is one.

    Among the primary rows of the run's learner, benchmark, backbone family, way, shot and metric:
    those whose `settings` all equal the run's and name every override of its variant, but for how
    long it trains, which a table tells by the share of the paper's tasks, and for `READINGS`; of
    these the one with most settings, the first in the file if several have as many. An accuracy
    at a class's K-th instance is published as one of K - 1 shots. A test of weights that another
    run trained, as `zoo test` makes it, stands beside none: papers trained on the benchmark.

    Args:
        run: a row of `records.load`.
        published: as `published()` returns it.
        metric: as the record names it.
    """
    if isinstance(run.get("trained_on"), str):
        return None
    _, at, instance = metric.partition("@instance")
    wanted = {
        "primary": 1,
        "learner_key": run["learner"],
        "benchmark_key": benchmark_key(run["benchmark"]),
        "backbone_key": run["backbone_family"],
        "way": run["way"],
        "shot": int(instance) - 1 if at else run["shot"],
        "metric": metric,
    }
    fits = np.ones(len(published), dtype=bool)
    for column, value in wanted.items():
        known = published[column]
        fits &= (known.isna() if pd.isna(value) else known == value).to_numpy(bool, na_value=False)
    rows = published[fits]
    resolved = {name: format_value(value) for name, value in run["settings"].items()}
    overrides = {pair[0] for pair in run["variant"].items() if pair not in READINGS} - LENGTH
    best, most = None, -1
    for position, text in enumerate(rows["settings"]):
        pairs = dict(pair.split("=", 1) for pair in text.split(";") if pair)
        holds = all(resolved.get(name) == value for name, value in pairs.items())
        if holds and overrides <= set(pairs) and len(pairs) > most:
            best, most = position, len(pairs)
    return None if best is None else rows.iloc[best]


def _transductive_remark(row: pd.Series, run: RunLike | None) -> list[str]:
    """Whether the published number is transductive, where that needs saying."""
    if row["transductive"] == "yes":
        return [TRANSDUCTIVE]
    if run is None:
        return []
    if row["transductive"] == "?":
        return ["published: not known whether transductive"]
    return ["published: not transductive, our run is"] if run["transductive"] else []


def remarks(row: pd.Series, run: RunLike | None) -> list[str]:
    """What must be said of a published number beside this run: each departure of its protocol.

    Without a run, what must be said of the number itself.
    """
    said = _transductive_remark(row, run)
    split = row["split"]
    own = SPLITS.get(row["benchmark_key"]) if run is None else _split(run)
    same = {split, own} == SAME_TEST
    if split == "?":
        said.append("published: split not known")
    elif split not in ("-", own) and not (same and run is None):
        test = "the same" if same else "other"
        said.append(f"published: split {split}, {test} test classes")
    queries = None if run is None else run["settings"].get("query")
    if row["queries"].isdigit() and queries is not None and row["queries"] != str(queries):
        said.append(f"published: {counted(row['queries'], 'query', 'queries')} a class")
    if row["ensemble"] not in ("1", "?", ""):
        said.append(f"published: average of {row['ensemble']} models")
    over = {"seeds": "published: ± over training seeds", "std": "published: ± 1 deviation"}
    if row["ci_over"] in over:
        said.append(over[row["ci_over"]])
    if row["origin"] == "rerun":
        said.append("published: re-run by a later paper")
    doubt = {"secondary": "read in a summary only", "remembered": "remembered, not yet read"}
    if row["confidence"] in doubt:
        said.append(f"published: {doubt[row['confidence']]}")
    theirs, ours = (CONV4_WIDTH.search(text) for text in (row["backbone"], _backbone(run)))
    if theirs and ours and theirs[1] != ours[1]:
        said.append(f"published: {theirs[1]} channels")
    note = row["note"].replace(OF_THE_FILE, "")
    said = [text for text in said if text not in SAID or SAID[text] not in note]
    return said + [f"published: {note}"] * bool(note)


def agreement(ours: Estimate, theirs: float, their_ci95: float) -> str:
    """Whether a measured accuracy has reached a published one: `REACHED`, `BELOW` or "".

    They agree, which is "", where the 95 % interval of their difference holds 0: its half-width is
    the root of the sum of both squared half-widths. A number that was printed without an interval
    is taken to have ours. Better than published counts as reached; without an interval of ours
    there is nothing to say.

    Args:
        ours: in the unit of the published number.
        theirs: the published number.
        their_ci95: half of its interval's width; nan where none was printed.
    """
    apart = ours.value - theirs
    own = ours.value - ours.low if apart > 0 else ours.high - ours.value
    both = math.hypot(own, own if np.isnan(their_ci95) else their_ci95)
    if np.isnan(both) or not abs(apart) > both:
        return ""
    return REACHED if apart > 0 else BELOW


def benchmark_key(benchmark: str) -> str:
    """``omniglot`` of ``omniglot[split=1200/423]``."""
    return benchmark.partition("[")[0]


def counted(number: Any, one: str, many: str) -> str:
    """``1 query``, ``15 queries``."""
    return f"{number} {one if int(number) == 1 else many}"


def format_value(value: Any) -> str:
    """A setting's value as variants, tables and published.csv write it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def format_overrides(overrides: Mapping[str, Any]) -> str:
    """``first_order=true,inner_lr=0.1``, sorted by name; "" for none."""
    return ",".join(f"{name}={format_value(overrides[name])}" for name in sorted(overrides))


def _backbone(run: RunLike | None) -> str:
    """The backbone with its channels: 64 where a Conv-4's are not named; "" without a run."""
    text = "" if run is None else str(run["settings"].get("backbone", ""))
    plain = text in ("conv4", "conv4_strided", "conv4_mean")
    return f"{text}[channels=64]" if plain else text


def _split(run: RunLike) -> str | None:
    """The split whose classes trained the run, as published.csv names it."""
    options = run["benchmark"].partition("[")[2].rstrip("]").split(",")
    named = dict(option.split("=", 1) for option in options if "=" in option)
    chosen = named.get("split") or run["settings"].get("split")
    return str(chosen) if chosen else SPLITS.get(benchmark_key(run["benchmark"]))
