"""All pairs of a table: what is compared, what is not and why, what is best, how it is drawn."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy import stats

from tests.support.table_cells import texts_under
from zoo.reports.estimates import compare
from zoo.reports.figures.difference_matrix import difference_matrix
from zoo.reports.formats.markdown import to_markdown
from zoo.reports.statistics import holm
from zoo.reports.tables.differences import (
    DIFFERENCE_COLUMNS,
    NEW,
    TRAINED,
    best_rows,
    differences_table,
    pairs_with_best,
    row_differences,
)

EPISODES = 200


THREE = (0, 1, 2)


def table(
    labels, column="5-way 1-shot", seeds=(0,), spread=(), number=0, metric="accuracy", block="one"
):
    """Contenders, their runs, and what each episode gave: label after label a point worse."""
    rng = np.random.default_rng(number)
    lines, values, luck = [], {}, rng.normal(0, 0.09, EPISODES)
    for place, label in enumerate(labels):
        for seed in seeds:
            run = f"{label}-{column}-s{seed}"
            line = {"column": column, "block": block, "label": label, "seed": seed, "run": run}
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
    return pd.DataFrame(lines, columns=["column", "label", "metric", "value"])


def both(*tables):
    contenders, runs, values = zip(*tables, strict=True)
    together = {name: frame for each in values for name, frame in each.items()}
    return pd.concat(contenders), pd.concat(runs), together


def test_every_pair_of_every_column_and_holm_over_all_of_a_block():
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
    test = compare(*sides, "accuracy")
    ends = row[["difference", "difference_low", "difference_high"]].tolist()
    assert ends == pytest.approx(list(test.estimate))
    assert row[["p", "wilcoxon"]].tolist() == pytest.approx([test.p, test.wilcoxon])


def test_rows_of_two_blocks_are_not_compared_and_not_corrected_for():
    alone, others = table("ABC"), table("XYZ", block="two", number=1)
    found = row_differences(*both(alone, others))
    assert found["block"].tolist() == ["one"] * 3 + ["two"] * 3
    for block, given in (("one", alone), ("two", others)):
        part = found[found["block"] == block].reset_index(drop=True)
        expected = row_differences(*given)
        assert part["p_holm"].tolist() == pytest.approx(expected["p_holm"].tolist())
        assert set(part["first"]) | set(part["second"]) == set(given[0]["label"])


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
    contenders, runs, values = table("ABCD", seeds=THREE, spread=(0.0, 0.0, 0.05, 0.0))
    runs.loc[runs["run"].str.startswith("D"), "data_fingerprint"] = "other"
    found = row_differences(contenders, runs, values)
    means = {
        x: np.mean([values[f"{x}-5-way 1-shot-s{seed}"]["accuracy"] for seed in THREE])
        for x in "ABC"
    }
    column, tested = "5-way 1-shot", found[(found["first"] != "D") & (found["second"] != "D")]
    assert best_rows(tested, shown(means)) == {(column, "A"), (column, "B")}
    top = max(means, key=means.__getitem__)
    others = (tested["first"] != top) & (tested["second"] != top)
    loose = tested.assign(p_holm=tested["p_holm"].mask(others))  # the best was tested against both
    assert others.any() and best_rows(loose, shown(means)) == {(column, "A"), (column, "B")}
    means["D"] = min(means.values()) + 0.01
    assert best_rows(found, shown(means)) == set()  # of D nobody knows


def test_of_errors_the_least_is_best():
    given = table("ABC", seeds=THREE, spread=(0.0, 0.0, 0.2), metric="mse")
    numbers = shown({"A": 0.6, "B": 0.61, "C": 0.4}, "mse")
    assert best_rows(row_differences(*given), numbers) == {("5-way 1-shot", "C")}


def test_each_block_has_a_best_row_of_its_own():
    one = table("AB", seeds=THREE, spread=(0.0, 0.2))
    two = table("XY", seeds=THREE, spread=(0.4, 0.2), block="two", number=1)
    found = row_differences(*both(one, two))
    numbers = shown({"A": 0.6, "B": 0.4, "X": 0.2, "Y": 0.4})
    assert best_rows(found, numbers) == {("5-way 1-shot", "A"), ("5-way 1-shot", "Y")}


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_fewer_than_three_seeds_rank_nobody(seeds):
    found = row_differences(*table("AB", seeds=seeds, spread=(0.0, 0.3)))
    numbers = shown({"A": 0.6, "B": 0.3})
    assert best_rows(found, numbers) == set()
    text = differences_table(found.assign(p_holm=1e-9), "Glyphs")
    assert not any(cell.bold for row in text.rows for cell in row)
    assert "Nothing is bold: that takes three seeds" in text.caption
    three = row_differences(*table("AB", seeds=THREE, spread=(0.0, 0.3)))
    assert best_rows(three, numbers) == {("5-way 1-shot", "A")}
    text = differences_table(three, "Glyphs")
    assert [cell.bold for row in text.rows for cell in row].count(True) == 1
    assert "Bold are those below 5 %" in text.caption


def test_a_row_of_two_seeds_among_rows_of_three_leaves_nothing_bold():
    contenders, runs, values = table("ABC", seeds=THREE, spread=(0.0, 0.3, 0.3))
    contenders = contenders[contenders["run"] != "C-5-way 1-shot-s2"]
    found = row_differences(contenders, runs, values)
    assert best_rows(found, shown({"A": 0.6, "B": 0.3, "C": 0.3})) == set()


def test_the_pairs_of_the_best_row_of_each_column_and_block():
    one, five = table("ABC"), table("ABC", "5-way 5-shot", number=1)
    found = row_differences(*both(one, five, table("XYZ", block="two", number=2)))
    numbers = shown({"A": 0.6, "B": 0.7, "C": 0.5, "X": 0.1, "Y": 0.2, "Z": 0.9})
    more = numbers[:3].assign(column="5-way 5-shot", value=[0.5, 0.6, 0.7])
    kept = pairs_with_best(found, pd.concat([numbers, more]))
    pairs = (kept["column"].str[-6:] + " " + kept["first"] + kept["second"]).tolist()
    assert pairs == ["1-shot AB", "1-shot BC", "5-shot AC", "5-shot BC", "1-shot XZ", "1-shot YZ"]
    alone = found.merge(kept[["column", "first", "second"]])["p_holm"]  # corrected for all pairs
    assert sorted(kept["p_holm"]) == pytest.approx(sorted(alone))
    assert len(pairs_with_best(found, numbers[:0])) == len(found)  # no best row: all pairs


def test_a_row_that_the_test_finds_worse_is_not_bold_for_its_median():
    """Errors: mostly 0.8 and often 30, against 1: the lower median, but the larger mean of logs."""
    contenders, runs, values = table("AB", seeds=(0, 1, 2), metric="mse")
    rng = np.random.default_rng(0)
    for run in values:
        often = rng.random(EPISODES) < 0.25
        noise = np.exp(rng.normal(0, 0.01, EPISODES))
        values[run]["mse"] = noise * (np.where(often, 30.0, 0.8) if run[0] == "A" else 1.0)
    found = row_differences(contenders, runs, values)
    assert found["p_holm"].iloc[0] < 0.05 and found["difference"].iloc[0] > 1
    assert best_rows(found, shown({"A": 0.8, "B": 1.0}, "mse")) == set()
    assert best_rows(found, shown({"A": 1.2, "B": 1.0}, "mse")) == {("5-way 1-shot", "B")}


def test_blocks_are_headed_where_there_are_several():
    found = row_differences(*both(table("AB"), table("XY", block="two", number=1)))
    text = to_markdown(differences_table(found, "Glyphs"))
    lines = [line.split("|")[1].strip() for line in text.splitlines()[4:]]
    assert lines == ["*one*", "5-way 1-shot", "*two*", "5-way 1-shot"]
    assert differences_table(found[:1], "Glyphs").blocks == ()


def test_of_one_seed_the_heading_says_whom_the_difference_is_between():
    (head,) = [c.name for c in differences_table(row_differences(*table("AB")), "T").columns if
               "difference" in c.name]  # fmt: skip
    assert head == "difference between these two trained models"
    several = differences_table(row_differences(*table("AB", seeds=(0, 1))), "T")
    assert "difference" in [column.name for column in several.columns]


GOLDEN = """\
**Glyphs**: accuracy in %; first minus second, paired over the seeds and test episodes that both have, with its 95 % interval. p is the t-test's, its null hypothesis of 1 pair (one seed) that the two trained models are equally good on average over test episodes; of 1 pair (several seeds) that the two learners are equally good on average over seeds and test episodes. Holm's correction is over all pairs of a block, shown or not. Wilcoxon's test is of the signed ranks of the episodes, so of the trained models alone. Bold are those below 5 % with three seeds or more. Episodes for 0.5 points: how many would tell such a difference from 0 (two-sided at 5 %, power 80 %); ∞ where none would, with so few seeds.

