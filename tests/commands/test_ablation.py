"""Ablations: what is declared, what the table says of synthetic runs, and one from end to end."""

import csv
import json
import subprocess

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import zoo.commands.run_set
from tests.commands.test_command_line import ROOT, folders
from tests.support.table_cells import cells_under, texts_under
from zoo import learners
from zoo.commands import main
from zoo.commands.ablation import flags_by_variant, load_ablation
from zoo.errors import UsageError
from zoo.reports.estimates import compare, estimate, estimate_in
from zoo.reports.formats.markdown import to_markdown
from zoo.reports.published import match, published
from zoo.reports.records import load as load_records
from zoo.reports.tables.ablation import ablation_csv_frame, ablation_numbers, ablation_table
from zoo.reports.tables.cells import INDUCTIVE, TRANSDUCTIVE_BLOCK
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.settings import resolve, settings_rows
from zoo.variants import parse_variant

PUBLISHED = published()
FIRST = "npbml[film=false,loss=none,warp=false]"
BASE = {"film": False, "loss": "none", "warp": False}


def test_the_rows_are_those_of_the_issue():
    rows = load_ablation("npbml").rows
    parts = {f"({n})": [f"npbml[film=false,loss={loss},warp=false]"] for n, loss in
             ((7, "support"), (8, "query"), (9, "regulariser"))}  # fmt: skip
    parts |= {"(1)": [FIRST], "(2)": ["npbml[film=false,loss=none]"]}
    parts |= {"(3)": ["npbml[film=false,warp=false]"], "(4)": ["npbml[film=false]"]}
    parts |= {"(5)": ["npbml"]}
    for number, variants in parts.items():
        assert next(v for label, v in rows.items() if label.startswith(number)) == variants
    assert [len(variants) for variants in rows.values()] == [1] * 8 + [5] + [1] * 7
    tuned = [parse_variant(v)[1] for variants in rows.values() for v in variants[1:] + variants[:1]]
    rates = [own.pop("inner_lr") for own in tuned if own.keys() > BASE.keys()]
    assert sorted(rates) == [0.003, 0.01, 0.03, 0.1, 0.3] and tuned.count(BASE) == 6
    controls = [variants[0] for variants in list(rows.values())[9:]]
    assert controls == [
        "npbml[film=false,loss=none,preconditioner=rate]",
        "npbml[film=false,loss=none,preconditioner=layer_rates]",
        "npbml[preconditioner=post_block]", "npbml[inductive=true]",
        "pretrained", "finetune", "finetune[head=cosine]",
    ]  # fmt: skip


def test_every_published_row_is_one_of_them():
    """Table 3 and 4, on mini-ImageNet; and no control has a number of theirs."""
    found = {}
    for label, variants in load_ablation("npbml").rows.items():
        key, own = parse_variant(variants[0])
        job = RunRequest(key, "miniimagenet", 5, 5, "paper", "paper", flags=own)
        settings, _ = resolve(job, learners.get(key), settings_rows(), query=15)
        run = {"learner": key, "benchmark": "miniimagenet", "backbone_family": "conv4",
               "way": 5, "shot": 5, "variant": own,
               "settings": {name: s.value for name, s in settings.items()}}  # fmt: skip
        row = match(run, PUBLISHED)
        if row is not None and key == "npbml":
            found[label[:3]] = row["value"]
    assert found == {
        "(1)": 65.38, "(2)": 67.47, "(3)": 71.75, "(4)": 72.79, "(5)": 75.01,
        "(7)": 70.68, "(8)": 70.92, "(9)": 70.04,
    }  # fmt: skip
    theirs = PUBLISHED[PUBLISHED["variant"].str.startswith("ablation") & PUBLISHED["primary"].eq(1)]
    theirs = theirs[theirs["learner_key"] == "npbml"]
    assert set(theirs["value"]) | {75.01} == set(found.values())


def record(name, values, *, variant=BASE, seed=0, learner="npbml", **changes):
    """A record of a finished run whose episodes gave these accuracies."""
    mean = sum(values) / len(values)
    settings = {"query": 15, "film": True, "loss": "all", "warp": True} | variant
    return {
        "schema": 1, "run": name, "status": "done", "learner": learner, "title": "NPBML",
        "variant": variant | {"pretrained_from": "pretrain"}, "benchmark": "miniimagenet",
        "way": 5, "shot": 5, "terms": "paper", "budget": "paper", "seed": seed,
        "settings": {key: {"value": value} for key, value in settings.items()},
        "backbone_family": "conv4", "traits": {"transductive": True, "batch_norm": "batch"},
        "parameters": 10_000, "learned_parameters": 1234,
        "training_tasks": {"seen": 400, "paper": None}, "updates": {"total": 100},
        "validation": [[50, 0.2], [100, 0.5]], "tested_update": 100,
        "episodes": {"split": "test", "count": len(values), "fingerprint": "same"},
        "metrics": {"accuracy": {"mean": mean, "ci95": 0.1}},
        "seconds": {"updates": 25.0}, "memory": {"updates": 2_400_000_000},
        "environment": {"device": "cpu", "threads": 2, "device_name": "A CPU"},
    } | changes  # fmt: skip


