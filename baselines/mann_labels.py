"""Episodes as sequences: their order, and the labels that a recurrent network reads and writes.

Nothing here draws random numbers: what must look random follows from a hash of the examples, so
that an episode is the same sequence whoever asks, and asking leaves no trace.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.episode import Episode, Examples, picked
from zoo.errors import UsageError

CHARACTERS = 5  # of a string, each one of as many letters
STRINGS = CHARACTERS**CHARACTERS
POSITIVE = 2**63 - 1


def hashed(x: Tensor) -> Tensor:
    """A 64-bit hash of each example's numbers: (T, n, ...) -> int64 (T, n)."""
    bits = x.float().flatten(2).contiguous().view(torch.int32).long()
    places = torch.arange(1, bits.shape[-1] + 1, device=x.device)
    return _mixed((bits * _mixed(places)).sum(-1))  # sums of integers: the same in any order


def key_of(support: Tensor) -> Tensor:
    """A number for each episode that follows from its support examples: (T, n, ...) -> (T,)."""
    return _mixed(hashed(support).sum(-1))


def both(episode: Episode) -> Examples:
    """Support and query examples side by side."""
    parts = zip(episode.support, episode.query, strict=True)
    return Examples(*(torch.cat(pair, 1) for pair in parts))


def shuffled(episode: Episode) -> tuple[Examples, Tensor, Tensor]:
    """Support and query examples as one sequence, in an order that follows from the examples.

    Args:
        episode: whose queries stand class by class, so that their order would tell their labels.

    Returns:
        The sequence; which example, support before query, stands at each step, (T, n); and the
        episode's key, as of `key_of`.
    """
    x, y = both(episode)
    each = hashed(x)
    key = _mixed(each[:, : episode.support.x.shape[1]].sum(-1))
    rank = _mixed(each ^ key.unsqueeze(1)) & POSITIVE
    order = rank.argsort(dim=1, stable=True)
    return picked(x, y, order), order, key


def instances(y: Tensor, way: int) -> Tensor:
    """How often its class has appeared up to each step, from 1: (T, n) -> (T, n)."""
    return F.one_hot(y, way).cumsum(1).gather(2, y.unsqueeze(-1)).squeeze(-1)


def by_instance(right: Tensor, y: Tensor, way: int) -> dict[str, Tensor]:
    """The share of classes whose K-th instance was right, for each K: bool (T, n) -> (T,) each."""
    count = instances(y, way)
    return {
        f"accuracy@instance{k}": (right & (count == k)).sum(1) / way
        for k in range(1, y.shape[1] // way + 1)
    }


class OneHot:
    """A class is one of N numbers."""

    def __init__(self, way: int) -> None:
        self.inputs = self.outputs = way

    def encode(self, y: Tensor, key: Tensor) -> Tensor:
        """One 1 at y."""
        return F.one_hot(y, self.inputs)

    def predict(self, answer: Tensor, key: Tensor, way: int) -> Tensor:
        """They are logits."""
        return answer

    def loss(self, answer: Tensor, key: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(answer.mT, y, reduction="none")

    def right(self, answer: Tensor, key: Tensor, y: Tensor) -> Tensor:
        """The largest of all."""
        return answer.argmax(-1) == y


class Strings:
    """A class is a string of five letters a-e, another one in each episode."""

    inputs = outputs = CHARACTERS * CHARACTERS

    def __init__(self, way: int) -> None:
        if way > STRINGS:
            raise UsageError(f"--way {way}: labels=strings has {STRINGS} strings")

    def of(self, y: Tensor, key: Tensor) -> Tensor:
        """The letters of classes y in episodes: (T, n), (T,) -> (T, n, 5)."""
        stride = CHARACTERS * (key >> 20) + 1  # prime to STRINGS: no two classes have one string
        number = (key.unsqueeze(1) + stride.unsqueeze(1) * y) % STRINGS
        scattered = torch.randperm(STRINGS, generator=torch.Generator().manual_seed(0))
        number = scattered.to(key.device)[number].unsqueeze(-1)
        return number // CHARACTERS ** torch.arange(CHARACTERS).to(number) % CHARACTERS

    def encode(self, y: Tensor, key: Tensor) -> Tensor:
        """One 1 a letter."""
        return F.one_hot(self.of(y, key), CHARACTERS).flatten(2)

    def predict(self, answer: Tensor, key: Tensor, way: int) -> Tensor:
        """The log-probability of each class's string."""
        classes = torch.arange(way, device=key.device).expand(len(key), -1)
        words = self.encode(classes, key).to(answer)  # (T, N, 25)
        return self._each(answer).log_softmax(-1).flatten(2) @ words.mT

    def loss(self, answer: Tensor, key: Tensor, y: Tensor) -> Tensor:
        """Five cross-entropies, summed."""
        each = self._each(answer).log_softmax(-1)
        return -each.gather(-1, self.of(y, key).unsqueeze(-1)).sum((-1, -2))

    def right(self, answer: Tensor, key: Tensor, y: Tensor) -> Tensor:
        """All five letters."""
        return (self._each(answer).argmax(-1) == self.of(y, key)).all(-1)

    def _each(self, answer: Tensor) -> Tensor:
        return answer.unflatten(-1, (CHARACTERS, CHARACTERS))


class Numbers:
    """Regression: numbers enter, and the mean and the deviation of normal ones are answered."""

    def __init__(self, outputs: int) -> None:
        self.inputs, self.outputs = outputs, 2 * outputs

    def encode(self, y: Tensor, key: Tensor) -> Tensor:
        """They are numbers."""
        return y

    def distribution(self, answer: Tensor) -> torch.distributions.Normal:
        """Of each number."""
        mean, raw = answer.chunk(2, -1)
        return torch.distributions.Normal(mean, F.softplus(raw) + 0.01, validate_args=False)

    def predict(self, answer: Tensor, key: Tensor, way: int) -> Tensor:
        """The mean."""
        return self.distribution(answer).mean

    def loss(self, answer: Tensor, key: Tensor, y: Tensor) -> Tensor:
        """The negative log-density."""
        return -self.distribution(answer).log_prob(y).sum(-1)

    def right(self, answer: Tensor, key: Tensor, y: Tensor) -> Tensor:
        """Never: numbers are near or far."""
        return torch.zeros(y.shape[:2], dtype=torch.bool, device=y.device)


Labels = OneHot | Strings | Numbers  # how a network reads a label, and what it answers with


def encoded(labels: Labels, y: Tensor, key: Tensor) -> Tensor:
    """As a network reads them, (T, n, inputs).

    Raises:
        UsageError: numbers for classes, or classes for numbers.
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
    """A bijection of the 64-bit integers that scatters them (after SplitMix64)."""
    x = (x ^ (x >> 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9, as a signed number
    x = (x ^ (x >> 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return x ^ (x >> 31)
