"""The work: weights and tasks, made once and written to a file that every contestant reads."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.bench.peers import Problem

WAY, SHOT, QUERY = 5, 5, 15


class Size(NamedTuple):
    """How large a piece of work is."""

    channels: int
    side: int
    tasks: int
    steps: int
    dtype: str
    lr: float = 0.01


CHECK = Size(channels=8, side=28, tasks=2, steps=3, dtype="float64")
TIMED = Size(channels=0, side=84, tasks=4, steps=5, dtype="float32")  # channels: 32 and 64
TEST_STEPS = 10  # of one task


def write_problem(path: Path, size: Size, seed: int = 0) -> None:
    """Conv4's weights as PyTorch starts them, and tasks of random images, uniform in [0, 1].

    In the check's float64, batch norms scale and shift at random, half of them by a negative
    number; otherwise by 1 and 0.
    """
    rng = np.random.default_rng(seed)
    arrays, inputs, side = {}, 3, size.side
    for block in range(4):
        shape = (size.channels, inputs, 3, 3)
        bound = (inputs * 9) ** -0.5
        arrays[f"conv{block}.weight"] = rng.uniform(-bound, bound, shape)
        arrays[f"norm{block}.weight"] = np.ones(size.channels)
        arrays[f"norm{block}.bias"] = np.zeros(size.channels)
        if size.dtype == "float64":
            signs = np.where(np.arange(size.channels) % 2, 1, -1)
            arrays[f"norm{block}.weight"] = signs * rng.uniform(0.5, 1.5, size.channels)
            arrays[f"norm{block}.bias"] = rng.uniform(-0.5, 0.5, size.channels)
        inputs, side = size.channels, side // 2
    features = size.channels * side**2
    arrays["head.weight"] = rng.uniform(-(features**-0.5), features**-0.5, (WAY, features))
    arrays["head.bias"] = rng.uniform(-(features**-0.5), features**-0.5, WAY)
    for part, each in (("support", SHOT), ("query", QUERY)):
        arrays[f"{part}_x"] = rng.random((size.tasks, WAY * each, 3, size.side, size.side))
        arrays[f"{part}_y"] = np.tile(np.arange(WAY).repeat(each), (size.tasks, 1))
    arrays = {n: a if n.endswith("_y") else a.astype(size.dtype) for n, a in arrays.items()}
    np.savez(path, **arrays)


def read_problem(path: Path, tasks: int, steps: int, lr: float) -> Problem:
    """What `write_problem` wrote: its first tasks, and how to adapt to them."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    parts = ("support_x", "support_y", "query_x", "query_y")
    first = {name: arrays.pop(name)[:tasks] for name in parts}
    return Problem(arrays, **first, steps=steps, lr=lr)
