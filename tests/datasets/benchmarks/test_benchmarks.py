"""Benchmarks: their facts, their options, what is said when images are missing; real sets."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import in_full
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.episodes.image_store import Store
from zoo.errors import UsageError
from zoo.registry import benchmarks

ROOT = Path(__file__).parents[3]
IMAGES = ["miniimagenet", "cifarfs", "fc100", "omniglot", "omniglot[split=1200/423]"]  # at hand
PUBLISHED = [*IMAGES, "tieredimagenet", "cub"]
# Classes of train, val and test: formats as published, rotations counted.
CLASSES = {
    "miniimagenet": [64, 16, 20],
    "cifarfs": [64, 16, 20],
    "fc100": [60, 20, 20],
    "omniglot": [4112, 688, 1692],
    "omniglot[split=1200/423]": [4800, 1692],
    "tieredimagenet": [351, 97, 160],
    "cub": [100, 50, 50],
}


def test_every_benchmark_is_registered_with_a_summary() -> None:
    names = "cifarfs cub fc100 folder glyphs miniimagenet omniglot tieredimagenet"
    names += " sinusoid sinusoid_metasgd sinusoid_reptile harmonic gp completion tabular"
    assert set(names.split()) <= set(benchmarks.names())
    for key in benchmarks.names():
        benchmark = find_benchmark(key)
        assert benchmark.key == key
        assert benchmarks.entries[key].summary.endswith(".")
        if not benchmark.regression:
            assert len(benchmark.mean) == len(benchmark.std) == benchmark.image[0]


@pytest.mark.parametrize("variant", PUBLISHED)
def test_class_lists_have_the_published_counts_and_are_disjoint(variant: str) -> None:
    benchmark = find_benchmark(variant)
    assert list(benchmark.classes.values()) == CLASSES[variant]
    assert benchmark.splits == (["train", "test"] if "/" in variant else ["train", "val", "test"])
    names = [name for split in benchmark.lists().values() for name in split]
    assert len(set(names)) == len(names)
    assert benchmark.variant == variant


def test_both_splits_of_omniglot_are_tested_on_the_same_classes() -> None:
    vinyals, other = find_benchmark("omniglot").lists(), find_benchmark(IMAGES[-1]).lists()
    assert vinyals["test"] == other["test"]
    assert {*vinyals["train"], *vinyals["val"]} == {*other["train"]}


@pytest.mark.parametrize(
    ("variant", "advice"),
    [
        ("omniglott", "did you mean 'omniglot'"),
        ("omniglot[split=lake]", "choose from vinyals, 1200/423"),
        ("omniglot[size=28]", "no option 'size'; options: split"),
        ("glyphs[size=28]", "no option 'size'; it has no options"),
        ("cifarfs[size=28]", "'cifarfs': size=28 is unknown; choose from 32, 84"),
        ("omniglot[split=vinyals", "bracket"),
    ],
)
def test_an_unknown_variant_gets_advice(variant: str, advice: str) -> None:
    with pytest.raises(UsageError, match=advice.replace("[", r"\[")):
        find_benchmark(variant)


def test_the_default_option_is_not_spelled_out() -> None:
    assert find_benchmark("omniglot[split=vinyals]").variant == "omniglot"


@pytest.mark.parametrize(("key", "size", "other"), [("cifarfs", 32, 84), ("fc100", 32, 84),
                                                    ("miniimagenet", 84, 32)])  # fmt: skip
def test_images_may_have_another_size(key: str, size: int, other: int) -> None:
    plain, resized = (find_benchmark(f"{key}[size={each}]") for each in (size, other))
    assert (plain.variant, plain.image) == (key, (3, size, size))
    assert (resized.variant, resized.image) == (f"{key}[size={other}]", (3, other, other))
    assert resized.source.variant == plain.source.variant == key
    assert (resized.lists(), resized.mean) == (plain.lists(), plain.mean)


@pytest.mark.parametrize("variant", PUBLISHED)
def test_missing_images_get_one_screen_of_advice(variant: str, tmp_path: Path) -> None:
    benchmark = find_benchmark(variant)
    for data in (tmp_path, tmp_path / "nowhere", None):
        with pytest.raises(UsageError) as error:
            benchmark.open(data)
        screen = str(error.value)
        assert len(screen.splitlines()) <= 25
        assert max(map(len, screen.replace(str(data), "").splitlines())) <= 100
        for word in (benchmark.title, "https://", f"make table-{benchmark.key} DATA="):
            assert word in screen
        assert str(data or "no data folder was given") in screen
    assert list(tmp_path.iterdir()) == []


def test_facts_need_no_heavy_import() -> None:
    code = """if True:
        import sys
        from zoo.datasets.benchmarks.base import find_benchmark
        find_benchmark("omniglot[split=1200/423]").classes
        assert not {"torch", "numpy", "PIL"} & set(sys.modules)
    """
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_glyphs_need_no_data() -> None:
    pytest.importorskip("zoo.datasets.benchmarks.glyphs")
    benchmark = find_benchmark("glyphs")
    stores = benchmark.open(None)
    assert list(stores) == benchmark.splits == ["train", "val", "test"]
    for split, store in stores.items():
        assert store.images.shape[1:] == benchmark.image
        assert set(np.diff(store.offsets)) == {benchmark.per_class}
        assert len(store.names) == benchmark.classes[split]


@pytest.fixture(scope="module")
def data() -> Path:
    if not os.environ.get("ZOO_DATA"):
        pytest.skip("ZOO_DATA is not set")
    return Path(os.environ["ZOO_DATA"])


class Opened(dict[str, dict[str, Store]]):
    """Each benchmark's stores, opened when they are first asked for."""

    def __init__(self, data: Path) -> None:
        super().__init__()
        self.data = data

    def __missing__(self, variant: str) -> dict[str, Store]:
        self[variant] = find_benchmark(variant).open(self.data)
        return self[variant]


