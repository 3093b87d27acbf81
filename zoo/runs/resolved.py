"""A request resolved: what it names is looked up, and every setting has its value and origin."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.errors import UsageError
from zoo.learner import OUTER_DECAYS, Learner
from zoo.networks.backbone import Backbone, build_backbone
from zoo.registry import learner_of, learners
from zoo.runs.request import BUDGETS, TERMS, RunRequest
from zoo.runs.settings import (
    SHARED_SETTING_NAMES,
    Setting,
    constructor_defaults,
    paper_tasks,
    parse_values,
    resolve,
    settings_rows,
    without_unused_settings,
)
from zoo.variants import format_variant, parse_variant


@dataclass(frozen=True)
class ResolvedRequest:
    """What can be known of a run without its data and without building its networks.

    `request` has the learner's key without its brackets, which are among its `flags`, the
    benchmark's variant and, but in regression, the number of ways filled in. `every_setting` holds
    each setting with its origin; `changed` those that the user moved away from what they would
    have been.
    """

    request: RunRequest
    cls: type[Learner]
    benchmark: Benchmark
    way: int  # N of the test episodes; in regression the number of outputs
    every_setting: Mapping[str, Setting]
    changed: Mapping[str, Any]

    @cached_property
    def settings(self) -> dict[str, Setting]:
        """The settings that this run depends on: without those of a stage it does not have."""
        return without_unused_settings(self.every_setting)

    @property
    def values(self) -> dict[str, Any]:
        """The values of `settings`."""
        return {name: setting.value for name, setting in self.settings.items()}

    @property
    def title(self) -> str:
        """How a reader calls it: the key, and in brackets what was changed."""
        return format_variant(self.request.learner, dict(self.changed))

    @property
    def paper_tasks(self) -> int | None:
        """How many training tasks the paper took for this, if it says so."""
        return paper_tasks(self.request, settings_rows())

    def build(self) -> tuple[Backbone, Learner]:
        """Its backbone and its learner, with fresh weights.

        Raises:
            UsageError: there is no such network, or the learner refuses its settings.
        """
        backbone = build_backbone(self.settings["backbone"].value, self.benchmark.image)
        own = {*constructor_defaults(self.cls)} - SHARED_SETTING_NAMES
        options = {name: self.settings[name].value for name in own}
        learner = self.cls(backbone, self.way, **options)
        decay = self.every_setting["outer_decay"].value
        if decay not in OUTER_DECAYS:
            raise UsageError(f"--outer_decay {decay}: choose from {', '.join(OUTER_DECAYS)}")
        learner.outer_decay = decay
        if not self.benchmark.regression:
            learner.normalise_by(self.benchmark.mean, self.benchmark.std)
        return backbone, learner

    def family_of(self, backbone: Backbone) -> str:
        """The backbone's key in published.csv."""
        default = parse_variant(self.settings["backbone"].value)[0]
        return getattr(backbone, "family", default)


def resolve_request(request: RunRequest, benchmark: Benchmark | None = None) -> ResolvedRequest:
    """Look up what a request names, and give every setting its value.

    Args:
        request: what is asked for.
        benchmark: in the place of the one that the request names.

    Raises:
        UsageError: there is no such learner, benchmark or setting, or no such run can be.
    """
    key, cls, overrides = learner_of(request.learner)
    benchmark = benchmark or find_benchmark(request.benchmark)
    way = check_way(benchmark, request.way)
    check_tasks(cls, key, benchmark)
    for name, choices in (("terms", TERMS), ("budget", BUDGETS)):
        if (asked := getattr(request, name)) not in choices:
            raise UsageError(f"--{name} {asked}: choose from {', '.join(choices)}")
    for name in ("way", "shot", "seed"):
        number = getattr(request, name)
        if number is not None and type(number) is not int:
            raise UsageError(f"--{name} {number!r}: expected a whole number")
    if request.shot < 1:
        raise UsageError(f"--shot {request.shot}: expected a number of at least 1")
    if not 0 <= request.seed < 2**32:
        bound = "of at least 0" if request.seed < 0 else "below 4294967296"
        raise UsageError(f"--seed {request.seed}: expected a number {bound}")
    flags = {**parse_values(cls, overrides, request.learner), **request.flags}
    known = replace(request, learner=key, benchmark=benchmark.variant, way=way, flags=flags)
    settings, changed = resolve(
        known, cls, settings_rows(), query=benchmark.query, backbone=benchmark.backbone
    )
    known = replace(known, way=None if benchmark.regression else way)
    return ResolvedRequest(known, cls, benchmark, way, settings, changed)


def check_way(benchmark: Benchmark, way: int | None) -> int:
    """N of the test episodes; in regression the number of outputs.

    Raises:
        UsageError: it cannot be had.
    """
    if benchmark.regression:
        if way is not None:
            raise UsageError(
                f"--way {way}: {benchmark.key} is regression, without ways; leave it out"
            )
        return benchmark.outputs
    if way is not None and way < 2:
        raise UsageError(f"--way {way}: expected a number of at least 2")
    return 5 if way is None else way


def check_tasks(cls: type[Learner], learner: str, benchmark: Benchmark) -> None:
    """Refuse a learner that cannot do the tasks of a benchmark.

    Raises:
        UsageError: says which can.
    """
    if benchmark.regression and not cls.regression:
        able = ", ".join(key for key in learners.names() if learners.get(key).regression)
        raise UsageError(
            f"{learner} does no regression, and {benchmark.key} is; choose from {able}"
        )
