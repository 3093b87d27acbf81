"""Runs made by a Ray cluster: the table is the serial one, whatever dies meanwhile."""

import io
import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from zoo.commands import main
from zoo.errors import UsageError
from zoo.files import DamagedError
from zoo.runs import on_ray
from zoo.runs.on_ray import check_versions, make_there, order_of, put_into_results
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
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
