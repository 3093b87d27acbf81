"""The command ``zoo table``: the runs of a comparison, made and shown as a table.

A composition root, like plan.py.
"""

import argparse
import hashlib
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import baselines  # noqa: F401  (fills the register)
from datasets.benchmarks import find_benchmark
from reports import forms, published, records, tables
from reports.statistics import paired_difference
from zoo.errors import UsageError
from zoo.experiment import Run
from zoo.files import write_text
from zoo.jobs import execute, place_of
from zoo.plan import slug
from zoo.protocol import STAGE
from zoo.registry import learners, parse_variant, split_variants


def comparison(options: argparse.Namespace) -> int:
    """Make what is missing, then print and write the comparison."""
    variants = split_variants(options.learners)
    benchmark = find_benchmark(options.benchmark)
    names = variants or [
        key for key in learners.names() if not benchmark.regression or learners.get(key).regression
    ]
    for name in names:
        learners.check(parse_variant(name)[0])
    shots = options.shots or benchmark.shots
    ways: list[int] | list[None] = [None]
    if options.ways or not benchmark.regression:
        ways = list(numbers(options.ways or "5", "--ways"))
    axes: tuple[Iterable[int | None], Iterator[int], Iterator[int]]
    axes = (ways, numbers(shots, "--shots"), numbers(options.seeds or "0", "--seeds"))
    place = place_of(options)
    stores = place.open(benchmark)

    def plan(name: str, way: int | None, shot: int, seed: int, **flags: Any) -> Run:
        return Run(
            name, options.benchmark, way=way, shot=shot, seed=seed, terms=options.terms,
            budget=options.budget, flags=flags, place=place, stores=stores,
        )  # fmt: skip

    runs: list[Run] = []
    untrained: dict[str, Run] = {}  # the same without an update, by the name of the trained run
    refused = 0
    for name, way, shot, seed in itertools.product(names, *axes):
        try:
            runs.append(plan(name, way, shot, seed))
            run = runs[-1]
            if options.untrained and (run["updates"] or run.stages):
                untrained[run.name] = plan(name, way, shot, seed, **nothing_learned(run))
        except UsageError as error:
            refused += 1
            ways_said = f" {way}-way" if way else ""
            print(f"  {name}{ways_said} {shot}-shot cannot be run: {error}", file=sys.stderr)
    if not runs:
        raise UsageError("nothing of this table can be run")
    print(f"{benchmark.title}, terms {options.terms}, budget {options.budget}")
    status = execute([*runs, *untrained.values()], options)
    if options.dry_run:
        return status
    measured, problems = records.load(options.results)
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    measured = measured[measured["run"].isin([run.name for run in runs])]
    numbers_published = published.published()
    frame = tables.comparison(
        measured,
        numbers_published,
        benchmark.variant,
        title=benchmark.title,
        order=[parse_variant(name)[0] for name in names],
        gains=gains(options.results, untrained) if options.untrained else None,
    )
    text = forms.to_markdown(frame)
    csv = tables.to_csv_frame(measured, numbers_published).to_csv(index=False)
    words = [benchmark.variant, *variants, *(f"{way}w" for way in ways if way), f"{shots}s"]
    stem = short(slug("-".join(["table", *words, options.terms, options.budget])))
    write_text(options.results / f"{stem}.md", text)
    write_text(options.results / f"{stem}.csv", csv)
    print(f"\n{text}\nThe table lies in {options.results / stem}.md, its numbers in {stem}.csv")
    return status or int(refused > 0)


def nothing_learned(run: Run) -> dict[str, Any]:
    """The settings of a run without an update, neither in episodes nor in a stage before."""
    own = [name for name in run.settings if name.endswith("updates")]
    without: dict[str, Any] = {name: 0 for name in own if not name.startswith(STAGE)}
    return without | ({"pretrained_from": None} if "pretrained_from" in run.settings else {})


def short(stem: str) -> str:
    """A file name of at most 200 characters: of a longer one the beginning, and its hash."""
    if len(stem) <= 200:
        return stem
    return f"{stem[:183]}-{hashlib.blake2b(stem.encode(), digest_size=8).hexdigest()}"


def gains(results: Path, untrained: dict[str, Run]) -> dict[tuple[str, str], tuple[float, float]]:
    """What training gave each run over its own untrained network, paired over the test episodes.

    Returns:
        Difference and half-width of its 95 % interval by the name of the run and the metric, of
        accuracies and of mean squared errors. A run that failed, or whose untrained one did, is
        left out.
    """
    found = {}
    for name, run in untrained.items():
        try:
            after, before = (records.episodes(results, n) for n in (name, run.name))
        except FileNotFoundError:
            continue
        for metric in map(str, after):
            if metric.startswith(("accuracy", "mse")):
                found[name, metric] = paired_difference(after[metric], before[metric])
    return found


def numbers(text: str, flag: str) -> Iterator[int]:
    """``"1 5"`` or ``"1,5"`` -> 1, 5.

    Raises:
        UsageError: something else.
    """
    words = text.replace(",", " ").split()
    if not words or not all(word.isdigit() for word in words):
        raise UsageError(f'{flag} {text!r}: expected whole numbers, such as "1 5"')
    return map(int, words)
