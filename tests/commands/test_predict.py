"""`zoo predict`: photos in folders, a trained learner, and what comes out."""

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests.conftest import blobs
from tests.runs.test_any_trainer import FEW
from tests.runs.test_run import plan
from zoo.commands import main
from zoo.episode import Examples
from zoo.errors import UsageError
from zoo.registry import learners
from zoo.runs.prediction import NONE_OF_THESE, predict_photos, query_logits
from zoo.runs.trained import trained_learner
from zoo.runs.weights import weights_path

CLASSES = ("ant", "bee", "cat & <dog>", "Ødegård")


@pytest.fixture(scope="module")
def stores():
    return {split: blobs(20, seed=seed) for seed, split in enumerate(("train", "val", "test"))}


@pytest.fixture(scope="module")
def weights(stores, tmp_path_factory) -> dict[str, Path]:
    """Of an inductive learner of any way, a transductive one, and one of a fixed way."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("weights")
    texts = {"protonet": {"updates": 30, "outer_lr": 0.01}, "maml": {}, "reptile": {}}
    paths = {}
    for text, more in texts.items():
        flags = {**FEW, "train_way": 4, "val_episodes": 10, **more}
        run = plan(folder, stores, text, way=4, flags=flags)
        run.execute(progress=False)
        paths[text] = weights_path(run.record_path)
    return paths


@pytest.fixture
def photos(stores, tmp_path) -> Path:
    """Support of four classes, one with fewer photos; queries flat and in class folders."""
    store = stores["test"]
    for place, name in enumerate(CLASSES):
        images = store.images[store.offsets[place] : store.offsets[place + 1]]
        for number in range(9):
            pixels = Image.fromarray(images[number, 0].numpy())
            parts = ["support"] if number < (2 if place == 1 else 3) else ["query", "flat"]
            for part in parts if number != 2 or place != 1 else []:
                folder = tmp_path / part if part == "flat" else tmp_path / part / name
                folder.mkdir(parents=True, exist_ok=True)
                kind = ("png", "bmp", "jpg")[number % 3]
                pixels.convert("RGB").save(folder / f"{place} {number}.{kind}", quality=95)
    return tmp_path


def run_predict(weights: Path, photos: Path, *words: str, query: str = "query") -> int:
    where = ["--support", str(photos / "support"), "--query", str(photos / query)]
    return main(["predict", str(weights), *where, *words])


def test_what_is_printed_and_written(weights, photos, capsys):
    """A table, a CSV that says the same, and a page with every photo and nothing fetched."""
    page = photos / "out.html"
    assert run_predict(weights["protonet"], photos, "-o", str(page)) == 0
    out = capsys.readouterr().out
    assert "24 photos, 4 classes with 2 to 3 support photos each" in out
    with open(photos / "out.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [*rows[0]] == ["file", "class", "prediction", "probability", "runner_up",
                          "runner_up_probability", "right"]  # fmt: skip
    assert len(rows) == 24 and {row["class"] for row in rows} == {*CLASSES}
    right = sum(row["right"] == "True" for row in rows)
    assert right > 12 and f"({right} of 24;" in out
    for row in rows:
        assert row["right"] == str(row["class"] == row["prediction"])
        assert float(row["probability"]) >= float(row["runner_up_probability"])
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") == 24 + 11
    assert "cat &amp; &lt;dog&gt;" in text and "<dog>" not in text and "Ødegård" in text
    assert "expected calibration error" in text and "Confusion matrix" in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)


@pytest.mark.parametrize("key", ["protonet", "pretrained"])
def test_a_support_of_uneven_classes(key, weights, photos):
    """All of it where classes are means: the same as with each class's photos repeated to as many.

    Other learners take as many of each class, and say so.
    """
    learner = trained_learner(weights["protonet"]).learner
    if key == "pretrained":
        learner = learners.get(key)(learner.net, 2).eval()
    x = torch.randn(1, 5, 1, 28, 28)
    uneven = Examples(x, torch.tensor([[0, 1, 1, 0, 1]]))
    rows = [0, 3, 0, 3, 0, 3, 1, 2, 4, 1, 2, 4]
    even = Examples(x[:, rows], torch.tensor([[0] * 6 + [1] * 6]))
    queries = Examples(torch.randn(1, 4, 1, 28, 28), torch.zeros(1, 4, dtype=torch.int64))
    with torch.no_grad():
        expected = learner(zoo.Episode(even, queries, 2))
        torch.testing.assert_close(learner(zoo.Episode(uneven, queries, 2)), expected)
    found = predict_photos(trained_learner(weights["maml"]), photos / "support", photos / "flat")
    assert len(found.support.files) == 8
    assert "the first 2 photos of each class are used, as many as 'bee' has; 3 others" in " ".join(
        found.notes
    )


def test_photos_without_classes(weights, photos, capsys):
    assert run_predict(weights["protonet"], photos, query="flat") == 0
    out = capsys.readouterr().out
    assert "right" not in out and "24 photos" in out


def test_a_prediction_is_of_its_photo_alone(weights, photos):
    """Of every learner, whatever the other photos are; jointly, a transductive one's is not."""
    for text, path in weights.items():
        trained = trained_learner(path)
        whole = predict_photos(trained, photos / "support", photos / "flat").table
        few = photos / f"few {text}"
        few.mkdir()
        for name in ("0 3.png", "2 5.jpg"):
            (few / name).write_bytes((photos / "flat" / name).read_bytes())
        part = predict_photos(trained, photos / "support", few).table
        expected = whole.set_index("file")["probability"][part["file"].tolist()]
        np.testing.assert_allclose(part["probability"], expected, rtol=1e-4)
        if trained.learner.transductive:
            joint = predict_photos(trained, photos / "support", photos / "flat", jointly=True)
            assert not np.allclose(joint.table["probability"], whole["probability"], rtol=1e-3)
            assert "all photos were classified together" in " ".join(joint.notes)
            known = trained.about["calibration"]
            asked = predict_photos(trained, photos / "support", few)
            assert asked.calibration == known["alone"] and joint.calibration == known
            assert "one at a time (of " in " ".join(asked.notes)