def line(row, name, *, learner=FIRST, overrides=BASE, seed=0, note="not measured"):
    named = {"row": row, "learner": learner, "overrides": overrides}
    return {**named, "seed": seed, "run": name, "note": note}


@pytest.fixture
def measure(tmp_path):
    """`ablation_numbers` of lines and of runs: (record, what each episode gave)."""

    def build(lines, runs):
        accuracies = {}
        for each, values in runs:
            (tmp_path / f"{each['run']}.json").write_text(json.dumps(each), encoding="utf-8")
            if each["status"] == "done":
                accuracies[each["run"]] = pd.Series(values)
        measured, problems = load_records(tmp_path)
        assert not problems
        return ablation_numbers(pd.DataFrame(lines), measured, accuracies, PUBLISHED)

    return build


def runs_of(*arguments, **changes):
    return [(record(name, values, **changes), values) for name, values in arguments]


ONE, TWO = [0.2, 0.4, 0.6, 0.8], [0.4, 0.4, 0.8, 0.8]


def test_differences_are_paired(measure):
    two = {"variant": {"film": False, "loss": "none"}}
    lines = [line("(1)", "a"), line("(2)", "b", learner="npbml[...]", overrides=two["variant"])]
    found = measure(lines, runs_of(("a", ONE)) + runs_of(("b", TWO), **two))
    first, second = found.iloc[0], found.iloc[1]
    assert first["accuracy"] == pytest.approx(0.5) and pd.isna(first["difference"])
    # d = 0.2 0 0.2 0: mean 0.1, s = sqrt(4 * 0.01 / 3)
    assert second["difference"] == pytest.approx(0.1)
    half = stats.t.ppf(0.975, 3) * (0.04 / 3) ** 0.5 / 2
    assert estimate_in(second, "difference") == pytest.approx((0.1, 0.1 - half, 0.1 + half))
    # d varies half as much as each row's own: 1.96 * 0.2582 / 2
    half = 1.96 * (0.2 / 3) ** 0.5 / 2
    assert estimate_in(first, "accuracy") == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    assert (first["published"], second["published"]) == (0.6538, 0.6747)
    assert second["published_difference"] == pytest.approx(0.0209)
    assert first["learned_parameters"] == 1234 and first["update_seconds"] == 0.25
    text = to_markdown(ablation_table(found, "Parts", "Someone 2030"))
    rows = [[cell.strip() for cell in text_line.split("|")[1:-1]] for text_line in
            text.splitlines() if text_line.startswith("| (")]  # fmt: skip
    assert rows[0][1:3] == ["50.00 ± 25.30", "–"] and rows[0][3].startswith("65.38 ± 0.67")
    assert rows[1][1:3] == ["60.00 ± 22.63", "+10.00 ± 18.37"] and rows[1][4] == "+2.09"
    assert rows[1][5:] == ["1,234", "0.25", "2,400"]
    assert "A CPU, 2 threads" in text and "Differences are to (1)" in text
    assert "of one seed they say nothing about the parts" in text


def test_the_best_on_validation_is_shown_not_the_best_on_test(measure, tmp_path):
    lines, runs = [line("(1)", "a")], runs_of(("a", ONE))
    for rate, name, score, values in ((0.1, "b", 0.7, ONE), (0.3, "c", 0.6, TWO)):
        own = BASE | {"inner_lr": rate}
        lines.append(line("tuned", name, learner=f"npbml[{rate}]", overrides=own))
        curve = {"validation": [[50, score], [100, 0.9]], "tested_update": 50}
        runs += runs_of((name, values), variant=own, **curve)
    lines.append(line("tuned", "none", learner="npbml[0.9]", overrides=BASE | {"inner_lr": 0.9}))
    found = measure(lines, runs).iloc[1]
    assert found["learner"] == "npbml[0.1]" and found["difference"] == 0
    assert found["marks"] == [
        "inner_lr=0.1, the best of 3 on validation: "
        "inner_lr=0.1 70.00, inner_lr=0.3 60.00, inner_lr=0.9 not measured"
    ]
    lines[1] = line("tuned", "a")  # row (1) itself, if it were the best
    (tmp_path / "b.json").unlink()
    found = measure(lines, [*runs_of(("a", ONE), validation=[[100, 0.8]]), runs[2]]).iloc[1]
    assert found["marks"][0].startswith("as it is, the best") and found["learner"] == FIRST
    assert pd.isna(found["published"]), "no row of the paper's is tuned"


