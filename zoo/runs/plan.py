"""Plans a run: resolves its settings, opens its data and builds its learner; nothing is trained."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import pytorch_lightning as pl

from zoo.datasets.benchmarks.base import Benchmark
from zoo.datasets.episodes.data_module import EpisodicDataModule
from zoo.datasets.episodes.image_store import Store
from zoo.errors import UsageError
from zoo.memory import check_memory, memory_bytes
from zoo.plugin_files import LOADED_PLUGINS
from zoo.registry import backbones, benchmarks, learners
from zoo.runs.fitted import fitted, lowered_in_words, way_that_fits
from zoo.runs.identity import name_in_use, run_identity, run_name, version_of
from zoo.runs.request import RunRequest
from zoo.runs.resolved import ResolvedRequest, resolve_request
from zoo.runs.settings import SELECTORS
from zoo.runs.stages import STAGE_SPLITS, Staging, Stagings, stages_of_run
from zoo.runs.training_tasks import choose_tasks
from zoo.runs.workspace import Workspace, tasks_together
from zoo.variants import parse_variant

FUNCTIONS_AT_ONCE = 100  # regression tasks that are evaluated at once


class Plan:
    """A planned run: its settings are resolved, and nothing is trained yet."""

    def __init__(
        self,
        request: RunRequest | ResolvedRequest,
        workspace: Workspace | None = None,
        stores: Mapping[str, Store] | None = None,
        benchmark: Benchmark | None = None,
    ) -> None:
        """Resolve the settings and open the data.

        Args:
            request: what is run; a resolved request is taken as it is.
            workspace: where to read, write and compute.
            stores: the benchmark's stores by split, if they are open already.
            benchmark: takes the place of the one that the request names.

        Raises:
            UsageError: it cannot be run; the message says what to change.
        """
        self.workspace = workspace or Workspace()
        self.lowered: list[str] = []  # what was lowered to fit the user's images, and why
        if isinstance(request, ResolvedRequest):
            resolved = request
            self.stores = stores or self.workspace.open(resolved.benchmark)
        else:
            resolved = self._resolve(request, stores, benchmark)
        self.request = resolved.request
        self.cls = resolved.cls
        self.benchmark = resolved.benchmark
        self.benchmark.learn_input_shape(self.stores)
        self.settings = resolved.settings
        self.changed = resolved.changed
        self.title = resolved.title
        self.way = resolved.way
        self.seed = resolved.request.seed
        self.paper_tasks = resolved.paper_tasks
        pl.seed_everything(self.seed, verbose=False)
        self.backbone, self.learner = resolved.build()
        self.family = resolved.family_of(self.backbone)
        self.stages = self._stages()
        self._check()
        self.learner.micro_batch, self.eval_batch = self._tasks_at_once()
        self._check_memory()
        if self.stages:
            device = self.workspace.device_kind
            self.learner.train_stages = Stagings(self.stages, device, self.learner)
        self.data = self.episodes(self.seed)

    def _resolve(
        self, request: RunRequest, stores: Mapping[str, Store] | None, benchmark: Benchmark | None
    ) -> ResolvedRequest:
        """Resolve a request and open its data.

        For a user's own images, numbers that were not asked for are lowered until they fit.
        """
        resolved = resolve_request(request, benchmark)
        self.stores = stores or self.workspace.open(resolved.benchmark)
        if not resolved.benchmark.own:
            return resolved
        if request.way is None:
            way, why = way_that_fits(self.stores)
            resolved = resolve_request(replace(request, way=way), benchmark)
            if why:
                self.lowered.append(why)
        resolved = fitted(resolved, self.stores)
        self.lowered += lowered_in_words(resolved.settings)
        return resolved

    def _stages(self) -> list[Staging]:
        """What must be trained before the run."""
        stores: Mapping[str, Any] = self.stores
        if self.benchmark.given and ("pretrained_from" in self.settings or self.learner.stages()):
            stores = {split: stores[split].images for split in STAGE_SPLITS if split in stores}
        return stages_of_run(
            self.settings,
            self.learner,
            self.backbone,
            self.benchmark,
            stores,
            self.workspace.runs,
            self.seed,
        )

    def _check(self) -> None:
        """Refuse settings that contradict the episodes or the learner.

        Raises:
            UsageError: the message says what to change.
        """
        key, way = self.request.learner, self.way
        if self.benchmark.regression and self["train_way"] != way:
            raise UsageError(
                f"--train_way {self['train_way']}: {self.benchmark.variant} has no ways; "
                "leave it out"
            )
        if self.learner.fixed_way and self["train_way"] != way:
            raise UsageError(
                f"{key} has one output for each way: --train_way {self['train_way']} "
                f"must equal --way {way}"
            )
        if self["updates"] and not any(p.requires_grad for p in self.learner.parameters()):
            raise UsageError(
                f"--updates {self['updates']}: {key} on backbone {self['backbone']} has nothing "
                "to learn; take --updates 0"
            )
        if (devices := self.workspace.devices) > 1:
            if self.learner.why_one_device:
                raise UsageError(f"--devices {devices}: {key}: {self.learner.why_one_device}")
            if self["meta_batch"] % devices:
                raise UsageError(
                    f"--devices {devices}: cannot share a meta-batch of {self['meta_batch']} "
                    f"tasks; take a --meta_batch that {devices} divides"
                )
        self.learner.check_episodes(way, self.request.shot, self["query"])
        self.learner.check_episodes(*(self[f"train_{n}"] for n in ("way", "shot", "query")))

    def __getitem__(self, name: str) -> Any:
        """The value of a setting."""
        return self.settings[name].value

    @property
    def plugins(self) -> list[dict[str, str]]:
        """The plug-ins that define the run's learner, benchmark or backbone."""
        backbone = parse_variant(self["backbone"])[0]
        keys = [
            (learners, self.request.learner),
            (benchmarks, self.benchmark.key),
            (backbones, backbone),
        ]
        entries = (register.entries.get(key) for register, key in keys)
        modules = dict.fromkeys(entry.module for entry in entries if entry)
        files = [LOADED_PLUGINS[module] for module in modules if module in LOADED_PLUGINS]
        return [file._asdict() for file in (*files, *self.benchmark.files)]

    def episodes(self, seed: int) -> EpisodicDataModule:
        """The data module of this run."""
        data = EpisodicDataModule(
            self.stores,
            self.benchmark.mean,
            self.benchmark.std,
            {name: s.value for name, s in self.settings.items()},
            way=self.way,
            shot=self.request.shot,
            seed=seed,
            eval_batch=self.eval_batch,
            size=self.benchmark.image[1:],
        )
        choose_tasks(data, self.settings, self.benchmark, self.learner, self.backbone, seed)
        return data

    def _tasks_at_once(self) -> tuple[int, int]:
        """How many tasks are computed at once: a number for training, one for evaluation."""
        tasks = self["meta_batch"]
        on_gpu = self.workspace.device_kind == "cuda"
        usual = tasks_together(self.benchmark.image, on_gpu)
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
        if asked:
            training = asked
        elif on_gpu or regression or learner.joint_tasks or not learner.gradient_based:
            training = tasks
        else:
            training = math.gcd(tasks, usual)  # the parts of a meta-batch are equally large
        return training, FUNCTIONS_AT_ONCE if regression else usual

    def _check_memory(self) -> None:
        """Refuse to compute so many tasks at once that their inputs alone exceed the memory.

        Raises:
            UsageError: the message says how much memory is needed.
        """
        examples = self["train_way"] * (self["train_shot"] + self["train_query"])
        task_bytes = examples * math.prod(self.benchmark.image) * 4
        flags = "--meta_batch" if self.learner.joint_tasks else "--meta_batch or --micro_batch"
        most = memory_bytes() // task_bytes
        advice = f"take {most} at most, by {flags}" if most else "take a smaller --shot and --query"
        need = self.micro_batch * task_bytes
        check_memory(need, f"{self.micro_batch} training tasks at once", advice)

    @property
    def micro_batch(self) -> int:
        """How many tasks are computed at once in training."""
        tasks = self.learner.micro_batch
        assert tasks is not None
        return tasks

    @property
    def judged_by(self) -> str:
        """The metric by which validation chooses the best weights."""
        return "mse" if self.benchmark.regression else self.learner.judged_by

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the run's numbers, except the code and the machine."""
        request = self.request
        asked = {name: getattr(request, name) for name in (*SELECTORS, "seed")}
        return run_identity(
            asked,
            {name: setting.value for name, setting in self.settings.items()},
            {split: store.fingerprint for split, store in self.stores.items()},
            {staging.stage.name: staging.hash for staging in self.stages},
            self.cls,
            version_of(self.cls),
            self.workspace.callbacks,
        )

    @cached_property
    def name(self) -> str:
        """The run's file name: readable, and different for every identity."""
        name = run_name(self.identity, self.changed)
        return name_in_use(name, self.workspace.results, self.workspace.runs)
