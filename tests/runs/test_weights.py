"""The tested weights lie beside the record, and are believed only if nothing is wrong with them."""

import json
import shlex

import pytest
import torch

from tests.runs.test_run import SMALL, numbers_of, plan
from zoo.errors import UsageError
from zoo.runs.run import Run
from zoo.runs.weights import file_hash, read_weights, save_weights, weights_path

SHORT = {**SMALL, "updates": 4, "validations": 2, "val_episodes": 8, "test_episodes": 16}


@pytest.fixture(scope="module")
def finished(stores, tmp_path_factory):
    run = plan(tmp_path_factory.mktemp("weights"), stores, flags=SHORT)
    return run, run.execute(progress=False)


def test_the_file_says_what_it_is(finished):
    run, record = finished
    path = weights_path(run.record_path)
    tensors, about = read_weights(path)
    assert about["run"] == run.name and about["learner"] == "maml" and about["way"] == 5
    assert about["settings"]["updates"] == 4 and about["image"] == [1, 28, 28]
    assert about["mean"] == list(run.benchmark.mean) and about["std"] == list(run.benchmark.std)
    assert about["data"] == record["data"]["fingerprint"]
    content = path.read_bytes()
    assert record["weights"] == {
        "file": path.name, "bytes": len(content), "hash": file_hash(content),
        "command": f"python -m zoo run '{run.title}' glyphs --way 5 --shot 1 --budget quick",
    }  # fmt: skip
    best = torch.load(run.workspace.runs / run.name / "best.ckpt", weights_only=True)
    assert tensors.keys() == best.keys()
    assert all(torch.equal(tensors[name], best[name]) for name in best)


def test_the_same_weights_make_the_same_file(finished, tmp_path):
    """So the hash of a run that was made again says whether its weights are the same."""
    run, _ = finished
    about = {name: 1 for name in "abcdefgh"}
    kept = [save_weights(tmp_path / "a.safetensors", run.learner, about) for _ in range(3)]
    assert len({each["hash"] for each in kept}) == 1
    tensors, found = read_weights(tmp_path / "a.safetensors")
    assert {name: found[name] for name in about} == about
    own = run.learner.state_dict()
    assert all(torch.equal(tensors[name], own[name]) for name in own)


def test_the_command_in_the_record_makes_the_same_run(finished, stores, tmp_path):
    run, record = finished
    variant = shlex.split(record["weights"]["command"])[4]
    assert plan(tmp_path, stores, variant, flags={}).identity == run.identity


def test_they_are_all_that_a_test_needs(finished, stores, tmp_path, monkeypatch):
    """Where the folder of the run is gone, nothing is trained again."""
    run, _ = finished
    for path in run.workspace.results.iterdir():
        (tmp_path / "results").mkdir(exist_ok=True)
        (tmp_path / "results" / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(Run, "train", None)
    again = plan(tmp_path, stores, flags=SHORT)
    learner = again.trained(progress=False)
    batch = again.data.on_after_batch_transfer(next(iter(again.data.test_dataloader())), 0)
    _, prediction = learner.evaluate(batch)
    assert (prediction.numpy() == numbers_of(run)["prediction"][: len(prediction)]).all()


def test_damaged_or_foreign_weights_are_refused(finished, stores, tmp_path):
    run, _ = finished
    other = plan(tmp_path, stores, flags=SHORT, seed=1)
    other.execute(progress=False)
    path = weights_path(other.record_path)
    whole = bytearray(path.read_bytes())
    path.write_bytes(weights_path(run.record_path).read_bytes())
    with pytest.raises(UsageError, match="its hash is not that of the record"):
        other.trained(progress=False)
    whole[-3] ^= 1  # in the values
    path.write_bytes(whole)
    with pytest.raises(UsageError, match="its hash is not that of the record"):
        other.trained(progress=False)
    with pytest.raises(UsageError, match="checksum does not match"):
        read_weights(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError, match="cannot be read as weights"):
        read_weights(path)


def test_any_layout_of_memory_can_be_kept(tmp_path):
    net = torch.nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    assert save_weights(tmp_path / "net.safetensors", net, {}) is not None
    tensors, _ = read_weights(tmp_path / "net.safetensors")
    assert torch.equal(tensors["weight"], net.weight)


def test_what_has_no_weights_or_failed_keeps_none(stores, tmp_path):
    flags = {"test_episodes": 8, "updates": 0}
    pixels = plan(tmp_path, stores, "pixelnn", flags=flags)
    assert pixels.execute(progress=False)["weights"] is None
    failing = plan(tmp_path, stores, flags={**SHORT, "outer_lr": 1e30, "clip": None})
    assert failing.execute(progress=False)["weights"] is None
    assert not list((tmp_path / "results").glob("*.safetensors"))


def test_committed_weights_stay_below_sixty_megabytes():
    from tests.runs.test_identity import RESULTS

    there = list(RESULTS.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in there) < 60e6
    for path in there:
        record = json.loads(path.with_suffix(".json").read_text())
        assert record["weights"]["hash"] == file_hash(path.read_bytes()), path.name
