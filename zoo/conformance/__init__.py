"""The conformance battery: what every learner must do, whatever its paper.

A check takes a `Maker`, builds the learner as often as it needs, and raises `BrokenError` where
something does not hold, or `DoesNotApplyError` where nothing is promised. `python -m zoo check` and
tests/conformance/test_every_learner.py hold learners to all of them.
"""

from zoo.conformance import checks  # noqa: F401  (fills the list)
from zoo.conformance.harness import (
    CHECKS,
    BrokenError,
    Check,
    DoesNotApplyError,
    Maker,
    check,
    episode_of,
    makers,
)

__all__ = [
    "CHECKS",
    "BrokenError",
    "Check",
    "DoesNotApplyError",
    "Maker",
    "check",
    "episode_of",
    "makers",
]