@pytest.mark.parametrize("key", ["maml", "trlearner", "anil", "protonet", "npbml[inductive=true]"])
def test_the_logits_are_those_of_an_episode(key):
    """Whether what adaptation leaves is kept for the next query or not."""
    name, _, rest = key.partition("[")
    cls = learners.get(name)
    torch.manual_seed(0)
    options = {"inductive": True} if rest else {"batch_norm": "support"}
    options = {} if name == "protonet" else options
    learner = cls(zoo.build_backbone("conv4_strided[channels=8]", (1, 28, 28)), 3, **options)
    learner.eval()
    pixels = np.random.default_rng(0).integers(0, 255, (7, 1, 28, 28), np.uint8)
    shown = np.random.default_rng(1).integers(0, 255, (6, 1, 28, 28), np.uint8)
    learner.normalise_by((0.5,), (0.5,))
    y = torch.arange(3).repeat(2)
    x, asked = learner.normalised(shown), learner.normalised(pixels)
    with torch.no_grad():
        expected = learner(zoo.make_episode((x, y), asked))[0]
        for alone in (True, False):
            support = Examples(x[None], y[None])
            found = query_logits(learner, support, pixels, alone)
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_older_weights_know_no_temperature_for_one_at_a_time(weights, photos):
    trained = trained_learner(weights["maml"])
    older = {**trained.about["calibration"]}
    del older["alone"]
    trained = trained._replace(about={**trained.about, "calibration": older})
    found = predict_photos(trained, photos / "support", photos / "flat")
    assert found.calibration == older
    assert any("calibrated on whole episodes" in note for note in found.notes)


def test_probabilities_that_say_nothing_are_said_to(weights, photos):
    """The temperature of weights that know nothing ends at the largest one that is tried."""
    trained = trained_learner(weights["protonet"])
    known = trained.about["calibration"]
    for temperature, says in ((99.9996, True), (2.0, False)):
        about = {**trained.about, "calibration": {**known, "temperature": temperature}}
        found = predict_photos(trained._replace(about=about), photos / "support", photos / "flat")
        assert any("probabilities say little" in note for note in found.notes) == says


