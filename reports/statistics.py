"""Intervals over test episodes, and over seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

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


def paired_difference(a: Values, b: Values) -> tuple[float, float]:
    """Mean of dᵢ = aᵢ − bᵢ over the episodes i that both have, and 1.96·s_d/√n.

    Two runs judged on the same episodes share the episodes' luck; it cancels in dᵢ, so this
    interval is the one to compare with 0. A test episode is known by its number: a Series goes
    by its index, an array by position, and a run over 300 episodes shares the first 300 of a run
    over 1,000 when both have the same protocol.

    Args:
        a: (n_a,) one number an episode.
        b: (n_b,) the same metric of another run.

    Raises:
        ValueError: no episode is shared.
    """
    left, right = _by_episode(a), _by_episode(b)
    shared = left.index.intersection(right.index)
    if shared.empty:
        raise ValueError("the two runs share no test episode")
    return interval((left[shared] - right[shared]).to_numpy())


def crossed_interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval for a new seed and new episodes.

    Every seed is tested on the same episodes, so a value is the sum of a mean, an effect of its
    seed, one of its episode, and a rest. With mean squares MS the mean's variance is
    (MS_seeds + MS_episodes - MS_rest) / (S E), its degrees of freedom are Satterthwaite's (1946).
    A component that is estimated below 0 counts as 0. Of one seed it is `interval`: a claim about
    these trained weights.

    Args:
        values: (S, E), a row a seed, a column an episode.

    Raises:
        ValueError: there are no values.
    """
    x = np.asarray(values, dtype=np.float64)
    seeds, episodes = x.shape
    if seeds < 2 or episodes < 2:
        return interval(x.ravel())
    by_seed, by_episode, mean = x.mean(1), x.mean(0), x.mean()
    rest = x - by_seed[:, None] - by_episode + mean
    dof = np.array([seeds - 1, episodes - 1, (seeds - 1) * (episodes - 1)], dtype=np.float64)
    sums = [episodes * np.square(by_seed - mean).sum(), seeds * np.square(by_episode - mean).sum()]
    squares = np.array([*sums, np.square(rest).sum()]) / dof
    squares[:2] = np.maximum(squares[:2], squares[2])
    total = squares[0] + squares[1] - squares[2]
    if total <= 0:
        return float(mean), 0.0
    freedom = total**2 / (np.square(squares) / dof).sum()
    half = stdtrit(freedom, 0.975) * np.sqrt(total / (seeds * episodes))
    return float(mean), float(half)


def _by_episode(values: Any) -> pd.Series:
    return values if isinstance(values, pd.Series) else pd.Series(np.asarray(values, np.float64))
