"""What keeps a cell of a table from being filled: a row for it, why, and what would fill it."""

import argparse
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.networks.backbone import build_backbone
from zoo.registry import learner_of
from zoo.reports.records import FIELDS
from zoo.reports.tables.cells import MISSING
from zoo.runs.estimate import run_seconds, stage_seconds
from zoo.runs.plan import SETTINGS, build_learner, check_way
from zoo.runs.run import Run
from zoo.runs.settings import Job, load_rows, parse_values, resolve
from zoo.runs.stages import without_unused_settings
from zoo.variants import parse_variant

DEFAULT_RESULTS = Path("results")  # where `zoo run` puts them if it is not told
LONG_RUN_SECONDS = 5 * 3600  # seconds on 2 cores, from where a run is one for a GPU


class Asked(NamedTuple):
    """One cell's run as a table asks for it."""

    learner: str  # a key or variant
    benchmark: str
    way: int | None
    shot: int
    seed: int
    terms: str
    budget: str

    @property
    def command(self) -> list[str]:
        """What makes this run alone."""
        words = ["python", "-m", "zoo", "run", self.learner, self.benchmark]
        given: dict[str, Any] = {"way": self.way, "shot": self.shot, "seed": self.seed or None}
        given |= {"terms": self.terms if self.terms != "paper" else None, "budget": self.budget}
        for name, value in given.items():
            words += [] if value is None else [f"--{name}", str(value)]
        return words

    @property
    def words(self) -> str:
        """Which cell, for a reader."""
        shape = f"{self.way}-way {self.shot}-shot" if self.way else f"{self.shot}-shot"
        seed = f", seed {self.seed}" if self.seed else ""
        terms = f", {self.terms} terms" if self.terms != "paper" else ""
        return f"{self.learner} {shape}{seed}{terms}"


def missing_row(ask: Asked, why: str) -> dict[str, Any]:
    """A row as `zoo.reports.records.load` has it, of a run that has no record.

    It says as much as can be known without data, so that the published number is found.
    """
    key, overrides = parse_variant(ask.learner)
    benchmark = find_benchmark(ask.benchmark)
    found: dict[str, Any] = dict.fromkeys(FIELDS)
    found |= {"run": "", "status": MISSING, "learner": key, "variant": overrides, "failure": why}
    found |= {"title": learner_of(ask.learner)[1].title or key, "benchmark": benchmark.variant}
    found |= {name: getattr(ask, name) for name in ("way", "shot", "seed", "terms", "budget")}
    found |= {"settings": {}, "transductive": False, "backbone_family": None}
    try:
        _, cls, _ = learner_of(ask.learner)
        way = check_way(benchmark, ask.way)
        settings, changed = resolve(
            Job(key, benchmark.variant, way, ask.shot, ask.terms, ask.budget), cls,
            load_rows(SETTINGS), query=benchmark.query, backbone=benchmark.backbone,
            flags=parse_values(cls, overrides, ask.learner),
        )  # fmt: skip
        settings = without_unused_settings(settings)
        backbone = build_backbone(settings["backbone"].value, benchmark.image)
        learner = build_learner(cls, settings, backbone, way)
    except UsageError:
        return found
    family = getattr(backbone, "family", parse_variant(settings["backbone"].value)[0])
    return found | {
        "settings": {name: setting.value for name, setting in settings.items()},
        "variant": changed,
        "remark": cls.remark or None,
        "backbone_family": family,
        "transductive": learner.traits()["transductive"],
        "batch_norm": learner.batch_norm,
        "episodes": settings["test_episodes"].value,
    }


def reason_missing(run: Run, options: argparse.Namespace) -> str:
    """Why a run that could be planned has no record."""
    broke = options.runs / run.name / "error.txt"
    if broke.exists():
        return f"broke: {broke} says why"
    if run.place.kind == "cpu" and run_seconds(run) > LONG_RUN_SECONDS:
        return "not run: no GPU, and long on a CPU"
    return "not run"


def commands_for_missing(
    gaps: Mapping[Asked, str], runs: Mapping[Asked, Run], options: argparse.Namespace
) -> Iterable[str]:
    """What fills each gap, a line each; those that have one reason and no command share a line."""
    where = [] if options.results == DEFAULT_RESULTS else ["--results", str(options.results)]
    by_reason: dict[str, list[str]] = {}
    for ask, why in gaps.items():
        if ask in runs and not why.startswith("broke"):
            whole = run_seconds(runs[ask]) + stage_seconds([runs[ask]])
            hours, minutes = divmod(round(whole / 60), 60)
            time = f"{hours} h {minutes} min" if hours else f"{max(minutes, 1)} min"
            needs = ["--data", str(options.data)] if runs[ask].benchmark.forms else []
            command = shlex.join([*ask.command, *needs, *where])
            yield f"– {ask.words}: {why}; about {time} on 2 cores: {command}"
        else:
            by_reason.setdefault(why, []).append(ask.words)
    for why, cells in by_reason.items():
        yield f"– {', '.join(cells)}: {why}"
