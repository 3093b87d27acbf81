"""Intervals over test episodes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

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


def _by_episode(values: Any) -> pd.Series:
    return values if isinstance(values, pd.Series) else pd.Series(np.asarray(values, np.float64))
