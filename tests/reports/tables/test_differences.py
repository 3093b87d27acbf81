"""All pairs of a table: what is compared, what is not and why, what is best, how it is drawn."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.support.table_cells import texts_under
from zoo.reports.figures.difference_matrix import difference_matrix
from zoo.reports.formats.markdown import to_markdown
from zoo.reports.statistics import holm, paired_test
from zoo.reports.tables.differences import (
    DIFFERENCE_COLUMNS,
    NEW,
    TRAINED,
    best_rows,
    differences_table,
    row_differences,
)

EPISODES = 200


def table(labels, column="5-way 1-shot", seeds=(0,), spread=(), number=0, metric="accuracy"):
    """Contenders, their runs, and what each episode gave: label after label a point worse."""
    rng = np.random.default_rng(number)
    lines, values, luck = [], {}, rng.normal(0, 0.09, EPISODES)
    for place, label in enumerate(labels):
        for seed in seeds:
            run = f"{label}-{column}-s{seed}"
            line = {"column": column, "label": label, "seed": seed, "run": run}
            lines.append({**line, "metric": metric})
            mean = 0.6 - (spread[place] if spread else 0.01 * place)
            found = mean + luck + rng.normal(0, 0.06, EPISODES)
            values[run] = pd.DataFrame({metric: found, "another": 0.0})
    contenders = pd.DataFrame(lines)
    runs = pd.DataFrame(
        {"run": list(values), "episodes_fingerprint": "e", "data_fingerprint": "d"}, dtype=object
    )
    return contenders, runs, values


def shown(means, metric="accuracy"):
    """The numbers of a table of one column."""
    lines = [("5-way 1-shot", label, metric, mean) for label, mean in means.items()]
    return pd.DataFrame(lines, columns=["column", "label", "metric", "mean"])


def both(*tables):
    contenders, runs, values = zip(*tables, strict=True)
    together = {name: frame for each in values for name, frame in each.items()}
    return pd.concat(contenders), pd.concat(runs), together


def test_every_pair_of_every_column_and_holm_over_all():
    given = both(table("ABC"), table("AB", "5-way 5-shot", number=1))
    found = row_differences(*given)
    assert list(found.columns) == DIFFERENCE_COLUMNS
    pairs = found[["column", "first", "second"]].to_numpy().tolist()
    one, five = "5-way 1-shot", "5-way 5-shot"
    assert pairs == [[one, "A", "B"], [one, "A", "C"], [one, "B", "C"], [five, "A", "B"]]
    values = given[2]
    a, c = (values[f"{label}-{one}-s0"]["accuracy"] for label in "AC")
    row = found.iloc[1]
    assert row["p"] == pytest.approx(stats.ttest_rel(a, c).pvalue, abs=1e-12)
    assert row["wilcoxon"] == stats.wilcoxon(a, c).pvalue
    assert row["difference"] == pytest.approx((a - c).mean())
    assert (row["seeds"], row["episodes"], row["claim"], row["why"]) == ([0], 200, TRAINED, "")
    assert row["needed"] == math.ceil((1.959964 + 0.841621) ** 2 * (a - c).var() / 0.005**2)
    for name in ("p", "wilcoxon"):
        assert found[f"{name}_holm"].to_numpy() == pytest.approx(holm(found[name]))


def test_seeds_that_both_have_are_compared():
    contenders, runs, values = table("AB", seeds=(0, 1, 2))
    contenders = contenders[~contenders["run"].str.startswith("B-5-way 1-shot-s0")]
    row = row_differences(contenders, runs, values).iloc[0]
    sides = [
        np.stack([values[f"{x}-5-way 1-shot-s{seed}"]["accuracy"] for seed in (1, 2)]) for x in "AB"
    ]
    assert (row["seeds"], row["claim"]) == ([1, 2], NEW)
    test = paired_test(*sides)
    assert row[["difference", "ci95", "p", "wilcoxon"]].tolist() == pytest.approx(list(test[:4]))


def test_episodes_go_by_their_numbers():
    contenders, runs, values = table("AB")
    expected = row_differences(contenders, runs, values).iloc[0]
    b = list(values)[1]
    values[b] = values[b].sample(frac=1, random_state=0)
    shuffled = row_differences(contenders, runs, values).iloc[0]
    assert shuffled["p"] == pytest.approx(expected["p"])
    values[b] = values[b].sort_index().iloc[50:]
    assert row_differences(contenders, runs, values).iloc[0]["episodes"] == 150
    values[b] = values[b].iloc[:5].rename(lambda n: n + 1000)
    assert "no values" in row_differences(contenders, runs, values).iloc[0]["why"]


@pytest.mark.parametrize(
    "change, why",
    [
        ({"episodes_fingerprint": "x"}, "A and B: other test episodes"),
        ({"episodes_fingerprint": None}, "A and B: other test episodes"),
        ({"data_fingerprint": "x"}, "A and B: other data"),
    ],
)
def test_other_episodes_or_data_are_not_compared(change, why):
    contenders, runs, values = table("ABC")
    for name, value in change.items():
        runs.loc[1, name] = value
    found = row_differences(contenders, runs, values)
    assert found["why"].tolist() == [why, "", why.replace("A and B", "B and C")]
    assert found.iloc[0][["difference", "p", "p_holm", "needed"]].isna().all()
    assert found["p_holm"][1] == found["p"][1]  # one comparison: nothing to correct for


def test_what_else_is_not_compared():
    contenders, runs, values = table("AB", seeds=(0, 1))
    apart = contenders[contenders["run"].isin([f"{x}-5-way 1-shot-s{s}" for x, s in ("A0", "B1")])]
    assert "no seed in common" in row_differences(apart, runs, values).iloc[0]["why"]
    done = {name: frame for name, frame in values.items() if name.startswith("A")}
    assert "without a finished run" in row_differences(contenders, runs, done).iloc[0]["why"]
    next(iter(values.values())).loc[7, "accuracy"] = np.nan
    assert "an episode without a number" in row_differences(contenders, runs, values).iloc[0]["why"]
    with pytest.raises(ValueError, match="A, 5-way 1-shot: two runs of seed 0"):
        row_differences(pd.concat([contenders, contenders]), runs, values)


def test_nothing_to_compare():
    found = row_differences(*table("A"))
    assert found.empty and list(found.columns) == DIFFERENCE_COLUMNS
    assert "No pair can be compared" in to_markdown(differences_table(found, "Glyphs"))
    assert best_rows(found, shown({"A": 0.5})) == set()


def test_the_best_and_those_not_told_from_it():
    contenders, runs, values = table("ABCD", spread=(0.0, 0.0, 0.05, 0.0))
    runs.loc[3, "data_fingerprint"] = "other"
    found = row_differences(contenders, runs, values)
    means = {x: values[f"{x}-5-way 1-shot-s0"]["accuracy"].mean() for x in "ABC"}
    column, tested = "5-way 1-shot", found[(found["first"] != "D") & (found["second"] != "D")]
    assert best_rows(tested, shown(means)) == {(column, "A"), (column, "B")}
    assert best_rows(tested, shown(means, "mse")) == {(column, "C")}
    top = max(means, key=means.__getitem__)
    others = (tested["first"] != top) & (tested["second"] != top)
    loose = tested.assign(p_holm=tested["p_holm"].mask(others))  # the best was tested against both
    assert others.any() and best_rows(loose, shown(means)) == {(column, "A"), (column, "B")}
    means["D"] = min(means.values()) + 0.01
    assert best_rows(found, shown(means)) == set()  # of D nobody knows


GOLDEN = """\
**Glyphs**: accuracy in %; first minus second, paired over the seeds and test episodes that both have; ± is the 95 % interval. p is the t-test's, its null hypothesis of 1 pair (one seed) that the two trained models are equally good on average over test episodes; of 1 pair (several seeds) that the two learners are equally good on average over seeds and test episodes. Holm's correction is over 2 pairs; bold are those below 5 %. Wilcoxon's test is of the signed ranks of the episodes, so of the trained models alone. Episodes for 0.5 points: how many would tell such a difference from 0 (two-sided at 5 %, power 80 %); ∞ where none would, with so few seeds.

