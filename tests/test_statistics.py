import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.statistics import interval, paired_difference


def test_interval_by_hand():
    # mean 10/4; s² = (2.25 + 0.25 + 0.25 + 2.25) / 3 = 5/3; 1.96·√(5/3)/√4
    assert interval([1, 2, 3, 4]) == pytest.approx((2.5, 1.96 * math.sqrt(5 / 3) / 2))
    assert interval(np.array([0.2, 0.4])) == pytest.approx((0.3, 1.96 * 0.1))


def test_interval_of_one_value_has_no_width_and_of_none_is_an_error():
    mean, ci95 = interval([0.7])
    assert mean == 0.7 and math.isnan(ci95)
    with pytest.raises(ValueError, match="no values"):
        interval([])


def test_paired_difference_by_hand():
    # d = 1, 0, 3: mean 4/3; s² = (1 + 16 + 25) / 9 / 2 = 7/3; 1.96·√(7/3)/√3
    expected = (4 / 3, 1.96 * math.sqrt(7 / 3) / math.sqrt(3))
    assert paired_difference([1, 2, 4], [0, 2, 1]) == pytest.approx(expected)
    assert paired_difference([1, 2, 4, 9], np.array([0, 2, 1])) == pytest.approx(expected)


def test_paired_difference_goes_by_the_episodes_of_a_series():
    a = pd.Series([5.0, 1.0, 2.0, 4.0], index=[9, 0, 1, 2])
    b = pd.Series([1.0, 2.0, 0.0, 7.0], index=[2, 1, 0, 3])
    assert paired_difference(a, b) == pytest.approx(paired_difference([1, 2, 4], [0, 2, 1]))
    with pytest.raises(ValueError, match="share no"):
        paired_difference(a[[9]], b)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50), st.floats(-1, 1))
def test_an_offset_shared_by_all_episodes_is_a_difference_without_width(values, offset):
    x = np.array(values)
    mean, ci95 = paired_difference(x + offset, x)
    assert mean == pytest.approx(offset, abs=1e-12)
    assert ci95 == pytest.approx(0, abs=1e-12)
