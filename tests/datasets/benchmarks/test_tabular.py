"""Own tables: what becomes of columns, how tables are split and drawn, and a run on them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.support import digit_tables
from zoo.commands import main
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.benchmarks.tabular import Tables
from zoo.datasets.episodes.hash_random import key_of
from zoo.errors import UsageError


def write(folder: Path, tables: dict[str, pd.DataFrame]) -> Path:
    for name, frame in tables.items():
        path = folder / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path, index=False)
    return folder


def lines(rows: int, slope: float, seed: int = 0) -> pd.DataFrame:
    """Noiseless lines through an input of numbers, with a column of words that shifts them."""
    random = np.random.default_rng(seed)
    x, word = random.normal(3, 2, rows), random.choice(["a", "b"], rows)
    return pd.DataFrame({"x": x, "word": word, "target": slope * x + (word == "a")})


def opened(folder: Path, variant: str = "tabular") -> dict[str, Tables]:
    return find_benchmark(variant).open(folder)


def test_columns_are_normalised_by_the_training_tables(tmp_path: Path) -> None:
    """Against the arrays written out: numbers, missing ones, words, unknown words."""
    write(
        tmp_path,
        {
            "train/one": pd.DataFrame(
                {"n": [1, 3, None], "w": ["red", None, "blue"], "c": 7, "y": [0, 2, 4]}
            ),
            "train/two": pd.DataFrame({"n": [5], "w": ["red"], "c": [7], "y": [6]}),
            "test/three": pd.DataFrame(
                {"n": [3, None], "w": ["green", "blue"], "new": [1, 2], "y": [3, None]}
            ),
        },
    )
    stores = opened(tmp_path)
    deviation = np.std([1, 3, 5])
    wanted = [  # n, whether n is missing, c, blue, red
        [(1 - 3) / deviation, 0, 0, 0, 1],
        [0, 0, 0, 0, 0],
        [0, 1, 0, 1, 0],
        [(5 - 3) / deviation, 0, 0, 0, 1],
    ]
    found = stores["train"].tables.x
    order = [0, 1, 4, 2, 3]  # the columns as they are: n, missing, w (blue, red), c
    np.testing.assert_allclose(found[:, order], wanted, rtol=1e-6)
    np.testing.assert_allclose(
        stores["train"].tables.y[:, 0], (np.array([0, 2, 4, 6]) - 3) / np.std([0, 2, 4, 6])
    )
    # c is missing in this table, but never was in training: the mean, and no input that says so.
    np.testing.assert_allclose(stores["test"].tables.x[:, order], [[0, 0, 0, 0, 0]])
    assert stores["test"].tables.y.tolist() == [[0]]  # the row without an output is left out
    benchmark = find_benchmark("tabular")
    benchmark.learn_input_shape(stores)
    assert benchmark.image == (5,) and find_benchmark("tabular").image == (1,)


def test_parquet_is_as_csv(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    tables = {f"{split}/{i}": lines(20, i + 1, i) for i, split in enumerate(("train", "test"))}
    one = opened(write(tmp_path / "csv", tables))
    for name, frame in tables.items():
        path = tmp_path / "parquet" / f"{name}.parquet"
        path.parent.mkdir(parents=True)
        frame.to_parquet(path)
    two = opened(tmp_path / "parquet")
    for split, store in one.items():
        assert store.fingerprint == two[split].fingerprint


def test_tables_are_split_by_folders_a_list_or_the_rule(tmp_path: Path) -> None:
    tables = {f"t{i}": lines(20 + i, i, i) for i in range(12)}
    names = {
        split: store.tables.names
        for split, store in opened(write(tmp_path / "rule", tables)).items()
    }
    assert [len(names[split]) for split in ("train", "val", "test")] == [4, 4, 4]
    other = opened(tmp_path / "rule", "tabular[seed=1]")
    assert other["train"].tables.names != names["train"]
    rows = ["file,split", *(f"{n}.csv,{s}" for s, of_split in names.items() for n in of_split)]
    write(tmp_path / "list", tables)
    (tmp_path / "list/splits.csv").write_text("\n".join(rows))
    moved = {f"{s}/{n}": tables[n] for s, of_split in names.items() for n in of_split}
    write(tmp_path / "folders", moved)
    for how in ("list", "folders"):
        for split, store in opened(tmp_path / how).items():
            assert store.tables.names == names[split]
            assert store.fingerprint == opened(tmp_path / "rule")[split].fingerprint


def test_tasks_are_rows_of_one_table_and_queries_do_not_depend_on_the_shot(
    tmp_path: Path,
) -> None:
    tables = {f"{s}/{s}{i}": lines(20 + 7 * i, 1 + i, i) for s in ("train", "test") for i in (1, 2)}
    store = opened(write(tmp_path, tables))["test"]
    episodes = []
    for shot in (2, 5):
        drawn = store.sampler(1, shot, 15, key_of("test", 0), "test")
        indices = drawn.indices(0, 40)
        episodes.append(store.meta_batch(drawn, indices))
        assert {*indices.classes[:, 0].tolist()} == {0, 1}
        for rows in indices.images[:, 0]:
            assert len({*rows.tolist()}) == 15 + shot
    few, many = episodes
    assert few.query.y.shape == (40, 15, 1) and many.support.x.shape == (40, 5, 3)
    assert torch.equal(few.query.x, many.query.x)
    assert torch.equal(few.support.y, many.support.y[:, :2])
    with pytest.raises(UsageError, match=r"1 of 2 test tables have fewer rows.*tabular\[least"):
        store.sampler(1, 20, 10, key_of("test", 0), "test")


def test_small_tables_are_left_out_if_asked(tmp_path: Path) -> None:
    tables = {f"{s}/{i}": lines(10 + 15 * i, 1, i) for s in ("train", "test") for i in range(3)}
    write(tmp_path, tables)
    stores = opened(tmp_path, "tabular[least=20]")
    assert [store.tables.names for store in stores.values()] == [["1", "2"]] * 2
    with pytest.raises(UsageError, match="no train table has 500 rows"):
        opened(tmp_path, "tabular[least=500]")


GOOD = {f"{split}/{i}": lines(20, i, i) for split in ("train", "test") for i in range(2)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "expected a folder of csv or parquet files, one task each, found none to train on"),
        ({"train/0": GOOD["train/0"]}, "found none to test on"),
        (
            {**GOOD, "test/1": GOOD["test/1"].assign(target="high")},
            r"table '1': its output 'target' is not of numbers",
        ),
        (
            {**GOOD, "test/1": GOOD["test/1"].assign(target_2=1)},
            r"table '1' has the outputs target, target_2",
        ),
        ({**GOOD, "train/1": GOOD["train/1"][["target"]]}, "expected inputs too"),
        (
            {name: frame.assign(y=1) for name, frame in GOOD.items()},
            r"tables have 2 outputs \(target, y\); name the benchmark tabular\[outputs=2\]",
        ),
    ],
)
def test_what_does_not_go_together_is_said_in_a_line(
    change: dict[str, pd.DataFrame], words: str, tmp_path: Path
) -> None:
    tmp_path = tmp_path / "data"
    tmp_path.mkdir()
    write(tmp_path, change)
    with pytest.raises(UsageError, match=words) as error:
        opened(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tables.json", "{", r"tables\.json: .*expected"),
        ("tables.json", '{"target": ["x"]}', "unknown keys target"),
        ("tables.json", '{"targets": ["z"]}', "no column 'z'"),
        ("train/0.csv", "", r"0\.csv: expected a table, it cannot be read"),
        ("splits.csv", "t,first", r"found none to train on"),
    ],
)
def test_damaged_files_are_named(name: str, content: str, words: str, tmp_path: Path) -> None:
    if name == "splits.csv":
        words = r"splits\.csv, line 1: 't,first'; expected the name of a table"
        write(tmp_path, {f"t{i}": lines(20, i, i) for i in range(4)})
    else:
        write(tmp_path, GOOD)
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=words):
        opened(tmp_path)


def test_outputs_and_inputs_may_be_named(tmp_path: Path) -> None:
    write(tmp_path, {name: frame.assign(number=range(20)) for name, frame in GOOD.items()})
    facts = {"targets": ["x", "target"], "leave_out": ["number"]}
    (tmp_path / "tables.json").write_text(json.dumps(facts))
    store = opened(tmp_path, "tabular[outputs=2]")["train"]
    assert store.tables.x.shape == (40, 2) and store.tables.y.shape == (40, 2)


def test_a_linear_predictor_finds_lines_that_the_mean_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Noiseless lines: the error of ridge is near 0, and that of the mean near the variance."""
    folder = write(
        tmp_path / "data",
        {f"{s}/{i}": lines(60, 1 + i, i) for s in ("train", "test") for i in range(3)},
    )
    errors = {}
    for learner in ("mean", "linear[penalty=0.001]", "cnp"):
        words = ["--data", str(folder), "--shot", "10", "--budget", "smoke", "--threads", "1"]
        words += ["--results", str(tmp_path / learner), "--runs", str(tmp_path / "runs")]
        assert main(["run", learner, "tabular", *words]) == 0
        (path,) = (tmp_path / learner).glob("*.json")
        record = json.loads(path.read_text())
        errors[learner] = record["metrics"]["mse"]["mean"] if "metrics" in record else None
    assert errors["mean"] > 0.3 and errors["linear[penalty=0.001]"] < 1e-3


