"""Estimates as tables write them."""

import math

import pandas as pd

from zoo.reports.estimates import Estimate
from zoo.reports.formats.table import NONE


def with_interval(estimate: Estimate, form: str = ".2f", sign: str = "-") -> str:
    """A number and its 95 % interval: ``97.01 ± 0.12``, or ``99.41 (99.20 to 99.56)``.

    The ends are written out where the number is not in the middle.

    Args:
        estimate: in the unit that is shown. A missing number becomes a dash; without an interval
            the number stands alone.
        form: how the numbers are formatted.
        sign: "+" writes a sign before every value, "-" before negative ones only.
    """
    return NONE if pd.isna(estimate.value) else estimate.text(form, sign)


def ratio_text(ratio: Estimate) -> str:
    """A ratio and its 95 % interval: ``×0.93 (0.88 to 0.99)``."""
    if pd.isna(ratio.value):
        return NONE
    least = min(ratio) if not math.isnan(ratio.low) else ratio.value
    form = ".2f" if 0.1 <= least and max(ratio) < 1000 else ".3g"
    return "×" + with_interval(ratio, form)