def test_photos_are_read_as_viewers_show_them(weights, photos):
    """Turned as EXIF says, on white where transparent; what is no image is counted in a note."""
    upright = Image.open(photos / "flat" / "0 3.png").convert("RGB")
    odd = photos / "odd"
    odd.mkdir()
    turned, exif = upright.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise"
    turned.save(odd / "turned.png", exif=exif)
    upright.save(odd / "upright.png")
    clear = Image.new("RGBA", upright.size, (0, 0, 0, 0))
    clear.save(odd / "clear.png")
    Image.new("RGB", upright.size, "white").save(odd / "white.png")
    (odd / "notes.txt").write_text("no image")
    found = predict_photos(trained_learner(weights["protonet"]), photos / "support", odd)
    table = found.table.set_index("file")["probability"]
    assert table["turned.png"] == pytest.approx(table["upright.png"])
    assert table["clear.png"] == pytest.approx(table["white.png"])
    assert "query: left out: files that are no images, 1 (notes.txt)" in found.notes


def test_damaged_photos_are_left_out_and_counted(weights, photos, capsys):
    (photos / "support" / CLASSES[3] / "3 0.png").write_bytes(b"\x89PNG nothing")
    (photos / "flat" / "0 3.png").write_bytes(b"")
    inner = photos / "support" / CLASSES[0] / "more"
    inner.mkdir()
    Image.new("RGB", (28, 28)).save(inner / "a.png")
    assert run_predict(weights["protonet"], photos, query="flat") == 0
    out = capsys.readouterr().out
    assert "23 photos, 4 classes" in out and "0 3.png" not in out.partition("photos,")[0]
    assert "query: left out: images that cannot be read, 1 (0 3.png)" in out
    line = next(line for line in out.splitlines() if line.startswith("support: left out"))
    assert f"images that cannot be read, 1 ({CLASSES[3]}/3 0.png)" in line
    assert "images in a folder inside a class's folder, 1 (ant/more/a.png)" in line


def test_names_that_are_not_utf8(weights, photos, capsys):
    """Of a query, of a support photo and of a class: in the table, the CSV and the page."""
    flat, cat = photos / "flat", next((photos / "support").iterdir())
    os.rename(flat / "0 3.png", os.fsencode(flat) + b"/gr\xf6\xdfe.png")
    photo = next(cat.iterdir())
    os.rename(photo, os.fsencode(cat) + b"/b\xe4r" + os.fsencode(photo.suffix))
    os.rename(cat, os.fsencode(photos / "support") + b"/k\xe4fer")
    page = photos / "out.html"
    assert run_predict(weights["protonet"], photos, "-o", str(page), query="flat") == 0
    capsys.readouterr()
    for path in (page, photos / "out.csv"):
        text = path.read_text(encoding="utf-8")
        assert r"gr\xf6\xdfe.png" in text
    assert r"k\xe4fer" in page.read_text(encoding="utf-8")


def test_clutter_is_passed_over_and_counted(weights, photos, capsys):
    """A class without photos, a text beside the classes, or a stray photo, of support and query."""
    for part in ("support", "query"):
        (photos / part / "empty").mkdir()
        (photos / part / "notes").mkdir()
        (photos / part / "notes" / "a.txt").write_text("x")
        (photos / part / "__MACOSX").mkdir()
    Image.new("RGB", (28, 28)).save(photos / "support" / "stray.png")
    assert run_predict(weights["protonet"], photos) == 0
    out = capsys.readouterr().out
    for part in ("support", "query"):
        line = next(line for line in out.splitlines() if line.startswith(f"{part}: left out"))
        assert "hidden files and those of systems, 1 (__MACOSX)" in line
        assert "folders without images, 2 (empty, notes)" in line
        assert ("images beside the class folders, 1 (stray.png)" in line) == (part == "support")
    assert "4 classes with" in out


