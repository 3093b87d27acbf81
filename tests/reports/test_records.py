import json
import math

import numpy as np
import pytest

from zoo.reports.records import FIELDS, episodes, load

RUN = "maml-omniglot-5w1s-paper-quick-s0-1a2b3c4d"
RECORD = {
    "schema": 1,
    "run": RUN,
    "status": "done",
    "learner": "maml",
    "variant": {"first_order": True},
    "title": "MAML",
    "benchmark": "omniglot[split=1200/423]",
    "way": 5,
    "shot": 1,
    "terms": "paper",
    "budget": "quick",
    "seed": 0,
    "settings": {
        "inner_lr": {"value": 0.4, "origin": "constructor", "source": "section 5.1"},
        "first_order": {"value": True, "origin": "flag", "source": ""},
    },
    "backbone_family": "conv4",
    "traits": {"transductive": True, "sequential": False, "batch_norm": "batch"},
    "parameters": 111936,
    "training_tasks": {"seen": 12000, "paper": None},
    "updates": {"total": 12000, "executed_by_this_process": 12000},
    "episodes": {"split": "test", "count": 1000, "fingerprint": "ab12"},
    "metrics": {
        "accuracy": {"mean": 0.9881, "ci95": 0.0012},
        "nll": {"mean": 0.04, "ci95": None},
    },
    "failure": None,
    "data": {"fingerprint": "dada"},
    "environment": {"commit": "c0ffee", "dirty": False, "device": "cpu", "threads": 2},
    "test_passes_begun": 1,
    "seconds": {"train": 60.5, "test": 3.0},
}


def write(folder, name=RUN, **changes):
    text = json.dumps(RECORD | {"run": name} | changes)
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return text


def test_a_record_becomes_a_flat_row(tmp_path):
    write(tmp_path)
    frame, problems = load(tmp_path)
    assert problems == []
    row = frame.iloc[0].to_dict()
    assert row["run"] == RUN and row["variant"] == {"first_order": True}
    assert row["settings"] == {"inner_lr": 0.4, "first_order": True}
    assert (row["way"], row["episodes"], row["tasks_seen"], row["threads"]) == (5, 1000, 12000, 2)
    assert row["transductive"] and row["batch_norm"] == "batch"
    assert (row["accuracy"], row["accuracy_ci95"], row["nll"]) == (0.9881, 0.0012, 0.04)
    assert math.isnan(row["nll_ci95"])
    assert frame[["tasks_paper", "failed_at", "failure"]].isna().all(axis=None)
    assert list(frame)[: len(FIELDS)] == list(FIELDS)


def test_a_failed_run_has_a_reason_and_no_numbers(tmp_path):
    write(tmp_path, "a")
    write(
        tmp_path,
        "b",
        status="failed",
        failure={"update": 12, "reason": "the loss is nan"},
        metrics={"accuracy": {"mean": math.nan, "ci95": None}},
        episodes=None,
        data=None,
    )
    frame, problems = load(tmp_path)
    assert problems == [] and list(frame["run"]) == ["a", "b"]
    assert (frame["failed_at"][1], frame["failure"][1]) == (12, "the loss is nan")
    assert frame["accuracy"].isna().tolist() == [False, True]


def without(key):
    return json.dumps({name: value for name, value in RECORD.items() if name != key})


def changed(**changes):
    return json.dumps(RECORD | {"run": "bad"} | changes)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Expecting value"),
        (json.dumps(RECORD)[:300], "Expecting"),
        (b"\xff\xfe", "codec"),
        ("[" * 200_000, "recursion"),
        ("[1, 2]", "not a record"),
        ('{"name": "a package"}', "not a record"),
        (changed(schema=2), "schema 2, this code reads 1"),
        (json.dumps(RECORD), "a duplicate or renamed: it holds run 'maml-"),
        (without("learner"), "learner is missing"),
        (changed(way="five"), "way is 'five'"),
        (changed(shot=True), "shot is True"),
        (changed(status="running"), "status 'running'"),
        (changed(settings={"inner_lr": 0.4}), "settings without values"),
        (changed(metrics={}), "done, but without metrics"),
        (changed(metrics=[1]), "metrics is [1]"),
        (changed(metrics={"accuracy": 0.9}), "mean of accuracy is None"),
        (changed(metrics={"accuracy": {"mean": math.nan, "ci95": 0}}), "mean of accuracy is nan"),
        (changed(metrics={"mse": {"mean": 1, "ci95": math.inf}}), "ci95 of mse is inf"),
        (changed(metrics={"mse": {"mean": "1", "ci95": 0}}), "mse.mean is '1'"),
    ],
)
def test_bad_input_is_one_line_and_the_rest_is_loaded(tmp_path, text, problem):
    write(tmp_path)
    data = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "bad.json").write_bytes(data)
    frame, problems = load(tmp_path)
    assert list(frame["run"]) == [RUN]
    assert len(problems) == 1 and "\n" not in problems[0]
    assert problems[0].startswith("bad.json: skipped, ") and problem in problems[0]


def test_no_records(tmp_path):
    for folder, problem in ((tmp_path, "no records"), (tmp_path / "none", "no such folder")):
        frame, problems = load(folder)
        assert problems == [f"{folder}: {problem}"]
        assert frame.empty and list(frame) == list(FIELDS)


def test_only_json_is_read_and_a_folder_of_that_name_is_a_problem(tmp_path):
    write(tmp_path)
    (tmp_path / f"{RUN}.npz").write_bytes(b"not read")
    (tmp_path / "folder.json").mkdir()
    frame, problems = load(tmp_path)
    assert len(frame) == 1
    assert len(problems) == 1 and problems[0].startswith("folder.json: skipped")


def test_episodes(tmp_path):
    accuracy, nll = np.array([0.5, 1.0]), np.array([0.7, 0.1], np.float32)
    prediction = np.array([[0, 1, 1, 0], [1, 1, 0, 0]])
    np.savez(tmp_path / f"{RUN}.npz", accuracy=accuracy, nll=nll, prediction=prediction)
    frame = episodes(tmp_path, RUN)
    assert frame.index.name == "episode" and list(frame.index) == [0, 1]
    assert frame["accuracy"].tolist() == [0.5, 1.0]
    assert frame["nll"].dtype.kind == "f"
    assert frame["prediction"][1].tolist() == [1, 1, 0, 0]
    with pytest.raises(FileNotFoundError):
        episodes(tmp_path, "other")
