"""Episodes as sequences: the order of the examples, and the labels that a network reads.

Nothing here draws random numbers. What must look random is computed from a hash of the examples,
so that an episode is always the same sequence, and the state of random generators does not change.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.episode import Episode, Examples, picked
from zoo.errors import UsageError

CHARACTERS = 5  # in a string; each is one of 5 letters
STRINGS = CHARACTERS**CHARACTERS
POSITIVE = 2**63 - 1


def hashed(x: Tensor) -> Tensor:
    """A 64-bit hash of each example's numbers: (T, n, ...) -> int64 (T, n)."""
    bits = x.float().flatten(2).contiguous().view(torch.int32).long()
    positions = torch.arange(1, bits.shape[-1] + 1, device=x.device)
    # A sum of integers is the same in any order.
    return _mixed((bits * _mixed(positions)).sum(-1))


def key_of(support: Tensor) -> Tensor:
    """A number for each episode, computed from its support examples: (T, n, ...) -> (T,)."""
    return _mixed(hashed(support).sum(-1))


def all_examples(episode: Episode) -> Examples:
    """The support's examples, then the queries."""
    x = torch.cat([episode.support.x, episode.query.x], 1)
    return Examples(x, torch.cat([episode.support.y, episode.query.y], 1))


def shuffled(episode: Episode) -> tuple[Examples, Tensor, Tensor]:
    """Support and query examples as one sequence, in an order computed from the examples.

    The queries of an episode are sorted by class, so their own order would give away their labels.

    Returns:
        The sequence; for each step the number of its example, (T, n), where the support's examples
        are numbered first; and the episodes' keys (T,), see `key_of`.
    """
    x, y = all_examples(episode)
    hashes = hashed(x)
    key = _mixed(hashes[:, : episode.support.x.shape[1]].sum(-1))
    rank = _mixed(hashes ^ key.unsqueeze(1)) & POSITIVE
    order = rank.argsort(dim=1, stable=True)
    return picked(x, y, order), order, key


def instances(y: Tensor, way: int) -> Tensor:
    """How often the class of each step has appeared until then, itself included: (T, n)."""
    return F.one_hot(y, way).cumsum(1).gather(2, y.unsqueeze(-1)).squeeze(-1)