def test_the_digits_make_tables(tmp_path: Path) -> None:
    pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    paths = digit_tables.write(tmp_path)
    stores = opened(tmp_path, "tabular[outputs=2]")
    counts = {split: len(store.tables.names) for split, store in stores.items()}
    assert sum(counts.values()) == len(paths) == 40
    assert len({*stores["train"].tables.counts.tolist()}) > 1
    with pytest.raises(UsageError, match="2 outputs"):
        opened(tmp_path)


def blobs(classes: int, rows: int, seed: int) -> pd.DataFrame:
    """Classes that two inputs tell apart."""
    random = np.random.default_rng(seed)
    label = np.repeat(np.arange(classes), rows)
    centres = random.normal(0, 5, (classes, 2))
    frame = pd.DataFrame(
        centres[label] + random.normal(0, 0.3, (len(label), 2)), columns=["a", "b"]
    )
    return frame.assign(target=[f"class {number}" for number in label])


CLASSES = "tabular[task=classification]"


def test_an_episode_of_classes_is_of_one_table(tmp_path: Path) -> None:
    tables = {f"{s}/{i}": blobs(2 + i, 20 + i, i) for s in ("train", "test") for i in range(3)}
    store = opened(write(tmp_path, tables), CLASSES)["test"]
    names = np.array(store.names)
    assert len(names) == 2 + 3 + 4
    for shot in (1, 5):
        drawn = store.sampler(2, shot, 10, key_of("test", 0), "test")
        classes = drawn.indices(0, 60).classes
        tables_of = np.array([name.partition(":")[0] for name in names])[classes]
        assert (tables_of[:, 0] == tables_of[:, 1]).all() and {*tables_of[:, 0]} == {*"012"}
        assert (classes[:, 0] != classes[:, 1]).all()
    with pytest.raises(UsageError, match=r"--way 3: test table '0' has 2 classes"):
        store.sampler(3, 1, 10, key_of("test", 0), "test")
    with pytest.raises(UsageError, match=r"class 'class 0' of test table '0' has 20 rows"):
        store.sampler(2, 11, 10, key_of("test", 0), "test")


