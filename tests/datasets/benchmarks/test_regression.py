"""Regression benchmarks: the functions, their draws, and runs on them."""

import json

import numpy as np
import pytest
import torch

from zoo import learners
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.benchmarks.regression import Points, normal
from zoo.datasets.episodes.hash_random import key_of, uniform
from zoo.datasets.episodes.sampler import fingerprint
from zoo.errors import UsageError
from zoo.reports import records
from zoo.runs.plan import Plan
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.weights import weights_path
from zoo.runs.workspace import Workspace

FUNCTIONS = ["sinusoid", "sinusoid_metasgd", "sinusoid_reptile", "harmonic"]
OTHERS = ["gp", "completion"]  # tests/datasets/benchmarks/test_completion.py


def batch(key: str, shot: int = 5, tasks: int = 2000, query: int = 20):
    functions = find_benchmark(key).open()["test"]
    drawn = functions.sampler(1, shot, query, key_of("test", 0))
    points = drawn.indices(0, tasks)
    return functions.meta_batch(drawn, points), points


def run_of(folder, learner: str, benchmark: str, **options) -> Run:
    workspace = Workspace(results=folder / "results", runs=folder / "runs", threads=1)
    return Run(RunRequest(learner, benchmark, budget="smoke", shot=5, **options), workspace)


def fitted(x, y, waves):
    """The residual of least squares on given waves: (n,), (n,), (n, W) -> largest error."""
    coefficients, *_ = np.linalg.lstsq(waves, y, rcond=None)
    return np.abs(waves @ coefficients - y).max(), coefficients


@pytest.mark.parametrize("key", FUNCTIONS)
def test_support_and_query_lie_on_one_function(key):
    """Each task is a combination of sines and cosines of its own frequency, and of no other."""
    episode, points = batch(key, tasks=20)
    for t in range(20):
        x = torch.cat([episode.support.x[t], episode.query.x[t]]).double().numpy()[:, 0]
        y = torch.cat([episode.support.y[t], episode.query.y[t]]).double().numpy()[:, 0]
        u = points.task[t]
        w = {"sinusoid_metasgd": 0.8 + 0.4 * u[2], "harmonic": 5 + 2 * u[0]}.get(key, 1.0)
        waves = [np.sin(w * x), np.cos(w * x)]
        if key == "harmonic":
            waves += [np.sin(2 * w * x), np.cos(2 * w * x)]
        error, coefficients = fitted(x, y, np.stack(waves, 1))
        assert error < 1e-4
        if key != "harmonic":
            assert np.hypot(*coefficients) == pytest.approx(0.1 + 4.9 * u[0], abs=1e-4)


@pytest.mark.parametrize(("key", "largest"), [("sinusoid", np.pi), ("sinusoid_reptile", 2 * np.pi)])
def test_the_phase_is_uniform_up_to_its_published_end(key, largest):
    benchmark = find_benchmark(key)
    task = np.zeros((3, 1, 3))
    task[:, 0, 1] = 0, 0.5, 0.999999
    _, y = benchmark.values(task, np.full((3, 1, 1), 0.5))  # x = 0
    np.testing.assert_allclose(y.ravel(), 0.1 * np.sin([0, largest / 2, largest]), atol=1e-5)


def test_inputs_are_where_they_are_published():
    episode, _ = batch("sinusoid")
    x = episode.query.x
    assert -5 <= x.min() < -4.99 and 4.99 < x.max() < 5
    episode, points = batch("harmonic")
    centre = episode.query.x.double().mean(1)[:, 0].numpy()
    assert np.abs(centre - (8 * points.task[:, 1] - 4)).max() < 1.3  # 20 normal numbers' mean
    assert episode.query.x.double().std(1).mean() == pytest.approx(1, abs=0.03)


def test_harmonic_amplitudes_are_standard_normal():
    u = uniform(np.arange(20000, dtype=np.uint64), 2)
    z = np.sort(normal(u[:, 0], u[:, 1]))
    expected = torch.special.ndtri(torch.linspace(0, 1, 20002)[1:-1].double()).numpy()
    assert np.abs(z - expected)[200:-200].max() < 0.06


@pytest.mark.parametrize("key", FUNCTIONS)
def test_the_queries_are_the_same_whatever_the_shot(key):
    few, many = batch(key, shot=5, tasks=3)[0], batch(key, shot=10, tasks=3)[0]
    assert torch.equal(few.query.x, many.query.x) and torch.equal(few.query.y, many.query.y)
    assert torch.equal(few.support.y, many.support.y[:, :5])


