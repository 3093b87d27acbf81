"""Settings that fit few own images: defaults are lowered and say so, what was asked for stays."""

import json

import numpy as np
import pytest
from PIL import Image

from zoo.commands import main
from zoo.datasets.episodes.data_module import EpisodicDataModule
from zoo.datasets.episodes.image_store import Store
from zoo.errors import UsageError
from zoo.runs.record import write_test_episodes
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.workspace import Workspace


def some(**counts: list[int]) -> dict[str, Store]:
    """Own images: of each split the number of images of each class."""
    rng = np.random.default_rng(0)
    return {
        split: Store.from_arrays(
            [f"{split} {number}" for number in range(len(sizes))],
            [rng.integers(0, 256, (size, 3, 28, 28), np.uint8) for size in sizes],
        )
        for split, sizes in counts.items()
    }


def plan(folder, stores, learner="protonet", budget="smoke", **words):
    workspace = Workspace(results=folder / "results", runs=folder / "runs", threads=1)
    request = RunRequest(learner, "folder[size=28]", budget=budget, **words)
    return Run(request, workspace, stores=stores)


TWENTY = {"train": [30] * 10, "val": [30] * 5, "test": [30] * 5}


def test_what_fits_is_left_alone(tmp_path):
    stores = some(train=[30] * 40, val=[30] * 5, test=[30] * 5)
    run = plan(tmp_path, stores)
    assert run.lowered == [] and (run.way, run["train_way"], run["query"]) == (5, 30, 15)
    assert {setting.origin for setting in run.settings.values()} <= {
        "constructor", "settings", "terms", "budget",
    }  # fmt: skip


def test_twenty_classes_of_thirty_images_run(tmp_path, capsys):
    from zoo.runs.make_runs import execute

    run = plan(tmp_path, some(**TWENTY))
    assert execute([run]) == 0
    line = "--train_way 10 (30 by default, but train has 10 classes)"
    assert f"  fitted to the images: {line}\n" in capsys.readouterr().out
    record = json.loads(run.record_path.read_text())
    assert record["lowered"] == [line]
    assert record["settings"]["train_way"] == {
        "value": 10, "origin": "data", "source": "30 by default, but train has 10 classes",
    }  # fmt: skip


def test_the_record_names_the_classes_and_how_each_did(tmp_path):
    stores = some(**TWENTY)
    run = plan(tmp_path, stores, budget="none")
    record = run.execute(progress=False)
    assert record["classes"] == {split: store.names for split, store in stores.items()}
    found = record["accuracy_of_classes"]
    assert [*found] == stores["test"].names
    # 5-way tests of five classes have each as often, so their mean is the accuracy.
    assert np.mean([*found.values()]) == pytest.approx(
        record["metrics"]["accuracy"]["mean"], abs=1e-4
    )


def test_numbers_of_images_beyond_65535_are_kept(tmp_path):
    images = np.broadcast_to(np.zeros((1, 1, 1, 1), np.uint8), (70_000, 1, 1, 1))
    store = Store.from_arrays(["a", "b"], [images, images])
    data = EpisodicDataModule(
        {"test": store}, (0.5,), (0.5,), {"meta_batch": 1, "updates": 0, "query": 1,
        "val_episodes": 0, "test_episodes": 50}, way=2, shot=1, seed=0, eval_batch=1,
    )  # fmt: skip
    write_test_episodes(tmp_path, data, regression=False)
    (path,) = tmp_path.iterdir()
    with np.load(path) as kept:
        assert kept["images"].max() > 65_535
        for name, drawn in data.test_indices()._asdict().items():
            assert np.array_equal(kept[name], drawn)
        assert kept["classes"].dtype == np.uint16  # as in every file before


def test_it_is_the_run_that_asks_for_these_values(tmp_path):
    stores = some(**TWENTY)
    run, asked = plan(tmp_path, stores), plan(tmp_path, stores, way=5, flags={"train_way": 10})
    assert run.identity == asked.identity and asked.lowered == []


def test_few_images_give_the_shots_first_and_queries_what_is_left(tmp_path):
    stores = some(train=[9, 8, 20, 20, 20], val=[20] * 4 + [9], test=[20, 7, 20, 20, 20])
    run = plan(tmp_path, stores, shot=5)
    assert [run[name] for name in ("query", "train_shot", "train_query")] == [2, 5, 3]
    said = "; ".join(run.lowered)
    assert "15 by default, but test class 'test 1' has 7 images and --shot is 5" in said
    assert "train class 'train 1' has 8 images" in said


def test_the_way_is_what_every_split_has(tmp_path):
    run = plan(tmp_path, some(train=[20] * 9, val=[20] * 3, test=[20] * 4), "maml")
    assert run.way == run["train_way"] == 3 and run.request.way == 3
    assert run.lowered == ["--way 3 (5 by default, but val has 3 classes)"]


@pytest.mark.parametrize(
    ("learner", "words", "says"),
    [
        ("protonet", {"way": 6}, "--way 6: val has only 5 classes; take --way 5 at most"),
        ("protonet", {"flags": {"train_way": 11}}, "--train_way 11: train has only 10 classes"),
        (
            "maml",
            {"flags": {"query": 30}},
            "take --query 29 at most, or leave that class out (val class 'val 0')",
        ),
        ("maml", {"config": {"train_query": 40}}, "take --train_query 29 at most"),
        ("maml", {"shot": 30}, "take --shot 29 and --query 1 at most"),
    ],
)
def test_what_was_asked_for_is_refused_by_name(learner, words, says, tmp_path):
    with pytest.raises(UsageError) as error:
        plan(tmp_path, some(**TWENTY), learner, **words)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_with_nothing_to_train_on_learners_are_tested_untrained(tmp_path):
    stores = some(test=[20, 9])
    with pytest.raises(UsageError, match=r"--updates .*2 classes are too few .*--budget none"):
        plan(tmp_path, stores)
    run = plan(tmp_path, stores, budget="none")
    assert (run.way, run["query"]) == (2, 8) and run.execute(progress=False)["status"] == "done"


def test_a_pretraining_is_validated_on_what_there_is(tmp_path):
    stores = some(train=[9] * 4, val=[4] * 2, test=[9] * 3)
    flags = {"pretrained_from": "pretrain", "pretrain_updates": 2, "pretrain_validations": 1}
    run = plan(tmp_path, stores, flags={**flags, "pretrain_val_episodes": 2})
    assert run.execute(progress=False)["status"] == "done"


def test_a_table_of_a_small_folder_is_made(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for number in range(24):
        folder = tmp_path / "photos" / f"c{number % 8}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (28, 28, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    words = ["table", "folder[size=28]", "--learners", "pixelnn", "--shots", "1"]
    words += ["--budget", "none", "--threads", "1"]
    for flag, name in (("--data", "photos"), ("--results", "results"), ("--runs", "runs")):
        words += [flag, str(tmp_path / name)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "fitted to the images: --way 2 (5 by default, but val has 2 classes)" in said
    assert "--query 2 (15 by default, but val class 'c" in said and "| 2-way 1-shot" in said
    files = [*(tmp_path / "results").glob("table-folder*")]
    for ending in (".md", ".html", ".tex"):
        (path,) = [path for path in files if path.suffix == ending]
        text = path.read_text(encoding="utf-8").replace("-{}-", "--")
        assert "fitted to the images" in text and "query 2 (15 by default, but val class" in text
