"""The command ``zoo ablation``: a learner with parts of it left out, made and shown as a table.

What the rows are is declared in reports/ablations/.
"""

import argparse
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
    settings: dict[str, Any]  # of every row
    rows: dict[str, list[str]]  # variants by label: the best on validation is shown


def ablation_command(options: argparse.Namespace) -> int:
    """Make what is missing, then print and write the table."""
    definition, benchmark = load_ablation(options.ablation), find_benchmark(options.benchmark)
    if benchmark.regression:
        raise UsageError(f"{benchmark.variant} is regression: ablations are of classification")
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
    status = run_set.make() | int(planned["note"].notna().any())
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
    found = ablation_numbers(planned, measured, accuracies, published.published())
    title = f"{definition.title}, {benchmark.title}, {common.shape}"
    name = ["ablation", Path(options.ablation).stem, benchmark.variant, f"{way}w", f"{shot}s"]
    name += [options.terms, options.budget]
    name += [f"{setting}={value}" for setting, value in next(iter(given.values())).items()]
    run_set.report(name, ablation_table(found, title, definition.source), ablation_csv_frame(found))
    return status


def ablation_runs(
    definition: Ablation,
    given: Mapping[str, Mapping[str, Any]],
    common: RunRequest,
    seeds: Sequence[int],
    run_set: RunSet,
) -> pd.DataFrame:
    """Plan every run of every row, of one network and one pre-training: those of the first row.

    Args:
        definition: the rows.
        given: settings from the command line by variant.
        common: what all runs share; its learner, seed and settings do not count.
        seeds: of each row.
        run_set: takes the runs.

    Returns:
        One line a row, variant and seed, as `ablation_numbers` takes them; `note` says why a run
        cannot be made.

    Raises:
        UsageError: the first row cannot be run.
    """
    lines: list[dict[str, Any]] = []
    for seed in seeds:
        first: Run | None = None
        for label, variants in definition.rows.items():
            for variant in variants:
                own = parse_variant(variant)[1]
                settings = {**definition.settings, **given[variant]}
                flags = {name: value for name, value in settings.items() if name not in own}
                request = replace(common, learner=variant, seed=seed, flags=flags)
                run: Run | None
                if first is None:
                    run, note = run_set.add(run_set.plan(request)), None
                    first = run
                else:
                    plan = partial(run_like_first, run_set, request, first)
                    run, note = run_set.try_to_add(plan, f"{label}, {variant}")
                line = {"row": label, "learner": variant, "overrides": own, "seed": seed}
                lines.append({**line, "run": run and run.name, "note": note})
    return pd.DataFrame(lines)


def run_like_first(run_set: RunSet, request: RunRequest, first: Run) -> Run:
    """A run from the network and the pre-training of the first row's.

    Raises:
        UsageError: it cannot be run.
    """
    run = run_set.plan(request)
    own = parse_variant(request.learner)[1]
    shared = {
        name: setting.value
        for name, setting in first.settings.items()
        if name.startswith(("backbone", PRETRAIN))
        and name not in own
        and (name not in run.settings or run[name] != setting.value)
    }
    if not shared:
        return run
    return run_set.plan(replace(request, flags={**request.flags, **shared}))


def load_ablation(name: str) -> Ablation:
    """The ablation of that name, or of a file of one's own.

    Raises:
        UsageError: there is none; or the file is not as it should be, or names a learner or an
            option that there is not.
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
        raise UsageError(f"{path}: rows: expected some, each with a label of its own")
    try:
        rows = {label: [*map(learner_variant, variants)] for label, variants in rows.items()}
        for variant in [variant for variants in rows.values() for variant in variants]:
            _, cls, own = learner_of(variant)
            parse_values(cls, {**content["settings"], **own}, variant)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return Ablation(**{**content, "rows": rows})


def flags_by_variant(definition: Ablation, flags: list[str]) -> dict[str, dict[str, Any]]:
    """Flags such as ``--outer_lr 0.001``, typed: for each variant those that it has.

    Updates are for those that learn: a reference does not.

    Raises:
        UsageError: a flag that none has, or a value of the wrong type.
    """
    groups: list[list[str]] = []
    for word in flags:
        if word.startswith("--") or not groups:
            groups.append([])
        groups[-1].append(word)
    variants = [variant for variants in definition.rows.values() for variant in variants]
    classes = {variant: learner_of(variant)[1] for variant in variants}
    known = {v: {f"--{name}" for name in constructor_defaults(c)} for v, c in classes.items()}
    for group in groups:
        if not any(group[0].partition("=")[0] in names for names in known.values()):
            parse_flags(next(iter(classes.values())), group)  # says what is meant perhaps
    found = {}
    for variant, cls in classes.items():
        words = [w for g in groups if g[0].partition("=")[0] in known[variant] for w in g]
        found[variant] = parse_flags(cls, words)
        if cls.family == "reference":
            found[variant].pop("updates", None)
    return found
