"""ProtoNet against cases worked out by hand."""

import torch
from torch import nn

from zoo import Episode, Examples
from zoo.baselines.protonet import ProtoNet
from zoo.methods.embedding import prototypes, squared_distances


class Identity(nn.Module):
    """Features are the pixels."""

    features = 2

    def forward(self, x):
        return x.flatten(1)


def test_prototypes_are_class_means():
    z = torch.tensor([[[0.0, 0.0], [4.0, 2.0], [2.0, 0.0], [0.0, 2.0]]])
    y = torch.tensor([[0, 1, 0, 1]])
    expected = torch.tensor([[[1.0, 0.0], [2.0, 2.0]]])
    torch.testing.assert_close(prototypes(z, y, 2), expected)


def test_squared_distances():
    a, b = torch.randn(2, 3, 7), torch.randn(2, 4, 7)
    expected = (a[:, :, None] - b[:, None]).square().sum(-1)
    torch.testing.assert_close(squared_distances(a, b), expected, rtol=1e-4, atol=1e-4)


def test_an_episode_by_hand():
    """Prototypes (1, 0) and (2, 2); the query (1, 1) is at squared distances 1 and 2."""
    support = Examples(
        torch.tensor([[[0.0, 0.0], [2.0, 0.0], [4.0, 2.0], [0.0, 2.0]]]),
        torch.tensor([[0, 0, 1, 1]]),
    )
    query = Examples(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[0]]))
    learner = ProtoNet(Identity(), 2).eval()
    episode = Episode(support, query, 2)
    torch.testing.assert_close(learner(episode), torch.tensor([[[-1.0, -2.0]]]))
    p = 1 / (1 + torch.exp(torch.tensor(-1.0)))
    torch.testing.assert_close(learner.meta_loss(episode), -p.log())


def test_the_rate_is_halved_ten_times():
    learner = ProtoNet(Identity(), 2)
    assert [learner.anneal(done) for done in (0, 0.09, 0.1, 0.55, 0.999)] == [
        1,
        1,
        0.5,
        0.5**5,
        0.5**9,
    ]