@pytest.fixture(scope="module")
def real(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """Stores built anew from the images below ZOO_DATA."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_STORE", str(folder))
        yield Opened(data)
    shutil.rmtree(folder)  # 1.9 GB, which pytest would keep for three sessions


@pytest.mark.slow
@pytest.mark.parametrize("variant", in_full(IMAGES, "miniimagenet", "cifarfs", "omniglot"))
def test_real_sets_have_the_published_counts(variant: str, real: Opened) -> None:
    benchmark, stores = find_benchmark(variant), real[variant]
    for split, count in zip(benchmark.splits, CLASSES[variant], strict=True):
        store = stores[split]
        assert store.images.shape == (count * benchmark.per_class, *benchmark.image)
        assert len(set(store.names)) == len(store.names) == count
        assert set(np.diff(store.offsets)) == {benchmark.per_class}


@pytest.mark.slow
@pytest.mark.parametrize("variant", in_full(IMAGES[:3], "miniimagenet", "cifarfs"))
def test_real_colour_sets_are_normalised_and_rgb(variant: str, real: Opened) -> None:
    images = real[variant]["train"].images[::40].double() / 255
    benchmark = find_benchmark(variant)
    means = images.mean((0, 2, 3))
    assert means[0] > means[2] + 10 / 255  # red above blue: not BGR
    assert np.allclose(means, benchmark.mean, atol=5 / 255)
    assert np.allclose(images.std((0, 2, 3)), benchmark.std, atol=1 / 255)


@pytest.mark.slow
def test_real_rows_are_the_files_pixels(real: Opened, data: Path) -> None:
    store = real["miniimagenet"]["val"]
    files = sorted((data / "miniimagenet" / "images").glob(f"{store.names[3]}*"))
    with Image.open(files[7]) as image:
        pixels = np.asarray(image).transpose(2, 0, 1)
    rows = store.images[store.offsets[3] : store.offsets[4]].numpy()
    assert (rows == pixels).all((1, 2, 3)).sum() == 1


@pytest.mark.slow
def test_real_rotations_are_new_classes(real: Opened) -> None:
    store = real["omniglot"]["val"]
    upright, turned = (store.images[store.offsets[c] : store.offsets[c + 1]] for c in (0, 1))
    assert store.names[:2] == ["Hebrew/character01/rot000", "Hebrew/character01/rot090"]
    assert not upright.equal(turned)
    assert abs(upright.rot90(1, (2, 3)).int() - turned.int()).max() <= 1
    assert 10 < store.images.double().mean() < 40  # ink is 255 and rare


@pytest.mark.slow
def test_real_stores_open_at_once(real: Opened, data: Path) -> None:
    first = real["miniimagenet"]
    start = time.monotonic()
    again = find_benchmark("miniimagenet").open(data)
    assert time.monotonic() - start < 0.2
    assert again["test"].fingerprint == first["test"].fingerprint


@pytest.mark.slow
@pytest.mark.full
def test_both_splits_of_omniglot_are_tested_on_the_same_images(real: Opened) -> None:
    assert real["omniglot"]["test"].fingerprint == real[IMAGES[-1]]["test"].fingerprint
