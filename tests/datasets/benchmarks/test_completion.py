"""Gaussian processes and image completion: the tasks, their draws, and runs on them."""

import numpy as np
import pytest
import torch

from tests.conftest import blobs
from zoo.commands import main
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.benchmarks.completion import ImagesAsFunctions, Pixels
from zoo.datasets.episodes.hash_random import key_of, uniform
from zoo.datasets.episodes.sampler import fingerprint
from zoo.datasets.fetching.fetch import fetch
from zoo.errors import UsageError
from zoo.runs.plan import Plan
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.workspace import Workspace


def batch(functions, shot: int, query: int, tasks: int, first: int = 0):
    drawn = functions.sampler(1, shot, query, key_of("test", 0))
    indices = drawn.indices(first, tasks)
    return functions.meta_batch(drawn, indices), indices


def test_draws_of_the_process_have_its_covariance():
    """Over many tasks at the same six inputs, against the kernel written out."""
    tasks, x = 40000, np.array([-2, -1.7, -1.2, 0.1, 0.2, 1.9])
    u = uniform(np.arange(tasks, dtype=np.uint64), 12).reshape(tasks, 6, 2)
    points = np.concatenate([np.broadcast_to((x[:, None] + 2) / 4, (tasks, 6, 1)), u], 2)
    at, y = find_benchmark("gp").values(np.empty((tasks, 1, 0)), points)
    np.testing.assert_allclose(at[0, :, 0], x)
    y = y[..., 0]
    wanted = [[np.exp(-((a - b) ** 2) / (2 * 0.4**2)) + 0.02**2 * (a == b) for b in x] for a in x]
    np.testing.assert_allclose(y.T @ y / tasks, wanted, atol=0.03)
    assert np.abs(y.mean(0)).max() < 0.03


def test_the_noise_is_what_is_printed():
    """Two points at one input differ by noise alone."""
    tasks = 20000
    u = uniform(np.arange(tasks, dtype=np.uint64), 6).reshape(tasks, 2, 3)
    u[..., 0] = 0.5
    _, y = find_benchmark("gp").values(np.empty((tasks, 1, 0)), u)
    assert (y[:, 0] - y[:, 1]).std() == pytest.approx(0.02 * 2**0.5, rel=0.03)


