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
from zoo.conformance.checks import how_far_apart
from zoo.conformance.harness import BACKBONE, doing
from zoo.runs.plan import Workspace
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.variants import format_variant

SHORT_RUN = {
    "updates": 4, "validations": 2, "val_episodes": 4, "test_episodes": 4, "meta_batch": 2,
    "query": 3, "train_query": 3,
}  # fmt: skip


SAVED = (
    "let an update depend on nothing that a checkpoint lacks: it has parameters, buffers "
    "(`self.register_buffer(...)`) and the state of torch's random numbers, but neither plain "
    "attributes, such as a counter, nor the state of Python's or numpy's random numbers"
)


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
        raise DoesNotApplyError("it has no parameters to learn")
    benchmark = "sinusoid" if make.regression else "glyphs"
    with (
        TemporaryDirectory() as name,
        doing(f"a run of 4 updates on {benchmark}, with validations and a test"),
    ):
        whole, folder = short_run(make, Path(name) / "whole", None), Path(name) / "killed"
        expected = whole.execute(progress=False)
        try:
            short_run(make, folder, whole.stores, dies_after=3).execute(progress=False)
        except KilledError:
            pass
        else:
            raise BrokenError(
                "a run of 4 updates made fewer than 3 steps of the optimiser",
                "let `training_step` return the loss of each batch, and never stop the Trainer",
            )
        again = short_run(make, folder, whole.stores)
        got = again.execute(progress=False)
    done = (
        "a run of 4 updates was killed after update 3 and resumed from the checkpoint of update 2"
    )
    for name, value in whole.watch.weights.items():
        ours = again.watch.weights[name]
        if not torch.equal(ours, value):
            raise BrokenError(
                f"{done}, and `{name}` ends with other values than in a run that was not killed "
                f"({how_far_apart(ours, value)})",
                SAVED,
            )
    for what in ("status", "validation", "metrics"):
        if got[what] != expected[what]:
            raise BrokenError(
                f"{done}, and its {what} is {got[what]} instead of {expected[what]}, as in a run "
                "that was not killed",
                SAVED,
            )


BATTERY = [
    *CHECKS,
    Check(
        "losses that `loss_terms` adds to the host's pull neither too much nor too little",
        added_losses,
    ),
    Check("a run that is killed and resumed ends with the same weights and numbers", resumes),
]
