"""Episodes: distinct, uniform, nested over shots, and the same for ever."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import sampler
from zoo.datasets.episodes.hash_random import derive, draw, key_of
from zoo.datasets.episodes.sampler import fingerprint
from zoo.errors import UsageError


def test_the_hash_is_splitmix64():
    """The published generator's first outputs for seed 1234567."""
    key = np.array([1234567], np.uint64)
    outputs = derive(key, np.arange(3, dtype=np.uint64))
    assert outputs.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


# These hashes are for ever: a change means that results are no longer comparable.
GOLDEN = {
    ("test", 0, 5, 1, 15): "ba596a8fe0d13e89",
    ("test", 0, 5, 5, 15): "7be169b529cff5a6",
    ("train", 7, 20, 1, 5): "a3ec7a7ffdd38bcd",
}


@pytest.mark.parametrize(("protocol", "expected"), GOLDEN.items())
def test_golden_episodes(protocol, expected):
    split, seed, way, shot, query = protocol
    drawn = sampler([600] * 64, way, shot, query, split, seed).indices(0, 100)
    assert fingerprint(drawn) == expected


def test_a_golden_episode_in_full():
    drawn = sampler([20] * 10, 2, 1, 2, "test", 0).indices(3, 1)
    expected = [[[9, 8]], [[[3, 0, 16], [10, 13, 11]]], [[1, 0]]]
    assert [part.tolist() for part in drawn] == expected


@given(
    way=st.integers(1, 6), shot=st.integers(1, 4), query=st.integers(1, 4), first=st.integers(0, 99)
)
def test_episodes_are_well_formed(way, shot, query, first):
    counts = np.array([8, 9, 20, 11, 30, 8])
    drawn = sampler(counts, way, shot, query).indices(first, 7)
    assert drawn.classes.shape == (7, way) and drawn.images.shape == (7, way, query + shot)
    for classes, images, order in zip(*drawn, strict=True):
        assert len(set(classes)) == way
        assert sorted(order) == list(range(way * shot))
        for c, chosen in zip(classes, images, strict=True):
            assert len(set(chosen)) == query + shot, "support and query share an image"
            assert 0 <= chosen.min() and chosen.max() < counts[c]


def test_shots_are_nested_and_queries_the_same():
    one, five = (sampler([20] * 50, 5, shot, 5).indices(0, 30) for shot in (1, 5))
    assert np.array_equal(one.classes, five.classes)
    assert np.array_equal(one.images, five.images[..., :6])


def test_an_episode_does_not_depend_on_its_neighbours():
    whole = sampler([20] * 50).indices(0, 2000)
    part = sampler([20] * 50).indices(1500, 3)
    assert all(np.array_equal(a[1500:1503], b) for a, b in zip(whole, part, strict=True))


def test_splits_and_seeds_differ():
    drawn = [
        sampler([20] * 50, 5, 1, 5, *w).indices(0, 9).classes.tolist()
        for w in (("train", 0), ("train", 1), ("val", 0), ("test", 0))
    ]
    assert all(a != b for i, a in enumerate(drawn) for b in drawn[:i])


def test_draws_are_uniform():
    """Each of 7 numbers equally often at each of 3 places: chi-square over 14,000 rows."""
    keys = derive(key_of("uniform"), np.arange(14000, dtype=np.uint64))
    drawn = draw(keys, np.full(14000, 7), 3)
    for place in drawn.T:
        counts = np.bincount(place, minlength=7)
        assert ((counts - 2000) ** 2 / 2000).sum() < 22.5  # p = 0.001 at 6 degrees of freedom
    pairs = np.bincount(drawn[:, 0] * 7 + drawn[:, 1], minlength=49)
    off_diagonal = pairs[~np.eye(7, dtype=bool).ravel()]
    assert pairs.sum() == off_diagonal.sum()
    assert ((off_diagonal - 14000 / 42) ** 2 / (14000 / 42)).sum() < 75  # 41 degrees of freedom


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([20] * 4, 5, 1, 3), "--way 5: the split has only 4 classes; take --way 4 at most"),
        (
            ([20] * 9 + [7], 5, 5, 3),
            "shot 5 + query 3: the smallest class has only 7 images; take --query 2 at most",
        ),
    ],
)
def test_impossible_episodes_are_refused(arguments, says):
    with pytest.raises(UsageError) as error:
        sampler(*arguments)
    assert says in str(error.value)
