"""Loads a trained learner with what its file of weights says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zoo.learner import Learner
from zoo.runs.named_weights import find_weights


class Trained(NamedTuple):
    """A trained learner, the size of its images, and what its file says."""

    learner: Learner
    image: tuple[int, ...]  # (C, H, W)
    about: Mapping[str, Any]  # all that the file of weights says

    def calibration(self, alone: bool) -> Mapping[str, Any] | None:
        """How its probabilities are calibrated, see `zoo.runs.calibration`; None if they are not.

        Args:
            alone: whether a transductive learner classifies one query at a time. If the weights
                are too old to have a calibration for that, it is that of whole episodes.
        """
        calibration = self.about.get("calibration")
        if calibration and alone:
            return calibration.get("alone") or calibration
        return calibration


def trained_learner(name: str | Path, results: str | Path = "results") -> Trained:
    """Load the learner of trained weights, in evaluation mode.

    Args:
        name: of the weights, see `find_weights`.
        results: the folder of the records.

    Raises:
        UsageError: there are no such weights, or they are damaged or do not fit their learner.
    """
    weights = find_weights(name, results)
    return Trained(weights.learner(), tuple(weights.about["image"]), weights.about)
