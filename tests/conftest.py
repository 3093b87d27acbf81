"""What several test files share."""

import os
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.runs.tune_cpu import tune_cpu

tune_cpu()  # before torch
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of what tests start: others need the cores too

import hypothesis
import numpy as np
import pytest
import torch

from zoo.conformance import episode_of as episode_of  # for the tests of learners
from zoo.datasets.episodes.hash_random import key_of
from zoo.datasets.episodes.image_store import Store
from zoo.datasets.episodes.sampler import EpisodeSampler
from zoo.plugin_files import LOADED_PLUGINS
from zoo.registry import backbones, benchmarks, learners

# Without deadlines: a machine may be busy. `make test-all` asks for "all".
hypothesis.settings.register_profile("gate", deadline=None, max_examples=25)
hypothesis.settings.register_profile("all", deadline=None, max_examples=100)
hypothesis.settings.load_profile("gate")


def heed_signals() -> None:
    """Let processes that tests start be stopped by signals.

    A process started in the background, or by nohup, ignores SIGINT or SIGHUP, and so do those that
    it starts.
    """
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    for number, handler in defaults.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


if threading.current_thread() is threading.main_thread():
    heed_signals()


def in_full(values: Iterable[Any], *kept: Any) -> list[Any]:
    """Values of a test's parameter, of which the gate tests only those that are kept."""
    return [
        value if value in kept else pytest.param(value, marks=pytest.mark.full) for value in values
    ]


def pairs_in_full(pairs: Iterable[tuple[Any, Any]], kept: Iterable[Any]) -> list[Any]:
    """Values of two parameters, of which the gate tests only pairs with one of the kept."""
    kept = set(kept)
    return [
        pair if kept & {*pair} else pytest.param(*pair, marks=pytest.mark.full) for pair in pairs
    ]


@pytest.fixture(autouse=True)
def _one_thread():
    """Sums depend on the thread count; tests must not depend on the machine's."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _offline():
    """No test downloads an image set: the proxy is a port where nobody listens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("http_proxy", "http://127.0.0.1:9")
        patch.setenv("https_proxy", "http://127.0.0.1:9")
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Stores of own images lie in the user's cache: in tests in another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def registers(monkeypatch):
    """Registers that forget what a test adds."""
    for register in (learners, benchmarks, backbones):
        for key in register.names():
            register.get(key)  # else a module imported in the test would be forgotten too
        monkeypatch.setattr(register, "entries", dict(register.entries))
        monkeypatch.setattr(register, "_objects", dict(register._objects))
    yield
    LOADED_PLUGINS.clear()
    for name in [name for name in sys.modules if name.startswith("plugin_")]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real image sets, where there are any."""
    if not os.environ.get("ZOO_DATA"):
        pytest.skip("ZOO_DATA is not set: no real images to test on")
    return Path(os.environ["ZOO_DATA"])


def blobs(classes: int, per_class: int = 20, image=(1, 28, 28), seed: int = 0) -> Store:
    """A store of noisy copies of one random image a class: easy to learn, quick to make."""
    rng = np.random.default_rng(seed)
    means = rng.uniform(40, 215, (classes, 1, image[0], 7, image[2] // 4)).repeat(4, 3).repeat(4, 4)
    images = means + rng.normal(0, 60, (classes, per_class, *image))
    arrays = images.clip(0, 255).astype(np.uint8)
    return Store.from_arrays([f"blob {c}" for c in range(classes)], arrays)


@pytest.fixture(scope="session")
def stores() -> dict[str, Store]:
    """Three splits of blobs, of glyphs' image size."""
    return {split: blobs(30, seed=s) for s, split in enumerate(("train", "val", "test"))}


def sampler(counts, way=5, shot=1, query=3, *words) -> EpisodeSampler:
    """A sampler keyed by words."""
    return EpisodeSampler(np.asarray(counts), way, shot, query, key_of(*(words or ("train", 0))))


@pytest.fixture
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets of a few images are not refused for their number, or for one that is all of a colour."""
    monkeypatch.setattr("zoo.datasets.checking.content_checks.TOTALS", {})
    monkeypatch.setattr("zoo.datasets.checking.content_checks.CONSTANT", 1.0)
