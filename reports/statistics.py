"""The formulas behind intervals and tests, over test episodes and over seeds.

`estimates` chooses among them by metric. tests/simulation.py checks by simulation that intervals
cover, and tests reject, as often as they claim.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import nctdtrinc, ndtri, stdtr, stdtrit

Values = Sequence[float] | np.ndarray | pd.Series


def interval(values: Values) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval, 1.96·s/√n.

    s = √(Σ (xᵢ − x̄)² / (n − 1)) is the sample standard deviation of the n values. Over the test
    episodes of one run, the interval holds for these trained weights, not for training again.

    Args:
        values: (n,) one number per episode.

    Returns:
        Mean and half-width; the half-width of a single value is nan.

    Raises:
        ValueError: there are no values.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        raise ValueError("no values: a mean needs at least one episode")
    ci95 = 1.96 * x.std(ddof=1) / np.sqrt(x.size) if x.size > 1 else np.nan
    return float(x.mean()), float(ci95)


class Crossed(NamedTuple):
    """The result of `crossed`; every field is a number, or an array of shape (...)."""

    mean: Any
    ci95: Any  # half-width
    p: Any  # for H0 "the mean is 0 for a new seed and new episodes"
    error: Any  # standard error of the mean
    freedom: Any  # degrees of freedom of error² (Satterthwaite 1946)


def crossed(values: np.ndarray) -> Crossed:
    """The mean for a new seed and new episodes, its 95 % interval, and a test of H0: it is 0.

    Every seed is tested on the same episodes, so a value is the sum of a mean, an effect of its
    seed, an effect of its episode, and a rest. With mean squares MS, the variance of the mean is
    a + b: a = MS_seeds / (S E) with S - 1 degrees of freedom, and b = (MS_episodes - MS_rest) /
    (S E), at least 0, with E - 1. The half-width is √(t²_{S-1} a + t²_{E-1} b), Banerjee's for a
    sum of variances (Sankhyā 22, 1960), which covers at least as often as it claims at every
    level. p is the level at which the interval reaches 0.

    Why not another way: one t quantile at Satterthwaite's degrees of freedom is narrower, but with
    three seeds it rejects several times too often at the small levels that Holm's correction
    needs. Adding MS_seeds and MS_episodes counts the rest twice and covers too often. A bootstrap
    over three seeds covers 68 %.

    With one seed it is the t interval and t-test over episodes, which hold for these trained
    weights.

    Args:
        values: (..., S, E), S seeds by E episodes, without nan.

    Returns:
        Each field (...). With a single episode all but the mean are nan. Where the variance is 0
        the interval has no width, and p is 1 where the mean is 0, else 0.
    """
    x = np.asarray(values, dtype=np.float64)
    seeds, episodes = x.shape[-2:]
    mean = x.mean((-2, -1))
    if episodes < 2:
        nan = np.full_like(mean, np.nan)
        return Crossed(mean, nan, nan, nan, nan)
    a, b = _variances(x)
    freedom_a, freedom_b = max(seeds - 1, 1), episodes - 1
    ci95 = np.sqrt(stdtrit(freedom_a, 0.975) ** 2 * a + stdtrit(freedom_b, 0.975) ** 2 * b)
    error = np.sqrt(a + b)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        freedom = (a + b) ** 2 / (a**2 / freedom_a + b**2 / freedom_b)
        t = np.where(np.abs(mean) > 0, np.abs(mean) / error, 0.0)
        p = 2 * stdtr(freedom_b, -t)
        if seeds > 1:
            p = _level_reaching_zero(mean, a, b, freedom_a, freedom_b, 2 * stdtr(freedom_a, -t), p)
    return Crossed(mean, ci95, np.where(error > 0, p, mean == 0), error, freedom)


def _level_reaching_zero(
    mean: Any, a: Any, b: Any, freedom_a: int, freedom_b: int, one_end: Any, other_end: Any
) -> Any:
    """The level at which `crossed`'s interval just reaches 0, found by bisection.

    It lies between `one_end` and `other_end`, the p-values that a t-test has with either of the
    degrees of freedom. The levels are halved on a logarithmic scale.
    """
    low = np.maximum(np.minimum(one_end, other_end), 1e-300)
    high = np.maximum(np.maximum(one_end, other_end), 1e-300)
    for _ in range(50):
        level = np.sqrt(low) * np.sqrt(high)
        half_squared = (
            stdtrit(freedom_a, level / 2) ** 2 * a + stdtrit(freedom_b, level / 2) ** 2 * b
        )
        reaches = half_squared > mean**2
        low = np.where(reaches, level, low)
        high = np.where(reaches, high, level)
    return high


def signed_rank(d: np.ndarray) -> float:
    """Wilcoxon's p for H0 "the differences (E,) are symmetric around 0"; 1 where all are 0."""
    from scipy.stats import wilcoxon  # here, as its import takes a second that most runs save

    return float(wilcoxon(d).pvalue) if np.any(d) else 1.0


