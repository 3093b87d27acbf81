"""Networks that are given to a learner directly: checked on the first images, in one line."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

import zoo
from tests.conftest import episode_of
from zoo.errors import UsageError
from zoo.networks.backbone import prepare_backbone


class Net(nn.Module):
    """A small encoder, with whatever a test changes."""

    def __init__(self, features=16, stem=None, flat=True):
        super().__init__()
        self.features, self.flat = features, flat
        self.stem = stem or nn.Conv2d(1, 4, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(2)

    def forward(self, x):
        z = self.pool(self.stem(x).relu())
        return z.flatten(1) if self.flat else z


class InPlace(Net):
    def forward(self, x):
        return super().forward(x.sub_(0.5).div_(0.3))


class Frozen(InPlace):
    def __init__(self):
        super().__init__()
        self.stem.requires_grad_(False)
        self.last = nn.Linear(16, 16)

    def forward(self, x):
        return self.last(super().forward(x))


class NoGrad(Net):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


def fit(learner):
    episode = episode_of(tasks=2, way=3, shot=1, query=2, image=(1, 8, 8))
    trainer = pl.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(learner, DataLoader([episode], batch_size=None))


@pytest.mark.parametrize("key", ["maml", "reptile", "metasgd", "tnet", "anil", "protonet", "cnp"])
@pytest.mark.parametrize(
    ("net", "says"),
    [
        (lambda: Net(features=17), r"of 2 images \(1, 8, 8\) it gives .* \(2, 16\); expected"),
        (lambda: Net(flat=False), r"it gives .* \(2, 4, 2, 2\); expected floats \(2, 16\), a row"),
        (InPlace, "changes the images that it is given, by an operation in place"),
        (Frozen, "changes the images that it is given, by an operation in place"),
        (lambda: Net(stem=nn.Conv2d(3, 4, 3)), "cannot compute on 2 images"),
    ],
)
def test_a_network_that_breaks_the_contract_is_refused(key, net, says):
    with pytest.raises(UsageError, match=says) as caught:
        fit(zoo.learners.get(key)(net(), 3))
    assert "\n" not in str(caught.value)


def test_lazy_layers_are_refused_at_once():
    lazy = Net(stem=nn.LazyConv2d(4, 3))
    with pytest.raises(UsageError, match="it has lazy layers, whose weights have no shape yet"):
        zoo.learners.get("maml")(lazy, 3)
    lazy(torch.zeros(2, 1, 8, 8))
    fit(zoo.learners.get("maml")(lazy, 3))


def test_a_network_without_gradients_is_refused():
    with pytest.raises(UsageError, match=r"the loss depends on nothing that is learned: does the"):
        fit(zoo.learners.get("protonet")(NoGrad(), 3))


@pytest.mark.parametrize("net", [InPlace, Frozen])
def test_a_registered_network_that_changes_its_input_is_refused(net):
    with pytest.raises(UsageError, match="by an operation in place"):
        prepare_backbone(net(), (1, 8, 8))


@pytest.mark.parametrize("key", ["maml", "tnet", "metasgd", "anil", "reptile"])
def test_predictions_leave_the_episode_as_it_is(key):
    """Even where no batch was checked before: the network would normalise again in each step."""
    learner = zoo.learners.get(key)(Frozen(), 3).eval()
    episode = episode_of(tasks=2, way=3, shot=1, query=2, image=(1, 8, 8))
    with pytest.raises(UsageError, match="by an operation in place"):
        learner(episode)
