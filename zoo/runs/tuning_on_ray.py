"""Let the machines of a Ray cluster make the trials of a search.

Each trial is one task of Ray, as a run of a table is (`zoo.runs.on_ray`). The search stays on the
machine that asks: it proposes settings, keeps the trials in its file, and decides after each
validation of a trial whether the trial goes on.
"""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.runs.on_ray import (
    Order,
    as_task,
    check_name,
    failure_in_words,
    order_of,
    ray_cluster,
    workspace_there,
)
from zoo.runs.tuning import UPDATES, Search, TrialEnd, TrialRun, train_trial

if TYPE_CHECKING:
    import optuna


class Mailbox:
    """Brings the validations of trials to the search, and its answers back. An actor of Ray."""

    def __init__(self) -> None:
        """Start empty."""
        self.validations: asyncio.Queue[tuple[int, int, float]] = asyncio.Queue()
        self.answers: dict[int, asyncio.Future[bool]] = {}

    async def report(self, number: int, update: int, value: float) -> bool:
        """For a trial: tell a validation, and wait for the answer.

        Args:
            number: Optuna's, of the trial.
            update: after which it was validated.
            value: what the validation gave, see `zoo.runs.tuning.score`.

        Returns:
            Whether the trial should stop.
        """
        answer = asyncio.get_running_loop().create_future()
        self.answers[number] = answer
        await self.validations.put((number, update, value))
        return await answer

    async def next_validation(self) -> tuple[int, int, float]:
        """For the search: wait for a validation; returns what `report` was given."""
        return await self.validations.get()

    async def answer(self, number: int, stop: bool) -> None:
        """For the search: answer the trial that has reported."""
        self.answers.pop(number).set_result(stop)


class TrialElsewhere:
    """Stands for Optuna's trial on the machine that trains it."""

    def __init__(self, ray: Any, mailbox: Any, number: int) -> None:
        """Start with nothing reported.

        Args:
            ray: the package.
            mailbox: a `Mailbox`.
            number: Optuna's, of the trial.
        """
        self.ray, self.mailbox, self.number = ray, mailbox, number
        self.stop = False

    def report(self, value: float, update: int) -> None:
        """Tell the search a validation."""
        self.stop = self.ray.get(self.mailbox.report.remote(self.number, update, value))

    def set_user_attr(self, name: str, value: Any) -> None:
        """Do nothing: the search notes the updates itself."""

    def should_prune(self) -> bool:
        """Whether the search has answered that the trial should stop."""
        return self.stop


def train_there(order: Order, mailbox: Any, number: int) -> TrialEnd:
    """On a machine of the cluster: train a trial, or go on with it if it was begun there.

    Args:
        order: its run.
        mailbox: a `Mailbox`.
        number: Optuna's, of the trial.

    Raises:
        UsageError: this machine has other code, versions or images.
    """
    import ray

    workspace = workspace_there(order)
    stores = workspace.open(find_benchmark(order.request.benchmark))
    run = TrialRun(order.request, workspace, stores, TrialElsewhere(ray, mailbox, number))
    check_name(run, order)
    end = train_trial(lambda: run)
    shutil.rmtree(workspace.results.parent, ignore_errors=True)
    shutil.rmtree(run.folder, ignore_errors=True)
    return end


def make_trials_on_ray(
    search: Search,
    count: int,
    at_once: int | None,
    threads: int,
    plugins: Sequence[Path],
    say: Callable[[str], None],
) -> None:
    """Let a cluster make trials until there are `count`.

    Args:
        search: has the settings and the trials.
        count: the number of trials in all.
        at_once: how many are under way at a time; None for as many as the cluster's CPUs, or its
            GPUs, can train.
        threads: CPU threads of each trial.
        plugins: files that register what the trials need.
        say: prints a line.

    Raises:
        UsageError: Ray is not installed or finds no cluster, or a machine could not make a trial;
            the trials that were under way came to their end first.
    """
    with ray_cluster() as ray:
        on_gpu = search.first.workspace.device_kind == "cuda"
        at_once = at_once or trials_at_once(ray.cluster_resources(), threads, on_gpu)
        trials = TrialsElsewhere(ray, search, count, threads, plugins, say)
        while True:
            trials.give_out(at_once)
            if not trials.under_way:
                break
            trials.wait()
        if trials.failure:
            raise UsageError(f"--on ray: a trial was not made: {trials.failure}")


class TrialsElsewhere:
    """The trials of a search that a cluster has under way."""

    def __init__(
        self,
        ray: Any,
        search: Search,
        count: int,
        threads: int,
        plugins: Sequence[Path],
        say: Callable[[str], None],
    ) -> None:
        """Start with none under way; the arguments are those of `make_trials_on_ray`."""
        self.ray, self.search, self.count, self.say = ray, search, count, say
        self.threads, self.plugins = threads, plugins
        # The mailbox lies on the machine that asks, so that it is there as long as the search.
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self.mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        self.next_validation = self.mailbox.next_validation.remote()
        on_gpu = search.first.workspace.device_kind == "cuda"
        self.task = as_task(ray, train_there, threads, on_gpu)
        self.under_way: dict[Any, optuna.Trial] = {}  # by the reference to the result
        self.failure = ""  # why a machine could not make a trial; then no more are given out

    def give_out(self, at_once: int) -> None:
        """Give out new trials until `at_once` are under way, or there are as many as asked for."""
        while not self.failure and len(self.under_way) < at_once:
            if (trial := self.search.next_trial(self.count)) is None:
                return
            label = self.search.label(trial, self.count)
            self.say(label + self.search.settings_in_words(trial))
            try:
                order = order_of(self.search.run_of(trial), self.threads, self.plugins)
            except UsageError as error:
                self.search.tell(trial, TrialEnd(why=str(error)), self.count, self.say)
            else:
                self.under_way[self.task.remote(order, self.mailbox, trial.number)] = trial

    def wait(self) -> None:
        """Wait until a trial is validated or comes to its end, and take note of it."""
        (ready,), _ = self.ray.wait([self.next_validation, *self.under_way])
        if ready == self.next_validation:
            number, update, value = self.ray.get(ready)
            self.next_validation = self.mailbox.next_validation.remote()
            trial = next(trial for trial in self.under_way.values() if trial.number == number)
            self.mailbox.answer.remote(number, should_stop(trial, update, value))
            return
        trial = self.under_way.pop(ready)
        try:
            end = self.ray.get(ready)
        except Exception as error:  # anything may have gone wrong on the machine
            self.failure = failure_in_words(error)
            self.search.give_up(trial)
            self.say(f"{self.search.label(trial, self.count)}was not made: {self.failure}")
        else:
            self.search.tell(trial, end, self.count, self.say)


def trials_at_once(resources: dict[str, float], threads: int, on_gpu: bool) -> int:
    """How many trials a cluster can train at a time.

    Args:
        resources: of the whole cluster, as Ray gives them.
        threads: CPU threads of each trial.
        on_gpu: whether each needs a GPU.
    """
    fit = int(resources.get("CPU", 1)) // threads
    if on_gpu:
        fit = min(fit, int(resources.get("GPU", 1)))
    return max(1, fit)


def should_stop(trial: "optuna.Trial", update: int, value: float) -> bool:
    """Report a validation to Optuna; returns whether the trial should stop.

    A trial whose machine died begins anew, and reports again what it has reported before. Optuna
    keeps the first.
    """
    reported = trial.study.trials[trial.number].intermediate_values
    if update not in reported:
        trial.report(value, update)
        trial.set_user_attr(UPDATES, update)
    return bool(trial.should_prune())
