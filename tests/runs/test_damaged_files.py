"""Folders of runs with a damaged, foreign or missing file: said in a line, never believed."""

import os
import shutil

import numpy as np
import pytest
import torch

import zoo.runs.checkpoints
from tests.runs.test_run import SMALL, KilledError, kill_at, numbers, plan
from zoo.checkpoint_files import read_checkpoint, write_checkpoint
from zoo.files import alone_in, write_arrays
from zoo.reports import records
from zoo.runs.weights import weights_path

TINY = {
    **SMALL, "updates": 6, "validations": 3, "val_episodes": 4, "test_episodes": 8,
    "meta_batch": 2, "train_way": 5,
}  # fmt: skip
SHORT = {**TINY, "updates": 2, "validations": 1}


def tiny(folder, stores, **options):
    return plan(folder, stores, "matchingnet", **{"flags": TINY, **options})


def same_numbers(run, other):
    ours, theirs = numbers(run), numbers(other)
    return ours.keys() == theirs.keys() and all(map(np.array_equal, ours.values(), theirs.values()))


@pytest.fixture(scope="module")
def whole(stores, tmp_path_factory):
    """A run that nothing happened to."""
    torch.set_num_threads(1)
    run = tiny(tmp_path_factory.mktemp("whole"), stores)
    run.execute(progress=False)
    return run


@pytest.fixture(scope="module")
def killed(stores, tmp_path_factory):
    """The folder of one that was killed in the test, with all that a run has under way."""
    folder = tmp_path_factory.mktemp("killed")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", -1.0)
        kill_at(patch, "on_test_batch_end", 1)
        tiny(folder, stores).execute(progress=False)
    run = tiny(folder, stores)
    names = {path.name for path in run.folder.iterdir()}
    assert names >= {"last.ckpt", "best.ckpt", "test.npz", "test_passes_begun"}
    return folder


def inverted(share):
    def invert(path):
        content = bytearray(path.read_bytes())
        content[int(len(content) * share)] ^= 0xFF
        path.write_bytes(content)

    return invert


