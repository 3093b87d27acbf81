"""Which runs are behind which cell of a comparison, and the footnotes they need."""

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
# A key of what `usual` returns, there if the checksum of any record covers its run's episodes.
SOME_COVERED = "covered"

# The headings of a table's blocks, in their order.
INDUCTIVE = "inductive: each query by itself"
TRANSDUCTIVE_BLOCK = "transductive: sees all queries at once"
OTHER_EPISODES = "tested on other episodes"
BLOCKS = [
    INDUCTIVE,
    TRANSDUCTIVE_BLOCK,
    f"{INDUCTIVE}; {OTHER_EPISODES}",
    f"{TRANSDUCTIVE_BLOCK}; {OTHER_EPISODES}",
]
EPISODES = ("options", "queries", "tests", "data")  # parts of the protocol that change episodes

INSTANCES = (1, 2, 3, 4, 5, 10)  # K for which the accuracy at a class's K-th instance is published

RecordRow = dict[str, Any]  # a row of records.load


class CellRuns(NamedTuple):
    """The runs behind one measured number: they differ in the seed only, finished ones first."""

    runs: list[RecordRow]
    unlike: str  # in words, how their settings differ from those of other runs in this cell; or ""


class Shape(NamedTuple):
    """The shape of episodes that a column of a table is for; 0 where a part does not apply."""

    way: int
    instance: int  # K, in a column of accuracies at a class's K-th instance; it has no shot
    shot: int


Line = dict[Shape, CellRuns]  # one row of a table: the runs in each column that has any


def listed(runs: Sequence[RecordRow], name: str) -> str:
    """The values of the runs in a column, joined by spaces, as CSV files hold lists."""
    return " ".join(str(run[name]) for run in runs)


def runs_of(frame: pd.DataFrame) -> list[RecordRow]:
    """The rows of a frame of runs."""
    return cast(list[RecordRow], frame.to_dict("records"))


def table_lines(runs: list[RecordRow], order: Sequence[str] = ()) -> Iterator[Line]:
    """One line for each learner variant and protocol, sorted by `order`, then by name and protocol.

    Runs that belong in one cell but differ in more than their seed are spread over several lines.

    Args:
        runs: to be arranged.
        order: learner keys, first to last; all others follow.
    """
    lines: dict[tuple[Any, ...], dict[Shape, list[list[RecordRow]]]] = {}  # by sort key
    for run in sorted(runs, key=lambda run: (run["status"] != "done", run["seed"], run["run"])):
        place = order.index(run["learner"]) if run["learner"] in order else len(order)
        name = (run["title"].casefold(), run["learner"], format_overrides(run["variant"]))
        terms = (str(run[part]) for part in ("benchmark", "terms", "budget", "backbone_family"))
        cells = lines.setdefault((place, *name, *terms), {})
        for shape in shapes_of(run):
            groups = cells.setdefault(shape, [])
            for group in groups:
                if alike(group[0], run):
                    group.append(run)
                    break
            else:
                groups.append([run])
    for _, cells in sorted(lines.items()):
        for rank in range(max(len(groups) for groups in cells.values())):
            yield {
                shape: CellRuns(groups[rank], _unlike(rank, groups))
                for shape, groups in sorted(cells.items())
                if rank < len(groups)
            }


def shapes_of(run: RecordRow) -> list[Shape]:
    """The columns that a run belongs in: that of its way and shot, or one for each instance."""
    way = _count(run["way"])
    if run["settings"].get("protocol") == "instances":
        return [Shape(way, instance, 0) for instance in INSTANCES]
    return [Shape(way, 0, _count(run["shot"]))]


def alike(a: RecordRow, b: RecordRow) -> bool:
    """Whether two runs of a variant differ in their seed only.

    Data and test episodes are compared where both runs know them; a failed one may not.
    """
    tested_on = ("data_fingerprint", "episodes", "episodes_fingerprint")
    return (
        same_version(a, b)
        and protocol(a)["trained_on"] == protocol(b)["trained_on"]
        and settings_that_count(a) == settings_that_count(b)
        and all(pd.isna(a[name]) or pd.isna(b[name]) or a[name] == b[name] for name in tested_on)
    )


def settings_that_count(run: RecordRow) -> dict[str, Any]:
    """The settings on which a run's numbers depend."""
    return {name: value for name, value in run["settings"].items() if name not in MACHINE_SETTINGS}


def same_version(a: RecordRow, b: RecordRow) -> bool:
    """Whether two runs are of the same version of their learner; no version means the first."""
    first, second = (1 if pd.isna(run.get("version")) else run["version"] for run in (a, b))
    return bool(first == second)


def phrases(common: dict[str, str]) -> str:
    """The shared protocol (see `usual`) in words, for a caption."""
    hidden_parts = ("data", SOME_COVERED)
    hidden_texts = (DEFAULT_OPTIONS, TRAINED_HERE)
    return ", ".join(
        text
        for part, text in common.items()
        if part not in hidden_parts and text not in hidden_texts
    )


def shared_protocol(common: dict[str, str], runs: Sequence[RecordRow]) -> str:
    """The shared protocol in words; they say it if any of these runs departs from it."""
    departs = any(text != common.get(part) for run in runs for part, text in protocol(run).items())
    return phrases(common) + ("; departures are marked" if departs else "")


