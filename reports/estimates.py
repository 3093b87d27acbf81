"""What a table says of a learner, and of two: one number and its 95 % interval.

Every interval of every table comes from here. `statistics` has the sums behind it.
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
NEAR_ONE = 0.99  # accuracy from which the interval is longer below than above
RESAMPLES = 1000  # of the bootstrap
TRIMMED = 0.1  # share of the tasks that a trimmed mean leaves out at each end


class Estimate(NamedTuple):
    """A number and its 95 % interval; nan for what there is not."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def half(self) -> float:
        """Half of the interval's width where the number stands in its middle, else nan."""
        below, above = self.value - self.low, self.high - self.value
        return above if math.isclose(below, above, rel_tol=1e-6, abs_tol=1e-12) else math.nan

    def times(self, unit: float) -> "Estimate":
        """The same in another unit: 100 for per cent."""
        return Estimate(self.value * unit, self.low * unit, self.high * unit)

    def columns(self, name: str) -> dict[str, float]:
        """As columns of a frame: ``name``, ``name_low`` and ``name_high``."""
        return dict(zip(columns_of(name), self, strict=True))

    def text(self, form: str = ".2f", sign: str = "-") -> str:
        """``97.01 ± 0.12``; with the ends written out where the number is not in the middle.

        Args:
            form: how the numbers are formatted.
            sign: "+" for a sign before every value, "-" before negative ones alone.
        """
        value = format(self.value, sign + form)
        if not math.isnan(self.half):
            return f"{value} ± {self.half:{form}}"
        if math.isnan(self.low):
            return value
        return f"{value} ({self.low:{sign}{form}} to {self.high:{sign}{form}})"


def estimate_in(row: Mapping[str, Any], name: str) -> Estimate:
    """The estimate that a row of a frame has in the columns of this name."""
    return Estimate(*(float(row[column]) for column in columns_of(name)))


def columns_of(name: str) -> tuple[str, str, str]:
    """The columns of an estimate."""
    return name, f"{name}_low", f"{name}_high"


def shared_episodes(runs: Sequence[pd.Series]) -> np.ndarray:
    """Values (S, E) of the episodes that all runs have, a row a run.

    Args:
        runs: one number an episode, indexed by episode.
    """
    return pd.concat(list(runs), axis=1, join="inner").to_numpy(float).T


class Comparison(NamedTuple):
    """Of two learners: the first minus the second, or, of squared errors, their ratio."""

    estimate: Estimate
    p: float  # of H0: they are equal; the interval leaves equality out exactly where p < 0.05
    wilcoxon: float  # p of the signed ranks of the episodes, each the mean of its seeds


def estimate(values: np.ndarray, metric: str) -> Estimate:
    """What a learner does in a test.

    Of an accuracy the mean, of a squared error the median over the tasks: a few tasks that
    diverge decide the mean, and no interval around it covers (tests/simulation.py). With one
    seed the interval is about these trained weights on new test episodes; with several about a
    new seed and new test episodes.

    Args:
        values: (S, E), a row a seed, a column a test episode.
        metric: ``accuracy``, ``mse``, or either at an instance (``accuracy@instance2``).

    Raises:
        ValueError: there are no values.
    """
    x = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if not x.size:
        raise ValueError("no values: an estimate needs at least one episode")
    return _median(x) if is_error(metric) else _accuracy(x)


def estimate_from_record(mean: float, ci95: float, metric: str, episodes: int) -> Estimate:
    """What a record alone says of one run, where the values of its episodes are not at hand.

    Args:
        mean: of the metric.
        ci95: half of its interval's width, as the record has it.
        metric: its name; a squared error has no estimate without its tasks, so it is all nan.
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
    """Whether two learners differ, on the seeds and test episodes that both have.

    Accuracies: the mean difference. Squared errors: the ratio of their geometric means, the
    first's over the second's; it is the mean difference of their logarithms, which have no long
    tail. With one seed each it is a claim about two trained models, with several about a new seed
    of each and new episodes.

    Args:
        a: (S, E) of the first learner, a row a seed, a column a test episode.
        b: (S, E) of the second, of the same seeds and episodes.
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
        found = crossed(left - right)
        return Comparison(_around(found), float(found.p), signed_rank((left - right).mean(0)))
    least = np.finfo(np.float64).tiny  # an error of exactly 0 has no logarithm
    ratios = np.log(np.maximum(left, least)) - np.log(np.maximum(right, least))
    found = crossed(ratios)
    on_logs = _around(found)
    return Comparison(
        Estimate(*(float(np.exp(end)) for end in on_logs)),
        float(found.p),
        signed_rank(ratios.mean(0)),
    )


