"""Runs in bfloat16: runs of their own, near float32, and never without units for it."""

import pytest
import pytorch_lightning as pl
import torch

from tests.conftest import blobs
from zoo import precision
from zoo.errors import UsageError
from zoo.networks.layers import Conv
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.workspace import Workspace

FEW = {"updates": 4, "validations": 1, "val_episodes": 8, "test_episodes": 20, "query": 5}
FEW |= {"backbone": "conv4[channels=8]", "train_way": 5}


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(precision, "is_fast_in_bf16", lambda device: True)


def plan(folder, stores, learner, **flags):
    workspace = Workspace(None, folder / "results", folder / "runs", "cpu", 1)
    flags = FEW | flags
    flags |= {"updates": 0} if learner == "pretrained" else {"outer_lr": 0.01}
    request = RunRequest(learner, "omniglot", budget="smoke", flags=flags)
    return Run(request, workspace, stores)


def outer_gradient(run, noise=0.0):
    """All gradients of a first update's loss, one behind the other.

    Args:
        run: whose learner it is.
        noise: every weight of a convolution is changed by up to this share of itself.
    """
    run.learner.stages_trained = True
    torch.manual_seed(0)
    batch = run.data.on_after_batch_transfer(next(iter(run.data.train_dataloader())), 0)
    with torch.no_grad():
        for weight in (p for p in run.learner.net.parameters() if p.dim() == 4):
            weight.mul_(1 + noise * (2 * torch.rand_like(weight) - 1))
    parameters = [p for p in run.learner.net.parameters() if p.requires_grad]
    loss = run.learner.meta_loss(batch)
    parts = torch.autograd.grad(loss, parameters, materialize_grads=True)
    assert {part.dtype for part in parts} == {torch.float32}
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("learner", ["protonet", "maml", "maml[first_order=true]", "npbml"])
def test_the_outer_gradient_is_as_near_as_rounded_weights_allow(learner, stores, tmp_path, fast):
    """Second order goes through both derivatives of every convolution.

    ReLUs and maxima that switch make a gradient jump, so it is compared with the gradient where
    each weight is changed by at most a step between neighbouring bfloat16 numbers.
    """
    exact = outer_gradient(plan(tmp_path, stores, learner))
    changed = outer_gradient(plan(tmp_path, stores, learner), noise=2**-7)
    rounded = outer_gradient(plan(tmp_path, stores, learner, precision="bf16"))
    assert 0 < (rounded - exact).norm() < (changed - exact).norm()


@pytest.mark.parametrize("learner", ["protonet", "npbml", "pretrained"])
def test_a_run_in_bfloat16_is_a_run_of_its_own(learner, stores, tmp_path, fast):
    records = {}
    for value in ("float32", "bf16"):
        run = plan(tmp_path, stores, learner, precision=value)
        records[value] = run.execute(progress=False)
        assert {p.dtype for p in run.trained().parameters()} == {torch.float32}
        types = {m.product_type for m in run.learner.modules() if isinstance(m, Conv)}
        assert types == {torch.bfloat16 if value == "bf16" else None}
    one, other = records["float32"], records["bf16"]
    assert one["run"] != other["run"] and "precision" not in one["run"]
    assert other["settings"]["precision"]["value"] == "bf16"
    assert other["metrics"]["nll"]["mean"] != one["metrics"]["nll"]["mean"]
    stages = [{stage["hash"] for stage in record.get("stages") or []} for record in (one, other)]
    assert not stages[0] & stages[1]


def test_a_run_in_float32_is_the_run_that_it_was(stores, tmp_path):
    asked = plan(tmp_path, stores, "protonet", precision="float32")
    assert asked.name == plan(tmp_path, stores, "protonet").name
    assert "precision" not in asked.identity["settings"]


def test_it_is_refused_before_anything_is_trained(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "is_fast_in_bf16", lambda device: False)
    run = plan(tmp_path, stores, "npbml", precision="bf16")
    with pytest.raises(UsageError, match="--precision bf16: this cpu has no units") as caught:
        run.execute(progress=False)
    assert "\n" not in str(caught.value)
    assert not run.record_path.exists() and not (tmp_path / "runs" / "stages").exists()


def test_it_is_refused_where_there_is_nothing_to_round(tmp_path):
    stores = {split: blobs(20) for split in ("train", "val", "test")}
    with pytest.raises(UsageError, match="rounds what convolutions multiply"):
        plan(tmp_path, stores, "protonet", backbone="mlp", precision="bf16")
    with pytest.raises(UsageError, match="--precision fp16: choose from float32, bf16"):
        plan(tmp_path, stores, "protonet", precision="fp16")


def test_a_checkpoint_keeps_it(stores, tmp_path, fast):
    run = plan(tmp_path, stores, "protonet", precision="bf16")
    trainer = pl.Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
    )
    trainer.fit(run.learner, run.data)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    learner = type(run.learner).load_from_checkpoint(tmp_path / "one.ckpt")
    types = {m.product_type for m in learner.modules() if isinstance(m, Conv)}
    assert types == {torch.bfloat16} and learner.hparams["precision"] == "bf16"
