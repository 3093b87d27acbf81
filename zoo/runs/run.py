"""A run: trained, tested once, recorded; whatever was done before is not done again."""

import contextlib
import hashlib
import inspect
import json
import shlex
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
from zoo.files import alone_in, reserve, write_bytes, write_text
from zoo.learner import Learner
from zoo.plugin_files import plugin_of_file
from zoo.processes import started_to_help
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
from zoo.runs.identity import check_same_run, identity_of_record, version_of
from zoo.runs.loggers_and_callbacks import callback_of, logger_of
from zoo.runs.plan import Plan
from zoo.runs.record import (
    accuracy_of_classes,
    finite_or_none,
    summarised,
    write_record,
    write_results,
    write_test_episodes,
)
from zoo.runs.trainer import trainer_for, training_options, updates_between
from zoo.runs.weights import load_weights, save_weights, weights_path
from zoo.runs.workspace import UNDER_WAY

RUN_SCHEMA = 1  # of the record


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

    def record(self) -> dict[str, Any] | None:
        """The finished record, if there is one.

        Raises:
            UsageError: the file is damaged, or the record of another run.
        """
        try:
            found = json.loads(self.record_path.read_text())
            identity = identity_of_record(found, self.cls)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(
                f"{self.record_path} is not a whole record: delete it, and the run is made again"
            ) from None
        check_same_run(self.record_path, identity, self.identity)
        return dict(found)

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
                failure = {"update": error.update, "reason": error.reason}
                record = self._write(keeper, made_with, failure, Tested())
            else:
                self.calibration = self.calibrated()
                record = self._write(keeper, made_with, None, tested)
            (folder / "test.npz").unlink(missing_ok=True)  # who deletes the record starts anew
            self._finish(folder)
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
        kept, known = weights_path(self.record_path), (self.record() or {}).get("weights")
        if known and kept.exists():
            load_weights(kept, self.learner, known["hash"], self.benchmark)
            return self.learner.cpu().eval()
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        best, last = folder / "best.ckpt", folder / "last.ckpt"
        with alone_in(folder), quiet():
            if best.exists() and not last.exists():
                self.learner.load_state_dict(torch.load(best, weights_only=True))
            else:  # the record came from elsewhere, or this was interrupted
                torch.set_num_threads(self.workspace.threads)
                self.train(folder, self._keeper(folder, None), progress)
                self._finish(folder)
        if known:
            self._keep_again(kept, known["hash"])
        return self.learner.cpu().eval()

    def _keep_again(self, path: Path, known: str) -> None:
        """Put weights that were lost back beside their record, if they are the same bit for bit."""
        made = self._save_weights()
        if made is not None and made["hash"] != known:
            path.unlink()
            print(
                f"  {self.name}: trained again; its weights are not bit for bit those that were "
                f"tested, as on another machine, and stay in {self.folder}"
            )

    def _finish(self, folder: Path) -> None:
        """Keep the last checkpoint for a longer run; nothing is under way any more."""
        last = folder / "last.ckpt"
        if last.exists() and self.trajectory:
            write_text(folder / "trajectory", f"{self.trajectory} {self['updates']}")
            last.replace(folder / "end.ckpt")
        last.unlink(missing_ok=True)

    def _start(self, folder: Path) -> Path | None:
        """The checkpoint to go on from: this run's, or that of one that only was shorter."""
        last = folder / "last.ckpt"
        if last.exists():
            return last
        shorter = {}
        for path in self.workspace.runs.glob("*/trajectory"):
            trajectory, updates = path.read_text().split()
            whole = path.with_name("end.ckpt").exists()
            if whole and trajectory == self.trajectory and int(updates) < self["updates"]:
                shorter[int(updates)] = path.parent
        if not shorter:
            return None
        for name, copy in (("best.ckpt", "best.ckpt"), ("end.ckpt", "last.ckpt")):
            content = (shorter[max(shorter)] / name).read_bytes()
            write_bytes(folder / copy, content)
        return last

    def _keeper(self, folder: Path, commit: str | None) -> CheckpointKeeper:
        metric = self.judged_by
        return CheckpointKeeper(
            folder,
            f"val/{metric}",
            commit,
            regression=self.benchmark.regression,
            machine=self.machine,
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
        start = self._start(folder)
        if start is not None:  # as it was begun, so that it ends as an undisturbed run
            checkpoint = torch.load(start, "cpu", weights_only=False)
            self.learner.micro_batch = micro_batch_of(checkpoint) or self.micro_batch
            keeper.machine = self.machine
            load_keeper(keeper, checkpoint)
            if keeper.stopped:  # by a callback, which need not do so again
                self._load_best(folder)
                return
        options = training_options(
            keeper,
            updates,
            self["validations"],
            logger_of(self.workspace.logger, folder, self.name, keeper.updates),
            callbacks=[callback_of(text) for text in self.workspace.callbacks],
        )
        trainer = self._trainer(progress, **options)
        pl.seed_everything(self.seed, verbose=False)
        self.data.served.batches = 0  # whatever was looked at before; a checkpoint says otherwise
        with interruptible():
            # Absolute: Lightning takes a name that begins with "http" for an address.
            trainer.fit(self.learner, self.data, ckpt_path=start and start.absolute())
        keeper.updates = trainer.global_step
        if trainer.global_step != updates and not self.workspace.callbacks:
            raise RuntimeError(f"{trainer.global_step} updates were made instead of {updates}")
        self._load_best(folder)

    def _load_best(self, folder: Path) -> None:
        """The weights that validated best."""
        self.learner.load_state_dict(torch.load(folder / "best.ckpt", weights_only=True))

    def test(self, folder: Path, progress: bool) -> Tested:
        """Open the test split, once."""
        recorder = TestRecorder(folder)
        passes_path = folder / "test_passes_begun"
        passes = int(passes_path.read_text()) if passes_path.exists() else 0
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
        way = None if self.benchmark.regression else self.way
        if tested.results is not None:
            metrics, reason = summarised(tested.results)
            failure = {"update": updates, "reason": reason} if reason else failure
            write_results(self.record_path.with_suffix(".npz"), tested.results, way)
            write_test_episodes(self.workspace.results, self.data, self.benchmark.regression)
        weights = None if failure or self.weights_of else self._save_weights()
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
            **({"calibration": self.calibration.as_json()} if self.calibration else {}),
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
                **({"plugins": self.plugins} if self.plugins else {}),
                **({} if made_with["dirty"] is False else {"learner_file": self.learner_file}),
            },
        }
        return write_record(self.record_path, record)

    def _save_weights(self) -> dict[str, Any] | None:
        """Keep the tested weights; what the record says of them, and what makes them again."""
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
            **({"calibration": self.calibration.as_json()} if self.calibration else {}),
        }
        kept = save_weights(weights_path(self.record_path), self.learner, about)
        command = shlex.join(replace(self.request, learner=self.title).command)
        return None if kept is None else {**kept, "command": command}

    def _classes(self, tested: Tested) -> dict[str, Any]:
        """What a record of own images has besides: the classes of each split, and how each did."""
        names = {split: list(store.names) for split, store in self.stores.items()}
        if tested.results is None:
            return {"classes": names}
        drawn = self.data.test_indices().classes
        right = accuracy_of_classes(tested.results["prediction"], drawn, names["test"])
        return {"classes": names, "accuracy_of_classes": right}

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