def equality(metric: str) -> float:
    """What `compare` gives for two equal learners: 0, or of a ratio 1."""
    return 1.0 if is_error(metric) else 0.0


def trimmed_mean(values: np.ndarray) -> float:
    """The mean without the lowest and the highest tenth of the values."""
    x = np.sort(np.asarray(values, dtype=np.float64).ravel())
    cut = int(TRIMMED * x.size)
    return float(x[cut : x.size - cut].mean())


def _around(found: Crossed) -> Estimate:
    mean, half = float(found.mean), float(found.ci95)
    return Estimate(mean, mean - half, mean + half)


def _accuracy(x: np.ndarray) -> Estimate:
    """The mean accuracy of x (S, E).

    Near 1 the accuracies of episodes are skewed: ± is too short below, where it matters, and
    reaches beyond 1 above. There the interval is the wider of two: Wilson's (JASA 22, 1927), on
    as many trials as would give this variance, and Hall's (J. R. Statist. Soc. B 54, 1992), which
    corrects the t interval for skewness.
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
    """The ends of Wilson's interval of a mean whose plain interval has this half-width.

    With n effective trials, half² = z² mean (1 - mean) / n. All right, they are taken to be as
    many as there are episodes.
    """
    z2_over_n = Z95**2 / episodes if mean >= 1 or half == 0 else half**2 / (mean * (1 - mean))
    plain = Z95**2 / episodes * mean * (1 - mean) if half == 0 else half**2
    middle = (mean + z2_over_n / 2) / (1 + z2_over_n)
    width = math.sqrt(plain + z2_over_n**2 / 4) / (1 + z2_over_n)
    return max(middle - width, 0.0), min(max(middle + width, mean), 1.0)  # but for rounding


def _hall(skewness: float, n: int) -> tuple[float, float]:
    """How far a 95 % interval of a mean of n reaches below and above, in its half-widths.

    Hall's g(t) = t + b t² + b² t³ / 3 + b / 2 with b = skewness / (3 √n) takes the t-statistic
    to one that is nearly normal; the ends are where g is ± z.
    """
    b = skewness / (3 * math.sqrt(n))
    if abs(b) < 1e-9:
        return 1.0, 1.0

    def inverse(y: float) -> float:
        return float((np.cbrt(1 + 3 * b * (y - b / 2)) - 1) / b)

    return inverse(Z95) / Z95, -inverse(-Z95) / Z95


def _median(x: np.ndarray) -> Estimate:
    """The median squared error over the tasks of x (S, E), of several seeds the geometric mean.

    The interval is a bootstrap over the tasks, which all seeds share: on logarithms, ± 1.96 of its
    standard deviations. With S seeds the variance of their medians is added, with the t quantile of
    S - 1 degrees of freedom; what the tasks add to it is counted once.
    """
    seeds, episodes = x.shape
    logs = np.log(np.maximum(x, np.finfo(np.float64).tiny))
    of_seeds = np.median(logs, axis=1)
    middle = float(of_seeds.mean())
    if episodes < 2:
        return Estimate(math.exp(middle))
    drawn = np.random.default_rng(0).integers(0, episodes, (RESAMPLES, episodes))
    again = np.stack([np.median(row[drawn], axis=1) for row in logs])  # (S, RESAMPLES)
    spread = Z95**2 * again.mean(0).var(ddof=1)
    if seeds > 1:
        apart = again - again.mean(0)
        of_rest = (apart**2).sum(0).mean() / (seeds - 1)  # of one seed's median, beyond its tasks'
        of_rest = min(of_rest, again.var(axis=1, ddof=1).mean())
        spread = _seed_part(of_seeds) + max(spread - Z95**2 * of_rest / seeds, 0.0)
    half = math.sqrt(spread)
    return Estimate(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def _seed_part(of_seeds: np.ndarray) -> float:
    """What the variance of the seeds' medians adds to the square of the half-width."""
    seeds = len(of_seeds)
    return float(stdtrit(seeds - 1, 0.975) ** 2 * of_seeds.var(ddof=1) / seeds)
