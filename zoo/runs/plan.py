"""A run, planned: learner x benchmark x way x shot x seed x budget, every setting resolved.

A composition root: it imports learners and data, and only experiments and jobs import it.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.datasets.episodes.data_module import EpisodicDataModule
from zoo.datasets.episodes.image_store import Store
from zoo.errors import UsageError
from zoo.files import slug
from zoo.learner import Learner
from zoo.networks.backbone import Backbone, build_backbone
from zoo.plugin_files import LOADED_PLUGINS
from zoo.registry import backbones, benchmarks, learner_of, learners
from zoo.runs.settings import (
    SHARED_SETTING_NAMES,
    Job,
    Setting,
    constructor_defaults,
    load_rows,
    paper_tasks,
    parse_values,
    resolve,
)
from zoo.runs.stages import stages_of_run, without_unused_settings
from zoo.runs.training_tasks import choose_tasks
from zoo.runs.workspace import Workspace, tasks_together
from zoo.variants import format_variant, parse_variant

RUN_SCHEMA = 1
SETTINGS = Path(__file__).parent.parent / "baselines" / "settings.yaml"
FUNCTIONS_AT_ONCE = 100  # tasks of a regression evaluated at once


class Plan:
    """One run, planned: every setting resolved, nothing trained yet."""

    def __init__(
        self,
        learner: str,
        benchmark: str,
        *,
        way: int | None = None,
        shot: int = 1,
        seed: int = 0,
        terms: str = "paper",
        budget: str = "quick",
        config: Mapping[str, Any] | None = None,
        flags: Mapping[str, Any] | None = None,
        place: Workspace | None = None,
        stores: Mapping[str, Store] | None = None,
    ) -> None:
        """Resolve the settings and open the data.

        Args:
            learner: a key or variant, such as ``maml[first_order=true]``.
            benchmark: likewise.
            way: N of the test episodes; None for 5. Regression has none.
            shot: K of the test episodes.
            seed: of the initial weights and the training episodes.
            terms: ``paper`` or ``equal``.
            budget: ``none``, ``smoke``, ``quick`` or ``paper``.
            config: settings from a file.
            flags: settings from the command line, typed.
            place: where to read, write and compute.
            stores: the benchmark's, opened already.

        Raises:
            UsageError: something that cannot be run; says what to change.
        """
        self.cls: type[Learner]
        key, self.cls, overrides = learner_of(learner)
        self.place = place or Workspace()
        self.benchmark: Benchmark = find_benchmark(benchmark)
        way = check_way(self.benchmark, way)
        check_tasks(self.cls, key, self.benchmark)
        for flag, value, least in (("--shot", shot, 1), ("--seed", seed, 0)):
            if value < least:
                raise UsageError(f"{flag} {value}: expected a number of at least {least}")
        self.job = Job(key, self.benchmark.variant, way, shot, terms, budget)
        self.seed = seed
        if seed >= 2**32:
            raise UsageError(f"--seed {seed}: expected a number below 4294967296")
        flags = {**parse_values(self.cls, overrides, learner), **(flags or {})}
        rows = load_rows(SETTINGS)
        self.settings, self.changed = resolve(
            self.job,
            self.cls,
            rows,
            query=self.benchmark.query,
            backbone=self.benchmark.backbone,
            config=config,
            flags=flags,
        )
        self.settings = without_unused_settings(self.settings)
        self.stores = stores or self.place.open(self.benchmark)
        pl.seed_everything(seed, verbose=False)
        self.learner = self.build()
        self.stages = stages_of_run(
            self.settings, self.learner, self.backbone,
            self.benchmark, self.stores, self.place.runs, seed,
        )  # fmt: skip
        if self.benchmark.regression and self["train_way"] != way:
            raise UsageError(
                f"--train_way {self['train_way']}: {benchmark} has no ways; leave it out"
            )
        if self.learner.fixed_way and self["train_way"] != way:
            raise UsageError(
                f"{key} has one output a way: --train_way {self['train_way']} "
                f"must equal --way {way}"
            )
        if self["updates"] and not any(p.requires_grad for p in self.learner.parameters()):
            raise UsageError(
                f"--updates {self['updates']}: {key} on backbone {self['backbone']} has nothing "
                "to learn; take --updates 0"
            )
        self.learner.check_episodes(way, shot, self["query"])
        self.learner.check_episodes(*(self[f"train_{n}"] for n in ("way", "shot", "query")))
        self.paper_tasks = paper_tasks(self.job, rows)
        self.micro_batch, self.eval_batch = self._tasks_at_once()
        self.data = self.episodes(seed)

    def __getitem__(self, name: str) -> Any:
        """The value of a setting."""
        return self.settings[name].value

    def build(self) -> Learner:
        """The learner, with fresh weights."""
        text, image = self["backbone"], self.benchmark.image
        self.backbone = build_backbone(text, image)
        self.family = getattr(self.backbone, "family", parse_variant(text)[0])
        return build_learner(self.cls, self.settings, self.backbone, self.job.way)

    @property
    def plugins(self) -> list[dict[str, str]]:
        """The plug-ins that define its learner, benchmark or backbone."""
        keys = [(learners, self.job.learner), (benchmarks, self.benchmark.key)]
        keys.append((backbones, parse_variant(self["backbone"])[0]))
        modules = dict.fromkeys(register.entries[key].module for register, key in keys)
        return [LOADED_PLUGINS[module]._asdict() for module in modules if module in LOADED_PLUGINS]

    def episodes(self, seed: int) -> EpisodicDataModule:
        """The data module of this run."""
        data = EpisodicDataModule(
            self.stores,
            self.benchmark.mean,
            self.benchmark.std,
            {name: s.value for name, s in self.settings.items()},
            way=self.job.way,
            shot=self.job.shot,
            seed=seed,
            micro_batch=self.micro_batch,
            eval_batch=self.eval_batch,
            size=self.benchmark.image[1:],
        )
        choose_tasks(data, self.settings, self.benchmark, self.backbone, seed)
        return data

    def _tasks_at_once(self) -> tuple[int, int]:
        """How many tasks are computed together, in training and in evaluation."""
        tasks = self["meta_batch"]
        on_gpu = self.place.kind == "cuda"
        together = tasks_together(self.benchmark.image, on_gpu)
        asked = self["micro_batch"]
        if asked is not None and tasks % asked:
            raise UsageError(f"--micro_batch {asked}: must divide --meta_batch {tasks}")
        if self.learner.joint_tasks and asked not in (None, tasks):
            raise UsageError(
                f"--micro_batch {asked}: this learner needs all tasks of a meta-batch at once; "
                f"leave it out"
            )
        regression = self.benchmark.regression
        learner = self.learner
        whole = on_gpu or regression or learner.joint_tasks or not learner.gradient_based
        at_once = tasks if whole else math.gcd(tasks, together)
        return asked or at_once, FUNCTIONS_AT_ONCE if regression else together

    @property
    def judged_by(self) -> str:
        """The metric that validation chooses by."""
        return "mse" if self.benchmark.regression else self.learner.judged_by

    @property
    def title(self) -> str:
        """How a reader calls it."""
        return format_variant(self.job.learner, self.changed)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that the run's numbers follow from, but the code."""
        stages = {staging.stage.name: staging.hash for staging in self.stages}
        return {
            "schema": RUN_SCHEMA,
            **self.job._asdict(),
            "seed": self.seed,
            "settings": {name: s.value for name, s in sorted(self.settings.items())},
            "tasks_at_once": [self.micro_batch, self.eval_batch],
            "device": self.place.kind,
            "threads": self.place.threads,
            "data": {split: store.fingerprint for split, store in sorted(self.stores.items())},
            **({"stages": stages} if stages else {}),
        }

    @cached_property
    def name(self) -> str:
        """File name of the run: readable, and different for every identity."""
        text = json.dumps(self.identity, sort_keys=True).encode()
        job = self.job
        words = [
            job.learner,
            job.benchmark,
            f"{job.shot}s" if self.benchmark.regression else f"{job.way}w{job.shot}s",
            job.terms,
            job.budget,
            f"s{self.seed}",
            hashlib.blake2b(text, digest_size=4).hexdigest(),
        ]
        return slug("-".join(words))


def build_learner(
    cls: type[Learner], settings: Mapping[str, Setting], backbone: Backbone, way: int
) -> Learner:
    """A learner as the settings have it, with fresh weights."""
    own = {*constructor_defaults(cls)} - SHARED_SETTING_NAMES
    return cls(backbone, way, **{name: settings[name].value for name in own})


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
