import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.table_cells import cells_under, note_texts, texts_under
from zoo.reports.estimates import Estimate, estimate, estimate_in, trimmed_mean
from zoo.reports.formats.markdown import to_markdown
from zoo.reports.formats.table import Cell, Column, assigned_marks
from zoo.reports.published import published
from zoo.reports.records import checksum, load
from zoo.reports.tables.cells import INDUCTIVE, TRANSDUCTIVE_BLOCK
from zoo.reports.tables.comparison import compared_rows, comparison_numbers, comparison_table
from zoo.reports.tables.comparison_csv import cells_csv_frame, comparison_csv_frame

PUBLISHED = published()
OVER_BATCH = {"transductive": True, "batch_norm": "batch"}


def record(learner, shot, accuracy=None, **changes):
    """A record as a run leaves it; without an accuracy, a failed one."""
    base = {
        "schema": 1,
        "status": "failed" if accuracy is None else "done",
        "learner": learner,
        "title": {"protonet": "ProtoNet", "maml": "MAML", "reptile": "Reptile"}.get(learner, "New"),
        "benchmark": "omniglot",
        "way": 5,
        "shot": shot,
        "terms": "paper",
        "budget": "quick",
        "seed": 0,
        "backbone_family": "conv4",
        "traits": {"transductive": False, "batch_norm": "running"},
        "training_tasks": {"seen": 12000, "paper": 100000},
        "episodes": {"split": "test", "count": 1000, "fingerprint": f"{shot}-shot"},
        "metrics": {"accuracy": {"mean": accuracy, "ci95": 0.0012}},
        "data": {"fingerprint": "dada"},
        **changes,
    }
    variant = base.setdefault("variant", {})
    settings = {"query": 5} | variant | base.get("settings", {})
    base["settings"] = {name: {"value": value} for name, value in settings.items()}
    base |= {"run": base.get("run", f"{learner}-{shot}s-{base['seed']}-{variant}")}
    return base | {"checksum": checksum(base)}


@pytest.fixture
def frame(tmp_path):
    """Writes records and loads them: fails on any problem."""

    def build(*records):
        for each in records:
            (tmp_path / f"{each['run']}.json").write_text(json.dumps(each), encoding="utf-8")
        loaded, problems = load(tmp_path)
        assert problems == [] and len(loaded) == len(records)
        return loaded

    return build


def zoo():
    """A small set: two shots, a variant, a failure, two seeds, and a cell that was not run."""
    maml = {"traits": OVER_BATCH, "training_tasks": {"seen": 12000, "paper": 1920000}}
    nan = {"update": 12, "reason": "the loss is nan"}
    whole = {"training_tasks": {"seen": 24000, "paper": 100000}}
    return [
        record("protonet", 1, 0.9701, settings={"train_way": 60}),
        record("protonet", 5, 0.9904, settings={"train_way": 60}, **whole),
        record("maml", 1, 0.9512, settings={"first_order": False}, **maml),
        record("maml", 5, settings={"first_order": False}, failure=nan, **maml),
        record("maml", 1, 0.9411, variant={"first_order": True}, **maml),
        record("reptile", 5, 0.98, settings={"transductive": True}, traits=OVER_BATCH),
        record("reptile", 5, 0.982, settings={"transductive": True}, traits=OVER_BATCH, seed=1),
        record("new", 1, 0.5, training_tasks={"seen": 3, "paper": None}),
    ]


