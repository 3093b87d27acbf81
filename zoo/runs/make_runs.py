"""Makes runs one after the other, or lets several processes share them."""

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
BYTES_OF_A_RUN = 3.5e9  # what SNAIL takes on CIFAR-FS; most learners take less than 1e9
CLASSES_NAMED = 3  # of a user's own images, in the lines below the result of a run


@dataclass(frozen=True)
class HowToRun:
    """How the runs of a command are made.

    Args:
        dry_run: only say what would be done.
        jobs: how many processes share the runs, on a CPU; None for as many as finish them soonest.
        threads: of each process; None for the default.
        worker: whether this is one of those processes.
        command: the words after ``python -m zoo``, with which those processes are started.
        write_jobs: a file to write the runs' commands into instead of making them.
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

    An error in one run does not stop the others; the error of a single run is raised. With
    `how.jobs` several processes share the runs, the longest first. A run that another process is
    making comes last, and that process is waited for; without `how` such a run is refused.
    """
    waits = how is not None
    how = how or HowToRun()
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
    """Make runs in this process; runs that another process is making come last, if `waits`."""
    failed = False
    in_use: list[tuple[int, Run]] = []
    for number, run in enumerate(runs, 1):
        print(f"[{number}/{len(runs)}] {run_label(run)}", flush=True)
        if run.lowered:
            print(f"  fitted to the images: {'; '.join(run.lowered)}", flush=True)
        try:
            if not make_run(run, alone=len(runs) == 1):
                failed = True
        except InUseError as error:
            if not waits:
                raise
            print(f"  {error.holder} makes it; its turn comes after the others", flush=True)
            in_use.append((number, run))
    for number, run in in_use:
        print(f"[{number}/{len(runs)}] {run_label(run)}", flush=True)
        if not make_after(run):
            failed = True
    return int(failed)


def _jobs(left: Sequence[Run], how: HowToRun) -> int:
    """How many processes share the runs that are left."""
    if how.jobs is not None or len(left) < 2:
        return min(how.jobs or 1, len(left))
    if left[0].workspace.device_kind != "cpu":
        return 1
    estimator = Estimator.from_records_in(left[0].workspace.results)
    seconds = sum(estimator.run(run).seconds for run in left) + estimator.pretrainings(left)
    return automatic_jobs(len(left), seconds, how.threads)


