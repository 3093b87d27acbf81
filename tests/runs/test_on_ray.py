"""Runs made by a Ray cluster: the table is the serial one, whatever dies meanwhile."""

import io
import json
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from zoo.commands import main
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.files import DamagedError
from zoo.registry import learners
from zoo.runs import on_ray
from zoo.runs.on_ray import check_versions, make_there, order_of, put_into_results
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.tuning import Search, TrialRun
from zoo.runs.tuning_on_ray import should_stop, train_there, trials_at_once
from zoo.runs.tuning_space import parse_space
from zoo.runs.workspace import Workspace

# Two runs of some seconds, so that a machine dies in the middle of one.
LEARNERS = "maml[updates=60] maml[updates=61] protonet pixelnn"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray, "FOLDER", tmp_path / "there")
    workspace = Workspace(None, tmp_path / "results", tmp_path / "runs", "cpu", 1)
    return Run(RunRequest("protonet", "glyphs", budget="smoke"), workspace)


def test_what_a_machine_makes_is_put_into_the_results(run):
    files = make_there(order_of(run, 1, []))
    assert not list(on_ray.FOLDER.glob("protonet*")) and not list(on_ray.FOLDER.glob("runs/*"))
    put_into_results(files, run)
    there = {path.name for path in run.workspace.results.iterdir()}
    assert there == {*files} and {path.rpartition(".")[2] for path in files} == {
        "json", "npz", "safetensors",
    }  # fmt: skip
    assert run.record()["status"] == "done"
    again = Run(run.request, replace(run.workspace, results=run.workspace.results / "here"))
    assert again.execute(progress=False)["metrics"] == run.record()["metrics"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda name, text: None, "no record has come"),
        (lambda name, text: text.replace(b'"seed": 0', b'"seed": 1'), "does not match"),
        (lambda name, text: b"{}", "is damaged: not a record of a run"),
    ],
)
def test_what_comes_is_checked(run, damage, says):
    files = make_there(order_of(run, 1, []))
    name = f"{run.name}.json"
    damaged = damage(name, files.pop(name))
    if damaged is not None:
        files[name] = damaged
    with pytest.raises(DamagedError, match=says):
        put_into_results(files, run)
    assert not run.record_path.exists()


def test_results_that_are_not_the_record_s_are_refused(run):
    files = make_there(order_of(run, 1, []))
    with np.load(io.BytesIO(files[f"{run.name}.npz"])) as arrays:
        changed = {name: arrays[name] for name in arrays.files}
    changed["accuracy"] = 1 - changed["accuracy"]
    target = run.workspace.results / "x.npz"
    target.parent.mkdir(parents=True)
    np.savez(target, **changed)
    files[f"{run.name}.npz"] = target.read_bytes()
    with pytest.raises(DamagedError, match="not what was recorded"):
        put_into_results(files, run)
    assert not run.record_path.exists()


def test_other_versions_are_refused(run):
    order = order_of(run, 1, [])
    check_versions(order)
    other = replace(order, made_with={**order.made_with, "torch": "1.0"})
    with pytest.raises(
        UsageError, match=r"that machine has other versions: torch .*, expected 1\.0"
    ):
        make_there(other)


def test_other_images_are_refused(run):
    with pytest.raises(
        UsageError, match=r"expected other-run: that machine has other images in None"
    ):
        make_there(replace(order_of(run, 1, []), name="other-run"))


def table(folder, *words):
    where = ["--results", str(folder / "results"), "--runs", str(folder / "runs")]
    words = ["--budget", "smoke", "--shots", "1", "--threads", "1", *where, *words]
    return main(["table", "glyphs", "--learners", LEARNERS, *words])


