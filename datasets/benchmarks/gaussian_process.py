"""Functions drawn from a Gaussian process: the one-dimensional regression of CNP."""

import numpy as np

from zoo.datasets.benchmarks.regression import Floats, Regression, between, normal
from zoo.registry import register_benchmark


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
