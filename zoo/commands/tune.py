"""The command ``zoo tune``: searches a space of settings for those that validate best.

Trials are trained and validated, but never tested: the test split is closed to them. A search that
was stopped goes on, and one that has ended goes on if more trials are asked for.
"""

import argparse
import sys
from collections.abc import Mapping
from typing import Any

import yaml

from zoo.commands.run import run_request
from zoo.commands.run_set import workspace_of
from zoo.commands.write_table import Drawing, Output, command_line, shortened_stem, write_table
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.files import alone_in, make_folder, slug, write_text
from zoo.registry import learner_of
from zoo.reports.figures.tuning import tuning_figure
from zoo.reports.tables.tuning import tuning_table
from zoo.runs.estimate import Estimator
from zoo.runs.long_runs import in_workers
from zoo.runs.make_runs import automatic_jobs, threads_each
from zoo.runs.request import RunRequest
from zoo.runs.tuning import SETTINGS, Search, TrialRun
from zoo.runs.tuning_on_ray import make_trials_on_ray
from zoo.runs.tuning_space import best_is_at_an_end, parse_space
from zoo.runs.workspace import Workspace


def tune_command(options: argparse.Namespace) -> int:
    """Make the missing trials, then print and write the best settings and the table."""
    _, learner, _ = learner_of(options.learner)
    space = parse_space(learner, options.space)
    request, benchmark = run_request(options), find_benchmark(options.benchmark)
    given = {**request.config, **request.flags}
    if both := [name for name in space if name in given]:
        raise UsageError(f"--space: {both[0]} is given as a setting too; leave one out")
    workspace = workspace_of(options)
    for folder, flag in ((workspace.results, "--results"), (workspace.runs, "--runs")):
        make_folder(folder, flag)
    first = TrialRun(request, workspace, workspace.open(benchmark), None)
    words = ["tune", request.learner, benchmark.variant, first.request.shape]
    words += [request.terms, request.budget, f"seed {request.seed}"]
    words += [f"{setting}={value}" for setting, value in sorted(given.items())]
    words.append(options.space)
    stem = shortened_stem(slug("-".join(words)))
    search = Search(workspace.results / f"{stem}.db", space, first)
    if options.worker:
        search.work(options.trials, say)
        return 0
    with alone_in(search.folder):
        search.take_up()
        make_trials(search, options, workspace)
    return report(search, Output(workspace.results, words, options.words))


def say(line: str) -> None:
    """Print a line without delay."""
    print(line, flush=True)


def make_trials(search: Search, options: argparse.Namespace, workspace: Workspace) -> None:
    """Make the trials that are missing: in this process, in several, or on a Ray cluster."""
    done, trials = len(search.finished), options.trials
    if search.combinations is not None:
        trials = min(trials, len(search.combinations))
    left = max(0, trials - done)
    seconds = left * Estimator.from_records_in(workspace.results).run(search.first).seconds
    minutes = f"at most {seconds / 60:.0f} CPU minutes"
    say(f"{trials} trials: {done} done, {left} left, {minutes}")
    if not left:
        return
    jobs = options.jobs
    if options.on == "ray":
        plugins = options.plugin or ()
        make_trials_on_ray(search, trials, jobs, options.threads or 1, plugins, say)
        return
    if jobs is None:
        on_cpu = workspace.device_kind == "cpu"
        jobs = automatic_jobs(left, seconds, options.threads) if on_cpu else 1
    if jobs == 1:
        search.work(trials, say, progress=sys.stdout.isatty())
        return
    threads = threads_each(jobs, options.threads)
    in_workers(min(jobs, left), threads, [*options.words, "--worker"])


def report(search: Search, output: Output) -> int:
    """Print and write the table, the figure and the best settings.

    Returns:
        The exit status: 1 if no trial was trained to its end, or if the test split was opened.
    """
    trials, first = search.frame(), search.first
    title = f"{first.cls.title or first.title} on {first.benchmark.title}"
    table = tuning_table(trials, title, first.judged_by, first["val_episodes"], search.before)
    log = [name for name, values in search.space.items() if getattr(values, "log", False)]
    figure = tuning_figure(trials, title, first.judged_by, [*search.space], log)
    caption = "The validation of each trial by its settings; hollow: stopped early."
    write_table(output, [table], {"": trials}, {"": Drawing(figure, caption)})
    opened = int(trials["opened"].sum())
    print(f"\nThe test split was opened {opened} times.")
    if (best := search.best()) is None:
        print("no trial was trained to its end", file=sys.stderr)
        return 1
    settings = best.user_attrs[SETTINGS]
    result = f"{search.in_words(best.value or 0.0)} on validation tasks, {len(trials)} trials"
    path = output.folder / f"{search.path.stem}.yaml"
    command = command_line(output.command)
    write_text(path, f"# {result}: {command}\n{yaml.safe_dump(settings, sort_keys=False)}")
    print(f"The best, {result}: --config {path}, or a row of settings:\n")
    print(settings_row(first.request, settings, f"our choice: {result}, {command}"))
    for name in best_is_at_an_end(search.space, settings):
        print(f"{name}: the best lies at an end of what was searched; search further")
    return int(opened > 0)


def settings_row(request: RunRequest, settings: Mapping[str, Any], source: str) -> str:
    """The settings as a row of baselines/settings.yaml."""
    key = learner_of(request.learner)[0]
    when: dict[str, Any] = {
        "learner": key,
        "benchmark": request.benchmark,
        "budget": request.budget,
    }
    if request.way is not None:
        when["way"] = request.way
    when["shot"] = request.shot
    row = [{"when": when, "set": dict(settings), "source": source}]
    return yaml.safe_dump(row, sort_keys=False, width=1000)