GOLDEN = """\
**Omniglot**: accuracy in %, quick budget, paper terms, 5 queries a class, 1000 test episodes, conv4 backbone, batch norm by the statistics of the batch at hand; departures are marked. Intervals are of 95 %: with several seeds for a new seed and new test episodes; with one seed over test episodes, a claim about these trained weights. Published numbers are as printed. Nothing is bold: that takes three seeds of all rows of a block, so no method is ranked.

| learner                                  | 5-way 1-shot   | published       | 5-way 5-shot           | published        | share of the paper's tasks   |
|------------------------------------------|----------------|-----------------|------------------------|------------------|------------------------------|
| *inductive: each query by itself*        |                |                 |                        |                  |                              |
| ProtoNetᵃ                                | 97.01 ± 0.12   | 98.8↓ᵇ          | 99.04 (98.91 to 99.15) | 99.7↓ᵇ           | 12 / 24 %                    |
| Newᵃ                                     | 50.00 ± 0.12   | –               | –                      | –                | –                            |
| *transductive: sees all queries at once* |                |                 |                        |                  |                              |
| MAML                                     | 95.12 ± 0.12   | 98.7 ± 0.4↓ᶜᵈᵉ  | failedᶠ                | 99.9 ± 0.1ᶜᵈ     | <1 %                         |
| MAML [first_order=true]                  | 94.11 ± 0.12   | 98.3 ± 0.5↓ᶜᵈᵍʰ | –                      | –                | <1 %                         |
| Reptile                                  | –              | –               | 98.10ⁱʲ                | 99.48 ± 0.06ᶜᵈᵉᵏ | 12 %                         |

- ᵃ batch norm by running statistics
- ᵇ published: trained with the test shot, 60 classes; trained on train+val
- ᶜ transductive: a query's prediction may depend on the other queries
- ᵈ published: split 1200/423, the same test classes
- ᵉ published: 1 query a class
- ᶠ failed at update 12: the loss is nan
- ᵍ published: re-run by a later paper
- ʰ published: run by Reptile's authors with MAML's code
- ⁱ seeds 0, 1
- ʲ no interval: per-episode results are missing
- ᵏ published: interval over 3 seeds
- ↓ worse than published: the interval of the difference does not hold 0; a number printed without interval is taken to have ours
"""  # noqa: E501


def markdown(measured, **options):
    return to_markdown(comparison_table(measured, PUBLISHED, "omniglot", **options))


def test_golden(frame):
    measured = frame(*zoo())
    table = comparison_table(measured, PUBLISHED, "omniglot", title="Omniglot", order=["protonet"])
    assert to_markdown(table) == GOLDEN
    assert list(table.columns) == [
        Column("learner"),
        Column("5-way 1-shot", "5-way 1-shot", "measured"),
        Column("published", "5-way 1-shot"),
        Column("5-way 5-shot", "5-way 5-shot", "measured"),
        Column("published", "5-way 5-shot"),
        Column("share of the paper's tasks"),
        Column("CPU hours of updates"),
    ]


def test_the_order_of_the_runs_does_not_matter(frame):
    measured = frame(*zoo())
    for seed in range(20):
        shuffled = measured.sample(frac=1, random_state=seed)
        assert markdown(shuffled) == markdown(measured)


def rows(measured, benchmark="omniglot"):
    """The table, and its footnotes."""
    table = comparison_table(measured, PUBLISHED, benchmark)
    return table, note_texts(table)


OTHER = {"settings": {"train_way": 60}, "run": "other"}


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"budget": "paper"}, "paper budget"),
        ({"terms": "equal"}, "equal terms"),
        ({"benchmark": "omniglot[split=1200/423]"}, "split=1200/423"),
        ({"settings": {"train_way": 60, "query": 15}}, "15 queries a class"),
        ({"settings": {"train_way": 5}}, "with train_way=5"),
        ({"episodes": {"count": 300, "fingerprint": "x"}}, "300 test episodes"),
        ({"data": {"fingerprint": "feed"}}, "data fingerprint feed"),
        ({"backbone_family": "resnet12"}, "resnet12 backbone"),
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_never_pooled(frame, change, note):
    first = record("protonet", 1, 0.97, settings={"train_way": 60})
    other = record("protonet", 1, 0.9, seed=1, **OTHER | change)
    table, notes = rows(frame(first, other, record("a", 1, 0.5)))  # the third: what is usual
    labels, numbers = texts_under(table, "learner"), texts_under(table, "5-way 1-shot")
    ours = {at: x for at, x in zip(labels, numbers, strict=True) if at.startswith("ProtoNet")}
    assert sorted(ours.values()) == ["90.00 ± 0.12", "97.00 ± 0.12"]
    assert note in notes and len(set(labels)) == len(labels)
    assert not any("query=" in text for text in notes)  # said once, in words


