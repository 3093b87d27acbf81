"""One run on two processes: each computes its share, together they give one process's numbers."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.conftest import in_full
from zoo.batch_norm import BatchNorm
from zoo.commands import main
from zoo.processes import process_count, rank
from zoo.runs.devices import all_agree, gather_objects
from zoo.runs.workers import started_to_help

ROOT = Path(__file__).parents[2]
SMALL = [
    "--budget", "smoke", "--updates", "6", "--validations", "3", "--meta_batch", "4", "--threads",
    "1", "--val_episodes", "9", "--test_episodes", "11",
]  # fmt: skip


def zoo_run(folder: Path, *words: str, more=(), **environment: str) -> subprocess.CompletedProcess:
    """``zoo run``, its results and runs below `folder`."""
    where = ["--results", str(folder / "results"), "--runs", str(folder / "runs")]
    return subprocess.run(
        [sys.executable, "-m", "zoo", "run", *words, *SMALL, *more, *where],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def recorded(folder: Path) -> tuple[dict, dict]:
    """The record that a run left, and what each test episode gave."""
    (path,) = (folder / "results").glob("*s0-*.json")
    with np.load(path.with_suffix(".npz")) as arrays:
        return json.loads(path.read_text()), dict(arrays)


SMALL_NET = ("--backbone", "conv4[channels=8]")
STAGE = ("--pretrained_from", "pretrain", "--pretrain_updates", "4", "--pretrain_batch", "8",
         "--pretrain_validations", "1", "--pretrain_val_episodes", "2")  # fmt: skip
KINDS = {
    "gradient": ("maml", "glyphs", *SMALL_NET),
    "metric": ("protonet", "glyphs", *SMALL_NET, "--train_way", "5"),
    "memory": ("mann", "sinusoid", "--shot", "5"),
    "stages": ("npbml", "glyphs", *SMALL_NET, *STAGE, "--relation_updates", "4"),
}
SHARED = [
    *KINDS.values(),
    ("metanet", "glyphs"),
    ("matchingnet", "glyphs", *SMALL_NET, "--train_way", "5"),
    ("metasgd", "sinusoid", "--shot", "5"),
    ("cnp", "sinusoid", "--shot", "5"),
]


@pytest.mark.parametrize("words", in_full(SHARED, KINDS["gradient"]), ids=" ".join)
def test_two_processes_give_the_numbers_of_one(words, tmp_path):
    """Of ProtoNet with one batch norm over the tasks of both."""
    key, benchmark, *flags = words
    with contextlib.chdir(ROOT):
        where = ["--results", str(tmp_path / "one/results"), "--runs", str(tmp_path / "one/runs")]
        assert main(["run", key, benchmark, *flags, *SMALL, *where]) == 0
    shared = zoo_run(tmp_path / "two", *words, "--devices", "2")
    assert shared.returncode == 0, shared.stderr
    assert shared.stdout.count("[1/1]") == 1 and "GLOBAL_RANK" not in shared.stderr
    assert "Warning" not in shared.stderr
    (one, values), (two, others) = (recorded(tmp_path / name) for name in ("one", "two"))
    assert two["run"] == one["run"] and two["episodes"] == one["episodes"]
    assert [u for u, _ in two["validation"]] == [u for u, _ in one["validation"]] == [2, 4, 6]
    for (_, ours), (_, theirs) in zip(two["validation"], one["validation"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
    assert values.keys() == others.keys()
    metric = "mse" if "sinusoid" in words else "nll"
    assert len(others[metric]) == len(values[metric])
    np.testing.assert_allclose(others[metric], values[metric], rtol=1e-3, atol=1e-4)
    assert two["updates"]["total"] == 6 and two["seconds"]["updates_cpu"] is None


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_killed_two_processes_go_on(kind, tmp_path):
    """From the last checkpoint of the first one, to the same numbers."""
    words = (*KINDS[kind], "--devices", "2")
    whole = zoo_run(tmp_path / "whole", *words)
    assert whole.returncode == 0, whole.stderr
    killed = zoo_run(
        tmp_path / "killed", *words,
        "--callback", "tests.support.dying_callback.DiesInFirstProcess[after=3]",
        ZOO_SECONDS_BETWEEN_SAVES="0",
    )  # fmt: skip
    assert killed.returncode != 0
    again = zoo_run(
        tmp_path / "killed", *words,
        "--callback", "tests.support.dying_callback.DiesInFirstProcess[after=3]",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    (one, values), (two, others) = (recorded(tmp_path / name) for name in ("whole", "killed"))
    assert 0 < two["updates"]["executed_by_this_process"] < 6
    for name, value in values.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-5, err_msg=name)
    assert two["callbacks"] and two["run"] != one["run"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("reptile", "glyphs"), "--devices 2: reptile: its inner Adam carries moments from task"),
        (("trlearner", "glyphs"), "--devices 2: trlearner: it relates all tasks of a meta-batch"),
        (("maml", "glyphs", "--meta_batch", "3"), "cannot share a meta-batch of 3 tasks; take a"),
        (("maml", "glyphs", "--devices", "99"), "--devices 99: expected a number from 1 to"),
    ],
)
def test_what_processes_cannot_share_is_said(words, said, tmp_path, capsys):
    """Before anything is trained, and before another process is started."""
    more = () if "--devices" in words else ("--devices", "2")
    where = ("--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs"))
    assert main(["run", *words, *more, *where]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def one_of_two(rank: int, folder: str) -> None:
    """A process of two: batch norm over the rows of both, and what they tell each other."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    torch.manual_seed(0)
    x = torch.randn(6, 3, 4, 4, dtype=torch.float64)
    whole, norm = (BatchNorm(3, "running").double() for _ in range(2))
    target = torch.randn_like(x)
    mine = slice(0, 2) if rank == 0 else slice(2, 6)  # shares of different size
    inputs = x[mine].clone().requires_grad_()
    out = norm(inputs)
    (out * target[mine]).sum().backward()
    gradient = [p.grad for p in norm.parameters()]
    for g in gradient:
        torch.distributed.all_reduce(g)
    torch.distributed.destroy_process_group()
    every = x.clone().requires_grad_()
    expected = whole(every)
    (expected * target).sum().backward()
    torch.testing.assert_close(out, expected[mine])
    torch.testing.assert_close(inputs.grad, every.grad[mine])
    for g, p in zip(gradient, whole.parameters(), strict=True):
        torch.testing.assert_close(g, p.grad)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(norm.state_dict()[name], value)


