"""Chooses the training tasks of a run, if its settings ask for more than plain sampling."""

from functools import partial
from typing import Any

from torch import Tensor, nn

from zoo.datasets.benchmarks.base import Benchmark
from zoo.datasets.episodes.adaptive_sampler import AdaptiveBatches
from zoo.datasets.episodes.data_module import EpisodicDataModule
from zoo.datasets.episodes.superclass_sampler import PooledSampler
from zoo.episode import Examples
from zoo.errors import UsageError
from zoo.methods.task_scores import task_scores
from zoo.runs.settings import Setting

SAMPLERS = ("plain", "adaptive")


class CurrentScores:
    """Scores tasks by the backbone of the learner that is trained, with its current weights."""

    def __init__(self, data: EpisodicDataModule, learner: nn.Module, backbone: nn.Module) -> None:
        """Find the backbone's name in the learner, since the Trainer may train a copy of it."""
        self.data, self.backbone = data, backbone
        names = (name for name, module in learner.named_modules() if module is backbone)
        self.name = next(names, None)

    def __call__(self, support: Examples, way: int) -> Tensor:
        """See `task_scores`."""
        trainer, net = self.data.trainer, self.backbone
        if trainer is not None and self.name is not None:
            net = trainer.lightning_module.get_submodule(self.name)
        return task_scores(net, support, way)


def choose_tasks(
    data: EpisodicDataModule,
    settings: dict[str, Setting],
    benchmark: Benchmark,
    learner: nn.Module,
    backbone: nn.Module,
    seed: int,
) -> None:
    """Let a data module choose its training episodes as the settings ask.

    Validation and test episodes stay as they are.

    Raises:
        UsageError: the settings ask for something unknown, or impossible on this benchmark.
    """
    sampler, pool = settings["sampler"].value, settings["superclasses"].value
    meta_batch: Any = settings["meta_batch"].value
    augment = settings["augment"].value
    if augment and benchmark.tables:
        raise UsageError(f"--augment {augment!r}: changes images, not tables; leave it out")
    if augment and not benchmark.stored:
        why = "augments in its loaders' transforms" if benchmark.given else "is regression"
        raise UsageError(
            f"--augment {augment!r}: changes images, and {benchmark.key} {why}; leave it out"
        )
    if sampler not in SAMPLERS:
        raise UsageError(f"--sampler {sampler}: choose from {', '.join(SAMPLERS)}")
    if pool is not None:
        if sampler != "plain":
            raise UsageError(f"--superclasses {pool}: not with --sampler {sampler}; leave one out")
        if not benchmark.superclasses:
            raise UsageError(f"--superclasses {pool}: {benchmark.variant} has none; leave it out")
        names = [benchmark.superclasses[name] for name in data.stores["train"].names]
        data.samplers["train"] = PooledSampler(data.samplers["train"], names, pool, meta_batch)
    if sampler == "adaptive":
        if benchmark.tables:
            raise UsageError("--sampler adaptive: mixes the classes of tables; leave it out")
        if not benchmark.stored:
            why = "is drawn by its loaders" if benchmark.given else "is regression"
            raise UsageError(f"--sampler adaptive: chooses by classes, and {benchmark.key} {why}")
        data.choose_batches = partial(
            AdaptiveBatches,
            seed=seed,
            scores=CurrentScores(data, learner, backbone),
            normalise=data.normalise,
        )