def test_a_departure_of_one_cell_is_marked_in_that_cell(frame):
    few = {"episodes": {"count": 300, "fingerprint": "x"}}
    table, notes = rows(
        frame(
            record("new", 1, 0.5),
            record("new", 5, 0.6, **few),
            record("newer", 1, 0.5),
        )
    )
    texts = ["New", "50.00 ± 0.12", "–", "60.00 ± 0.12", "–", "12 %", "–"]
    assert [cell.text for cell in table.rows[0]] == texts
    assert list(table.blocks) == [INDUCTIVE, INDUCTIVE]  # the row stays where most of it belongs
    marked = [cell.text for row in table.rows for cell in row if cell.footnotes]
    apart = f"{INDUCTIVE}; tested on other episodes"
    assert marked == ["60.00 ± 0.12"]
    assert notes == ["300 test episodes", f"{apart}; not compared with the rows around it"]
    assert "1000 test episodes" in table.caption
    assert "departures are marked" in table.caption


def test_an_even_table_has_no_marks(frame):
    table, notes = rows(frame(record("new", 1, 0.5), record("newer", 1, 0.6)))
    assert notes == [] and "marked" not in table.caption
    assert "published" not in to_markdown(table)  # a column without a number


def test_a_failed_seed_is_said_and_left_out_of_the_mean(frame):
    failed = record("new", 1, seed=0, failure={"update": 7, "reason": "a | b\nc <d>"}, episodes={})
    done = [record("new", 1, 0.5, seed=1), record("new", 1, 0.7, seed=2)]
    table, notes = rows(frame(failed, *done))
    (cell,) = cells_under(table, "5-way 1-shot")
    assert cell.text == "60.00" and cell.footnotes == notes[:3]
    assert notes[:2] == ["seeds 1, 2", "no interval: per-episode results are missing"]
    assert notes[2] == "seed 0 failed at update 7: a | b c <d>"
    assert "7: a \\| b c \\<d>" in to_markdown(table)


def test_one_test_episode_has_no_interval(frame):
    alone = record("new", 1, 0.5, metrics={"accuracy": {"mean": 0.5, "ci95": None}})
    assert "| 50.00 " in markdown(frame(alone))


def test_other_metrics_are_not_called_accuracy(frame):
    other = record("new", 1, 0.5, metrics={"error": {"mean": 0.5, "ci95": 0.1}})
    table, notes = rows(frame(other))
    assert cells_under(table, "5-way 1-shot") == [Cell("–", ["measured without accuracy"])]
    assert notes == ["measured without accuracy"]


FUNCTIONS = {"benchmark": "sinusoid", "way": None, "backbone_family": "mlp"}


def test_regression_shows_its_median_beside_the_published_mean(frame):
    """MAML's sinusoid, 5 points: 0.35 is printed; 1 step at test stood at 0.67."""
    errors = np.random.default_rng(0).lognormal(-1, 1, 100)
    errors[0] = 1e9  # a task that diverged
    metrics = {"mse": {"mean": float(errors.mean()), "ci95": 0.02}}
    run = record("maml", 5, 0, metrics=metrics, diverged={"test": 0.01}, **FUNCTIONS)
    measured, values = frame(run), {run["run"]: pd.DataFrame({"mse": errors})}
    table = comparison_table(measured, PUBLISHED, "sinusoid", values=values)
    found = estimate(errors, "mse")
    text = f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
    assert texts_under(table, "5-shot") == [text]
    assert table.columns[1] == Column("5-shot", "5-shot", "median")
    beside = [texts_under(table, f"5-shot {name}") for name in ("trimmed mean", "diverged", "mean")]
    assert beside == [[f"{trimmed_mean(errors):.3f}"], ["1.0 %"], ["1.0e+07"]]
    (theirs,) = cells_under(table, "published")
    assert theirs.text.startswith("0.35") and theirs.sign == ""
    assert "squared error" in table.caption and "bootstrap" in table.caption
    assert "queries a task" in table.caption
    (line,) = comparison_numbers(measured, PUBLISHED, "sinusoid", (), values).to_dict("records")
    assert estimate_in(line, "value") == found and line["metric"] == "mse"
    csv = comparison_csv_frame(measured, PUBLISHED, values).iloc[0]
    assert estimate_in(csv, "value") == found and csv["mean"] == errors.mean()
    assert csv["trimmed_mean"] == trimmed_mean(errors) and csv["diverged"] == 0.01
    assert pd.isna(csv["agreement"]) and csv["published"] == 0.35


