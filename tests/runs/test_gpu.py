"""The same code on a CUDA device, where there is one."""

import copy

import pytest
import torch

from tests.conftest import episode_of
from tests.runs.test_run import SMALL
from zoo import Episode, Examples, learners
from zoo.networks.backbone import build_backbone
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.workspace import Workspace

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.mark.parametrize("key", learners.names())
def test_the_loss_is_the_cpus(key):
    torch.manual_seed(0)
    learner = learners.get(key)(build_backbone("conv4_strided[channels=8]", (1, 28, 28)), 5)
    batch, other = episode_of(), copy.deepcopy(learner)  # a loss may move buffers, draw numbers
    torch.manual_seed(1)
    on_cpu = learner.meta_loss(batch).item()
    parts = [Examples(e.x.cuda(), e.y.cuda()) for e in (batch.support, batch.query)]
    torch.manual_seed(1)
    on_gpu = other.cuda().meta_loss(Episode(*parts, batch.way)).item()
    assert on_gpu == pytest.approx(on_cpu, rel=1e-2)


def test_a_run_keeps_its_images_on_the_device(stores, tmp_path):
    workspace = Workspace(results=tmp_path / "results", runs=tmp_path / "runs")
    run = Run(RunRequest("maml", "glyphs", flags=SMALL), workspace, stores=stores)
    record = run.execute(progress=False)
    assert record["environment"]["device"] == "cuda"
    assert run.data.stores["train"].images.is_cuda and not stores["train"].images.is_cuda
    assert record["metrics"]["accuracy"]["mean"] > 0.2
    weights = 4 * record["parameters"]
    assert weights < record["memory"]["updates"] < 2**30 and record["seconds"]["updates"] > 0
