"""What a run keeps while it is under way: checkpoints, learning curve, test results so far."""

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT

from zoo.episode import Episode
from zoo.files import make_again, write_arrays, write_atomically
from zoo.processes import started_to_help
from zoo.runs.cost_meter import CostMeter
from zoo.runs.devices import all_agree, from_all_processes
from zoo.runs.divergence import TaskErrors, Validated, diverged, mean_square

SECONDS_BETWEEN_SAVES = float(os.environ.get("ZOO_SECONDS_BETWEEN_SAVES", "30"))
PULL = ("train/gradient_ratio", "train/gradient_cosine")  # of an added loss and its host's
GPU_LOSS_CHECK = 50  # updates; reading a loss stalls a GPU
MEAN_SQUARE = "mean_square"  # of a test's query outputs, recorded while the test is under way


class DivergedError(Exception):
    """Training cannot go on."""

    def __init__(self, update: int, reason: str) -> None:
        """Say after how many updates, and why."""
        super().__init__(f"update {update}: {reason}")
        self.update, self.reason = update, reason


class CheckpointKeeper(pl.Callback):
    """Saves `last.ckpt` to resume from, and `best.ckpt`, the weights that validated best.

    A checkpoint is made between updates only, at most half a minute and one update apart, and
    holds all that the rest of the run follows from; so a killed run ends as an undisturbed one.

    `meter` measures updates alone, episodes made for them included, without validations and
    checkpoints. A resumed run has the seconds of the updates that its checkpoint kept and of its
    own, and the largest peak of both; with a checkpoint from before there was a meter, no seconds.

    The best validation is that of the largest metric; in regression see `Validated`. Those of a
    checkpoint from before divergence was counted stay in the curve, but the first one after them
    is taken for better.
    """

    def __init__(
        self,
        folder: Path,
        metric: str,
        commit: str | None,
        *,
        regression: bool = False,
        machine: Mapping[str, Any] | None = None,
    ) -> None:
        """Start with nothing saved.

        Args:
            folder: to save into.
            metric: what validation judges by, such as val/accuracy.
            commit: of the code.
            regression: whether tasks are judged by their errors (see `zoo.runs.divergence`).
            machine: what computes: device, threads and tasks at once.
        """
        self.folder, self.metric, self.regression = folder, metric, regression
        self.machine = dict(machine or {})
        self.other_machines: list[dict[str, Any]] = []  # that computed earlier parts
        self.curve: list[tuple[int, float]] = []  # (updates, validation metric)
        self.pulls: list[tuple[float, ...]] = []  # (updates, ratio, cosine) of an added loss
        self.best: tuple[int, float] | None = None
        self.of_tasks: dict[int, Validated] = {}  # by updates, in regression
        self._errors = TaskErrors()
        self.commits = [commit]
        self.seconds = 0.0  # of training, in earlier processes too
        self.executed = 0  # updates, by this process
        self.updates = 0  # with those of earlier processes
        self.stopped = False  # whether another callback ended the training before its time
        self.meter = CostMeter()
        self._random: torch.Tensor | None = None
        self._loss: Any = 0.0
        self._started = time.monotonic()
        self._commit = commit

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {
            "curve": self.curve,
            "best": self.best,
            "pulls": self.pulls,
            "of_tasks": {update: tuple(found) for update, found in self.of_tasks.items()},
            "commits": self.commits,
            "stopped": self.stopped,
            "machines": [*self.other_machines, self.machine],
            "seconds": self.seconds + time.monotonic() - self._started,
            "meter": self.meter.state(),
        }

    @property
    def spent(self) -> dict[str, float | None]:
        """Seconds of training, and of its updates alone; None where not all were measured.

        `updates_cpu` are CPU seconds, of all threads together.
        """
        updates = self.meter.seconds
        cpu = self.meter.cpu if self.machine.get("devices", 1) == 1 else math.nan
        return {
            "train": round(self.seconds, 2),
            "updates": None if math.isnan(updates) else round(updates, 4),
            "updates_cpu": None if math.isnan(cpu) else round(cpu, 4),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where an earlier process was."""
        self.stopped = state.get("stopped", False)
        self.pulls = state.get("pulls", [])
        self.curve, self.best = state["curve"], state["best"]
        of_tasks = state.get("of_tasks", {})
        self.of_tasks = {update: Validated(*found) for update, found in of_tasks.items()}
        self.seconds, self.commits = state["seconds"], state["commits"]
        self.meter.load(state.get("meter", {"seconds": math.nan, "peak": None}))
        if self._commit not in self.commits:
            self.commits = [*self.commits, self._commit]
        before = state.get("machines", [])
        self.other_machines = [each for each in before if each != self.machine]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Measure from here: the images are where they will be, on a GPU the weights not yet."""
        self.meter.zero(trainer.strategy.root_device.type == "cuda")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Lightning does not save random states; and the end need not be one for a longer run."""
        checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False
        checkpoint["random"] = torch.get_rng_state()
        if trainer.strategy.root_device.type == "cuda":
            checkpoint["random_cuda"] = torch.cuda.get_rng_state()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the random states until training starts."""
        if trainer.accumulate_grad_batches == 1:
            count_updates(checkpoint)
        self._random = checkpoint["random"]
        if "random_cuda" in checkpoint:
            torch.cuda.set_rng_state(checkpoint["random_cuda"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the random states and start the clocks."""
        if self._random is not None:
            torch.set_rng_state(self._random)
        self._started = self._saved = time.monotonic()
        self.meter.start()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Check the loss; save when it is time, the update is complete and no validation is due.

        Raises:
            DivergedError: the loss is not finite.
        """
        assert isinstance(outputs, dict)
        self._loss = outputs["loss"]
        complete = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        on_gpu = trainer.strategy.root_device.type == "cuda"
        if not on_gpu or (complete and trainer.global_step % GPU_LOSS_CHECK == 0):
            self._check(trainer, trainer.global_step + (not complete))
        if not complete:
            return
        self.executed += 1
        assert trainer.val_check_batch is not None
        validation_due = (batch_idx + 1) % trainer.val_check_batch == 0
        late = time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES
        if not validation_due and not all_agree(trainer, not late):
            self.meter.stop()
            self.save(trainer)
            self.meter.resume()

    def _check(self, trainer: pl.Trainer, update: int) -> None:
        """Stop, all processes together, when the loss of one is not finite."""
        loss = float(self._loss)
        if not all_agree(trainer, math.isfinite(loss)):
            raise DivergedError(update, f"the loss is {loss}")

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Count the time up to a failure."""
        if isinstance(exception, DivergedError):  # of others the device may have more to say
            self.meter.stop()
        self.seconds += time.monotonic() - self._started

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure updates alone."""
        self.meter.stop()
        self._errors = TaskErrors()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect what each task of a regression gave."""
        if self.regression:
            assert isinstance(outputs, dict)
            self._errors.add(outputs, batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if none were better."""
        self._check(trainer, trainer.global_step)
        update, value = trainer.global_step, float(trainer.callback_metrics[self.metric])
        if self.regression:
            errors = TaskErrors.joined(from_all_processes(trainer, self._errors))
            self.of_tasks[update] = errors.validated()
            value = self.of_tasks[update].mean
        self.curve = [*self.curve, (update, value)]
        logged = trainer.callback_metrics
        if all(name in logged for name in PULL):  # only of a learner that adds a loss to a host's
            self.pulls = [*self.pulls, (update, *(float(logged[name]) for name in PULL))]
        if self.best is None or self._score(update, value) > self._score(*self.best):
            self.best = (update, value)
            self.save_weights(trainer, pl_module)
        self.save(trainer)
        self.meter.start()

    def _score(self, update: int, value: float) -> tuple[float, ...]:
        """More is better; not a number is worst."""
        if self.regression:
            found = self.of_tasks.get(update)
            return found.score if found else (-math.inf,)
        return (-math.inf if math.isnan(value) else value,)

    def tasks_validated(self, name: str) -> list[float | None]:
        """A field of `Validated` at each point of the curve; None where it was not counted."""
        points = (self.of_tasks.get(update) for update, _ in self.curve)
        return [getattr(found, name) if found else None for found in points]

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Without validation the last weights are the ones to test."""
        self._check(trainer, trainer.global_step)
        self.meter.stop()
        self.seconds += time.monotonic() - self._started
        if self.best is None:
            self.save_weights(trainer, pl_module)
        if trainer.should_stop and 0 < trainer.global_step < trainer.max_steps:
            self.stopped = True
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Write last.ckpt; a kill in the middle leaves the one before."""
        path = self.folder / "last.ckpt"
        make_again(path.parent)
        trainer.save_checkpoint(path.with_suffix(".new"))
        if not started_to_help():
            with open(path.with_suffix(".new"), "rb") as file:
                os.fsync(file.fileno())
            path.with_suffix(".new").replace(path)
        self._saved = time.monotonic()

    def save_weights(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        """Write best.ckpt."""
        if not started_to_help():
            write_atomically(
                self.folder / "best.ckpt", lambda file: torch.save(learner.state_dict(), file)
            )
        trainer.strategy.barrier()


def count_updates(checkpoint: dict[str, Any]) -> None:
    """Make a checkpoint count updates where it counted micro-batches, as older ones do."""
    loops = checkpoint["loops"]["fit_loop"]
    progress = loops["epoch_loop.batch_progress"]
    parts = progress["current"]["ready"] // max(1, checkpoint["global_step"])
    if parts <= 1:
        return
    for counts in (progress["current"], progress["total"]):
        counts.update({name: count // parts for name, count in counts.items()})
    for state in loops["state_dict"]["combined_loader"]:
        state["served"] //= parts


def load_keeper(keeper: CheckpointKeeper, checkpoint: Mapping[str, Any]) -> None:
    """Let a keeper take up what a checkpoint's content says, without training on."""
    keeper.load_state_dict(checkpoint["callbacks"][CheckpointKeeper.__qualname__])
    keeper.updates = checkpoint["global_step"]


def micro_batch_of(checkpoint: Mapping[str, Any]) -> int | None:
    """With how many tasks at once a run was begun; None where its checkpoint does not say."""
    state = checkpoint["callbacks"]
    machines = state[CheckpointKeeper.__qualname__].get("machines", [])
    return machines[-1]["tasks_at_once"]["training"] if machines else None


def updates_in(checkpoint: Path) -> int:
    """How many updates a checkpoint stands behind."""
    return int(torch.load(checkpoint, "cpu", weights_only=False)["global_step"])


class TestRecorder(pl.Callback):
    """Collects per-episode metrics and predictions, and saves them on the way.

    A callback for ``trainer.test``; `results` has what was collected.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Take up what an earlier process left in `folder`; with None, nothing is saved."""
        self.path = folder and folder / "test.npz"
        self.parts: list[dict[str, np.ndarray]] = []
        if self.path and self.path.exists():
            with np.load(self.path) as saved:
                self.parts = [dict(saved)]
        self._saved = time.monotonic()

    def __len__(self) -> int:
        """Episodes recorded."""
        return sum(len(part["prediction"]) for part in self.parts)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a batch of episodes."""
        assert isinstance(outputs, dict)
        if isinstance(batch, Episode) and batch.query.y.is_floating_point():
            outputs = {**outputs, MEAN_SQUARE: mean_square(batch)}
        # Copied: what the step allocated would keep the large blocks around it from being reused.
        mine = {name: value.cpu().numpy().copy() for name, value in outputs.items()}
        self.parts += from_all_processes(trainer, mine)
        if started_to_help():
            return
        if time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES:
            self.save()

    def save(self) -> None:
        """Keep what was recorded so far, where another process takes it up."""
        if self.path and self.parts:
            write_arrays(self.path, self._joined())
            self._saved = time.monotonic()

    def results(self) -> dict[str, np.ndarray]:
        """What was recorded: metrics (E,) and ``prediction`` (E, N*Q)."""
        return {name: part for name, part in self._joined().items() if name != MEAN_SQUARE}

    def diverged(self) -> float | None:
        """The share of tasks that diverged; None of classification, or where it is not known."""
        joined = self._joined()
        if MEAN_SQUARE not in joined:
            return None
        return float(diverged(joined["mse"], joined[MEAN_SQUARE]).mean())

    def _joined(self) -> dict[str, np.ndarray]:
        return {name: np.concatenate([p[name] for p in self.parts]) for name in self.parts[0]}