def test_rejecting(weights, photos, capsys):
    """Photos of which it is not sure, and only those; a stranger rejected is right."""
    stranger = photos / "query" / "stranger"
    stranger.mkdir()
    Image.effect_noise((28, 28), 90).save(stranger / "noise.png")
    found = predict_photos(
        trained_learner(weights["protonet"]), photos / "support", photos / "query", reject=0.9
    ).table
    rejected = found["prediction"] == NONE_OF_THESE
    assert rejected.any() and ((found["probability"] < 0.9) == rejected).all()
    strangers = found[found["class"] == "stranger"]
    assert (strangers["right"] == (strangers["prediction"] == NONE_OF_THESE)).all()
    assert not found[rejected & (found["class"] != "stranger")]["right"].any()
    assert run_predict(weights["protonet"], photos, "--reject", "0.9") == 0
    out = capsys.readouterr().out
    assert "1 photos are of classes without support" in out
    kept = found[~rejected]
    right = int(kept["right"].sum())
    share = f"of the other {len(kept)} photos {100 * right / len(kept):.1f} % are right ({right})"
    assert len(kept) and f"{rejected.sum()} rejected as none of these; {share}\n" in out
    assert "what rejecting costs was not measured" not in out
    trained = trained_learner(weights["protonet"])
    trained.about["calibration"]["rejection"] = None  # as where validation is of the way's classes
    everything = predict_photos(trained, photos / "support", photos / "query", reject=1)
    assert "what rejecting costs was not measured" in everything.notes[-1]


def test_the_same_in_python(weights, photos):
    path = weights["protonet"]
    table = zoo.predict(path.stem, photos / "support", photos / "flat", results=path.parent)
    assert len(table) == 24 and set(table["prediction"]) <= {*CLASSES}


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        ("", ["--reject", "2"], "--reject 2: expected a probability, from 0 to 1"),
        ("", ["-o", "out.pdf"], "-o out.pdf: expected a name that ends in .csv or .html"),
        ("one class", [], "expected a folder of images for each class, at least two; found ant"),
        (
            "groups",
            [],
            "found none; left out: folders whose images lie deeper than the others', 4 (a, b",
        ),
        ("mixed", [], "has images and also folders of images"),
        ("no query", [], "there is no such folder"),
        ("damaged", [], "class 'Ødegård' has no image that can be read; remove its folder"),
    ],
)
def test_what_cannot_be_is_said(change, words, said, weights, photos, capsys):
    support, query = photos / "support", photos / "query"
    if change == "one class":
        for name in CLASSES[1:]:
            (support / name).rename(photos / name)
    elif change == "groups":
        for name in CLASSES:
            (photos / "groups" / name[0]).mkdir(parents=True)
            (support / name).rename(photos / "groups" / name[0] / name)
        support.rmdir()
        (photos / "groups").rename(support)
    elif change == "mixed":
        (query / "here.png").write_bytes((photos / "flat" / "0 3.png").read_bytes())
    elif change == "no query":
        query.rename(photos / "gone")
    elif change == "damaged":
        for path in (support / CLASSES[3]).iterdir():
            path.write_bytes(b"\x89PNG nothing")
    assert run_predict(weights["protonet"], photos, *words) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert not (photos / "out.pdf").exists()


@pytest.mark.parametrize("part", ["support", "query"])
def test_a_folder_one_level_too_high_names_the_one_below(part, weights, photos, capsys):
    folder = photos / part
    folder.rename(photos / "other")
    folder.mkdir()
    (photos / "other").rename(folder / part)
    assert run_predict(weights["protonet"], photos) == 2
    err = capsys.readouterr().err
    assert f"left out: folders whose images lie deeper than the others', 1 ({part})" in err
    assert err.endswith(f"lie one level below: name --{part} {folder / part}\n")


@pytest.mark.parametrize("part", ["support", "query"])
def test_a_class_folder_that_may_not_be_listed_is_one_line(
    part, weights, photos, capsys, monkeypatch
):
    closed, scandir = str(photos / part / CLASSES[1]), os.scandir

    def refusing(path):
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert run_predict(weights["protonet"], photos) == 2
    said = f"{closed}: cannot be read (Permission denied); make it readable for you, or name "
    assert capsys.readouterr().err == f"zoo: {said}another folder with --{part}\n"


def test_a_learner_of_another_number_of_classes(weights, photos, capsys):
    (photos / "support" / CLASSES[0]).rename(photos / "one less")
    assert run_predict(weights["maml"], photos) == 2
    assert "was trained for 4 classes and has one output for each" in capsys.readouterr().err
    assert run_predict(weights["protonet"], photos) == 0


def test_no_such_weights(photos, capsys):
    assert run_predict(Path("nothing"), photos) == 2
    assert "nothing: no such file, and no run of this name" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no run of this name"):
        zoo.predict("nothing", photos, photos)
