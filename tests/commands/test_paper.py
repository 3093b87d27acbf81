"""Papers' tables: what is declared, which record stands beside which number, and the command."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.support.table_cells import cells_under, texts_under
from zoo.commands import main
from zoo.commands.definition_files import REPORTS
from zoo.commands.paper_file import column_head, load_paper
from zoo.errors import UsageError
from zoo.registry import learner_of, learners
from zoo.reports import published, records
from zoo.reports.estimates import estimate, estimate_in
from zoo.reports.formats.markdown import to_markdown
from zoo.reports.tables.paper import (
    fitting_runs,
    paper_csv_frame,
    paper_numbers,
    paper_table,
    selectors,
)
from zoo.runs.settings import constructor_defaults, parse_values

TABLES = {
    path.stem: yaml.safe_load(path.read_text("utf-8"))
    for path in (REPORTS / "papers").glob("*.yaml")
}
ASKED_FOR = (
    "npbml-1 npbml-2 npbml-3 npbml-4 maml protonet matchingnet reptile snail metanet mann cnp "
    "trlearner"
).split()
with (Path(published.__file__).parent / "published.csv").open(encoding="utf-8") as file:
    LINES = list(csv.DictReader(file))


# --- what is declared


def test_there_is_every_table():
    assert set(ASKED_FOR) <= TABLES.keys()


def as_list(value):
    return [str(each) for each in (value if isinstance(value, list) else [value])]


def lines_of(content, row, column):
    """The lines of published.csv that a cell names, read anew; None where it names none."""
    own = row.get("published")
    if not own or column.get("published") is False:
        return None
    shot = column.get("shot")
    if "@instance" in column.get("metric", ""):
        shot = int(column["metric"].split("@instance")[1]) - 1
    wanted = {"way": column.get("way"), "shot": shot, "metric": column.get("metric")}
    wanted["benchmark_key"] = column.get("benchmark", "").split("[")[0] or None
    wanted = {name: as_list(value) for name, value in wanted.items() if value is not None}
    wanted |= {name: as_list(value) for name, value in column.get("published", {}).items()}
    for name, value in own.items():
        if name in wanted and wanted[name][0] not in as_list(value):
            return None
        wanted.setdefault(name, as_list(value))
    wanted.setdefault("source", content["source"])
    return [line for line in LINES if all(line[name].strip() in wanted[name] for name in wanted)]


@pytest.mark.parametrize("name", TABLES)
def test_every_published_cell_is_its_line_of_published_csv(name):
    content, declared = TABLES[name], load_paper(name)
    nothing = [[] for _ in range(len(declared.cells))]
    found = paper_numbers(declared.cells, nothing, {}, published.published())
    table = paper_table(found, declared.title, declared.caption, declared.notes)
    shown = 0
    labels = texts_under(table, "learner")
    assert sorted(labels) == sorted(row["label"] for row in content["rows"])
    for row in content["rows"]:
        number = labels.index(row["label"])
        for column in content["columns"]:
            lines = lines_of(content, row, column)
            head = column_head(column)
            cell = cells_under(table, head)[number]
            if lines is None:
                assert cell.empty
                continue
            (line,) = lines
            text = line["value"] + (f" ± {line['ci95']}" if line["ci95"] else "")
            assert cell.text == text
            shown += 1
    assert shown == sum(bool(text) for text in found["printed"]) > 0
    written = paper_csv_frame(found)
    assert len(written) == shown and set(written["what"]) == {"published"}
    accuracies = written[written["metric"].str.match(r"accuracy($|@)")]["value"]
    assert accuracies.between(0, 1).all()


@pytest.mark.parametrize("name", TABLES)
def test_every_row_is_a_learner_or_published_only(name):
    for row in TABLES[name]["rows"]:
        if "learner" not in row:
            assert row["published"]
            continue
        key, cls, overrides = learner_of(row["learner"])
        assert key in learners.names()
        assert (
            parse_values(cls, overrides, row["learner"]).keys() <= constructor_defaults(cls).keys()
        )


def test_every_line_of_these_tables_is_in_one():
    """`LEFT_OUT` would name by learner, benchmark and source what no table shows."""
    frame = published.published()
    sources, shown = set(), set()
    for name, content in TABLES.items():
        shown |= set(load_paper(name).cells["published"].dropna())
        sources |= set(content["source"])
    left = [
        (line["learner"], line["benchmark"], line["source"])
        for at, line in enumerate(frame.to_dict("records"))
        if line["source"] in sources and at not in shown
    ]
    assert len(shown) > 300 and left == LEFT_OUT


LEFT_OUT: list[tuple[str, str, str]] = []


def test_a_row_may_say_where_it_is_printed():
    column = {"source": ["s"], "benchmark_key": "omniglot", "way": 5, "shot": 1}
    assert selectors(column, {"learner": "MAML"}) == {**column, "learner": "MAML"}
    assert selectors(column, {"way": [5, 20]}) == column
    assert selectors(column, {"way": 20}) is None
    assert selectors(column, {"source": "t"})["source"] == "t"


GOOD = {
    "title": "T",
    "source": ["Reptile (Nichol et al. 2018, arXiv 1803.02999) Tables 1-2"],
    "caption": "Accuracy in %.",
    "columns": [
        {"benchmark": "omniglot", "way": 5, "shot": 1},
        {"benchmark": "omniglot", "way": 5, "shot": 5},
    ],
    "rows": [
        {
            "label": "MAML",
            "learner": "maml[first_order=true]",
            "published": {"learner": "MAML"},
        },
        {
            "label": "Reptile",
            "learner": "reptile",
            "published": {"settings": "transductive=true"},
        },
    ],
}


@pytest.fixture
def own(tmp_path):
    """Writes a table of one's own."""

    def build(**changes):
        path = tmp_path / "mine.yaml"
        path.write_text(json.dumps(GOOD | changes), encoding="utf-8")
        return str(path)

    return build


