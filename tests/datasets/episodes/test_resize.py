"""CIFAR at 84x84, mini-ImageNet at 32x32: PIL's very pixels, from the stores as they are."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from tests.conftest import blobs
from tests.datasets.episodes.test_data_module import SETTINGS, module
from tests.support import pictures
from tests.support.forms import cifar100_python
from zoo.commands import main
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.benchmarks.image_sets import CifarFs
from zoo.datasets.episodes.augmentation import augment, numbers_for, resized
from zoo.datasets.episodes.hash_random import key_of
from zoo.datasets.episodes.image_batches import ImageDataModule, LabelledBatch
from zoo.datasets.episodes.resize import at_size
from zoo.reports.figures.episodes import draw_episode
from zoo.runs.request import RunRequest
from zoo.runs.stages import Staging
from zoo.stage import Stage

LARGE = (84, 84)


def noise(n: int, channels: int, height: int, width: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (n, channels, height, width), generator=g, dtype=torch.uint8)


def by_pil(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Each channel on its own, (..., h, w) -> (..., height, width)."""
    one_by_one = images.flatten(0, -3).numpy()
    bilinear = Image.Resampling.BILINEAR
    large = [np.asarray(Image.fromarray(x).resize((width, height), bilinear)) for x in one_by_one]
    return torch.from_numpy(np.stack(large)).view(*images.shape[:-2], height, width)


@pytest.mark.parametrize(
    ("small", "large"),
    [((32, 32), LARGE), ((7, 5), (84, 83)), ((1, 2), (9, 2)), ((50, 63), (64, 64)),
     (LARGE, (32, 32)), ((83, 84), (7, 5)), ((9, 2), (1, 2)), ((64, 70), (50, 63)),
     (LARGE, (83, 1))],
)  # fmt: skip
def test_pixels_are_pils(small: tuple[int, int], large: tuple[int, int]) -> None:
    x = noise(30, 3, *small)
    assert torch.equal(at_size(x, large), by_pil(x, *large))
    tasks = x.unflatten(0, (5, 6))
    assert torch.equal(at_size(tasks, large), by_pil(tasks, *large))


def test_what_has_the_size_is_left_alone() -> None:
    x = noise(2, 3, 84, 84)
    assert at_size(x, LARGE) is x


@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_one_colour_stays_itself(value: int) -> None:
    x = torch.full((1, 3, 84, 84), value, dtype=torch.uint8)
    assert (at_size(x, (32, 32)) == value).all()


def test_a_crop_of_larger_images_is_of_shrunk_ones() -> None:
    """Else it would pass over pixels."""
    x, numbers = noise(4, 3, 84, 84), numbers_for(key_of("test", 0)[None], 4)
    got = augment(x, ["crop"], numbers, (32, 32))
    assert got.shape == (4, 3, 32, 32)
    assert torch.equal(got, augment(at_size(x, (32, 32)), ["crop"], numbers, (32, 32)))


def test_a_crop_goes_straight_to_the_size() -> None:
    """Columns 8 to 24 and rows 16 to 32; at inner edges ours sees the pixels beside the part."""
    x = noise(6, 3, 32, 32).float()
    corner, extent = torch.tensor([[0.25, 0.5]]).expand(6, 2), torch.full((6, 2), 0.5)
    expected = F.interpolate(x[:, :, 16:, 8:24], size=LARGE, mode="bilinear")
    got = resized(x, corner, extent, LARGE)
    assert got.shape == (6, 3, 84, 84)
    inner = (..., slice(4, None), slice(4, -4))
    torch.testing.assert_close(got[inner], expected[inner], rtol=0, atol=1e-3)


def test_without_a_crop_the_whole_image_is_enlarged_first() -> None:
    x, numbers = noise(6, 3, 32, 32), numbers_for(key_of("a"), 6)
    large = by_pil(x, *LARGE)
    assert torch.equal(augment(x, [], numbers, LARGE), large.float())
    for ways in (["flip"], ["jitter", "flip"], ["shift"]):
        assert torch.equal(augment(x, ways, numbers, LARGE), augment(large, ways, numbers))
    cropped = augment(x, ["crop", "jitter", "flip"], numbers, LARGE)
    assert cropped.shape == large.shape
    seen = F.interpolate(augment(x, ["crop"], numbers, LARGE), (32, 32), mode="area")
    same = augment(x, ["crop"], numbers)  # of the same parts: noise, blurred
    assert (seen - same).abs().mean() < 20
    assert (seen - x).abs().mean() > 40


