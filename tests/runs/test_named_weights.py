"""Weights by name: in a folder of results, by path, behind an address with its hash."""

import json

import pytest
import pytorch_lightning as pl
import torch

import zoo
from tests.runs.test_run import plan
from tests.runs.test_weights import SHORT
from tests.support.fileserver import serving
from zoo.errors import UsageError
from zoo.runs.named_weights import cache_folder, find_weights, weights_in
from zoo.runs.weights import weights_path


@pytest.fixture(scope="module")
def finished(stores, tmp_path_factory):
    """Two runs of one learner, which differ in their seeds."""
    folder = tmp_path_factory.mktemp("named")
    runs = [plan(folder, stores, "protonet", flags=SHORT, seed=seed) for seed in (0, 1)]
    for run in runs:
        run.execute(progress=False)
    return runs


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache_folder()


def test_a_name_its_beginning_and_a_path_mean_the_same(finished):
    run, other = finished
    results, path = run.workspace.results, weights_path(run.record_path)
    beginning = run.name[: run.name.index("-s0-") + 4]
    for name in (run.name, beginning, path, str(path)):
        found = find_weights(name, results)
        assert (found.path, found.name) == (path, run.name)
        assert found.record == run.record() and found.about["learner"] == "protonet"
    assert [each.name for each in weights_in(results)] == sorted([run.name, other.name])
    with pytest.raises(UsageError, match=r"protonet: the beginning of 2 names, .*; say more"):
        find_weights("protonet", results)
    with pytest.raises(UsageError, match=r"maml: no such file, and no run of this name"):
        find_weights("maml", results)
    with pytest.raises(UsageError, match=r"\.json: expected a run's name"):
        find_weights(run.record_path, results)
    with pytest.raises(UsageError, match="no such folder of results"):
        weights_in(results / "gone")


def test_a_record_without_its_weights_says_what_makes_them(finished, tmp_path):
    run, _ = finished
    (tmp_path / run.record_path.name).write_bytes(run.record_path.read_bytes())
    command = run.record()["weights"]["command"]
    with pytest.raises(UsageError, match="its weights do not") as error:
        find_weights(run.name, tmp_path)
    assert command in str(error.value)


def test_weights_behind_an_address_are_fetched_once(finished, cache):
    run, _ = finished
    known = run.record()["weights"]["hash"]
    with serving() as server:
        for path in (run.record_path, weights_path(run.record_path)):
            server.files[path.name] = path.read_bytes()
        address = f"{server.url}/there/{run.name}.safetensors#{known}"
        found = find_weights(address)
        assert found.path.is_relative_to(cache) and found.record == run.record()
        asked = len(server.asked)
        learner = zoo.load(address)
        assert len(server.asked) == asked == 2, "weights and record, once"
        for name, value in run.trained(progress=False).state_dict().items():
            assert torch.equal(learner.state_dict()[name], value)
        found.path.write_bytes(b"damaged since")
        assert find_weights(address).about["run"] == run.name
    assert find_weights(address).name == run.name, "without the server"


def test_an_address_without_hash_or_with_another_is_refused(finished, cache):
    run, other = finished
    known, another = (each.record()["weights"]["hash"] for each in (run, other))
    with serving() as server:
        server.files["w.safetensors"] = weights_path(run.record_path).read_bytes()
        url = f"{server.url}/w.safetensors"
        for address in (url, f"{url}#", f"{url}#{known[:-1]}"):
            with pytest.raises(UsageError, match=r"ADDRESS#HASH.*nothing was fetched"):
                find_weights(address)
        assert not server.asked
        with pytest.raises(UsageError, match=f"its hash is {known}, {another} was asked for"):
            find_weights(f"{url}#{another}")
        with pytest.raises(UsageError, match=r"x\.safetensors: 404"):
            find_weights(f"{server.url}/x.safetensors#{known}")
        with pytest.raises(UsageError, match=r"expected the address of a \.safetensors file"):
            find_weights(f"{server.url}/x.ckpt#{known}")
        assert not [path for path in cache.rglob("*") if path.is_file()]
        assert find_weights(f"{url}#{known}").record is None, "there is no record beside it"
        assert find_weights(f"{url}#{known}").name == run.name


def test_a_record_of_other_weights_is_not_kept(finished, cache):
    run, other = finished
    known = run.record()["weights"]["hash"]
    with serving() as server:
        server.files["w.safetensors"] = weights_path(run.record_path).read_bytes()
        server.files["w.json"] = other.record_path.read_bytes()
        assert find_weights(f"{server.url}/w.safetensors#{known}").record is None


def test_weights_that_are_not_those_of_the_record_are_refused(finished, tmp_path):
    run, other = finished
    path = tmp_path / f"{run.name}.safetensors"
    path.write_bytes(weights_path(other.record_path).read_bytes())
    path.with_suffix(".json").write_bytes(run.record_path.read_bytes())
    with pytest.raises(UsageError, match="not what its run tested"):
        zoo.load(path)
    foreign = tmp_path / "foreign.safetensors"
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, foreign)
    with pytest.raises(UsageError, match="does not say what its weights belong to"):
        zoo.load(foreign, benchmark="glyphs")


def test_a_checkpoint_of_other_images_is_refused(tmp_path):
    learner, data = zoo.experiment("protonet", "glyphs", train_way=5, updates=1, val_episodes=2)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", **options)
    trainer.fit(learner, data)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    assert zoo.load(path, benchmark="omniglot").way == 5
    with pytest.raises(UsageError) as error:
        zoo.load(path, benchmark="cifarfs")
    assert str(error.value) == "last was trained on images of 1x28x28, cifarfs has 3x32x32"
    learner.normalise_by((0.2,), (1.0,))
    trainer.save_checkpoint(path)
    with pytest.raises(UsageError, match=r"last was trained with mean 0\.2, glyphs has 0"):
        zoo.load(path, benchmark="glyphs")


def test_another_size_channels_or_normalisation_are_refused(finished, tmp_path, monkeypatch):
    run, _ = finished
    results = run.workspace.results
    zoo.load(run.name, results=results, benchmark="omniglot")
    for benchmark, image in (("cifarfs", "3x32x32"), ("miniimagenet", "3x84x84")):
        with pytest.raises(UsageError) as error:
            zoo.load(run.name, results=results, benchmark=benchmark)
        said = f"{run.name} was trained on images of 1x28x28, {benchmark} has {image}"
        assert str(error.value) == said
    monkeypatch.setattr(type(run.benchmark), "std", (0.5,))
    with pytest.raises(UsageError) as error:
        zoo.load(run.name, results=results, benchmark="glyphs")
    assert str(error.value) == f"{run.name} was trained with std 1, glyphs has 0.5"
    with pytest.raises(UsageError, match=r"was trained with std 1, glyphs has 0\.5"):
        run.trained(progress=False)


def test_settings_newer_than_the_weights_have_the_value_of_then(stores, tmp_path):
    """Weights of before a setting was added say nothing of it."""
    run = plan(tmp_path, stores, "matchingnet[normalise=both]", flags=SHORT)
    run.execute(progress=False)
    path = weights_path(run.record_path)
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, "pt") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    settings = json.loads(about["settings"])
    del settings["normalise"], about["about_checksum"]  # which files of then lack too
    older = tmp_path / "older.safetensors"
    save_file(tensors, older, {**about, "settings": json.dumps(settings)})
    assert zoo.load(older).hparams["normalise"] == "both"