def test_an_infinite_error_leaves_the_median(frame):
    """A mean of null is that of a record with tasks whose error is infinite."""
    errors = np.random.default_rng(0).lognormal(-1, 1, 100)
    errors[:3] = np.inf
    nothing = {"mse": {"mean": None, "ci95": None}}
    run = record("maml", 5, 0, metrics=nothing, diverged={"test": 0.03}, **FUNCTIONS)
    measured, values = frame(run), {run["run"]: pd.DataFrame({"mse": errors})}
    table = comparison_table(measured, PUBLISHED, "sinusoid", values=values)
    (text,) = texts_under(table, "5-shot")
    assert text.startswith(f"{np.median(errors):.3f} (") and "inf" not in text
    beside = [texts_under(table, f"5-shot {name}") for name in ("trimmed mean", "diverged", "mean")]
    assert beside == [[f"{trimmed_mean(errors):.3f}"], ["3.0 %"], ["∞"]]
    values[run["run"]].iloc[:20] = np.inf  # more than a trimmed mean leaves out
    table = comparison_table(measured, PUBLISHED, "sinusoid", values=values)
    assert texts_under(table, "5-shot trimmed mean") == ["∞"]
    values[run["run"]].iloc[:48] = np.inf  # and nearly half: the median has no interval
    table = comparison_table(measured, PUBLISHED, "sinusoid", values=values)
    assert "(" not in texts_under(table, "5-shot")[0]


def test_a_cell_of_several_seeds_is_one_line_of_its_file(frame):
    rng = np.random.default_rng(0)
    runs = [record("maml", 5, 0, run=f"maml-{seed}", seed=seed, diverged={"test": seed / 10},
                   metrics={"mse": {"mean": 1.0 + seed, "ci95": 0.1}}, **FUNCTIONS)
            for seed in range(2)]  # fmt: skip
    measured = frame(*runs)
    values = {run["run"]: pd.DataFrame({"mse": rng.lognormal(0, 1, 50)}) for run in runs}
    both = np.stack([values[run["run"]]["mse"] for run in runs])
    shown = comparison_numbers(measured, PUBLISHED, "sinusoid", (), values)
    (line,) = cells_csv_frame(shown, values, {("5-shot", "MAML")}).to_dict("records")
    assert estimate_in(line, "value") == estimate(both, "mse")
    assert (line["mean"], line["diverged"]) == (1.5, 0.05)
    assert line["trimmed_mean"] == trimmed_mean(both)
    about = {name: line[name] for name in ("label", "column", "block", "metric", "bold")}
    assert about == {"label": "MAML", "column": "5-shot", "block": INDUCTIVE, "metric": "mse",
                     "bold": True}  # fmt: skip
    assert (line["seeds"], line["runs"]) == ("0 1", "maml-0 maml-1")


def test_without_its_tasks_an_error_has_its_mean_alone(frame):
    run = record("maml", 5, 0, metrics={"mse": {"mean": 0.41234, "ci95": 0.02}}, **FUNCTIONS)
    table = comparison_table(frame(run), PUBLISHED, "sinusoid")
    assert texts_under(table, "5-shot") == ["–"] and texts_under(table, "5-shot mean") == ["0.412"]


