"""MAML on Omniglot with torchmeta's own modules: python -m zoo.torchmeta maml.py FOLDER.

Trains for some meta-batches and prints the query accuracy before and after one gradient step, on
test tasks.
"""

import random
import sys
from itertools import islice

import torch
from torch import nn
from torch.nn import functional as F
from torchmeta.datasets.helpers import omniglot
from torchmeta.modules import MetaBatchNorm2d, MetaConv2d, MetaLinear, MetaModule, MetaSequential
from torchmeta.utils.data import BatchMetaDataLoader
from torchmeta.utils.gradient_based import gradient_update_parameters

WAYS = 5
RATE = 0.4


def block(inputs, outputs):
    return MetaSequential(
        MetaConv2d(inputs, outputs, 3, stride=2, padding=1),
        MetaBatchNorm2d(outputs, momentum=1.0, track_running_stats=False),
        nn.ReLU(),
    )


class Network(MetaModule):
    def __init__(self, channels=32):
        super().__init__()
        blocks = [block(1, channels), *(block(channels, channels) for _ in range(3))]
        self.features = MetaSequential(*blocks)
        self.head = MetaLinear(channels * 4, WAYS)

    def forward(self, images, params=None):
        features = self.features(images, params=self.get_subdict(params, "features"))
        return self.head(features.flatten(1), params=self.get_subdict(params, "head"))


def batches(folder, split, count):
    dataset = omniglot(folder, ways=WAYS, shots=1, test_shots=5, meta_split=split, seed=0)
    return islice(BatchMetaDataLoader(dataset, batch_size=4), count)


def query_logits(network, task, steps):
    (images, labels), (queries, answers) = task
    params = None
    for _ in range(steps):
        loss = F.cross_entropy(network(images, params=params), labels)
        network.zero_grad()
        params = gradient_update_parameters(network, loss, params=params, step_size=RATE)
    return network(queries, params=params), answers


def tasks_of(batch):
    pairs = [zip(*batch[part], strict=True) for part in ("train", "test")]
    return zip(*pairs, strict=True)


def accuracy(network, folder, steps):
    right = []
    for batch in batches(folder, "test", 10):
        for task in tasks_of(batch):
            logits, answers = query_logits(network, task, steps)
            right.append((logits.argmax(1) == answers).float().mean().item())
    return sum(right) / len(right)


def main(folder):
    random.seed(0)  # draws the classes of the tasks
    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for batch in batches(folder, "train", 60):
        losses = [
            F.cross_entropy(*query_logits(network, task, steps=1)) for task in tasks_of(batch)
        ]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    print(f"before {accuracy(network, folder, 0):.3f} after {accuracy(network, folder, 1):.3f}")


main(sys.argv[1])
