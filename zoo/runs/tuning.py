"""Trials of settings: each trains a run and is judged by its validation; none is tested.

Optuna proposes the settings, and stops trials that validate worse than the others did at the same
update. It keeps its state in a SQLite file, so that a stopped search can go on and several
processes can share it.
"""

import contextlib
import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytorch_lightning as pl

from zoo.datasets.episodes.image_store import Store
from zoo.errors import UsageError
from zoo.files import InUseError, locked
from zoo.runs.checkpoints import CheckpointKeeper, DivergedError
from zoo.runs.closed_split import ClosedSplit
from zoo.runs.environment import code_of, environment
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.tuning_space import Space, combinations_of
from zoo.runs.workspace import Workspace

if TYPE_CHECKING:
    import optuna

FIRST_WHOLE = 5  # trials that are never stopped, to compare the others with
# Kept with a trial.
NUMBER, SETTINGS, UPDATES, WHY, OPENED = "number", "settings", "updates", "why", "opened"
WHOLE, STOPPED, FAILED = "whole", "stopped", "failed"  # how a trial ended


class TrialStoppedError(Exception):
    """A trial validates worse than the others did, and is not trained further."""


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended.

    Args:
        value: its best validation, see `score`; None if it was stopped early or failed.
        updates: how many it made, if it was trained to its end.
        why: the reason if it failed, else "".
        opened: how often it tried to open the test split.
    """

    value: float | None = None
    updates: int | None = None
    why: str = ""
    opened: int = 0


class TrialRun(Run):
    """A run that is trained and validated for a trial, but never tested."""

    def __init__(
        self, request: RunRequest, workspace: Workspace, stores: Mapping[str, Store], trial: Any
    ) -> None:
        """Plan the run, with the test split closed.

        Args:
            request: the run with the settings of the trial.
            workspace: where to read, write and compute.
            stores: by split.
            trial: Optuna's, or one like it (`report`, `set_user_attr`, `should_prune`) that asks
                another machine; None for a run that is only planned.

        Raises:
            UsageError: it cannot be run with these settings.
        """
        self.closed = ClosedSplit(stores["test"])
        self.open_stores = stores
        open_to_trials: dict[str, Any] = {**stores, "test": self.closed}
        super().__init__(request, workspace, open_to_trials)
        self.trial = trial

    def validated(self, progress: bool) -> float:
        """Train the run, or go on with it; returns its best validation, see `score`.

        Raises:
            TrialStoppedError: it validates worse than the others did.
            DivergedError: its loss is not finite.
        """
        with self.at_work() as folder:
            keeper = self._keeper(folder, code_of(environment(self.workspace.device_kind)))
            self.keeper = keeper
            self.train(folder, keeper, progress)
            assert keeper.best is not None
            return score(keeper, keeper.best[0])

    def training_callbacks(self) -> list[pl.Callback]:
        """The callbacks that the command line asks for, and one that reports to the trial."""
        return [*super().training_callbacks(), ReportToTrial(self.keeper, self.trial)]


class ReportToTrial(pl.Callback):
    """Reports every validation to a trial, and stops the training if the trial says so."""

    def __init__(self, keeper: CheckpointKeeper, trial: Any) -> None:
        """Start with nothing reported.

        Args:
            keeper: has the validations.
            trial: Optuna's.
        """
        self.keeper, self.trial = keeper, trial
        self.reported = 0  # validations

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Report what was validated since the last update.

        Raises:
            TrialStoppedError: it is not worth going on.
        """
        for update, _ in self.keeper.curve[self.reported :]:
            self.reported += 1
            self.trial.report(score(self.keeper, update), update)
            self.trial.set_user_attr(UPDATES, update)
            if self.trial.should_prune():
                raise TrialStoppedError


def train_trial(make_run: Callable[[], TrialRun], progress: bool = False) -> TrialEnd:
    """Train a trial, and say how it ended.

    Args:
        make_run: returns its run; a UsageError of it makes the trial fail.
        progress: whether to show the progress of the training.

    Raises:
        InUseError: another process trains the same run.
    """
    run: TrialRun | None = None
    end = TrialEnd()
    try:
        run = make_run()
        value = run.validated(progress)
        if math.isfinite(value):
            end = TrialEnd(value=value, updates=run["updates"])
        else:
            end = TrialEnd(why=f"its validation is {value}")
    except TrialStoppedError:
        pass
    except InUseError:
        raise
    except (DivergedError, UsageError) as error:
        end = TrialEnd(why=str(error))
    return replace(end, opened=run.closed.opened) if run else end