def test_transductive_rows_stand_in_a_block_of_their_own(frame):
    """Its heading says it; in a table of one block a footnote does."""
    maml, proto = record("maml", 1, 0.95, traits=OVER_BATCH), record("protonet", 1, 0.9)
    measured = frame(maml, proto)
    table, _ = rows(measured)
    assert texts_under(table, "learner") == ["ProtoNet", "MAML"]
    assert list(table.blocks) == [INDUCTIVE, TRANSDUCTIVE_BLOCK]
    said = [text for cell in cells_under(table, "learner") for text in cell.footnotes]
    assert not any(text.startswith("transductive") for text in said)
    lines = compared_rows(measured, "omniglot").set_index("label")["block"]
    assert lines.to_dict() == {"ProtoNet": INDUCTIVE, "MAML": TRANSDUCTIVE_BLOCK}
    table, _ = rows(measured[measured["learner"] == "maml"])
    (cell,) = cells_under(table, "learner")
    assert list(table.blocks) == [] and cell.footnotes[-1].startswith("transductive")


def test_rows_tested_on_other_episodes_stand_apart(frame):
    few = {"episodes": {"count": 300, "fingerprint": "x"}}
    split = {"benchmark": "omniglot[split=lake]"}
    runs = [record(name, 1, 0.5, run=name) for name in ("a", "b", "c")]
    runs += [record("d", 1, 0.5, run="d", **few), record("e", 1, 0.5, run="e", **split)]
    runs += [record("f", 1, 0.5, run="f", traits=OVER_BATCH, **few)]
    measured = frame(*(run | {"title": run["learner"].upper()} for run in runs))
    found = compared_rows(measured, "omniglot").set_index("label")["block"].to_dict()
    apart = "tested on other episodes"
    assert {found[name] for name in "ABC"} == {INDUCTIVE}
    assert {found[name] for name in "DE"} == {f"{INDUCTIVE}; {apart}"}
    assert found["F"] == f"{TRANSDUCTIVE_BLOCK}; {apart}"


def test_a_number_of_other_episodes_is_compared_with_its_like_alone(frame):
    few = {"episodes": {"count": 300, "fingerprint": "x"}}
    runs = [record(name, shot, 0.5, run=f"{name}{shot}") for name in "abc" for shot in (1, 5)]
    runs[1] = record("a", 5, 0.5, run="a5", **few)
    measured = frame(*(run | {"title": run["learner"].upper()} for run in runs))
    found = compared_rows(measured, "omniglot").set_index("run")["block"].to_dict()
    assert found.pop("a5") == f"{INDUCTIVE}; tested on other episodes"
    assert set(found.values()) == {INDUCTIVE}


def test_another_budget_is_the_same_test(frame):
    runs = [record("new", 1, 0.5), record("newer", 1, 0.5), record("maml", 1, 0.5, budget="paper")]
    assert set(compared_rows(frame(*runs), "omniglot")["block"]) == {INDUCTIVE}


def test_cpu_hours_stand_beside_the_share(frame):
    cpu = {"seconds": {"updates_cpu": 1836.0}}
    runs = [record("maml", 1, 0.9, **cpu), record("maml", 5, 0.9, seconds={"updates_cpu": 2880.0})]
    table, _ = rows(frame(*runs, record("new", 1, 0.5, **cpu), record("reptile", 1, 0.5)))
    hours = texts_under(table, "CPU hours of updates")
    assert dict(zip(texts_under(table, "learner"), hours, strict=True)) == {
        "MAML": "0.51 / 0.80", "New": "0.51 / –", "Reptile": "–",
    }  # fmt: skip


