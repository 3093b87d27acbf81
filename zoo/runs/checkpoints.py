"""Keeps what a run has while it is under way: checkpoints, learning curve, test results so far."""

import io
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import nn

from zoo.checkpoint_files import (
    CheckpointFile,
    checkpoint_in_memory,
    read_checkpoint,
    write_checkpoint,
)
from zoo.episode import Episode
from zoo.errors import UsageError
from zoo.files import DamagedError, checksum_of, make_again, write_arrays, write_bytes
from zoo.learner_outputs import check_values
from zoo.reports.metrics import is_error
from zoo.runs.cost_meter import CostMeter
from zoo.runs.devices import all_agree, gather_objects
from zoo.runs.divergence import TaskErrors, Validated, diverged, mean_square
from zoo.runs.source_files import SourceFiles, changed_files, other_plugins
from zoo.runs.workers import started_to_help

SECONDS_BETWEEN_SAVES = float(os.environ.get("ZOO_SECONDS_BETWEEN_SAVES", "30"))
GRADIENT_COMPARISON = (
    "train/gradient_ratio",
    "train/gradient_cosine",
)  # logged by learners that add a loss
OF_KEEPER = {"curve", "best", "seconds", "commits"}  # names in the keeper's part of a checkpoint
OF_TRAINER = {"loops", "optimizer_states", "random"}  # names in the rest of a checkpoint
GPU_LOSS_CHECK = 50  # updates between two checks of the loss; reading it stalls a GPU
OF = "of"  # the name in test.npz that says whose test it is
MEAN_SQUARE = "mean_square"  # of a task's query outputs; recorded while a test is under way


class DivergedError(Exception):
    """Training cannot go on."""

    def __init__(self, update: int, reason: str) -> None:
        """Note after how many updates it happened, and why."""
        super().__init__(f"update {update}: {reason}")
        self.update, self.reason = update, reason


