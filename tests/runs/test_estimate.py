"""Estimates: training scaled from budget `quick`, tests by episodes, disk by weights."""

from types import SimpleNamespace

import pytest

from zoo.runs.estimate import estimated_seconds, run_megabytes
from zoo.runs.request import RunRequest
from zoo.runs.resolved import resolve_request


def seconds(**flags) -> float:
    return estimated_seconds(resolve_request(RunRequest("maml", "cifarfs", flags=flags)))


def test_training_takes_its_share_of_what_quick_takes():
    updates = resolve_request(RunRequest("maml", "cifarfs")).values["updates"]
    nothing = {"test_episodes": 1, "val_episodes": 1, "validations": 1}
    episode = 5e-5 * 32 * 32
    assert seconds(**nothing) == pytest.approx(600 + 2 * episode)
    assert seconds(**nothing, updates=2 * updates) == pytest.approx(1200 + 2 * episode)
    assert seconds(**nothing, updates=0) == pytest.approx(episode)  # and no validation
    assert seconds(updates=0, test_episodes=100) == pytest.approx(100 * episode)


def test_a_test_of_anothers_weights_trains_nothing_and_keeps_none():
    resolved = resolve_request(RunRequest("maml", "cifarfs", flags={"test_episodes": 10}))
    assert estimated_seconds(resolved, trains=False) == pytest.approx(10 * 5e-5 * 32 * 32)
    assert run_megabytes(SimpleNamespace(weights_of="another")) == 0.3
