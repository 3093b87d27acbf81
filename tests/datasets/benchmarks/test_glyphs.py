"""The committed file of Glyphs is small, whole, free of twins and neither easy nor hopeless."""

from pathlib import Path

import numpy as np
import pytest

from zoo.datasets.benchmarks import glyph_rendering, glyphs

FILE = Path(glyphs.__file__).with_name("glyphs.npz")
SCRIPTS = {"val": {"CYRILLIC"}, "test": {"GREEK", "ARMENIAN", "GEORGIAN"}}


@pytest.fixture(scope="module")
def splits() -> dict[str, tuple[list[str], np.ndarray]]:
    return glyphs.load()


def chars(names: list[str]) -> list[str]:
    return [chr(int(name.split()[0][2:], 16)) for name in names]


def one_nn(images: np.ndarray, episodes: int = 1000, way: int = 5, queries: int = 5) -> float:
    """5-way 1-shot accuracy of the nearest neighbour by Euclidean distance of raw pixels."""
    rng = np.random.default_rng(0)
    right = []
    for _ in range(episodes):
        classes = rng.choice(len(images), way, replace=False)
        drawings = np.stack([rng.choice(20, 1 + queries, replace=False) for _ in classes])
        episode = images[classes[:, None], drawings].reshape(way, 1 + queries, -1) / 255.0
        gap = episode[:, 1:, None] - episode[None, None, :, 0]
        right.append((np.square(gap).sum(-1).argmin(-1) == np.arange(way)[:, None]).mean())
    return float(np.mean(right))


def test_the_file_is_small_and_holds_no_pickles():
    assert FILE.stat().st_size <= 2.5e6
    with np.load(FILE, allow_pickle=False) as file:
        packed, codes, split = file["images_packed"], file["codepoints"], file["split"]
    assert packed.dtype == np.uint8 and packed.shape == (len(codes), 20, 98)
    assert codes.dtype == np.int32 and split.dtype == np.uint8 and split.shape == codes.shape


def test_shapes_and_counts(splits):
    assert {part: len(names) for part, (names, _) in splits.items()} == {
        "train": 914,
        "val": 104,
        "test": 162,
    }
    for names, images in splits.values():
        assert images.shape == (len(names), 20, 28, 28) and images.dtype == np.uint8
        assert set(np.unique(images)) == {0, 255}


def test_every_drawing_has_ink_and_differs_from_every_other(splits):
    images = np.concatenate([images for _, images in splits.values()]).reshape(-1, 784)
    assert (images > 0).sum(1).min() >= 20
    assert (images > 0).mean(1).max() <= 0.75
    assert len(np.unique(np.packbits(images, axis=-1), axis=0)) == len(images)


def test_splits_share_no_character_and_no_script(splits):
    everything = [name for names, _ in splits.values() for name in names]
    assert len(set(everything)) == len(everything)
    for part, scripts in SCRIPTS.items():
        assert {name.split()[1] for name in splits[part][0]} == scripts
    first = {name.split()[1] for name in splits["train"][0]}
    assert "LATIN" in first and not first & (SCRIPTS["val"] | SCRIPTS["test"])


def test_one_nearest_neighbour_is_neither_easy_nor_hopeless(splits):
    assert 0.45 <= one_nn(splits["test"][1]) <= 0.75


def test_no_val_or_test_class_has_a_twin(splits):
    train, val, test = (chars(splits[part][0]) for part in ("train", "val", "test"))
    twin = glyph_rendering.twins(val + test, val + test + train)
    np.fill_diagonal(twin, False)
    pairs = [((val + test)[i], (val + test + train)[j]) for i, j in np.argwhere(twin)]
    assert pairs == []


def test_the_measure_of_twins_knows_twins():
    assert glyph_rendering.twins("Aoѱcẃ", "АօѰϲẁ").diagonal().all()
    assert not glyph_rendering.twins("AoжΓ+", "Δxшҕ→").diagonal().any()


@pytest.mark.parametrize(
    ("char", "script"),
    [("a", "basic"), ("7", "basic"), ("ß", "other"), ("Ж", "cyrillic"), ("β", "greek"),
     ("Ա", "armenian"), ("ა", "georgian"), ("א", None), ("ﬁ", None), ("é", "other")],
)  # fmt: skip
def test_characters_belong_to_their_scripts(char, script):
    assert glyph_rendering.source(char) == script
