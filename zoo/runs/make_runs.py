"""Runs made one after the other, or shared by several processes."""

import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.errors import DISK_FULL, UsageError
from zoo.files import InUseError, make_folder, write_text
from zoo.plugin_files import fault_in_plugin
from zoo.reports.estimates import estimate_from_record
from zoo.reports.records import BROKEN, checksum_state, row_of
from zoo.runs.estimate import Estimator, run_megabytes
from zoo.runs.run import Run
from zoo.runs.workers import run_workers

CLASSES_NAMED = 3  # of own images, in the lines below a run's


@dataclass(frozen=True)
class HowToRun:
    """How the runs of a command are made.

    Args:
        dry_run: only say what would be done.
        jobs: processes that share the runs.
        part: (k, n) for every n-th run from the k-th on: the share of one such process.
        command: the words after ``python -m zoo``, for starting those processes.
    """

    dry_run: bool = False
    jobs: int = 1
    part: tuple[int, int] | None = None
    command: Sequence[str] = ()


def execute(runs: Sequence[Run], how: HowToRun | None = None) -> int:
    """Make runs one after the other; returns 1 if one failed, else 0.

    What goes wrong in one does not stop the others; a single run's error is raised. With
    `how.jobs` several processes share the runs. A run that another process makes at the moment
    comes last, and that process is waited for; without `how` it is refused.
    """
    waits, how = how is not None, how or HowToRun()
    left = [run for run in runs if not run.record_path.exists()]
    _announce(runs, left)
    if how.dry_run:
        for run in runs:
            print(f"  {'to do' if run in left else 'done '} {run_label(run)}")
        return 0
    for workspace in {run.workspace for run in runs}:
        make_folder(workspace.results, "--results")
        make_folder(workspace.runs, "--runs")
    if how.jobs > 1 and len(left) > 1 and not how.part:
        jobs = min(how.jobs, len(left))
        return run_workers([[*how.command, "--part", f"{k}/{jobs}"] for k in range(1, jobs + 1)])
    mine, parts = how.part or (1, 1)
    numbered = [(n, run) for n, run in enumerate(runs, 1) if n % parts == mine % parts]
    failed = False
    in_use: list[tuple[int, Run, InUseError]] = []
    for number, run in numbered:
        print(f"[{number}/{len(runs)}] {run_label(run)}", flush=True)
        if run.lowered:
            print(f"  fitted to the images: {'; '.join(run.lowered)}", flush=True)
        try:
            failed |= not make_run(run, alone=len(runs) == 1)
        except InUseError as error:
            if not waits:
                raise
            print(f"  {error.holder} makes it; its turn comes after the others", flush=True)
            in_use.append((number, run, error))
    for number, run, refused in in_use:
        print(f"[{number}/{len(runs)}] {run_label(run)}", flush=True)
        failed |= not make_after(run, refused)
    return int(failed)


def _announce(runs: Sequence[Run], left: Sequence[Run]) -> None:
    """Print how many runs there are, how long they take, and which were made by other files."""
    text = f"{len(runs)} runs: {len(runs) - len(left)} done, {len(left)} left"
    if left:
        time = Estimator.beside(left[0].workspace.results).in_words(left)
        text += f", {time} and {sum(map(run_megabytes, left)):.0f} MB"
    print(text, flush=True)
    for run in runs:
        try:
            files = "" if run in left else changed_since(run)
        except UsageError as error:
            print(f"  {error}", file=sys.stderr)
            continue
        if files:
            print(f"  {run.record_path}: made with another {files}; delete it to make it anew")


def make_after(run: Run, refused: InUseError) -> bool:
    """Wait for the process that makes a run, then read its record; make the run if it has none.

    Returns:
        Whether the run did not fail.
    """
    while True:
        print(f"  waiting for {refused.holder}, which makes it", flush=True)
        refused.wait()
        try:
            return make_run(run)
        except InUseError as error:  # a third process was faster
            refused = error


