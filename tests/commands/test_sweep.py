"""Sweeps: one training, tests at many shapes; what the table and the figure say of them."""

import json

import numpy as np
import pandas as pd
import pytest

import zoo.runs.checkpoints
from tests.runs.test_run import numbers_of, plan
from zoo.commands import main
from zoo.commands.sweep import SWEEP_FOLDER, RunAtShape
from zoo.errors import UsageError
from zoo.reports import records
from zoo.reports.estimates import estimate, estimate_in
from zoo.reports.figures.sweep import sweep_caption, sweep_figure
from zoo.reports.formats.markdown import to_markdown
from zoo.reports.tables.sweep import STALE, sweep_csv_frame, sweep_numbers, sweep_table
from zoo.runs.checkpoints import DivergedError


@pytest.mark.parametrize("learner", ["protonet", "maml"])
def test_at_its_own_shape_it_is_the_run_to_the_digit(learner, stores, tmp_path):
    run = plan(tmp_path, stores, learner)
    same = RunAtShape(run, 5, 1)
    again = same.execute(progress=False)  # trains the run
    record = run.record()
    assert again["metrics"] == record["metrics"] and again["episodes"] == record["episodes"]
    ours, theirs = numbers_of(same), numbers_of(run)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    for what in ("validation", "tested_update", "settings", "data", "stages"):
        assert again[what] == record[what]
    assert again["weights_of"] == run.name and "weights_of" not in record
    assert again["updates"] == {"total": 12, "executed_by_this_process": 0}


def test_a_point_is_tested_with_the_weights_that_the_run_kept(stores, tmp_path):
    """In a new process too, and where the run was made before."""
    plan(tmp_path, stores, "protonet").execute(progress=False)
    first = RunAtShape(plan(tmp_path, stores, "protonet"), 5, 5)
    record = first.execute(progress=False)
    assert first.learner.training is False and first.run.record()["updates"]["total"] == 12
    (tmp_path / "results" / SWEEP_FOLDER / f"{first.name}.json").unlink()
    (tmp_path / "runs" / first.run.name / "best.ckpt").unlink()  # trained again, then
    again = RunAtShape(plan(tmp_path, stores, "protonet"), 5, 5).execute(progress=False)
    assert again["metrics"] == record["metrics"]
    assert record["shot"] == 5 and record["metrics"] != first.run.record()["metrics"]


def test_all_learners_have_the_same_episodes_nested_over_shots(stores, tmp_path):
    proto, match = (plan(tmp_path, stores, name) for name in ("protonet", "matchingnet"))
    shapes = [(5, 1), (5, 2), (5, 10), (2, 1), (20, 1)]
    found = {shape: RunAtShape(proto, *shape).data.test_indices() for shape in shapes}
    for shape, theirs in found.items():
        other = RunAtShape(match, *shape).data
        assert all(map(np.array_equal, theirs, other.test_indices()))
        assert other.test_fingerprint() == RunAtShape(proto, *shape).data.test_fingerprint()
    few, many = found[5, 1], found[5, 10]
    assert np.array_equal(few.classes, many.classes)
    assert np.array_equal(few.images, many.images[..., :4])  # 3 queries, then the support
    assert np.array_equal(found[5, 2].images, many.images[..., :5])
    assert np.array_equal(found[2, 1].classes, few.classes[:, :2])
    assert found[20, 1].classes.shape == (40, 20)


def test_what_cannot_be_tested_is_refused(stores, tmp_path):
    proto, maml = (plan(tmp_path, stores, name) for name in ("protonet", "maml"))
    assert RunAtShape(proto, 30, 1)
    with pytest.raises(UsageError, match="way 31: test has only 30 classes"):
        RunAtShape(proto, 31, 1)
    with pytest.raises(UsageError, match=r"shot 18 \+ query 3: the smallest class has only 20"):
        RunAtShape(proto, 5, 18)
    assert RunAtShape(maml, 5, 17)
    with pytest.raises(
        UsageError, match="it has one output for each way: it can only be tested 5-way"
    ):
        RunAtShape(maml, 2, 1)
    snail = plan(tmp_path, stores, "snail", {"query": 3, "test_episodes": 4, "max_shot": 5})
    with pytest.raises(UsageError, match="room for 5 shots"):
        RunAtShape(snail, 5, 10)


