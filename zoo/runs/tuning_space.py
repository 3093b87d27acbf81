"""Search spaces: ``outer_lr=1e-4..1e-2:log inner_steps=1,3,5``.

``name=a,b,c`` is a list of values, and ``name=low..high`` is every number between two. With
``:log`` after it, each order of magnitude is as likely as the others. The values have the type of
the learner's setting.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import UsageError
from zoo.runs.settings import parse_flags
from zoo.values import shown

if TYPE_CHECKING:
    from optuna.trial import Trial

LOG = "log"
SIGNIFICANT = 3  # significant digits of a number from a range, so that it can be read and typed


class Choices(NamedTuple):
    """A few values of a setting."""

    values: tuple[Any, ...]

    def suggest(self, name: str, trial: "Trial") -> Any:
        """The value that a trial takes."""
        return trial.suggest_categorical(name, self.values)

    def contains(self, value: Any) -> bool:
        """Whether a trial could take this value."""
        return value in self.values


class Range(NamedTuple):
    """All numbers from `low` to `high`; only whole ones if the setting is a whole number."""

    low: float
    high: float
    log: bool = False  # whether each order of magnitude is as likely as the others

    def suggest(self, name: str, trial: "Trial") -> Any:
        """The value that a trial takes, rounded to `SIGNIFICANT` digits."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return rounded(trial.suggest_float(name, self.low, self.high, log=self.log))

    def contains(self, value: Any) -> bool:
        """Whether a trial could take this value."""
        return is_number(value) and self.low <= value <= self.high


Space = Mapping[str, Choices | Range]


def is_number(value: Any) -> bool:
    """Whether a value is a number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def rounded(value: float) -> float:
    """A number with `SIGNIFICANT` significant digits."""
    return float(f"{value:.{SIGNIFICANT}g}")


def combinations_of(space: Space) -> list[dict[str, Any]] | None:
    """All combinations of the values of a space; None if it holds a range, which has too many."""
    if not all(isinstance(values, Choices) for values in space.values()):
        return None
    lists = [values.values for values in space.values() if isinstance(values, Choices)]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*lists)]


def parse_space(learner: type, text: str) -> dict[str, Choices | Range]:
    """Read a search space.

    Args:
        learner: the class that has the settings.
        text: settings with their values, separated by spaces.

    Raises:
        UsageError: a setting is unknown or is given twice, or it cannot have a value; the
            message names it.
    """
    space: dict[str, Choices | Range] = {}
    for word in text.split():
        name, equals, values = word.partition("=")
        if not equals or not values:
            raise UsageError(
                f"--space {shown(word)}: expected name=a,b,c or name=low..high, with :log behind a "
                "range of rates"
            )
        if name in space:
            raise UsageError(f"--space: {name} is given twice; leave one out")
        space[name] = _values(learner, name, values)
    if not space:
        raise UsageError("--space: expected settings, such as outer_lr=1e-4..1e-2:log")
    return space


def _values(learner: type, name: str, text: str) -> Choices | Range:
    """The values of one setting."""
    ends, colon, scale = text.partition(":")
    low, dots, high = ends.partition("..")
    if not dots:
        values = _typed(learner, name, text.split(","))
        if len({*map(repr, values)}) < len(values):
            raise UsageError(f"--space {name}={text}: a value is given twice; leave one out")
        return Choices(tuple(values))
    if colon and scale != LOG:
        raise UsageError(f"--space {name}={text}: expected :log behind a range, or nothing")
    first, last = _typed(learner, name, [low, high])
    if not (is_number(first) and is_number(last) and first < last):
        raise UsageError(f"--space {name}={text}: expected two numbers, the smaller one first")
    if colon and first <= 0:
        raise UsageError(f"--space {name}={text}: a :log range begins above 0")
    return Range(first, last, bool(colon))


def _typed(learner: type, name: str, texts: Sequence[str]) -> list[Any]:
    """Convert values to the type of the learner's setting."""
    return [parse_flags(learner, [f"--{name}", text])[name] for text in texts]


def best_is_at_an_end(space: Space, best: Mapping[str, Any]) -> list[str]:
    """Settings whose best value is the smallest or largest number of their range or list."""
    ends = []
    for name, allowed in space.items():
        numbers = allowed.values if isinstance(allowed, Choices) else (allowed.low, allowed.high)
        if len(numbers) > 1 and all(map(is_number, numbers)):
            low, high = min(numbers), max(numbers)
            margin = 0.0 if isinstance(allowed, Choices) else 10.0 ** (1 - SIGNIFICANT)
            if best[name] <= low * (1 + margin) or best[name] >= high * (1 - margin):
                ends.append(name)
    return ends