def colours() -> dict[str, Any]:
    """Stores of 28x28 images in colour."""
    return {name: blobs(8, 12, (3, 28, 28), seed) for seed, name in enumerate(SPLITS)}


SPLITS = ("train", "val", "test")


@pytest.mark.parametrize("split", SPLITS)
def test_the_episodes_are_the_same_images(split: str) -> None:
    stores = colours()
    small, large = module(stores), module(stores, size=LARGE)
    assert small.fingerprint() == large.fingerprint()
    assert small.test_fingerprint() == large.test_fingerprint()
    batches = [getattr(data, f"{split}_dataloader")() for data in (small, large)]
    for one, two in zip(*batches, strict=True):
        one, two = small.on_after_batch_transfer(one, 0), large.on_after_batch_transfer(two, 0)
        for a, b in zip(one[:2], two[:2], strict=True):
            pixels = (a.x * 255).round().byte()
            assert torch.equal((b.x * 255).round().byte(), by_pil(pixels, *LARGE))
            assert torch.equal(a.y, b.y)


def test_features_are_of_the_enlarged_images() -> None:
    data = module(colours(), size=LARGE)
    features = data.embedded(lambda x: x[:, :, ::7, ::5].flatten(1))
    images = torch.cat([data.on_after_batch_transfer(b, 0).query.x for b in data.test_dataloader()])
    (served,) = features.test_dataloader()
    seen = features.on_after_batch_transfer(served, 0).query.x
    assert torch.equal(images[..., ::7, ::5].flatten(2), seen)


@pytest.mark.parametrize("ways", ["", "flip", "crop jitter flip"])
def test_batches_for_pretraining_are_at_size(ways: str) -> None:
    settings = {**SETTINGS, "augment": ways, "batch": 8, "seed": 0}
    data = ImageDataModule(colours(), (0.0,) * 3, (1.0,) * 3, settings, 1, LARGE)
    for batch in data.train_dataloader():
        assert isinstance(batch, LabelledBatch) and batch.x.shape == (8, 3, 28, 28)
        seen = data.on_after_batch_transfer(batch, 0)
        assert seen.x.shape == (8, 3, 84, 84) and torch.equal(seen.y, batch.y)
        if not ways:
            assert torch.equal((seen.x * 255).round().byte(), by_pil(batch.x, *LARGE))
    (first, *_) = data.val_dataloader()
    assert data.on_after_batch_transfer(first, 0).support.x.shape[2:] == (3, 84, 84)


@pytest.mark.parametrize("batches", ["images", "episodes"])
def test_every_stage_gets_enlarged_images(batches: str, tmp_path: Path) -> None:
    settings = {**SETTINGS, "seed": 0, "augment": "", "batch": 8, "way": 5, "shot": 1}
    stage = Stage(nn.Linear(1, 1), nn.Linear(1, 1), settings=settings)
    stage.name, stage.batches = "one", batches  # type: ignore[misc]
    data = Staging(stage, tmp_path, find_benchmark("cifarfs[size=84]"), colours(), {}).data
    batch = next(iter(data.train_dataloader()))
    served = data.on_after_batch_transfer(batch, 0)  # type: ignore[arg-type]
    images = served.support if batches == "episodes" else served
    assert images.x.shape[-3:] == (3, 84, 84)