| column       | first   | second   | difference       | p       | p (Holm)   | Wilcoxon (Holm)   | seeds x episodes   | episodes for 0.5 points   |
|--------------|---------|----------|------------------|---------|------------|-------------------|--------------------|---------------------------|
| 5-way 1-shot | A       | B        | +2.00 ± 0.50     | <0.0001 | <0.0001    | 0.0002            | 1 x 1000           | 2,187                     |
| 5-way 1-shot | A       | C        | **-1.25 ± 0.75** | 0.0100  | 0.0200     | 0.0100            | 3 x 1000           | ∞                         |
| 5-way 1-shot | B       | C        | –ᵃ               | –       | –          | –                 | –                  | –                         |

- ᵃ B and C: other data
"""  # noqa: E501


def test_golden():
    column = "5-way 1-shot"
    one = (0.02, 0.015, 0.025, 1e-6, 2e-6, 1e-4, 2e-4, [0], 1000, TRAINED, 2187.0, "")
    three = (-0.0125, -0.02, -0.005, 0.01, 0.02, 0.01, 0.01, [0, 1, 2], 1000, NEW, math.inf, "")
    none = (*[math.nan] * 7, [], pd.NA, None, math.nan, "B and C: other data")
    pairs = zip(("AB", "AC", "BC"), (one, three, none), strict=True)
    lines = [(column, "one", "accuracy", *pair, *found) for pair, found in pairs]
    found = pd.DataFrame(lines, columns=DIFFERENCE_COLUMNS)
    assert to_markdown(differences_table(found, "Glyphs")) == GOLDEN


def test_errors_are_compared_by_their_ratio_and_need_no_number_of_episodes():
    given = table("AB", metric="mse")
    found = row_differences(*given)
    assert found["needed"].isna().all()
    sides = [frame["mse"].to_numpy()[None] for frame in given[2].values()]
    value, low, high = compare(*sides, "mse").estimate
    text = differences_table(found, "Sine waves")
    head = "difference between these two trained models"
    assert texts_under(text, head) == [f"×{value:.2f} ({low:.2f} to {high:.2f})"]
    assert "0.5 points" not in text.caption and "ratio of geometric means" in text.caption


@pytest.mark.parametrize("count", [2, 5, 16, 30])
def test_the_picture(count):
    """The numbers stand in their cells, the names left of them, within the picture."""
    labels = [f"Learner {n} [some_setting={n},another_one=false]" for n in range(count)]
    found = row_differences(*table(labels, spread=[0.01 * n for n in range(count)]))
    drawing = difference_matrix(found, "5-way 1-shot")
    FigureCanvasAgg(drawing).draw()  # one renderer for all texts: each takes 15 MB
    width, height = drawing.get_size_inches()
    assert 3.4 * max(1, count / 16) <= width <= 5.5 * max(1, count / 16)
    axes = drawing.axes[0]
    assert len(axes.texts) == count * (count - 1)
    texts = {text.get_position(): text for text in axes.texts}
    row = found.iloc[0]
    assert float(texts[1, 0].get_text()) == pytest.approx(100 * row["difference"], abs=0.05)
    assert float(texts[0, 1].get_text()) == pytest.approx(-100 * row["difference"], abs=0.05)
    pale = texts[1, 0].get_color() == "0.45"
    assert pale == (row["p_holm"] >= 0.05)
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert ["".join(name.split()) for name in names] == [
        "".join(f"{label}{n}".split()) for n, label in enumerate(labels, 1)
    ]
    boxes = [
        text.get_window_extent() for text in (*axes.get_yticklabels(), *axes.get_xticklabels())
    ]
    for box in boxes:
        assert box.x0 >= 0 and box.x1 <= 300 * width and box.y0 >= 0 and box.y1 <= 300 * height
    heights = sorted((box.y0, box.y1) for box in boxes[:count])
    assert all(low[1] <= high[0] + 1 for low, high in itertools.pairwise(heights))
    cell = axes.get_window_extent().width / count
    assert max(text.get_window_extent().width for text in axes.texts) <= cell


def test_the_picture_of_short_names_is_as_wide_as_a_column():
    drawing = difference_matrix(row_differences(*table("ABC")), "5-way 1-shot")
    assert drawing.get_size_inches()[0] == pytest.approx(3.4)


def test_the_picture_of_errors_shows_ratios():
    found = row_differences(*table("AB", seeds=THREE, spread=(0.0, 0.3), metric="mse"))
    drawing = difference_matrix(found, "5-way 1-shot", "mse")
    texts = {text.get_position(): text.get_text() for text in drawing.axes[0].texts}
    ratio = found["difference"][0]
    assert float(texts[1, 0]) == pytest.approx(ratio, abs=0.05)
    assert float(texts[0, 1]) == pytest.approx(1 / ratio, abs=0.05)
    assert "squared error of the row, times that of the column" in drawing.texts[0].get_text()


def test_the_picture_says_where_it_is_of_trained_models():
    for seeds, said in (((0,), True), (THREE, False)):
        drawing = difference_matrix(row_differences(*table("AB", seeds=seeds)), "5-way 1-shot")
        assert ("Between trained models." in drawing.texts[0].get_text()) == said


def test_a_picture_of_nothing():
    assert difference_matrix(row_differences(*table("A")), "5-way 1-shot").axes