def test_cpu_hours_include_the_stages(frame):
    def staged(learner, **stage):
        stages = [{"name": "pretrain", "hash": "1f", "seconds": 9.0, **stage}]
        return record(learner, 1, 0.9, seconds={"updates_cpu": 1836.0}, stages=stages)

    runs = [staged("maml", cpu_seconds=1800.0), staged("new", cpu_seconds=1800.0)]
    runs += [staged("protonet"), staged("reptile", cpu_seconds=None, hash="2f")]
    measured = frame(*runs)
    table, notes = rows(measured)
    assert texts_under(table, "CPU hours of updates") == ["1.01", "1.01", "0.51", "0.51"]
    marked = [len(cell.footnotes) for cell in cells_under(table, "CPU hours of updates")]
    assert marked == [0, 0, 1, 1] and "CPU hours without pretrain: not recorded" in notes
    once = "CPU hours include the stages before the updates; pretrain, trained once, in each number"
    assert once in table.caption
    table, _ = rows(measured[measured["learner"] == "maml"])
    assert "before the updates. " in table.caption
    table, _ = rows(measured[measured["learner"] == "protonet"])
    assert "CPU hours include" not in table.caption
    lines = comparison_csv_frame(measured, PUBLISHED).set_index("learner")
    assert (lines["cpu_seconds"] == 1836).all()
    assert lines.loc[["maml", "new"], "stage_cpu_seconds"].tolist() == [1800, 1800]
    assert lines.loc[["protonet", "reptile"], "stage_cpu_seconds"].isna().all()


def test_near_one_the_ends_are_written_out(frame):
    table, _ = rows(frame(record("new", 1, 0.9958)))
    (text,) = texts_under(table, "5-way 1-shot")
    assert text.startswith("99.58 (99.4") and text.endswith(")") and " to 99." in text


def test_with_fewer_than_three_seeds_the_caption_says_that_nobody_is_ranked(frame):
    table, _ = rows(frame(record("new", 1, 0.5)))
    assert "that takes three seeds" in table.caption and "In bold" not in table.caption


def test_what_training_gave_stands_beside_the_number(frame):
    """Learned is 10 points better than the own untrained network, and not by chance."""
    runs = [record(name, 1, 0.9) for name in ("maml", "protonet", "reptile", "new")]
    learned, little, chance, unknown = (run["run"] for run in runs)
    told = {learned: (0.4, 0.38, 0.42), little: (0.09, 0.08, 0.1), chance: (0.2, -0.01, 0.41)}
    gains = {(name, "accuracy"): Estimate(*gain) for name, gain in told.items()}
    table = comparison_table(frame(*runs), PUBLISHED, "omniglot", order=["maml"], gains=gains)
    names = texts_under(table, "learner")
    column = dict(zip(names, cells_under(table, "over untrained"), strict=True))
    assert column["MAML"] == Cell("+40.00 ± 2.00", []) and column["New"] == Cell("–")
    not_learned = [text for text in note_texts(table) if text.startswith("not learned")]
    assert sorted(not_learned) == [
        "not learned: less than 10 points better than its own untrained network",
        "not learned: not significantly better than its own untrained network",
    ]
    too_little, by_chance = sorted(not_learned)
    assert column["ProtoNet"] == Cell("+9.00 ± 1.00", [too_little])
    assert column["Reptile"] == Cell("+20.00 ± 21.00", [by_chance])
    assert "over untrained" in to_markdown(table) and unknown not in told
    without = comparison_table(frame(*runs), PUBLISHED, "omniglot")
    assert not any(column.name.endswith("untrained") for column in without.columns)


def test_a_smaller_error_is_what_training_gives_in_regression(frame):
    facts = {"benchmark": "sinusoid", "way": None, "backbone_family": "mlp"}
    runs = [
        record(name, 5, 0, metrics={"mse": {"mean": 1, "ci95": 0.1}}, **facts)
        for name in ("maml", "reptile")
    ]
    found = Estimate(0.2, 0.15, 0.3), Estimate(0.9, 0.7, 1.2)  # times the untrained one's error
    gains = {(run["run"], "mse"): gain for run, gain in zip(runs, found, strict=True)}
    table = comparison_table(frame(*runs), PUBLISHED, "sinusoid", order=["maml"], gains=gains)
    learned, not_learned = cells_under(table, "over untrained")
    assert learned == Cell("×0.20 (0.15 to 0.30)", [])
    (footnote,) = not_learned.footnotes
    assert footnote == (
        "not learned: error not significantly below that of its own untrained network"
    )


