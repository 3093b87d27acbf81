"""A trained learner, made again from the weights that its run kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zoo.learner import Learner
from zoo.runs.named_weights import find_weights


class Trained(NamedTuple):
    """A trained learner, the size of its images, and how its probabilities are read."""

    learner: Learner
    image: tuple[int, ...]  # (C, H, W)
    about: Mapping[str, Any]  # all that the weights' file says

    def calibration(self, alone: bool) -> Mapping[str, Any] | None:
        """What validation said of its probabilities, see `zoo.runs.calibration`; None: nothing.

        Args:
            alone: whether a transductive learner classifies one query at a time. Older weights do
                not know that; it is of whole episodes then.
        """
        known = self.about.get("calibration")
        return (known.get("alone") or known) if known and alone else known


def trained_learner(name: str | Path, results: str | Path = "results") -> Trained:
    """The learner of trained weights, in evaluation mode.

    Args:
        name: of the weights, see `find_weights`.
        results: folder of the records.

    Raises:
        UsageError: there are none, they are damaged, or do not fit their learner.
    """
    weights = find_weights(name, results)
    return Trained(weights.learner(), tuple(weights.about["image"]), weights.about)
