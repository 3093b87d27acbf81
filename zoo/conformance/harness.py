"""What checks are made of: a maker of learners and episodes, and what a check may say."""

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
# In messages: behind an error, what was being done; behind all that, what to change in the file.
DONE, CHANGE = " What was done: ", " What to change: "
REGRESSION = (
    "if the learner is for classes alone, set `regression = False`; else let it take an "
    "`episode.support.y` of numbers, (T, n, outputs), which it can tell by `y.is_floating_point()`"
)


class BrokenError(AssertionError):
    """A check does not hold; the message says in a line what came out and what to change."""

    def __init__(self, found: str, change: str) -> None:
        """What was done, what was expected and what came out; and what to change in the file."""
        super().__init__(f"{found}.{CHANGE}{change}.")


class DoesNotApplyError(Exception):
    """A check of something that the learner does not promise."""


@contextlib.contextmanager
def doing(what: str, change: str = "") -> Iterator[None]:
    """An error inside this block is reported with what was being done, and what to change."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{what}{CHANGE}{change}" if change else what)
        raise


def described(batch: Episode) -> str:
    """A meta-batch in words, for messages."""
    (x, y), (asked, _), way = batch
    shape = f"support.x is {tuple(x.shape)}, query.x is {tuple(asked.shape)}"
    tasks = "1 task" if batch.tasks == 1 else f"{batch.tasks} tasks"
    if y.is_floating_point():
        return f"{tasks} of regression ({shape}, support.y is {tuple(y.shape)})"
    return f"{tasks}, {way}-way {shots_of(batch.support, way)}-shot ({shape})"


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
    x, y = (torch.randn(tasks, shot + query, n, generator=g) for n in (1, outputs))
    support, asked = Examples(x[:, :shot], y[:, :shot]), Examples(x[:, shot:], y[:, shot:])
    return Episode(support, asked, outputs)


@dataclass(frozen=True)
class Maker:
    """Makes a learner in one configuration, and episodes for it."""

    key: str
    options: Mapping[str, Any] = field(default_factory=dict)
    regression: bool = False
    backbone: str = BACKBONE  # of images
    image: tuple[int, ...] = IMAGE

    def __call__(self, way: int | None = None, seed: int = 0) -> Learner:
        """The learner with the weights of a seed; `way` is 5, in regression one output."""
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        net = build_backbone(*("mlp", (1,)) if self.regression else (self.backbone, self.image))
        ways = way or (1 if self.regression else 5)
        with doing(f"building it, `{self.cls.__name__}(backbone, {ways}, ...)`"):
            learner: Learner = self.cls(net, ways, **self.options)
        return learner

    @property
    def cls(self) -> type[Learner]:
        """Of the learner, as its options choose."""
        cls: type[Learner] = learners.get(self.key).as_asked(self.options)
        return cls

    def usable(self) -> None:
        """Raise what its constructor refuses in words; other errors are for the checks to tell."""
        try:
            self()
        except UsageError:
            raise
        except Exception:
            return

    def episode(self, way: int | None = None, seed: int = 0, **shape: int) -> Episode:
        """Episodes as `episode_of` has them, or as regression has them."""
        shape = {"shot": 2, "query": 3, "tasks": 4} | shape
        if self.regression:
            return points_of(way or 1, 5 * shape["shot"], 5 * shape["query"], shape["tasks"], seed)
        return episode_of(way or 5, **shape, image=self.image, seed=seed)

    def __str__(self) -> str:
        text = format_variant(self.key, dict(self.options))
        return f"{text} on regression" if self.regression else text


def makers(key: str, options: Mapping[str, Any] | None = None) -> Iterator[Maker]:
    """A learner as asked for, in every other batch-norm mode that it has, and on regression."""
    options = options or {}
    cls = Maker(key, options).cls
    yield Maker(key, options)
    others = []
    mode = constructor_defaults(cls).get("batch_norm")
    if mode is not None and "batch_norm" not in options:
        modes = [other for other in BATCH_NORM_MODES if other != mode.value]
        others += [Maker(key, {**options, "batch_norm": other}) for other in modes]
    if cls.regression:
        others.append(Maker(key, options, regression=True))
    for other in others:
        with contextlib.suppress(UsageError):  # not of its modes, or options of classes alone
            other.usable()
            yield other


class Check(NamedTuple):
    """Something that a learner must do."""

    title: str
    run: Callable[[Maker], None]

    def verdict(self, make: Maker) -> tuple[str, str]:
        """``holds``, ``fails`` or ``n/a``, and why; an error is told with what was being done."""
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
    own = inspect.getfile(make.cls)
    at = next((f for f in reversed(frames) if f.filename == own), frames[-1])
    text = " ".join(str(error).split())
    words = f"{type(error).__name__}: {text:.200} ({at.filename}:{at.lineno})."
    notes = [note.partition(CHANGE) for note in getattr(error, "__notes__", [])]
    if make.regression:
        notes.append(("this was on regression, with numbers for labels", CHANGE, REGRESSION))
    if notes:
        words += f"{DONE}{'; '.join(done for done, _, _ in notes)}."
    change = next((change for _, _, change in notes if change), "")
    return f"{words}{CHANGE}{change}." if change else words


CHECKS: list[Check] = []


def check(title: str) -> Callable[[Callable[[Maker], None]], Callable[[Maker], None]]:
    """Decorator that adds a check to the battery."""

    def add(run: Callable[[Maker], None]) -> Callable[[Maker], None]:
        CHECKS.append(Check(title, run))
        return run

    return add