def test_a_point_of_a_run_that_failed_is_refused(stores, tmp_path, monkeypatch):
    def diverge(self, trainer, update):
        raise DivergedError(update, "the loss is nan")

    monkeypatch.setattr(zoo.runs.checkpoints.CheckpointKeeper, "_check", diverge)
    point = RunAtShape(plan(tmp_path, stores, "protonet"), 5, 5)
    with pytest.raises(UsageError, match="its training failed"):
        point.execute(progress=False)
    assert not point.record_path.exists() and point.run.record()["status"] == "failed"


@pytest.fixture
def command(tmp_path, capsys):
    """Runs a command on a folder of its own; its status and what it printed."""

    def call(*words):
        where = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
        status = main([*words, *where, "--threads", "1"])
        return status, capsys.readouterr()

    return call


def sweep(command, *more):
    words = ["--learners", "pixelnn maml", "--shots", "1 2 20", "--ways", "2 5 1000"]
    return command("sweep", "glyphs", "--budget", "smoke", *words, *more)


def test_a_sweep_from_end_to_end(command, tmp_path):
    status, said = sweep(command)
    assert status == 0 and "2 runs: 0 done, 2 left" in said.out
    stem = tmp_path / "results" / "sweep-glyphs-pixelnn-maml-5w1s-paper-smoke"
    assert all(stem.with_suffix(end).stat().st_size > 500 for end in (".md", ".png", ".pdf"))
    whole = stem.with_suffix(".md").read_text(encoding="utf-8")
    text, _, made = whole.rpartition("\nMade by ")  # what is printed, and where it is from
    assert f"[numbers]({stem.name}.csv)" in made and made.startswith("`python -m zoo sweep glyphs")
    assert text in said.out
    lines = [line.split("|")[1:-1] for line in text.splitlines()[2:8]]
    head, _, inductive, pixels, transductive, maml = lines
    assert "*inductive" in inductive[0] and "*transductive" in transductive[0]
    shapes = ["5-way 1-shot", "5-way 2-shot", "5-way 20-shot", "2-way 1-shot", "1000-way 1-shot"]
    assert [cell.strip() for cell in head] == ["learner", *shapes]
    assert [cell.strip()[0] == "–" for cell in pixels[1:]] == [False, False, True, False, True]
    assert [cell.strip()[0] == "–" for cell in maml[1:]] == [False, False, True, True, True]
    assert "shot 20 + query 5: the smallest class has only 20 images\n" in text
    assert "way 1000: test has only" in text
    assert "it has one output for each way: it can only be tested 5-way" in text
    numbers = pd.read_csv(stem.with_suffix(".csv"))
    assert len(numbers) == 10 and numbers["value"].notna().sum() == 5
    assert numbers["note"][numbers["value"].isna()].notna().all()
    assert set(numbers["episodes"].dropna()) == {20}

    runs, problems = records.load(tmp_path / "results")
    assert not problems and sorted(runs["learner"]) == ["maml", "pixelnn"]  # those that trained
    points, problems = records.load(tmp_path / "results" / SWEEP_FOLDER)
    assert not problems and len(points) == 3
    status, said = sweep(command)
    assert "2 runs: 2 done, 0 left" in said.out and "3 runs: 3 done" in said.out
    assert text in said.out


def test_no_comparison_takes_a_point_for_a_run(command):
    sweep(command)
    words = ["--learners", "pixelnn", "--ways", "2", "--shots", "1", "--budget", "smoke"]
    _, said = command("table", "glyphs", *words, "--dry-run")
    assert "1 runs: 0 done, 1 left" in said.out


