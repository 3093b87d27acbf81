"""`zoo show`: the data module's own episodes as pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.commands import main
from zoo.commands.data import readable_class_name
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.episodes.data_module import EpisodicDataModule
from zoo.datasets.episodes.image_store import Store
from zoo.reports.figures.episodes import GAP, HEAD, LABEL, MARGIN, draw_episode

SETTINGS = {
    "updates": 4, "meta_batch": 1, "val_episodes": 4, "test_episodes": 4,
    "train_way": 3, "train_shot": 2, "train_query": 4, "query": 4,
}  # fmt: skip


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_episode_is_the_data_modules_own(
    split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    draw = draw_episode
    monkeypatch.setattr(
        "zoo.reports.figures.episodes.draw_episode",
        lambda *words: drawn.extend(words) or draw(*words),
    )
    words = ["--split", split, "--way", "3", "--shot", "2", "--query", "4", "--episode", "2"]
    assert main(["show", "glyphs", *words, "-o", str(tmp_path / "a.png")]) == 0
    support, query, names, title, _ = drawn
    assert f"{split} episode 2" in title and "3-way 2-shot" in title

    benchmark = find_benchmark("glyphs")
    stores = benchmark.open(None)
    data = EpisodicDataModule(stores, (0.0,), (1.0,), SETTINGS, way=3, shot=2, seed=0, eval_batch=1)
    loader = getattr(data, f"{split}_dataloader")()
    served = [data.on_after_batch_transfer(batch, 0) for batch in loader][2]
    for part, examples in ((support, served.support), (query, served.query)):
        for label in range(3):
            images = (examples.x[0, examples.y[0] == label] * 255).round().byte().numpy()
            assert sorted(map(bytes, part[label])) == sorted(map(bytes, images))
    store: Store = stores[split]
    for name, images in zip(names, support, strict=True):  # the name is that of the pictures
        code = name.splitlines()[1]
        (place,) = [i for i, full in enumerate(store.names) if full.startswith(f"{code} ")]
        own = store.images[store.offsets[place] : store.offsets[place + 1]].numpy()
        assert all((own == image).all((1, 2, 3)).any() for image in images)


def test_rows_are_classes_and_pixels_stay_what_they_are(tmp_path: Path) -> None:
    colours = np.array([[200, 10, 20], [10, 190, 30], [20, 30, 180]], np.uint8)
    images = np.broadcast_to(colours[:, None, :, None, None], (3, 6, 3, 32, 32)).copy()
    images[:, :, :, 0, 0] = 255
    path = tmp_path / "a.png"
    figure = draw_episode(images[:, :2], images[:, 2:], ["red", "green", "blue"], "colours")
    figure.savefig(path)
    drawn = pixels(path)
    width = drawn.shape[1]
    assert 1000 < width < 1500
    scale = round(1000 / (6 * 32))
    for row, colour in enumerate(colours):
        top = HEAD + row * (32 * scale + GAP)
        band = drawn[top : top + 32 * scale, LABEL : width - MARGIN]
        same = (band == colour).all(2)
        assert same.sum() == 6 * (32 * 32 - 1) * scale**2  # each pixel a square of its colour
        assert same.sum() + (band == 255).all(2).sum() == same.size
        left, right = same[scale][: 2 * (32 * scale + GAP)], same[scale]
        assert left.sum() == 2 * 32 * scale and right.sum() == 6 * 32 * scale


@pytest.mark.parametrize("ending", ["png", "jpg", "pdf", "svg", "webp"])
def test_every_ending_gives_a_file(ending: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / f"a.{ending}"
    assert main(["show", "glyphs", "--way", "20", "--shot", "5", "-o", str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(path) and path.stat().st_size > 5000
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--split", "dev"], "--split dev: glyphs has train, val, test"),
        (["--way", "5000"], "--way 5000: test has only 162 classes"),
        (["--way", "1"], "--way: '1': expected a whole number of at least 2"),
        (["--shot", "0"], "--shot: '0': expected"),
        (["--query", "0"], "--query: '0': expected"),
        (["--episode", "-1"], "--episode: '-1': expected"),
        (["--shot", "16"], "take --query 4 at most"),
        (["-o", "a.docx"], "-o a.docx: expected a picture's ending, one of .jpg"),
        (["-o", "picture"], "-o picture: expected a picture's ending"),
        (["-o", "nowhere/a.png"], "there is no folder nowhere; make it first"),
        (["-o", "b.png"], "-o b.png: that is a folder"),
        (["-o", "/proc/a.png"], "-o /proc/a.png: "),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.png").mkdir()
    assert main(["show", "glyphs", "-o", "a.png", *words]) == 2
    captured = capsys.readouterr()
    assert says in captured.err and captured.err.count("\n") == 1 and not captured.out
    assert [path.name for path in tmp_path.iterdir()] == ["b.png"]


def test_missing_data_is_one_screen(tmp_path: Path, capsys: Any) -> None:
    words = ["show", "omniglot", "--data", str(tmp_path), "-o", str(tmp_path / "a.png")]
    assert main(words) == 2
    assert "Looked for:" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_names_are_readable() -> None:
    assert readable_class_name("n03272010") == "electric guitar\nn03272010"
    assert readable_class_name("n00000001") == "n00000001"
    assert readable_class_name("aquarium_fish") == "aquarium fish"
    assert readable_class_name("Hebrew/character01/rot090") == "Hebrew\ncharacter01\nrot090"
    assert readable_class_name("U+0416 CYRILLIC CAPITAL LETTER ZHE").startswith(
        "Ж\nU+0416\nCYRILLIC"
    )
