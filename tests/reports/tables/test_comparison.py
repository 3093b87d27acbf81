import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.table_cells import cells_under, note_texts, texts_under
from zoo.reports.formats.markdown import to_markdown
from zoo.reports.formats.table import Cell, Column, assigned_marks
from zoo.reports.published import published
from zoo.reports.records import checksum, load
from zoo.reports.tables.comparison import comparison_table
from zoo.reports.tables.comparison_csv import comparison_csv_frame

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
**Omniglot**: accuracy in %, quick budget, paper terms, 5 queries a class, 1000 test episodes, conv4 backbone, batch norm by the statistics of the batch at hand; departures are marked. ± is the 95 % interval over test episodes, a claim about these trained weights; of several seeds it is that for a new seed and new episodes. Published numbers are as printed.

| learner                  | 5-way 1-shot   | published       | 5-way 5-shot   | published        | share of the paper's tasks   |
|--------------------------|----------------|-----------------|----------------|------------------|------------------------------|
| ProtoNetᵃ                | 97.01 ± 0.12   | 98.8↓ᵇ          | 99.04 ± 0.12   | 99.7↓ᵇ           | 12 / 24 %                    |
| MAMLᶜ                    | 95.12 ± 0.12   | 98.7 ± 0.4↓ᶜᵈᵉ  | failedᶠ        | 99.9 ± 0.1ᶜᵈ     | <1 %                         |
| MAML [first_order=true]ᶜ | 94.11 ± 0.12   | 98.3 ± 0.5↓ᶜᵈᵍʰ | –              | –                | <1 %                         |
| Newᵃ                     | 50.00 ± 0.12   | –               | –              | –                | –                            |
| Reptileᶜ                 | –              | –               | 98.10ⁱ         | 99.48 ± 0.06ᶜᵈᵉʲ | 12 %                         |

- ᵃ batch norm by running statistics
- ᵇ published: trained with the test shot, 60 classes; trained on train+val
- ᶜ transductive: a query's prediction may depend on the other queries
- ᵈ published: split 1200/423, the same test classes
- ᵉ published: 1 query a class
- ᶠ failed at update 12: the loss is nan
- ᵍ published: re-run by a later paper
- ʰ published: run by Reptile's authors with MAML's code
- ⁱ mean of 2 runs (seeds 0, 1), no interval
- ʲ published: interval over 3 seeds
- ↓ worse than published: neither number lies in the other's interval
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
    texts = ["New", "50.00 ± 0.12", "–", "60.00 ± 0.12", "–", "12 %"]
    assert [cell.text for cell in table.rows[0]] == texts
    marked = [cell.text for row in table.rows for cell in row if cell.footnotes]
    assert marked == ["60.00 ± 0.12"] and notes == ["300 test episodes"]
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
    assert cell.text == "60.00" and cell.footnotes == notes[:2]
    assert notes[0] == "mean of 2 runs (seeds 1, 2), no interval"
    assert notes[1] == "seed 0 failed at update 7: a | b c <d>"
    assert "7: a \\| b c \\<d>" in to_markdown(table)


def test_one_test_episode_has_no_interval(frame):
    alone = record("new", 1, 0.5, metrics={"accuracy": {"mean": 0.5, "ci95": None}})
    assert "| 50.00 " in markdown(frame(alone))


def test_other_metrics_are_not_called_accuracy(frame):
    other = record("new", 1, 0.5, metrics={"error": {"mean": 0.5, "ci95": 0.1}})
    table, notes = rows(frame(other))
    assert cells_under(table, "5-way 1-shot") == [Cell("–", ["measured without accuracy"])]
    assert notes == ["measured without accuracy"]


