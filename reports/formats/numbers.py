"""Numbers as tables write them."""

import math

import pandas as pd

from zoo.reports.estimates import Estimate
from zoo.reports.formats.table import NONE


def with_interval(found: Estimate, form: str = ".2f", sign: str = "-") -> str:
    """A number and its 95 % interval: ``97.01 ± 0.12``, or ``99.41 (99.20 to 99.56)``.

    The ends are written out where the number does not stand in the middle.

    Args:
        found: in the unit that is shown. Without a number it is a dash, without an interval the
            number alone.
        form: how the numbers are formatted.
        sign: "+" for a sign before every value, "-" before negative ones alone.
    """
    return NONE if pd.isna(found.value) else found.text(form, sign)


def ratio_text(found: Estimate) -> str:
    """A ratio and its 95 % interval: ``×0.93 (0.88 to 0.99)``."""
    least = min(found) if not math.isnan(found.low) else found.value
    form = ".2f" if 0.1 <= least and max(found) < 1000 else ".3g"
    return NONE if pd.isna(found.value) else "×" + with_interval(found, form)