PLANTED = {
    "accuracy": np.ones(8, np.float32),
    "nll": np.zeros(8, np.float32),
    "prediction": np.zeros((8, 15), np.int64),
}
DAMAGES = {
    "last, cut": ("last.ckpt", lambda path: os.truncate(path, path.stat().st_size // 2)),
    "last, empty": ("last.ckpt", lambda path: path.write_bytes(b"")),
    "last, foreign": ("last.ckpt", lambda path: torch.save({"weights": torch.ones(3)}, path)),
    "last, inverted": ("last.ckpt", inverted(0.3)),
    "last, inverted near its end": ("last.ckpt", inverted(0.95)),
    "best, inverted": ("best.ckpt", inverted(0.5)),
    "best, missing": ("best.ckpt", lambda path: path.unlink()),
    "test, inverted": ("test.npz", inverted(0.5)),
    "test, planted": ("test.npz", lambda path: np.savez(path, **PLANTED)),
    "test, another's": ("test.npz", lambda path: write_arrays(path, {**PLANTED, "of": np.ones(1)})),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_ends_as_an_undisturbed_one_and_a_line_names_the_file(
    damage, whole, killed, stores, tmp_path, capsys
):
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    run = tiny(tmp_path, stores)
    name, spoil = DAMAGES[damage]
    spoil(run.folder / name)
    record = run.execute(progress=False)
    said = [line for line in capsys.readouterr().err.splitlines() if name in line]
    # What is missing of best.ckpt, the last checkpoint knows, if its own validation was the best.
    assert len(said) == 1 or (name == "best.ckpt" and record["tested_update"] == 6)
    assert all("anew" in line for line in said)
    assert same_numbers(run, whole)
    assert record["metrics"] == whole.record()["metrics"]
    assert "unchecked" not in record["environment"]


def test_a_checkpoint_of_earlier_code_is_gone_on_from_and_named(
    whole, killed, stores, tmp_path, capsys
):
    """It has no checksum and no names: what can be seen is checked, and the record says so."""
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    run = tiny(tmp_path, stores)
    last, best = run.folder / "last.ckpt", run.folder / "best.ckpt"
    checkpoint = read_checkpoint(last).content
    state = checkpoint["callbacks"]["CheckpointKeeper"]
    for later in ("run", "trajectory", "sources", "unchecked", "best_checksum"):
        del state[later]
    torch.save(checkpoint, last)
    torch.save(read_checkpoint(best).content, best)
    record = run.execute(progress=False)
    assert "last.ckpt: of earlier code, without a checksum" in capsys.readouterr().err
    assert record["environment"]["unchecked"] == ["last.ckpt"]
    assert record["updates"]["executed_by_this_process"] == 0 and same_numbers(run, whole)


def test_the_checkpoint_of_another_run_is_not_gone_on_from(whole, stores, tmp_path, capsys):
    other = tiny(tmp_path / "other", stores, seed=1)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "on_validation_end", 1)
        other.execute(progress=False)
    run = tiny(tmp_path, stores)
    shutil.copytree(other.folder, run.folder)
    run.execute(progress=False)
    assert "last.ckpt is of another run; the training starts anew" in capsys.readouterr().err
    assert same_numbers(run, whole)


@pytest.mark.parametrize("text", ["x", "", "-3", "9" * 30, "\N{SUPERSCRIPT TWO}"])
def test_a_damaged_count_of_test_passes_counts_as_one(text, killed, stores, tmp_path, capsys):
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    run = tiny(tmp_path, stores)
    (run.folder / "test_passes_begun").write_text(text, encoding="utf-8")
    assert run.execute(progress=False)["test_passes_begun"] == 1
    assert "test_passes_begun is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["trajectory", "training.json"])
@pytest.mark.parametrize("text", ["x", "[]", '{"updates": 2}'])
def test_a_neighbour_that_is_damaged_is_passed_over(name, text, stores, tmp_path, capsys):
    run = tiny(tmp_path, stores, flags=SHORT)
    neighbour = run.workspace.runs / "neighbour"
    neighbour.mkdir(parents=True)
    (neighbour / name).write_text(text)
    (neighbour / "end.ckpt").write_bytes(b"x")
    assert run.execute(progress=False)["status"] == "done"
    assert f"{name} is" in capsys.readouterr().err


def test_a_longer_run_takes_only_what_belongs_together(whole, stores, tmp_path, capsys):
    """A rerun of the shorter one was stopped after it had written its first best.ckpt."""
    short = tiny(tmp_path, stores, flags={**TINY, "updates": 4, "validations": 2})
    short.execute(progress=False)
    best = short.folder / "best.ckpt"
    torch.save({name: value + 1 for name, value in torch.load(best).items()}, best)
    run = tiny(tmp_path, stores)
    run.execute(progress=False)
    said = capsys.readouterr().err
    assert "not gone on from" in said and "best.ckpt is of another training than end.ckpt" in said
    assert same_numbers(run, whole)


def test_a_longer_run_passes_over_one_that_is_in_use_or_damaged(whole, stores, tmp_path, capsys):
    for updates in (2, 4):
        flags = {**TINY, "updates": updates, "validations": updates // 2}
        tiny(tmp_path, stores, flags=flags).execute(progress=False)
    shorter, longer = (
        tiny(tmp_path, stores, flags={**TINY, "updates": n, "validations": n // 2}).folder
        for n in (2, 4)
    )
    inverted(0.4)(longer / "end.ckpt")
    run = tiny(tmp_path, stores)
    with alone_in(shorter):
        record = run.execute(progress=False)
    said = capsys.readouterr().err
    assert "end.ckpt is damaged" in said and "is in use by process" in said
    assert record["updates"]["executed_by_this_process"] == 6 and same_numbers(run, whole)


def test_a_shorter_run_of_earlier_code_is_gone_on_from_unless_begun_anew(
    whole, stores, tmp_path, capsys
):
    """There the names of files alone say what is finished."""
    short = tiny(tmp_path, stores, flags={**TINY, "updates": 4, "validations": 2})
    short.execute(progress=False)
    (short.folder / "training.json").unlink()
    (short.folder / "trajectory").write_text(f"{short.trajectory} 4")
    best, end = short.folder / "best.ckpt", short.folder / "end.ckpt"
    checkpoint = read_checkpoint(end).content
    for later in ("run", "trajectory", "sources", "unchecked", "best_checksum"):
        del checkpoint["callbacks"]["CheckpointKeeper"][later]
    torch.save(read_checkpoint(best).content, best)
    torch.save(checkpoint, end)
    run = tiny(tmp_path, stores)
    record = run.execute(progress=False)
    assert record["updates"]["executed_by_this_process"] == 2 and same_numbers(run, whole)
    assert record["environment"]["unchecked"] == ["last.ckpt"]
    shutil.rmtree(run.folder)
    run.record_path.unlink()
    os.utime(best)  # a run that was begun anew has written it
    record = tiny(tmp_path, stores).execute(progress=False)
    assert record["updates"]["executed_by_this_process"] == 6
    assert "best.ckpt is of another training" in capsys.readouterr().err


def lost(run):
    """The run in a new process, its weights gone from the results."""
    weights_path(run.record_path).unlink(missing_ok=True)
    return tiny(run.workspace.runs.parent, {**run.stores}, flags=SHORT)


def test_best_weights_are_taken_for_finished_only_where_that_is_written(
    stores, tmp_path, capsys, monkeypatch
):
    """A stop between two first writes left best.ckpt of a training that had only begun."""
    run = tiny(tmp_path, stores, flags=SHORT)
    run.execute(progress=False)
    expected = {name: value.clone() for name, value in run.learner.state_dict().items()}

    def weights(of):
        return all(torch.equal(value, of.state_dict()[name]) for name, value in expected.items())

    with monkeypatch.context() as patch:
        patch.setattr(type(run), "train", None)
        assert weights(lost(run).trained(progress=False)), "nothing is trained again"
    assert weights_path(run.record_path).exists(), "and the weights lie beside the record again"
    best = run.folder / "best.ckpt"
    write_checkpoint(best, {name: value + 1 for name, value in expected.items()})
    assert weights(lost(run).trained(progress=False))
    inverted(0.5)(best)
    assert weights(lost(run).trained(progress=False))
    assert "best.ckpt is damaged: its checksum does not match; the run is trained again" in (
        capsys.readouterr().err
    )


def test_finished_weights_of_earlier_code_are_taken_and_named(
    stores, tmp_path, capsys, monkeypatch
):
    """There the name last.ckpt alone says that a training is under way."""
    run = tiny(tmp_path, stores, flags=SHORT)
    run.execute(progress=False)
    best = run.folder / "best.ckpt"
    torch.save(read_checkpoint(best).content, best)
    (run.folder / "training.json").unlink()
    monkeypatch.setattr(type(run), "train", None)
    again = lost(run)
    assert again.trained(progress=False) and again.unchecked == ["best.ckpt"]
    assert "best.ckpt: of earlier code, without a checksum" in capsys.readouterr().err
    (run.folder / "last.ckpt").write_bytes(b"under way")
    with pytest.raises(TypeError, match="not callable"):  # it would be trained
        lost(run).trained(progress=False)


def test_a_record_covers_what_its_episodes_gave_and_had(whole, stores, tmp_path, capsys):
    shutil.copytree(whole.workspace.results, tmp_path / "results")
    results, name = tmp_path / "results", whole.name
    episodes = results / f"episodes-{whole.data.test_fingerprint()}.npz"
    gave = results / f"{name}.npz"

    def read():
        return records.values(results, records.load(results)[0])

    found, problems = read()
    assert not problems and [*found] == [name]
    with np.load(gave) as arrays:
        changed = {**arrays, "accuracy": np.roll(arrays["accuracy"], 1)}
    np.savez(gave, **changed)
    assert not read()[0] and "not what was recorded" in read()[1][0]
    inverted(0.5)(episodes)
    assert "damaged, not the classes and images that were tested" in read()[1][1]
    again = tiny(tmp_path, stores, seed=1)  # of the same test episodes
    again.execute(progress=False)
    assert f"{episodes}: cannot be read" in capsys.readouterr().err
    found, problems = read()
    assert [*found] == [again.name] and len(problems) == 1
