"""A run is trained, tested once and recorded; what was done before is not done again."""

import contextlib
import hashlib
import inspect
import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pytorch_lightning as pl
import torch

from zoo.errors import UsageError
from zoo.files import DamagedError, alone_in, reserve, write_text
from zoo.learner import Learner
from zoo.plugin_files import plugin_of_file
from zoo.precision import check_precision
from zoo.reports.confusions import accuracy_of_classes, most_confused, pooled_predictions
from zoo.reports.records import parse_record, row_of
from zoo.runs.calibration import Calibration, calibrate
from zoo.runs.checkpoints import (
    CheckpointKeeper,
    DivergedError,
    TestRecorder,
    load_keeper,
    micro_batch_of,
)
from zoo.runs.devices import end_with_first_process
from zoo.runs.environment import code_of, device_name, environment, interruptible, quiet
from zoo.runs.finished_training import (
    FinishedTraining,
    copy_shorter,
    finished_weights,
    note_begun,
    note_finished,
)
from zoo.runs.identity import HASH_BYTES, check_same_run, identity_of_record, version_of
from zoo.runs.loggers_and_callbacks import callback_of, logger_of
from zoo.runs.plan import Plan
from zoo.runs.record import (
    finite_or_none,
    summarised,
    write_record,
    write_results,
    write_test_episodes,
)
from zoo.runs.source_files import SourceFiles, source_files
from zoo.runs.trainer import trainer_for, training_options, updates_between
from zoo.runs.weights import load_weights, save_weights, tensors_hash, weights_path
from zoo.runs.workers import started_to_help
from zoo.runs.workspace import UNDER_WAY

RUN_SCHEMA = 1  # the version of records
CONFUSED = ["class", "predicted", "times", "queries"]  # columns of `most_confused` in a record


class Tested(NamedTuple):
    """The outcome of a test."""

    results: Mapping[str, np.ndarray] | None = None  # see `summarised`; None if nothing was tested
    diverged: float | None = None  # share of tasks, in regression
    passes: int = 0  # how often the test was begun
    seconds: float = 0.0  # in this process


