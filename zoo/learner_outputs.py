"""Check what a learner returns: a wrong shape or range would become a wrong number in a table."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from zoo.episode import Episode
from zoo.errors import UsageError

ROUNDING = 1e-6  # by which an accuracy may exceed 1


def check_predictions(learner: Any, returned: Any, episode: Episode) -> Tensor:
    """Return what `forward` returned if it has the right shape.

    Args:
        learner: whose `forward` it was.
        returned: must be logits (T, N*Q, N); in regression predictions of y's shape.
        episode: that `forward` was given.

    Raises:
        UsageError: it has another shape, or is no tensor.
    """
    y = episode.query.y
    if y.is_floating_point():
        _check_shape(learner, "forward", "predictions", returned, tuple(y.shape))
    else:
        _check_shape(learner, "forward", "logits", returned, (*y.shape, episode.way))
    return returned


def check_evaluation(
    learner: Any, returned: Any, episode: Episode, judged_by: str
) -> tuple[dict[str, Tensor], Tensor]:
    """Return what `evaluate` returned if it has the right parts and shapes.

    Args:
        learner: whose `evaluate` it was.
        returned: must be metrics {name: (T,)}, and predictions of y's shape.
        episode: that `evaluate` was given.
        judged_by: a metric that must be among them.

    Raises:
        UsageError: it is something else, has another shape, or lacks that metric.
    """
    is_pair = isinstance(returned, tuple) and len(returned) == 2
    if not (is_pair and isinstance(returned[0], Mapping)):
        raise UsageError(
            f"{_method(learner, 'evaluate')} returned a {type(returned).__name__}, expected a "
            "pair: metrics by name, and the predictions"
        )
    metrics, prediction = returned
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
    """Check that accuracies lie in [0, 1] and that predictions are labels.

    Args:
        learner: that gave them.
        outputs: metrics of episodes, (T,), and ``prediction``; some may be missing.
        way: N; None in regression.

    Raises:
        UsageError: they do not; names the first wrong value.
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
    learner: Any, method: str, what: str, returned: Any, expected: tuple[int, ...]
) -> None:
    shape = tuple(returned.shape) if isinstance(returned, Tensor) else type(returned).__name__
    if shape != expected:
        raise UsageError(
            f"{_method(learner, method)} returned {what} of shape {shape}, expected {expected}"
        )


def _method(learner: Any, name: str) -> str:
    """A learner's method in words for a message, with the file that defines it."""
    cls = type(learner)
    owner = next((each for each in cls.__mro__ if name in vars(each)), cls)
    file = getattr(sys.modules.get(owner.__module__), "__file__", None) or "its code"
    key = vars(cls).get("registered_as") or cls.__name__
    return f"{key}: `{name}` in {file}"
