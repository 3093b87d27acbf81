"""Torchmeta's own loaders, for tests: a ClassDataset of ours, and its sine waves."""

import zoo.torchmeta  # noqa: F401, isort: skip
import numpy as np
from PIL import Image
from torchmeta.toy.helpers import sinusoid
from torchmeta.transforms import Categorical, ClassSplitter, Rotation
from torchmeta.utils.data import (
    BatchMetaDataLoader,
    ClassDataset,
    CombinationMetaDataset,
    Dataset,
)
from torchvision.transforms import Compose, RandomCrop, ToTensor

CLASSES = {"train": range(0, 12), "val": range(12, 20), "test": range(20, 28)}


class Pictures(Dataset):
    """Twelve noisy copies of one class's picture, 30x30."""

    def __init__(self, index, number, transform=None, target_transform=None):
        super().__init__(index, transform=transform, target_transform=target_transform)
        random = np.random.RandomState(number)
        mean = random.uniform(40, 215, (1, 6, 6)).repeat(5, 1).repeat(5, 2)
        pixels = mean + random.normal(0, 30, (12, 30, 30))
        self.images = pixels.clip(0, 255).astype(np.uint8)
        self.number = number

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, target = Image.fromarray(self.images[index]), self.number
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target


class PictureClasses(ClassDataset):
    """The classes of a split, as torchmeta's documentation has one write them."""

    def __init__(self, split, transform):
        rotations = [Rotation([90, 180])]
        super().__init__(meta_split=split, class_augmentations=rotations)
        self.numbers, self.transform = CLASSES[split], transform

    @property
    def num_classes(self):
        return len(self.numbers)

    def __getitem__(self, index):
        return Pictures(
            index,
            self.numbers[index % self.num_classes],
            transform=self.get_transform(index, self.transform),
            target_transform=self.get_target_transform(index),
        )


def pictures(workers=0):
    """5-way 1-shot loaders; training images are cropped at random, others in one way."""
    loaders = {}
    for split in CLASSES:
        transform = Compose([RandomCrop(28), ToTensor()])
        tasks = CombinationMetaDataset(
            PictureClasses(split, transform), 5, target_transform=Categorical(num_classes=5)
        )
        tasks = ClassSplitter(tasks, shuffle=True, num_train_per_class=1, num_test_per_class=4)
        loaders[split] = BatchMetaDataLoader(tasks, batch_size=4, num_workers=workers)
    return loaders


def waves():
    """Sine waves, 10 shots and 15 queries, support and query by the other names."""
    loaders = {}
    for split in CLASSES:
        tasks = sinusoid(shots=10, test_shots=15, num_tasks=1000)
        loaders[split] = BatchMetaDataLoader(tasks, batch_size=4)
    return loaders