def holm(p: Values) -> np.ndarray:
    """P-values corrected for their number (Holm, Scand. J. Statist. 6, 1979); nan stays nan.

    The k-th smallest of m is multiplied by m - k + 1, and raised to the one before it where it is
    smaller. If those below 0.05 are called differences, the chance that any of them is false is
    at most 5 %.
    """
    corrected = np.array(p, dtype=np.float64)
    ascending = np.argsort(corrected)[: np.count_nonzero(~np.isnan(corrected))]  # nan sorts last
    raised = corrected[ascending] * np.arange(len(ascending), 0, -1)
    corrected[ascending] = np.minimum(np.maximum.accumulate(raised), 1)
    return corrected


def episodes_needed(differences: np.ndarray, least: float = 0.005) -> float:
    """How many test episodes it takes to find a difference: two-sided at 5 %, power 80 %.

    The paired differences give the variances σ² of seeds, episodes and rest. n episodes suffice
    for a true difference `least` where
    least² = λ² (σ²_seeds + σ²_rest / n) / S + 2.80² σ²_episodes / n, with λ the noncentrality at
    which the t-test with S - 1 degrees of freedom has that power. With few seeds it is a rough
    guess.

    Args:
        differences: (S, E), S seeds by E episodes.
        least: the true difference to be found, in the same unit.

    Returns:
        A whole number; inf where no number of episodes suffices because σ²_seeds is too large for
        so few seeds; nan for a single episode.

    Raises:
        ValueError: there are no values, or one is not a finite number.
    """
    d = _finite(np.asarray(differences, dtype=np.float64))
    seeds, episodes = d.shape
    if episodes < 2:
        return float("nan")
    power = 0.8
    normal = ndtri(0.975) + ndtri(0.8)  # 2.80
    if seeds == 1:
        return float(max(np.ceil(normal**2 * d.var(ddof=1) / least**2), 2))
    ms_seeds, ms_episodes, ms_rest = _mean_squares(d)
    scale = nctdtrinc(seeds - 1, 1 - power, stdtrit(seeds - 1, 0.975)) ** 2 / seeds  # λ² / S
    left = least**2 - scale * max(ms_seeds - ms_rest, 0) / episodes
    if not left > 0:
        return float("inf")
    per_episode = scale * ms_rest + normal**2 * max(ms_episodes - ms_rest, 0) / seeds
    return float(max(np.ceil(per_episode / left), 2))


def _variances(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The parts a and b of the variance of the mean, as `crossed` explains them: each (...)."""
    if x.shape[-2] == 1:
        return np.zeros(x.shape[:-2]), x.var((-2, -1), ddof=1) / x.shape[-1]
    ms_seeds, ms_episodes, ms_rest = _mean_squares(x)
    size = x.shape[-2] * x.shape[-1]
    return ms_seeds / size, np.maximum(ms_episodes - ms_rest, 0) / size


def _mean_squares(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean squares of seeds, episodes and rest, each (...), of x (..., S, E)."""
    seeds, episodes = x.shape[-2:]
    by_seed, by_episode = x.mean(-1, keepdims=True), x.mean(-2, keepdims=True)
    mean = by_seed.mean(-2, keepdims=True)

    def sum_of_squares(part: np.ndarray) -> Any:
        return np.square(part).sum((-2, -1))

    return (
        episodes * sum_of_squares(by_seed - mean) / (seeds - 1),
        seeds * sum_of_squares(by_episode - mean) / (episodes - 1),
        sum_of_squares(x - by_seed - by_episode + mean) / ((seeds - 1) * (episodes - 1)),
    )


def _finite(d: np.ndarray) -> np.ndarray:
    """The differences, checked.

    Raises:
        ValueError: there are no values, or one is not a finite number.
    """
    if not d.size:
        raise ValueError("no values: a difference needs at least one seed and one episode of both")
    if not np.isfinite(d).all():
        row, episode = np.argwhere(~np.isfinite(d))[0]
        raise ValueError(f"the value of seed row {row}, episode {episode} is not a finite number")
    return d
