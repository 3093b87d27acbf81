"""Resolves a request: looks up what it names, and gives every setting its value and origin."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.errors import UsageError
from zoo.learner import CLIP_ALGORITHMS, OUTER_DECAYS, Learner
from zoo.memory import check_memory
from zoo.networks.backbone import Backbone, build_backbone
from zoo.registry import learner_of, learners
from zoo.runs.given_episodes import with_given_settings, with_given_shape
from zoo.runs.request import BUDGETS, TERMS, RunRequest
from zoo.runs.settings import (
    LARGEST_SEED,
    SHARED_SETTING_NAMES,
    Protocol,
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

LARGE_OPTION = 1000  # a network with an option of this size is measured before it is built


@dataclass(frozen=True)
class ResolvedRequest:
    """What can be known of a run without its data and without building its networks.

    The learner of `request` is a key without brackets, whose content is among the `flags`; its
    benchmark is a variant, and its way is filled in, except in regression. `every_setting` holds
    each setting with its origin; `changed` holds the values that the user changed from what they
    would have been.
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
        """The learner's key, with what the user changed in brackets."""
        return format_variant(self.request.learner, dict(self.changed))

    @property
    def paper_tasks(self) -> int | None:
        """The number of training tasks in the paper's experiment; None if it does not say."""
        return paper_tasks(self.request, settings_rows())

    def build(self) -> tuple[Backbone, Learner]:
        """Build the backbone and the learner, with fresh weights.

        Raises:
            UsageError: there is no such network, the learner refuses its settings, or the network
                is too large for this machine.
        """
        if max(self._whole_options(), default=0) < LARGE_OPTION:
            return self._build()
        network = f"{self.title} on backbone {self.settings['backbone'].value}"
        try:
            need = 2 * self._weight_bytes()  # for the weights and their gradient
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
        options = {name: self.settings[name].value for name in self._learner_options()}
        learner = self.cls(backbone, self.way, **options)
        decay = self.every_setting["outer_decay"].value
        if decay not in OUTER_DECAYS:
            raise UsageError(f"--outer_decay {decay}: choose from {', '.join(OUTER_DECAYS)}")
        learner.outer_decay = decay
        self._clip(learner)
        if (precision := self.every_setting["precision"].value) != Protocol.precision:
            learner.multiply_in(precision)
        if not self.benchmark.regression:
            learner.normalise_by(self.benchmark.mean, self.benchmark.std)
        return backbone, learner

    def _clip(self, learner: Learner) -> None:
        """Let the learner clip its outer gradient as the settings ask, if they ask for it."""
        limit = self.every_setting["gradient_clip_val"].value
        algorithm = self.every_setting["gradient_clip_algorithm"].value
        if algorithm not in CLIP_ALGORITHMS:
            raise UsageError(
                f"--gradient_clip_algorithm {algorithm}: choose from {', '.join(CLIP_ALGORITHMS)}"
            )
        if limit is not None:
            learner.clip_by(limit, algorithm)
        elif algorithm != Protocol.gradient_clip_algorithm:
            raise UsageError(
                f"--gradient_clip_algorithm {algorithm}: clips nothing by itself; add "
                "--gradient_clip_val, the largest value that an element may have"
            )

    def _learner_options(self) -> set[str]:
        """The names of the settings that the learner's constructor takes."""
        return {*constructor_defaults(self.cls)} - SHARED_SETTING_NAMES

    def _whole_options(self) -> Iterator[int]:
        """The whole numbers among the options of the learner and of its networks."""
        for name in ("backbone", *self._learner_options()):
            value = self.settings[name].value
            if isinstance(value, int):
                yield value
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
        benchmark: takes the place of the one that the request names.

    Raises:
        UsageError: there is no such learner, benchmark or setting, or such a run is impossible.
    """
    key, cls, overrides = learner_of(request.learner)
    benchmark = benchmark or find_benchmark(request.benchmark)
    request = with_given_shape(request, benchmark)
    way = check_way(benchmark, request.way)
    check_tasks(cls, key, benchmark)
    for name, choices in (("terms", TERMS), ("budget", BUDGETS)):
        if (asked := getattr(request, name)) not in choices:
            raise UsageError(f"--{name} {asked}: choose from {', '.join(choices)}")
    check_count("shot", request.shot, 1)
    check_count("seed", request.seed, 0, LARGEST_SEED)
    flags = {**parse_values(cls, overrides, request.learner), **request.flags}
    request = replace(request, learner=key, benchmark=benchmark.variant, way=way, flags=flags)
    settings, changed = resolve(
        request, cls, settings_rows(), query=benchmark.query, backbone=benchmark.backbone
    )
    settings = with_given_settings(settings, benchmark)
    if not benchmark.regression:
        check_count("train_way", settings["train_way"].value, 2)
    request = replace(request, way=None if benchmark.regression else way)
    return ResolvedRequest(request, cls, benchmark, way, settings, changed)


def check_way(benchmark: Benchmark, way: int | None) -> int:
    """N of the test episodes, 5 by default; in regression the number of outputs.

    Raises:
        UsageError: the benchmark has no such way.
    """
    if benchmark.regression:
        if way is not None:
            raise UsageError(
                f"--way {way}: {benchmark.key} is regression and has no ways; leave it out"
            )
        return benchmark.outputs
    return 5 if way is None else check_count("way", way, 2)


def check_count(flag: str, value: Any, least: int, most: int = LARGEST) -> int:
    """Check that a value is a whole number within its bounds, and return it.

    Raises:
        UsageError: it is not; the message names the flag.
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
        UsageError: it cannot; the message says which learners can.
    """
    if benchmark.regression and not cls.regression:
        keys = ", ".join(key for key in learners.names() if learners.get(key).regression)
        raise UsageError(
            f"{learner} does no regression, but {benchmark.key} needs it; choose from {keys}"
        )
