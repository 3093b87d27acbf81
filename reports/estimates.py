"""The numbers of tables: how good a learner is, and how two differ, each with a 95 % interval.

Every interval of every table comes from here. The formulas behind them are in `statistics`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from zoo.reports.metrics import is_error
from zoo.reports.statistics import Crossed, crossed, signed_rank

Z95 = 1.96
NEAR_ONE = 0.99  # from this accuracy on, an interval reaches further down than up
RESAMPLES = 1000  # of the bootstrap
TRIMMED = 0.1  # share of the tasks that a trimmed mean leaves out at each end


class Estimate(NamedTuple):
    """A number and the ends of its 95 % interval; nan where one is missing."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def half(self) -> float:
        """Half of the interval's width; nan where the number is not in the middle of it."""
        below, above = self.value - self.low, self.high - self.value
        return above if math.isclose(below, above, rel_tol=1e-6, abs_tol=1e-12) else math.nan

    def times(self, unit: float) -> "Estimate":
        """All three numbers multiplied: 100 for per cent."""
        return Estimate(self.value * unit, self.low * unit, self.high * unit)

    def columns(self, name: str) -> dict[str, float]:
        """The three numbers under ``name``, ``name_low`` and ``name_high``."""
        return dict(zip(columns_of(name), self, strict=True))

    def text(self, form: str = ".2f", sign: str = "-") -> str:
        """``97.01 ± 0.12``, or ``99.41 (99.20 to 99.56)`` where it is not in the middle.

        Args:
            form: how the numbers are formatted.
            sign: "+" writes a sign before every value, "-" before negative ones only.
        """
        value = format(self.value, sign + form)
        if not math.isnan(self.half):
            return f"{value} ± {self.half:{form}}"
        if math.isnan(self.low):
            return value
        return f"{value} ({self.low:{sign}{form}} to {self.high:{sign}{form}})"


def estimate_in(row: Mapping[str, Any], name: str) -> Estimate:
    """The estimate in a row of a frame, from its columns ``name``, ``name_low``, ``name_high``."""
    return Estimate(*(float(row[column]) for column in columns_of(name)))


def columns_of(name: str) -> tuple[str, str, str]:
    """The three columns of an estimate: ``name``, ``name_low``, ``name_high``."""
    return name, f"{name}_low", f"{name}_high"


def shared_episodes(runs: Sequence[pd.Series]) -> np.ndarray:
    """The values of the episodes that all S runs have: (S, E).

    Args:
        runs: S series of one number per episode, indexed by episode.
    """
    return pd.concat(list(runs), axis=1, join="inner").to_numpy(float).T


class Comparison(NamedTuple):
    """How two learners differ: the first minus the second, or the ratio of squared errors."""

    estimate: Estimate
    p: float  # for H0 "they are equal"; p < 0.05 exactly where the interval excludes equality
    wilcoxon: float  # p of the signed-rank test on the episodes, each averaged over its seeds


def estimate(values: np.ndarray, metric: str) -> Estimate:
    """A learner's test result and its interval.

    For accuracy, the mean. For squared error, the median over the tasks, because a few diverged
    tasks decide the mean, and no interval around it keeps its 95 % (tests/simulation.py).

    With one seed the interval holds for these trained weights on new test episodes; with several
    seeds, for a new seed and new test episodes.

    Args:
        values: (S, E), S seeds by E test episodes.
        metric: ``accuracy``, ``mse``, or either at an instance (``accuracy@instance2``).

    Raises:
        ValueError: there are no values.
    """
    x = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if not x.size:
        raise ValueError("no values: an estimate needs at least one episode")
    return _median(x) if is_error(metric) else _accuracy(x)


def estimate_from_record(mean: float, ci95: float, metric: str, episodes: int) -> Estimate:
    """The estimate of one run where its record is at hand but not the values of its episodes.

    For a squared error it is nan: its median needs the values.

    Args:
        mean: of the metric.
        ci95: half of its interval's width, from the record.
        metric: its name.
        episodes: how many were tested.
    """
    if is_error(metric) or math.isnan(mean):
        return Estimate(math.nan)
    if math.isnan(ci95) or pd.isna(episodes):
        return Estimate(mean)
    if mean < NEAR_ONE and mean + ci95 <= 1:
        return Estimate(mean, mean - ci95, mean + ci95)
    return Estimate(mean, *_wilson(mean, ci95, episodes))


def compare(a: np.ndarray, b: np.ndarray, metric: str) -> Comparison:
    """How much two learners differ, from paired values.

    Row s and column e of `a` and `b` must be the same seed and the same test episode
    (`shared_episodes`).

    For accuracy, the mean difference. For squared error, the ratio of the geometric means, first
    over second: the exponential of the mean difference of logarithms, which have no long tail.

    With one seed each the interval and the tests hold for these two trained models on new test
    episodes; with several seeds, for a new seed of each and new test episodes.

    Args:
        a: (S, E), the first learner: S seeds by E test episodes.
        b: (S, E), the second learner on the same seeds and episodes.
        metric: as for `estimate`.

    Raises:
        ValueError: the shapes differ, there are no values, or one is not a finite number.
    """
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 2:
        raise ValueError(f"expected (seeds, episodes) twice, not {left.shape} and {right.shape}")
    if not left.size:
        raise ValueError("no values: a difference needs at least one seed and one episode of both")
    for x in (left, right):
        if not np.isfinite(x).all():
            row, episode = np.argwhere(~np.isfinite(x))[0]
            raise ValueError(f"the value of seed row {row}, episode {episode} is not finite")
    if not is_error(metric):
        mean = crossed(left - right)
        return Comparison(_around(mean), float(mean.p), signed_rank((left - right).mean(0)))
    least = np.finfo(np.float64).tiny  # an error of exactly 0 has no logarithm
    log_ratios = np.log(np.maximum(left, least)) - np.log(np.maximum(right, least))
    mean = crossed(log_ratios)
    return Comparison(
        Estimate(*(float(np.exp(number)) for number in _around(mean))),
        float(mean.p),
        signed_rank(log_ratios.mean(0)),
    )


