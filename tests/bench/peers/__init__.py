"""The contestants: a file each, every one computing the same meta-gradient in its own way.

A contestant says what it is called, what pip installs into its environment, and what it offers,
and `prepare` returns the step that is checked and timed::

    TITLE = "learn2learn"
    INSTALL = (("torch", "numpy"), ("--no-deps", "higher==0.2.1"))  # one pip call each
    ORDERS = ("second", "first")

    def prepare(problem: Problem, order: str) -> Callable[[], dict[str, Any]]: ...

``order`` is ``second`` or ``first``, the step then returns the gradient of the mean query loss
by parameter name; or ``test``: it returns the adapted network's query logits, without a graph to
the weights that it started from. A contestant that needs nothing runs in the zoo's environment.
The library itself is imported inside `prepare`: the bench reads the rest without it.
"""

from typing import Any, NamedTuple

NAMES = (
    "plain",
    "learn2learn",
    "higher",
    "torchopt",
    "torchmeta",
    "jax_",
    "compiled",
    "ours",
    "ours_low",
)


class Problem(NamedTuple):
    """Weights, tasks and how to adapt: numpy arrays, in the number type to compute with.

    ``weights`` go by the names ``conv0.weight`` (O, I, 3, 3), ``norm0.weight``, ``norm0.bias``
    and so on to block 3, ``head.weight`` (N, D) and ``head.bias``.
    """

    weights: dict[str, Any]
    support_x: Any  # (T, n, *image)
    support_y: Any  # (T, n) int64
    query_x: Any
    query_y: Any
    steps: int
    lr: float

    @property
    def tasks(self) -> int:
        """T, the number of tasks."""
        return len(self.support_x)
