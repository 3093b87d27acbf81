"""A request resolved: what it names is looked up, and every setting has its value and origin."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.errors import UsageError
from zoo.learner import OUTER_DECAYS, Learner
from zoo.memory import check_memory
from zoo.networks.backbone import Backbone, build_backbone
from zoo.registry import learner_of, learners
from zoo.runs.request import BUDGETS, TERMS, RunRequest
from zoo.runs.settings import (
    LARGEST_SEED,
    SHARED_SETTING_NAMES,
    Setting,
    constructor_defaults,
    paper_tasks,
    parse_values,
    resolve,
    settings_rows,
    without_unused_settings,
)
from zoo.values import LARGEST, checked_whole, shown, whole_in_words
from zoo.variants import format_variant, parse_variant

LARGE_OPTION = 1000  # from which on a network is measured before it is built


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
            UsageError: there is no such network, the learner refuses its settings, or it is too
                large for this machine.
        """
        if max(self._whole_options(), default=0) < LARGE_OPTION:
            return self._build()
        network = f"{self.title} on backbone {self.settings['backbone'].value}"
        try:
            need = 2 * self._weight_bytes()  # weights and their gradient
            check_memory(need, network, "take a smaller network")
            return self._build()
        except (TypeError, OverflowError, MemoryError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"{network}: cannot be built: {reason:.100}") from None

    def _weight_bytes(self) -> int:
        """Bytes of the learner's weights, measured on a copy that takes no memory.

        0 if the learner cannot be built without memory.

        Raises:
            RuntimeError: the network is too large for any machine.
        """
        try:
            with torch.device("meta"), torch.random.fork_rng([]):
                weights = self._build()[1].state_dict().values()
        except (TypeError, NotImplementedError, RuntimeError) as error:
            if "overflow" in str(error).lower():
                raise
            return 0
        return sum(weight.numel() * weight.element_size() for weight in weights)

    def _build(self) -> tuple[Backbone, Learner]:
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

    def _whole_options(self) -> Iterator[int]:
        """The whole numbers among the options of the learner and of its networks."""
        own = {*constructor_defaults(self.cls)} - SHARED_SETTING_NAMES
        for name in ("backbone", *own):
            value = self.settings[name].value
            yield from [value] if isinstance(value, int) else []
            if isinstance(value, str) and "[" in value:
                options = parse_variant(value)[1].values()
                yield from (option for option in options if isinstance(option, int))

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
    check_count("shot", request.shot, 1)
    check_count("seed", request.seed, 0, LARGEST_SEED)
    flags = {**parse_values(cls, overrides, request.learner), **request.flags}
    known = replace(request, learner=key, benchmark=benchmark.variant, way=way, flags=flags)
    settings, changed = resolve(
        known, cls, settings_rows(), query=benchmark.query, backbone=benchmark.backbone
    )
    if not benchmark.regression:
        check_count("train_way", settings["train_way"].value, 2)
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
    return 5 if way is None else check_count("way", way, 2)


def check_count(flag: str, value: Any, least: int, most: int = LARGEST) -> int:
    """A whole number within its bounds.

    Raises:
        UsageError: it is not; names the flag.
    """
    try:
        if type(value) is not int:
            raise ValueError(f"expected {whole_in_words(least, most)}")
        return checked_whole(value, least, most)
    except ValueError as error:
        raise UsageError(f"--{flag} {shown(value)}: {error}") from None


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
