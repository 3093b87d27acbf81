"""What checks use: a maker of learners and episodes, and the errors that a check may raise."""

import contextlib
import inspect
import random
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from zoo.batch_norm import BATCH_NORM_MODES
from zoo.episode import Episode, Examples, shots_of
from zoo.errors import UsageError
from zoo.learner import Learner
from zoo.networks.backbone import build_backbone
from zoo.registry import learners
from zoo.runs.settings import constructor_defaults
from zoo.variants import format_variant

IMAGE = (1, 20, 20)
BACKBONE = "conv4_strided[channels=8]"
# A message has the error, then what was being done, then what to change in the file.
DONE = " What was done: "
CHANGE = " What to change: "
REGRESSION = (
    "if the learner is for classes alone, set `regression = False`; else let it take an "
    "`episode.support.y` of numbers, (T, n, outputs), which it can tell by `y.is_floating_point()`"
)


class BrokenError(AssertionError):
    """The learner breaks a promise; the message says in one line how, and what to change."""

    def __init__(self, problem: str, change: str) -> None:
        """Make the message.

        Args:
            problem: what was done, what was expected and what came out.
            change: what to change in the file.
        """
        super().__init__(f"{problem}.{CHANGE}{change}.")


class DoesNotApplyError(Exception):
    """The learner does not promise what the check is about."""


@contextlib.contextmanager
def doing(what: str, change: str = "") -> Iterator[None]:
    """Add what is being done here, and what to change, to the report of an error in this block."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{what}{CHANGE}{change}" if change else what)
        raise


def described(batch: Episode) -> str:
    """A meta-batch in words, for messages."""
    support, query, way = batch
    shapes = f"support.x is {tuple(support.x.shape)}, query.x is {tuple(query.x.shape)}"
    tasks = "1 task" if batch.tasks == 1 else f"{batch.tasks} tasks"
    if support.y.is_floating_point():
        return f"{tasks} of regression ({shapes}, support.y is {tuple(support.y.shape)})"
    return f"{tasks}, {way}-way {shots_of(support, way)}-shot ({shapes})"


def episode_of(
    way: int = 5,
    shot: int = 2,
    query: int = 3,
    tasks: int = 4,
    image: tuple[int, ...] = (1, 28, 28),
    seed: int = 0,
) -> Episode:
    """A meta-batch of random float images; the support in random order."""
    g = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(way * shot, generator=g) for _ in range(tasks)])
    support = torch.randn(tasks, way * shot, *image, generator=g)
    queries = torch.randn(tasks, way * query, *image, generator=g)
    labels = torch.arange(way).repeat_interleave(query).expand(tasks, -1)
    return Episode(Examples(support, order // shot), Examples(queries, labels), way)


def points_of(outputs: int, shot: int, query: int, tasks: int, seed: int) -> Episode:
    """A meta-batch of regression: random points."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(tasks, shot + query, 1, generator=g)
    y = torch.randn(tasks, shot + query, outputs, generator=g)
    support = Examples(x[:, :shot], y[:, :shot])
    return Episode(support, Examples(x[:, shot:], y[:, shot:]), outputs)


@dataclass(frozen=True)
class Maker:
    """Makes a learner in one configuration, and episodes for it."""

    key: str
    options: Mapping[str, Any] = field(default_factory=dict)
    regression: bool = False
    backbone: str = BACKBONE  # of images
    image: tuple[int, ...] = IMAGE

    def __call__(self, way: int | None = None, seed: int = 0) -> Learner:
        """A learner with the weights of a seed; by default 5 ways, in regression 1 output."""
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        if self.regression:
            net = build_backbone("mlp", (1,))
            way = way or 1
        else:
            net = build_backbone(self.backbone, self.image)
            way = way or 5
        with doing(f"building it, `{self.cls.__name__}(backbone, {way}, ...)`"):
            learner: Learner = self.cls(net, way, **self.options)
        return learner

    @property
    def cls(self) -> type[Learner]:
        """The class that key and options name."""
        cls: type[Learner] = learners.get(self.key).class_for(self.options)
        return cls

    def usable(self) -> None:
        """Build the learner to see whether its settings are refused.

        Other errors than a UsageError are left to the checks, which report them.
        """
        try:
            self()
        except UsageError:
            raise
        except Exception:
            return

    def episode(self, way: int | None = None, seed: int = 0, **shape: int) -> Episode:
        """A meta-batch as `episode_of` makes it, or one of regression."""
        shape = {"shot": 2, "query": 3, "tasks": 4} | shape
        if self.regression:
            return points_of(way or 1, 5 * shape["shot"], 5 * shape["query"], shape["tasks"], seed)
        return episode_of(way or 5, **shape, image=self.image, seed=seed)

    def __str__(self) -> str:
        text = format_variant(self.key, dict(self.options))
        return f"{text} on regression" if self.regression else text


def makers(key: str, options: Mapping[str, Any] | None = None) -> Iterator[Maker]:
    """The learner with these options; also in its other batch-norm modes, and on regression."""
    options = options or {}
    cls = Maker(key, options).cls
    yield Maker(key, options)
    others = []
    default = constructor_defaults(cls).get("batch_norm")
    if default is not None and "batch_norm" not in options:
        modes = [mode for mode in BATCH_NORM_MODES if mode != default.value]
        others += [Maker(key, {**options, "batch_norm": mode}) for mode in modes]
    if cls.regression:
        others.append(Maker(key, options, regression=True))
    for other in others:
        with contextlib.suppress(UsageError):  # the learner has no such mode, or no such regression
            other.usable()
            yield other


class Check(NamedTuple):
    """Something that a learner must do."""

    title: str
    run: Callable[[Maker], None]

    def verdict(self, make: Maker) -> tuple[str, str]:
        """``holds``, ``fails`` or ``n/a``, and why."""
        try:
            self.run(make)
        except DoesNotApplyError as error:
            return "n/a", str(error)
        except BrokenError as error:
            return "fails", str(error)
        except Exception as error:
            return "fails", in_words(error, make)
        return "holds", ""


def in_words(error: Exception, make: Maker) -> str:
    """An error with the line of the learner's file, what was being done, and what to change."""
    frames = traceback.extract_tb(error.__traceback__)
    learner_file = inspect.getfile(make.cls)
    innermost = next((f for f in reversed(frames) if f.filename == learner_file), frames[-1])
    text = " ".join(str(error).split())
    message = f"{type(error).__name__}: {text:.200} ({innermost.filename}:{innermost.lineno})."
    done, changes = [], []
    for note in getattr(error, "__notes__", []):  # as `doing` adds them
        what, _, change = note.partition(CHANGE)
        done.append(what)
        if change:
            changes.append(change)
    if make.regression:
        done.append("this was on regression, with numbers for labels")
        changes.append(REGRESSION)
    if done:
        message += f"{DONE}{'; '.join(done)}."
    if changes:
        message += f"{CHANGE}{changes[0]}."
    return message


CHECKS: list[Check] = []


def check(title: str) -> Callable[[Callable[[Maker], None]], Callable[[Maker], None]]:
    """Decorator that adds a check to the battery."""

    def add(run: Callable[[Maker], None]) -> Callable[[Maker], None]:
        CHECKS.append(Check(title, run))
        return run

    return add