def test_small_classes_are_left_out_if_asked(tmp_path: Path) -> None:
    uneven = pd.concat([blobs(3, 25, 0), blobs(1, 5, 1).assign(target="rare")])
    write(tmp_path, {f"{split}/a": uneven for split in ("train", "test")})
    variant = "tabular[task=classification,least=20]"
    assert opened(tmp_path, variant)["test"].names == [f"a: class {i}" for i in range(3)]
    with pytest.raises(UsageError, match="no train table has two classes of 30 rows"):
        opened(tmp_path, "tabular[task=classification,least=30]")


@pytest.mark.parametrize("learner", ["protonet", "linear", "mean", "maml"])
def test_classes_are_learned_and_told_apart(learner: str, tmp_path: Path) -> None:
    folder = write(
        tmp_path / "data",
        {f"{s}/{i}": blobs(3, 30, i) for s in ("train", "val", "test") for i in range(2)},
    )
    words = ["--data", str(folder), "--way", "3", "--shot", "2", "--budget", "smoke"]
    words += ["--results", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
    assert main(["run", learner, CLASSES, *words, "--threads", "1"]) == 0
    (path,) = (tmp_path / "out").glob("*.json")
    accuracy = json.loads(path.read_text())["metrics"]["accuracy"]["mean"]
    if learner == "mean":
        assert accuracy == pytest.approx(1 / 3)
    elif learner != "maml":
        assert accuracy > 0.9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["convert", CLASSES, "--to", "csv", "--out", "new"], "has no images to write"),
        (["show", CLASSES, "-o", "a.png"], "has no images to show"),
        (["plot", "cnp", "tabular", "-o", "a.png"], "tabular has no functions to draw"),
        (["run", "protonet", CLASSES, "--augment", "flip"], "changes images, not tables"),
        (["run", "protonet", CLASSES, "--sampler", "adaptive"], "mixes the classes of tables"),
        (["run", "protonet", CLASSES, "--pretrained_from", "pretrain"], "no classes to tell apart"),
        (["run", "cnp", "tabular[outputs=0]"], "outputs=0 is unknown"),
        (["run", "cnp", "tabular"], "--shot 5"),
    ],
)
def test_what_tables_cannot_do_is_said_in_a_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write(tmp_path / "data", {f"{s}/a": blobs(5, 30, 0) for s in ("train", "test")})
    monkeypatch.chdir(tmp_path)
    if words[:3] == ["run", "cnp", "tabular"]:
        words, message = [*words], "is not of numbers; for classes name the benchmark"
    assert main([*words, "--data", str(folder)]) != 0
    errors = capsys.readouterr()
    text = errors.err + errors.out
    assert message in text and "Traceback" not in text
