"""`zoo show RUN`: a run's worst episodes with what was predicted, and which classes it confused."""

import json
import re
import shutil
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.commands import main
from zoo.reports.figures.episodes import GAP, HEAD, LABEL, MARGIN, draw_episode

NAMES = ("ant", "bee", "cat & <dog>", "Ødegård", "elk_moose", "fox", "gnu", "hare", "ibis")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder of photos, noisy enough that nearest pixels errs, and the run tested on it."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    for kind, name in enumerate(NAMES):
        place = folder / "photos" / name
        place.mkdir(parents=True)
        for number in range(8):
            pixels = rng.normal(60 + 15 * kind, 60, (28, 28, 3)) + rng.normal(0, 30)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number}.png")
    assert main(["run", "pixelnn", "folder[size=28]", *where(folder), "--budget", "none",
                 "--way", "3", "--shot", "2", "--test_episodes", "40"]) == 0  # fmt: skip
    return folder


def where(folder: Path) -> list[str]:
    return ["--data", str(folder / "photos"), "--results", str(folder / "results"),
            "--runs", str(folder / "runs"), "--threads", "1"]  # fmt: skip


def show(folder: Path, *words: str, name: str = "pixelnn") -> int:
    data, results = str(folder / "photos"), str(folder / "results")
    return main(["show", name, "--data", data, "--results", results, *words])


def record_of(folder: Path) -> dict[str, Any]:
    (path,) = (folder / "results").glob("pixelnn*.json")
    return json.loads(path.read_text())


def test_the_run_says_which_classes_it_confused(made, tmp_path, capsys):
    record = record_of(made)
    pairs = record["most_confused"]
    tested = record["classes"]["test"]
    assert pairs and all({true, given} <= {*tested} for true, given, *_ in pairs)
    wrong = sum(times for *_, times, _ in pairs)  # of three classes there are six pairs in all
    queries = 40 * 3 * record["settings"]["query"]["value"]
    assert wrong == round(queries * (1 - record["metrics"]["accuracy"]["mean"]))
    assert main(["run", "pixelnn", "folder[size=28]", *where(made), "--budget", "none",
                 "--way", "3", "--shot", "2", "--test_episodes", "40"]) == 0  # fmt: skip
    said = capsys.readouterr().out
    true, given, times, asked = pairs[0]
    assert f"most often mistaken: {true} for {given} ({100 * times / asked:.0f} %)" in said
    assert "least often right: " in said


def test_the_worst_episode_with_what_was_predicted(made, tmp_path, monkeypatch):
    """The images are those of the episode: the nearest support image has the class below them."""
    drawn: list[Any] = []
    monkeypatch.setattr(
        "zoo.commands.show_run.draw_episode",
        lambda *words: drawn.extend(words) or draw_episode(*words),
    )
    path = tmp_path / "a.png"
    assert show(made, "-o", str(path)) == 0
    support, query, names, title, _, mistaken_for = drawn
    (results,) = (made / "results").glob("pixelnn*.npz")
    with np.load(results) as arrays:
        accuracy = arrays["accuracy"]
    assert f"{100 * accuracy.min():.1f} % right" in title
    shot, queries = support.shape[1], query.shape[1]
    known = support.reshape(3 * shot, -1).astype(float)
    wrong = 0
    for row in range(3):
        for column in range(queries):
            gap = ((known - query[row, column].reshape(1, -1)) ** 2).sum(1)
            nearest = int(gap.argmin()) // shot
            expected = "" if nearest == row else names[nearest].replace("\n", " ")
            assert mistaken_for[row][column] == expected
            wrong += nearest != row
    assert wrong == round((1 - accuracy.min()) * 3 * queries) > 0
    for name, images in zip(names, support, strict=True):  # the name is that of the pictures
        folder = made / "photos" / name.replace("\n", " ")
        own = [np.asarray(Image.open(file)) for file in folder.iterdir()]
        for image in images:
            assert any(np.array_equal(image.transpose(1, 2, 0), other) for other in own)


