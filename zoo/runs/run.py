"""A run: trained, tested once, recorded; whatever was done before is not done again."""

import contextlib
import hashlib
import inspect
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
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
from zoo.processes import started_to_help
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
from zoo.runs.workspace import UNDER_WAY

RUN_SCHEMA = 1  # of the record
CONFUSED = ["class", "predicted", "times", "queries"]  # what it says of each pair of classes


class Tested(NamedTuple):
    """What a test gave."""

    results: Mapping[str, np.ndarray] | None = None  # see `summarised`; None: there was no test
    diverged: float | None = None  # share of tasks, in regression
    passes: int = 0  # test passes begun
    seconds: float = 0.0  # of this process


class Run(Plan):
    """A plan, and carrying it out."""

    staged: Sequence[dict[str, Any]] = ()  # what the record says of each stage
    calibration: Calibration | None = None
    weights_of: str | None = None  # the run whose weights it tests, where it trains none itself
    trained_on: Mapping[str, Any] | None = None  # of such weights, see `WeightsTest`
    unchecked: Sequence[str] = ()  # files without a checksum that `trained` believed

    @property
    def record_path(self) -> Path:
        """Where the finished record lies."""
        return self.workspace.results / f"{self.name}.json"

    @property
    def error_path(self) -> Path:
        """Where the traceback lies of a run that broke."""
        return self.folder / "error.txt"

    @property
    def folder(self) -> Path:
        """What is under way of it: below the runs, or where a campaign began it."""
        begun = self.workspace.results / UNDER_WAY / self.name
        return begun if begun.exists() else self.workspace.runs / self.name

    @cached_property
    def trajectory(self) -> str:
        """The same of runs that train alike, one longer than the other.

        Empty where the length matters from the first update on.
        """
        if self.learner.needs_length or not self["updates"]:
            return ""
        free = ("updates", "validations", "test_episodes")
        settings = {k: v for k, v in self.identity["settings"].items() if k not in free}
        every = updates_between(self["updates"], self["validations"])
        same = {**self.identity, "settings": settings, "budget": "", "every": every}
        return hashlib.blake2b(json.dumps(same, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def learner_file(self) -> dict[str, str]:
        """The file that its learner is in."""
        path = Path(inspect.getfile(self.cls))
        return plugin_of_file(path, path.read_bytes())._asdict()

    @property
    def sources(self) -> SourceFiles:
        """The files that define what is trained and on what."""
        return source_files([*self.learner.modules(), self.benchmark])

    def record(self) -> dict[str, Any] | None:
        """The finished record, if there is one.

        Raises:
            UsageError: the file is damaged, or the record of another run.
        """
        try:
            found = parse_record(self.record_path.read_bytes())
            row_of(found, self.record_path.stem)
            identity = identity_of_record(found, self.cls)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = f" ({' '.join(str(error).split())})" if isinstance(error, ValueError) else ""
            raise UsageError(
                f"{self.record_path} is not a whole record: delete it, and the run is made again"
                f"{why}"
            ) from None
        check_same_run(self.record_path, identity, self.identity)
        return found

    def execute(self, progress: bool = True) -> dict[str, Any]:
        """Train, test once and record; whatever was done before is not done again.

        Raises:
            UsageError: another process works on the same run.
        """
        if started_to_help():
            self.help_first_process()
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        self.workspace.results.mkdir(parents=True, exist_ok=True)
        with alone_in(folder), quiet():
            if (done := self.record()) is not None:
                return done
            torch.set_num_threads(self.workspace.threads)
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
            (folder / "test.npz").unlink(missing_ok=True)  # who deletes the record starts anew
            self._finish(folder, keeper, failed=tested.results is None)
            return record

    def help_first_process(self) -> NoReturn:
        """Compute this process's share of every batch; the first process records what comes out."""
        end_with_first_process()
        with quiet():
            torch.set_num_threads(self.workspace.threads)
            keeper = self._keeper(self.folder, None)
            with contextlib.suppress(DivergedError):
                self.train(self.folder, keeper, progress=False)
                self.test(self.folder, progress=False)
        raise SystemExit(0)

    def trained(self, progress: bool = True) -> Learner:
        """The learner as it was tested by `execute`; trained again where its weights are gone.

        Raises:
            UsageError: another process works on the same run, or its weights are damaged.
        """
        record = self.record() or {}
        kept, known = weights_path(self.record_path), record.get("weights")
        if known and kept.exists():
            load_weights(kept, self.learner, known["hash"], self.benchmark)
            return self.learner.cpu().eval()
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder), quiet():
            if not self._take_finished(folder):
                torch.set_num_threads(self.workspace.threads)
                keeper = self._keeper(folder, None)
                self.train(folder, keeper, progress)
                self._finish(folder, keeper)
        if known and not self._put_back(record):
            print(
                f"  {self.name}: trained again; its weights are not bit for bit those that were "
                f"tested, as on another machine, and stay in {self.folder}"
            )
        return self.learner.cpu().eval()

    def _take_finished(self, folder: Path) -> bool:
        """Load best.ckpt, if the training in this folder came to its end; whether it did."""
        path = folder / "best.ckpt"
        try:
            found = finished_weights(folder)
        except DamagedError as error:
            print(f"  {error}; the run is trained again", file=sys.stderr)
            return False
        if found is None:
            return False
        try:
            self.learner.load_state_dict(found.weights)
        except RuntimeError:
            print(
                f"  {path} has other weights than the learner now; trained again", file=sys.stderr
            )
            return False
        if not found.checked:
            print(f"  {path}: of earlier code, without a checksum: not checked", file=sys.stderr)
            self.unchecked = [path.name]
        return True

    def _put_back(self, record: Mapping[str, Any]) -> bool:
        """Put weights that were lost beside their record, if they are what it knows, bit for bit.

        Args:
            record: of this run, with weights.

        Returns:
            Whether they are.
        """
        made = self._save_weights(record.get("calibration"))
        same = made is None or made["hash"] == record["weights"]["hash"]
        if not same:
            weights_path(self.record_path).unlink()
        return same

    def _finish(self, folder: Path, keeper: CheckpointKeeper, failed: bool = False) -> None:
        """Note that the training came to its end; keep the last checkpoint for a longer run."""
        last = folder / "last.ckpt"
        if keeper.best_checksum is not None and not failed:
            noted = FinishedTraining(self.trajectory, self["updates"], keeper.best_checksum)
            note_finished(folder, noted)
            if last.exists() and self.trajectory:
                last.replace(folder / "end.ckpt")
        last.unlink(missing_ok=True)

    def _start(self, keeper: CheckpointKeeper) -> dict[str, Any] | None:
        """The checkpoint to go on from: this run's, or that of one that only was shorter."""
        learner, updates = self.learner, self["updates"]
        checkpoint = keeper.find_last(learner, updates)
        if checkpoint is not None or started_to_help():
            return checkpoint
        if keeper.trajectory and copy_shorter(self.workspace.runs, keeper, learner, updates):
            return keeper.find_last(learner, updates)
        return None

    def _keeper(self, folder: Path, commit: str | None) -> CheckpointKeeper:
        metric = self.judged_by
        return CheckpointKeeper(
            folder,
            f"val/{metric}",
            commit,
            regression=self.benchmark.regression,
            machine=self.machine,
            run=self.name[-2 * HASH_BYTES :],
            trajectory=self.trajectory,
            sources=self.sources,
        )

    @property
    def machine(self) -> dict[str, Any]:
        """What computes this run: its numbers follow from it by rounding.

        Those of a learner that draws random numbers on the way, as SNAIL's dropout does, also by
        what is drawn for how many tasks at once, and on which device.
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
        """Fit, from the last checkpoint if there is one; leave the best weights in the learner."""
        updates = self["updates"]
        if self.learner.train_stages is not None:
            self.staged = self.learner.train_stages(self.learner, progress)
            self.learner.stages_trained = True
        if updates == 0:
            return
        if not started_to_help():
            note_begun(folder)
        checkpoint = self._start(keeper)
        if checkpoint is not None:  # as it was begun, so that it ends as an undisturbed run
            self.learner.micro_batch = micro_batch_of(checkpoint) or self.micro_batch
            keeper.machine = self.machine
            load_keeper(keeper, checkpoint)
            if keeper.stopped:  # by a callback, which need not do so again
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
        self.data.served.batches = 0  # whatever was looked at before; a checkpoint says otherwise
        with interruptible():
            # Absolute: Lightning takes a name that begins with "http" for an address.
            start = None if checkpoint is None else (folder / "last.ckpt").absolute()
            trainer.fit(self.learner, self.data, ckpt_path=start)
        keeper.updates = trainer.global_step
        if trainer.global_step != updates and not self.workspace.callbacks:
            raise RuntimeError(f"{trainer.global_step} updates were made instead of {updates}")
        self.learner.load_state_dict(keeper.best_weights())

    def training_callbacks(self) -> list[pl.Callback]:
        """What watches the training besides the keeper of its checkpoints."""
        return [callback_of(text) for text in self.workspace.callbacks]

    def test(self, folder: Path, progress: bool) -> Tested:
        """Open the test split, once."""
        weights = tensors_hash(self.learner.state_dict())
        recorder = TestRecorder(
            folder, " ".join([self.name, weights, *self.sources.plugins.values()])
        )
        passes_path = folder / "test_passes_begun"
        passes = count_in(passes_path)
        left = len(recorder) < self["test_episodes"]
        room = folder / "test.room"  # for what it gives, so that a full disk does not lose that
        if left and not started_to_help():
            reserve(room, self._bytes_tested())
        if not len(recorder):  # else an interrupted pass goes on
            passes += 1
            if not started_to_help():
                write_text(passes_path, str(passes))
        started = time.monotonic()
        self.data.tested = len(recorder)
        if left:
            pl.seed_everything(self.seed, verbose=False)
            trainer = self._trainer(progress, logger=False, callbacks=[recorder])
            with interruptible():
                self._test_with(trainer, progress)
        if left and not started_to_help():
            room.unlink(missing_ok=True)
            recorder.save()  # whatever happens to the record, the test split was opened once
        seconds = time.monotonic() - started
        return Tested(recorder.results(), recorder.diverged(), passes, seconds)

    def _bytes_tested(self) -> int:
        """Bytes that the results of a test take at most."""
        numbers = self["query"] * self.way + 32  # predictions and metrics, of 8 bytes each
        return int(self["test_episodes"] * numbers * 8) + 2**16

    def _test_with(self, trainer: pl.Trainer, progress: bool) -> None:
        """On features where the learner allows it: the same but for rounding, and far faster."""
        if self.benchmark.regression or not self.learner.embeds_alone:
            trainer.test(self.learner, self.data, verbose=False)
            return
        device = self.workspace.device_kind
        with self.learner.embedded() as network:
            features = self.data.embedded(network.to(device), device, progress)
            trainer.test(self.learner, features, verbose=False)

    def calibrated(self) -> Calibration | None:
        """How far the tested weights' probabilities can be trusted; None of regression."""
        if self.benchmark.regression or self.weights_of:
            return None
        pl.seed_everything(self.seed, verbose=False)
        found = calibrate(self.learner.to(self.workspace.device_kind), self.data)
        self.learner.cpu()
        return found

    def _trainer(self, progress: bool, **options: Any) -> pl.Trainer:
        workspace = self.workspace
        return trainer_for(workspace.device_kind, progress, workspace.devices, **options)

    def _write(
        self,
        keeper: CheckpointKeeper,
        made_with: dict[str, Any],
        failure: dict[str, Any] | None,
        tested: Tested,
    ) -> dict[str, Any]:
        """Write the record: arrays and weights first, so that a JSON file always has its own.

        One that another process has written meanwhile stays, and is returned.
        """
        if (there := self.record()) is not None:
            return there
        updates = self["updates"]
        if failure:
            updates = failure["update"]
        elif keeper.stopped:
            updates = keeper.updates
        metrics: dict[str, dict[str, Any]] = {}
        arrays: dict[str, str] = {}  # hashes
        way = None if self.benchmark.regression else self.way
        if tested.results is not None:
            metrics, reason = summarised(tested.results)
            failure = {"update": updates, "reason": reason} if reason else failure
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
        other_files += [file for stage in self.staged for file in stage.get("other_files", [])]
        unchecked = [*keeper.unchecked]
        unchecked += [f"stage {stage['name']}" for stage in self.staged if "unchecked" in stage]
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
            "parameters": self.learner.size(),
            "learned_parameters": self.learner.size(learned=True),
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
        """Keep the tested weights; what the record says of them, and what makes them again.

        Args:
            calibration: of these weights, as the record has it; None if it has none.
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
        kept = save_weights(weights_path(self.record_path), self.learner, about)
        return None if kept is None else {**kept, "command": shlex.join(self.command)}

    @property
    def command(self) -> list[str]:
        """The words of the command that makes this run, its settings as options of the learner."""
        return replace(self.request, learner=self.title).command

    def _classes(self, tested: Tested) -> dict[str, Any]:
        """What a record of own images has besides: the classes of each split, and how each did."""
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
        """What a record of a regression has besides: shares of diverged tasks, and medians.

        See `zoo.runs.divergence`; the validation curve is the mean over the other tasks.
        """
        medians = keeper.tasks_validated("median")
        return {
            "validation_median": [m if m is None else finite_or_none(m) for m in medians],
            "diverged": {
                "validation": keeper.tasks_validated("diverged"),
                "test": tested.diverged,
            },
        }


def count_in(path: Path) -> int:
    """How many test passes were begun, as a file says; at least one where it is damaged."""
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
    """How the gradient of an added loss stood to its host's, at each validation.

    Returns:
        After so many updates the ratio of their norms and their cosine; empty where nothing is
        added to a host's loss.
    """
    return [
        {"updates": update, "ratio": finite_or_none(ratio), "cosine": finite_or_none(cosine)}
        for update, ratio, cosine in keeper.pulls
    ]