ROW, COLUMN = GOOD["rows"][0], GOOD["columns"][0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"title": 3}, "title: expected str, not 3"),
        ({"source": "one"}, "source: expected list, not 'one'"),
        ({"more": 3}, "expected title, source, caption, columns, rows"),
        ({"rows": []}, r"rows: expected list, not \[\]"),
        ({"rows": [3]}, "rows: 3: expected label"),
        ({"rows": [{"label": "M", "note": "n"}]}, "rows: M: expected learner, published or both"),
        ({"rows": [{**ROW, "learner": "mamml"}]}, "did you mean 'maml'"),
        ({"rows": [{**ROW, "learner": "maml[x=1]"}]}, "no setting 'x'"),
        ({"rows": [{**ROW, "published": 98.7}]}, "published: expected column: value"),
        ({"rows": [{**ROW, "published": {"lerner": "M"}}]}, "no column 'lerner' in published.csv"),
        ({"rows": [ROW, ROW]}, "rows: 'MAML' is given twice"),
        ({"columns": [COLUMN, COLUMN]}, "columns: 'Omniglot 5-way 1-shot' is given twice"),
        ({"columns": [{**COLUMN, "benchmark": "omniglt"}]}, "did you mean 'omniglot'"),
        ({"columns": [{"benchmark": "omniglot"}]}, "expected a shot"),
        ({"columns": [{"head": "x"}]}, "without benchmark, expected head and published"),
        ({"columns": [{**COLUMN, "head": "a, b"}]}, "'a, b': a head has no comma"),
        (
            {"rows": [{**ROW, "published": {"learner": "MAMML"}}]},
            "row 'MAML', column 'Omniglot 5-way 1-shot': expected one row of published.csv, "
            "found none",
        ),
        (
            {"rows": [{**ROW, "published": {"learner": ["MAML", "Reptile"]}}]},
            "row 'MAML', column 'Omniglot 5-way 1-shot': .* found 3",
        ),
        ({"rows": [{**ROW, "published": {"way": 7}}]}, "selectors leave it no column"),
    ],
)
def test_a_file_that_is_not_as_it_should_be(change, says, own):
    assert len(load_paper(own()).cells) == 4
    with pytest.raises(UsageError, match=says) as caught:
        load_paper(own(**change))
    assert "mine.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_table(capsys):
    assert main(["paper", "nothing"]) == 2
    assert "no table 'nothing': there are anil, cnp" in capsys.readouterr().err


