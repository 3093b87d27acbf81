"""The cells of a cross-domain table: weights trained on one benchmark, tested on another."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from zoo.commands.missing_cells import results_flag
from zoo.commands.run_set import RunSet, load_records
from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.errors import UsageError
from zoo.registry import learner_of
from zoo.runs.named_weights import SUFFIX, find_weights
from zoo.runs.request import RunRequest
from zoo.runs.resolved import resolve_request
from zoo.runs.settings import parse_values
from zoo.runs.tested_weights import WeightsTest
from zoo.runs.weights import image_text
from zoo.variants import format_variant


class Gap(NamedTuple):
    """Why the weights of a training run could not be tested, and what would help."""

    why: str
    remedy: str = ""  # a command, if one helps


def check_same_images(target: Benchmark, other: Benchmark) -> None:
    """Refuse two benchmarks whose tasks differ in kind or whose images differ in size.

    Raises:
        UsageError: they differ; the message says how.
    """
    if target.regression != other.regression:
        regression, images = (target, other) if target.regression else (other, target)
        raise UsageError(
            f"--from {other.variant}: {regression.variant} is regression, and {images.variant} "
            "is classification"
        )
    if list(target.image) != list(other.image):
        raise UsageError(
            f"--from {other.variant}: its images are {image_text(other.image)}, those of "
            f"{target.variant} {image_text(target.image)}; some benchmarks have an option `size`"
        )


def runs_on(other: Benchmark, budget: str, run_set: RunSet) -> list[dict[Any, Any]]:
    """The records of finished runs that trained their own weights on a benchmark.

    Args:
        other: the benchmark.
        budget: of the runs.
        run_set: its results folder is searched.

    Returns:
        Rows of the frame from `records.load`.
    """
    measured = load_records(run_set.workspace.results)
    fits = (
        (measured["benchmark"] == other.variant)
        & (measured["budget"] == budget)
        & (measured["status"] == "done")
        & measured["weights_of"].isna()
    )
    return measured[fits].to_dict("records")


def learners_of(rows: Iterable[Mapping[Any, Any]]) -> list[str]:
    """The learners of some records, as variants, each once."""
    return list(dict.fromkeys(format_variant(row["learner"], row["variant"]) for row in rows))


def plan_tests(
    requests: Iterable[RunRequest],
    rows: Sequence[Mapping[Any, Any]],
    target: Benchmark,
    run_set: RunSet,
) -> tuple[dict[str, RunRequest], dict[RunRequest, Gap]]:
    """Plan a test of the weights of every run that is asked for, and add it to the run set.

    Args:
        requests: the training runs.
        rows: the records of runs that `runs_on` found.
        target: the benchmark on which the weights are tested.
        run_set: where the tests are added.

    Returns:
        The training run by the name of its test, and for each training run without a test why
        there is none.
    """
    tests: dict[str, RunRequest] = {}
    gaps: dict[RunRequest, Gap] = {}
    results, data = run_set.workspace.results, run_set.workspace.data
    stores = run_set.stores(target.variant)
    for request in requests:
        images = ["--data", str(data)] if find_benchmark(request.benchmark).forms else []
        command = shlex.join([*request.command, *images, *results_flag(results)])
        fitting_rows = [row for row in rows if is_of(row, request)]
        if not fitting_rows:
            gaps[request] = Gap("no weights", command)
        for row in fitting_rows:
            path = results / f"{row['run']}{SUFFIX}"
            if path.exists():
                try:
                    test = WeightsTest(
                        find_weights(path), target.variant, run_set.workspace, stores
                    )
                    tests[run_set.add(test).name] = request
                except UsageError as error:
                    gaps[request] = Gap(f"cannot be tested: {error}")
            elif row["parameters"] == 0:
                gaps[request] = Gap("has no weights, it learns nothing")
            else:
                moved = f"with {path.with_suffix('.json')} moved away: {command}"
                gaps[request] = Gap("no weights beside its record", moved)
    tested = set(tests.values())  # a second record without weights is no gap
    return tests, {request: gap for request, gap in gaps.items() if request not in tested}


def is_of(row: Mapping[Any, Any], request: RunRequest) -> bool:
    """Whether a record is of the run that is asked for."""
    key, cls, overrides = learner_of(request.learner)
    if row["learner"] != key:
        return False
    asked = parse_values(cls, overrides, request.learner)
    way = None if pd.isna(row["way"]) else row["way"]
    recorded = (way, row["shot"], row["seed"], row["terms"])
    if recorded != (request.way, request.shot, request.seed, request.terms):
        return False
    return row["variant"] in (asked, dict(resolve_request(request).changed))
