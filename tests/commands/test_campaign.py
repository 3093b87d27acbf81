"""The campaign: what its file may say, in which order runs are made, how it is taken up again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

import zoo.commands.campaign
import zoo.runs.checkpoints
from tests.runs.test_run import SMALL, KilledError, kill_at, plan
from zoo.commands import main
from zoo.commands.campaign import UNDER_WAY, campaign_stage, longer_runs, runs_of_stage
from zoo.commands.definition_files import REPORTS
from zoo.commands.run_set import RunSet
from zoo.errors import UsageError
from zoo.files import alone_in, is_locked, locked
from zoo.reports.records import checksum
from zoo.runs.long_runs import next_run, remove_if_finished, work_through
from zoo.runs.make_runs import HowToRun
from zoo.runs.workspace import Workspace

SHORT = {**SMALL, "updates": 4, "validations": 1, "val_episodes": 8, "test_episodes": 16}
LIST = {
    "title": "Two rows and one that cannot be",
    "stages": {
        "A": {"title": "glyphs", "benchmark": "glyphs", "shots": [1],
              "learners": ["protonet", "pixelnn[updates=3]", "pixelnn"]},
    },
}  # fmt: skip


def stage(content, budget=None):
    return campaign_stage(Path("list.yaml"), "A", content, budget)


def test_every_committed_campaign_is_a_list_of_runs_that_there_are():
    from zoo.runs.resolved import resolve_request

    paths = sorted((REPORTS / "campaigns").glob("*.yaml"))
    assert paths
    for path in paths:
        for name, content in yaml.safe_load(path.read_text())["stages"].items():
            requests = campaign_stage(path, name, content, None).requests
            assert requests
            for request in requests:
                resolve_request(request)


def test_a_stage_is_every_learner_at_every_shot_and_seed():
    content = {"title": "x", "benchmark": "omniglot", "shots": [5, 1], "seeds": [0, 1],
               "learners": ["maml", "reptile"]}  # fmt: skip
    requests = stage(content).requests
    assert [(r.shot, r.seed, r.learner) for r in requests] == [
        (shot, seed, learner)
        for shot in (5, 1) for seed in (0, 1) for learner in ("maml", "reptile")
    ]  # fmt: skip
    assert {(r.budget, r.terms, r.way) for r in requests} == {("hour", "paper", None)}
    assert {r.budget for r in stage(content, "smoke").requests} == {"smoke"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shots": 1}, "list.yaml: stage A: shots: expected a list, such as shots: [1], not 1"),
        ({"longer": [1]}, "list.yaml: stage A: longer: expected whole numbers above 1, not [1]"),
        ({"learner": ["maml"]}, "list.yaml: stage A: no key 'learner': did you mean 'learners'"),
        ({"learners": None}, "learners: expected a list, such as learners: [1], not None"),
        ({"budget": "day"}, "budget day: choose from none, smoke, quick, hour, paper"),
        ({"terms": "mine"}, "terms mine: choose from paper, equal"),
    ],
)
def test_a_wrong_stage_is_named(change, words):
    content = {"title": "x", "benchmark": "omniglot", "shots": [1], "learners": ["maml"]}
    with pytest.raises(UsageError, match=re.escape(words)):
        stage({**content, **change})


def test_the_first_run_that_nobody_works_on_is_next(stores, tmp_path):
    runs = [plan(tmp_path, stores, flags=SHORT, seed=seed) for seed in range(3)]
    assert next_run(runs, set()) is runs[0]
    assert next_run(runs, {runs[0].name}) is runs[1]
    folder = tmp_path / "runs" / runs[0].name
    folder.mkdir(parents=True)
    with alone_in(folder):
        assert next_run(runs, set()) is runs[1]
    runs[0].record_path.parent.mkdir()
    runs[0].record_path.write_text("{}")
    assert next_run(runs, set()) is runs[1]
    assert next_run(runs, {run.name for run in runs}) is None


def test_a_run_whose_pretraining_another_process_makes_comes_last(stores, tmp_path):
    flags = {"updates": 0, "pretrain_updates": 2, "test_episodes": 8}
    waiting = plan(tmp_path, stores, "pretrained", flags=flags, budget="smoke")
    free = plan(tmp_path, stores, flags=SHORT)
    (staging,) = waiting.stages
    staging.folder.mkdir(parents=True)
    with locked(staging.folder / "lock", lambda holder: None):
        assert next_run([waiting, free], set()) is free
        assert next_run([waiting, free], {free.name}) is waiting
    assert next_run([waiting, free], set()) is waiting


def test_a_lock_is_seen_and_not_taken(tmp_path):
    path = tmp_path / "lock"
    assert not is_locked(path)
    with locked(path, lambda holder: None):
        assert is_locked(path)
    assert not is_locked(path)


def test_what_is_finished_leaves_nothing_under_way(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", -1.0)
    runs = [plan(tmp_path, stores, flags=SHORT, seed=seed) for seed in range(2)]
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "on_train_batch_end", 3)
        runs[0].execute(progress=False)
    again = [plan(tmp_path, stores, flags=SHORT, seed=seed) for seed in range(2)]
    made = []

    def make(run):
        made.append(run.name)
        done = run.execute(progress=False)["status"] == "done"
        remove_if_finished(run)
        return done

    assert work_through(again, make) == 0
    assert made == [run.name for run in runs]
    assert again[0].record()["updates"]["executed_by_this_process"] == 1  # three were made before
    assert not list((tmp_path / "runs").glob("*")) and len(list_of_records(tmp_path)) == 2
    assert work_through(again, make) == 0 and len(made) == 2


def list_of_records(folder: Path) -> list[Path]:
    return sorted((folder / "results").glob("*.json"))


def test_what_a_kill_left_of_a_finished_run_is_removed(stores, tmp_path):
    run = plan(tmp_path, stores, flags=SHORT)
    run.execute(progress=False)
    assert run.folder.exists()
    remove_if_finished(run)
    assert not run.folder.exists()


def test_those_who_only_ask_do_not_keep_a_lock_from_others(tmp_path):
    """Asking takes the lock for an instant."""
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            is_locked(tmp_path / "lock")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(50):
            with alone_in(tmp_path):
                pass
    finally:
        stop.set()
        asking.join()


def test_one_that_breaks_does_not_stop_the_others(stores, tmp_path):
    runs = [plan(tmp_path, stores, flags=SHORT, seed=seed) for seed in range(2)]
    tried = []

    def make(run):
        tried.append(run.seed)
        if run.seed == 0:
            return False
        return run.execute(progress=False)["status"] == "done"

    assert work_through(runs, make) == 1 and tried == [0, 1]


def test_from_a_file_to_a_status(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(zoo.commands.campaign, "lower_priority", lambda nice: None)
    path = tmp_path / "list.yaml"
    path.write_text(yaml.safe_dump(LIST))
    words = ["campaign", str(path), "--budget", "smoke", "--results", str(tmp_path / "results")]
    assert main([*words, "--status", "--jobs", "2"]) == 0
    out = capsys.readouterr().out
    assert "A  glyphs: 0 of 3 done, 1 cannot be run, about" in out and "h with 2 jobs" in out
    assert main([*words, "--worker"]) == 0
    assert main([*words, "--status"]) == 0
    done = capsys.readouterr().out
    assert "A  glyphs: 2 of 3 done, 1 cannot be run, nothing left" in done
    assert "cannot be run" in done and done.count("done, ") == 3
    assert not list((tmp_path / "results" / UNDER_WAY).glob("*/last.ckpt"))


@pytest.mark.parametrize(
    ("accuracies", "longer"),
    [
        ([0.5, 0.6, 0.7, 0.8, 0.9, 0.92, 0.94, 0.96], ["protonet[updates=4,validations=8]"]),
        ([0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9], []),
        ([0.8, 0.9], []),  # too few to tell
    ],
)
def test_what_still_rises_is_made_longer(accuracies, longer, stores, tmp_path):
    """By validation alone; the factors are of the first run's updates."""
    content = {
        **LIST["stages"]["A"], "learners": ["protonet[updates=2,validations=8]"],
        "budget": "smoke", "longer": [4, 2],
    }  # fmt: skip
    workspace = Workspace(tmp_path, tmp_path / "results", tmp_path / "runs", "cpu", 1)
    run_set = RunSet(workspace, HowToRun())
    runs = dict(runs_of_stage(stage(content), run_set))
    (run,) = runs.values()
    assert longer_runs(stage(content), runs, run_set) == {}
    record = {**run.execute(progress=False), "validation": list(enumerate(accuracies, 1))}
    run.record_path.write_text(json.dumps({**record, "checksum": checksum(record)}))
    found = longer_runs(stage(content), runs, run_set)
    assert [request.learner for request in found] == longer