| column       | first   | second   | difference       | p       | p (Holm)   | Wilcoxon (Holm)   | seeds x episodes   | episodes for 0.5 points   |
|--------------|---------|----------|------------------|---------|------------|-------------------|--------------------|---------------------------|
| 5-way 1-shot | A       | B        | **+2.00 ± 0.50** | <0.0001 | <0.0001    | 0.0002            | 1 x 1000           | 2,187                     |
| 5-way 1-shot | A       | C        | -1.25 ± 2.50     | 0.2100  | 0.2100     | 0.0100            | 3 x 1000           | ∞                         |
| 5-way 1-shot | B       | C        | –ᵃ               | –       | –          | –                 | –                  | –                         |

- ᵃ B and C: other data
"""  # noqa: E501


def test_golden():
    column = "5-way 1-shot"
    one = (0.02, 0.005, 1e-6, 2e-6, 1e-4, 2e-4, [0], 1000, TRAINED, 2187.0, "")
    several = (-0.0125, 0.025, 0.21, 0.21, 0.01, 0.01, [0, 1, 2], 1000, NEW, math.inf, "")
    none = (*[math.nan] * 6, [], pd.NA, None, math.nan, "B and C: other data")
    pairs = zip(("AB", "AC", "BC"), (one, several, none), strict=True)
    lines = [(column, "accuracy", *pair, *found) for pair, found in pairs]
    found = pd.DataFrame(lines, columns=DIFFERENCE_COLUMNS)
    assert to_markdown(differences_table(found, "Glyphs")) == GOLDEN


def test_errors_are_in_their_own_unit_and_need_no_number_of_episodes():
    found = row_differences(*table("AB", metric="mse"))
    assert found["needed"].isna().all()
    text = differences_table(found, "Sine waves")
    mean, ci95 = found.loc[0, ["difference", "ci95"]]
    assert texts_under(text, "difference") == [f"{mean:+.3f} ± {ci95:.3f}"]
    assert "0.5 points" not in text.caption


@pytest.mark.parametrize("count", [2, 5, 16, 30])
def test_the_picture(count):
    """The numbers stand in their cells, the names left of them, within the picture."""
    labels = [f"Learner {n} [some_setting={n},another_one=false]" for n in range(count)]
    found = row_differences(*table(labels, spread=[0.01 * n for n in range(count)]))
    drawing = difference_matrix(found, "5-way 1-shot")
    drawing.canvas.draw()
    width, height = drawing.get_size_inches()
    assert width == pytest.approx(3.4 * max(1, count / 16))
    axes = drawing.axes[0]
    assert len(axes.texts) == count * (count - 1)
    texts = {text.get_position(): text for text in axes.texts}
    row = found.iloc[0]
    assert float(texts[1, 0].get_text()) == pytest.approx(100 * row["difference"], abs=0.05)
    assert float(texts[0, 1].get_text()) == pytest.approx(-100 * row["difference"], abs=0.05)
    pale = texts[1, 0].get_color() == "0.45"
    assert pale == (row["p_holm"] >= 0.05)
    boxes = [
        text.get_window_extent() for text in (*axes.get_yticklabels(), *axes.get_xticklabels())
    ]
    for box in boxes:
        assert box.x0 >= 0 and box.x1 <= 300 * width and box.y0 >= 0 and box.y1 <= 300 * height
    heights = sorted((box.y0, box.y1) for box in boxes[:count])
    assert all(low[1] <= high[0] + 1 for low, high in itertools.pairwise(heights))
    cell = axes.get_window_extent().width / count
    assert max(text.get_window_extent().width for text in axes.texts) <= cell


def test_a_picture_of_nothing():
    assert difference_matrix(row_differences(*table("A")), "5-way 1-shot").axes
