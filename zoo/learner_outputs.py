"""What a learner returns is checked: a wrong shape or range would be a wrong number in a table."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from zoo.episode import Episode
from zoo.errors import UsageError

ROUNDING = 1e-6  # what an accuracy may be beyond 1


def check_predictions(learner: Any, found: Any, episode: Episode) -> Tensor:
    """What `forward` returned: logits (T, N*Q, N), in regression predictions of y's shape.

    Raises:
        UsageError: of another shape.
    """
    y = episode.query.y
    if y.is_floating_point():
        _check_shape(learner, "forward", "predictions", found, tuple(y.shape))
    else:
        _check_shape(learner, "forward", "logits", found, (*y.shape, episode.way))
    return found


def check_evaluation(
    learner: Any, found: Any, episode: Episode, judged_by: str
) -> tuple[dict[str, Tensor], Tensor]:
    """What `evaluate` returned: metrics {name: (T,)}, and predictions of the shape of y.

    Args:
        learner: whose.
        found: what was returned.
        episode: that it was given.
        judged_by: a metric that must be among them.

    Raises:
        UsageError: of another shape, or without that metric.
    """
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Mapping)):
        raise UsageError(
            f"{_method(learner, 'evaluate')} returned a {type(found).__name__}, expected a pair: "
            "metrics by name, and the predictions"
        )
    metrics, prediction = found
    if judged_by not in metrics:
        raise UsageError(
            f"{_method(learner, 'evaluate')} returned {', '.join(metrics) or 'no metrics'}, "
            f"expected {judged_by} among them"
        )
    for name, value in metrics.items():
        _check_shape(learner, "evaluate", name, value, (episode.tasks,))
    _check_shape(learner, "evaluate", "predictions", prediction, tuple(episode.query.y.shape))
    return dict(metrics), prediction


def check_values(learner: Any, outputs: Mapping[str, np.ndarray], way: int | None) -> None:
    """Accuracies in [0, 1], and predictions that are labels.

    Args:
        learner: whose.
        outputs: metrics of episodes, (T,), and ``prediction``, or some of them.
        way: N; None in regression.

    Raises:
        UsageError: others.
    """
    for name, values in outputs.items():
        if name.startswith("accuracy"):
            wrong = values[(values < 0) | (values > 1 + ROUNDING)]
            if wrong.size:
                raise UsageError(
                    f"{_method(learner, 'evaluate')} returned {name} {wrong.flat[0]:.4g}, expected "
                    "a share in [0, 1]"
                )
    if way is not None and "prediction" in outputs:
        labels = outputs["prediction"]
        wrong = labels[(labels < 0) | (labels >= way) | (labels % 1 != 0)]
        if wrong.size:
            raise UsageError(
                f"{_method(learner, 'evaluate')} predicted {wrong.flat[0]:g}, expected labels from "
                f"0 to {way - 1}"
            )


def _check_shape(
    learner: Any, method: str, what: str, found: Any, expected: tuple[int, ...]
) -> None:
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if shape != expected:
        raise UsageError(
            f"{_method(learner, method)} returned {what} of shape {shape}, expected {expected}"
        )


def _method(learner: Any, name: str) -> str:
    """A learner's method, and the file that has it."""
    cls = type(learner)
    owner = next((each for each in cls.__mro__ if name in vars(each)), cls)
    file = getattr(sys.modules.get(owner.__module__), "__file__", None) or "its code"
    key = vars(cls).get("registered_as") or cls.__name__
    return f"{key}: `{name}` in {file}"
