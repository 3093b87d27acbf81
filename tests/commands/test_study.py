"""Studies: what is declared, what the table says of synthetic runs, and one from end to end."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from zoo.commands import main
from zoo.commands.definition_files import REPORTS
from zoo.commands.study import load_study
from zoo.errors import UsageError
from zoo.reports import records
from zoo.reports.estimates import compare, estimate, estimate_in
from zoo.reports.figures.study import study_caption, study_figure
from zoo.reports.formats.markdown import to_markdown
from zoo.reports.tables.study import study_csv_frame, study_numbers, study_table

HEADS = ("host", "with it")


def record(name, values, **changes):
    found = {
        "schema": 1, "run": name, "status": "done", "learner": "maml", "title": "MAML",
        "variant": {}, "benchmark": "omniglot", "way": 5, "shot": 1, "terms": "paper",
        "budget": "quick", "seed": 0, "settings": {}, "traits": {"transductive": True},
        "episodes": {"split": "test", "count": len(values), "fingerprint": "same"},
        "metrics": {"accuracy": {"mean": float(np.mean(values)), "ci95": 0.1}},
    } | changes  # fmt: skip
    return found | {"checksum": records.checksum(found)}


def line(side, run, *, tasks="Omniglot", pair="MAML", seed=0, note=None):
    return {"tasks": tasks, "pair": pair, "side": side, "seed": seed, "run": run, "note": note}


@pytest.fixture
def measure(tmp_path):
    def build(lines, runs):
        for each, _ in runs:
            (tmp_path / f"{each['run']}.json").write_text(json.dumps(each), encoding="utf-8")
        measured, problems = records.load(tmp_path)
        assert not problems or not runs
        values = {r["run"]: pd.Series(v) for r, v in runs if r["status"] == "done"}
        return study_numbers(pd.DataFrame(lines), measured, values)

    return build


ONE, TWO = [0.2, 0.4, 0.6, 0.8], [0.4, 0.4, 0.8, 0.8]


def test_pairs_are_paired(measure):
    lines = [line("first", "a"), line("second", "b")]
    found = measure(lines, [(record("a", ONE), ONE), (record("b", TWO, remark="a guess"), TWO)])
    row = found.iloc[0]
    assert row["difference"] == pytest.approx(0.1)
    half = stats.t.ppf(0.975, 3) * (0.04 / 3) ** 0.5 / 2
    assert estimate_in(row, "difference") == pytest.approx((0.1, 0.1 - half, 0.1 + half))
    table = study_table(found, "With and without", HEADS)
    assert table.columns[-1].name == "difference between these two trained models"
    text = to_markdown(table)
    cells = [cell.strip() for cell in text.splitlines()[4].split("|")[1:-1]]
    assert cells == ["Omniglot", "MAMLᵃ", "50.00 ± 25.30", "60.00 ± 22.63", "+10.00 ± 18.37"]
    assert "- ᵃ a guess" in text and "1 seed each" in text
    assert "these trained weights" in text
    frame = study_csv_frame(found)
    assert frame["what"].tolist() == ["first", "second", "difference"]
    assert frame["value"].iloc[2] == pytest.approx(0.1) and frame["runs"].iloc[0] == "a b"


def test_an_infinite_error_has_no_ratio(measure):
    errors = [0.2, 0.4, np.inf, 0.3, 0.5]
    metrics = {"mse": {"mean": None, "ci95": None}}
    runs = [
        (record(name, errors, metrics=metrics, diverged={"test": 0.2}), errors) for name in "ab"
    ]
    found = measure([line("first", "a"), line("second", "b")], runs)
    text = to_markdown(study_table(found, "T", HEADS))
    assert "0.400" in text and "no ratio: a task's error is infinite" in text
    assert "second: 20 % of the tasks diverged" in text
    assert study_csv_frame(found)["value"].isna().tolist() == [False, False, True]
    assert study_figure(found, "T").axes


def test_seeds_are_crossed_with_episodes(measure):
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 3, 20))
    lines, runs = [], []
    for side, name, values in (("first", "a", first), ("second", "b", second)):
        for seed in range(3):
            lines.append(line(side, f"{name}{seed}", seed=seed))
            runs.append((record(f"{name}{seed}", values[seed], seed=seed), values[seed].tolist()))
    row = measure(lines, runs).iloc[0]
    assert estimate_in(row, "difference") == compare(second, first, "accuracy").estimate
    assert estimate_in(row, "first") == estimate(first, "accuracy")
    assert row["seeds"] == [0, 1, 2]
    assert f"{100 * row['difference']:+.1f} points" in study_caption(measure(lines, runs), "T")
    table = study_table(measure(lines, runs), "T", HEADS)
    assert table.columns[-1].name == "difference" and "3 seeds each" in table.caption
    assert "for a new seed and new test episodes" in table.caption


def test_what_is_missing_is_said(measure):
    broke = {"status": "failed", "failure": {"update": 7, "reason": "the loss is nan"}}
    lines = [line("first", "a"), line("second", "b")]
    lines += [line("first", "c", pair="ANIL"), line("second", None, pair="ANIL", note="cannot be")]
    lines += [line("first", "d", pair="T-Net", seed=s) for s in (0,)]
    lines += [line("second", "e", pair="T-Net"), line("first", "f", pair="T-Net", seed=1)]
    lines += [line("second", None, pair="T-Net", seed=1, note="not made")]
    runs = [(record("a", ONE), ONE), (record("b", TWO, **broke), TWO), (record("c", ONE), ONE)]
    runs += [(record("d", ONE), ONE), (record("e", TWO), TWO), (record("f", ONE, seed=1), ONE)]
    text = to_markdown(study_table(measure(lines, runs), "T", HEADS))
    assert "failed at update 7: the loss is nan" in text and "cannot be" in text
    assert "not made" in text and "of 1 seed, not 2" in text
    assert text.count("| +") == 1


def test_nothing_measured_makes_a_table_and_a_figure(measure):
    found = measure([line("first", "a"), line("second", "b")], [])
    assert "not measured" in to_markdown(study_table(found, "T", HEADS))
    assert study_figure(found, "T").axes


def test_the_figure_shows_differences_and_intervals(measure):
    found = measure(
        [line("first", "a"), line("second", "b")],
        [(record("a", ONE), ONE), (record("b", TWO), TWO)],
    )
    axes = study_figure(found, "T").axes[0]
    (drawn,) = axes.containers
    assert drawn[0].get_ydata().tolist() == pytest.approx([10.0])
    (segment,) = drawn[2][0].get_segments()
    assert segment[:, 1].tolist() == pytest.approx([10 - 18.374, 10 + 18.374], abs=1e-2)


@pytest.mark.parametrize(
    "path", list((REPORTS / "studies").glob("*.yaml")), ids=lambda path: path.stem
)
def test_what_is_declared_can_be_read(path):
    assert load_study(path.stem).pairs


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"title": 3}, "title: expected str, not 3"),
        ({"more": 3}, "expected title, heads, seeds, quick, pairs, tasks"),
        ({"heads": ["one"]}, r"heads: expected two, not \['one'\]"),
        ({"pairs": {"M": "maml"}}, "pairs: M: expected two learners, not 'maml'"),
        ({"pairs": {"M": ["mamml", "maml"]}}, "did you mean 'maml'"),
        ({"pairs": {"M": ["maml", "maml[x=1]"]}}, "no setting 'x'"),
        ({"tasks": {"O": {"benchmark": "omniglot"}}}, "tasks: O: expected benchmark, shot, way"),
        ({"tasks": {"O": {"benchmark": "omni", "shot": 1}}}, "omni"),
        ({"tasks": {"O": {"benchmark": 5, "shot": 1}}}, "5: expected a text"),
        ({"tasks": {"O": {"benchmark": "glyphs", "shot": 1, "settings": [1]}}}, "O: settings"),
        ({"threads": 10**30}, "threads: expected a whole number from 0 to"),
        ({"threads": -1}, "threads: expected a whole number from 0 to"),
    ],
)
def test_a_file_that_is_not_as_it_should_be(change, says, tmp_path):
    good = {
        "title": "T", "heads": [*HEADS], "seeds": 0, "quick": {},
        "pairs": {"M": ["maml", "trlearner"]}, "tasks": {"O": {"benchmark": "glyphs", "shot": 1}},
    }  # fmt: skip
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(good), encoding="utf-8")
    assert load_study(str(path)).pairs == good["pairs"]
    path.write_text(json.dumps(good | change), encoding="utf-8")
    with pytest.raises(UsageError, match=says) as caught:
        load_study(str(path))
    assert "mine.yaml" in str(caught.value)


def errors(name, values, **changes):
    """A record on functions, and the squared errors of its tasks."""
    values = np.asarray(values)
    metrics = {"mse": {"mean": float(np.mean(values)), "ci95": 0.1}}
    changes = {"benchmark": "sinusoid", "way": None, "metrics": metrics, **changes}
    return record(name, values, **changes), values.tolist()


def test_errors_are_medians_and_their_difference_is_a_ratio(measure):
    first, second = np.random.default_rng(0).lognormal(0, 1, (2, 1, 50))
    given = [errors("a", first[0]), errors("b", second[0], diverged={"test": 0.02})]
    found = measure([line("first", "a"), line("second", "b")], given)
    row = found.iloc[0]
    assert estimate_in(row, "first") == estimate(first, "mse")
    assert estimate_in(row, "difference") == compare(second, first, "mse").estimate
    assert row["marks"] == ["second: 2 % of the tasks diverged"]
    table = study_table(found, "T", HEADS)
    text = [cell.text for cell in table.rows[0]]
    ratio = estimate_in(row, "difference")
    assert text[-1] == f"×{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
    assert text[2].startswith(f"{np.median(first):.3f} (")
    middle = np.sort(second.ravel())[5:-5]
    assert text[6:8] == [f"{middle.mean():.3f}", f"{second.mean():.3f}"]
    assert "below 1 the second is better" in table.caption
    frame = study_csv_frame(found)
    assert frame["what"].tolist() == ["first", "second", "ratio"]
    assert frame["trimmed_mean"].tolist()[1] == pytest.approx(middle.mean())
    assert study_caption(found, "T").endswith(f"×{ratio.value:.2f} (MAML, Omniglot)")


def test_a_seed_that_failed_does_not_make_accuracies_errors(measure):
    failed = {"status": "failed", "metrics": {}, "failure": {"update": 7, "reason": "nan"}}
    lines = [
        line(side, f"{side}{seed}", seed=seed) for seed in (0, 1) for side in ("first", "second")
    ]
    runs = [(record("first0", ONE, **failed), ONE), (record("second0", TWO), TWO)]
    runs += [(record(f"{side}1", each, seed=1), each) for side, each in
             (("first", ONE), ("second", TWO))]  # fmt: skip
    row = measure(lines, runs).iloc[0]
    assert row["metric"] == "accuracy" and row["difference"] == pytest.approx(0.1)


def test_the_figure_of_errors_is_by_magnitude(measure):
    first, second = np.random.default_rng(0).lognormal(0, 1, (2, 50))
    given = [errors("a", first), errors("b", 1e6 * second)]
    found = measure([line("first", "a"), line("second", "b")], given)
    axes = study_figure(found, "T").axes[0]
    assert axes.get_yscale() == "log"
    (drawn,) = axes.containers
    (segment,) = drawn[2][0].get_segments()
    assert segment[:, 1] == pytest.approx(found.iloc[0][["difference_low", "difference_high"]])
    assert axes.lines[0].get_ydata() == [1, 1]  # as good as the first


def test_the_figure_of_errors_has_several_numbers_beside_its_axis(measure):
    first, second = np.random.default_rng(0).lognormal(0, 1, (2, 50))
    given = [errors("a", first), errors("b", 1.2 * second)]
    axes = study_figure(measure([line("first", "a"), line("second", "b")], given), "T").axes[0]
    lowest, highest = axes.get_ylim()
    assert sum(lowest <= tick <= highest for tick in axes.get_yticks()) >= 3


def test_an_unknown_study_or_pair(capsys):
    assert main(["study", "nothing"]) == 2
    assert "no study 'nothing': there are npbml-homogeneity" in capsys.readouterr().err
    assert main(["study", "trlearner-functions", "--pairs", "CNP"]) == 2
    assert "choose from MAML, ANIL, Meta-SGD, T-Net" in capsys.readouterr().err


def test_a_study_from_end_to_end(tmp_path, capsys):
    """ProtoNet takes as many tasks an update, and as many updates, as its partner."""
    study = {
        "title": "T", "heads": [*HEADS], "seeds": "0 1", "quick": {},
        "pairs": {"ProtoNet": ["protonet", "trlearner[host=protonet]"]},
        "tasks": {"glyphs": {"benchmark": "glyphs", "shot": 1, "settings": {"train_way": 5}}},
    }  # fmt: skip
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(study), encoding="utf-8")
    where = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    assert main(["study", str(path), "--budget", "smoke", *where]) == 0
    out = capsys.readouterr().out
    assert "TRLearner: a reconstruction" in out and "| glyphs  | ProtoNet" in out
    found, problems = records.load(tmp_path / "results")
    assert not problems and len(found) == 4
    shapes = {(s["meta_batch"], s["updates"], s["train_way"]) for s in found["settings"]}
    assert shapes == {(4, 4, 5)}
    stem = tmp_path / "results" / "study-mine-paper-smoke"
    assert all(stem.with_suffix(end).stat().st_size > 100 for end in (".md", ".csv", ".png"))
    assert main(["study", str(path), "--budget", "smoke", *where]) == 0
    assert "4 runs: 4 done" in capsys.readouterr().out


def test_a_study_that_looks_at_the_steps_of_inner_loops(tmp_path, capsys):
    study = {
        "title": "T", "heads": [*HEADS], "seeds": "0", "quick": {}, "rates": 2,
        "pairs": {"MAML": ["maml[inner_lr=0.3]", "maml[inner_lr=0.3,preconditioner=rate]"]},
        "tasks": {"glyphs": {"benchmark": "glyphs", "shot": 1}},
    }  # fmt: skip
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(study), encoding="utf-8")
    where = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    assert main(["study", str(path), "--budget", "smoke", *where]) == 0
    out = capsys.readouterr().out
    assert "MAML [inner_lr=0.3], glyphs" in out and "0.300 (100 %)" in out
    assert list((tmp_path / "results").glob("rates-study-mine-*.html"))
