"""Torchmeta's loaders feed our learners, and our store serves batches in its form."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from tests.conftest import in_full
from tests.with_torchmeta import needs_torchmeta
from zoo.registry import learners
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.workspace import Workspace

ROOT = Path(__file__).parents[2]
PICTURES = "torchmeta[loaders=tests.with_torchmeta.loaders:pictures]"
WAVES = "torchmeta[loaders=tests.with_torchmeta.loaders:waves]"
FEW = {"updates": 2, "validations": 1, "val_episodes": 4, "test_episodes": 6}
NOT_IN_EPISODES = [key for key in learners.names() if learners.get(key).family == "reference"]
OF_REGRESSION = [key for key in learners.names() if learners.get(key).regression]
pytestmark = needs_torchmeta


def record_of(learner, benchmark, folder, **flags):
    workspace = Workspace(results=folder / "results", runs=folder / "runs", threads=1)
    few = {**FEW, "updates": 0} if learner in NOT_IN_EPISODES else FEW
    request = RunRequest(learner, benchmark, budget="smoke", flags={**few, **flags})
    return Run(request, workspace).execute(progress=False)


@pytest.mark.parametrize("learner", in_full(learners.names(), "protonet", "finetune"))
def test_own_class_datasets_feed_every_learner(learner, tmp_path):
    record = record_of(learner, PICTURES, tmp_path)
    assert record["status"] == "done" and record["settings"]["query"]["value"] == 4
    assert 0 <= record["metrics"]["accuracy"]["mean"] <= 1


@pytest.mark.parametrize("learner", in_full(OF_REGRESSION, "maml"))
def test_sine_waves_feed_every_learner_of_regression(learner, tmp_path):
    record = record_of(learner, WAVES, tmp_path)
    assert record["shot"] == 10 and np.isfinite(record["metrics"]["mse"]["mean"])


SERVED = """
import hashlib, sys, zoo
from tests.with_torchmeta import loaders
made = loaders.{name}({arguments})
learner, data = zoo.experiment("maml", made, budget="smoke", runs=sys.argv[1])
data.load_state_dict({{"served": 2}})  # as after two updates
digest = hashlib.sha256()
for batches in (data.train_dataloader(), data.test_dataloader()):
    for batch in batches:
        for part in (*batch.support, *batch.query):
            digest.update(part.numpy().tobytes())
print(digest.hexdigest(), data.fingerprint())
"""


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "arguments"), [("pictures", ("", "workers=2")), ("waves", ("", ""))]
)
def test_other_processes_serve_the_same_episodes(name, arguments, tmp_path):
    """Also where text is hashed in another way, and where workers load ahead."""
    printed = set()
    for seed, words in enumerate(arguments):
        code = SERVED.format(name=name, arguments=words)
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True,
            check=False, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": str(seed)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        printed.add(done.stdout)
    assert len(printed) == 1


def test_our_batches_have_the_form_of_its_own():
    from tests.with_torchmeta.loaders import pictures

    theirs = next(iter(pictures()["train"]))
    ours = next(
        iter(zoo.torchmeta_batches("glyphs", "train", way=5, shot=1, query=4, batch_size=4))
    )
    assert type(ours) is type(theirs) and [*ours] == [*theirs]
    for part in theirs:
        assert type(ours[part]) is type(theirs[part])
        for a, b in zip(ours[part], theirs[part], strict=True):
            assert (a.shape, a.dtype, a.is_contiguous()) == (b.shape, b.dtype, b.is_contiguous())


def test_its_loss_takes_our_batches():
    """A step of its prototypical loss on our batch is that on its own: the labels fit."""
    from torchmeta.utils.prototype import get_prototypes, prototypical_loss

    import zoo.torchmeta

    batch = next(iter(zoo.torchmeta_batches("glyphs", "train", shot=5, query=5)))
    (images, labels), (queries, answers) = batch["train"], batch["test"]
    prototypes = get_prototypes(images.flatten(2), labels, 5)
    right = prototypical_loss(prototypes, queries.flatten(2), answers)
    wrong = prototypical_loss(prototypes, queries.flatten(2), (answers + 1) % 5)
    assert torch.isfinite(right) and right < wrong
