"""`zoo table BENCHMARK --from OTHER`: weights of one benchmark, tested on another."""

import json
import shutil

import pandas as pd
import pytest

from tests.conftest import blobs
from zoo.commands import main
from zoo.datasets.benchmarks.image_sets import Omniglot
from zoo.runs.run import Run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs on glyphs: the weights that tables test elsewhere."""
    folder = tmp_path_factory.mktemp("trained")
    where = ["--results", str(folder / "results"), "--runs", str(folder / "runs")]
    words = ["--budget", "smoke", "--learners", "protonet maml pixelnn", "--threads", "1"]
    assert main(["table", "glyphs", *words, *where]) == 0
    return folder / "results"


@pytest.fixture
def table(trained, tmp_path, capsys, monkeypatch):
    """Prints a table of Omniglot, whose images are blobs here; nothing may be trained."""
    monkeypatch.setattr(Omniglot, "forms", ())
    monkeypatch.setattr(Omniglot, "open", lambda self, data: {"test": blobs(40, seed=7)})
    shutil.copytree(trained, tmp_path / "results")
    monkeypatch.setattr(Run, "train", None)
    capsys.readouterr()

    def call(*more, benchmark="omniglot", other="glyphs", shots="1"):
        words = ["table", benchmark, "--from", other, "--budget", "smoke", "--shots", shots]
        where = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
        status = main([*words, *where, "--threads", "1", *more])
        return status, capsys.readouterr()

    return call


def test_the_rows_are_what_has_weights(table, tmp_path):
    status, said = table()
    results = tmp_path / "results"
    text = said.out[said.out.index("**Omniglot, with") :]
    assert "**Omniglot, with weights trained on Glyphs**: accuracy in %, smoke budget" in text
    assert "trained on glyphs" in text.partition("\n")[0] and "as printed" not in text
    head, _, *lines = [line for line in text.splitlines() if line.startswith("|")]
    assert "published" not in head and "5-way 1-shot" in head and "CPU hours" in head
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in lines}
    assert rows["*inductive: each query by itself*"] == ""
    found = {label: cell for label, cell in rows.items() if cell[:1].isdigit()}
    assert [label[:4] for label in found] == ["Prot", "MAML"]
    assert "has no weights, it learns nothing" in text and status == 1
    stem = results / "table-omniglot-5w-1s-paper-smoke-from-glyphs"
    frame = pd.read_csv(stem.with_suffix(".csv"))
    accuracies = frame[frame["metric"] == "accuracy"].set_index("learner")
    assert set(accuracies["benchmark"]) == {"omniglot"} and accuracies["published"].isna().all()
    for path in (results / "tested").glob("*-on-omniglot-5w1s-*.json"):
        record = json.loads(path.read_text())
        value = accuracies.loc[record["learner"], "value"]
        assert value == pytest.approx(record["metrics"]["accuracy"]["mean"], abs=1e-6)
        assert record["trained_on"]["benchmark"] == "glyphs"
    assert not list(results.glob("*-on-*.json")), "they lie apart from the trained runs"


def test_the_ordinary_table_does_not_see_them(table, tmp_path, capsys):
    table()
    where = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    words = ["table", "omniglot", "--budget", "smoke", "--learners", "protonet", "--shots", "1"]
    main([*words, *where, "--threads", "1", "--dry-run"])
    assert "–ᵃ" in capsys.readouterr().out


def test_missing_weights_are_named_with_the_command_that_makes_them(table, tmp_path):
    results = tmp_path / "results"
    (path,) = results.glob("protonet*.safetensors")
    path.unlink()
    status, said = table("--learners", "protonet maml", shots="1 5")
    where = f"--results {results}"
    command = "python -m zoo run {} glyphs --way 5 --shot {} --budget smoke"
    assert f"– maml 5-way 5-shot: no weights; {command.format('maml', 5)} {where}" in said.out
    moved = f"with {path.with_suffix('.json')} moved away: {command.format('protonet', 1)}"
    assert f"– protonet 5-way 1-shot: no weights beside its record; {moved}" in said.out
    assert status == 1 and "no weights beside its record\n" in said.out
    assert "– maml 5-way 1-shot" not in said.out, "it was tested"


def test_of_two_records_the_one_with_weights_is_taken(table, tmp_path):
    """As where a run was made again after its learner had changed."""
    (path,) = (tmp_path / "results").glob("protonet*.json")
    older = json.loads(path.read_text()) | {"run": "protonet-older", "version": 7}
    path.with_name("protonet-older.json").write_text(json.dumps(older))
    status, said = table("--learners", "protonet")
    assert status == 0 and "protonet-older" not in said.out and "(2)" not in said.out


def test_a_dry_run_writes_nothing(table, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    status, said = table("--learners", "protonet", "--dry-run")
    assert status == 0 and "to do protonet omniglot 5-way 1-shot" in said.out
    assert "– protonet 5-way 1-shot: not tested" in said.out
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_refused(table, tmp_path):
    for options, expected in (
        ({"other": "cifarfs"}, "its images are 3x32x32, those of omniglot 1x28x28"),
        ({"other": "sinusoid"}, "sinusoid is regression, and omniglot is classification"),
        ({"other": "glyph"}, "no benchmark 'glyph': did you mean 'glyphs'"),
        ({"benchmark": "glyphs", "other": "omniglot"}, "no run on it with budget smoke in"),
    ):
        status, said = table(**options)
        assert status == 2 and expected in said.err
        assert len(said.err.splitlines()) == 1
    status, said = table("--untrained")
    assert status == 2 and "--untrained: a table of weights from elsewhere" in said.err