def test_a_killed_sweep_tests_nothing_again(command, monkeypatch):
    tested = []
    original = zoo.runs.checkpoints.TestRecorder.on_test_batch_end

    def counted(self, trainer, module, outputs, *rest):
        original(self, trainer, module, outputs, *rest)
        tested.append((self.path.parent.name, len(outputs["accuracy"])))
        if len(tested) == 5:  # of 3 batches a run: in the middle of the second
            raise KeyboardInterrupt

    monkeypatch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", 0)
    monkeypatch.setattr(zoo.runs.checkpoints.TestRecorder, "on_test_batch_end", counted)
    status, said = sweep(command)
    assert status == 130 and "the same command goes on" in said.err and len(tested) == 5
    status, said = sweep(command)
    assert status == 0 and "3 runs: 0 done, 3 left" in said.out
    frame = pd.DataFrame(tested, columns=["run", "episodes"])
    assert set(frame.groupby("run")["episodes"].sum()) == {20} and frame["run"].nunique() == 5


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["glyphs", "--shots", "0"], "--shots '0': expected whole numbers of at least 1"),
        (["glyphs", "--ways", "1 5"], "--ways '1 5': expected whole numbers of at least 2"),
        (["glyphs", "--way", "1"], "--way 1: expected a whole number of at least 2"),
        (["glyphs", "--shot", "0"], "--shot 0: expected a whole number of at least 1"),
        (["glyphs", "--shots", "one"], "--shots 'one': expected whole numbers"),
        (["glyphs", "--learners", "mamml"], "no learner 'mamml': did you mean 'maml'?"),
        (["glyphs", "--learners", "maml[lr=1]"], "no setting 'lr'"),
        (["glyph"], "did you mean 'glyphs'?"),
        (["sinusoid"], "sinusoid is regression: it has no ways to sweep over"),
    ],
)
def test_what_cannot_be_swept_is_said_in_one_line(words, says, command):
    status, said = command("sweep", *words)
    assert status == 2 and says in said.err.splitlines()[-1]


# --- the table and the figure, of synthetic records

VALUES = {(5, 1): [0.6, 0.8], (5, 5): [0.8, 1.0], (20, 1): [0.2, 0.4]}


def record(name, values, way=5, shot=1, **changes):
    made = {
        "schema": 1, "run": name, "status": "done", "learner": "protonet", "title": "ProtoNet",
        "variant": {}, "benchmark": "glyphs", "way": way, "shot": shot, "terms": "paper",
        "budget": "quick", "seed": 0, "traits": {"transductive": False}, "updates": {"total": 9},
        "backbone_family": "conv4", "training_tasks": {"seen": 9, "paper": None},
        "settings": {"query": {"value": 5}, "train_way": {"value": 20}, "train_shot": {"value": 1}},
        "episodes": {"split": "test", "count": len(values), "fingerprint": f"{way}w{shot}s"},
        "metrics": {"accuracy": {"mean": float(np.mean(values)), "ci95": 0.1}},
        "data": {"fingerprint": "dada"},
    } | changes  # fmt: skip
    return made | {"checksum": records.checksum(made)}


def lines(learner, run, *shapes, seed=0, note=None):
    """What is planned: the first shape is the run's own."""
    return [
        {"learner": learner, "way": n, "shot": k, "seed": seed, "trained": run, "note": note}
        | {"run": None if note else run if (n, k) == shapes[0] else f"{run}-{n}w{k}s"}
        for n, k in shapes
    ]


@pytest.fixture
def measure(tmp_path):
    def build(planned, runs):
        for each, _ in runs:
            (tmp_path / f"{each['run']}.json").write_text(json.dumps(each), encoding="utf-8")
        measured, problems = records.load(tmp_path)
        assert not problems or not runs
        accuracies = {r["run"]: pd.Series(v) for r, v in runs if r["status"] == "done"}
        return sweep_numbers(pd.DataFrame(planned), measured, accuracies)

    return build


