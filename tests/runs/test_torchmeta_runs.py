"""Runs on the episodes of torchmeta's loaders: resumed, recorded, and never mixed with ours."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import zoo
import zoo.runs.checkpoints
from tests.conftest import in_full
from tests.runs.test_run import KilledError, kill_at
from tests.support import torchmeta_like
from zoo.commands import main
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.benchmarks.torchmeta_loaders import MADE
from zoo.errors import UsageError
from zoo.registry import learners
from zoo.reports.tables.comparison import comparison_table
from zoo.runs.named_weights import find_weights
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.tested_weights import WeightsTest
from zoo.runs.workspace import Workspace

FUNCTION = "tests.support.torchmeta_like:loaders"
NAME = f"torchmeta[loaders={FUNCTION}]"
NOT_IN_EPISODES = ("pixelnn", "pretrained", "finetune")  # they learn before them, or nothing
FEW = {"updates": 4, "validations": 2, "val_episodes": 4, "test_episodes": 8}


@pytest.fixture
def fresh(monkeypatch):
    """Loaders of which nothing has been loaded yet, as in a new process."""
    monkeypatch.setattr("zoo.datasets.benchmarks.torchmeta_loaders.MADE", {})
    return MADE


def run_of(folder, learner="maml", benchmark=NAME, **flags) -> Run:
    workspace = Workspace(results=folder / "results", runs=folder / "runs", threads=1)
    if learner == "maml":
        flags = {"backbone": "conv4_strided[channels=8]", **flags}
    few = {**FEW, "updates": 0} if learner in NOT_IN_EPISODES else FEW
    return Run(RunRequest(learner, benchmark, budget="smoke", flags={**few, **flags}), workspace)


def test_a_killed_run_ends_as_an_undisturbed_one(fresh, tmp_path, monkeypatch):
    undisturbed = run_of(tmp_path / "whole").execute(progress=False)
    monkeypatch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", -1.0)  # at every update
    monkeypatch.setattr("zoo.datasets.benchmarks.torchmeta_loaders.MADE", {})
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "on_train_batch_end", 3)
        run_of(tmp_path).execute(progress=False)
    monkeypatch.setattr("zoo.datasets.benchmarks.torchmeta_loaders.MADE", {})
    run = run_of(tmp_path)
    record = run.execute(progress=False)
    assert record["updates"]["executed_by_this_process"] == 1
    assert record["run"] == undisturbed["run"]
    for key in ("metrics", "validation"):
        assert record[key] == undisturbed[key], key
    assert record["weights"]["hash"] == undisturbed["weights"]["hash"]
    assert record["arrays"] == undisturbed["arrays"]


def test_the_loaders_decide_the_shape_and_the_record_names_them(tmp_path):
    record = run_of(tmp_path, "protonet").execute(progress=False)
    assert record["benchmark"] == NAME and record["way"] == 5 and record["shot"] == 1
    for name, value in (("train_way", 5), ("query", 3), ("meta_batch", 4)):
        setting = record["settings"][name]
        assert setting["value"] == value and setting["origin"] == "data"
        assert setting["source"] == f"the loaders of {NAME}"
    files = record["environment"]["plugins"]
    assert [file["file"] for file in files] == ["torchmeta_like.py"]
    assert all(text.startswith("torchmeta ") for text in record["data"]["splits"].values())


def test_another_seed_trains_on_other_episodes_and_is_tested_on_the_same(tmp_path):
    plans = [Run(replace(run_of(tmp_path).request, seed=seed)) for seed in (0, 1)]
    batches = [next(iter(plan.data.train_dataloader())).support.x for plan in plans]
    assert not torch.equal(*batches)
    assert plans[0].data.test_fingerprint() == plans[1].data.test_fingerprint()
    tests = [next(iter(plan.data.test_dataloader())).support.x for plan in plans]
    assert torch.equal(*tests)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--way", "7"], "--way 7: the loaders of torchmeta[loaders="),
        (["--shot", "5"], "--shot 5: the loaders of"),
        (["--meta_batch", "2"], "--meta_batch 2: the loaders of"),
        (["--train_way", "20"], "have 5; leave it out, or change the loaders"),
        (["--augment", "flip"], "augments in its loaders' transforms"),
        (["--sampler", "adaptive"], "is drawn by its loaders"),
    ],
)
def test_what_the_loaders_decide_cannot_be_asked_for(words, text, tmp_path, capsys):
    where = ["--results", str(tmp_path), "--runs", str(tmp_path)]
    command = ["run", "protonet", "--torchmeta", FUNCTION, "--budget", "smoke", *where, *words]
    assert main(command) == 2
    printed = capsys.readouterr().err
    assert text in printed and printed.count("\n") == 1


def test_a_benchmark_or_loaders(capsys):
    assert main(["run", "protonet", "glyphs", "--torchmeta", FUNCTION]) == 2
    assert "takes the place of glyphs; leave one out" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"expected torchmeta\[loaders=module:function\]"):
        find_benchmark("torchmeta")


def test_from_the_command_line(tmp_path, capsys):
    where = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    few = [word for name, value in FEW.items() for word in (f"--{name}", str(value))]
    command = ["run", "protonet", "--torchmeta", FUNCTION, "--threads", "1", *few, *where]
    assert main(command) == 0
    (path,) = (tmp_path / "results").glob("protonet*.json")
    assert json.loads(path.read_text())["benchmark"] == NAME


def test_its_numbers_are_never_beside_ours(stores, tmp_path):
    """Not in a table of a benchmark of ours, and no difference is taken."""
    theirs = run_of(tmp_path, "protonet").execute(progress=False)
    workspace = Workspace(results=tmp_path / "results", runs=tmp_path / "runs", threads=1)
    request = RunRequest("protonet", "glyphs", budget="smoke", flags={**FEW, "query": 3})
    ours = Run(request, workspace, stores=stores).execute(progress=False)
    with pytest.raises(UsageError, match="episodes_fingerprint of"):
        zoo.difference(theirs["run"], ours["run"], results=tmp_path / "results")
    measured = zoo.records(tmp_path / "results")
    assert len(measured) == 2
    for benchmark, title in (("glyphs", "glyphs"), (NAME, "torchmeta")):
        table = comparison_table(measured, zoo.published(), benchmark)
        assert len(table.rows) == 1 and table.title == title


def test_weights_are_tested_on_loaders_like_those_they_were_trained_on(tmp_path, stores):
    trained = run_of(tmp_path, "protonet").execute(progress=False)
    workspace = Workspace(results=tmp_path / "results", runs=tmp_path / "runs", threads=1)
    weights = find_weights(trained["run"], tmp_path / "results")
    record = WeightsTest(weights, NAME, workspace).execute(progress=False)
    assert record["metrics"] == trained["metrics"]
    request = RunRequest("protonet", "glyphs", budget="smoke", flags=FEW)
    ours = Run(request, workspace, stores=stores).execute(progress=False)
    with pytest.raises(UsageError, match="its loaders decide how images are normalised"):
        WeightsTest(find_weights(ours["run"], tmp_path / "results"), NAME, workspace)


def test_in_python(tmp_path):
    learner, data = zoo.experiment(
        "protonet", torchmeta_like.loaders(shot=2), budget="smoke", runs=tmp_path, **FEW
    )
    batch = next(iter(data.train_dataloader()))
    assert batch.support.x.shape == (4, 10, 1, 28, 28)
    assert torch.isfinite(learner.meta_loss(batch))


def test_regression_too(tmp_path):
    name = "torchmeta[loaders=tests.support.torchmeta_like:lines]"
    record = run_of(tmp_path, "maml", name, backbone="mlp").execute(progress=False)
    assert record["benchmark"].startswith("torchmeta_functions[") and record["way"] is None
    assert np.isfinite(record["metrics"]["mse"]["mean"])


@pytest.mark.parametrize("learner", in_full(["protonet", "cnp"], "protonet"))
def test_rows_of_a_table_too(learner, tmp_path):
    """Inputs that are no images take the MLP."""
    name = "torchmeta[loaders=tests.support.torchmeta_like:rows]"
    flags = {"aggregate": "class"} if learner == "cnp" else {}  # of an MLP it takes another
    record = run_of(tmp_path, learner, name, **flags).execute(progress=False)
    assert record["settings"]["backbone"]["value"] == "mlp"
    assert record["metrics"]["accuracy"]["mean"] > 0.3


@pytest.mark.parametrize("learner", in_full(learners.names(), "finetune"))
def test_it_feeds_every_learner(learner, tmp_path):
    run = run_of(tmp_path, learner)
    record = run.execute(progress=False)
    assert record["status"] == "done" and record["benchmark"] == NAME
    assert 0 <= record["metrics"]["accuracy"]["mean"] <= 1
