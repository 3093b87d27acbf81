"""Estimates: scaled from records of the same learner, else timed; disk by weights."""

import json
import statistics
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import zoo.runs.estimate
from tests.runs.test_run import SMALL, plan
from zoo import learners
from zoo.runs.estimate import (
    GUESS,
    SAME_BENCHMARK,
    SAME_LEARNER,
    TIMED,
    Estimator,
    Measured,
    measurements,
    operations_per_image,
    run_megabytes,
    size_of,
)
from zoo.runs.request import RunRequest
from zoo.runs.resolved import resolve_request

RESULTS = Path(__file__).parents[2] / "results"
BACKBONE = "conv4[channels=32]"
IMAGE = (3, 32, 32)


def asked(benchmark: str = "cifarfs", **flags):
    return resolve_request(RunRequest("maml", benchmark, way=5, flags=flags))


def known(**rates: float) -> Measured:
    return Measured("maml", "cifarfs", BACKBONE, IMAGE, rates)


def estimator(*measured: Measured) -> Estimator:
    found = Estimator([])
    found._measured = list(measured)
    return found


def test_operations_are_counted_without_computing():
    assert operations_per_image("mlp[width=40,depth=2]", (1,)) == 2 * (40 + 40 * 40)
    # 3 to 32 channels at 32x32, then 32 to 32 at 16x16, 8x8 and 4x4: 3x3 kernels
    expected = 2 * 9 * 32 * (3 * 32**2 + 32 * (16**2 + 8**2 + 4**2))
    assert operations_per_image(BACKBONE, IMAGE) == expected
    assert operations_per_image("pixels", (1, 28, 28)) == 28 * 28


def test_an_estimate_scales_with_updates_tasks_and_episodes():
    """Of 1e-12 seconds an operation in updates, 2e-12 in tests, by hand."""
    mine = estimator(known(update=1e-12, episode=2e-12))
    run = asked(test_episodes=7, val_episodes=3, validations=2, updates=10)
    size = size_of(run.values, run.benchmark, 5, 1)
    image = operations_per_image(BACKBONE, IMAGE)
    assert size.update == pytest.approx((4 * 5 * (1 + 15) * image + 2e7) * (1 + 5))
    assert size.episode == pytest.approx(5 * (1 + 15) * image * (1 + 10))
    found = mine.request(run)
    assert found.seconds == pytest.approx(10e-12 * size.update + 2e-12 * 13 * size.episode)
    assert found.basis == SAME_BENCHMARK
    only_tested = mine.request(run, trains=False)
    assert only_tested.seconds == pytest.approx(2e-12 * 7 * size.episode)


def test_the_records_most_alike_count():
    near = known(update=3.0)
    far = replace(known(update=50.0), benchmark="miniimagenet", image=(3, 84, 84))
    of_another = replace(known(update=7.0), learner="reptile")
    on_functions = replace(known(update=9.0), benchmark="sinusoid", image=(1,))
    everything = estimator(near, replace(near, rates={"update": 4.0}), far, of_another)
    arguments = ("update", "maml", "cifarfs", BACKBONE, IMAGE)
    assert everything.rate(*arguments) == (3.5, SAME_BENCHMARK)
    beside_others = replace(near, rates={"update": 90.0})
    elsewhere = replace(near, benchmark="fc100", rates={"update": 5.0})
    assert estimator(beside_others, elsewhere).rate(*arguments) == (47.5, SAME_BENCHMARK)
    assert estimator(far, of_another).rate(*arguments) == (50.0, SAME_LEARNER)
    assert estimator(of_another, on_functions).rate(*arguments) == (None, GUESS)


def test_without_records_a_few_updates_are_timed(stores, tmp_path, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(zoo.runs.estimate.time, "process_time", lambda: float(next(clock)))
    run = plan(tmp_path, stores, flags={**SMALL, "updates": 120, "micro_batch": 2})
    before = {name: value.clone() for name, value in run.learner.state_dict().items()}
    random = torch.get_rng_state()
    found = estimator().run(run)
    assert found.basis == TIMED
    # A micro-batch takes one tick, an update two; an episode of the test a quarter of an update.
    assert found.seconds == pytest.approx(120 * 2 + (40 + 3 * 20) * 2 / 4)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in run.learner.state_dict().items())


def test_a_backbone_of_another_size_says_nothing():
    """MANN's own small network, of which all its records are, and Conv-4 under equal terms."""
    own = Measured("mann", "omniglot", "pixels20", (1, 28, 28), {"update": 1e-8})
    mine = estimator(own)
    assert mine.rate("update", "mann", "omniglot", "pixels20", (1, 28, 28))[0] == 1e-8
    assert mine.rate("update", "mann", "omniglot", "conv4", (1, 28, 28)) == (None, GUESS)


def test_steps_count_where_they_adapt_the_backbone():
    values, benchmark = asked().values, asked().benchmark
    whole = size_of(values, benchmark, 5, 1, learners.get("maml"))
    head = size_of(values, benchmark, 5, 1, learners.get("anil"))
    assert whole.update == pytest.approx(head.update * (1 + values["inner_steps"]))


def test_rates_are_of_cpu_seconds(tmp_path):
    """Those of the record, else its seconds times its threads."""
    (path,) = list(RESULTS.glob("maml-glyphs-5w1s-paper-quick-s0-*.json"))
    record = json.loads(path.read_text())
    assert record["environment"]["threads"] == 2
    (tmp_path / path.name).write_text(json.dumps(record))
    (plain,) = measurements([tmp_path])
    record["seconds"]["updates_cpu"] = 3 * record["seconds"]["updates"]
    (tmp_path / path.name).write_text(json.dumps(record))
    (measured,) = measurements([tmp_path])
    assert measured.rates["update"] == pytest.approx(1.5 * plain.rates["update"])


def test_a_short_run_is_not_worth_timing(stores, tmp_path):
    assert estimator().run(plan(tmp_path, stores)).basis == GUESS


def test_committed_runs_are_estimated_from_the_others():
    """Leaving each out, seven in eight within a factor of two; some were made beside others."""
    found = measurements([RESULTS])
    ratios = []
    for at, one in enumerate(found):
        others = estimator(*found[:at], *found[at + 1 :])
        rate, _ = others.rate("update", one.learner, one.benchmark, one.backbone, one.image)
        if rate and "update" in one.rates:
            ratios.append(one.rates["update"] / rate)
    assert len(ratios) > 100 and 0.8 < statistics.median(ratios) < 1.25
    assert sum(0.5 < ratio < 2 for ratio in ratios) > 0.75 * len(ratios)


def test_a_test_of_anothers_weights_keeps_none():
    assert run_megabytes(SimpleNamespace(weights_of="another")) == 0.3
