"""Numbers as tables write them."""

import math

import pandas as pd

from zoo.reports.formats.table import NONE


def with_interval(value: float, ci95: float = math.nan, form: str = ".2f", sign: str = "-") -> str:
    """A number and the half-width of its interval: ``97.01 ± 0.12``.

    Args:
        value: in the unit that is shown; nan for none, which is a dash.
        ci95: likewise; nan for none, which leaves it out.
        form: how both are formatted.
        sign: "+" for a sign before every value, "-" before negative ones alone.
    """
    if pd.isna(value):
        return NONE
    text = format(value, sign + form)
    return text if pd.isna(ci95) else f"{text} ± {ci95:{form}}"
