"""The command ``zoo ablation``: measures what each part of a learner adds, by leaving it out.

The rows of each ablation are declared in reports/ablations/.
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from zoo.commands.definition_files import read_definition
from zoo.commands.run_set import RunSet, parse_numbers, run_set_of
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.registry import learner_of
from zoo.reports import published
from zoo.reports.tables.ablation import ablation_csv_frame, ablation_numbers, ablation_table
from zoo.runs.request import RunRequest
from zoo.runs.resolved import check_way
from zoo.runs.run import Run
from zoo.runs.settings import (
    PRETRAIN,
    constructor_defaults,
    learner_variant,
    parse_flags,
    parse_values,
)
from zoo.variants import parse_variant

ABLATION_KEYS = {
    "title": str,
    "source": str,
    "way": int,
    "shot": int,
    "settings": dict,
    "rows": list,
}


class Ablation(NamedTuple):
    """What an ablation's file holds."""

    title: str
    source: str
    way: int
    shot: int
    settings: dict[str, Any]  # shared by all rows
    rows: dict[str, list[str]]  # each row's variants by its label; the best on validation is shown


def ablation_command(options: argparse.Namespace) -> int:
    """Make the runs that are missing, then print and write the table."""
    definition = load_ablation(options.ablation)
    benchmark = find_benchmark(options.benchmark)
    if benchmark.regression:
        raise UsageError(f"{benchmark.variant} is regression: an ablation needs classification")
    if options.budget == "none":
        raise UsageError("--budget none: an ablation trains; choose from smoke, quick, paper")
    way = check_way(benchmark, definition.way if options.way is None else options.way)
    shot = definition.shot if options.shot is None else options.shot
    given = flags_by_variant(definition, options.flags)
    run_set = run_set_of(options)
    common = RunRequest("", benchmark.variant, way, shot, options.terms, options.budget)
    seeds = parse_numbers(options.seeds or "0", "--seeds")
    planned = ablation_runs(definition, given, common, seeds, run_set)
    title = f"{definition.title}: {benchmark.title}"
    run_set.say(f"{title}, terms {options.terms}, budget {options.budget}")
    status = run_set.make()
    if planned["note"].notna().any():
        status = 1
    if options.dry_run or run_set.makes_no_table:
        return status
    broke = {
        name: f"broke: {run.error_path} says why"
        for name, run in run_set.runs.items()
        if run.error_path.exists()
    }
    planned["note"] = planned["note"].fillna(planned["run"].map(broke)).fillna("not measured")
    measured, values = run_set.read()
    accuracies = {name: frame["accuracy"] for name, frame in values.items()}
    numbers = ablation_numbers(planned, measured, accuracies, published.published())
    title = f"{definition.title}, {benchmark.title}, {common.shape}"
    words = ["ablation", Path(options.ablation).stem, benchmark.variant, f"{way}w", f"{shot}s"]
    words += [options.terms, options.budget]
    words += [f"{setting}={value}" for setting, value in next(iter(given.values())).items()]
    table = ablation_table(numbers, title, definition.source)
    run_set.report(words, table, ablation_csv_frame(numbers))
    return status


