"""JAX 0.10.2: the same step as a jitted function, one task a call.

It installs as it is. Images are NHWC, kernels HWIO, and pooling is a reshape and a maximum: the
fastest of five variants tried, with NCHW and `reduce_window`. Compilation is left out of the
time: it falls into the warm-up. JAX has no setting for the number of threads: the process is
bound to as many cores.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.bench.peers import Problem

TITLE = "JAX, jitted"
INSTALL = (("numpy", "jax==0.10.2", "jaxlib==0.10.2"),)
ORDERS = ("second", "first")
EPS = 1e-5


def bind_to_cores(threads: int) -> None:
    """Let this process use that many cores: before JAX starts its threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def prepare(problem: Problem, order: str) -> Callable[[], dict[str, Any]]:
    """One task's graph at a time."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    jax.config.update("jax_enable_x64", problem.support_x.dtype == np.float64)

    def network(theta: dict[str, Any], x: Any) -> Any:
        for block in range(4):
            x = lax.conv_general_dilated(
                x,
                theta[f"conv{block}.weight"],
                (1, 1),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            x = (x - x.mean((0, 1, 2))) * lax.rsqrt(x.var((0, 1, 2)) + EPS)
            x = x * theta[f"norm{block}.weight"] + theta[f"norm{block}.bias"]
            x = jax.nn.relu(x)
            n, h, w, c = x.shape
            x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
        flat = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        return flat @ theta["head.weight"].T + theta["head.bias"]

    def loss_of(theta: dict[str, Any], x: Any, y: Any) -> Any:
        return -jnp.take_along_axis(
            jax.nn.log_softmax(network(theta, x)), y[:, None], axis=1
        ).mean()

    def meta_loss(theta: dict[str, Any], x: Any, y: Any, query_x: Any, query_y: Any) -> Any:
        for _ in range(problem.steps):
            grads = jax.grad(loss_of)(theta, x, y)
            if order == "first":
                grads = lax.stop_gradient(grads)
            theta = jax.tree.map(lambda p, g: p - problem.lr * g, theta, grads)
        return loss_of(theta, query_x, query_y) / problem.tasks

    def turn(tree: dict[str, Any], axes: tuple[int, ...]) -> dict[str, Any]:
        return {n: a.transpose(axes) if a.ndim == 4 else a for n, a in tree.items()}

    gradient_of = jax.jit(jax.grad(meta_loss))
    add = jax.jit(lambda a, b: jax.tree.map(jnp.add, a, b))
    start = jax.tree.map(jnp.asarray, turn(problem.weights, (2, 3, 1, 0)))
    tasks = [
        (
            jnp.asarray(problem.support_x[t].transpose(0, 2, 3, 1)),
            jnp.asarray(problem.support_y[t]),
            jnp.asarray(problem.query_x[t].transpose(0, 2, 3, 1)),
            jnp.asarray(problem.query_y[t]),
        )
        for t in range(problem.tasks)
    ]

    def step() -> dict[str, Any]:
        total = None
        for task in tasks:
            gradient = jax.block_until_ready(gradient_of(start, *task))
            total = gradient if total is None else add(total, gradient)
        return jax.block_until_ready(turn(total, (3, 2, 0, 1)))

    return step
