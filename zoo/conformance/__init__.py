"""The conformance battery: what every learner must do, whatever its paper.

A check takes a `Maker` and builds the learner as often as it needs. It raises `BrokenError` if the
learner breaks a promise, and `DoesNotApplyError` if the learner does not make it.
`python -m zoo check` and tests/conformance/test_every_learner.py run all checks.
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