def ablation_runs(
    definition: Ablation,
    given: Mapping[str, Mapping[str, Any]],
    common: RunRequest,
    seeds: Sequence[int],
    run_set: RunSet,
) -> pd.DataFrame:
    """Plan every run of every row; all have the network and the pre-training of the first row.

    Args:
        definition: the ablation.
        given: settings from the command line, by variant.
        common: what all runs share; its learner, seed and settings do not count.
        seeds: of the runs of each row.
        run_set: where the runs are added.

    Returns:
        One line for each row, variant and seed, as `ablation_numbers` takes them; `note` says why
        a run cannot be made.

    Raises:
        UsageError: the first row cannot be run.
    """
    lines: list[dict[str, Any]] = []
    for seed in seeds:
        first: Run | None = None
        for label, variants in definition.rows.items():
            for variant in variants:
                overrides = parse_variant(variant)[1]
                settings = {**definition.settings, **given[variant]}
                flags = {name: value for name, value in settings.items() if name not in overrides}
                request = replace(common, learner=variant, seed=seed, flags=flags)
                run: Run | None
                if first is None:
                    run, note = run_set.add(run_set.plan(request)), None
                    first = run
                else:
                    plan = partial(run_like_first, run_set, request, first)
                    run, note = run_set.try_to_add(plan, f"{label}, {variant}")
                lines.append(
                    {
                        "row": label,
                        "learner": variant,
                        "overrides": overrides,
                        "seed": seed,
                        "run": None if run is None else run.name,
                        "note": note,
                    }
                )
    return pd.DataFrame(lines)


def run_like_first(run_set: RunSet, request: RunRequest, first: Run) -> Run:
    """Plan a run with the network and the pre-training of the first row's run.

    Raises:
        UsageError: it cannot be run.
    """
    run = run_set.plan(request)
    overrides = parse_variant(request.learner)[1]
    shared = {
        name: setting.value
        for name, setting in first.settings.items()
        if name.startswith(("backbone", PRETRAIN))
        and name not in overrides
        and (name not in run.settings or run[name] != setting.value)
    }
    if not shared:
        return run
    return run_set.plan(replace(request, flags={**request.flags, **shared}))


def load_ablation(name: str) -> Ablation:
    """Read the ablation of that name, or one from the user's own file.

    Raises:
        UsageError: there is no such ablation, its file is malformed, or it names a learner or an
            option that does not exist.
    """
    path, content = read_definition("ablations", name, "ablation", ABLATION_KEYS)
    rows: dict[str, list[str]] = {}
    for row in content["rows"]:
        match row:
            case {"label": str(label), "learner": str(variant), **rest} if not rest:
                rows[label] = [variant]
            case {"label": str(label), "any_of": [*variants], **rest} if variants and not rest:
                rows[label] = [str(variant) for variant in variants]
            case _:
                raise UsageError(f"{path}: {row!r}: expected label, and learner or any_of")
    if not rows or len(rows) < len(content["rows"]):
        raise UsageError(f"{path}: rows: expected at least one, each with a label of its own")
    try:
        rows = {label: [*map(learner_variant, variants)] for label, variants in rows.items()}
        for variant in itertools.chain.from_iterable(rows.values()):
            _, cls, overrides = learner_of(variant)
            parse_values(cls, {**content["settings"], **overrides}, variant)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return Ablation(**{**content, "rows": rows})


def flags_by_variant(definition: Ablation, flags: list[str]) -> dict[str, dict[str, Any]]:
    """Parse flags such as ``--outer_lr 0.001``: each variant gets those that it has.

    Reference rows do not learn, so they do not get ``--updates``.

    Raises:
        UsageError: no variant has a flag, or a value has the wrong type.
    """
    groups: list[list[str]] = []  # a flag and its values each
    for word in flags:
        if word.startswith("--") or not groups:
            groups.append([])
        groups[-1].append(word)
    classes = {
        variant: learner_of(variant)[1]
        for variant in itertools.chain.from_iterable(definition.rows.values())
    }
    flags_of = {
        variant: {f"--{name}" for name in constructor_defaults(cls)}
        for variant, cls in classes.items()
    }
    for group in groups:
        flag = group[0].partition("=")[0]
        if not any(flag in names for names in flags_of.values()):
            # This raises an error that also says which flag may have been meant.
            parse_flags(next(iter(classes.values())), group)
    settings = {}
    for variant, cls in classes.items():
        words: list[str] = []
        for group in groups:
            if group[0].partition("=")[0] in flags_of[variant]:
                words += group
        settings[variant] = parse_flags(cls, words)
        if cls.family == "reference":
            settings[variant].pop("updates", None)
    return settings