def whole(measure):
    """ProtoNet at three shapes, MAML at its own way, one learner failed and one not run yet."""
    shapes = list(VALUES)
    planned = lines("ProtoNet", "p", *shapes)
    planned += lines("MAML", "m", *shapes[:2])
    planned += lines(
        "MAML", "m", (20, 1), note="it has one output for each way: it can only be tested 5-way"
    )
    planned += lines("MANN", "f", *shapes)
    planned += lines("SNAIL", "s", *shapes)
    runs = [
        (record("p" if shape == (5, 1) else f"p-{shape[0]}w{shape[1]}s", values, *shape), values)
        for shape, values in VALUES.items()
    ]
    settings = {name: {"value": value} for name, value in (("query", 5), ("train_way", 5))}
    maml = {"title": "MAML", "traits": {"transductive": True}, "settings": settings}
    runs.append((record("m", [0.5, 0.7], **maml), [0.5, 0.7]))
    nan = {"status": "failed", "failure": {"update": 7, "reason": "the loss is nan"}}
    runs.append((record("f", [0.5], **nan), [0.5]))
    return measure(planned, runs)


GOLDEN = """\
**Glyphs over shots and ways**: accuracy in %, quick budget, paper terms, 5 queries a class, 2 test episodes, conv4 backbone. Each learner was trained once, its weights chosen by 5-way 1-shot validation, and tested as they are at every way and shot; chance is 100/N % at N ways. Intervals are of 95 % over test episodes: a claim about these trained weights, not about training again. Nothing is bold: that takes three seeds of all rows of a block, so no method is ranked.

| learner                                  | 5-way 1-shot   | 5-way 5-shot            | 20-way 1-shot   |
|------------------------------------------|----------------|-------------------------|-----------------|
| *inductive: each query by itself*        |                |                         |                 |
| ProtoNetᵃ                                | 70.00 ± 19.60  | 90.00 (57.73 to 100.00) | 30.00 ± 19.60   |
| MANN                                     | –ᵇ             | –ᵇ                      | –ᵇ              |
| SNAIL                                    | –ᶜ             | –ᶜ                      | –ᶜ              |
| *transductive: sees all queries at once* |                |                         |                 |
| MAML                                     | 60.00 ± 19.60  | –ᶜ                      | –ᵈ              |

- ᵃ trained on 20-way 1-shot episodes
- ᵇ failed at update 7: the loss is nan
- ᶜ not run
- ᵈ it has one output for each way: it can only be tested 5-way
"""  # noqa: E501


def test_golden(measure):
    assert to_markdown(sweep_table(whole(measure), "Glyphs", 5, 1)) == GOLDEN


def test_csv_has_one_number_a_row_or_why_there_is_none(measure):
    frame = sweep_csv_frame(whole(measure))
    assert len(frame) == 12
    first, second = frame.iloc[0], frame.iloc[6]
    assert list(first[["learner", "way", "shot", "seeds"]]) == ["ProtoNet", 5, 1, "0"]
    assert estimate_in(first, "value") == pytest.approx((0.7, 0.504, 0.896))
    assert first["metric"] == "accuracy" and first["runs"] == "p" and first["note"] == ""
    assert pd.isna(second["value"]) and second["note"] == "not run" and second["metric"] == ""


def test_seeds_are_crossed_with_episodes_and_counted(measure):
    rng = np.random.default_rng(0)
    values = rng.random((3, 20))
    planned = [line for s in range(3) for line in lines("P", f"p{s}", (5, 1), (5, 5), seed=s)]
    runs = [(record(f"p{s}", values[s], seed=s), values[s].tolist()) for s in range(3)]
    runs += [(record("p1-5w5s", values[0], shot=5, seed=1), values[0].tolist())]
    found = measure(planned, runs)
    assert estimate_in(found.iloc[0], "accuracy") == estimate(values, "accuracy")
    text = to_markdown(sweep_table(found, "Glyphs", 5, 1))
    assert "trained with 3 seeds" in text and "for a new seed and new test episodes" in text
    assert "- ᵇ of 1 seed, not 3" in text


