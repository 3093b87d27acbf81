"""The regression benchmarks: a task is a randomly drawn function, so there is nothing to store.

A task is defined by uniform numbers from our integer hash, which are exact on every machine. The
sines and logarithms computed from them may differ in the last bit.
"""

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.benchmarks.base import Benchmark
from zoo.datasets.episodes.hash_random import Floats, derive, uniform
from zoo.registry import register_benchmark

if TYPE_CHECKING:  # the doctor reads this file, and needs no torch
    from zoo import Episode


class Points(NamedTuple):
    """T tasks as uniform numbers in [0, 1)."""

    task: Floats  # (T, P), P numbers for each task
    points: Floats  # (T, Q+K, U), U numbers for each of its points; the queries come first


class FunctionSampler:
    """Draws the tasks of one shape: task i has the same queries whatever the shot."""

    way = 1

    def __init__(
        self, numbers: tuple[int, int], shot: int, query: int, key: NDArray[np.uint64]
    ) -> None:
        """Set the shape of the tasks.

        Args:
            numbers: P, uniform numbers for each task, and U, for each point.
            shot: K.
            query: Q.
            key: from `zoo.datasets.episodes.hash_random.key_of`.
        """
        self.numbers, self.shot, self.query, self.key = numbers, shot, query, key

    def indices(self, first: int, tasks: int) -> Points:
        """Tasks first, ..., first + tasks - 1."""
        keys = derive(self.key, np.arange(first, first + tasks, dtype=np.uint64))
        task_keys, point_keys = (derive(keys, np.full(1, s, np.uint64)) for s in range(2))
        of_task, of_point = self.numbers
        n = self.query + self.shot
        points = uniform(point_keys, n * of_point).reshape(tasks, n, -1)
        return Points(uniform(task_keys, of_task), points)


def between(low: float, high: float, u: Floats) -> Floats:
    """Uniform numbers in [low, high) from those in [0, 1)."""
    return low + (high - low) * u


def normal(u: Floats, v: Floats) -> Floats:
    """Standard normal numbers from two uniform ones (Box & Muller 1958)."""
    return np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)


class Functions:
    """A split of a regression benchmark; for functions what a store is for images."""

    def __init__(self, benchmark: "Regression") -> None:
        self.benchmark = benchmark
        self.fingerprint = f"{benchmark.variant}, version {benchmark.version}"

    def sampler(
        self, way: int, shot: int, query: int, key: NDArray[np.uint64], split: str = ""
    ) -> FunctionSampler:
        """The sampler of its tasks; `way` is not used, as the number of outputs is fixed."""
        return FunctionSampler(self.benchmark.numbers, shot, query, key)

    def meta_batch(self, drawn: FunctionSampler, points: Points) -> "Episode":
        """The tasks as a learner is given them: x (T, n, *input) and y (T, n, outputs), float."""
        import torch

        from zoo import Episode, Examples

        values = self.benchmark.values(points.task[:, None, :], points.points)
        x, y = (torch.from_numpy(array.astype(np.float32)) for array in values)
        queries = drawn.query
        support = Examples(x[:, queries:], y[:, queries:])
        query = Examples(x[:, :queries], y[:, :queries])
        return Episode(support, query, self.benchmark.outputs)


class Regression(Benchmark):
    """A distribution over functions."""

    regression = True
    stored = False
    image: ClassVar[tuple[int, ...]] = (1,)
    backbone = "mlp"
    query = 100
    shots = "5 10"
    quick_seconds = 30
    per_class = None
    licence: str = "none needed: the code draws the functions"
    mean: ClassVar = ()
    std: ClassVar = ()
    numbers: ClassVar[tuple[int, int]]  # P and U: the uniform numbers of a task and of a point
    version = 1  # of the functions made from them; to be raised where these change

    def values(self, task: Floats, points: Floats) -> tuple[Floats, Floats]:
        """Inputs and outputs: (T, 1, P), (T, n, U) -> (T, n, *input), (T, n, outputs)."""
        raise NotImplementedError

    def lists(self) -> dict[str, list[str]]:
        """Three splits without classes."""
        return {split: [] for split in ("train", "val", "test")}

    def open(self, data: Any = None) -> dict[str, Functions]:  # type: ignore[override]
        """The functions of each split: all have one distribution, their samplers differ in key."""
        return dict.fromkeys(self.splits, Functions(self))


