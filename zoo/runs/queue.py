"""Jobs: runs as the command line asks for them, made one after the other."""

import argparse
import math
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.errors import UsageError
from zoo.files import make_folder
from zoo.learner import Learner
from zoo.registry import format_value, learner_of
from zoo.runs.kept import read_stage
from zoo.runs.plan import SETTINGS, Place, check_tasks, check_way
from zoo.runs.protocol import PRETRAIN
from zoo.runs.run import Run
from zoo.runs.settings import (
    Job,
    Setting,
    documentation,
    load_rows,
    parse_flags,
    parse_values,
    resolve,
)


def workspace_of(options: argparse.Namespace) -> Place:
    """Where the command line says to work.

    Raises:
        UsageError: a folder or device that cannot be used.
    """
    most = max(os.cpu_count() or 1, 64)
    if options.threads is not None and not 1 <= options.threads <= most:
        raise UsageError(f"--threads {options.threads}: expected a number from 1 to {most}")
    place = Place(
        options.data,
        options.results,
        options.runs,
        options.device,
        options.threads or torch.get_num_threads(),
        fetch=not getattr(options, "dry_run", False),
        yes=options.yes,
    )
    place.kind  # noqa: B018  (raises for a device that is not there)
    return place


def plan_run(options: argparse.Namespace, flags: list[str]) -> Run:
    """The run that ``zoo run`` asks for."""
    _, learner, _ = learner_of(options.learner)
    learner_flags = parse_flags(learner, flags)
    return Run(
        options.learner,
        options.benchmark,
        way=options.way,
        shot=options.shot,
        seed=options.seed,
        terms=options.terms,
        budget=options.budget,
        config=parse_values(learner, read_config(options.config), str(options.config)),
        flags=learner_flags,
        place=workspace_of(options),
    )


def read_config(path: Path | None) -> Mapping[str, Any]:
    """Settings from a YAML file of ``name: value`` lines.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--config {path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UsageError(f"--config {path}: expected lines of the form `setting: value`")
    return content


def explain(options: argparse.Namespace, flags: list[str]) -> str:
    """The settings of a learner on a benchmark: flag, value, what it is, where it comes from."""
    key, learner, overrides = learner_of(options.learner)
    benchmark = find_benchmark(options.benchmark)
    check_tasks(learner, key, benchmark)
    way = check_way(benchmark, options.way)
    job = Job(key, benchmark.variant, way, options.shot, options.terms, options.budget)
    own = parse_values(learner, overrides, options.learner)
    settings, _ = resolve(
        job,
        learner,
        load_rows(SETTINGS),
        query=benchmark.query,
        backbone=benchmark.backbone,
        config=parse_values(learner, read_config(options.config), str(options.config)),
        flags={**own, **parse_flags(learner, flags)},
    )
    texts = documentation(learner)
    lines = [
        f"settings of {key} on {options.benchmark}, {episode_shape(benchmark, job)}, "
        f"terms {job.terms}, budget {job.budget}:"
    ]
    for name, setting in settings.items():
        lines.append(f"  --{name} {format_value(setting.value)}")
        lines.append(f"        {texts.get(name, '').partition(' [')[0]}")
        lines.append(
            f"        from {setting.origin}" + f": {setting.source}" * bool(setting.source)
        )
    return "\n".join(lines)


def run_seconds(run: Run) -> float:
    """About how long a run takes on 2 cores."""
    settings = run.settings | {"updates": Setting(0, "weights")} if run.weights_of else run.settings
    return estimated_seconds(run.benchmark, run.cls, run.job, settings)


def estimated_seconds(
    benchmark: Benchmark, cls: type[Learner], job: Job, settings: Mapping[str, Setting]
) -> float:
    """About how long such a run takes on 2 cores, in seconds; without a pre-training."""
    get = {name: setting.value for name, setting in settings.items()}
    quick, _ = resolve(
        job._replace(budget="quick"), cls, load_rows(SETTINGS), query=benchmark.query
    )
    training = get["updates"] / (quick["updates"].value or math.inf) * benchmark.quick_seconds
    pixels = math.prod(benchmark.image[1:])
    episode = (5e-5 if cls.gradient_based else 5e-6) * pixels
    validations = get["validations"] if get["updates"] else 0
    return training + episode * (get["test_episodes"] + validations * get["val_episodes"])


def stage_seconds(runs: Sequence[Run]) -> float:
    """About how long their pre-trainings take, as far as they are not there, each once."""
    left = {
        staging.folder: run
        for run in runs
        for staging in run.stages
        if staging.stage.name == PRETRAIN and read_stage(staging.folder) is None
    }
    total, rows = 0.0, load_rows(SETTINGS)
    for run in left.values():
        benchmark, job = run.benchmark, run.job._replace(budget="quick")
        quick, _ = resolve(job, run.cls, rows, query=benchmark.query)
        images = run["pretrain_updates"] * run["pretrain_batch"]
        quickly = quick["pretrain_updates"].value * quick["pretrain_batch"].value
        total += images / quickly * benchmark.quick_seconds
    return total


def run_megabytes(run: Run) -> float:
    """About how much disk a run takes: two checkpoints, one of them with Adam's state."""
    weights = 0 if run.weights_of else sum(p.numel() for p in run.learner.parameters())
    return weights * 16 / 1e6 + 0.3


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