def test_of_three_seeds_the_best_of_each_block_is_bold(measure):
    planned, runs = [], []
    rng = np.random.default_rng(0)
    for name, level, inductive in (("a", 0.3, 1), ("b", 0.7, 1), ("c", 0.5, 0), ("d", 0.1, 0)):
        for seed in range(3):
            own = [float(value) for value in level + rng.random(20) / 10]
            changes = {"title": name, "seed": seed, "traits": {"transductive": not inductive}}
            runs.append((record(f"{name}{seed}", own, **changes), own))
            planned += lines(name, f"{name}{seed}", (5, 1), seed=seed)
    found = measure(planned, runs)
    assert dict(zip(found["learner"], found["bold"], strict=True)) == {
        "a": False, "b": True, "c": True, "d": False,
    }  # fmt: skip
    table = sweep_table(found, "Glyphs", 5, 1)
    assert len(set(table.blocks)) == 2 and "In bold, of each block" in table.caption
    assert to_markdown(table).count("**7") == 1


def test_a_point_of_other_weights_is_marked(measure):
    """Its run was made anew since."""
    planned = lines("P", "p", (5, 1), (5, 5), (20, 1))
    runs = [(record("p", [0.5, 0.6], validation=[[4, 0.25]]), [0.5, 0.6])]
    for name, curve in (("p-5w5s", [[4, 0.5]]), ("p-20w1s", [[4, 0.25]])):
        runs.append((record(name, [0.5, 0.6], validation=curve), [0.5, 0.6]))
    assert measure(planned, runs)["marks"].tolist() == [[], [STALE], []]


def test_the_caption_of_the_figure_has_its_numbers(measure):
    caption = sweep_caption(whole(measure), "Glyphs", 5, 1)
    assert caption.startswith("Glyphs: accuracy over shots at 5-way, and over ways at 1-shot; ")
    assert "5-way 1-shot 60 to 70 %" in caption and "20-way 1-shot 30 to 30 %" in caption


def test_the_figure_shows_both_axes_and_chance(measure):
    left, right = sweep_figure(whole(measure), "Glyphs", 5, 1).axes
    proto, maml = left.containers
    assert proto[0].get_ydata().tolist() == pytest.approx([70, 90])
    assert proto[0].get_xdata().tolist() == pytest.approx([1, 5], rel=0.02)
    (_, low), (_, high) = proto[2][0].get_segments()[0]
    assert (low, high) == pytest.approx((50.4, 89.6), abs=0.01)
    assert right.containers[0][0].get_ydata().tolist() == pytest.approx([70, 30])
    assert maml[0].get_color() == right.containers[1][0].get_color() != proto[0].get_color()
    chance = {axes: line for axes in (left, right) for line in axes.lines if line.get_ls() == ":"}
    assert set(chance[left].get_ydata()) == {20}
    assert chance[right].get_ydata()[[0, -1]].tolist() == pytest.approx([20, 5])
    assert left.get_xscale() == "log"


def test_twenty_learners_look_different_and_stand_close(measure):
    planned = [line for n in range(20) for line in lines(f"L{n}", f"r{n}", (5, 1), (5, 5))]
    found = measure(planned, [(record(f"r{n}", [0.5, 0.6]), [0.5, 0.6]) for n in range(20)])
    drawn = [bars[0] for bars in sweep_figure(found, "Glyphs", 5, 1).axes[0].containers]
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in drawn}
    assert len(looks) == len(drawn) == 20
    assert max(abs(np.log(line.get_xdata()[0])) for line in drawn) < 0.06


def test_nothing_measured_makes_a_table_and_a_figure(measure):
    found = measure(lines("ProtoNet", "p", *VALUES), [])
    text = to_markdown(sweep_table(found, "Glyphs", 5, 1))
    assert "no runs." in text and "- ᵃ not run" in text
    assert len(sweep_figure(found, "Glyphs", 5, 1).axes) == 2
    assert sweep_csv_frame(found)["value"].isna().all()
