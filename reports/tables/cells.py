"""Which runs stand behind which cell of a comparison, and what must be said of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import pandas as pd

from zoo.reports.published import TRANSDUCTIVE, counted, format_overrides
from zoo.reports.records import BROKEN, MACHINE_SETTINGS, NO_CHECKSUM

NORMS = {
    "batch": "the statistics of the batch at hand",
    "running": "running statistics",
    "support": "the support set's statistics",
}
MISSING = "missing"  # status of a run that was asked for and has no record; `failure` says why
DEFAULT_OPTIONS = "default options"  # of a benchmark
TRAINED_HERE = "trained on the same benchmark"

# Blocks of a table, and the parts of the protocol that make test episodes others.
INDUCTIVE = "inductive: each query by itself"
TRANSDUCTIVE_BLOCK = "transductive: sees all queries at once"
OTHER_EPISODES = "tested on other episodes"
BLOCKS = [
    kind + apart
    for apart in ("", f"; {OTHER_EPISODES}")
    for kind in (INDUCTIVE, TRANSDUCTIVE_BLOCK)
]
EPISODES = ("options", "queries", "tests", "data")

INSTANCES = (1, 2, 3, 4, 5, 10)  # of each class, whose accuracies are published

RecordRow = dict[str, Any]  # a row of records.load


class CellRuns(NamedTuple):
    """The runs behind one measured number: alike in all but their seed, the finished first."""

    runs: list[RecordRow]
    unlike: str  # what sets them apart from other runs with an equal claim to the cell, or ""


class Shape(NamedTuple):
    """The shape of episodes that a table has a column for; 0 for none."""

    way: int
    instance: int  # K of the accuracy at a class's K-th instance, which has no shots
    shot: int


Line = dict[Shape, CellRuns]  # where one was run


def listed(runs: Sequence[RecordRow], name: str) -> str:
    """What runs have under a name, separated by spaces, as every file writes lists."""
    return " ".join(str(run[name]) for run in runs)


def runs_of(frame: pd.DataFrame) -> list[RecordRow]:
    """The rows of a frame of runs."""
    return cast(list[RecordRow], frame.to_dict("records"))


def table_lines(runs: list[RecordRow], order: Sequence[str] = ()) -> Iterator[Line]:
    """One line for each learner variant and protocol: by `order`, then title, overrides, protocol.

    Runs of one cell that differ in more than their seed are spread over several lines.
    """
    found: dict[tuple[Any, ...], dict[Shape, list[list[RecordRow]]]] = {}
    for run in sorted(runs, key=lambda run: (run["status"] != "done", run["seed"], run["run"])):
        place = order.index(run["learner"]) if run["learner"] in order else len(order)
        name = (run["title"].casefold(), run["learner"], format_overrides(run["variant"]))
        terms = (str(run[part]) for part in ("benchmark", "terms", "budget", "backbone_family"))
        cells = found.setdefault((place, *name, *terms), {})
        for shape in shapes_of(run):
            groups = cells.setdefault(shape, [])
            group = next((group for group in groups if alike(group[0], run)), None)
            if group is None:
                groups.append([run])
            else:
                group.append(run)
    for _, cells in sorted(found.items()):
        for rank in range(max(len(groups) for groups in cells.values())):
            yield {
                shape: CellRuns(groups[rank], _unlike(rank, groups))
                for shape, groups in sorted(cells.items())
                if rank < len(groups)
            }


def shapes_of(run: RecordRow) -> list[Shape]:
    """Where a run stands: at its way and shot, or once for each instance."""
    way = _count(run["way"])
    if run["settings"].get("protocol") == "instances":
        return [Shape(way, instance, 0) for instance in INSTANCES]
    return [Shape(way, 0, _count(run["shot"]))]


def alike(a: RecordRow, b: RecordRow) -> bool:
    """Whether two runs of a variant differ in seed alone; a failed one may lack its proofs."""
    proofs = ("data_fingerprint", "episodes", "episodes_fingerprint")
    return (
        same_version(a, b)
        and protocol(a)["trained_on"] == protocol(b)["trained_on"]
        and settings_that_count(a) == settings_that_count(b)
        and all(pd.isna(a[name]) or pd.isna(b[name]) or a[name] == b[name] for name in proofs)
    )


def settings_that_count(run: RecordRow) -> dict[str, Any]:
    """The settings that a run's numbers follow from."""
    return {name: value for name, value in run["settings"].items() if name not in MACHINE_SETTINGS}


def same_version(a: RecordRow, b: RecordRow) -> bool:
    """Whether two runs are of the same version of their learner; the first is not written down."""
    first, second = (1 if pd.isna(run.get("version")) else run["version"] for run in (a, b))
    return bool(first == second)


def phrases(common: dict[str, str]) -> str:
    """What a caption says of the protocol that cells share."""
    plain = (DEFAULT_OPTIONS, TRAINED_HERE)
    return ", ".join(text for part, text in common.items() if part != "data" and text not in plain)