def value_if_equal(metric: str) -> float:
    """What `compare` gives for two equal learners: a difference of 0, or a ratio of 1."""
    return 1.0 if is_error(metric) else 0.0


def trimmed_mean(values: np.ndarray) -> float:
    """The mean without the lowest and the highest tenth of the values."""
    x = np.sort(np.asarray(values, dtype=np.float64).ravel())
    cut = int(TRIMMED * x.size)
    return float(x[cut : x.size - cut].mean())


def _around(crossed_mean: Crossed) -> Estimate:
    mean, half = float(crossed_mean.mean), float(crossed_mean.ci95)
    return Estimate(mean, mean - half, mean + half)


def _accuracy(x: np.ndarray) -> Estimate:
    """The mean accuracy of x (S, E).

    Near 1 the accuracies of episodes are skewed: a symmetric interval is too short below and
    reaches beyond 1 above. There each end is the outer one of two intervals': Wilson's (JASA 22,
    1927), for as many trials as would give this variance, and Hall's (J. R. Statist. Soc. B 54,
    1992), which corrects the t interval for skewness.
    """
    seeds, episodes = x.shape
    mean = float(x.mean())
    if episodes < 2:
        return Estimate(mean)
    half = Z95 * x.std(ddof=1) / math.sqrt(episodes) if seeds == 1 else float(crossed(x).ci95)
    if mean < NEAR_ONE and mean + half <= 1:
        return Estimate(mean, mean - half, mean + half)
    low, high = _wilson(mean, half, episodes)
    if half > 0:
        d = x.mean(0) - mean
        skewness = float((d**3).mean() / (d**2).mean() ** 1.5) if d.any() else 0.0
        below, above = _hall(skewness, episodes)
        low, high = min(low, mean - half * below), max(high, mean + half * above)
    return Estimate(mean, max(low, 0.0), min(high, 1.0))


def _wilson(mean: float, half: float, episodes: int) -> tuple[float, float]:
    """The ends of Wilson's interval of a mean whose symmetric interval has this half-width.

    The half-width gives the number n of effective trials, half² = z² mean (1 - mean) / n. Where
    it does not (half is 0, or the mean 1), n is the number of episodes.
    """
    z2_over_n = Z95**2 / episodes if mean >= 1 or half == 0 else half**2 / (mean * (1 - mean))
    half_squared = Z95**2 / episodes * mean * (1 - mean) if half == 0 else half**2
    middle = (mean + z2_over_n / 2) / (1 + z2_over_n)
    wilson_half = math.sqrt(half_squared + z2_over_n**2 / 4) / (1 + z2_over_n)
    low, high = middle - wilson_half, middle + wilson_half
    return max(low, 0.0), min(max(high, mean), 1.0)  # rounding may overshoot


def _hall(skewness: float, n: int) -> tuple[float, float]:
    """How far Hall's interval of the mean of n values reaches down and up, in half-widths.

    Hall's g(t) = t + b t² + b² t³ / 3 + b / 2 with b = skewness / (3 √n) makes the t-statistic
    nearly normal; the interval ends where g is z and -z.
    """
    b = skewness / (3 * math.sqrt(n))
    if abs(b) < 1e-9:
        return 1.0, 1.0

    def inverse(y: float) -> float:
        return float((np.cbrt(1 + 3 * b * (y - b / 2)) - 1) / b)

    return inverse(Z95) / Z95, -inverse(-Z95) / Z95


def _median(x: np.ndarray) -> Estimate:
    """The median squared error over the tasks of x (S, E): the geometric mean of the S medians.

    All is computed on logarithms. The half-width is 1.96 standard deviations of a bootstrap over
    the tasks, which all seeds share. With several seeds the variance of their medians is added,
    with the t quantile of S - 1 degrees of freedom; what is in both variances is counted once.
    """
    seeds, episodes = x.shape
    logs = np.log(np.maximum(x, np.finfo(np.float64).tiny))
    medians = np.median(logs, axis=1)  # (S,)
    middle = float(medians.mean())
    if episodes < 2:
        return Estimate(math.exp(middle))
    drawn = np.random.default_rng(0).integers(0, episodes, (RESAMPLES, episodes))
    resampled = np.stack([np.median(row[drawn], axis=1) for row in logs])  # (S, RESAMPLES)
    if not np.isfinite(resampled).all():  # nearly half of the tasks have an infinite error
        return Estimate(math.exp(middle))
    half_squared = Z95**2 * resampled.mean(0).var(ddof=1)
    if seeds > 1:
        # The part of a seed's bootstrap variance that the other seeds do not share.
        deviations = resampled - resampled.mean(0)
        unshared = (deviations**2).sum(0).mean() / (seeds - 1)
        unshared = min(unshared, resampled.var(axis=1, ddof=1).mean())
        shared = max(half_squared - Z95**2 * unshared / seeds, 0.0)
        half_squared = _seed_part(medians) + shared
    half = math.sqrt(half_squared)
    return Estimate(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def _seed_part(medians: np.ndarray) -> float:
    """What the variance of the seeds' medians (S,) adds to the square of the half-width."""
    seeds = len(medians)
    return float(stdtrit(seeds - 1, 0.975) ** 2 * medians.var(ddof=1) / seeds)