@pytest.mark.parametrize("seeds", [2, 3])
def test_of_several_seeds_differences_are_for_a_new_one(measure, seeds):
    values = np.random.default_rng(seeds).random((2, seeds, 30)).round(2)
    rows = dict(zip(("(1)", "(2)"), values, strict=True))
    lines = [line(row, f"{row}{s}", seed=s) for row in rows for s in range(seeds)]
    runs = [
        (record(f"{row}{s}", each[s].tolist(), seed=s), each[s])
        for row, each in rows.items() for s in range(seeds)
    ]  # fmt: skip
    found = measure(lines, runs)
    first, second = values
    assert estimate_in(found.iloc[1], "difference") == compare(second, first, "accuracy").estimate
    for number, each in enumerate(values):
        assert estimate_in(found.iloc[number], "accuracy") == estimate(each, "accuracy")
    caption = ablation_table(found, "Parts", "Someone 2030").caption
    assert "for a new seed and new test episodes" in caption
    assert "between two trained models" not in caption


OWN = {"traits": {"transductive": False, "batch_norm": "batch"}}


def test_rows_of_two_blocks_are_not_compared(measure):
    """Each block has its own first row and its own best one."""
    values = np.random.default_rng(0).random((3, 40)) / 10
    levels = {"(1)": 0.3, "alone": 0.1, "(2)": 0.5, "none": 0.0, "alone too": 0.7}
    lines = [line(row, f"{row}{s}", seed=s) for row in levels for s in range(3)]
    runs = [
        (record(f"{row}{s}", list(own), seed=s, **(OWN if "alone" in row else {})), own)
        for row, level in levels.items() if level
        for s, own in enumerate(values + level)
    ]  # fmt: skip
    found = measure(lines, runs)
    assert found["row"].tolist() == ["(1)", "(2)", "none", "alone", "alone too"]
    assert found["block"].tolist() == [TRANSDUCTIVE_BLOCK] * 3 + [INDUCTIVE] * 2
    expected = [np.nan, 0.2, np.nan, np.nan, 0.6]
    assert found["difference"].tolist() == pytest.approx(expected, nan_ok=True)
    assert found["bold"].tolist() == [False, True, False, False, True]
    table = ablation_table(found, "Parts", "Someone 2030")
    assert list(table.blocks) == found["block"].tolist()
    assert "Differences are to the first row of the block" in table.caption
    assert "In bold, of each block" in table.caption
    said = [text for cell in cells_under(table, "row") for text in cell.footnotes]
    assert not any(text.startswith("transductive") for text in said)  # the heading says it
    assert ablation_csv_frame(found)["block"].tolist()[-1] == INDUCTIVE


def test_seconds_are_the_cpus_where_all_rows_know_them(measure):
    both = {"seconds": {"updates": 25.0, "updates_cpu": 40.0}}
    lines = [line("(1)", "a"), line("(2)", "b")]
    runs = runs_of(("a", ONE), ("b", TWO), **both)
    found = measure(lines, runs)
    assert found["update_cpu_seconds"].tolist() == [0.4, 0.4]
    table = ablation_table(found, "Parts", "Someone 2030")
    assert texts_under(table, "s an update") == ["0.4", "0.4"]
    assert "Seconds are the CPU's" in table.caption
    found = measure(lines, runs[:1] + runs_of(("b", TWO)))
    table = ablation_table(found, "Parts", "Someone 2030")
    assert texts_under(table, "s an update") == ["0.25", "0.25"]
    assert "by the clock" in table.caption and "not all records know" in table.caption
    csv = ablation_csv_frame(found)
    assert csv["value"][csv["metric"] == "update_cpu_seconds"].tolist() == [0.4]


