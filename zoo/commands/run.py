"""The command ``zoo run``: one run, or the settings that it would have."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from zoo.commands.campaign import workspace_of
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.registry import learner_of
from zoo.runs.plan import SETTINGS, check_tasks, check_way
from zoo.runs.queue import episode_shape, execute
from zoo.runs.run import Run
from zoo.runs.settings import (
    Job,
    documentation,
    load_rows,
    parse_flags,
    parse_values,
    resolve,
)
from zoo.variants import format_value


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


def run_command(options: argparse.Namespace) -> int:
    """Train, test and record one run; print what came out."""
    if options.learner is None or options.benchmark is None:
        options.parser.print_help(sys.stdout if options.help else sys.stderr)
        return 0 if options.help else 2
    if options.help:
        options.parser.print_help()
        print(explain(options, options.flags))
        return 0
    return execute([plan_run(options, options.flags)], options)
