"""The regression benchmarks: a task is a function drawn afresh, so there is nothing to store.

What a task follows from are uniform numbers of the sampler's integer hash, exact on every machine;
only then come sines and logarithms, which may differ in the last bit.
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
    """T tasks as numbers in [0, 1)."""

    task: Floats  # (T, P) of each task
    points: Floats  # (T, Q+K, U) of each of its points; the queries come first


class FunctionSampler:
    """Draws the tasks of one shape: task i has the same queries whatever the shot."""

    way = 1

    def __init__(
        self, numbers: tuple[int, int], shot: int, query: int, key: NDArray[np.uint64]
    ) -> None:
        """Say what to draw.

        Args:
            numbers: P of each task and U of each point.
            shot: K.
            query: Q.
            key: from `zoo.datasets.episodes.hash_random.key_of`.
        """
        self.numbers, self.shot, self.query, self.key = numbers, shot, query, key

    def indices(self, first: int, tasks: int) -> Points:
        """Tasks first, ..., first + tasks - 1."""
        episode = derive(self.key, np.arange(first, first + tasks, dtype=np.uint64))
        of_task, of_point = self.numbers
        n = self.query + self.shot
        own, points = (derive(episode, np.full(1, s, np.uint64)) for s in range(2))
        return Points(uniform(own, of_task), uniform(points, n * of_point).reshape(tasks, n, -1))


def between(low: float, high: float, u: Floats) -> Floats:
    """Uniform numbers of [low, high)."""
    return low + (high - low) * u


def normal(u: Floats, v: Floats) -> Floats:
    """Standard normal numbers from two uniform ones (Box & Muller 1958)."""
    return np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)


class Functions:
    """A split of a regression benchmark, in the place where images have their store."""

    def __init__(self, benchmark: "Regression") -> None:
        self.benchmark = benchmark
        self.fingerprint = f"{benchmark.variant}, version {benchmark.version}"

    def sampler(
        self, way: int, shot: int, query: int, key: NDArray[np.uint64], split: str = ""
    ) -> FunctionSampler:
        """What draws its tasks; `way` is the number of outputs, which is given."""
        return FunctionSampler(self.benchmark.numbers, shot, query, key)

    def meta_batch(self, drawn: FunctionSampler, points: Points) -> "Episode":
        """The tasks as a learner sees them: x (T, n, *input) and y (T, n, outputs), float."""
        import torch

        from zoo import Episode, Examples

        x, y = self.benchmark.values(points.task[:, None, :], points.points)
        parts = [torch.from_numpy(part.astype(np.float32)) for part in (x, y)]
        query, support = (p[:, : drawn.query] for p in parts), (p[:, drawn.query :] for p in parts)
        return Episode(Examples(*support), Examples(*query), self.benchmark.outputs)


class Regression(Benchmark):
    """A distribution over functions."""

    regression = True
    image: ClassVar[tuple[int, ...]] = (1,)
    backbone = "mlp"
    query = 100
    shots = "5 10"
    quick_seconds = 30
    per_class = None
    licence: str = "none needed: the code draws the functions"
    mean: ClassVar = ()
    std: ClassVar = ()
    numbers: ClassVar[tuple[int, int]]  # uniform numbers that a task and a point take
    version = 1  # of what they are made into: another one makes other records

    def values(self, task: Floats, points: Floats) -> tuple[Floats, Floats]:
        """Inputs and outputs: (T, 1, P), (T, n, U) -> (T, n, *input), (T, n, outputs)."""
        raise NotImplementedError

    def lists(self) -> dict[str, list[str]]:
        """There are no classes."""
        return {split: [] for split in ("train", "val", "test")}

    def open(self, data: Any = None) -> dict[str, Functions]:  # type: ignore[override]
        """The functions of each split: all of one distribution, under different keys."""
        return dict.fromkeys(self.splits, Functions(self))


class _Sinusoid(Regression):
    """y = A sin(w x + b), x in [-5, 5]."""

    numbers = (3, 1)
    phase: float = np.pi  # the largest
    frequency: tuple[float, float] = (1, 1)

    def values(self, task: Floats, points: Floats) -> tuple[Floats, Floats]:
        amplitude = between(0.1, 5, task[..., :1])
        phase, w = between(0, self.phase, task[..., 1:2]), between(*self.frequency, task[..., 2:])
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
    phase = 2 * np.pi
    query = 50


@register_benchmark("harmonic")
class Harmonic(Regression):
    """Sums of two sine waves, the second of twice the frequency (torchmeta's Harmonic).

    As its code has it: w in [5, 7], amplitudes N(0, 1), phases 0 to 2 pi, x from N(mu, 1) with mu
    in [-4, 4]. Its docstring gives other amplitudes.
    """

    key = "harmonic"
    title = "Harmonic"
    numbers = (8, 2)

    def values(self, task: Floats, points: Floats) -> tuple[Floats, Floats]:
        """A1 sin(w x + b1) + A2 sin(2 w x + b2)."""
        w, mu = between(5, 7, task[..., :1]), between(-4, 4, task[..., 1:2])
        b1, b2 = (between(0, 2 * np.pi, task[..., i : i + 1]) for i in (2, 3))
        a1, a2 = (normal(task[..., i : i + 1], task[..., i + 1 : i + 2]) for i in (4, 6))
        x = mu + normal(points[..., :1], points[..., 1:])
        return x, a1 * np.sin(w * x + b1) + a2 * np.sin(2 * w * x + b2)


@register_benchmark("gp")
class GaussianProcess(Regression):
    """Draws from a Gaussian process with a squared exponential kernel (Garnelo et al. 2018).

    As the authors' notebook has it: x in [-2, 2], and y with noise, in the support and the query.
    A task's points are drawn together, the queries first: a factor's leading rows do not depend on
    the rows below them, so the queries have the same y whatever the shot, but for rounding.
    """

    key = "gp"
    title = "Gaussian process"
    numbers = (0, 3)
    length = 0.4  # of the kernel
    sd = 1.0  # of the function
    noise = 0.02  # standard deviation; it also keeps the covariance far from singular

    def values(self, task: Floats, points: Floats) -> tuple[Floats, Floats]:
        """y = L z where L is the Cholesky factor of the covariance of y."""
        x, z = between(-2, 2, points[..., :1]), normal(points[..., 1:2], points[..., 2:])
        return x, np.linalg.cholesky(self.covariance(x)) @ z

    def covariance(self, x: Floats) -> Floats:
        """Of y at x: (T, n, 1) -> (T, n, n)."""
        kernel = self.sd**2 * np.exp(-(((x - x.swapaxes(1, 2)) / self.length) ** 2) / 2)
        return np.asarray(kernel + self.noise**2 * np.eye(x.shape[1]))