def make_run(run: Run, alone: bool = False) -> bool:
    """Make a run and print what came out; whether it did not fail.

    Raises:
        InUseError: another process makes it.
        Exception: what went wrong in our code, where the run is `alone`; else it is printed, and
            so is what went wrong in a plug-in's.
    """
    there = run.record_path.exists()
    try:
        record = run.execute(progress=sys.stdout.isatty())
    except InUseError:
        raise
    except UsageError as error:
        if alone:
            raise
        print(f"  skipped: {error}", file=sys.stderr)
        return False
    except Exception as error:
        fault = fault_in_plugin(error)
        if isinstance(error, OSError) and fault is None:
            if alone or error.errno in DISK_FULL:  # which the other runs need too
                raise
            print(f"  broke: {error}; the other runs go on", file=sys.stderr)
            return False
        if alone and fault is None:
            raise
        path = run.error_path
        write_text(path, traceback.format_exc())
        words = [fault] if fault else []
        words += [f"{path} says why"] if alone else [f"{path} says why; the other runs go on"]
        print(f"  broke: {'; '.join(words)}", file=sys.stderr)
        return False
    print(f"  {'found: ' if there else ''}{run_summary(run, record)}", flush=True)
    for line in class_summary(record):
        print(f"  {line}", flush=True)
    if checksum_state(record) == BROKEN:
        print(f"  {run.record_path} was edited: its checksum does not hold", file=sys.stderr)
    return bool(record["status"] != "failed")


def changed_since(run: Run) -> str:
    """Files that are others now than when a run was made: plug-ins, an uncommitted learner's."""
    then = (run.record() or {}).get("environment") or {}
    old, files = then.get("plugins", []), set()
    if old != run.plugins:
        files = {plugin["file"] for plugin in [*old, *run.plugins]}
    own = then.get("learner_file")
    if own and own != run.learner_file:
        files.add(own["file"])
    return ", ".join(sorted(files))


def class_summary(record: Mapping[str, Any]) -> list[str]:
    """Of own images: the classes that did worst, and those that were confused most."""
    lines = []
    every = record.get("accuracy_of_classes") or {}
    accuracy = {name: share for name, share in every.items() if share < 1}
    if worst := sorted(accuracy, key=lambda name: accuracy[name])[:CLASSES_NAMED]:
        some = ", ".join(f"{name} {100 * accuracy[name]:.0f} %" for name in worst)
        lines.append(f"least often right: {some}")
    if pairs := (record.get("most_confused") or [])[:CLASSES_NAMED]:
        some = ", ".join(
            f"{name} for {other} ({100 * times / queries:.0f} %)"
            for name, other, times, queries in pairs
        )
        lines.append(f"most often mistaken: {some}")
    return lines


def run_label(run: Run) -> str:
    """A run in words."""
    request = run.request
    words = [run.title, request.benchmark, request.shape, request.budget, f"seed {run.seed}"]
    return " ".join(words)


def run_summary(run: Run, record: Mapping[str, Any]) -> str:
    """What came out of a run, and where it is written."""
    row = row_of(dict(record), str(record["run"]))
    if row["status"] == "failed":
        text = f"failed at update {row['failed_at']}: {row['failure']}"
        return f"{text}; {run.record_path} (delete it to try again)"
    seconds = [f"{row[name] or 0:.0f}" for name in ("train_seconds", "test_seconds")]
    return (
        f"{judged(row, run.judged_by)} over {row['episodes']} test episodes, "
        f"{row['updates']} updates, {' + '.join(seconds)} s; {run.record_path}"
    )


def judged(row: Mapping[str, Any], metric: str) -> str:
    """The number that a run is judged by, in words.

    Args:
        row: of its record, as `row_of` has it.
        metric: the number's name.
    """
    if metric not in row or not row["episodes"]:
        return f"{metric} is not in the record,"
    if metric == "mse":  # a few tasks decide the mean: tables have the median's interval
        return f"mean squared error {row[metric]:.3f}"
    ci95 = row[f"{metric}_ci95"]  # nan: a single episode
    accuracy = estimate_from_record(row[metric], ci95, metric, row["episodes"])
    return f"{metric} {accuracy.times(100).text()} %"
