"""MAML on torchmeta's sine waves: python -m zoo.torchmeta sinusoid.py.

Prints the mean squared error on new tasks before and after one gradient step.
"""

import sys
from collections import OrderedDict
from itertools import islice

import torch
from torch import nn
from torch.nn import functional as F
from torchmeta.modules import MetaLinear, MetaSequential
from torchmeta.toy.helpers import sinusoid
from torchmeta.utils.data import BatchMetaDataLoader
from torchmeta.utils.gradient_based import gradient_update_parameters


def batches(seed, count):
    dataset = sinusoid(shots=10, test_shots=10, num_tasks=10_000, seed=seed)
    return islice(BatchMetaDataLoader(dataset, batch_size=16, num_workers=1), count)


def query_loss(network, support, query, steps):
    params = OrderedDict(network.meta_named_parameters())
    for _ in range(steps):
        loss = F.mse_loss(network(support[0].float(), params=params), support[1].float())
        params = gradient_update_parameters(network, loss, params=params, step_size=0.01)
    return F.mse_loss(network(query[0].float(), params=params), query[1].float())


def mean_loss(network, batch, steps):
    pairs = [zip(*batch[part], strict=True) for part in ("train", "test")]
    losses = [query_loss(network, *task, steps) for task in zip(*pairs, strict=True)]
    return torch.stack(losses).mean()


def main():
    torch.manual_seed(0)
    network = MetaSequential(
        MetaLinear(1, 40), nn.ReLU(), MetaLinear(40, 40), nn.ReLU(), MetaLinear(40, 1)
    )
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for batch in batches(0, 300):
        loss = mean_loss(network, batch, steps=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    test = [*batches(1, 10)]
    before, after = (
        sum(mean_loss(network, batch, steps).item() for batch in test) / len(test)
        for steps in (0, 1)
    )
    print(f"before {before:.3f} after {after:.3f}")


assert not sys.argv[1:], "sinusoid.py takes no arguments"
main()
