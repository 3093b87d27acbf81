"""Nearest neighbour on pixels: against numpy, and through runs and tables without a parameter."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.conftest import episode_of
from tests.runs.test_run import numbers_of, plan
from zoo.baselines.pixelnn import PixelNN
from zoo.commands import main
from zoo.errors import UsageError
from zoo.networks.backbone import build_backbone


def nearest(image, **shape):
    batch = episode_of(image=image, **shape)
    return batch, PixelNN(build_backbone("pixels", image), batch.way).eval()


def test_logits_are_minus_the_smallest_squared_distance():
    batch, learner = nearest((3, 4, 5))
    logits = learner(batch)
    for t in range(batch.tasks):
        for q, x in enumerate(batch.query.x[t].numpy()):
            d = ((batch.support.x[t].numpy() - x) ** 2).sum((1, 2, 3))
            for k in range(batch.way):
                smallest = d[batch.support.y[t].numpy() == k].min()
                assert logits[t, q, k].item() == pytest.approx(-smallest, rel=1e-4)


def test_a_support_image_is_its_own_neighbour():
    batch, learner = nearest((1, 28, 28))
    assert torch.equal(learner(batch._replace(query=batch.support)).argmax(-1), batch.support.y)


class Largest(TorchDispatchMode):
    """Watches how large tensors become."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numbers = max(self.numbers, out.numel())
        return out


def test_no_tensor_is_larger_than_the_images():
    """Differences of every pair, 20-way at 84x84, would be gigabytes."""
    batch, learner = nearest((3, 84, 84), way=20, shot=2, query=2, tasks=1)
    with Largest() as largest:
        learner(batch)
    images = batch.support.x.numel() + batch.query.x.numel()
    assert images <= largest.numbers <= images


def test_a_run_has_a_record_without_parameters(stores, tmp_path):
    run = plan(tmp_path, stores, "pixelnn", flags={"test_episodes": 20})
    assert run["updates"] == 0 and run.family == "pixels"
    record = run.execute(progress=False)
    assert record["parameters"] == 0 and record["training_tasks"] == {"seen": 0, "paper": None}
    images, labels = stores["test"].images.numpy().astype(float), []
    indices = run.data.test_indices()
    for classes, chosen in zip(indices.classes, indices.images, strict=True):
        episode = images[stores["test"].offsets[classes][:, None] + chosen].reshape(5, -1, 784)
        query, support = episode[:, : run["query"]].reshape(-1, 784), episode[:, run["query"]]
        labels.append(((query[:, None] - support) ** 2).sum(-1).argmin(-1))
    assert np.array_equal(numbers_of(run)["prediction"], labels)


@pytest.mark.parametrize("learner", ["pixelnn", "protonet[backbone=pixels]"])
def test_training_without_parameters_is_refused(learner, stores, tmp_path):
    with pytest.raises(UsageError, match=r"--updates 3: .* on backbone pixels has nothing"):
        plan(tmp_path, stores, learner, flags={"updates": 3})


@pytest.mark.parametrize("terms", ["paper", "equal"])
def test_it_is_a_row_of_the_table(terms, tmp_path, capsys):
    words = ["table", "glyphs", "--budget", "smoke", "--learners", "pixelnn", "--terms", terms]
    words += ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    assert main(words) == 0
    row = capsys.readouterr().out.partition("| Nearest pixels")[2].splitlines()[0]
    assert 20 < float(row.split("|")[1].split("±")[0]) < 100
