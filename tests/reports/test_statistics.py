import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from zoo.reports.statistics import (
    Crossed,
    crossed,
    episodes_needed,
    holm,
    interval,
    signed_rank,
)


def test_interval_by_hand():
    # mean 10/4; s² = (2.25 + 0.25 + 0.25 + 2.25) / 3 = 5/3; 1.96·√(5/3)/√4
    assert interval([1, 2, 3, 4]) == pytest.approx((2.5, 1.96 * math.sqrt(5 / 3) / 2))
    assert interval(np.array([0.2, 0.4])) == pytest.approx((0.3, 1.96 * 0.1))


def test_interval_of_one_value_has_no_width_and_of_none_is_an_error():
    mean, ci95 = interval([0.7])
    assert mean == 0.7 and math.isnan(ci95)
    with pytest.raises(ValueError, match="no values"):
        interval([])


# Two seeds, two episodes. Means of seeds 0.25, 2.25, of episodes 0.75, 1.75; rest +-0.25:
# mean squares 4, 1 and 0.25, one degree of freedom each; a = 4 / 4, b = (1 - 0.25) / 4.
SMALL = np.array([[0.0, 0.5], [1.5, 3.0]])


def test_the_crossed_interval_by_hand():
    found = crossed(SMALL)
    t = math.tan(math.pi * 0.475)  # of one degree of freedom, Cauchy's
    assert found.mean == 1.25 and found.ci95 == pytest.approx(t * math.sqrt(1 + 0.1875))
    # Equal quantiles leave Student's t: p = 1 - 2 atan(1.25 / error) / pi
    assert found.error == pytest.approx(math.sqrt(1.1875))
    assert found.p == pytest.approx(
        1 - 2 * math.atan(1.25 / math.sqrt(1.1875)) / math.pi, abs=1e-12
    )
    assert found.freedom == pytest.approx(1.1875**2 / (1 + 0.1875**2))


def test_the_two_variances_have_a_quantile_each():
    """Five episodes whose effects sum to 0, three seeds likewise, no rest."""
    by_seed, by_episode = np.array([-1.0, 0, 1]), np.array([-2.0, -1, 0, 1, 2])
    x = 3 + by_seed[:, None] + by_episode
    # MS_seeds 5 * 2 / 2, MS_episodes 3 * 10 / 4: a = 5 / 15, b = 7.5 / 15.
    found = crossed(x)
    t2, t4 = stats.t.ppf(0.975, [2, 4])
    assert found[:2] == pytest.approx((3, math.sqrt(t2**2 / 3 + t4**2 / 2)))
    p = float(found.p)
    reach = stats.t.isf(p / 2, 2) ** 2 / 3 + stats.t.isf(p / 2, 4) ** 2 / 2
    assert reach == pytest.approx(9, rel=1e-9)


def test_seeds_alone_and_episodes_alone_leave_students_t():
    by_seed, by_episode = np.array([0.3, -0.1, 0.5]), np.array([0.2, 0.7, -0.4, 0.6])
    for values, x in (
        (by_seed, np.tile(by_seed[:, None], 4)),
        (by_episode, np.tile(by_episode, (3, 1))),
    ):
        found, expected = crossed(x), stats.ttest_1samp(values, 0)
        low, high = expected.confidence_interval(0.95)
        assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
        assert found.ci95 == pytest.approx((high - low) / 2)
        assert found.freedom == pytest.approx(len(values) - 1)


def test_many_tables_at_once_are_as_one_by_one():
    x = np.random.default_rng(0).normal(0.3, 1, (4, 2, 3, 20))
    together = crossed(x)
    for at in np.ndindex(4, 2):
        assert [part[at] for part in together] == pytest.approx([float(v) for v in crossed(x[at])])


@pytest.mark.parametrize("episodes", [2, 30, 1000])
def test_of_one_seed_it_is_the_t_test_over_episodes(episodes):
    d = np.random.default_rng(episodes).normal(0.02, 0.1, episodes)
    found, expected = crossed(d[None]), stats.ttest_1samp(d, 0)
    low, high = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-12)
    assert (found.mean, found.ci95) == pytest.approx(((low + high) / 2, (high - low) / 2))
    assert found.freedom == pytest.approx(episodes - 1)