def automatic_jobs(runs: int, seconds: float, threads: int | None) -> int:
    """How many processes finish some runs soonest on a CPU.

    That is one process a core, each on one thread. On a quiet machine two such trainings take 0.80
    to 0.94 of the time that they take in turn on two threads (`python -m tests.bench.two_runs`);
    beside other work two threads wait for each other and take several times as long. It is a single
    process if memory does not hold two, or if all runs together take less than `WORTH_SHARING`.

    Args:
        runs: their number.
        seconds: CPU seconds that they take together.
        threads: of each process; None for one.
    """
    if seconds / cores() < WORTH_SHARING:
        return 1
    fit = int(memory_bytes() // BYTES_OF_A_RUN)
    return max(1, min(cores() // (threads or 1), runs, fit))


def _share(left: Sequence[Run], how: HowToRun, jobs: int) -> int:
    """Let several processes share the runs; wait for runs that other commands are making."""
    threads = threads_each(jobs, how.threads)
    threads_text = counted(threads, "thread", "threads")
    print(f"{jobs} processes share them, each on {threads_text}, the longest first", flush=True)
    status = in_workers(jobs, threads, [*how.command, "--worker"])
    for run in left:
        if is_in_use(run) and not make_after(run):
            status = 1
    return status


def threads_each(jobs: int, asked: int | None) -> int:
    """The threads of each of several processes: as many as asked for, or its share of the cores."""
    return asked or max(1, cores() // jobs)


def cores() -> int:
    """The CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
    """Sort runs by their estimated seconds, the longest first."""
    if not runs:
        return []
    estimator = Estimator.from_records_in(runs[0].workspace.results)
    return sorted(runs, key=lambda run: -estimator.run(run).seconds)


def _work(runs: Sequence[Run], left: Sequence[Run]) -> int:
    """As a worker, make the runs that are left and that no other process makes, longest first."""
    numbers = {run.name: f"[{number}/{len(runs)}]" for number, run in enumerate(runs, 1)}

    def make(run: Run) -> bool:
        print(f"{numbers[run.name]} {run_label(run)}", flush=True)
        return make_run(run, head=f"{numbers[run.name]} ")

    return work_through(longest_first(left), make)


def is_in_use(run: Run) -> bool:
    """Whether another process is making a run."""
    return is_locked(run.folder / "lock") and not run.record_path.exists()


def _announce(runs: Sequence[Run], left: Sequence[Run]) -> None:
    """Print how many runs are done and left, how long they take, and whose files have changed."""
    text = f"{len(runs)} runs: {len(runs) - len(left)} done, {len(left)} left"
    if left:
        time = Estimator.from_records_in(left[0].workspace.results).in_words(left)
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
    """Wait until no other process is making a run, then read its record or make it.

    Returns:
        Whether the run succeeded.
    """
    while True:
        try:
            return make_run(run)
        except InUseError as error:
            print(f"  waiting for {error.holder}, which makes it", flush=True)
            error.wait()


def make_run(run: Run, alone: bool = False, head: str = "  ") -> bool:
    """Make a run and print its result.

    Args:
        run: what to make.
        alone: whether it is the only run of the command.
        head: what the line of its result begins with.

    Returns:
        Whether it succeeded.

    Raises:
        InUseError: another process is making it.
        Exception: an error in our code, if the run is `alone`. Other errors, and those in a
            plug-in, are printed.
    """
    recorded = run.record_path.exists()
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
            if alone or error.errno in DISK_FULL:  # the other runs need the disk too
                raise
            print(f"  broke: {error}; the other runs go on", file=sys.stderr)
            return False
        if alone and fault is None:
            raise
        path = run.error_path
        write_text(path, traceback.format_exc())
        cause = f"{fault}; " if fault else ""
        ending = "" if alone else "; the other runs go on"
        print(f"  broke: {cause}{path} says why{ending}", file=sys.stderr)
        return False
    print(f"{head}{'found: ' if recorded else ''}{run_summary(run, record)}", flush=True)
    for line in class_summary(record):
        print(f"  {line}", flush=True)
    if checksum_state(record) == BROKEN:
        print(f"  {run.record_path} was edited: its checksum does not match", file=sys.stderr)
    return bool(record["status"] != "failed")


def changed_since(run: Run) -> str:
    """The files that have changed since a run was made: plug-ins, and an uncommitted learner's."""
    made_with = (run.record() or {}).get("environment") or {}
    plugins = made_with.get("plugins", [])
    files = set()
    if plugins != run.plugins:
        files = {plugin["file"] for plugin in [*plugins, *run.plugins]}
    learner_file = made_with.get("learner_file")
    if learner_file and learner_file != run.learner_file:
        files.add(learner_file["file"])
    return ", ".join(sorted(files))


def class_summary(record: Mapping[str, Any]) -> list[str]:
    """For a user's own images: the classes with the worst results, and those confused most."""
    lines = []
    accuracies = record.get("accuracy_of_classes") or {}
    imperfect = [name for name, share in accuracies.items() if share < 1]
    if worst := sorted(imperfect, key=lambda name: accuracies[name])[:CLASSES_NAMED]:
        text = ", ".join(f"{name} {100 * accuracies[name]:.0f} %" for name in worst)
        lines.append(f"least often right: {text}")
    if pairs := (record.get("most_confused") or [])[:CLASSES_NAMED]:
        text = ", ".join(
            f"{name} for {other} ({100 * times / queries:.0f} %)"
            for name, other, times, queries in pairs
        )
        lines.append(f"most often mistaken: {text}")
    return lines


def run_label(run: Run) -> str:
    """A run in words, such as ``maml omniglot 5-way 1-shot quick seed 0``."""
    request = run.request
    words = [run.title, request.benchmark, request.shape, request.budget, f"seed {run.seed}"]
    return " ".join(words)


def run_summary(run: Run, record: Mapping[str, Any]) -> str:
    """The result of a run in words, and the path of its record."""
    row = row_of(dict(record), str(record["run"]))
    if row["status"] == "failed":
        text = f"failed at update {row['failed_at']}: {row['failure']}"
        return f"{text}; {run.record_path} (delete it to try again)"
    seconds = f"{row['train_seconds'] or 0:.0f} + {row['test_seconds'] or 0:.0f} s"
    return (
        f"{judged(row, run.judged_by)} over {row['episodes']} test episodes, "
        f"{row['updates']} updates, {seconds}; {run.record_path}"
    )


def judged(row: Mapping[str, Any], metric: str) -> str:
    """The number that a run is judged by, in words.

    Args:
        row: of its record, as `row_of` returns it.
        metric: the name of the number.
    """
    if metric not in row or not row["episodes"]:
        return f"{metric} is not in the record,"
    if metric == "mse":  # without an interval, as a few tasks decide the mean
        return f"mean squared error {row[metric]:.3f}"
    ci95 = row[f"{metric}_ci95"]  # nan for a single episode
    accuracy = estimate_from_record(row[metric], ci95, metric, row["episodes"])
    return f"{metric} {accuracy.times(100).text()} %"
