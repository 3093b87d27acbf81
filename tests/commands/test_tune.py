"""A search for settings: what is searched, what is kept, and that the test split stays closed."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from zoo.commands import main
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.registry import learners
from zoo.reports.figures.tuning import tuning_figure
from zoo.reports.formats.markdown import to_markdown
from zoo.reports.tables.tuning import tuning_table
from zoo.runs.closed_split import ClosedSplit
from zoo.runs.request import RunRequest
from zoo.runs.tuning import Search, TrialRun
from zoo.runs.tuning_space import Choices, Range, best_is_at_an_end, parse_space
from zoo.runs.workspace import Workspace
from zoo.variants import expand_grid, variants_in

optuna = pytest.importorskip("optuna")
RATES = "outer_lr=0.001..0.1:log"


def tune(folder, *words, learner="protonet", benchmark="glyphs"):
    where = ["--results", str(folder / "results"), "--runs", str(folder / "runs")]
    return main(["tune", learner, benchmark, "--budget", "smoke", "--threads", "1", *where, *words])


def test_a_space_is_read_with_the_types_of_the_settings():
    space = parse_space(learners.get("maml"), "outer_lr=1e-4..1e-2:log inner_steps=1,3,5 clip=1..4")
    assert space == {
        "outer_lr": Range(1e-4, 1e-2, log=True),
        "inner_steps": Choices((1, 3, 5)),
        "clip": Range(1.0, 4.0),
    }
    assert parse_space(learners.get("maml"), "inner_steps=1..5") == {"inner_steps": Range(1, 5)}
    assert parse_space(learners.get("maml"), "first_order=true,false") == {
        "first_order": Choices((True, False))
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "--space: expected settings, such as outer_lr=1e-4..1e-2:log"),
        ("outer_lr", "--space 'outer_lr': expected name=a,b,c or name=low..high"),
        ("outer_lr=", "expected name=a,b,c"),
        ("outer_rl=1,2", "no flag --outer_rl: did you mean 'outer_lr'"),
        ("outer_lr=1,2 outer_lr=3", "--space: outer_lr is given twice"),
        ("outer_lr=1,1.0", "a value is given twice"),
        ("outer_lr=0.1..0.01", "expected two numbers, the smaller one first"),
        ("outer_lr=0.1..0.1", "expected two numbers, the smaller one first"),
        ("outer_lr=0..0.1:log", "a :log range begins above 0"),
        ("outer_lr=0.1..1:ln", "expected :log behind a range"),
        ("backbone=conv4..mlp", "expected two numbers"),
        ("inner_steps=1,2.5", "--inner_steps '2.5': expected a whole number"),
        ("inner_lr=1e400", "--inner_lr '1e400': expected"),
    ],
)
def test_a_wrong_space_is_named(text, says):
    with pytest.raises(UsageError) as caught:
        parse_space(learners.get("maml"), text)
    assert says in str(caught.value)


def test_the_best_at_an_end_of_the_space_is_said():
    space = {"a": Range(0.1, 1.0), "b": Choices((1, 3, 5)), "c": Choices(("x", "y"))}
    assert best_is_at_an_end(space, {"a": 0.1, "b": 3, "c": "x"}) == ["a"]
    assert best_is_at_an_end(space, {"a": 0.995, "b": 5, "c": "y"}) == ["a", "b"]
    assert best_is_at_an_end(space, {"a": 0.5, "b": 3, "c": "x"}) == []


def test_a_closed_split_gives_all_but_its_examples():
    store = find_benchmark("glyphs").open(None)["test"]
    closed = ClosedSplit(store)
    assert closed.fingerprint == store.fingerprint and closed.names == store.names
    assert closed.to("cpu") is closed and closed.opened == 0
    for look in (lambda: closed.gather, lambda: closed.images, lambda: closed.meta_batch):
        with pytest.raises(UsageError, match="the test split is closed while settings are chosen"):
            look()
    assert closed.opened == 3


def search_in(folder, space=RATES, learner="protonet", benchmark="glyphs", **flags):
    workspace = Workspace(folder, folder / "results", folder / "runs", "cpu", 1)
    workspace.results.mkdir(parents=True, exist_ok=True)
    request = RunRequest(learner, benchmark, budget="smoke", flags=flags)
    first = TrialRun(request, workspace, workspace.open(find_benchmark(benchmark)), None)
    return Search(folder / "results" / "s.db", parse_space(learners.get(learner), space), first)


def test_from_a_space_to_the_best_settings(tmp_path, capsys):
    assert tune(tmp_path, "--space", RATES, "--trials", "3") == 0
    out = capsys.readouterr().out
    assert "3 trials: 0 done, 3 left" in out and "**Settings for ProtoNet on Glyphs**" in out
    assert "The test split was opened 0 times." in out
    results = tmp_path / "results"
    (numbers,) = results.glob("tune-*.csv")
    trials = pd.read_csv(numbers)
    assert trials["outer_lr"].iloc[0] == 0.001 and trials["trial"].tolist() == [1, 2, 3]
    assert trials["opened"].sum() == 0 and trials["outer_lr"].between(0.001, 0.1).all()
    best = trials.loc[trials["validation"].idxmax()]
    (config,) = results.glob("tune-*.yaml")
    assert yaml.safe_load(config.read_text()) == {"outer_lr": best["outer_lr"]}
    assert not list(results.glob("*.json")) and not list(tmp_path.glob("runs/*/test*"))
    (row,) = yaml.safe_load(out[out.index("- when:") : out.index("\n\n", out.index("- when:"))])
    assert row["when"] == {"learner": "protonet", "benchmark": "glyphs", "budget": "smoke",
                           "way": 5, "shot": 1}  # fmt: skip
    assert row["set"] == {"outer_lr": best["outer_lr"]} and "3 trials" in row["source"]
    # The same run by `zoo run` validates as the trial did, and the config is one of its own.
    where = ["--results", str(results), "--runs", str(tmp_path / "other"), "--threads", "1"]
    words = ["run", "protonet", "glyphs", "--budget", "smoke", "--config", str(config), *where]
    assert main(words) == 0
    (record,) = results.glob("protonet*.json")
    assert max(v for _, v in json.loads(record.read_text())["validation"]) == best["validation"]
    # More trials go on behind the first ones.
    assert tune(tmp_path, "--space", RATES, "--trials", "4") == 0
    assert "4 trials: 3 done, 1 left" in capsys.readouterr().out
    again = pd.read_csv(numbers)
    assert again["outer_lr"].tolist()[:3] == trials["outer_lr"].tolist() and len(again) == 4


def test_functions_are_searched_for_the_smallest_median(tmp_path):
    search = search_in(tmp_path, "inner_lr=0.001,0.01,0.1", "maml", "sinusoid")
    search.take_up()
    search.work(3, lambda line: None)
    frame = search.frame()
    best = search.best()
    assert best.value == frame["validation"].min() and set(frame["inner_lr"]) <= {0.001, 0.01, 0.1}


def test_of_lists_each_combination_is_tried_once(tmp_path, capsys):
    words = ["--space", "train_way=5,10 train_query=1,2", "--updates", "1", "--validations", "1"]
    assert tune(tmp_path, *words, "--trials", "3", "--jobs", "1") == 0
    (numbers,) = tmp_path.glob("results/tune-*.csv")
    assert not pd.read_csv(numbers)[["train_way", "train_query"]].duplicated().any()
    capsys.readouterr()
    assert tune(tmp_path, *words, "--trials", "30", "--jobs", "1") == 0
    assert "4 trials: 3 done, 1 left" in capsys.readouterr().out
    trials = pd.read_csv(numbers)
    assert len(trials) == 4 and sorted(trials["trial"]) == [1, 2, 3, 4]
    assert not trials[["train_way", "train_query"]].duplicated().any()


class KilledError(Exception):
    pass


def killed(run, progress):
    raise KilledError


def test_a_trial_that_was_stopped_goes_on_first(tmp_path, monkeypatch):
    search = search_in(tmp_path)
    search.take_up()
    search.work(1, lambda line: None)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(
            TrialRun, "validated", lambda run, progress: (_ for _ in ()).throw(KilledError)
        )
        search.work(2, lambda line: None)
    interrupted = search.study.trials[1]
    assert interrupted.state == optuna.trial.TrialState.RUNNING and len(search.finished) == 1
    again = search_in(tmp_path)
    again.take_up()
    lines = []
    again.work(2, lines.append)
    frame = again.frame()
    assert len(frame) == 2 and frame["status"].tolist() == ["whole", "whole"]
    assert frame["outer_lr"].iloc[1] == interrupted.user_attrs["settings"]["outer_lr"]


def test_a_trial_that_fails_is_kept_and_does_not_stop_the_others(tmp_path):
    search = search_in(tmp_path, "train_way=5,4000,10")
    search.take_up()
    lines = []
    search.work(4, lines.append)
    frame = search.frame()
    assert sorted(frame["status"]) == ["failed", "whole", "whole"]
    (failed,) = frame[frame["status"] == "failed"].to_dict("records")
    assert failed["train_way"] == 4000 and "4000" in failed["why"]


def test_a_trial_that_is_worse_than_the_others_is_stopped(tmp_path, monkeypatch):
    search = search_in(tmp_path, updates=4, validations=4)
    monkeypatch.setattr(search.study, "pruner", optuna.pruners.ThresholdPruner(lower=2.0))
    search.take_up()
    lines = []
    search.work(1, lines.append)
    (trial,) = search.frame().to_dict("records")
    assert (trial["status"], trial["updates"]) == ("stopped", 1)
    assert "stopped after update 1: " in lines[-1] and search.best() is None


def test_a_file_of_other_data_or_settings_is_refused(tmp_path):
    search_in(tmp_path)
    with pytest.raises(UsageError, match="is of other data, settings or code; delete it to begin"):
        search_in(tmp_path, updates=3)
    (tmp_path / "results" / "s.db").write_bytes(b"no database")
    with pytest.raises(UsageError, match=r"s\.db cannot be used: .*; delete it to begin anew"):
        search_in(tmp_path)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--space", RATES, "--outer_lr", "0.1"], "--space: outer_lr is given as a setting too"),
        (["--space", RATES, "--updates", "0"], "--updates and --validations must be at least 1"),
        (["--space", RATES, "--trials", "0"], "--trials: '0': expected a whole number of at least"),
        (["--space", RATES, "--jobs", "x"], "--jobs: 'x': expected a whole number from 1 to"),
    ],
)
def test_mistakes_are_one_line(words, says, tmp_path, capsys):
    assert tune(tmp_path, *words) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def trials_of(values, **settings):
    count = len(values)
    return pd.DataFrame(
        {"trial": range(1, count + 1), "status": ["whole"] * (count - 2) + ["stopped", "failed"],
         "updates": [10] * (count - 2) + [5, None], "validation": values, "seconds": 1.0,
         "why": None, "opened": 0, **settings}
    )  # fmt: skip


def test_the_table_has_the_best_first_and_says_what_was_stopped():
    trials = trials_of([0.5, 0.7, 0.9, np.nan], outer_lr=[0.1, 0.2, 0.3, 0.4])
    text = to_markdown(tuning_table(trials, "X on Y", "accuracy", 200, {"outer_lr": 0.1}))
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")][1:]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["2", "0.2", "70.00"], ["1ᵃ", "0.1", "50.00"], ["3ᵇ", "0.3", "90.00"],
    ]  # fmt: skip
    assert "- ᵃ the settings without the search" in text
    assert "- ᵇ stopped after 5 updates" in text and "4 trials (1 stopped, 1 failed early)" in text
    figure = tuning_figure(trials, "X on Y", "accuracy", ["outer_lr"], ["outer_lr"])
    (axes,) = [each for each in figure.axes if each.get_visible()]
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "outer_lr"


@pytest.mark.parametrize(
    ("text", "variants"),
    [
        ("maml", ["maml"]),
        ("maml[inner_lr=0.1]", ["maml[inner_lr=0.1]"]),
        ("maml[inner_lr=0.1,0.4]", ["maml[inner_lr=0.1]", "maml[inner_lr=0.4]"]),
        (
            "maml[inner_lr=0.1,0.4,inner_steps=1,5]",
            [f"maml[inner_lr={r},inner_steps={s}]" for r in (0.1, 0.4) for s in (1, 5)],
        ),
        (
            "maml[backbone=conv4[channels=32],mlp]",
            ["maml[backbone=conv4[channels=32]]", "maml[backbone=mlp]"],
        ),
    ],
)
def test_a_grid_stands_for_its_variants(text, variants):
    assert expand_grid(text) == variants
    assert variants_in(f"cnp {text}") == ["cnp", *variants]


def test_a_value_without_a_name_is_refused():
    with pytest.raises(UsageError, match=r"'0\.1' is not of the form name=value"):
        expand_grid("maml[0.1,inner_lr=1]")
