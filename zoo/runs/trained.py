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

    @property
    def temperature(self) -> float | None:
        """What logits are divided by (see `zoo.runs.calibration`); None where it is not known."""
        calibration = self.about.get("calibration")
        return None if calibration is None else float(calibration["temperature"])


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
