"""Files of every form with a byte changed or an end cut off: an error in one line, or the images.

Nothing else may come of damage: no exception from deep inside, no class under another's name. What
has checksums (PNG, npz) must be right to the pixel; in raw pixels of pickles and HDF5 files nobody
can tell a changed byte, so there only classes, counts and shapes are compared.
"""

import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import in_full
from tests.datasets.readers.test_bad_forms import KINDS, small_benchmark
from tests.support import pictures
from tests.support.forms import FORMS
from tests.support.pictures import Tables
from zoo.errors import UsageError

EDGE = 1500  # bytes at either end of a file, where headers are: hit as often as all others
ROOM = 2 << 30  # bytes: what a damaged file of some kilobytes may ask for, at most

FUZZED = [
    name
    for name in FORMS
    # Others differ from these in names and folders alone.
    if name not in ("miniimagenet: yaoyao", "tieredimagenet: split folders", "fc100: r2d2")
    and not name.startswith("fc100: C")
]
Images = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Sample:
    """A small set in one form, and the images in it."""

    name: str
    root: Path
    files: list[Path]
    images: Images


@cache
def small(name: str) -> Tables:
    """Two classes a split, two images each; CIFAR-100's own form names all hundred."""
    tables = pictures.tables_of(FORMS[name].benchmark)
    if not name.endswith("CIFAR-100"):
        tables = pictures.few(tables, train=2, val=2, test=2)
    return {
        split: {of: some[:2] for of, some in classes.items()} for split, classes in tables.items()
    }


def read(name: str, root: Path) -> Images:
    reader = small_benchmark(name, small(name)).find(root)
    reader.check()
    return {
        split: dict(zip(reader.classes(split), reader.images(split), strict=True))
        for split in reader.lists
    }


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Sample]:
    """What was written of a form, once."""
    samples: dict[str, Sample] = {}

    def of(name: str) -> Sample:
        if name not in samples:
            root = tmp_path_factory.mktemp("form")
            FORMS[name].write(root, small(name))
            files = sorted(p for p in root.rglob("[!.]*") if p.is_file())
            samples[name] = Sample(name, root, files, read(name, root))
        return samples[name]

    return of


@pytest.fixture(autouse=True, scope="module")
def little_memory() -> Iterator[None]:
    """Room for little more than is in use: damaged sizes must not become large arrays."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        yield
        return
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(statm.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@dataclass(frozen=True)
class Damage:
    """A byte of a file changed, or the file cut off there."""

    file: int  # of the sample's
    edge: str  # where `at` counts from
    at: int
    change: int  # what the byte is combined with; 0 cuts

    def apply(self, whole: bytes) -> bytes:
        at = self.at % len(whole)
        if self.edge == "start":
            at %= EDGE
        elif self.edge == "end":
            at = max(0, len(whole) - 1 - at % EDGE)
        tail = bytes([whole[at] ^ self.change]) + whole[at + 1 :] if self.change else b""
        return whole[:at] + tail


DAMAGES = st.builds(
    Damage,
    file=st.integers(0, 10**6),
    edge=st.sampled_from(["start", "anywhere", "end"]),
    at=st.integers(0, 10**6),
    change=st.one_of(st.just(0), st.integers(1, 255), st.sampled_from([1, 2, 4, 8, 16, 32, 64])),
)


@pytest.mark.parametrize("name", in_full(FUZZED, *KINDS))
@given(damage=DAMAGES)
def test_damage_is_noticed_or_does_no_harm(
    name: str, sample: Callable[[str], Sample], damage: Damage
) -> None:
    good = sample(name)
    path = good.files[damage.file % len(good.files)]
    whole = path.read_bytes()
    path.write_bytes(damage.apply(whole))
    try:
        images = read(name, good.root)
    except UsageError as error:
        assert "\n" not in str(error) and ";" in str(error)
    else:
        compare(good, images, path, whole)
    finally:
        path.write_bytes(whole)


def compare(good: Sample, images: Images, path: Path, whole: bytes) -> None:
    """Hold what was read to what is right, where `path`, which held `whole`, is damaged."""
    homes = {
        image.tobytes(): name
        for classes in good.images.values()
        for name, array in classes.items()
        for image in array
    }
    # Without a known number of images a class, a label that became another's cannot be told, nor
    # can the place of an image in an HDF5 file.
    telling = small_benchmark(good.name, small(good.name)).per_class is not None or not (
        path.stem.endswith("_labels") or path.suffix == ".hdf5"
    )
    checked = path.suffix == ".npz" or "images_png" in path.name or whole.startswith(b"\x89PNG")
    own = small_benchmark(good.name, small(good.name)).own
    assert list(images) == list(good.images)
    for split, classes in good.images.items():
        assert list(images[split]) == list(classes)
        for name, right in classes.items():
            array = images[split][name]
            assert array.dtype == np.uint8 and array.shape[1:] == right.shape[1:]
            if not telling:
                continue
            if own and len(array) < len(right):  # the damaged image is left out
                rest = {image.tobytes() for image in right}
                assert len(array) in (0, len(right) - 1)
                assert all(image.tobytes() in rest for image in array)
                continue
            assert len(array) == len(right)
            assert all(homes.get(image.tobytes(), name) == name for image in array)
            assert not checked or (array == right).all()