def test_seeds_are_averaged_and_paired(measure):
    three = [0.0, 0.4, 0.4, 0.8]
    lines = [line("(1)", "a"), line("(1)", "b", seed=1), line("(2)", "c"), line("(2)", "d", seed=1)]
    runs = runs_of(("a", ONE), ("c", TWO)) + runs_of(("b", three), ("d", TWO), seed=1)
    found = measure(lines, runs)
    # (1): 0.1 0.4 0.5 0.8, so d = 0.3 0 0.3 0
    assert found["accuracy"].tolist() == pytest.approx([0.45, 0.6])
    assert found["difference"][1] == pytest.approx(0.15)
    both = [np.array([ONE, three]), np.array([TWO, TWO])]
    expected = compare(*both[::-1], "accuracy").estimate
    assert estimate_in(found.iloc[1], "difference") == pytest.approx(expected)
    assert found["marks"][0] == ["seeds 0, 1"]
    lines.pop()  # of (2), seed 0 alone: d = 0.2 0 0.2 0
    found = measure(lines, runs)
    assert found["difference"][1] == pytest.approx(0.1)
    assert found["marks"][1] == []
    lines[2]["run"] = "d"  # (2) of another seed than those of (1)
    lines[1]["run"] = "gone"
    found = measure(lines, runs)
    assert found["marks"][1] == ["no difference: (1) was not measured"]


def test_failed_missing_and_old_runs_are_dashes(measure):
    nan = {"status": "failed", "failure": {"update": 12, "reason": "the loss is nan"}}
    old = record("old", TWO)
    for key in ("learned_parameters", "seconds", "memory", "validation", "tested_update"):
        del old[key]
    lines = [line("(1)", "a"), line("(2)", "b"), line("(3)", None, note="cannot be run: no way")]
    lines += [line("(4)", "d"), line("(5)", "old")]
    runs = [*runs_of(("a", ONE)), (record("b", TWO, **nan, metrics={}), TWO), (old, TWO)]
    found = measure(lines, runs)
    assert found["difference"].notna().tolist() == [False, False, False, False, True]
    assert found[["update_seconds", "update_memory"]].iloc[4].isna().all()
    text = to_markdown(ablation_table(found, "Parts", "Someone 2030"))
    for note in ("failed at update 12: the loss is nan", "cannot be run: no way", "not measured"):
        assert note in text
    assert text.count("| –") >= 15
    frame = ablation_csv_frame(found)
    (metric,) = frame["metric"][frame["row"] == "(2)"]
    assert metric == "" and frame["value"][frame["row"] == "(2)"].isna().all()
    lines = [line("(1)", "b"), line("(2)", "a")]
    alone = measure(lines, runs_of(("a", ONE)))
    assert alone["marks"][1] == ["no difference: (1) was not measured"]
    assert alone["accuracy"].notna().tolist() == [False, True]


def test_other_test_episodes_are_not_paired(measure):
    other = {"split": "test", "count": 4, "fingerprint": "other"}
    runs = runs_of(("a", ONE)) + runs_of(("b", TWO), episodes=other)
    found = measure([line("(1)", "a"), line("(2)", "b")], runs)
    assert pd.isna(found["difference"][1])
    assert found["marks"][1] == ["no difference: other test episodes than (1)"]


