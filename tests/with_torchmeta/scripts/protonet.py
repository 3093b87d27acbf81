"""Prototypical networks on CIFAR-FS: python -m zoo.torchmeta protonet.py FOLDER.

Prints the accuracy on test tasks before and after training.
"""

import random
import sys
from itertools import islice

import torch
from torch import nn
from torchmeta.datasets.helpers import cifar_fs
from torchmeta.utils.data import BatchMetaDataLoader
from torchmeta.utils.prototype import get_prototypes, prototypical_loss

WAYS = 5


def batches(folder, split, count):
    dataset = cifar_fs(folder, ways=WAYS, shots=5, test_shots=5, meta_split=split, seed=0)
    return islice(BatchMetaDataLoader(dataset, batch_size=4), count)


def prototypes_and_queries(network, batch):
    """Prototypes (T, N, D), embedded queries (T, n, D), and their labels (T, n)."""
    (images, labels), (queries, answers) = batch["train"], batch["test"]
    support, embedded = (
        network(x.flatten(0, 1)).unflatten(0, x.shape[:2]) for x in (images, queries)
    )
    return get_prototypes(support, labels, WAYS), embedded, answers


def accuracy(network, folder):
    right = []
    with torch.no_grad():
        for batch in batches(folder, "test", 20):
            prototypes, queries, answers = prototypes_and_queries(network, batch)
            nearest = torch.cdist(queries, prototypes).argmin(2)
            right.append((nearest == answers).float().mean().item())
    return sum(right) / len(right)


def main(folder):
    random.seed(0)  # draws the classes of the tasks
    torch.manual_seed(0)
    layers = []
    for inputs in (3, 32, 32, 32):
        layers += [nn.Conv2d(inputs, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    network = nn.Sequential(*layers, nn.Flatten())
    before = accuracy(network, folder)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for batch in batches(folder, "train", 60):
        loss = prototypical_loss(*prototypes_and_queries(network, batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"before {before:.3f} after {accuracy(network, folder):.3f}")


main(sys.argv[1])