def test_what_was_mistaken_is_framed(tmp_path):
    grey = np.full((2, 3, 1, 40, 40), 100, np.uint8)
    names, mistaken = ["a", "b"], [["", "b"], ["", ""]]
    figure = draw_episode(grey[:, :1], grey[:, 1:], names, "title", "", mistaken)
    figure.savefig(tmp_path / "a.png")
    drawn = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    colourful = (drawn.max(2) - drawn.min(2)) > 60
    colourful[:, :LABEL] = False
    rows, columns = np.nonzero(colourful)
    size = (drawn.shape[1] - LABEL - MARGIN - 28 - GAP) // 3
    assert rows.min() == HEAD and columns.max() == drawn.shape[1] - MARGIN - 1
    assert columns.min() == drawn.shape[1] - MARGIN - size
    assert rows.max() < HEAD + size + 20  # and the words below; the second row has neither


def test_a_page(made, tmp_path):
    path = tmp_path / "a.html"
    assert show(made, "--worst", "2", "-o", str(path)) == 0
    text = path.read_text(encoding="utf-8")
    record = record_of(made)
    assert record["run"] in text and text.count("% right: support</h2>") == 2
    shown = 2 * 3 * (record["shot"] + record["settings"]["query"]["value"])
    assert text.count("data:image/jpeg;base64,") == shown
    assert 'class="card wrong"' in text and "<dog>" not in text
    for name, share in record["accuracy_of_classes"].items():
        assert escape(name.replace("_", " ")) in text and f"{100 * share:.1f} %" in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert {*re.findall('href="#([^"]+)"', text)} <= {*re.findall('id="([^"]+)"', text)}
    one = tmp_path / "one.html"
    assert show(made, "--episode", "7", "-o", str(one)) == 0
    assert "Test episode 7, " in one.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "words", "says"),
    [
        ("", ["--way", "3"], "--way: a run's episodes are those it was tested on; leave it out"),
        ("", ["--episode", "40"], "tested 0 to 39"),
        ("", ["-o", "nowhere/a.html"], "-o nowhere/a.html: there is no folder nowhere; make it"),
        ("", ["-o", "nowhere/a.png"], "-o nowhere/a.png: there is no folder nowhere; make it"),
        ("", ["-o", "a.docx"], "-o a.docx: expected a picture's ending"),
        ("images", [], "tested on other images of folder[size=28] than lie in "),
        ("arrays", [], "hold what was predicted; one is missing or damaged"),
        ("episodes", [], "hold what was predicted; one is missing or damaged"),
        ("regression", [], "is a regression: it has no predicted classes to show"),
        ("name", [], "maml: expected a benchmark (cifarfs, "),
    ],
)
def test_mistakes_are_one_line(change, words, says, made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for part in ("photos", "results"):
        shutil.copytree(made / part, part)
    (results,) = Path("results").glob("pixelnn*.npz")
    if change == "images":
        for path in Path("photos").glob("*/0.png"):
            Image.new("RGB", (28, 28)).save(path)
    elif change == "arrays":
        results.write_bytes(results.read_bytes()[:-200])
    elif change == "episodes":
        next(Path("results").glob("episodes-*")).unlink()
    elif change == "regression":
        record = results.with_suffix(".json")
        record.write_text(json.dumps({**json.loads(record.read_text()), "way": None}))
    name = "maml" if change == "name" else "pixelnn"
    capsys.readouterr()
    assert show(tmp_path, "-o", "a.html", *words, name=name) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert says in said and said.startswith("zoo: ")
    assert not list(tmp_path.glob("a.*"))


def test_a_benchmark_has_no_worst_episode(tmp_path, capsys):
    assert main(["show", "glyphs", "--worst", "2", "-o", str(tmp_path / "a.png")]) == 2
    assert "a benchmark's episodes have no predictions" in capsys.readouterr().err