def test_images_that_are_not_there_are_said_once(tmp_path, capsys):
    """In a screen, which was repeated for each run."""
    runs = {
        "title": "omniglot",
        "benchmark": "omniglot",
        "shots": [1],
        "learners": ["protonet", "maml"],
    }
    path = tmp_path / "list.yaml"
    path.write_text(yaml.safe_dump({"title": "a list", "stages": {"A": runs}}))
    words = ["campaign", str(path), "--status", "--data", str(tmp_path)]
    assert main([*words, "--results", str(tmp_path / "results")]) == 0
    said = capsys.readouterr().err
    assert said.count("Omniglot was not found") == 1
    assert said.endswith("maml 1-shot on omniglot cannot be run: see above\n")


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--jobs", "0", "--jobs: '0': expected a whole number from 1 to"),
        ("--nice", "20", "--nice 20: expected a number from 0 to 19"),
    ],
)
def test_a_wrong_number(flag, value, words, tmp_path, capsys):
    path = tmp_path / "list.yaml"
    path.write_text(yaml.safe_dump(LIST))
    assert main(["campaign", str(path), flag, value]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.full
def test_stopped_by_sigterm_and_taken_up_from_a_copy(tmp_path):
    """The real thing: two workers stopped, what lies under way copied, the same command again."""
    content = {
        "title": "x",
        "stages": {
            "A": {"title": "glyphs", "benchmark": "glyphs", "shots": [1], "learners": [
                f"maml[updates={updates},backbone=conv4_strided,test_episodes=20]"
                for updates in (150, 151)
            ]},
        },
    }  # fmt: skip
    path = tmp_path / "list.yaml"
    path.write_text(yaml.safe_dump(content))
    environment = {**os.environ, "ZOO_SECONDS_BETWEEN_SAVES": "0.2"}

    def start(folder: str) -> subprocess.Popen:
        words = ["campaign", str(path), "--jobs", "2", "--budget", "smoke", "--nice", "0"]
        return subprocess.Popen(
            [sys.executable, "-m", "zoo", *words, "--results", str(tmp_path / folder)],
            cwd=Path(__file__).parents[2], env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    process = start("here")
    try:
        while len(list((tmp_path / "here" / UNDER_WAY).glob("maml*/last.ckpt"))) < 2:
            assert process.poll() is None, "ended before it was stopped"
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 143
    assert "begun, update" in out and not list((tmp_path / "here").glob("*.json"))
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    again = start("there")
    out, _ = again.communicate(timeout=600)
    assert again.returncode == 0 and "2 of 2 done" in out
    for record in (tmp_path / "there").glob("*.json"):
        updates = json.loads(record.read_text())["updates"]
        assert 0 < updates["executed_by_this_process"] < updates["total"]
