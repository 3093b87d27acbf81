"""The sums behind intervals and tests, over test episodes and over seeds.

`estimates` chooses among them for a metric; tests/simulation.py holds both to what they claim.
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
    episodes of one run it is a claim about these trained weights, not about training again.

    Args:
        values: (n,) one number an episode.

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
    """What values of seeds crossed with episodes say of their mean: numbers, or arrays of them."""

    mean: Any
    ci95: Any  # half-width
    p: Any  # of H0: for a new seed and new episodes the mean is 0
    error: Any  # standard error of the mean
    freedom: Any  # degrees of freedom of error², Satterthwaite's (1946)


def crossed(values: np.ndarray) -> Crossed:
    """The mean for a new seed and new episodes, its 95 % interval, and a test of H0: it is 0.

    Every seed is tested on the same episodes, so a value is the sum of a mean, an effect of its
    seed, one of its episode, and a rest. With mean squares MS the mean's variance is a + b,
    a = MS_seeds / (S E), of S - 1 degrees of freedom, and b = (MS_episodes - MS_rest) / (S E) or
    0, of E - 1: the rest is counted once. The half-width is √(t²_{S-1} a + t²_{E-1} b), as
    Banerjee (Sankhyā 22, 1960) has it for a sum of variances, which covers at least as often as
    it claims, at every level; p is the level at which it reaches 0. One quantile at Satterthwaite's
    degrees of freedom is narrower, but of three seeds it rejects several times too often at the
    small levels that Holm's correction asks for. Adding MS_episodes and MS_seeds counts the rest
    twice and over-covers; a bootstrap over three seeds covers 68 %.

    Of one seed it is the t interval and test over episodes: a claim about these trained weights.

    Args:
        values: (..., S, E), a row a seed, a column an episode; none is nan.

    Returns:
        Each (...). Of a single episode all but the mean is nan. Without any variance the interval
        has no width, and p is 1 where the mean is 0, else 0.
    """
    x = np.asarray(values, dtype=np.float64)
    seeds, episodes = x.shape[-2:]
    mean = x.mean((-2, -1))
    if episodes < 2:
        return Crossed(mean, *[np.full_like(mean, np.nan)] * 4)
    a, b = _variances(x)
    few, many = max(seeds - 1, 1), episodes - 1
    ci95 = np.sqrt(stdtrit(few, 0.975) ** 2 * a + stdtrit(many, 0.975) ** 2 * b)
    error, ratio, level = np.sqrt(a + b), np.abs(mean), np.ones_like(mean)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        freedom = (a + b) ** 2 / (a**2 / few + b**2 / many)
        ratio = np.where(ratio > 0, ratio / error, 0.0)
        ends = [2 * stdtr(dof, -ratio) for dof in ((few, many) if seeds > 1 else (many, many))]
        low, high = (np.maximum(end, 1e-300) for end in (np.minimum(*ends), np.maximum(*ends)))
        for _ in range(50 if seeds > 1 else 0):
            level = np.sqrt(low) * np.sqrt(high)
            reach = stdtrit(few, level / 2) ** 2 * a + stdtrit(many, level / 2) ** 2 * b
            low, high = np.where(reach > mean**2, (level, high), (low, level))
    p = np.where(error > 0, high if seeds > 1 else ends[0], mean == 0)
    return Crossed(mean, ci95, p, error, freedom)


def signed_rank(d: np.ndarray) -> float:
    """Wilcoxon's p of H0: the differences (E,) are symmetric around 0; 1 where all are 0."""
    from scipy.stats import wilcoxon  # a second to import, and not every run needs it

    return float(wilcoxon(d).pvalue) if np.any(d) else 1.0


def holm(p: Values) -> np.ndarray:
    """P-values corrected for their number (Holm, Scand. J. Statist. 6, 1979); nan stays nan.

    Of m, the k-th smallest is multiplied by m - k + 1, and is no smaller than those before it.
    Where those below 0.05 are called differences, the chance of any false one is 5 % at most.
    """
    found = np.array(p, dtype=np.float64)
    order = np.argsort(found)[: np.count_nonzero(~np.isnan(found))]  # nan is sorted to the end
    raised = found[order] * np.arange(len(order), 0, -1)
    found[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return found


def episodes_needed(differences: np.ndarray, least: float = 0.005) -> float:
    """How many test episodes tell a difference from 0: two-sided at 5 %, with a power of 80 %.

    From E episodes' paired differences their variances are estimated, σ² of seeds, episodes and
    rest. By n episodes, `least` is told from 0 where
    least² = λ² (σ²_seeds + σ²_rest / n) / S + 2.80² σ²_episodes / n, λ being the noncentrality at
    which the t-test of S - 1 degrees of freedom has that power. Of few seeds it is a rough guess.

    Args:
        differences: (S, E), a row a seed, a column an episode.
        least: the true difference, in the unit of the differences.

    Returns:
        A whole number; inf where no number of episodes suffices, as σ²_seeds is too large for so
        few seeds; nan of a single episode.

    Raises:
        ValueError: there are no values, or one is not a finite number.
    """
    d = _finite(np.asarray(differences, dtype=np.float64))
    seeds, episodes = d.shape
    if episodes < 2:
        return float("nan")
    power, normal = 0.8, ndtri(0.975) + ndtri(0.8)
    if seeds == 1:
        return float(max(np.ceil(normal**2 * d.var(ddof=1) / least**2), 2))
    of_seeds, of_episodes, rest = _mean_squares(d)
    scale = nctdtrinc(seeds - 1, 1 - power, stdtrit(seeds - 1, 0.975)) ** 2 / seeds
    left = least**2 - scale * max(of_seeds - rest, 0) / episodes
    spread = scale * rest + normal**2 * max(of_episodes - rest, 0) / seeds
    return float(max(np.ceil(spread / left), 2)) if left > 0 else float("inf")


def _variances(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What seeds, and episodes beyond the rest, add to the variance of the mean: each (...)."""
    if x.shape[-2] == 1:
        return np.zeros(x.shape[:-2]), x.var((-2, -1), ddof=1) / x.shape[-1]
    of_seeds, of_episodes, rest = _mean_squares(x)
    size = x.shape[-2] * x.shape[-1]
    return of_seeds / size, np.maximum(of_episodes - rest, 0) / size


def _mean_squares(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of seeds, episodes and rest: each (...) of x (..., S, E)."""
    seeds, episodes = x.shape[-2:]
    by_seed, by_episode = x.mean(-1, keepdims=True), x.mean(-2, keepdims=True)
    mean = by_seed.mean(-2, keepdims=True)
    squares = [np.square(part).sum((-2, -1)) for part in (
        by_seed - mean, by_episode - mean, x - by_seed - by_episode + mean
    )]  # fmt: skip
    return (
        episodes * squares[0] / (seeds - 1),
        seeds * squares[1] / (episodes - 1),
        squares[2] / ((seeds - 1) * (episodes - 1)),
    )


def _finite(d: np.ndarray) -> np.ndarray:
    """The same.

    Raises:
        ValueError: there are no values, or one is not a finite number.
    """
    if not d.size:
        raise ValueError("no values: a difference needs at least one seed and one episode of both")
    if not np.isfinite(d).all():
        at = np.argwhere(~np.isfinite(d))[0]
        raise ValueError(f"the value of seed row {at[0]}, episode {at[1]} is not a finite number")
    return d
