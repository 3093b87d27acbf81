"""Learners on a host that is asked for: their classes are made on the spot."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch

import zoo
from zoo.registry import learner_of


def saved_by_torch(learner):
    file = io.BytesIO()
    torch.save(learner, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("host", ["protonet", "anil", "metasgd", "tnet"])
def test_a_learner_on_a_host_can_be_pickled(host):
    """It comes back as the same class, with its settings and weights."""
    _, cls, _ = learner_of(f"trlearner[host={host}]")
    learner = cls(zoo.build_backbone("conv4_strided[channels=4]", (1, 28, 28)), 3).eval()
    again = (
        pickle.loads(pickle.dumps(learner)),
        copy.deepcopy(learner),
        saved_by_torch(learner),
    )
    for other in again:
        assert type(other) is cls and other.hparams == learner.hparams and not other.training
        for name, value in learner.state_dict().items():
            assert torch.equal(other.state_dict()[name], value)


def test_in_another_process(tmp_path):
    """Which has not made the class yet."""
    _, cls, _ = learner_of("trlearner[host=protonet]")
    learner = cls(zoo.build_backbone("conv4_strided[channels=4]", (1, 28, 28)), 3)
    torch.save(learner, tmp_path / "learner.pt")
    code = (
        "import sys, torch; learner = torch.load(sys.argv[1], weights_only=False);"
        "print(type(learner).__name__, learner.way)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "learner.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["TRLearnerOnProtoNet", "3"]