class CheckpointKeeper(pl.Callback):
    """Saves `last.ckpt` to resume from, and `best.ckpt` with the weights that validated best.

    A checkpoint is made only between updates, at most half a minute and one update after the one
    before. It holds everything that the rest of the run depends on, so that a run that was killed
    ends like an undisturbed one.

    Both files end in a checksum. `last.ckpt` also holds the checksum of the `best.ckpt` that
    belongs to it, the hash of what is trained, and the hashes of the files that define the learner;
    `find_last` checks them. A checkpoint of earlier code has none of these. Training goes on from
    it all the same, and its name is noted in `unchecked`.

    `meter` measures updates and the making of their episodes, but not validations and checkpoints.
    A resumed run adds its own seconds to those in its checkpoint and takes the larger peak. If the
    checkpoint was made before there was a meter, the seconds are unknown.

    The best validation is the one with the largest metric, or in regression see `Validated`.
    Validations in checkpoints that are older than the count of diverged tasks stay in the curve,
    but the next validation always counts as better.
    """

    def __init__(
        self,
        folder: Path,
        metric: str,
        commit: str | None,
        *,
        regression: bool = False,
        machine: Mapping[str, Any] | None = None,
        run: str = "",
        trajectory: str = "",
        sources: SourceFiles | None = None,
    ) -> None:
        """Start with nothing saved.

        Args:
            folder: to save into.
            metric: the logged metric by which validation chooses, such as val/accuracy.
            commit: of the code.
            regression: whether tasks are judged by their errors (see `zoo.runs.divergence`).
            machine: what computes: device, threads and tasks at once.
            run: the hash of what is trained.
            trajectory: see `Run.trajectory`.
            sources: the source files that define what is trained.
        """
        self.folder, self.metric, self.regression = folder, metric, regression
        self.run, self.trajectory = run, trajectory
        self.sources = sources or SourceFiles({}, {})
        self.other_sources: list[dict[str, Any]] = []  # source files in earlier parts of training
        self.unchecked: list[str] = []  # files without a checksum that training goes on from
        self.best_checksum: str | None = None  # of best.ckpt
        self.machine = dict(machine or {})
        self.other_machines: list[dict[str, Any]] = []  # they computed earlier parts of training
        self.curve: list[tuple[int, float]] = []  # (updates, validation metric)
        self.gradient_comparisons: list[
            tuple[float, ...]
        ] = []  # (updates, ratio, cosine) of an added loss
        self.best: tuple[int, float] | None = None  # the best point of the curve
        self.of_tasks: dict[int, Validated] = {}  # by updates, in regression
        self._errors = TaskErrors()
        self.commits = [commit]
        self.seconds = 0.0  # of training, including earlier processes
        self.executed = 0  # updates made by this process
        self.updates = 0  # updates made in all, including earlier processes
        self.stopped = False  # whether another callback ended the training early
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
            "pulls": self.gradient_comparisons,
            "of_tasks": {update: tuple(result) for update, result in self.of_tasks.items()},
            "commits": self.commits,
            "stopped": self.stopped,
            "run": self.run,
            "trajectory": self.trajectory,
            "sources": [*self.other_sources, self.sources._asdict()],
            "unchecked": self.unchecked,
            "best_checksum": self.best_checksum,
            "machines": [*self.other_machines, self.machine],
            "seconds": self.seconds + time.monotonic() - self._started,
            "meter": self.meter.state(),
        }

    @property
    def spent(self) -> dict[str, float | None]:
        """Seconds of the training and of its updates alone; None if not all were measured.

        `updates_cpu` are CPU seconds of all threads together.
        """
        updates = self.meter.seconds
        cpu = self.meter.cpu if self.machine.get("devices", 1) == 1 else math.nan
        return {
            "train": round(self.seconds, 2),
            "updates": None if math.isnan(updates) else round(updates, 4),
            "updates_cpu": None if math.isnan(cpu) else round(cpu, 4),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of an earlier process."""
        self.stopped = state.get("stopped", False)
        self.gradient_comparisons = state.get("pulls", [])
        self.curve = state["curve"]
        self.best = state["best"]
        of_tasks = state.get("of_tasks", {})
        self.of_tasks = {update: Validated(*result) for update, result in of_tasks.items()}
        self.seconds = state["seconds"]
        self.commits = state["commits"]
        self.meter.load(state.get("meter", {"seconds": math.nan, "peak": None}))
        if self._commit not in self.commits:
            self.commits = [*self.commits, self._commit]
        machines, sources = state.get("machines", []), state.get("sources", [])
        self.other_machines = [machine for machine in machines if machine != self.machine]
        self.other_sources = [part for part in sources if part != self.sources._asdict()]
        self.unchecked = [*dict.fromkeys([*state.get("unchecked", []), *self.unchecked])]
        self.best_checksum = self.best_checksum or state.get("best_checksum")

    @property
    def other_files(self) -> list[dict[str, Any]]:
        """Files of the zoo that have changed since earlier parts of the training."""
        return changed_files(self.other_sources, self.sources)

    def find_last(self, learner: nn.Module, updates: int) -> dict[str, Any] | None:
        """The content of `last.ckpt`, if the training can go on from it.

        If it cannot, the file is removed, and a line on stderr says why.

        Args:
            learner: what is trained.
            updates: of the whole training.

        Returns:
            None if there is nothing to go on from.
        """
        path = self.folder / "last.ckpt"
        try:
            checkpoint, checksum = self.read(path, learner, updates)
            self._find_best(checkpoint)
        except FileNotFoundError:
            return None
        except UsageError as error:
            print(f"  {error}; the training starts anew", file=sys.stderr)
            path.unlink()
            return None
        if checksum is None:
            print(f"  {path}: of earlier code, without a checksum: not checked", file=sys.stderr)
            self.unchecked = [path.name]
        return checkpoint

    def read(self, path: Path, learner: nn.Module, updates: int) -> CheckpointFile:
        """Read a checkpoint, and check that this training can go on from it.

        Args:
            path: of the file.
            learner: what is trained.
            updates: of the whole training.

        Raises:
            FileNotFoundError: there is no such file.
            UsageError: it is damaged, or made by another training or by other code; the message
                says which.
        """
        file = read_checkpoint(path)
        state, made, shapes = _parts_of(file.content, path)
        same_run = state.get("run", self.run) == self.run
        same_trajectory = self.trajectory and state.get("trajectory") == self.trajectory
        if made > updates or not (same_run or same_trajectory):
            raise UsageError(f"{path} is of another run")
        sources_now = self.sources._asdict()
        sources_then = state.get("sources", [sources_now])[-1]
        if files := other_plugins(sources_then, self.sources):
            raise UsageError(f"{path} was made by another {', '.join(files)}")
        if file.checksum is None or sources_then != sources_now:
            if shapes != {name: value.shape for name, value in learner.state_dict().items()}:
                raise UsageError(f"{path} has other weights than the learner has now")
        return file

    def _find_best(self, checkpoint: Mapping[str, Any]) -> None:
        """Make sure that `best.ckpt` is the one that belongs to a checkpoint of this folder.

        If the process was killed after it wrote that checkpoint and before it wrote `best.ckpt`,
        the file is an older one. Then it is written anew, with the weights of the checkpoint.

        Raises:
            DamagedError: it is damaged or another one, and cannot be made again.
        """
        path = self.folder / "best.ckpt"
        state = checkpoint["callbacks"][CheckpointKeeper.__qualname__]
        expected, best = state.get("best_checksum"), state["best"]
        if best is None and expected is None:
            return  # nothing was validated so far
        try:
            belongs = expected in (None, checksum_of(path.read_bytes(), path))
        except (FileNotFoundError, DamagedError):
            belongs = False
        if belongs:
            return
        if expected is None or (best is not None and best[0] != checkpoint["global_step"]):
            raise DamagedError(f"{path} is missing, damaged, or not the one of last.ckpt")
        self._write_best(checkpoint["state_dict"])

    def best_weights(self) -> dict[str, torch.Tensor]:
        """The weights that validated best.

        Raises:
            DamagedError: the file is not what was written.
        """
        path = self.folder / "best.ckpt"
        content, checksum = read_checkpoint(path, weights_only=True)
        if self.best_checksum not in (None, checksum) and not started_to_help():
            raise DamagedError(f"{path} is not what was written; the same command trains anew")
        if checksum is None:  # earlier code wrote it; now it gets a checksum
            self._write_best(content)
        return dict(content)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Measure memory from here: images are loaded, but on a GPU the weights are not yet."""
        self.meter.zero(trainer.strategy.root_device.type == "cuda")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the random states, which Lightning does not save, and let a longer run go on.

        At the end of training Lightning notes that the last batch is done; a longer run would then
        stop at once.
        """
        checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False
        checkpoint["random"] = torch.get_rng_state()
        if trainer.strategy.root_device.type == "cuda":
            checkpoint["random_cuda"] = torch.cuda.get_rng_state()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the random states; that of the CPU is set when training starts."""
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
        """Check the loss; save if it is time, the update is complete and no validation is due.

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
        """Stop all processes if the loss of one is not finite."""
        loss = float(self._loss)
        if not all_agree(trainer, math.isfinite(loss)):
            raise DivergedError(update, f"the loss is {loss}")

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Count the time up to a failure."""
        if isinstance(exception, DivergedError):  # after other errors a GPU may not answer
            self.meter.stop()
        self.seconds += time.monotonic() - self._started

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the meter, which measures updates alone."""
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
        """Collect the errors of a regression's tasks."""
        if self.regression:
            assert isinstance(outputs, dict)
            self._errors.add(outputs, batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add a point to the curve, and save the weights if none were better."""
        self._check(trainer, trainer.global_step)
        update, value = trainer.global_step, float(trainer.callback_metrics[self.metric])
        if self.regression:
            errors = TaskErrors.joined(gather_objects(trainer, self._errors))
            self.of_tasks[update] = errors.validated()
            value = self.of_tasks[update].mean
        check_values(pl_module, {self.metric.removeprefix("val/"): np.array(value)}, None)
        self.curve = [*self.curve, (update, value)]
        logged = trainer.callback_metrics
        if all(
            name in logged for name in GRADIENT_COMPARISON
        ):  # by a learner that adds a loss to its host's
            self.gradient_comparisons = [
                *self.gradient_comparisons,
                (update, *(float(logged[name]) for name in GRADIENT_COMPARISON)),
            ]
        better = self.best is None or self._score(update, value) > self._score(*self.best)
        if better:
            self.best = (update, value)
        self.save(trainer, pl_module if better else None)
        self.meter.start()

    def _score(self, update: int, value: float) -> tuple[float, ...]:
        """What points of the curve are compared by: the larger is better, nan is worst."""
        if self.regression:
            result = self.of_tasks.get(update)
            return result.score if result else (-math.inf,)
        return (-math.inf if math.isnan(value) else value,)

    def tasks_validated(self, name: str) -> list[float | None]:
        """A field of `Validated` at each point of the curve; None where it was not counted."""
        results = (self.of_tasks.get(update) for update, _ in self.curve)
        return [getattr(result, name) if result else None for result in results]

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clocks; if nothing was validated, keep the last weights as the best."""
        self._check(trainer, trainer.global_step)
        self.meter.stop()
        self.seconds += time.monotonic() - self._started
        weights = pl_module if self.best is None else None
        self.stopped = trainer.should_stop and 0 < trainer.global_step < trainer.max_steps
        if self.stopped:
            self.save(trainer, weights)
        elif weights is not None:
            self._write_best(weights.state_dict())
            trainer.strategy.barrier()

    def save(self, trainer: pl.Trainer, best: nn.Module | None = None) -> None:
        """Write last.ckpt; if the process is killed meanwhile, the previous one stays.

        Args:
            trainer: its training is saved.
            best: the module, if its weights are the best so far and become best.ckpt. That file is
                written second: after a kill between the two, `_find_best` makes it from the first.
        """
        if best is not None:
            file, self.best_checksum = checkpoint_in_memory(best.state_dict())
        make_again(self.folder)
        trainer.save_checkpoint(self.folder / "last.ckpt")
        if best is not None:
            if not started_to_help():
                write_bytes(self.folder / "best.ckpt", file.getbuffer())
            trainer.strategy.barrier()
        self._saved = time.monotonic()

    def _write_best(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Write best.ckpt, and note its checksum."""
        if not started_to_help():
            self.best_checksum = write_checkpoint(self.folder / "best.ckpt", weights)


def count_updates(checkpoint: dict[str, Any]) -> None:
    """Make a checkpoint of earlier code, which counted micro-batches, count updates."""
    loops = checkpoint["loops"]["fit_loop"]
    progress = loops["epoch_loop.batch_progress"]
    parts = progress["current"]["ready"] // max(1, checkpoint["global_step"])
    if parts <= 1:
        return
    for counts in (progress["current"], progress["total"]):
        counts.update({name: count // parts for name, count in counts.items()})
    for state in loops["state_dict"]["combined_loader"]:
        state["served"] //= parts


def _parts_of(content: Any, path: Path) -> tuple[dict[str, Any], int, dict[str, torch.Size]]:
    """The keeper's state, the number of updates, and the shapes of the weights by name.

    Raises:
        DamagedError: the content is not that of a run's checkpoint.
    """
    try:
        state = dict(content["callbacks"][CheckpointKeeper.__qualname__])
        made = int(content["global_step"])
        shapes = {name: value.shape for name, value in content["state_dict"].items()}
        if not (OF_KEEPER <= state.keys() and OF_TRAINER <= content.keys()):
            raise KeyError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DamagedError(f"{path} is no checkpoint of a run") from None
    return state, made, shapes


def load_keeper(keeper: CheckpointKeeper, checkpoint: Mapping[str, Any]) -> None:
    """Give a keeper the state in a checkpoint's content, without training on."""
    keeper.load_state_dict(checkpoint["callbacks"][CheckpointKeeper.__qualname__])
    keeper.updates = checkpoint["global_step"]


def micro_batch_of(checkpoint: Mapping[str, Any]) -> int | None:
    """How many tasks at once a run was begun with; None if its checkpoint does not say."""
    state = checkpoint["callbacks"]
    machines = state[CheckpointKeeper.__qualname__].get("machines", [])
    return machines[-1]["tasks_at_once"]["training"] if machines else None


def updates_in(checkpoint: Path) -> int:
    """The number of updates that were made before a checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: it is damaged.
    """
    return _parts_of(read_checkpoint(checkpoint).content, checkpoint)[1]


class TestRecorder(pl.Callback):
    """Collects the metrics and predictions of each test episode, and saves them on the way.

    It is a callback for ``trainer.test``; afterwards `results` returns what was collected.
    """

    def __init__(self, folder: Path | None = None, of: str = "") -> None:
        """Go on with what an earlier process saved in a folder.

        Args:
            folder: to save into; with None, nothing is saved.
            of: identifies the test. A file that belongs to another test, is damaged or has no
                checksum is removed with a line on stderr, and the test begins anew.
        """
        self.path = None if folder is None else folder / "test.npz"
        self.of = of
        self.parts: list[dict[str, np.ndarray]] = []
        if self.path and self.path.exists():
            try:
                self.parts = [self._saved_part(self.path)]
            except DamagedError as error:
                print(f"  {error}; the test begins anew", file=sys.stderr)
                self.path.unlink(missing_ok=True)
        self._saved = time.monotonic()

    def _saved_part(self, path: Path) -> dict[str, np.ndarray]:
        """Read what an earlier process saved.

        Raises:
            DamagedError: the file is damaged, has no checksum, or belongs to another test.
        """
        content = path.read_bytes()
        if checksum_of(content, path) is None:
            raise DamagedError(f"{path} has no checksum")
        with np.load(io.BytesIO(content)) as saved:
            part = dict(saved)
        if str(part.pop(OF, "")) != self.of:
            raise DamagedError(f"{path} is of another test")
        return part

    def __len__(self) -> int:
        """The number of recorded episodes."""
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
        # Copies, so that malloc can reuse the large blocks of memory between the step's own arrays.
        part = {name: value.cpu().numpy().copy() for name, value in outputs.items()}
        way = batch.way if isinstance(batch, Episode) and MEAN_SQUARE not in part else None
        check_values(pl_module, part, way)
        self.parts += gather_objects(trainer, part)
        if started_to_help():
            return
        if time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES:
            self.save()

    def save(self) -> None:
        """Save what was recorded so far, so that another process can go on with it."""
        if self.path and self.parts:
            write_arrays(self.path, {**self._joined(), OF: np.array(self.of)})
            self._saved = time.monotonic()

    def results(self) -> dict[str, np.ndarray]:
        """What was recorded: metrics (E,) and ``prediction`` (E, N*Q).

        A squared error that is nan becomes infinite, since the task diverged.
        """
        results = {}
        for name, values in self._joined().items():
            if name != MEAN_SQUARE:
                results[name] = (
                    np.where(np.isnan(values), np.inf, values) if is_error(name) else values
                )
        return results

    def diverged(self) -> float | None:
        """The share of tasks that diverged; None in classification, or if it is not known."""
        joined = self._joined()
        if MEAN_SQUARE not in joined:
            return None
        return float(diverged(joined["mse"], joined[MEAN_SQUARE]).mean())

    def _joined(self) -> dict[str, np.ndarray]:
        """All recorded batches as one array for each name."""
        return {name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}