@pytest.mark.full
@pytest.mark.slow
def test_a_table_of_a_cluster_is_the_serial_one_though_a_machine_dies(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else anything that runs beside it starves it
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    assert table(tmp_path / "serial", "--jobs", "1") == 0
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        doomed = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        killed = []

        def kill_in_the_middle():
            while len(list((on_ray.FOLDER / "runs").glob("maml*/lock"))) < 2:
                time.sleep(0.2)
            time.sleep(1)
            cluster.remove_node(doomed, allow_graceful=False)
            killed.append(doomed)

        killer = threading.Thread(target=kill_in_the_middle, daemon=True)
        killer.start()
        capsys.readouterr()
        assert table(tmp_path / "ray", "--on", "ray") == 0
        killer.join(5)
        assert killed, "the runs ended before a machine was killed"
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert capsys.readouterr().out.count("found: accuracy") == 4
    names = sorted(path.name for path in (tmp_path / "serial" / "results").glob("*.npz"))
    assert names == sorted(path.name for path in (tmp_path / "ray" / "results").glob("*.npz"))
    for name in names:
        one, two = (np.load(tmp_path / where / "results" / name) for where in ("serial", "ray"))
        for key in one.files:
            np.testing.assert_array_equal(one[key], two[key], err_msg=f"{name} {key}")
    for path in (tmp_path / "ray" / "results").glob("maml*.json"):
        assert json.loads(path.read_text())["status"] == "done"


def search_of(folder, space, updates=20):
    workspace = Workspace(None, folder / "results", folder / "runs", "cpu", 1)
    workspace.results.mkdir(parents=True, exist_ok=True)
    request = RunRequest("protonet", "glyphs", budget="smoke", flags={"updates": updates})
    first = TrialRun(request, workspace, workspace.open(find_benchmark("glyphs")), None)
    return Search(folder / "results" / "s.db", parse_space(learners.get("protonet"), space), first)


class MailboxHere:
    """A mailbox whose answers are at hand, and which notes what was reported."""

    def __init__(self, stop_after):
        self.stop_after, self.reported = stop_after, []
        self.report = self

    def remote(self, number, update, value):
        self.reported.append((number, update, value))
        return update >= self.stop_after


@pytest.mark.parametrize(("stop_after", "whole"), [(10**6, True), (1, False)])
def test_a_trial_there_asks_after_each_validation(tmp_path, monkeypatch, stop_after, whole):
    monkeypatch.setattr(on_ray, "FOLDER", tmp_path / "there")
    mailbox = MailboxHere(stop_after)
    ray_here = SimpleNamespace(get=lambda answer: answer)
    monkeypatch.setitem(sys.modules, "ray", ray_here)
    search = search_of(tmp_path, "outer_lr=0.01,0.02")
    trial = search.next_trial(2)
    run = search.run_of(trial)
    end = train_there(order_of(run, 1, []), mailbox, trial.number)
    assert (end.value is not None) == whole and end.opened == 0 and end.why == ""
    assert {number for number, _, _ in mailbox.reported} == {trial.number}
    # The last validation is not reported: nothing is left that could be stopped.
    assert len(mailbox.reported) == (run["validations"] - 1 if whole else 1)
    assert not list(on_ray.FOLDER.glob("protonet*")) and not list(on_ray.FOLDER.glob("runs/*"))
    said = []
    if not whole:  # the search has noted what was reported before it answered
        assert should_stop(trial, *mailbox.reported[0][1:]) is False
        assert should_stop(trial, *mailbox.reported[0][1:]) is False  # reported again: no warning
    search.tell(trial, end, 2, said.append)
    assert len(search.finished) == 1
    assert ("stopped after update" in said[0]) != whole
    if whole:  # as in a search without a cluster
        here = search_of(tmp_path / "here", "outer_lr=0.01,0.02")
        here.work(1, said.append)
        assert here.finished[0].params == search.finished[0].params
        assert here.finished[0].value == end.value


def test_as_many_trials_at_once_as_the_cluster_can_train():
    assert trials_at_once({"CPU": 8.0}, threads=1, on_gpu=False) == 8
    assert trials_at_once({"CPU": 8.0}, threads=3, on_gpu=False) == 2
    assert trials_at_once({"CPU": 8.0, "GPU": 2.0}, threads=1, on_gpu=True) == 2
    assert trials_at_once({}, threads=4, on_gpu=False) == 1


@pytest.mark.full
@pytest.mark.slow
def test_a_search_of_a_cluster_is_finished_though_a_machine_dies(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RAY_worker_niceness", "0")
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    words = ["tune", "maml", "glyphs", "--budget", "smoke", "--updates", "60", "--validations", "5"]
    words += ["--space", "outer_lr=0.001,0.01,0.03 inner_lr=0.1,0.4", "--trials", "6"]
    words += ["--threads", "1", "--results", str(tmp_path / "results")]
    words += ["--runs", str(tmp_path / "runs"), "--on", "ray"]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        doomed = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)

        def kill_in_the_middle():
            while len(list((on_ray.FOLDER / "runs").glob("maml*/lock"))) < 2:
                time.sleep(0.1)
            cluster.remove_node(doomed, allow_graceful=False)

        killer = threading.Thread(target=kill_in_the_middle, daemon=True)
        killer.start()
        assert main(words) == 0
        killer.join(5)
        assert not killer.is_alive(), "the trials ended before a machine was killed"
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert "The test split was opened 0 times." in capsys.readouterr().out
    (numbers,) = (tmp_path / "results").glob("tune-*.csv")
    trials = pd.read_csv(numbers)
    assert (
        sorted(trials["trial"]) == [1, 2, 3, 4, 5, 6] and not (trials["status"] == "failed").any()
    )
    # A whole trial validates as the same settings do without a cluster.
    alone = tmp_path / "alone"
    one = trials[trials["status"] == "whole"].iloc[0]
    settings = ["--outer_lr", str(one["outer_lr"]), "--inner_lr", str(one["inner_lr"])]
    words = ["run", *words[1:9], *settings, "--threads", "1", "--results", str(alone)]
    assert main([*words, "--runs", str(tmp_path / "runs")]) == 0
    (record,) = alone.glob("maml*.json")
    validations = json.loads(record.read_text())["validation"]
    assert max(value for _, value in validations) == one["validation"]