def test_a_task_follows_from_its_number():
    functions = find_benchmark("harmonic").open()["train"]
    drawn = functions.sampler(1, 5, 7, key_of("train", 0))
    whole, part = drawn.indices(0, 9), drawn.indices(4, 2)
    assert all(np.array_equal(a[4:6], b) for a, b in zip(whole, part, strict=True))
    other = functions.sampler(1, 5, 7, key_of("train", 1)).indices(0, 9)
    assert not np.isclose(whole.task, other.task).any()


def test_golden_draws():
    """They must never change: records were made on them."""
    points = batch("sinusoid", tasks=3)[1]
    assert isinstance(points, Points) and fingerprint(points) == "62c3677592b3867d"
    assert fingerprint(batch("harmonic", tasks=3)[1]) == "5412f9eb08955613"


def test_a_run_of_regression(tmp_path):
    run = run_of(tmp_path, "maml", "sinusoid")
    record = run.execute(progress=False)
    assert record["way"] is None and record["traits"]["transductive"] is False
    assert record["metrics"].keys() == {"mse"} and record["backbone_family"] == "mlp"
    with np.load(run.record_path.with_suffix(".npz")) as arrays:
        mse, prediction = arrays["mse"], arrays["prediction"]
    functions = run.stores["test"]
    drawn = functions.sampler(1, 5, 100, key_of("test", 0))
    episode = functions.meta_batch(drawn, drawn.indices(0, len(mse)))
    np.testing.assert_allclose(
        ((prediction - episode.query.y.numpy()) ** 2).mean((1, 2)), mse, rtol=1e-5
    )
    assert json.loads(run.record_path.read_text())["metrics"]["mse"]["mean"] == pytest.approx(
        mse.mean()
    )
    assert record["diverged"] == {"validation": [0, 0], "test": 0}
    row = records.load(run.workspace.results)[0].iloc[0]
    assert row["diverged_test"] == 0 and row["diverged_validation"] == [0, 0]
    assert row["validation_median"] == record["validation_median"] and row["checksum"] == "holds"


def test_the_tested_checkpoint_has_the_smallest_median_error(tmp_path):
    run = run_of(tmp_path, "maml[outer_lr=0.1]", "sinusoid")
    record = run.execute(progress=False)
    updates = [update for update, _ in record["validation"]]
    medians = dict(zip(updates, record["validation_median"], strict=True))
    assert len(medians) > 1 and record["tested_update"] == min(medians, key=medians.__getitem__)


def test_a_task_with_an_infinite_error_diverged_and_the_median_stays(tmp_path):
    run = run_of(tmp_path, "maml[test_steps=200,inner_lr=0.1]", "sinusoid")
    record = run.execute(progress=False)
    assert record["status"] == "done" and record["metrics"]["mse"] == {"mean": None, "ci95": None}
    measured, problems = records.load(run.workspace.results)
    assert not problems and np.isinf(measured["mse"].iloc[0])
    values, problems = records.values(run.workspace.results, measured)
    errors = values[run.name]["mse"]
    share = np.isinf(errors).mean()
    assert not problems and 0 < share < 0.5 and record["diverged"]["test"] >= share
    assert weights_path(run.record_path).exists()


def test_an_error_that_is_infinite_for_half_of_the_tasks_is_a_failure(tmp_path):
    record = run_of(tmp_path, "maml[test_steps=200,inner_lr=9]", "sinusoid").execute(progress=False)
    assert record["status"] == "failed" and record["failure"]["reason"].startswith("in the test")
    assert [value for _, value in record["validation"]] == [None, None]
    assert record["diverged"] == {"validation": [1, 1], "test": 1}
    assert record["validation_median"] == [None, None]


def test_who_cannot_is_refused_before_anything_starts():
    with pytest.raises(UsageError, match=r"protonet does no regression.*choose from .*maml"):
        Plan(RunRequest("protonet", "sinusoid"))
    with pytest.raises(UsageError, match="--way 5: sinusoid is regression and has no ways"):
        Plan(RunRequest("maml", "sinusoid", way=5))
    with pytest.raises(UsageError, match="--train_way 5"):
        Plan(RunRequest("maml", "sinusoid", flags={"train_way": 5}))
    with pytest.raises(UsageError, match=r"needs images, but an input has shape \(1,\); use mlp"):
        Plan(RunRequest("maml[backbone=conv4]", "sinusoid"))


@pytest.mark.parametrize("key", [k for k in learners.names() if learners.get(k).regression])
@pytest.mark.parametrize("terms", ["paper", "equal"])
@pytest.mark.parametrize("benchmark", FUNCTIONS + OTHERS)
def test_every_learner_of_regression_has_settings(key, benchmark, terms):
    plan = Plan(RunRequest(key, benchmark, shot=5, terms=terms))
    assert plan.family == ("pixels" if learners.get(key).family == "reference" else "mlp")
    assert plan.micro_batch == plan["meta_batch"]