def test_accuracies_by_instance_stand_in_columns_of_their_own(frame):
    values = {f"accuracy@instance{k}": {"mean": k / 20, "ci95": 0.01} for k in range(1, 11)}
    sequence = record(
        "mann",
        9,
        0,
        metrics=values,
        settings={"protocol": "instances"},
        backbone_family="lstm_memory",
    )
    standard = record("mann", 1, 0.7, backbone_family="lstm_memory")
    gains = {(sequence["run"], "accuracy@instance2"): Estimate(0.05, 0.04, 0.06)}
    measured = frame(sequence, standard, record("protonet", 1, 0.9))
    table = comparison_table(measured, PUBLISHED, "omniglot", order=["mann"], gains=gains)
    shots, *by_instance = [at.name for at in table.columns if at.name.startswith("5-way")]
    assert shots == "5-way 1-shot"
    assert by_instance == [f"5-way instance {k}" for k in (1, 2, 3, 4, 5, 10)]
    assert [text[:5] for text in texts_under(table, "5-way 1-shot")] == ["70.00", "90.00"]
    assert [texts_under(table, name)[0][:5] for name in by_instance] == [
        "5.00 ", "10.00", "15.00", "20.00", "25.00", "50.00",
    ]  # fmt: skip
    theirs = [texts_under(table, "published", name)[0][:4] for name in by_instance]
    assert theirs == ["36.4", "82.8", "91.0", "92.6", "94.9", "98.1"]
    assert all(texts_under(table, name)[1] == "–" for name in by_instance)
    assert texts_under(table, "over untrained", "5-way instance 2")[0] == "+5.00 ± 1.00"
    assert "instance 10" in to_markdown(table)


def test_a_failed_run_by_instance_stands_in_its_columns(frame):
    failed = record("mann", 9, settings={"protocol": "instances"})
    table = comparison_table(frame(failed), PUBLISHED, "omniglot")
    assert texts_under(table, "5-way instance 1") == ["failed"]


def test_benchmarks_are_not_mixed(frame):
    split = record("new", 1, 0.6, benchmark="omniglot[split=lake]", run="split")
    measured = frame(
        record("new", 1, 0.5), split, record("new", 1, 0.7, benchmark="fc100", run="f")
    )
    assert len(rows(measured)[0].rows) == 2
    table, notes = rows(measured, "omniglot[split=lake]")
    assert texts_under(table, "5-way 1-shot") == ["60.00 ± 0.12"] and notes == []
    assert "split=lake" in table.caption
    empty = comparison_table(measured, PUBLISHED, "glyphs")
    assert to_markdown(empty) == "**glyphs**: no runs.\n"


def test_no_records_at_all(tmp_path):
    measured, _ = load(tmp_path)
    assert markdown(measured, title="Omniglot") == "**Omniglot**: no runs.\n"
    assert comparison_csv_frame(measured, PUBLISHED).empty


def test_more_footnotes_than_letters(frame):
    many = [
        record("new", 1, seed=seed, failure={"update": seed, "reason": "nan"}) for seed in range(30)
    ]
    table, notes = rows(frame(*many))
    marks = [note.mark for note in assigned_marks(table)]
    assert len(set(marks)) == len(notes) == 30 and marks[-1] == "⁽³⁰⁾"


@given(st.integers(0, 10**9), st.integers(1, 10**7))
def test_the_share_never_rounds_up_to_all(seen, whole):
    measured = pd.DataFrame([flat(tasks_seen=seen, tasks_paper=whole)])
    table = comparison_table(measured, PUBLISHED, "omniglot")
    (text,) = texts_under(table, "share of the paper's tasks")
    number = text.removesuffix(" %")
    if number == "<1":
        assert 0 < seen / whole < 0.01
    else:
        assert int(number) == 100 * seen // whole
        assert (int(number) >= 100) == (seen >= whole)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_seeds_are_pooled_by_the_mean_of_their_means(means):
    runs = [flat(seed=seed, run=str(seed), accuracy=mean) for seed, mean in enumerate(means)]
    table = comparison_table(pd.DataFrame(runs), PUBLISHED, "omniglot")
    (cell,) = texts_under(table, "5-way 1-shot")
    assert float(cell[:5].rstrip(" ±")) == pytest.approx(100 * sum(means) / len(means), abs=0.06)
    assert ("±" in cell or " to " in cell) == (len(means) == 1)