class _Sinusoid(Regression):
    """y = A sin(w x + b), x in [-5, 5]."""

    numbers = (3, 1)
    max_phase: float = np.pi
    frequency: tuple[float, float] = (1, 1)  # least and largest

    def values(self, task: Floats, points: Floats) -> tuple[Floats, Floats]:
        amplitude = between(0.1, 5, task[..., :1])
        phase = between(0, self.max_phase, task[..., 1:2])
        w = between(*self.frequency, task[..., 2:])
        x = between(-5, 5, points)
        return x, amplitude * np.sin(w * x + phase)


@register_benchmark("sinusoid")
class Sinusoid(_Sinusoid):
    """Sine waves of amplitude 0.1 to 5 and phase 0 to pi (Finn et al. 2017, section 5.1)."""

    key = "sinusoid"
    title = "Sinusoid"


@register_benchmark("sinusoid_metasgd")
class SinusoidMetaSgd(_Sinusoid):
    """Sine waves of amplitude 0.1 to 5, phase 0 to pi, frequency 0.8 to 1.2 (Li et al. 2017)."""

    key = "sinusoid_metasgd"
    title = "Sinusoid of Meta-SGD"
    frequency = (0.8, 1.2)


@register_benchmark("sinusoid_reptile")
class SinusoidReptile(_Sinusoid):
    """Sine waves of amplitude 0.1 to 5 and phase 0 to 2 pi (Nichol et al. 2018, section 2)."""

    key = "sinusoid_reptile"
    title = "Sinusoid of Reptile"
    max_phase = 2 * np.pi
    query = 50


@register_benchmark("harmonic")
class Harmonic(Regression):
    """Sums of two sine waves, the second of twice the frequency (torchmeta's Harmonic).

    As in torchmeta's code: w in [5, 7], amplitudes from N(0, 1), phases 0 to 2 pi, x from N(mu, 1)
    with mu in [-4, 4]. (Its docstring gives other amplitudes.)
    """

    key = "harmonic"
    title = "Harmonic"
    numbers = (8, 2)

    def values(self, task: Floats, points: Floats) -> tuple[Floats, Floats]:
        """x, and y = A1 sin(w x + b1) + A2 sin(2 w x + b2)."""
        w, mu = between(5, 7, task[..., :1]), between(-4, 4, task[..., 1:2])
        b1, b2 = (between(0, 2 * np.pi, task[..., i : i + 1]) for i in (2, 3))
        a1, a2 = (normal(task[..., i : i + 1], task[..., i + 1 : i + 2]) for i in (4, 6))
        x = mu + normal(points[..., :1], points[..., 1:])
        return x, a1 * np.sin(w * x + b1) + a2 * np.sin(2 * w * x + b2)


@register_benchmark("gp")
class GaussianProcess(Regression):
    """Draws from a Gaussian process with a squared exponential kernel (Garnelo et al. 2018).

    As in the authors' notebook: x in [-2, 2], and y with noise, in support and query. A task's
    points are drawn together, the queries first. The upper rows of a Cholesky factor do not depend
    on those below, so the queries have the same y whatever the shot, except for rounding.
    """

    key = "gp"
    title = "Gaussian process"
    numbers = (0, 3)
    length = 0.4  # of the kernel
    sd = 1.0  # of the function
    noise = 0.02  # standard deviation of y; it also keeps the covariance from being singular

    def values(self, task: Floats, points: Floats) -> tuple[Floats, Floats]:
        """x, and y = L z with L the Cholesky factor of the covariance of y."""
        x, z = between(-2, 2, points[..., :1]), normal(points[..., 1:2], points[..., 2:])
        return x, np.linalg.cholesky(self.covariance(x)) @ z

    def covariance(self, x: Floats) -> Floats:
        """The covariance of y at x: (T, n, 1) -> (T, n, n)."""
        kernel = self.sd**2 * np.exp(-(((x - x.swapaxes(1, 2)) / self.length) ** 2) / 2)
        return np.asarray(kernel + self.noise**2 * np.eye(x.shape[1]))
