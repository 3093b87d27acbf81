"""Jobs: runs as the command line asks for them, made one after the other."""

import argparse
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.datasets.benchmarks.base import Benchmark
from zoo.errors import UsageError
from zoo.files import make_folder
from zoo.runs.estimate import run_megabytes, run_seconds, stage_seconds
from zoo.runs.run import Run
from zoo.runs.settings import (
    Job,
)


def execute(runs: Sequence[Run], options: argparse.Namespace) -> int:
    """Make runs one after the other; returns 1 if one failed, else 0.

    What goes wrong in one does not stop the others. With `--jobs` several processes share them.
    """
    left = [run for run in runs if not run.record_path.exists()]
    minutes = (sum(map(run_seconds, left)) + stage_seconds(left)) / 60
    print(
        f"{len(runs)} runs: {len(runs) - len(left)} done, {len(left)} left, "
        f"about {minutes:.0f} min on 2 cores and {sum(map(run_megabytes, left)):.0f} MB",
        flush=True,
    )
    for run in runs:
        if run not in left and (files := changed_since(run)):
            print(f"  {run.record_path}: made with another {files}; delete it to make it anew")
    if getattr(options, "dry_run", False):
        for run in runs:
            print(f"  {'to do' if run in left else 'done '} {run_label(run)}")
        return 0
    for folder, flag in ((options.results, "--results"), (options.runs, "--runs")):
        make_folder(folder, flag)
    jobs, part = getattr(options, "jobs", 1), getattr(options, "part", None)
    if jobs > 1 and len(left) > 1 and not part:
        return run_in_processes(min(jobs, len(left)), options.words)
    failed, (own, parts) = 0, part or (1, 1)
    for number, run in enumerate(runs, 1):
        if number % parts != own % parts:
            continue
        print(f"[{number}/{len(runs)}] {run_label(run)}", flush=True)
        try:
            record = run.execute(progress=sys.stdout.isatty())
        except UsageError as error:
            if len(runs) == 1:
                raise
            print(f"  skipped: {error}", file=sys.stderr)
            failed += 1
            continue
        except Exception:
            if len(runs) == 1:
                raise
            path = options.runs / run.name / "error.txt"
            path.write_text(traceback.format_exc())
            print(f"  broke: {path} says why; the other runs go on", file=sys.stderr)
            failed += 1
            continue
        failed += record["status"] == "failed"
        print(f"  {run_summary(run, record)}", flush=True)
    return int(failed > 0)


def run_in_processes(jobs: int, words: Sequence[str]) -> int:
    """The same command in several processes, each with its part of the runs; 1 if one failed."""
    command = [sys.executable, "-m", "zoo", *words]
    started = [
        subprocess.Popen([*command, "--part", f"{part}/{jobs}"]) for part in range(1, jobs + 1)
    ]
    try:
        return int(any([process.wait() for process in started]))
    except KeyboardInterrupt:
        for process in started:  # they had the same Ctrl-C
            process.wait()
        raise


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


def run_label(run: Run) -> str:
    """A run in words."""
    job = run.job
    words = [
        run.title,
        job.benchmark,
        episode_shape(run.benchmark, job),
        job.budget,
        f"seed {run.seed}",
    ]
    return " ".join(words)


def episode_shape(benchmark: Benchmark, job: Job) -> str:
    """The test episodes in words."""
    return f"{job.shot}-shot" if benchmark.regression else f"{job.way}-way {job.shot}-shot"


def run_summary(run: Run, record: Mapping[str, Any]) -> str:
    """What came out of a run, and where it is written."""
    if record["status"] == "failed":
        failure = record["failure"]
        text = f"failed at update {failure['update']}: {failure['reason']}"
        return f"{text}; {run.record_path} (delete it to try again)"
    judged, spent = record["metrics"][run.judged_by], record["seconds"]
    mean, ci95 = judged["mean"], judged["ci95"]  # of one episode there is no interval
    if run.judged_by == "mse":
        found = f"MSE {mean:.3f}" + ("" if ci95 is None else f" ± {ci95:.3f}")
    else:
        found = f"{run.judged_by} {100 * mean:.2f}"
        found += " %" if ci95 is None else f" ± {100 * ci95:.2f} %"
    return (
        f"{found} over {record['episodes']['count']} test episodes, "
        f"{record['updates']['total']} updates, {spent['train']:.0f} + {spent['test']:.0f} s; "
        f"{run.record_path}"
    )