def test_regression_shows_its_error_beside_the_published_one(frame):
    """MAML's sinusoid, 5 points: 0.35 is printed; 1 step at test stood at 0.67."""
    facts = {"benchmark": "sinusoid", "way": None, "backbone_family": "mlp"}
    run = record("maml", 5, 0, metrics={"mse": {"mean": 0.41234, "ci95": 0.02}}, **facts)
    table = comparison_table(frame(run), PUBLISHED, "sinusoid")
    assert texts_under(table, "5-shot") == ["0.412 ± 0.020"]
    assert texts_under(table, "published")[0].startswith("0.35")
    assert "mean squared error" in table.caption
    assert "queries a task" in table.caption


def test_what_training_gave_stands_beside_the_number(frame):
    """Learned is 10 points better than the own untrained network, and not by chance."""
    runs = [record(name, 1, 0.9) for name in ("maml", "protonet", "reptile", "new")]
    learned, little, chance, unknown = (run["run"] for run in runs)
    told = {learned: (0.4, 0.02), little: (0.09, 0.01), chance: (0.2, 0.21)}
    gains = {(name, "accuracy"): gain for name, gain in told.items()}
    table = comparison_table(frame(*runs), PUBLISHED, "omniglot", order=["maml"], gains=gains)
    names = texts_under(table, "learner")
    column = dict(zip(names, cells_under(table, "over untrained"), strict=True))
    assert column["MAML"] == Cell("+40.00 ± 2.00", []) and column["New"] == Cell("–")
    not_learned = [text for text in note_texts(table) if text.startswith("not learned")]
    assert len(not_learned) == 1
    assert column["ProtoNet"] == Cell("+9.00 ± 1.00", not_learned)
    assert column["Reptile"] == Cell("+20.00 ± 21.00", not_learned)
    assert "over untrained" in to_markdown(table) and unknown not in told
    without = comparison_table(frame(*runs), PUBLISHED, "omniglot")
    assert not any(column.name.endswith("untrained") for column in without.columns)


def test_a_smaller_error_is_what_training_gives_in_regression(frame):
    facts = {"benchmark": "sinusoid", "way": None, "backbone_family": "mlp"}
    runs = [
        record(name, 5, 0, metrics={"mse": {"mean": 1, "ci95": 0.1}}, **facts)
        for name in ("maml", "reptile")
    ]
    gains = {(runs[0]["run"], "mse"): (-2.0, 0.3), (runs[1]["run"], "mse"): (-0.2, 0.3)}
    table = comparison_table(frame(*runs), PUBLISHED, "sinusoid", order=["maml"], gains=gains)
    learned, not_learned = cells_under(table, "over untrained")
    assert learned == Cell("-2.000 ± 0.300", [])
    assert "not learned: no better" in not_learned.footnotes[0]


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
    gains = {(sequence["run"], "accuracy@instance2"): (0.05, 0.01)}
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
    assert ("±" in cell) == (len(means) == 1)


def flat(**changes):
    """A row of `records.load`, made by hand."""
    texts = ("title", "terms", "budget", "data_fingerprint", "episodes_fingerprint", "learner")
    row = dict.fromkeys(texts, "x") | {"status": "done", "benchmark": "omniglot", "run": "r"}
    row |= {"way": 5, "shot": 1, "seed": 0, "settings": {}, "variant": {}, "episodes": 10}
    row |= {"backbone_family": "conv4", "transductive": False, "batch_norm": None}
    row |= {"tasks_seen": 1, "tasks_paper": 2, "failed_at": None, "failure": None, "remark": None}
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
    assert (first["mean"], first["ci95"], first["share"]) == (0.9512, 0.0012, 0.12)
    assert (first["published"], first["published_ci95"]) == (0.987, 0.004)
    assert first["published_source"].startswith("MAML (Finn et al. 2017")
    assert pd.isna(table["mean"][2]) and table["status"][2] == "failed"
    assert pd.isna(table["published"][1])
    assert table["variant"][3] == "a=false,b=null"
    assert list(pd.to_numeric(table["mean"]).dropna()) == [0.9512, 0.2, 0.5]