def flat(**changes):
    """A row of `records.load`, made by hand."""
    texts = ("title", "terms", "budget", "data_fingerprint", "episodes_fingerprint", "learner")
    row = dict.fromkeys(texts, "x") | {"status": "done", "benchmark": "omniglot", "run": "r"}
    row |= {"way": 5, "shot": 1, "seed": 0, "settings": {}, "variant": {}, "episodes": 10}
    row |= {"backbone_family": "conv4", "transductive": False, "batch_norm": None}
    row |= {"tasks_seen": 1, "tasks_paper": 2, "failed_at": None, "failure": None, "remark": None}
    row |= {"update_cpu_seconds": None, "diverged_test": None}
    return row | {"accuracy": 0.5, "accuracy_ci95": 0.1} | changes


def test_csv_has_one_number_a_row(frame):
    metrics = {"accuracy": {"mean": 0.9512, "ci95": 0.0012}, "nll": {"mean": 0.2, "ci95": 0.01}}
    measured = frame(
        record("maml", 1, 1.0, metrics=metrics, run="b"),
        record("maml", 5, failure={"update": 1, "reason": "nan"}, run="a"),
        record("new", 1, 0.5, way=None, variant={"b": None, "a": False}, run="c"),
    )
    table = comparison_csv_frame(measured, PUBLISHED)
    assert list(table["run"]) == ["b", "b", "a", "c"]
    assert list(table["metric"]) == ["accuracy", "nll", "", "accuracy"]
    first = table.iloc[0]
    assert (first["mean"], first["value"], first["share"]) == (0.9512, 0.9512, 0.12)
    assert estimate_in(first, "value") == pytest.approx((0.9512, 0.95, 0.9524))
    loss = table.iloc[1]
    assert (loss["mean"], loss["ci95"]) == (0.2, 0.01) and pd.isna(loss["value"])
    assert pd.isna(first["ci95"]) and first["agreement"] == "worse" and pd.isna(loss["agreement"])
    assert (first["published"], first["published_ci95"]) == (0.987, 0.004)
    assert first["published_source"].startswith("MAML (Finn et al. 2017")
    assert pd.isna(table["mean"][2]) and table["status"][2] == "failed"
    assert pd.isna(table["published"][1])
    assert table["variant"][3] == "a=false,b=null"
    assert list(pd.to_numeric(table["mean"]).dropna()) == [0.9512, 0.2, 0.5]


def test_weights_from_elsewhere_are_never_mixed_without_a_mark(frame):
    """In a table of their own the caption says it; beside runs of the benchmark a footnote."""
    elsewhere = {"weights_of": "another", "trained_on": {"benchmark": "glyphs"}}
    wide = {"train_way": 60}
    own = [record("protonet", 1, 0.97, settings=wide), record("maml", 1, 0.95)]
    tested = record("protonet", 1, 0.61, settings=wide, run="tested", **elsewhere)
    loaded = frame(*own, tested)
    table = comparison_table(loaded, PUBLISHED, "omniglot")
    found = zip(table.rows, texts_under(table, "5-way 1-shot"), strict=True)
    said = {number: row[0].footnotes for row, number in found}
    assert len(said) == 3, "they are not two seeds of one number"
    assert "trained on glyphs" in said["61.00 ± 0.12"]
    assert "trained on" not in table.caption + str(said["97.00 ± 0.12"])
    assert "as printed" in table.caption
    alone = comparison_table(loaded[loaded["run"] == "tested"], PUBLISHED, "omniglot")
    assert "paper terms, trained on glyphs" in alone.caption and not note_texts(alone)
    assert "as printed" not in alone.caption, "papers trained on the benchmark"
    assert texts_under(alone, "published") == ["–"] != texts_under(table, "published")[:1]
    numbers = comparison_csv_frame(loaded, PUBLISHED).set_index("run")["published"]
    assert numbers.isna()["tested"] and not numbers.isna()[own[0]["run"]]
