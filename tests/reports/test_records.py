import json
import math

import numpy as np
import pytest

from zoo.reports.records import FIELDS, arrays_hash, episodes, load, values

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
        ("[" * 200_000, "not a record of a run: nested too deeply"),
        (json.dumps(RECORD).encode("utf-16"), "codec"),
        (changed(title="\ud800"), "surrogates not allowed"),
        (changed(settings={"inner_lr": {"value": 10**30}}), "is too large a number"),
        (changed(metrics={"mse": {"mean": 10**400, "ci95": 0}}), "is too large a number"),
        (changed().replace("60.5", "1e999"), "1e999 is too large a number"),
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


def leaves(content, way=()):
    """Where a record holds numbers."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, (*way, key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*way, key)


@pytest.mark.parametrize("way", [*leaves(RECORD)], ids=".".join)
def test_a_huge_number_costs_no_more_than_its_record(way, tmp_path):
    write(tmp_path)
    for number, name in ((10**30, "whole"), (10**400, "larger"), (-(2**63) - 1, "negative")):
        record = json.loads(changed(run=name))
        place = record
        for key in way[:-1]:
            place = place[key]
        place[way[-1]] = number
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    frame, problems = load(tmp_path)
    assert list(frame["run"]) == [RUN] and len(problems) == 3
    assert all(problem.endswith("is too large a number") for problem in problems)


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


ACCURACY = np.array([0.5, 1.0, 0.75, 0.25])
GAVE = {"accuracy": ACCURACY, "prediction": np.arange(8).reshape(4, 2)}
DRAWN = {"classes": np.arange(20).reshape(4, 5), "order": np.zeros((4, 5), int)}


def whole(folder, gave=GAVE, drawn=DRAWN, **changes):
    """A record that knows what each episode gave and had, and its arrays."""
    known = {"results": arrays_hash(GAVE), "episodes": arrays_hash(DRAWN)}
    metrics = {"accuracy": {"mean": ACCURACY.mean(), "ci95": 0.1}}
    count = {"split": "test", "count": 4, "fingerprint": "ab12"}
    write(folder, metrics=metrics, episodes=count, **{"arrays": known, **changes})
    np.savez_compressed(folder / f"{RUN}.npz", **gave)
    np.savez_compressed(folder / "episodes-ab12.npz", **drawn)
    return values(folder, load(folder)[0])


def test_what_each_episode_gave_is_under_the_checksum(tmp_path):
    found, problems = whole(tmp_path)
    assert not problems and found[RUN]["accuracy"].tolist() == ACCURACY.tolist()
    narrow = {
        "accuracy": ACCURACY.astype(np.float32),
        "prediction": GAVE["prediction"].astype("u1"),
    }
    assert not whole(tmp_path, narrow)[1], "values count, not the types that they are kept in"


@pytest.mark.parametrize(
    "gave",
    [
        {**GAVE, "accuracy": ACCURACY[::-1]},  # the same mean
        {**GAVE, "prediction": GAVE["prediction"][::-1]},
        {**GAVE, "nll": ACCURACY},
        {"accuracy": ACCURACY},
        {**GAVE, "prediction": GAVE["prediction"].reshape(2, 4)},
    ],
)
def test_other_values_are_left_out_in_a_line(gave, tmp_path):
    found, problems = whole(tmp_path, gave)
    said = "left out, not what was recorded: the record has another hash of it"
    assert not found and problems == [f"{RUN}.npz: {said}"]


@pytest.mark.parametrize(
    ("gave", "said"),
    [
        ({"accuracy": ACCURACY, "prediction": np.zeros(3)}, None),  # not looked at
        ({"accuracy": ACCURACY[None]}, "1 episodes, the record has 4"),
        ({"accuracy": np.stack([ACCURACY] * 2, 1)}, "accuracy is not one number an episode"),
        ({"accuracy": np.array(0.625)}, "accuracy is not one number an episode"),
        ({"accuracy": ACCURACY.astype(str)}, "accuracy is not one number an episode"),
        ({"accuracy": ACCURACY.astype(complex)}, "accuracy is not one number an episode"),
        ({"accuracy": ACCURACY, "nll": ACCURACY}, "with nll, which the record does not have"),
        ({"nll": ACCURACY}, "without accuracy, which the record has"),
        ({"accuracy": ACCURACY, "nll": ACCURACY[:2]}, "All arrays must be of the same length"),
        ({"accuracy": np.array([None] * 4)}, "cannot be read: Object arrays"),
    ],
)
def test_earlier_records_are_checked_as_far_as_they_can_be(gave, said, tmp_path):
    found, problems = whole(tmp_path, gave, arrays=None)
    assert list(found) == ([RUN] if said is None else [])
    assert [said in problem for problem in problems] == [True] * (said is not None)


def test_damaged_test_episodes_are_noticed(tmp_path):
    for drawn in ({**DRAWN, "order": np.ones((4, 5), int)}, {"classes": DRAWN["classes"]}):
        found, problems = whole(tmp_path, drawn=drawn)
        assert list(found) == [RUN], "what the episodes gave is whole"
        assert len(problems) == 1
        assert problems[0].startswith("episodes-ab12.npz: damaged, not the classes and images")
    (tmp_path / "episodes-ab12.npz").write_bytes(b"PK")
    frame, _ = load(tmp_path)
    assert [p.startswith("episodes-ab12.npz: damaged") for p in values(tmp_path, frame)[1]] == [
        True
    ]
    (tmp_path / "episodes-ab12.npz").unlink()
    assert not values(tmp_path, frame)[1], "they may lie elsewhere"