def score(keeper: CheckpointKeeper, update: int) -> float:
    """The accuracy of a validation; in regression the median squared error over the tasks."""
    if keeper.regression:
        return keeper.of_tasks[update].median
    return dict(keeper.curve)[update]


class Search:
    """A search in a space of settings, whose trials are kept in a file."""

    def __init__(self, path: Path, space: Space, first: TrialRun) -> None:
        """Open the file, or create it.

        Args:
            path: of the SQLite file.
            space: the settings that are searched, with their values.
            first: the run with the settings that it has without a search.

        Raises:
            UsageError: Optuna is not installed, the run cannot be validated, or the file belongs
                to other data, code or settings.
        """
        try:
            import optuna
        except ImportError:
            raise UsageError(
                "zoo tune needs Optuna: python -m pip install 'meta-learning-zoo[tune]'"
            ) from None
        if not first["updates"] or not first["validations"] or "val" not in first.stores:
            raise UsageError(
                "zoo tune compares validations of trained runs: --updates and --validations must "
                "be at least 1, and there must be a split val"
            )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna, self.path, self.space, self.first = optuna, path, space, first
        self.before = {name: first[name] for name in space}
        self.combinations = combinations_of(space)
        self.folder = first.workspace.runs / path.stem  # for the locks of the processes
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.study = optuna.create_study(
                storage=f"sqlite:///{path}",
                study_name=path.stem,
                load_if_exists=True,
                direction="minimize" if first.benchmark.regression else "maximize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST_WHOLE),
            )
        except Exception as error:  # a damaged file may raise any error
            why = " ".join(str(error).split("\n")[0].split())
            raise UsageError(f"{path} cannot be used: {why}; delete it to begin anew") from None
        identity = self._identity()
        if self.study.user_attrs.setdefault("identity", identity) != identity:
            raise UsageError(f"{path} is of other data, settings or code; delete it to begin anew")
        self.study.set_user_attr("identity", identity)

    def _identity(self) -> str:
        """A hash of everything that the trials have in common."""
        identity = self.first.identity
        settings = identity["settings"].items()
        common = {name: value for name, value in settings if name not in self.space}
        text = json.dumps({**identity, "settings": common}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def run_of(self, trial: "optuna.Trial") -> TrialRun:
        """The run of a trial.

        Raises:
            UsageError: it cannot be run with these settings.
        """
        request = self.first.request
        flags = {**request.flags, **trial.user_attrs[SETTINGS]}
        return TrialRun(
            replace(request, flags=flags), self.first.workspace, self.first.open_stores, trial
        )

    @property
    def finished(self) -> "list[optuna.trial.FrozenTrial]":
        """The trials that came to an end: whole, stopped early or failed, but not interrupted."""
        states = self.optuna.trial.TrialState
        return [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state in (states.COMPLETE, states.PRUNED)
            or (trial.state == states.FAIL and WHY in trial.user_attrs)
        ]

    def take_up(self) -> None:
        """Put trials that were interrupted first in the queue, so that they go on.

        If nothing was tried yet, the settings without a search come first, if the space has them.
        """
        states = self.optuna.trial.TrialState
        trials = self.study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state == states.RUNNING:
                self.study.tell(trial.number, state=states.FAIL)
                if trial.params:
                    self.study.enqueue_trial(trial.params)
        if not trials and all(self.space[name].contains(v) for name, v in self.before.items()):
            self.study.enqueue_trial(self.before)

    def work(self, count: int, say: Callable[[str], None], progress: bool = False) -> None:
        """Make trials until there are `count`, together with other processes that do the same.

        Args:
            count: the number of trials in all.
            say: prints a line.
            progress: whether to show the progress of each training.
        """
        while (trial := self.next_trial(count)) is not None:
            say(self.label(trial, count) + self.settings_in_words(trial))
            run_of_trial = functools.partial(self.run_of, trial)
            self.tell(trial, train_trial(run_of_trial, progress), count, say)

    def next_trial(self, count: int) -> "optuna.Trial | None":
        """A new trial; None if there are as many as were asked for."""
        with locked(self.folder / "next", lambda holder: None):
            states = self.optuna.trial.TrialState
            under_way = self.study.get_trials(deepcopy=False, states=[states.RUNNING])
            others = [*self.finished, *under_way]
            if len(others) >= count:
                return None
            # The file does not hold the sampler's state; a new sampler must not repeat an old one.
            seed = self.first.seed + 1000 * len(self.study.get_trials(deepcopy=False))
            self.study.sampler = self.optuna.samplers.TPESampler(
                seed=seed, constant_liar=True, multivariate=False
            )
            return self._ask([trial.user_attrs.get(SETTINGS) for trial in others])

    def _ask(self, tried: Sequence[Any]) -> "optuna.Trial | None":
        """A trial with settings that no other has; None if all combinations of lists were tried.

        Optuna may propose the same values again. Such a trial is given up, and one with values that
        were not tried takes its place.

        Args:
            tried: the settings of the other trials.
        """
        left = [settings for settings in self.combinations or [] if settings not in tried]
        if self.combinations is not None and not left:
            return None
        trial, settings = self._proposed()
        if settings in tried and left:
            self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)
            self.study.enqueue_trial(left[trial.number % len(left)])
            trial, settings = self._proposed()
        trial.set_user_attr(SETTINGS, settings)
        trial.set_user_attr(NUMBER, len(tried) + 1)
        return trial

    def _proposed(self) -> "tuple[optuna.Trial, dict[str, Any]]":
        """A trial of Optuna's, and the settings that it proposes."""
        trial = self.study.ask()
        return trial, {name: values.suggest(name, trial) for name, values in self.space.items()}

    def tell(
        self, trial: "optuna.Trial", end: TrialEnd, count: int, say: Callable[[str], None]
    ) -> None:
        """Write how a trial ended into the file, and say it."""
        states = self.optuna.trial.TrialState
        label = self.label(trial, count)
        trial.set_user_attr(OPENED, end.opened)
        if end.why:
            trial.set_user_attr(WHY, end.why)
            self.study.tell(trial, state=states.FAIL)
            say(f"{label}failed: {end.why}")
        elif end.value is None:
            self.study.tell(trial, state=states.PRUNED)
            last = self.in_words(last_validation(self.study.trials[trial.number]))
            say(f"{label}stopped after update {trial.user_attrs[UPDATES]}: {last}")
        else:
            trial.set_user_attr(UPDATES, end.updates)
            self.study.tell(trial, end.value)
            say(f"{label}{self.in_words(end.value)}")

    def give_up(self, trial: "optuna.Trial") -> None:
        """Forget a trial that was interrupted; it does not count as finished."""
        self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)

    def label(self, trial: "optuna.Trial", count: int) -> str:
        """``[3/30] ``, what the lines of a trial begin with."""
        return f"[{trial.user_attrs[NUMBER]}/{count}] "

    def settings_in_words(self, trial: "optuna.Trial") -> str:
        """``outer_lr=0.01 inner_steps=3``."""
        return " ".join(f"{name}={value}" for name, value in trial.user_attrs[SETTINGS].items())

    def in_words(self, value: float) -> str:
        """A validation in words: ``93.10 %``, or in regression ``0.412``."""
        return f"{value:.3f}" if self.first.judged_by == "mse" else f"{100 * value:.2f} %"

    def best(self) -> "optuna.trial.FrozenTrial | None":
        """The whole trial that validated best; None if there is none."""
        with contextlib.suppress(ValueError):
            return self.study.best_trial
        return None

    def frame(self) -> pd.DataFrame:
        """The trials that came to an end, one a row.

        Columns: `trial`, a number from 1; `status`, which is whole, stopped or failed; `updates`
        made; `validation`, the best one of a whole trial and the last one of a stopped trial;
        `seconds`; `why` it failed; `opened`, how often it tried to open the test split; and the
        settings of the space.
        """
        states = self.optuna.trial.TrialState
        words = {states.COMPLETE: WHOLE, states.PRUNED: STOPPED, states.FAIL: FAILED}
        rows = []
        for trial in self.finished:
            value = trial.value
            if trial.state == states.PRUNED:
                value = last_validation(trial)
            rows.append(
                {
                    "trial": trial.user_attrs[NUMBER],
                    "status": words[trial.state],
                    "updates": trial.user_attrs.get(UPDATES),
                    "validation": value,
                    "seconds": trial.duration.total_seconds() if trial.duration else math.nan,
                    "why": trial.user_attrs.get(WHY),
                    "opened": trial.user_attrs.get(OPENED, 0),
                    **trial.user_attrs[SETTINGS],
                }
            )
        columns = ["trial", "status", "updates", "validation", "seconds", "why", "opened"]
        return pd.DataFrame(rows, columns=[*columns, *self.space])


def last_validation(trial: "optuna.trial.FrozenTrial") -> float:
    """The last validation of a trial that was stopped."""
    values = trial.intermediate_values
    return values[max(values)]