# --- which records


def settings_of(variant, shot, budget, **changes):
    """Settings as they are resolved: what a record has that fits."""
    declared = load_one(variant, shot)
    return {**declared["settings"][budget], "updates": 100, "validations": 5} | changes


def load_one(variant, shot):
    from zoo.commands.paper_file import our_cell

    return our_cell(variant, {"benchmark": "omniglot", "way": 5, "shot": shot})


def record(name, variant, shot, values=None, *, budget="quick", seed=0, overrides=None, **changes):
    """A record of a run of that variant; without values, of one that failed."""
    learner, _, named = learner_of(variant)
    settings = settings_of(variant, shot, budget, **changes)
    found = {
        "schema": 1, "run": name, "status": "failed" if values is None else "done",
        "learner": learner, "title": learner, "variant": named | (overrides or {}),
        "benchmark": "omniglot", "way": 5, "shot": shot, "terms": "paper", "budget": budget,
        "seed": seed, "settings": {key: {"value": value} for key, value in settings.items()},
        "backbone_family": "conv4", "training_tasks": {"seen": 5000, "paper": 10000},
        "traits": {"transductive": learner == "maml", "batch_norm": "batch"},
        "episodes": {"split": "test", "count": 4, "fingerprint": f"{shot}-shot"},
        "data": {"fingerprint": "dada"},
        "metrics": {"accuracy": {"mean": float(np.mean(values or 0)), "ci95": 0.01}},
        "failure": {"update": 7, "reason": "the loss is nan"},
    }  # fmt: skip
    return found | {"checksum": records.checksum(found)}


@pytest.fixture
def measure(own, tmp_path):
    """The numbers and the table of the small file beside these records."""

    def build(*runs, values=None, **changes):
        folder = tmp_path / "records"
        folder.mkdir(exist_ok=True)
        for each in runs:
            (folder / f"{each['run']}.json").write_text(json.dumps(each), encoding="utf-8")
        measured, problems = records.load(folder)
        assert not problems or not runs
        declared = load_paper(own(**changes))
        fits = fitting_runs(declared.cells, measured)
        frames = {name: pd.DataFrame({"accuracy": each}) for name, each in (values or {}).items()}
        found = paper_numbers(declared.cells, fits, frames, published.published())
        return found, paper_table(found, declared.title, declared.caption, declared.notes)

    return build


FIRST = "maml[first_order=true]"
ONE, TWO = [0.2, 0.4, 0.6, 0.8], [0.4, 0.4, 0.8, 0.8]


def test_the_small_table(measure):
    """A run of two seeds, one that failed, and a cell that was not run."""
    runs = [
        record("a0", FIRST, 1, ONE),
        record("a1", FIRST, 1, TWO, seed=1),
        record("b", FIRST, 5),
        record("c", "reptile", 1, [0.98] * 4, overrides={"updates": 5000}, updates=5000),
    ]
    found, table = measure(*runs, values={"a0": ONE, "a1": TWO})
    assert to_markdown(table) == GOLDEN
    numbers = paper_csv_frame(found)
    cell = numbers[numbers["what"] == "ours"].iloc[0]
    assert estimate_in(cell, "value") == estimate(np.array([ONE, TWO]), "accuracy")
    assert cell["seeds"] == "0 1" and cell["runs"] == "a0 a1"
    theirs = numbers[numbers["what"] == "published"].iloc[0]
    assert estimate_in(theirs, "value") == pytest.approx((0.983, 0.978, 0.988))