def test_signed_ranks_are_wilcoxons_and_say_nothing_of_zeros():
    d = np.random.default_rng(1).normal(0.02, 0.1, 40).round(2)
    assert signed_rank(d) == stats.wilcoxon(d).pvalue
    assert signed_rank(np.zeros(5)) == 1


VALUES = st.integers(-75, 75).map(lambda n: n / 75)
SHAPES = st.tuples(st.integers(1, 4), st.integers(2, 12))


@given(SHAPES.flatmap(lambda shape: arrays(float, shape, elements=VALUES)))
def test_the_sign_swaps_the_mean_alone_and_the_interval_agrees_with_p(x):
    found, swapped = (Crossed(*map(float, crossed(each))) for each in (x, -x))
    assert found.mean == pytest.approx(-swapped.mean, abs=1e-15)
    assert found[1:] == pytest.approx(swapped[1:], rel=1e-6, abs=1e-12, nan_ok=True)
    assert 0 <= found.p <= 1
    if abs(abs(found.mean) - found.ci95) > 1e-9:
        assert (found.p < 0.05) == (abs(found.mean) > found.ci95)


def test_without_variance_there_is_no_width():
    for seeds in (1, 3):
        assert crossed(np.zeros((seeds, 9)))[:3] == (0, 0, 1)
        assert crossed(np.full((seeds, 9), 0.5))[:3] == (0.5, 0, 0)


def test_of_one_episode_only_the_mean_is_known():
    mean, *others = crossed(np.array([[0.25], [0.5]]))
    assert mean == 0.375 and np.isnan(others).all()


def test_what_is_not_finite_is_said():
    for bad in (np.nan, np.inf):
        d = np.ones((2, 5))
        d[1, 3] = bad
        with pytest.raises(ValueError, match="seed row 1, episode 3 is not a finite"):
            episodes_needed(d)


def test_holm_by_hand():
    # 0.01 * 4, 0.02 * 3, then 0.03 * 2 is no less than 0.06, and 0.9 * 1
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.4, np.nan, 0.04]) == pytest.approx([0.4, np.nan, 0.08], nan_ok=True)
    assert holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert holm([]).size == 0 and np.isnan(holm([np.nan])).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p):
    raised = holm(p)
    assert (raised >= p).all() and (raised <= np.minimum(np.array(p) * len(p), 1) + 1e-12).all()
    assert (np.diff(raised[np.argsort(p)]) >= 0).all()


def test_episodes_needed_by_hand():
    # s^2 = 10 / 4 points; (1.95996 + 0.84162)^2 * 2.5 / 0.5^2 = 78.49
    d = np.array([[-2.0, -1, 0, 1, 2]])
    assert episodes_needed(d, 0.5) == 79
    assert episodes_needed(d, 100) == 2
    assert math.isnan(episodes_needed(d[:, :1]))


def test_no_number_of_episodes_makes_up_for_seeds_that_differ():
    rng = np.random.default_rng(3)
    rest = rng.normal(0, 0.06, (3, 400))
    rest -= rest.mean(1, keepdims=True)  # so MS_seeds is 0
    assert 100 < episodes_needed(rest) < 1e5
    assert episodes_needed(rest + np.array([[-0.02], [0], [0.02]])) == math.inf


@pytest.mark.parametrize("seeds, seed_sd", [(1, 0.0), (3, 0.0), (5, 0.2), (5, 0.0)])
def test_so_many_episodes_give_a_power_of_80_per_cent(seeds, seed_sd):
    """Of a difference of half a point; a little more, as the interval is a little wide."""
    rng = np.random.default_rng(seeds)

    def draw(tables, episodes):
        shape = (tables, seeds, episodes)
        parts = rng.normal(0, seed_sd, (tables, seeds, 1)), rng.normal(0, 2, (tables, 1, episodes))
        return parts[0] + parts[1] + rng.normal(0, 3, shape)

    planned = np.median([episodes_needed(d, 0.5) for d in draw(200, 400)])
    power = (crossed(0.5 + draw(1000, int(planned))).p < 0.05).mean()
    assert 0.74 <= power <= 0.93
