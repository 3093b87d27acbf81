"""Which training tasks a run sees, where it does not take them as they come."""

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


class ScoresAtHand:
    """Scores tasks by the backbone of the learner that is trained, with its weights at hand."""

    def __init__(self, data: EpisodicDataModule, learner: nn.Module, backbone: nn.Module) -> None:
        """Note where the backbone is in the learner: a copy of that may be trained."""
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
    """Let training episodes be chosen as the settings ask; those of tests stay.

    Raises:
        UsageError: they ask for what there is not, or not here.
    """
    sampler, pool = settings["sampler"].value, settings["superclasses"].value
    meta_batch: Any = settings["meta_batch"].value
    augment = settings["augment"].value
    if augment and benchmark.regression:
        raise UsageError(
            f"--augment {augment!r}: of images, and {benchmark.key} is regression; leave it out"
        )
    if sampler not in SAMPLERS:
        raise UsageError(f"--sampler {sampler}: choose from {', '.join(SAMPLERS)}")
    if pool is not None:
        if sampler != "plain":
            raise UsageError(f"--superclasses {pool}: not with --sampler {sampler}; leave one out")
        if not (of := benchmark.superclasses):
            raise UsageError(f"--superclasses {pool}: {benchmark.variant} has none; leave it out")
        names = [of[name] for name in data.stores["train"].names]
        data.samplers["train"] = PooledSampler(data.samplers["train"], names, pool, meta_batch)
    if sampler == "adaptive":
        if benchmark.regression:
            raise UsageError(
                f"--sampler adaptive: chooses by classes, and {benchmark.key} is regression"
            )
        data.choose_batches = partial(
            AdaptiveBatches,
            seed=seed,
            scores=ScoresAtHand(data, learner, backbone),
            normalise=data.normalise,
        )