GOLDEN = """\
**T**: Accuracy in %. Published: Reptile (Nichol et al. 2018, arXiv 1803.02999) Tables 1-2. Ours on omniglot: quick budget, paper terms, 5 queries a class, 4 test episodes, conv4 backbone, batch norm by the statistics of the batch at hand. Intervals are of 95 %: with several seeds for a new seed and new test episodes; with one seed over test episodes, a claim about these trained weights. Published numbers are as printed. Nothing is bold: that takes three seeds of all rows of a block, so no method is ranked.

| learner                                  | Omniglot 5-way 1-shot   | ours                     | Omniglot 5-way 5-shot   | ours    | share of the paper's tasks   |
|------------------------------------------|-------------------------|--------------------------|-------------------------|---------|------------------------------|
| *inductive: each query by itself*        |                         |                          |                         |         |                              |
| Reptileᵃᵇ                                | 97.68 ± 0.04ᶜᵈ          | 98.00 ± 1.00ᵉ            | 99.48 ± 0.06            | –       | 50 %                         |
| *transductive: sees all queries at once* |                         |                          |                         |         |                              |
| MAMLᶜᶠᵍ                                  | 98.3 ± 0.5              | 55.00 (0.00 to 100.00)ʰⁱ | 99.2 ± 0.2              | failedʲ | 50 %                         |

- ᵃ transductive: a query's prediction may depend on the other queries
- ᵇ published: interval over 3 seeds
- ᶜ published: split 1200/423, the same test classes
- ᵈ published: 1 query a class
- ᵉ trained for 5,000 updates, not the 3,500 of its budget
- ᶠ published: re-run by a later paper
- ᵍ published: run by Reptile's authors with MAML's code
- ʰ trained for 100 updates, not the 6,000 of its budget
- ⁱ seeds 0, 1
- ʲ failed at update 7: the loss is nan
"""  # noqa: E501


@pytest.mark.parametrize(("traits", "bold"), [(True, {"Reptile"}), (False, {"MAML", "Reptile"})])
def test_of_three_seeds_the_best_of_a_block_is_bold(measure, traits, bold):
    """Ours alone are compared; in a block of its own a single row is none of several."""
    rng, values, runs = np.random.default_rng(0), {}, []
    third = "maml"
    for name, variant, level in (("a", FIRST, 0.3), ("b", "reptile", 0.6), ("c", third, 0.1)):
        for seed in range(3):
            values[f"{name}{seed}"] = own = list(level + rng.random(20) / 10)
            run = record(f"{name}{seed}", variant, 1, own, seed=seed)
            run["traits"]["transductive"] = traits or name != "b"
            run["checksum"] = records.checksum(run)
            runs.append(run)
    rows = [*GOOD["rows"], {"label": "MAML 2", "learner": third}]
    if not traits:
        rows.append({"label": "ProtoNet", "learner": "protonet"})
        for seed in range(3):
            values[f"d{seed}"] = own = list(rng.random(20) / 10)
            runs.append(record(f"d{seed}", "protonet", 1, own, seed=seed))
    found, table = measure(*runs, values=values, rows=rows)
    assert set(found["row"][found["bold"]]) == bold
    assert "In bold, of each block" in table.caption


def cell_of(found, label="MAML", column="Omniglot 5-way 1-shot"):
    return found[(found["row"] == label) & (found["column"] == column)].iloc[0]


@pytest.mark.parametrize(
    "other",
    [
        {"first_order": False},
        {"inner_lr": 0.5},
        {"extra": 1},
    ],
)
def test_a_run_of_other_settings_is_not_ours(measure, other):
    found, _ = measure(record("a", FIRST, 1, ONE, **other))
    assert found["ours"].isna().all()


@pytest.mark.parametrize(
    "other",
    [
        {"terms": "equal"},
        {"benchmark": "omniglot[split=1200/423]"},
        {"way": 20},
        {"budget": "none"},
    ],
)
def test_a_run_of_another_protocol_is_not_ours(measure, other):
    found, _ = measure(record("a", FIRST, 1, ONE) | other)
    assert found["ours"].isna().all()


def test_an_untrained_run_is_not_ours(measure):
    found, _ = measure(record("a", FIRST, 1, ONE, overrides={"updates": 0}, updates=0))
    assert found["ours"].isna().all()