def by_instance(right: Tensor, y: Tensor, way: int) -> dict[str, Tensor]:
    """For each K, the share of classes whose K-th instance was right: bool (T, n) -> (T,)."""
    count = instances(y, way)
    return {
        f"accuracy@instance{k}": (right & (count == k)).sum(1) / way
        for k in range(1, y.shape[1] // way + 1)
    }


# Three kinds of labels. Each has `inputs`, the number of numbers that the network reads of a label,
# `outputs`, the number of numbers in an answer of the network, and these methods:
# - encode: labels y (T, n) -> what the network reads (T, n, inputs)
# - predict: answers (T, n, outputs) -> logits (T, n, N), in regression means
# - loss: the loss of each answer, (T, n)
# - right: whether each answer is right, bool (T, n)
# Each is also given the episodes' keys (T,), see `key_of`.


class OneHot:
    """Labels as one-hot vectors of the N classes."""

    def __init__(self, way: int) -> None:
        self.inputs = self.outputs = way

    def encode(self, y: Tensor, key: Tensor) -> Tensor:
        """A one-hot vector."""
        return F.one_hot(y, self.inputs)

    def predict(self, answers: Tensor, key: Tensor, way: int) -> Tensor:
        """The answers, which are logits."""
        return answers

    def loss(self, answers: Tensor, key: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(answers.mT, y, reduction="none")

    def right(self, answers: Tensor, key: Tensor, y: Tensor) -> Tensor:
        """Whether the largest logit is that of the class."""
        return answers.argmax(-1) == y


class Strings:
    """Labels as strings of five letters a-e; a class has another string in each episode."""

    inputs = outputs = CHARACTERS * CHARACTERS

    def __init__(self, way: int) -> None:
        if way > STRINGS:
            raise UsageError(f"--way {way}: labels=strings has {STRINGS} strings")

    def of(self, y: Tensor, key: Tensor) -> Tensor:
        """The letters of classes y (T, n) in the episodes of keys (T,): (T, n, 5)."""
        stride = CHARACTERS * (key >> 20) + 1  # coprime to STRINGS, so that strings are distinct
        number = (key.unsqueeze(1) + stride.unsqueeze(1) * y) % STRINGS
        scattered = torch.randperm(STRINGS, generator=torch.Generator().manual_seed(0))
        number = scattered.to(key.device)[number].unsqueeze(-1)
        return number // CHARACTERS ** torch.arange(CHARACTERS).to(number) % CHARACTERS

    def encode(self, y: Tensor, key: Tensor) -> Tensor:
        """A one-hot vector of each letter."""
        return F.one_hot(self.of(y, key), CHARACTERS).flatten(2)

    def predict(self, answers: Tensor, key: Tensor, way: int) -> Tensor:
        """The log-probability of each class's string."""
        classes = torch.arange(way, device=key.device).expand(len(key), -1)
        words = self.encode(classes, key).to(answers)  # (T, N, 25)
        return self._by_letter(answers).log_softmax(-1).flatten(2) @ words.mT

    def loss(self, answers: Tensor, key: Tensor, y: Tensor) -> Tensor:
        """The sum of five cross-entropies, one per letter."""
        log_p = self._by_letter(answers).log_softmax(-1)
        return -log_p.gather(-1, self.of(y, key).unsqueeze(-1)).sum((-1, -2))

    def right(self, answers: Tensor, key: Tensor, y: Tensor) -> Tensor:
        """Whether all five letters are right."""
        return (self._by_letter(answers).argmax(-1) == self.of(y, key)).all(-1)

    def _by_letter(self, answers: Tensor) -> Tensor:
        """Logits of each letter: (T, n, 25) -> (T, n, 5, 5)."""
        return answers.unflatten(-1, (CHARACTERS, CHARACTERS))


class Numbers:
    """Regression: labels are numbers, and an answer is the mean and deviation of a normal."""

    def __init__(self, outputs: int) -> None:
        self.inputs, self.outputs = outputs, 2 * outputs

    def encode(self, y: Tensor, key: Tensor) -> Tensor:
        """The numbers themselves."""
        return y

    def distribution(self, answers: Tensor) -> torch.distributions.Normal:
        """The normal distribution of each number."""
        mean, raw = answers.chunk(2, -1)
        return torch.distributions.Normal(mean, F.softplus(raw) + 0.01, validate_args=False)

    def predict(self, answers: Tensor, key: Tensor, way: int) -> Tensor:
        """The mean."""
        return self.distribution(answers).mean

    def loss(self, answers: Tensor, key: Tensor, y: Tensor) -> Tensor:
        """The negative log-density, summed over outputs."""
        return -self.distribution(answers).log_prob(y).sum(-1)

    def right(self, answers: Tensor, key: Tensor, y: Tensor) -> Tensor:
        """Always false: a number is never exactly right."""
        return torch.zeros(y.shape[:2], dtype=torch.bool, device=y.device)


Labels = OneHot | Strings | Numbers


def encoded(labels: Labels, y: Tensor, key: Tensor) -> Tensor:
    """What the network reads of labels y (T, n): (T, n, inputs).

    Raises:
        UsageError: regression with labels for classes, or classes with labels for regression.
    """
    if y.is_floating_point() != isinstance(labels, Numbers):
        raise UsageError("labels: numbers are for regression, one_hot and strings for classes")
    return labels.encode(y, key)


LABELS: dict[str, Callable[[int], Labels]] = {
    "one_hot": OneHot,
    "strings": Strings,
    "numbers": Numbers,
}


def _mixed(x: Tensor) -> Tensor:
    """Map 64-bit integers one to one to integers that look random (after SplitMix64)."""
    x = (x ^ (x >> 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9, as a signed number
    x = (x ^ (x >> 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return x ^ (x >> 31)
