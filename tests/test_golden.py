"""Nothing that was measured or named changes by moving code: `golden.json` holds what must stay.

Settings, names, hashes and fingerprints exactly; what short runs measure to a tolerance, for sums
of floats differ from processor to processor. `python -m tests.golden --against COMMIT` compares
two commits exactly.
"""

import json

import pytest
import torch

from tests import golden
from zoo import learners

EXPECTED = json.loads(golden.FILE.read_text())


def test_every_setting_is_as_it_was():
    assert golden.every_setting() == EXPECTED["settings"]


def test_runs_are_named_as_they_were(tmp_path):
    assert json.loads(json.dumps(golden.planned(tmp_path))) == EXPECTED["runs"]


def test_every_learner_is_trained_here():
    assert {learner.partition("[")[0] for learner, _ in golden.TRAINED} == {*learners.names()}


@pytest.mark.parametrize(("learner", "benchmark"), golden.TRAINED)
def test_it_measures_what_it_measured(learner, benchmark, tmp_path):
    torch.set_num_threads(1)
    found, expected = (
        golden.trained(learner, benchmark, tmp_path), EXPECTED["trained"][f"{learner} {benchmark}"]
    )  # fmt: skip
    assert found["status"] == expected["status"] == "done"
    assert found["parameters"] == expected["parameters"]
    for (update, value), (expected_update, expected_value) in zip(
        found["validation"], expected["validation"], strict=True
    ):
        assert update == expected_update and value == pytest.approx(expected_value, abs=0.04)
    assert found["metrics"].keys() == expected["metrics"].keys()
    for name, value in found["metrics"].items():
        assert value == pytest.approx(expected["metrics"][name], rel=0.02, abs=0.02), name