def protocol(run: RecordRow) -> dict[str, str]:
    """How a run was trained and judged, in words fit for a table; what is not known is left out."""
    queries, tests, data = run["settings"].get("query"), run["episodes"], run["data_fingerprint"]
    words = {
        "budget": f"{run['budget']} budget",
        "terms": f"{run['terms']} terms",
        "trained_on": f"trained on {run['trained_on']}" if tests_weights(run) else TRAINED_HERE,
        "options": run["benchmark"].partition("[")[2].removesuffix("]") or DEFAULT_OPTIONS,
        "queries": queries and f"{counted(queries, 'query', 'queries')} {of_what(run)}",
        "tests": pd.notna(tests) and counted(tests, "test episode", "test episodes"),
        "backbone": pd.notna(run["backbone_family"]) and f"{run['backbone_family']} backbone",
        "norm": run["batch_norm"] in NORMS and f"batch norm by {NORMS[run['batch_norm']]}",
        "data": pd.notna(data) and f"data fingerprint {data[:12]}",
    }
    return {part: text for part, text in words.items() if text}


def tests_weights(run: RecordRow) -> bool:
    """Whether it is a test of weights that another run trained, as `zoo test` makes it."""
    return isinstance(run.get("trained_on"), str)


def of_what(run: RecordRow) -> str:
    """What queries are counted by: a regression has no classes."""
    return "a task" if pd.isna(run["way"]) else "a class"


def usual(runs: list[RecordRow]) -> dict[str, str]:
    """For each part of the protocol what most of the runs share; of equals the first."""
    counts = Counter(part for run in runs for part in protocol(run).items())
    common: dict[str, str] = {}
    for (part, text), _ in counts.most_common():
        common.setdefault(part, text)
    return {part: common[part] for run in runs for part in protocol(run)}


def block_of(run: RecordRow, common: dict[str, str]) -> str:
    """Which block of a table a number stands in: only numbers of one block are compared.

    Whoever sees all queries at once has more to go by, and other test episodes are another test.
    """
    kind = TRANSDUCTIVE_BLOCK if run["transductive"] is True else INDUCTIVE
    others = any(_differs(run, common, part) for part in EPISODES)
    return f"{kind}; {OTHER_EPISODES}" if others else kind


def block_of_row(blocks: Sequence[str]) -> str:
    """Which block a row stands in: that of most of its numbers, of equals the first of `BLOCKS`."""
    return max(BLOCKS, key=blocks.count)


def without_heading(footnotes: Sequence[str], block: str, of_row: str) -> list[str]:
    """The footnotes of a number in a table of several blocks.

    What the heading of the row says is left out. A number that belongs to another block than its
    row is marked: it is compared with none of the rows around it.
    """
    if block != of_row:
        return [*footnotes, f"{block}; not compared with the rows around it"]
    return [text for text in footnotes if text != TRANSDUCTIVE]


def _differs(run: RecordRow, common: dict[str, str], part: str) -> bool:
    """Whether a run's test episodes differ from the usual ones in this part of the protocol."""
    own = protocol(run).get(part)
    return own is not None and own != common.get(part)


def departures(cell: CellRuns, common: dict[str, str]) -> list[str]:
    """The footnotes that a cell needs: what is not as usual, transductive, unlike its rivals."""
    run = cell.runs[0]
    texts = [text for part, text in protocol(run).items() if text != common[part]]
    texts += [run["remark"]] if isinstance(run["remark"], str) else []
    texts += [TRANSDUCTIVE] * (run["transductive"] is True) + [cell.unlike] * bool(cell.unlike)
    return texts + list(dict.fromkeys(text for run in cell.runs for text in doubts(run)))


def doubts(run: RecordRow) -> list[str]:
    """What makes a record less than it should be: edited, of uncommitted code, tested again."""
    passes = run.get("test_passes_begun")
    said = {
        "edited since it was made: its checksum does not hold": run.get("checksum") == BROKEN,
        "record without a checksum": run.get("checksum") == NO_CHECKSUM,
        "made from uncommitted code": run.get("dirty") is True,
        "begun under another commit": bool(run.get("other_commits")),
        "begun on another machine or with other threads": bool(run.get("other_machines")),
        f"the test split was opened {passes} times": not pd.isna(passes) and int(passes) > 1,
    }
    return [text for text, holds in said.items() if holds]


def failures(runs: list[RecordRow]) -> list[str]:
    """What a reader must know of those of one cell's runs that failed, or were not made."""
    remarks: list[str] = []
    for run in (run for run in runs if run["status"] != "done"):
        seed = f"seed {run['seed']} " if len(runs) > 1 else ""
        if run["status"] == MISSING:
            remarks.append(f"{seed}{run['failure']}")
            continue
        when: str = "" if pd.isna(run["failed_at"]) else f" at update {run['failed_at']}"
        why: str = "no reason recorded" if pd.isna(run["failure"]) else run["failure"]
        remarks.append(f"{seed}failed{when}: {' '.join(why.split())}")
    return remarks


def _count(value: Any) -> int:
    return 0 if pd.isna(value) else int(value)


def _unlike(rank: int, groups: list[list[RecordRow]]) -> str:
    """The settings in which one group of runs differs from the others of its cell."""
    settings = [settings_that_count(group[0]) for group in groups]
    own = {
        name: value
        for name, value in settings[rank].items()
        if name != "query" and any((name, value) not in other.items() for other in settings)
    }
    return f"with {format_overrides(own).replace(',', ', ')}" if own else ""