def test_the_rows_of_just_these_options_are_taken_too() -> None:
    job = RunRequest("maml", "cifarfs[size=84]", 5, 1, "paper", "quick")
    for wanted in ("cifarfs", "cifarfs[size=84]", ["fc100", "cifarfs"], ["cifarfs[size=84]"]):
        assert job.matches({"benchmark": wanted, "way": [5, 20]})
    for wanted in ("fc100[size=84]", "cifarfs[size=32]", ["miniimagenet"]):
        assert not job.matches({"benchmark": wanted})
    assert not replace(job, benchmark="cifarfs").matches({"benchmark": "cifarfs[size=84]"})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_sets: None) -> Path:
    """CIFAR-100 of three images a class, three times each; stores and runs beside it."""
    tables = pictures.cifar("cifar_fs")
    thrice = {split: {n: some * 3 for n, some in named.items()} for split, named in tables.items()}
    cifar100_python(tmp_path / "data", thrice)
    monkeypatch.setattr(CifarFs, "per_class", 3 * pictures.FEW)
    monkeypatch.setattr(CifarFs, "query", 2)
    monkeypatch.setenv("ZOO_STORE", str(tmp_path / "stores"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def zoo(*words: str) -> int:
    places = ["--results", "results", "--runs", "runs", "--threads", "1"]
    return main([*words, "--data", "data", *places])


SMOKE = ["--budget", "smoke", "--backbone", "conv4[channels=8]"]


def test_runs_at_both_sizes_share_images_and_episodes(home: Path, capsys: Any) -> None:
    for size in ("", "[size=84]"):
        words = ["--train_way", "5", "--train_query", "2", *SMOKE]
        assert zoo("run", "protonet", f"cifarfs{size}", *words) == 0
    found = [json.loads(path.read_text()) for path in home.glob("results/protonet-*.json")]
    small, large = sorted(found, key=lambda record: record["benchmark"])
    assert (small["benchmark"], large["benchmark"]) == ("cifarfs", "cifarfs[size=84]")
    assert small["data"] == large["data"] and small["episodes"] == large["episodes"]
    assert small["metrics"] != large["metrics"]
    assert small["tasks_at_once"]["evaluation"] == 8 and large["tasks_at_once"]["evaluation"] == 1
    stored = {path.name.partition(".")[0] for path in (home / "stores").iterdir()}
    assert stored == {"cifarfs"}  # no second copy
    assert len(list(home.glob("results/episodes-*.npz"))) == 1


def test_a_table_says_the_size(home: Path, capsys: Any) -> None:
    words = ["--learners", "pixelnn", "--shots", "1", "--budget", "smoke"]
    for size, said in (("", False), ("[size=84]", True)):
        assert zoo("table", f"cifarfs{size}", *words) == 0
        (caption,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("**CIFAR-FS")]
        assert ("size=84" in caption) == said


def test_pretraining_at_another_size_is_another_stage(home: Path) -> None:
    folders = []
    for size in ("", "[size=84]"):
        words = ["--pretrained_from", "pretrain", *SMOKE, "--pretrain_augment", "crop flip"]
        assert zoo("run", "pretrained", f"cifarfs{size}", *words) == 0
        folders.append({path.name for path in (home / "runs" / "stages").iterdir()})
    assert len(folders[0]) == 1 and len(folders[1]) == 2


def test_show_doctor_and_convert(home: Path, monkeypatch: Any, capsys: Any) -> None:
    pass

    seen: dict[str, Any] = {}
    draw = draw_episode
    for name in ("cifarfs", "cifarfs[size=84]"):
        monkeypatch.setattr(
            "zoo.reports.figures.episodes.draw_episode",
            lambda *w, name=name: seen.update({name: w}) or draw(*w),
        )
        assert main(["show", name, "-o", "a.png", "--data", "data"]) == 0
    for small, large in zip(seen["cifarfs"][:2], seen["cifarfs[size=84]"][:2], strict=True):
        assert torch.equal(torch.from_numpy(large), by_pil(torch.from_numpy(small), *LARGE))
    assert "cifarfs[size=84]: test" in seen["cifarfs[size=84]"][3]
    assert main(["doctor", "data", "--benchmark", "cifarfs[size=84]"]) == 0
    assert len(list((home / "stores").glob("*.train"))) == 1
    capsys.readouterr()
    words = ["--to", "folders", "--out", "out", "--data", "data"]
    assert main(["convert", "cifarfs[size=84]", *words]) == 2
    assert "cifarfs[size=84] has the images of cifarfs: convert cifarfs" in capsys.readouterr().err
