"""Matching networks on Omniglot: python -m zoo.torchmeta matching.py FOLDER.

The data set is built by hand, of Omniglot, Categorical, Rotation and ClassSplitter, where maml.py
takes the helper. Prints the accuracy on test tasks before and after training.
"""

import random
import sys
from itertools import islice

import torch
from torch import nn
from torchmeta.datasets import Omniglot
from torchmeta.transforms import Categorical, ClassSplitter, Rotation
from torchmeta.utils.data import BatchMetaDataLoader
from torchmeta.utils.matching import matching_log_probas, matching_loss
from torchvision.transforms import Compose, Resize, ToTensor

WAYS = 5


def batches(folder, split, count):
    dataset = Omniglot(
        folder,
        num_classes_per_task=WAYS,
        transform=Compose([Resize(28), ToTensor()]),
        target_transform=Categorical(num_classes=WAYS),
        class_augmentations=[Rotation([90, 180, 270])],
        meta_split=split,
    )
    dataset = ClassSplitter(dataset, shuffle=True, num_train_per_class=1, num_test_per_class=5)
    dataset.seed(0)
    return islice(BatchMetaDataLoader(dataset, batch_size=8), count)


def embedded(network, images):
    return network(images.flatten(0, 1)).unflatten(0, images.shape[:2])


def accuracy(network, folder):
    right = []
    with torch.no_grad():
        for batch in batches(folder, "test", 20):
            (images, labels), (queries, answers) = batch["train"], batch["test"]
            scores = matching_log_probas(
                embedded(network, images), labels, embedded(network, queries), WAYS
            )
            right.append((scores.argmax(1) == answers).float().mean().item())
    return sum(right) / len(right)


def main(folder):
    random.seed(0)  # draws the classes of the tasks
    torch.manual_seed(0)
    layers = []
    for inputs in (1, 32, 32, 32):
        layers += [nn.Conv2d(inputs, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    network = nn.Sequential(*layers, nn.Flatten())
    before = accuracy(network, folder)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for batch in batches(folder, "train", 60):
        (images, labels), (queries, answers) = batch["train"], batch["test"]
        loss = matching_loss(
            embedded(network, images), labels, embedded(network, queries), answers, WAYS
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"before {before:.3f} after {accuracy(network, folder):.3f}")


main(sys.argv[1])
