"""What tables say of a learner and of two: values by hand, and what must hold of any."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from zoo.reports.estimates import (
    Estimate,
    columns_of,
    compare,
    estimate,
    estimate_from_record,
    estimate_in,
    trimmed_mean,
    value_if_equal,
)
from zoo.reports.statistics import crossed

NAN = math.nan
SHAPES = st.tuples(st.integers(1, 4), st.integers(2, 12))
ACCURACY, ERROR = st.integers(0, 75).map(lambda n: n / 75), st.floats(1e-3, 1e3)


def of(elements):
    return SHAPES.flatmap(lambda shape: arrays(float, shape, elements=elements))


def pairs_of(elements):
    both = SHAPES.flatmap(lambda shape: arrays(float, (2, *shape), elements=elements))
    return both.map(tuple)


# --- the number itself


def test_half_is_there_where_the_number_stands_in_the_middle():
    assert Estimate(0.5, 0.25, 0.75).half == 0.25 and Estimate(0.5, 0.5, 0.5).half == 0
    assert math.isnan(Estimate(0.5, 0.2, 0.7).half)
    assert math.isnan(Estimate(0.5).half) and math.isnan(Estimate(NAN).half)


def test_an_estimate_in_another_unit_and_in_columns():
    found = Estimate(0.5, 0.25, 0.75)
    assert found.times(100) == (50, 25, 75)
    assert found.columns("x") == {"x": 0.5, "x_low": 0.25, "x_high": 0.75}
    assert list(found.columns("x")) == list(columns_of("x"))
    assert estimate_in({"y": 1, **found.columns("x")}, "x") == found


def test_the_trimmed_mean_leaves_out_a_tenth_at_each_end():
    assert trimmed_mean(np.array([1e9, 2, 3, 4, 5, 6, 7, 8, 9, -1e9])) == 5.5
    assert trimmed_mean(np.array([[0.0, 3.0], [6.0, 3.0]])) == 3  # of four, none is left out


# --- accuracies


def test_of_one_seed_the_interval_is_over_its_episodes():
    # mean 0.5, s^2 = (0.09 + 0.01 + 0.01 + 0.09) / 3
    half = 1.96 * math.sqrt(0.2 / 3) / 2
    found = estimate(np.array([0.2, 0.4, 0.6, 0.8]), "accuracy")
    assert found == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    assert estimate(np.array([[0.2, 0.4, 0.6, 0.8]]), "accuracy@instance2") == found


def test_of_several_seeds_it_is_for_a_new_one():
    x = np.random.default_rng(0).random((3, 20))
    mean, half = crossed(x)[:2]
    assert estimate(x, "accuracy") == pytest.approx((mean, mean - half, mean + half))


@pytest.mark.parametrize("episodes", [2, 10, 600])
@pytest.mark.parametrize("seeds", [1, 3])
def test_all_right_is_wilsons_interval_of_as_many_trials_as_episodes(seeds, episodes):
    found = estimate(np.ones((seeds, episodes)), "accuracy")
    assert found.value == found.high == 1  # n of n: from n / (n + z^2)
    assert found.low == pytest.approx(episodes / (episodes + 1.96**2))


def test_near_one_it_reaches_farther_down_than_up():
    x = np.ones((1, 600))
    x[0, :10] = 0.6
    found = estimate(x, "accuracy")
    half = 1.96 * x.std(ddof=1) / math.sqrt(600)
    assert found.value == pytest.approx(1 - 4 / 600) and math.isnan(found.half)
    assert found.low < found.value - half and found.value < found.high < 1
    assert found.value - found.low > found.high - found.value


def test_below_99_per_cent_it_is_symmetric():
    x = np.ones((1, 600))
    x[0, :20] = 0.6
    found = estimate(x, "accuracy")
    assert found.value < 0.99
    assert found.half == pytest.approx(1.96 * x.std(ddof=1) / math.sqrt(600))


@given(of(st.sampled_from([1.0] * 60 + [74 / 75, 0.8, 0.2])))
def test_near_one_the_interval_holds_the_mean_and_stays_within_0_and_1(x):
    found = estimate(x, "accuracy")
    assert found.low <= found.value <= found.high
    if found.value >= 0.99:
        assert 0 <= found.low and found.high <= 1


@given(st.floats(0.99, 1), st.floats(0, 0.02), st.integers(2, 1000))
def test_a_record_near_one_has_such_an_interval_too(mean, ci95, episodes):
    found = estimate_from_record(mean, ci95, "accuracy", episodes)
    assert 0 <= found.low <= mean <= found.high <= 1


def test_what_a_record_alone_says():
    plain = estimate_from_record(0.95, 0.01, "accuracy", 600)
    assert plain == pytest.approx((0.95, 0.94, 0.96))
    # as many trials as give this half-width: n = z^2 p (1 - p) / half^2 = 380.3
    near = estimate_from_record(0.99, 0.01, "accuracy", 600)
    n = 1.96**2 * 0.99 * 0.01 / 0.01**2
    assert near.low == pytest.approx(
        (n * 0.99 + 1.96**2 / 2 - 1.96 * math.sqrt(n * 0.99 * 0.01 + 1.96**2 / 4)) / (n + 1.96**2)
    )
    assert estimate_from_record(1.0, 0.0, "accuracy", 600)[1:] == pytest.approx(
        (600 / (600 + 1.96**2), 1)
    )
    assert estimate_from_record(0.995, NAN, "accuracy", 1) == pytest.approx(
        (0.995, NAN, NAN), nan_ok=True
    )
    assert np.isnan(estimate_from_record(0.4, 0.01, "mse", 600)).all()
    assert np.isnan(estimate_from_record(NAN, NAN, "accuracy", 600)).all()


# --- squared errors


def test_of_a_squared_error_the_median_is_shown():
    x = np.array([[1.0, 2.0, 4.0, 8.0, 1e9], [1.0, 4.0, 16.0, 64.0, 256.0]])
    one = estimate(x[0], "mse")
    assert one.value == pytest.approx(4) and one.low < 4 < one.high
    assert one.high / 4 == pytest.approx(4 / one.low)  # as far up as down, on logarithms
    assert estimate(x, "mse").value == pytest.approx(8)  # the geometric mean of 4 and 16
    assert estimate(x, "mse") == estimate(x, "mse")


@given(of(ERROR))
def test_the_median_lies_in_its_interval(x):
    found = estimate(x, "mse")
    assert 0 < found.low <= found.value * (1 + 1e-9) and found.value <= found.high * (1 + 1e-9)


def test_the_interval_of_a_median_is_about_as_wide_as_theory_has_it():
    """On normal logarithms, 1.96 * sqrt(pi / 2) / sqrt(E)."""
    logs = np.random.default_rng(3).standard_normal(2000)
    found = estimate(np.exp(logs), "mse")
    half = math.log(found.high / found.value)
    assert half == pytest.approx(1.96 * math.sqrt(math.pi / 2 / 2000), rel=0.15)


def test_seeds_that_differ_widen_the_interval_of_the_median():
    logs = np.random.default_rng(3).standard_normal((3, 300))
    near, far = (
        estimate(np.exp(logs + apart * np.array([[-1], [0], [1]])), "mse") for apart in (0.0, 1.0)
    )
    t = stats.t.ppf(0.975, 2)
    assert math.log(far.high / far.value) > 2 * math.log(near.high / near.value)
    assert math.log(far.high / far.value) == pytest.approx(t / math.sqrt(3), rel=0.1)


def test_a_task_that_diverges_decides_the_mean_but_not_the_median():
    x = np.random.default_rng(4).lognormal(-1, 1, 600)
    y = x.copy()
    y[x.argmin()] = 1e9
    assert estimate(y, "mse") == pytest.approx(estimate(x, "mse"), rel=0.01)
    assert trimmed_mean(y) == pytest.approx(trimmed_mean(x), rel=0.02)
    assert y.mean() > 1e6 * x.mean()


def test_one_episode_has_no_interval_and_none_is_an_error():
    for metric, value in (("accuracy", 0.5), ("mse", 0.5)):
        found = estimate(np.array([[0.5]]), metric)
        assert found.value == pytest.approx(value) and np.isnan(found[1:]).all()
        with pytest.raises(ValueError, match="no values"):
            estimate(np.empty((2, 0)), metric)


# --- two learners

A, B = np.array([[0.5, 0.75, 1.0, 0.75]]), np.array([[0.25, 0.75, 0.25, 0.75]])


def test_accuracies_are_compared_by_their_difference():
    # d = 0.25 0 0.75 0: mean 0.25, s^2 = (0 + 1 + 4 + 1) / 16 / 3
    half = stats.t.ppf(0.975, 3) * math.sqrt(0.125) / 2
    found = compare(A, B, "accuracy")
    assert found.estimate == pytest.approx((0.25, 0.25 - half, 0.25 + half))
    assert found.p == pytest.approx(stats.ttest_rel(A[0], B[0]).pvalue)
    assert found.wilcoxon == stats.wilcoxon(A[0], B[0]).pvalue
    assert value_if_equal("accuracy") == 0 and value_if_equal("mse") == 1


def test_errors_are_compared_by_the_ratio_of_their_geometric_means():
    # logarithms of 2, 2, 8, 8: mean log 4, s^2 = 4 log(2)^2 / 3
    a, b = np.array([[2.0, 4.0, 8.0, 80.0]]), np.array([[1.0, 2.0, 1.0, 10.0]])
    half = stats.t.ppf(0.975, 3) * math.log(2) / math.sqrt(3)
    found = compare(a, b, "mse")
    assert found.estimate == pytest.approx((4, 4 * math.exp(-half), 4 * math.exp(half)))
    assert found.p == pytest.approx(stats.ttest_rel(np.log(a[0]), np.log(b[0])).pvalue)
    assert found.wilcoxon == stats.wilcoxon(np.log(a[0]) - np.log(b[0])).pvalue


def test_seeds_are_crossed_and_wilcoxon_is_of_their_means():
    a, b = np.random.default_rng(1).normal(0.6, 0.1, (2, 3, 40)).round(2)
    found, sums = compare(a, b, "accuracy"), crossed(a - b)
    assert found.estimate.half == pytest.approx(sums.ci95) and found.p == sums.p
    assert found.wilcoxon == stats.wilcoxon((a - b).mean(0)).pvalue


@given(pairs_of(ACCURACY))
def test_swapping_the_learners_swaps_the_sign(pair):
    found, swapped = (compare(*each, "accuracy") for each in (pair, pair[::-1]))
    mirrored = [-end for end in (swapped.estimate.value, *swapped.estimate[:0:-1])]
    assert found.estimate == pytest.approx(mirrored, abs=1e-12)
    assert found[1:] == pytest.approx(swapped[1:], rel=1e-6, abs=1e-12)


@given(pairs_of(ERROR))
def test_swapping_the_learners_inverts_the_ratio(pair):
    found, swapped = (compare(*each, "mse") for each in (pair, pair[::-1]))
    inverted = [1 / end for end in (swapped.estimate.value, *swapped.estimate[:0:-1])]
    assume(np.isfinite([*found.estimate, *inverted]).all())  # of two tasks it may be without end
    assert found.estimate == pytest.approx(inverted, rel=1e-6)
    assert found.p == pytest.approx(swapped.p, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("metric", "elements"), [("accuracy", ACCURACY), ("mse", ERROR)])
@given(st.data())
def test_the_interval_leaves_equality_out_exactly_where_p_is_below_5_per_cent(
    metric, elements, data
):
    found, equal = compare(*data.draw(pairs_of(elements)), metric), value_if_equal(metric)
    value, low, high = found.estimate
    assert low <= value <= high or math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-12)
    if min(abs(low - equal), abs(high - equal)) > 1e-9:
        assert (found.p < 0.05) == (not low <= equal <= high)


@given(of(ACCURACY), st.floats(-1, 1))
def test_an_offset_shared_by_all_episodes_is_a_difference_without_width(x, offset):
    assert compare(x + offset, x, "accuracy").estimate == pytest.approx([offset] * 3, abs=1e-9)


def test_equal_learners_do_not_differ():
    x = np.random.default_rng(2).integers(1, 75, (3, 9)) / 64
    for seeds in (1, 3):
        assert compare(x[:seeds], x[:seeds], "accuracy") == ((0, 0, 0), 1, 1)
        assert compare(x[:seeds], x[:seeds], "mse") == ((1, 1, 1), 1, 1)
        assert compare(x[:seeds] + 0.5, x[:seeds], "accuracy")[:2] == ((0.5, 0.5, 0.5), 0)


def test_a_task_that_diverges_hardly_moves_a_ratio():
    x, y = np.random.default_rng(5).lognormal(0, 1, (2, 1, 600))
    far = x.copy()
    far[0, 0] = 1e9
    assert compare(far, y, "mse").estimate == pytest.approx(compare(x, y, "mse").estimate, rel=0.1)


def test_an_error_of_zero_has_a_ratio():
    found = compare(np.zeros((1, 5)), np.ones((1, 5)), "mse").estimate
    assert 0 < found.value < 1e-300


def test_of_one_episode_there_is_no_interval_and_no_p():
    found = compare(np.array([[0.5], [0.75]]), np.array([[0.25], [0.25]]), "accuracy")
    assert found.estimate.value == 0.375
    assert np.isnan([*found.estimate[1:], found.p]).all()


@pytest.mark.parametrize("metric", ["accuracy", "mse"])
def test_what_cannot_be_compared_is_said(metric):
    x = np.ones((2, 5))
    with pytest.raises(ValueError, match=r"\(2, 5\) and \(2, 4\)"):
        compare(x, x[:, :4], metric)
    with pytest.raises(ValueError, match=r"\(seeds, episodes\) twice, not \(5,\) and \(5,\)"):
        compare(x[0], x[0], metric)
    with pytest.raises(ValueError, match="no values"):
        compare(x[:, :0], x[:, :0], metric)
    for bad in (np.nan, np.inf):
        y = x.copy()
        y[1, 3] = bad
        for pair in ((x, y), (y, x)):
            with pytest.raises(ValueError, match="seed row 1, episode 3 is not finite"):
                compare(*pair, metric)