SMALL = """\
title: A small one
source: ours
way: 3
shot: 2
settings: {pretrained_from: pretrain}
rows:
  - {label: second order, learner: "maml[backbone=conv4_strided[channels=4]]"}
  - {label: first order, learner: "maml[first_order=true]"}
  - label: tuned
    any_of: ["maml[inner_lr=0.4]", "maml[inner_lr=0.2]"]
  - {label: breaks, learner: "maml[outer_lr=1e30]"}
  - {label: nothing learned, learner: pretrained}
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return str(path)


def test_from_end_to_end_and_again(small, tmp_path, capsys, monkeypatch):
    words = ["ablation", small, "glyphs", "--budget", "smoke", *folders(tmp_path)]
    words += ["--updates", "2"]
    assert main(words) == 1, "a row fails"
    out = capsys.readouterr().out
    assert "5 runs: 0 done, 5 left" in out, "0.4 is what glyphs has"
    stem = "ablation-small-glyphs-3w-2s-paper-smoke-updates=2"
    text, _, made = (tmp_path / "results" / f"{stem}.md").read_text().rpartition("\nMade by ")
    assert "zoo ablation" in made and f"[numbers]({stem}.csv)" in made
    assert text in out
    rows = [r for r in text.splitlines() if r.startswith("| ") and "±" in r]
    assert [r.split("|")[1].strip().rstrip("ᵃᵇᶜᵈᵉ") for r in rows] == [
        "second order", "first order", "tuned", "nothing learned"
    ]  # fmt: skip
    assert "| breaks" in text and "failed at update" in text and "best of 2 on validation" in text
    with (tmp_path / "results" / f"{stem}.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {each["metric"] for each in lines if each["row"] == "first order"} >= {
        "accuracy", "difference", "learned_parameters", "update_seconds"
    }  # fmt: skip
    assert len(list((tmp_path / "runs" / "stages").iterdir())) == 1, "one network, one pre-training"
    monkeypatch.setattr(Run, "train", None)
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "5 runs: 5 done, 0 left" in out and text in out


def test_npbml_is_planned_with_one_pre_training(tmp_path, capsys, monkeypatch):
    """Sixteen rows, of which the rate of 0.01 is row (1) itself."""
    stages, settings = set(), []
    execute = zoo.commands.run_set.execute

    def spy(runs, how):
        for run in runs:
            (stage,) = (s for s in run.stages if s.stage.name == "pretrain")
            stages.add(stage.hash)
            settings.append({n: run.settings[n].value for n in ("updates", "outer_lr")
                             if n in run.settings})  # fmt: skip
        return execute(runs, how)

    monkeypatch.setattr("zoo.commands.run_set.execute", spy)
    words = ["ablation", "npbml", "glyphs", "--budget", "quick", "--dry-run", *folders(tmp_path)]
    assert main([*words, "--outer_lr", "0.002", "--updates", "7"]) == 0
    assert "19 runs: 0 done, 19 left" in capsys.readouterr().out
    assert len(stages) == 1 and not list(tmp_path.iterdir())
    learned = [each for each in settings if each["updates"]]
    assert learned == [{"updates": 7, "outer_lr": 0.002}] * 16 and len(settings) == 19


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["npbm", "glyphs"], "no ablation 'npbm': there are npbml"),
        (["nowhere.yaml", "glyphs"], "no ablation 'nowhere.yaml'"),
        (["npbml", "sinusoid"], "sinusoid is regression"),
        (["npbml", "glyph"], "no benchmark 'glyph'"),
        (["npbml", "glyphs", "--budget", "none"], "--budget none"),
        (["npbml", "glyphs", "--outer_lrr", "1"], "--outer_lrr: did you mean 'outer_lr'"),
        (["npbml", "glyphs", "--outer_lr", "x"], "--outer_lr 'x': expected a number"),
        (["npbml", "glyphs", "more"], "more"),
        (["npbml", "glyphs", "--way", "1"], "--way 1: expected"),
        (["npbml", "glyphs", "--seeds", "a"], "--seeds 'a'"),
        (["npbml", "glyphs", "--backbone", "mlp"], "backbone"),
    ],
)
def test_mistakes_are_one_line(words, says, tmp_path, capsys):
    assert main(["ablation", *words, *folders(tmp_path)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert says in said and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("learner: pretrained}", "learner: mamml}", "no learner 'mamml': did you mean 'maml'"),
        ("[first_order=true]", "[first=true]", "maml[first=true]: no setting 'first'"),
        ("[first_order=true]", "[first_order=7]", "maml[first_order=7]: "),
        ("inner_lr=0.2", "inner=0.2", "maml[inner=0.2]: no setting 'inner'"),
        ("pretrained_from:", "pretrained:", "no setting 'pretrained'"),
        ("label: first order", "label: second order", "a label of its own"),
        ("learner: pretrained}", "lerner: pretrained}", "expected label, and learner or any_of"),
        ("way: 3", "way: three", "way: expected int, not 'three'"),
        ("source: ours\n", "", "expected title, source"),
        ("rows:", "rows: [", "small.yaml: cannot be read: while parsing"),
    ],
)
def test_a_file_with_a_mistake_is_named(old, new, says, small, tmp_path):
    assert old in SMALL
    (tmp_path / "small.yaml").write_text(SMALL.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        load_ablation(small)
    assert says in str(caught.value) and "small.yaml" in str(caught.value)


def test_flags_go_to_the_rows_that_have_them(small):
    flags = ["--inner_lr", "0.3", "--val_episodes=5", "--updates", "9"]
    given = flags_by_variant(load_ablation(small), flags)
    kinds = {variant.partition("[")[0] for variant in given}
    assert kinds == {"maml", "pretrained"}
    for variant, values in given.items():
        learns = variant.startswith("maml")
        assert values == {"val_episodes": 5} | ({"inner_lr": 0.3, "updates": 9} if learns else {})


def test_make_knows_it():
    words = ["make", "-n", "ablation-npbml", "BENCHMARK=cifarfs", "BUDGET=smoke", "SEEDS=0 1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "zoo ablation 'npbml' 'cifarfs'" in done.stdout and '--seeds "0 1"' in done.stdout