def test_the_queries_of_the_process_are_the_same_whatever_the_shot():
    functions = find_benchmark("gp").open()["test"]
    few, many = batch(functions, 5, 100, 4)[0], batch(functions, 10, 100, 4)[0]
    for a, b in ((few.query, many.query), (few.support, [part[:, :5] for part in many.support])):
        for one, other in zip(a, b, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    assert few.support.x.abs().max() <= 2 and few.query.y.shape == (4, 100, 1)


VARIANTS = ["completion", "completion[images=omniglot]", "completion[images=cifarfs]"]


def test_options():
    plain, omniglot, cifar = map(find_benchmark, VARIANTS)
    assert [b.outputs for b in (plain, omniglot, cifar)] == [1, 1, 3]
    assert [b.query for b in (plain, omniglot, cifar)] == [784, 784, 1024]
    assert [b.source.key for b in (plain, omniglot, cifar)] == ["glyphs", "omniglot", "cifarfs"]
    with pytest.raises(UsageError, match=r"images='cub' is unknown; choose from glyphs, omniglot"):
        find_benchmark("completion[images=cub]")


@pytest.mark.parametrize("image", [(1, 28, 28), (3, 28, 8)])
def test_a_task_gives_back_its_image(image):
    store = blobs(4, image=image)
    functions, pixels = ImagesAsFunctions(find_benchmark("completion"), store), image[1] * image[2]
    episode, indices = batch(functions, 10, pixels, 50)
    assert episode.way == image[0] and len(set(indices.image)) > 30
    for t in range(50):
        original = store.images[indices.image[t]]
        drawn = (episode.query.y[t] * 255).round().byte().T.unflatten(1, image[1:])
        assert torch.equal(drawn, original)
        rows, columns = (episode.support.x[t] * torch.tensor([image[1] - 1, image[2] - 1])).T
        seen = original[:, rows.round().long(), columns.round().long()].T
        assert torch.equal((episode.support.y[t] * 255).round().byte(), seen)
    x = episode.query.x
    assert x.min() == 0 and x.max() == 1
    assert x[0, 1].tolist() == pytest.approx([0, 1 / (image[2] - 1)])  # columns run first


def test_support_and_query_share_no_pixel_unless_they_must():
    functions = find_benchmark("completion").open()["test"]
    _, pixels = batch(functions, 700, 84, 30)
    for support, query in zip(pixels.support, pixels.query, strict=True):
        assert sorted([*support, *query]) == list(range(784))
    few, many = (batch(functions, shot, 84, 9)[1] for shot in (10, 100))
    assert np.array_equal(few.image, many.image) and np.array_equal(few.query, many.query)
    assert np.array_equal(few.support, many.support[:, :10])


def test_pixels_are_drawn_evenly():
    functions = find_benchmark("completion").open()["test"]
    _, pixels = batch(functions, 1, 1, 20000)
    counts = np.bincount(pixels.support[:, 0], minlength=784)
    chi2 = ((counts - 20000 / 784) ** 2 / (20000 / 784)).sum()
    assert 783 - 6 * 40 < chi2 < 783 + 6 * 40  # its mean and deviation: 783, 40


def test_a_task_follows_from_its_number():
    functions = find_benchmark("completion").open()["test"]
    whole, part = batch(functions, 5, 7, 9)[1], batch(functions, 5, 7, 2, first=4)[1]
    assert all(np.array_equal(a[4:6], b) for a, b in zip(whole, part, strict=True))


def test_golden_draws():
    """They must never change: records were made on them."""
    gp, images = (find_benchmark(key).open()["test"] for key in ("gp", "completion"))
    assert fingerprint(batch(gp, 5, 20, 3)[1]) == "11eb6a8948468149"
    indices = batch(images, 10, 50, 3)[1]
    assert isinstance(indices, Pixels) and fingerprint(indices) == "2ae871e5fb6413d4"
    y = batch(gp, 5, 20, 1)[0].query.y[0, :3, 0]
    torch.testing.assert_close(y, torch.tensor([-1.046996, 1.496933, 0.749463]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"query": 785}, "--query .* 785: an image has 784 pixels"),
        ({"train_shot": 785}, "--train_shot. 785: an image has 784 pixels"),
    ],
)
def test_more_pixels_than_there_are(flags, says):
    with pytest.raises(UsageError, match=says):
        Plan(RunRequest("cnp", "completion", flags=flags))


@pytest.mark.parametrize("learner", ["cnp", "maml"])
@pytest.mark.parametrize("benchmark", ["gp", "completion"])
def test_a_run(learner, benchmark, tmp_path):
    workspace = Workspace(results=tmp_path / "results", runs=tmp_path / "runs", threads=1)
    flags = {"meta_batch": 2, "train_shot": 4, "train_query": 3, "test_episodes": 4}
    run = Run(RunRequest(learner, benchmark, budget="smoke", shot=5, flags=flags), workspace)
    record = run.execute(progress=False)
    assert record["status"] == "done"
    assert record["metrics"].keys() == ({"mse", "nll"} if learner == "cnp" else {"mse"})
    with np.load(run.record_path.with_suffix(".npz")) as arrays:
        assert arrays["prediction"].shape == (4, run["query"], 1)


def test_the_images_behind_a_benchmark_are_fetched(tmp_path, monkeypatch, capsys):
    asked = []

    def there(benchmark, data):
        asked.append(benchmark.key)
        return True

    monkeypatch.setattr("zoo.datasets.fetching.fetch.find", there)
    fetch(find_benchmark(VARIANTS[1]), tmp_path)
    fetch(find_benchmark("completion"), tmp_path)
    assert asked == ["omniglot"]
    assert main(["fetch", "completion"]) == 0
    assert "Glyphs comes with the code" in capsys.readouterr().out


def test_missing_images_are_one_screen(tmp_path, capsys):
    words = ["--results", str(tmp_path / "a"), "--runs", str(tmp_path / "b")]
    assert main(["run", "cnp", VARIANTS[1], "--data", str(tmp_path), *words]) == 2
    assert "make table-omniglot DATA=" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
