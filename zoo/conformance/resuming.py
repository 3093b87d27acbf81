"""The check that a run which is killed and resumed ends like an undisturbed one."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor

from zoo.conformance import CHECKS, BrokenError, Check, DoesNotApplyError, Maker
from zoo.conformance.added_losses import added_losses
from zoo.conformance.checks import difference_in_words
from zoo.conformance.harness import BACKBONE, doing
from zoo.runs.plan import Workspace
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.variants import format_variant

SHORT_RUN = {
    "updates": 4,
    "validations": 2,
    "val_episodes": 4,
    "test_episodes": 4,
    "meta_batch": 2,
    "query": 3,
    "train_query": 3,
}
SAVED = (
    "let an update depend on nothing that a checkpoint lacks: it has parameters, buffers "
    "(`self.register_buffer(...)`) and the state of torch's random numbers, but neither plain "
    "attributes, such as a counter, nor the state of Python's or numpy's random numbers"
)


class KilledError(Exception):
    """Ends a run as kill -9 would: only what is on disk stays."""


class RunWatcher(pl.Callback):
    """Kills the run after an update, or keeps the weights that training ends with."""

    def __init__(self, dies_after: int | None) -> None:
        self.dies_after = dies_after
        self.weights: dict[str, Tensor] = {}  # by name, at the end of training

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Kill the run after its last update; the `CheckpointKeeper` was called before."""
        if trainer.global_step == self.dies_after:
            raise KilledError

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights."""
        self.weights = {name: value.clone() for name, value in pl_module.state_dict().items()}


class WatchedRun(Run):
    """A run with a `RunWatcher`."""

    watch: RunWatcher

    def _trainer(self, progress: bool, **options: Any) -> pl.Trainer:
        options["callbacks"] = [*options["callbacks"], self.watch]
        return super()._trainer(progress, **options)


def short_run(make: Maker, folder: Path, stores: Any, dies_after: int | None = None) -> WatchedRun:
    """A run of 4 updates on glyphs or sinusoids, validated after every other update.

    Args:
        make: of the learner.
        folder: for the run's files.
        stores: images that another run has opened; None to open them.
        dies_after: the update after which the run is killed; None if it is not killed.
    """
    workspace = Workspace(None, folder / "results", folder / "runs", "cpu", torch.get_num_threads())
    learner = format_variant(make.key, dict(make.options))
    flags: dict[str, Any] = {**SHORT_RUN}
    if make.regression:
        request = RunRequest(learner, "sinusoid", shot=5, budget="smoke", flags=flags)
    else:
        flags |= {"backbone": BACKBONE, "train_way": 5}
        request = RunRequest(learner, "glyphs", shot=1, budget="smoke", flags=flags)
    run = WatchedRun(request, workspace=workspace, stores=stores)
    run.watch = RunWatcher(dies_after)
    return run


def resumes(make: Maker) -> None:
    """It is killed after update 3 and goes on from the checkpoint of update 2."""
    if not any(p.requires_grad for p in make().parameters()):
        raise DoesNotApplyError("it has no parameters to learn")
    benchmark = "sinusoid" if make.regression else "glyphs"
    with (
        TemporaryDirectory() as name,
        doing(f"a run of 4 updates on {benchmark}, with validations and a test"),
    ):
        undisturbed = short_run(make, Path(name) / "undisturbed", None)
        expected = undisturbed.execute(progress=False)
        stores, folder = undisturbed.stores, Path(name) / "killed"
        try:
            short_run(make, folder, stores, dies_after=3).execute(progress=False)
        except KilledError:
            pass
        else:
            raise BrokenError(
                "a run of 4 updates made fewer than 3 steps of the optimiser",
                "let `training_step` return the loss of each batch, and never stop the Trainer",
            )
        resumed = short_run(make, folder, stores)
        got = resumed.execute(progress=False)
    done = (
        "a run of 4 updates was killed after update 3 and resumed from the checkpoint of update 2"
    )
    for name, expected_value in undisturbed.watch.weights.items():
        value = resumed.watch.weights[name]
        if not torch.equal(value, expected_value):
            raise BrokenError(
                f"{done}, and `{name}` ends with other values than in a run that was not killed "
                f"({difference_in_words(value, expected_value)})",
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
