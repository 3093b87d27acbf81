"""A trained learner, made again from the weights that its run kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from zoo.errors import UsageError
from zoo.learner import Learner
from zoo.registry import backbone_of, learners
from zoo.runs.settings import SHARED_SETTING_NAMES, constructor_defaults
from zoo.runs.weights import read_weights


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


def trained_learner(path: Path, backbone: nn.Module | None = None) -> Trained:
    """The learner of a weights file, in evaluation mode.

    Args:
        path: of the ``.safetensors`` beside a record.
        backbone: of the learner, where it was made with a network that no register knows.

    Raises:
        UsageError: the file is damaged, or does not fit its learner.
    """
    tensors, about = read_weights(path)
    settings = about["settings"]
    cls = learners.get(about["learner"]).as_asked(settings)
    names = {*constructor_defaults(cls)} - SHARED_SETTING_NAMES
    net = backbone or backbone_of(settings["backbone"], tuple(about["image"]))
    learner: Learner = cls(net, about["way"], **{name: settings[name] for name in names})
    try:
        learner.load_state_dict(tensors)
    except RuntimeError as error:
        raise UsageError(f"{path} does not fit its learner: {error}") from None
    learner.prepared = True
    learner.outer_decay = settings.get("outer_decay", "paper")
    if about["mean"]:  # a regression has none
        learner.normalise_by(about["mean"], about["std"])
    return Trained(learner.eval(), tuple(about["image"]), about)


def weights_named(name: str | Path, results: str | Path) -> Path:
    """The weights file of a run, by the run's name or by its own path.

    Raises:
        UsageError: there is none.
    """
    for path in (Path(name), Path(results) / f"{name}.safetensors"):
        if path.is_file():
            return path
    raise UsageError(
        f"{name}: no such file, and no run of this name with weights in {results}; expected a "
        "run's name, or the path of a .safetensors file"
    )