def protocol(run: RecordRow) -> dict[str, str]:
    """How a run was trained and tested: for each part that is known, a text for a table."""
    texts = {
        "budget": f"{run['budget']} budget",
        "terms": f"{run['terms']} terms",
        "trained_on": f"trained on {run['trained_on']}" if tests_weights(run) else TRAINED_HERE,
        "options": run["benchmark"].partition("[")[2].removesuffix("]") or DEFAULT_OPTIONS,
    }
    if queries := run["settings"].get("query"):
        texts["queries"] = f"{counted(queries, 'query', 'queries')} {of_what(run)}"
    if pd.notna(run["episodes"]):
        texts["tests"] = counted(run["episodes"], "test episode", "test episodes")
    if pd.notna(run["backbone_family"]):
        texts["backbone"] = f"{run['backbone_family']} backbone"
    if run["batch_norm"] in NORMS:
        texts["norm"] = f"batch norm by {NORMS[run['batch_norm']]}"
    if pd.notna(run["data_fingerprint"]):
        texts["data"] = f"data fingerprint {run['data_fingerprint'][:12]}"
    return texts


def tests_weights(run: RecordRow) -> bool:
    """Whether a run tests weights that another run trained (`zoo test`)."""
    return isinstance(run.get("trained_on"), str)


def of_what(run: RecordRow) -> str:
    """What queries are counted by: a class, or in regression a task."""
    return "a task" if pd.isna(run["way"]) else "a class"


def usual(runs: list[RecordRow]) -> dict[str, str]:
    """The most common text of each part of the protocol; the first of equally common ones.

    `SOME_COVERED` is a key too, if the checksum of any record covers its run's episodes.
    """
    counts = Counter(part for run in runs for part in protocol(run).items())
    common: dict[str, str] = {}
    for (part, text), _ in counts.most_common():
        common.setdefault(part, text)
    shared = {part: common[part] for run in runs for part in protocol(run)}
    if any(pd.notna(run.get("results_hash")) for run in runs):
        shared[SOME_COVERED] = ""
    return shared


def block_of(run: RecordRow, common: dict[str, str]) -> str:
    """The block of a table that a number belongs in: only numbers of one block are compared.

    A transductive learner sees all queries at once and so knows more; other test episodes are
    another test.

    Args:
        run: behind the number.
        common: the protocol that most runs share, from `usual`.
    """
    block = TRANSDUCTIVE_BLOCK if run["transductive"] is True else INDUCTIVE
    if any(_differs(run, common, part) for part in EPISODES):
        return f"{block}; {OTHER_EPISODES}"
    return block


def block_of_row(blocks: Sequence[str]) -> str:
    """The block of a row: that of most of its numbers, the first in `BLOCKS` of equally many."""
    return max(BLOCKS, key=blocks.count)


def without_heading(footnotes: Sequence[str], block: str, row_block: str) -> list[str]:
    """The footnotes of a number in a table of several blocks.

    What the heading of the block says already is left out. A number whose block is not that of its
    row gets a footnote: it is not compared with the rows around it.
    """
    if block != row_block:
        return [*footnotes, f"{block}; not compared with the rows around it"]
    return [text for text in footnotes if text != TRANSDUCTIVE]


def _differs(run: RecordRow, common: dict[str, str], part: str) -> bool:
    """Whether a run is known to differ from the shared protocol in this part."""
    text = protocol(run).get(part)
    return text is not None and text != common.get(part)


def departures(cell: CellRuns, common: dict[str, str]) -> list[str]:
    """The footnotes of a cell: departures from the shared protocol, and doubts about its records.

    Args:
        cell: its first run stands for all of its runs.
        common: the protocol that most runs share, from `usual`.
    """
    run = cell.runs[0]
    texts = [text for part, text in protocol(run).items() if text != common[part]]
    if isinstance(run["remark"], str):
        texts.append(run["remark"])
    if isinstance(lowered := run.get("lowered"), list):
        texts.append(f"fitted to the images: {'; '.join(lowered)}")
    if SOME_COVERED in common and not all(covers_episodes(each) for each in cell.runs):
        texts.append("what each episode gave is not under the record's checksum")
    if run["transductive"] is True:
        texts.append(TRANSDUCTIVE)
    if cell.unlike:
        texts.append(cell.unlike)
    return texts + list(dict.fromkeys(text for run in cell.runs for text in doubts(run)))


def covers_episodes(run: RecordRow) -> bool:
    """Whether the record's checksum covers the values of the run's episodes; old ones do not."""
    return run["status"] != "done" or pd.notna(run.get("results_hash"))


def doubts(run: RecordRow) -> list[str]:
    """Reasons to doubt a record: edited by hand, from uncommitted code, tested more than once."""
    passes = run.get("test_passes_begun")
    reasons = {
        "edited since it was made: its checksum does not match": run.get("checksum") == BROKEN,
        "record without a checksum": run.get("checksum") == NO_CHECKSUM,
        "made from uncommitted code": run.get("dirty") is True,
        "begun under another commit": bool(run.get("other_commits")),
        "begun on another machine or with other threads": bool(run.get("other_machines")),
        "begun with another version of the learner's files": bool(run.get("other_files")),
        "goes on from a file without a checksum": bool(run.get("unchecked")),
        f"the test split was opened {passes} times": not pd.isna(passes) and int(passes) > 1,
    }
    return [text for text, applies in reasons.items() if applies]


def failures(runs: list[RecordRow]) -> list[str]:
    """Footnotes on the runs of a cell that failed or are missing."""
    remarks: list[str] = []
    for run in runs:
        if run["status"] == "done":
            continue
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
    """The settings in which one group of runs differs from the other groups of its cell."""
    settings = [settings_that_count(group[0]) for group in groups]
    different = {
        name: value
        for name, value in settings[rank].items()
        if name != "query" and any((name, value) not in other.items() for other in settings)
    }
    return f"with {format_overrides(different).replace(',', ', ')}" if different else ""
