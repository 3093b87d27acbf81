"""Which learners reach the number of their paper: what is compared, and what is said to lack."""

import math

import numpy as np
import pandas as pd
import pytest

from tests.reports.tables.test_comparison import frame as frame  # a fixture
from tests.reports.tables.test_comparison import record
from zoo.commands import main
from zoo.reports.estimates import Estimate
from zoo.reports.published import minus_published, published
from zoo.reports.tables.cells import MISSING
from zoo.reports.tables.levels import (
    ends_of_validation,
    level_numbers,
    levels_table,
    longest_runs,
    still_rises,
    what_is_missing,
)

NAN = float("nan")
RISING = [[n, 0.5 + 0.05 * n] for n in range(1, 9)]  # 0.55 to 0.9
FLAT = [[n, 0.9] for n in range(1, 9)]


def test_the_difference_from_a_paper_has_an_interval():
    apart = minus_published(Estimate(95.0, 94.7, 95.4), 95.5, 0.4)
    assert apart == pytest.approx((-0.5, -1.0, -0.5 + math.hypot(0.4, 0.4)))
    without = minus_published(Estimate(95.0, 94.7, 95.4), 95.5, NAN)  # printed without: has ours
    assert without == pytest.approx((-0.5, -0.5 - 0.3 * 2**0.5, -0.5 + 0.4 * 2**0.5))


def test_the_ends_of_validation():
    assert ends_of_validation(RISING) == pytest.approx((0.775, 0.875))
    assert still_rises(0.775, 0.875) and not still_rises(0.9, 0.9)
    assert still_rises(0.9, 0.905) and not still_rises(0.9, 0.9049)  # a twentieth less error
    for too_few in (RISING[:7], [], None, NAN, [[1, None]] * 9):
        assert np.isnan(ends_of_validation(too_few)).all()


@pytest.mark.parametrize(
    ("apart", "ends", "words"),
    [
        (Estimate(-0.02, -0.03, -0.01), (0.8, 0.9), "2.0 points; still rises: longer training"),
        (Estimate(-0.02, -0.03, -0.01), (0.9, 0.9), "no longer rises: other settings, or a fault"),
        (Estimate(-0.02, -0.03, -0.01), (NAN, NAN), "too few validations to tell"),
        (Estimate(-0.02, -0.03, 0.0), (0.8, 0.9), "nothing"),
        (Estimate(0.02, 0.01, 0.03), (0.9, 0.9), "nothing"),
        (Estimate(NAN), (0.9, 0.9), "–"),
    ],
)
def test_what_is_missing_in_words(apart, ends, words):
    assert words in what_is_missing(apart, *ends)


def test_the_longest_of_several_runs_counts(frame):
    """Runs with other options, and those of other seeds, stay."""

    def run(name, seen, **changes):
        tasks = {"seen": seen, "paper": None}
        return record("protonet", 1, 0.9, run=name, training_tasks=tasks, **changes)

    runs = frame(
        run("a", 100),
        run("b", 200, variant={"updates": 9}),
        run("c", 50, variant={"inner_lr": 0.1}),
        run("d", 200, variant={"updates": 9}, seed=1),
        record("protonet", 5, 0.9, run="e", training_tasks={"seen": None, "paper": None}),
    )
    assert longest_runs(runs)["run"].tolist() == ["b", "c", "d", "e"]


def test_from_records_to_a_table(frame):
    short = record("protonet", 1, 0.97, settings={"train_way": 60}, validation=RISING)
    variant = {"updates": 9}
    tasks = {"seen": 24000, "paper": 100000}
    long = record("protonet", 1, 0.98, settings={"train_way": 60}, variant=variant,
                  training_tasks=tasks, validation=FLAT)  # fmt: skip
    other = record("new", 1, 0.5, validation=RISING)
    measured = frame(short, long, other)
    first = measured[measured["learner"] == "protonet"].iloc[0]
    absent = {**first, "variant": {}, "run": "", "status": MISSING, "failure": "not run", "shot": 5}
    rows = pd.concat([measured, pd.DataFrame([absent])], ignore_index=True)
    numbers = level_numbers(rows, published(), "omniglot", {})
    table = levels_table(numbers, rows, "Published levels")
    texts = [[cell.text for cell in row] for row in table.rows]
    flat = "0.8 points; no longer rises: other settings, or a fault"
    assert texts == [
        ["New, 5-way 1-shot", "–", "50.00 ± 0.12", "–", "12 %", "–", "77.5 → 87.5 %", "–"],
        ["ProtoNet [updates=9], 5-way 1-shot", "98.80", "98.00 ± 0.12", "-0.80 ± 0.17", "24 %",
         "–", "90.0 → 90.0 %", flat],
        ["ProtoNet, 5-way 5-shot", "99.70", "–", "–", "–", "–", "–", "not run"],
    ]  # fmt: skip
    assert table.caption.startswith("0 of 2 published numbers are reached.")


def test_the_command_makes_no_run(tmp_path, capsys):
    results = tmp_path / "results"
    where = ["--results", str(results)]
    assert main(["levels", "omniglot", *where]) == 2
    assert "--results" in capsys.readouterr().err
    results.mkdir()
    assert main(["levels", "sinusoid", *where]) == 2
    assert "zoo levels compares accuracies" in capsys.readouterr().err
    assert main(["levels", "omniglot", "--learners", "protonet maml", *where]) == 0
    out = capsys.readouterr().out
    assert "0 of 2 published numbers are reached" in out and out.count("not run") == 2
    assert main(["levels", "omniglot", "--learners", "protonet[updates=12000]", *where]) == 0
    assert "| ProtoNet  |" in capsys.readouterr().out  # rows are of learners, however long
    assert not list(results.glob("*.json")) and list(results.glob("levels-omniglot-*.html"))
