"""The check that needs runs: killed and resumed, a run ends as an undisturbed one."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor

from zoo.conformance import CHECKS, BrokenError, Check, DoesNotApplyError, Maker
from zoo.conformance.added_losses import added_losses
from zoo.conformance.harness import BACKBONE
from zoo.runs.plan import Workspace
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.variants import format_variant

SHORT_RUN = {
    "updates": 4, "validations": 2, "val_episodes": 4, "test_episodes": 4, "meta_batch": 2,
    "query": 3, "train_query": 3,
}  # fmt: skip


class KilledError(Exception):
    """Stands for kill -9: what is on disk stays, nothing else does."""


class RunWatcher(pl.Callback):
    """Dies after an update; or keeps the weights that training ends with."""

    def __init__(self, dies_after: int | None) -> None:
        self.dies_after = dies_after
        self.weights: dict[str, Tensor] = {}

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Die, if it is time; called behind the `CheckpointKeeper`."""
        if trainer.global_step == self.dies_after:
            raise KilledError

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights."""
        self.weights = {name: value.clone() for name, value in pl_module.state_dict().items()}


class WatchedRun(Run):
    """A run that can die."""

    watch: RunWatcher

    def _trainer(self, progress: bool, **options: Any) -> pl.Trainer:
        options["callbacks"] = [*options["callbacks"], self.watch]
        return super()._trainer(progress, **options)


def short_run(make: Maker, folder: Path, stores: Any, dies_after: int | None = None) -> WatchedRun:
    """A run of a few updates, validated after every other."""
    workspace = Workspace(None, folder / "results", folder / "runs", "cpu", torch.get_num_threads())
    flags, benchmark, shot = dict[str, Any](SHORT_RUN), "sinusoid", 5
    if not make.regression:
        flags |= {"backbone": BACKBONE, "train_way": 5}
        benchmark, shot = "glyphs", 1
    run = WatchedRun(
        RunRequest(
            format_variant(make.key, dict(make.options)),
            benchmark,
            shot=shot,
            budget="smoke",
            flags=flags,
        ),
        workspace=workspace,
        stores=stores,
    )
    run.watch = RunWatcher(dies_after)
    return run


def resumes(make: Maker) -> None:
    """Killed after update 3, it goes on from the checkpoint of update 2."""
    if not any(p.requires_grad for p in make().parameters()):
        raise DoesNotApplyError("it has no learnable parameter")
    with TemporaryDirectory() as name:
        whole, folder = short_run(make, Path(name) / "whole", None), Path(name) / "killed"
        expected = whole.execute(progress=False)
        try:
            short_run(make, folder, whole.stores, dies_after=3).execute(progress=False)
        except KilledError:
            pass
        else:
            raise BrokenError("training did not come to update 3")
        again = short_run(make, folder, whole.stores)
        got = again.execute(progress=False)
    for name, value in whole.watch.weights.items():
        if not torch.equal(again.watch.weights[name], value):
            raise BrokenError(f"{name} differs from an undisturbed run's")
    for what in ("status", "validation", "metrics"):
        if got[what] != expected[what]:
            raise BrokenError(f"{what} differs: {got[what]} instead of {expected[what]}")


BATTERY = [
    *CHECKS,
    Check("a loss that it adds to its host's neither drowns that nor is drowned", added_losses),
    Check("killed and resumed, it ends with the same weights and numbers", resumes),
]
