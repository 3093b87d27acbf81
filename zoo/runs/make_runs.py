"""Runs made one after the other, or shared by several processes."""

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import DISK_FULL, UsageError
from zoo.files import InUseError, is_locked, make_folder, write_text
from zoo.memory import memory_bytes
from zoo.plugin_files import fault_in_plugin
from zoo.reports.estimates import estimate_from_record
from zoo.reports.published import counted
from zoo.reports.records import BROKEN, checksum_state, row_of
from zoo.runs.estimate import Estimator, run_megabytes
from zoo.runs.long_runs import in_workers, work_through
from zoo.runs.run import Run

WORTH_SHARING = 60.0  # seconds of all cores; a process takes several to start
BYTES_OF_A_RUN = 3.5e9  # that a run may take: SNAIL's takes as much on CIFAR-FS, most less than one
CLASSES_NAMED = 3  # of own images, in the lines below a run's


@dataclass(frozen=True)
class HowToRun:
    """How the runs of a command are made.

    Args:
        dry_run: only say what would be done.
        jobs: processes that share the runs, on a CPU; None for as many as finish them soonest.
        threads: of each of them, where that was asked for.
        worker: whether this is one of those processes.
        command: the words after ``python -m zoo``, for starting those processes.
        write_jobs: a file to write the runs' commands into, in place of making them.
        plugins: files that register what those commands need.
        on_ray: whether the machines of a Ray cluster make them.
    """

    dry_run: bool = False
    jobs: int | None = 1
    threads: int | None = None
    worker: bool = False
    command: Sequence[str] = ()
    write_jobs: Path | None = None
    plugins: Sequence[Path] = ()
    on_ray: bool = False


def execute(runs: Sequence[Run], how: HowToRun | None = None) -> int:
    """Make runs one after the other; returns 1 if one failed, else 0.

    What goes wrong in one does not stop the others; a single run's error is raised. With
    `how.jobs` several processes share the runs, the longest first. A run that another process
    makes at the moment comes last, and that process is waited for; without `how` it is refused.
    """
    waits, how = how is not None, how or HowToRun()
    left = [run for run in runs if not run.record_path.exists()]
    if how.worker:
        return _work(runs, left)
    _announce(runs, left)
    if how.dry_run:
        for run in runs:
            print(f"  {'to do' if run in left else 'done '} {run_label(run)}")
        return 0
    for workspace in {run.workspace for run in runs}:
        make_folder(workspace.results, "--results")
        make_folder(workspace.runs, "--runs")
    if how.on_ray and left:
        return _on_ray(runs, left, how)
    jobs = _jobs(left, how)
    if jobs > 1:
        return _share(left, how, jobs)
    return _one_by_one(runs, waits)


def _one_by_one(runs: Sequence[Run], waits: bool) -> int:
    """Make runs in this process; those that another one makes come last, if we may wait."""
    failed = False
    in_use: list[tuple[int, Run]] = []
    for number, run in enumerate(runs, 1):
        print(f"[{number}/{len(runs)}] {run_label(run)}", flush=True)
        if run.lowered:
            print(f"  fitted to the images: {'; '.join(run.lowered)}", flush=True)
        try:
            failed |= not make_run(run, alone=len(runs) == 1)
        except InUseError as error:
            if not waits:
                raise
            print(f"  {error.holder} makes it; its turn comes after the others", flush=True)
            in_use.append((number, run))
    for number, run in in_use:
        print(f"[{number}/{len(runs)}] {run_label(run)}", flush=True)
        failed |= not make_after(run)
    return int(failed)


def _jobs(left: Sequence[Run], how: HowToRun) -> int:
    """How many processes share the runs that are left."""
    if how.jobs is not None or len(left) < 2:
        return min(how.jobs or 1, len(left))
    if left[0].workspace.device_kind != "cpu":
        return 1
    estimator = Estimator.beside(left[0].workspace.results)
    seconds = sum(estimator.run(run).seconds for run in left) + estimator.pretrainings(left)
    return automatic_jobs(len(left), seconds, how.threads)


def automatic_jobs(runs: int, seconds: float, threads: int | None) -> int:
    """How many processes finish some runs soonest on a CPU.

    That is one a core, each on one thread: the training of a small network leaves a second thread
    idle for much of the time (`python -m tests.bench.two_runs`). It is one process where memory
    holds no two, and where all runs together take less than `WORTH_SHARING`.

    Args:
        runs: how many.
        seconds: CPU seconds that they take together.
        threads: of each process, where that was asked for.
    """
    if seconds / cores() < WORTH_SHARING:
        return 1
    fit = int(memory_bytes() // BYTES_OF_A_RUN)
    return max(1, min(cores() // (threads or 1), runs, fit))


def _share(left: Sequence[Run], how: HowToRun, jobs: int) -> int:
    """Let several processes share the runs; wait for those that other commands make."""
    threads = how.threads or max(1, cores() // jobs)
    on = counted(threads, "thread", "threads")
    print(f"{jobs} processes share them, each on {on}, the longest first", flush=True)
    status = in_workers(jobs, threads, [*how.command, "--worker"])
    return status | int(any([not make_after(run) for run in left if is_in_use(run)]))


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _on_ray(runs: Sequence[Run], left: Sequence[Run], how: HowToRun) -> int:
    """Let a Ray cluster make the runs that are left, the longest first."""
    from zoo.runs.on_ray import make_on_ray

    if any(run.weights_of for run in left):
        raise UsageError("--on ray: these are tests of weights, not trainings; leave it out")
    numbers = {run.name: number for number, run in enumerate(runs, 1)}

    def say(run: Run, why: str) -> None:
        if why:
            print(f"[{numbers[run.name]}/{len(runs)}] {run_label(run)} failed: {why}")
        else:
            print(f"[{numbers[run.name]}/{len(runs)}] {run_label(run)}", flush=True)
            make_run(run)

    return make_on_ray(longest_first(left), how.threads or 1, how.plugins, say)


def longest_first(runs: Sequence[Run]) -> list[Run]:
    """The runs in the order of their estimated seconds."""
    if not runs:
        return []
    estimator = Estimator.beside(runs[0].workspace.results)
    return sorted(runs, key=lambda run: -estimator.run(run).seconds)


def _work(runs: Sequence[Run], left: Sequence[Run]) -> int:
    """Make those of the runs that are left which no other process makes, the longest first."""
    numbers = {run.name: f"[{number}/{len(runs)}]" for number, run in enumerate(runs, 1)}

    def make(run: Run) -> bool:
        print(f"{numbers[run.name]} {run_label(run)}", flush=True)
        return make_run(run, head=f"{numbers[run.name]} ")

    return work_through(longest_first(left), make)


def is_in_use(run: Run) -> bool:
    """Whether a run without a record is being made by another process."""
    return is_locked(run.folder / "lock") and not run.record_path.exists()


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


def make_after(run: Run) -> bool:
    """Wait for the process that makes a run, then read its record; make the run if it has none.

    Returns:
        Whether the run did not fail.
    """
    while True:
        try:
            return make_run(run)
        except InUseError as error:
            print(f"  waiting for {error.holder}, which makes it", flush=True)
            error.wait()


def make_run(run: Run, alone: bool = False, head: str = "  ") -> bool:
    """Make a run and print what came out; whether it did not fail.

    Args:
        run: to make.
        alone: whether it is the only one of the command.
        head: what the line of its result begins with.

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
    print(f"{head}{'found: ' if there else ''}{run_summary(run, record)}", flush=True)
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