class Run(Plan):
    """A plan that can be carried out."""

    staged: Sequence[dict[str, Any]] = ()  # what the record says of each stage
    calibration: Calibration | None = None
    weights_of: str | None = None  # the run whose weights this one tests instead of training
    trained_on: Mapping[str, Any] | None = None  # what such weights were trained on
    unchecked: Sequence[str] = ()  # files without a checksum that `trained` used

    @property
    def record_path(self) -> Path:
        """Where the finished record lies."""
        return self.workspace.results / f"{self.name}.json"

    @property
    def error_path(self) -> Path:
        """Where the traceback lies if the run broke."""
        return self.folder / "error.txt"

    @property
    def folder(self) -> Path:
        """Where the run's files lie while it is under way: where a campaign began it, or `runs`."""
        of_campaign = self.workspace.results / UNDER_WAY / self.name
        return of_campaign if of_campaign.exists() else self.workspace.runs / self.name

    @cached_property
    def trajectory(self) -> str:
        """A hash that is equal for runs whose trainings make the same updates, one longer.

        Such runs may differ in `updates`, `validations`, `test_episodes` and budget, but have
        equally many updates between validations. Empty for 0 updates, or if an update depends on
        the planned number of updates (`needs_length`).
        """
        if self.learner.needs_length or not self["updates"]:
            return ""
        may_differ = ("updates", "validations", "test_episodes")
        settings = {
            name: value
            for name, value in self.identity["settings"].items()
            if name not in may_differ
        }
        every = updates_between(self["updates"], self["validations"])
        same = {**self.identity, "settings": settings, "budget": "", "every": every}
        return hashlib.blake2b(json.dumps(same, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def learner_file(self) -> dict[str, str]:
        """The file that defines the learner, with its hash."""
        path = Path(inspect.getfile(self.cls))
        return plugin_of_file(path, path.read_bytes())._asdict()

    @property
    def sources(self) -> SourceFiles:
        """The source files that define the learner and the benchmark."""
        return source_files([*self.learner.modules(), self.benchmark])

    def record(self) -> dict[str, Any] | None:
        """The finished record, if there is one.

        Raises:
            UsageError: the file is damaged, or the record belongs to another run.
        """
        try:
            record = parse_record(self.record_path.read_bytes())
            row_of(record, self.record_path.stem)
            identity = identity_of_record(record, self.cls)
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            raise UsageError(
                f"{self.record_path} is a folder: move it away, and the run is made"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = f" ({' '.join(str(error).split())})" if isinstance(error, ValueError) else ""
            raise UsageError(
                f"{self.record_path} is not a whole record: delete it, and the run is made again"
                f"{why}"
            ) from None
        check_same_run(self.record_path, identity, self.identity)
        return record

    def execute(self, progress: bool = True) -> dict[str, Any]:
        """Train, test once and record; what was done before is not done again.

        Returns:
            The record.

        Raises:
            UsageError: another process works on the same run.
        """
        if started_to_help():
            self.help_first_process()
        self.workspace.results.mkdir(parents=True, exist_ok=True)
        with self.at_work() as folder:
            if (done := self.record()) is not None:
                return done
            made_with = environment(self.workspace.device_kind)  # before the files can change
            keeper = self._keeper(folder, code_of(made_with))
            try:
                self.train(folder, keeper, progress)
                tested = self.test(folder, progress)
            except DivergedError as error:
                failure, tested = {"update": error.update, "reason": error.reason}, Tested()
                record = self._write(keeper, made_with, failure, tested)
            else:
                self.calibration = self.calibrated()
                record = self._write(keeper, made_with, None, tested)
            # If someone deletes the record, the test is made anew.
            (folder / "test.npz").unlink(missing_ok=True)
            self._finish(folder, keeper, failed=tested.results is None)
            return record

    @contextlib.contextmanager
    def at_work(self) -> Iterator[Path]:
        """Make and hold the run's folder, and compute with the run's threads.

        Raises:
            UsageError: another process works on the same run.
        """
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder), quiet():
            torch.set_num_threads(self.workspace.threads)
            yield folder

    def help_first_process(self) -> NoReturn:
        """Compute this process's share of every batch, then exit; the first process records."""
        end_with_first_process()
        with quiet():
            torch.set_num_threads(self.workspace.threads)
            keeper = self._keeper(self.folder, None)
            with contextlib.suppress(DivergedError):
                self.train(self.folder, keeper, progress=False)
                self.test(self.folder, progress=False)
        raise SystemExit(0)

    def trained(self, progress: bool = True) -> Learner:
        """The trained learner, on the CPU and in evaluation mode.

        Its weights are those of the file beside the record; else of a finished training in the
        run's folder; else it is trained again. If they are not the weights that were tested, a line
        says so, and they are returned anyway.

        Raises:
            UsageError: another process works on the same run, or its weights are damaged.
        """
        record = self.record() or {}
        path, recorded = weights_path(self.record_path), record.get("weights")
        if recorded and path.exists():
            load_weights(path, self.learner, recorded["hash"], self.benchmark)
            return self.learner.cpu().eval()
        with self.at_work() as folder:
            if not self._take_finished(folder):
                keeper = self._keeper(folder, None)
                self.train(folder, keeper, progress)
                self._finish(folder, keeper)
        if recorded and not self._put_back(record):
            print(
                f"  {self.name}: the tested weights are missing; those in {self.folder} are not "
                "identical to them, for example because another machine trained them"
            )
        return self.learner.cpu().eval()

    def _take_finished(self, folder: Path) -> bool:
        """Load best.ckpt if the training in this folder came to its end; returns whether it did."""
        path = folder / "best.ckpt"
        try:
            finished = finished_weights(folder)
        except DamagedError as error:
            print(f"  {error}; the run is trained again", file=sys.stderr)
            return False
        if finished is None:
            return False
        try:
            self.learner.load_state_dict(finished.weights)
        except RuntimeError:
            print(
                f"  {path} has other weights than the learner now; trained again", file=sys.stderr
            )
            return False
        if not finished.checked:
            print(f"  {path}: of earlier code, without a checksum: not checked", file=sys.stderr)
            self.unchecked = [path.name]
        return True

    def _put_back(self, record: Mapping[str, Any]) -> bool:
        """Save the learner's weights beside their record, if they are the recorded ones.

        Args:
            record: of this run; it names weights.

        Returns:
            Whether they have the recorded hash.
        """
        saved = self._save_weights(record.get("calibration"))
        same = saved is None or saved["hash"] == record["weights"]["hash"]
        if not same:
            weights_path(self.record_path).unlink()
        return same

    def _finish(self, folder: Path, keeper: CheckpointKeeper, failed: bool = False) -> None:
        """After a training, delete last.ckpt.

        If the training succeeded, its end is noted first, and last.ckpt is kept as end.ckpt if a
        longer run can go on from it.
        """
        last = folder / "last.ckpt"
        if keeper.best_checksum is not None and not failed:
            training = FinishedTraining(self.trajectory, self["updates"], keeper.best_checksum)
            note_finished(folder, training)
            if last.exists() and self.trajectory:
                last.replace(folder / "end.ckpt")
        last.unlink(missing_ok=True)

    def _start(self, keeper: CheckpointKeeper) -> dict[str, Any] | None:
        """The checkpoint to go on from: this run's, or that of a shorter run of equal training."""
        learner, updates = self.learner, self["updates"]
        checkpoint = keeper.find_last(learner, updates)
        if checkpoint is not None or started_to_help():
            return checkpoint
        if keeper.trajectory and copy_shorter(self.workspace.runs, keeper, learner, updates):
            return keeper.find_last(learner, updates)
        return None

    def _keeper(self, folder: Path, commit: str | None) -> CheckpointKeeper:
        """What keeps the checkpoints of this run; `commit` is that of the code."""
        return CheckpointKeeper(
            folder,
            f"val/{self.judged_by}",
            commit,
            regression=self.benchmark.regression,
            machine=self.machine,
            run=self.name[-2 * HASH_BYTES :],
            trajectory=self.trajectory,
            sources=self.sources,
        )

    @property
    def machine(self) -> dict[str, Any]:
        """What computes this run, since rounding depends on it.

        If a learner draws random numbers on the way, as SNAIL's dropout does, these too depend on
        the device and on how many tasks are computed at once.
        """
        kind = self.workspace.device_kind
        return {
            "device": kind,
            "device_name": device_name(kind),
            "threads": self.workspace.threads,
            **({"devices": self.workspace.devices} if self.workspace.devices > 1 else {}),
            "tasks_at_once": {"training": self.micro_batch, "evaluation": self.eval_batch},
        }

    def train(self, folder: Path, keeper: CheckpointKeeper, progress: bool) -> None:
        """Train the stages, then the learner; it gets the weights of its best validation.

        The training goes on from this run's last checkpoint, or from the end of a shorter run with
        the same `trajectory`.

        Raises:
            UsageError: the device is too slow in the precision that was asked for.
        """
        updates = self["updates"]
        check_precision(self["precision"], torch.device(self.workspace.device_kind))
        if self.learner.train_stages is not None:
            self.staged = self.learner.train_stages(self.learner, progress)
            self.learner.stages_trained = True
        if updates == 0:
            return
        if not started_to_help():
            note_begun(folder)
        checkpoint = self._start(keeper)
        if checkpoint is not None:
            # As many tasks at once as when it was begun, so that it ends as an undisturbed run.
            self.learner.micro_batch = micro_batch_of(checkpoint) or self.micro_batch
            keeper.machine = self.machine
            load_keeper(keeper, checkpoint)
            if keeper.stopped:  # a callback had ended the training, and might not do so again
                self.learner.load_state_dict(keeper.best_weights())
                return
        options = training_options(
            keeper,
            updates,
            self["validations"],
            logger_of(self.workspace.logger, folder, self.name, keeper.updates),
            callbacks=self.training_callbacks(),
        )
        trainer = self._trainer(progress, **options)
        pl.seed_everything(self.seed, verbose=False)
        self.data.served.batches = 0  # unless a checkpoint says otherwise
        with interruptible():
            # The path is absolute, as Lightning takes a name that begins with "http" for a URL.
            start = None if checkpoint is None else (folder / "last.ckpt").absolute()
            try:
                trainer.fit(self.learner, self.data, ckpt_path=start)
            except RuntimeError as error:
                if not str(error).startswith("Early stopping conditioned on metric"):
                    raise
                why = str(error).partition(". Pass in")[0]
                logged = ", ".join(sorted(trainer.callback_metrics))
                raise UsageError(f"--callback: {why}; it can watch {logged}") from None
        keeper.updates = trainer.global_step
        if trainer.global_step != updates and not self.workspace.callbacks:
            raise RuntimeError(f"{trainer.global_step} updates were made instead of {updates}")
        self.learner.load_state_dict(keeper.best_weights())

    def training_callbacks(self) -> list[pl.Callback]:
        """The callbacks of the training, besides the keeper of its checkpoints."""
        return [callback_of(text) for text in self.workspace.callbacks]

    def test(self, folder: Path, progress: bool) -> Tested:
        """Test the learner; episodes that an interrupted test has done are not done again."""
        weights = tensors_hash(self.learner.state_dict())
        recorder = TestRecorder(
            folder, " ".join([self.name, weights, *self.sources.plugins.values()])
        )
        passes_path = folder / "test_passes_begun"
        passes = count_in(passes_path)
        episodes_left = len(recorder) < self["test_episodes"]
        room = folder / "test.room"  # reserves disk space for the results, so that none are lost
        if episodes_left and not started_to_help():
            reserve(room, self._bytes_tested())
        if not len(recorder):  # otherwise an interrupted pass goes on
            passes += 1
            if not started_to_help():
                write_text(passes_path, str(passes))
        started = time.monotonic()
        self.data.tested = len(recorder)
        if episodes_left:
            pl.seed_everything(self.seed, verbose=False)
            trainer = self._trainer(progress, logger=False, callbacks=[recorder])
            with interruptible():
                self._test_with(trainer, progress)
        if episodes_left and not started_to_help():
            room.unlink(missing_ok=True)
            recorder.save()  # so that the test is not made again if writing the record fails
        seconds = time.monotonic() - started
        return Tested(recorder.results(), recorder.diverged(), passes, seconds)

    def _bytes_tested(self) -> int:
        """The largest number of bytes that the results of a test can take."""
        numbers = self["query"] * self.way + 32  # predictions and metrics, of 8 bytes each
        return int(self["test_episodes"] * numbers * 8) + 2**16

    def _test_with(self, trainer: pl.Trainer, progress: bool) -> None:
        """Test on features if the learner allows it, which gives the same and is far faster."""
        if not (self.benchmark.stored and self.learner.embeds_alone):
            trainer.test(self.learner, self.data, verbose=False)
            return
        device = self.workspace.device_kind
        with self.learner.embedded() as network:
            features = self.data.embedded(network.to(device), device, progress)
            trainer.test(self.learner, features, verbose=False)

    def calibrated(self) -> Calibration | None:
        """Measure how far the tested weights' probabilities can be trusted.

        Returns:
            None in regression, on episodes that other code draws, and for a test of another run's
            weights.
        """
        if not self.benchmark.stored or self.weights_of:
            return None
        pl.seed_everything(self.seed, verbose=False)
        calibration = calibrate(self.learner.to(self.workspace.device_kind), self.data)
        self.learner.cpu()
        return calibration

    def _trainer(self, progress: bool, **options: Any) -> pl.Trainer:
        """A trainer on this run's devices."""
        workspace = self.workspace
        return trainer_for(workspace.device_kind, progress, workspace.devices, **options)

    def _write(
        self,
        keeper: CheckpointKeeper,
        made_with: dict[str, Any],
        failure: dict[str, Any] | None,
        tested: Tested,
    ) -> dict[str, Any]:
        """Write the record; its arrays and weights come first, so that it never lacks them.

        If another process has written the record meanwhile, that one stays and is returned.

        Args:
            keeper: of the training's checkpoints.
            made_with: the environment.
            failure: at which update the training failed and why; None if it did not.
            tested: the outcome of the test.
        """
        if (existing := self.record()) is not None:
            return existing
        updates = self["updates"]
        if failure:
            updates = failure["update"]
        elif keeper.stopped:
            updates = keeper.updates
        metrics: dict[str, dict[str, Any]] = {}
        arrays: dict[str, str] = {}  # the hash of each file of arrays
        way = None if self.benchmark.regression else self.way
        if tested.results is not None:
            metrics, reason = summarised(tested.results)
            if reason:
                failure = {"update": updates, "reason": reason}
            npz = self.record_path.with_suffix(".npz")
            arrays = {
                "results": write_results(npz, tested.results, way),
                "episodes": write_test_episodes(
                    self.workspace.results, self.data, self.benchmark.regression
                ),
            }
        calibration = self.calibration.as_json() if self.calibration else None
        weights = None if failure or self.weights_of else self._save_weights(calibration)
        other_files = [*keeper.other_files]
        unchecked = [*keeper.unchecked]
        for stage in self.staged:
            other_files += stage.get("other_files", [])
            if "unchecked" in stage:
                unchecked.append(f"stage {stage['name']}")
        record = {
            "schema": RUN_SCHEMA,
            "run": self.name,
            "status": "failed" if failure else "done",
            "learner": self.request.learner,
            "title": self.cls.title or self.request.learner,
            "variant": self.changed,
            "remark": self.learner.remark or None,
            "benchmark": self.request.benchmark,
            "way": way,
            "shot": self.request.shot,
            "terms": self.request.terms,
            "budget": self.request.budget,
            "seed": self.seed,
            **({"callbacks": [*self.workspace.callbacks]} if self.workspace.callbacks else {}),
            **({"version": version} if (version := version_of(self.cls)) != 1 else {}),
            **({"weights_of": self.weights_of} if self.weights_of else {}),
            **({"lowered": self.lowered} if self.lowered else {}),
            **({"trained_on": self.trained_on} if self.trained_on else {}),
            "settings": {name: s._asdict() for name, s in self.settings.items()},
            "backbone_family": self.family,
            "traits": {**self.learner.traits(), "batch_norm": self.learner.batch_norm},
            "parameters": self.learner.parameter_count(),
            "learned_parameters": self.learner.parameter_count(learned=True),
            "training_tasks": {"seen": updates * self["meta_batch"], "paper": self.paper_tasks},
            "updates": {"total": updates, "executed_by_this_process": keeper.executed},
            "validation": [(update, finite_or_none(value)) for update, value in keeper.curve],
            **(self._diverged(keeper, tested) if self.benchmark.regression else {}),
            **({"added_loss": added} if (added := added_loss(keeper)) else {}),
            "tested_update": keeper.best[0] if keeper.best else updates,
            "episodes": {
                "split": "test",
                "count": self["test_episodes"],
                "fingerprint": self.data.test_fingerprint(),
            },
            "metrics": metrics,
            **({"arrays": arrays} if arrays else {}),
            **({"calibration": calibration} if calibration else {}),
            "failure": failure,
            "weights": weights,
            "data": {"fingerprint": self.data.fingerprint(), "splits": self.identity["data"]},
            **(self._classes(tested) if self.benchmark.own else {}),
            "tasks_at_once": {"training": self.micro_batch, "evaluation": self.eval_batch},
            "test_passes_begun": tested.passes,
            "stages": self.staged,
            "seconds": {**keeper.spent, "test": round(tested.seconds, 2)},
            "busy": {"others": keeper.meter.others},
            "memory": {"updates": keeper.meter.peak},
            "environment": {
                **made_with,
                "threads": self.workspace.threads,
                "other_commits": [c for c in keeper.commits if c != code_of(made_with)],
                "other_machines": keeper.other_machines,
                **({"other_files": other_files} if other_files else {}),
                **({"unchecked": unchecked} if unchecked else {}),
                **({"plugins": self.plugins} if self.plugins else {}),
                **({} if made_with["dirty"] is False else {"learner_file": self.learner_file}),
            },
        }
        return write_record(self.record_path, record)

    def _save_weights(self, calibration: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Write the tested weights.

        Args:
            calibration: of these weights, as the record has it; None if it has none.

        Returns:
            What the record says of the weights, with the command that makes them again; None if
            the learner has none.
        """
        benchmark = self.benchmark
        about = {
            "run": self.name,
            "learner": self.request.learner,
            "title": self.title,
            "benchmark": self.request.benchmark,
            "settings": {name: setting.value for name, setting in self.settings.items()},
            "way": self.way,
            "image": list(benchmark.image),
            "mean": list(benchmark.mean),
            "std": list(benchmark.std),
            "data": self.data.fingerprint(),
            **({"calibration": calibration} if calibration else {}),
        }
        saved = save_weights(weights_path(self.record_path), self.learner, about)
        return None if saved is None else {**saved, "command": shlex.join(self.command)}

    @property
    def command(self) -> list[str]:
        """The words of the command that makes this run, with its settings in the brackets."""
        return replace(self.request, learner=self.title).command

    def _classes(self, tested: Tested) -> dict[str, Any]:
        """Parts of a record on a user's images: the classes of each split, and their results."""
        names = {split: list(store.names) for split, store in self.stores.items()}
        if tested.results is None:
            return {"classes": names}
        drawn = self.data.test_indices().classes
        pooled = pooled_predictions(tested.results["prediction"], drawn, names["test"])
        return {
            "classes": names,
            "accuracy_of_classes": accuracy_of_classes(pooled),
            "most_confused": most_confused(pooled)[CONFUSED].values.tolist(),
        }

    @staticmethod
    def _diverged(keeper: CheckpointKeeper, tested: Tested) -> dict[str, Any]:
        """Parts of a record of a regression: shares of diverged tasks, and validation medians.

        See `zoo.runs.divergence`. The validation curve is the mean over the other tasks.
        """
        medians = [
            None if median is None else finite_or_none(median)
            for median in keeper.tasks_validated("median")
        ]
        return {
            "validation_median": medians,
            "diverged": {
                "validation": keeper.tasks_validated("diverged"),
                "test": tested.diverged,
            },
        }


def count_in(path: Path) -> int:
    """The number of test passes begun that a file holds; 0 without a file, 1 if it is damaged."""
    try:
        count = int(path.read_text(encoding="utf-8"))
        if 0 <= count < 2**31:
            return count
    except FileNotFoundError:
        return 0
    except ValueError:
        pass
    print(
        f"  {path} is damaged: how often the test was begun is not known, it counts as once",
        file=sys.stderr,
    )
    return 1


def added_loss(keeper: CheckpointKeeper) -> list[dict[str, float | None]]:
    """At each validation the last logged comparison of an added loss's gradient with the host's.

    See `Learner.log_gradient_comparison`.

    Returns:
        Updates, the ratio of the norms, and the cosine; empty if the learner adds no loss.
    """
    return [
        {"updates": update, "ratio": finite_or_none(ratio), "cosine": finite_or_none(cosine)}
        for update, ratio, cosine in keeper.gradient_comparisons
    ]