def test_batch_norm_over_all_processes_is_that_of_the_whole_batch(tmp_path):
    """Its output, its gradients and its running statistics."""
    torch.multiprocessing.spawn(one_of_two, (str(tmp_path),), 2)


def test_alone_nothing_is_asked():
    trainer = SimpleNamespace(world_size=1)
    assert gather_objects(trainer, "mine") == ["mine"]
    assert all_agree(trainer, True) and not all_agree(trainer, False)
    assert (process_count(), rank(), started_to_help()) == (1, 0, False)


def test_a_shell_of_a_job_with_ranks_changes_nothing(tmp_path):
    """`zoo run` on one device is the only process, whatever the environment says."""
    found = zoo_run(tmp_path, "protonet", "glyphs", "--backbone", "conv4[channels=4]",
                    LOCAL_RANK="1", RANK="1", WORLD_SIZE="4")  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert recorded(tmp_path)[0]["updates"]["total"] == 6


SCRIPT = """
import sys, warnings
warnings.filterwarnings("ignore")
import pytorch_lightning as pl, torch, zoo
folder = sys.argv[1]
learner, data = zoo.experiment(
    "protonet", "glyphs", budget="smoke", updates=4, meta_batch=2, val_episodes=7, train_way=5,
    test_episodes=11, query=3, train_query=3, backbone="conv4[channels=4]", runs=folder,
    pretrained_from="pretrain", pretrain_updates=3, pretrain_batch=8, pretrain_validations=1,
    pretrain_val_episodes=2,
)
trainer = pl.Trainer(
    max_epochs=1, accelerator="cpu", devices=int(sys.argv[2]), strategy="ddp", logger=False,
    enable_checkpointing=False, enable_progress_bar=False, num_sanity_val_steps=0,
)
trainer.fit(learner, data)
(found,) = trainer.test(learner, data, verbose=False)
if trainer.is_global_zero:
    print(found["test/nll"], float(trainer.callback_metrics["test/accuracy"]))
"""


def test_a_plain_trainer_on_two_processes(tmp_path):
    """With a stage, which one of them trains while the other waits."""
    found = []
    for devices in ("1", "2"):
        script = tmp_path / f"script{devices}.py"
        script.write_text(SCRIPT)
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path / devices), devices],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append([float(word) for word in done.stdout.split()[-2:]])
    assert found[0] == pytest.approx(found[1], rel=1e-3)