def test_the_best_trained_is_shown(measure):
    runs = [
        record("a", FIRST, 1, ONE, budget="smoke"),
        record("b", FIRST, 1, [0.5] * 4),
        record("c", FIRST, 1, [0.6] * 4, overrides={"updates": 300}, updates=300),
    ]
    found, table = measure(*runs)
    assert cell_of(found)["ours"] == pytest.approx(0.6)
    assert "trained for 300 updates, not the " in to_markdown(table)
    found, table = measure(record("d", FIRST, 1, [0.7] * 4, budget="paper"), *runs)
    assert cell_of(found)["ours"] == pytest.approx(0.7)
    assert "paper budget" in table.caption


def test_a_better_one_that_failed_is_said(measure):
    runs = [record("a", FIRST, 1, ONE), record("b", FIRST, 1, budget="paper")]
    found, table = measure(*runs)
    assert cell_of(found)["ours"] == pytest.approx(0.5)
    assert "paper budget, failed at update 7: the loss is nan" in to_markdown(table)


def test_a_seed_that_is_there_twice_counts_once(measure):
    runs = [record("a", FIRST, 1, ONE), record("a-on-another-device", FIRST, 1, TWO)]
    found, _ = measure(*runs)
    assert [run["run"] for run in cell_of(found)["runs"]] == ["a"]


def test_seeds_whose_episodes_are_missing_have_no_interval(measure):
    runs = [record("a0", FIRST, 1, ONE), record("a1", FIRST, 1, TWO, seed=1)]
    found, table = measure(*runs)
    ours = estimate_in(cell_of(found), "ours")
    assert ours.value == pytest.approx(0.55) and np.isnan(ours[1:]).all()
    assert "no interval: per-episode results are missing" in to_markdown(table)


# --- the command


def test_without_records_the_published_numbers_are_there(tmp_path, capsys):
    where = ["--results", str(tmp_path / "results"), "--data", str(tmp_path)]
    assert main(["paper", "npbml-3", *where]) == 0
    out = capsys.readouterr().out
    assert "| 65.38 ± 0.67" in out and "Nothing of ours was run yet" in out
    assert (
        "5 cells: no images of mini-ImageNet below" in out and "5 cells: no images of CIFAR" in out
    )
    assert main(["paper", "maml-sinusoid", *where]) == 0
    out = capsys.readouterr().out
    assert "3 cells: published only" in out
    assert "zoo run 'maml[test_steps=1]' sinusoid --shot 5 --budget quick" in out
    forms = ("csv", "html", "md", "parquet", "tex")
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        f"paper-{name}.{form}" for name in ("maml-sinusoid", "npbml-3") for form in forms
    ]


def test_what_is_missing_is_run(own, tmp_path, capsys):
    """Each run once; what cannot be run is said, and the rest is made."""
    column = {"benchmark": "glyphs", "way": 5, "shot": 1, "published": False}
    path = own(
        columns=[column, COLUMN, {"benchmark": "sinusoid", "shot": 5, "published": False}],
        rows=[ROW, {"label": "ProtoNet", "learner": "protonet"}],
    )
    where = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    where += ["--data", str(tmp_path / "empty"), "--budget", "smoke"]
    assert main(["paper", path, "--run", "--dry-run", *where]) == 1
    said = capsys.readouterr()
    assert "3 runs: 0 done, 3 left" in said.out and not (tmp_path / "results").exists()
    assert "cannot be run: protonet on sinusoid: protonet does no regression" in said.err
    assert "cannot be run: protonet on omniglot: Omniglot was not found" in said.err
    assert main(["paper", path, "--run", *where]) == 1
    out = capsys.readouterr().out
    assert "| MAML" in out and "smoke budget" in out and "Sinusoid 5-shot ours" in out
    found, problems = records.load(tmp_path / "results")
    assert not problems and sorted(found["learner"]) == ["maml", "maml", "protonet"]
    assert main(["paper", path, "--run", *where]) == 1
    assert "Nothing is missing that can be run" in capsys.readouterr().out
