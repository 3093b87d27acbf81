"""The zoo as a library: the public names, and what they do."""

import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

import zoo
from tests.runs.test_any_trainer import FEW, sinusoid, trainer
from tests.runs.test_run import numbers_of, plan
from zoo.checkpoint_files import write_checkpoint
from zoo.datasets.benchmarks.in_memory import ImagesInMemory, pixels_of
from zoo.errors import UsageError
from zoo.runs.weights import weights_path

PUBLIC = {
    "Episode", "Examples", "InnerOptimizer", "Learner", "Params", "TestRecorder", "UsageError",
    "adapt", "build_backbone", "call", "difference", "experiment", "learners", "load",
    "make_episode", "predict", "published", "records", "register", "register_backbone",
    "register_benchmark", "torchmeta_batches",
}  # fmt: skip


def test_the_public_names():
    """A name that goes is missed by somebody: see zoo.runs.api on how to change one."""
    assert set(zoo.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(zoo, name).__doc__, name
    with pytest.raises(AttributeError, match="module 'zoo' has no attribute 'nothing'"):
        _ = zoo.nothing


def test_an_experiment_is_the_run_of_the_same_words(tmp_path):
    """The same settings, weights and episodes as ``zoo run`` would have."""
    flags = {**FEW, "inner_lr": 0.3}
    learner, data = zoo.experiment(
        "maml[first_order=true]", "glyphs", shot=2, seed=3, runs=tmp_path / "runs", **flags
    )
    run = plan(tmp_path, data.stores, "maml[first_order=true]", flags=flags, shot=2, seed=3)
    assert learner.hparams == run.learner.hparams and learner.hparams["inner_lr"] == 0.3
    for name, value in run.learner.state_dict().items():
        assert torch.equal(learner.state_dict()[name], value)
    assert data.test_fingerprint() == run.data.test_fingerprint()
    ours, theirs = (next(iter(d.train_dataloader())) for d in (data, run.data))
    assert torch.equal(ours.x, theirs.x)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"learner": "mamml"}, "no learner 'mamml': did you mean 'maml'"),
        ({"benchmark": "glyph"}, "no benchmark 'glyph': did you mean 'glyphs'"),
        ({"inner_rl": 0.1}, "experiment: no setting 'inner_rl': did you mean 'inner_lr'"),
        ({"inner_lr": "fast"}, "experiment: .*inner_lr"),
        ({"budget": "x"}, "--budget x: choose from none, smoke, quick, hour, paper"),
        ({"terms": "y"}, "--terms y: choose from paper, equal"),
        ({"way": 5.0}, "--way 5.0: expected a whole number"),
        ({"seed": "a"}, "--seed 'a': expected a whole number"),
        ({"shot": 0}, "--shot 0: expected a whole number of at least 1"),
        ({"benchmark": {"train": []}}, "datasets by split: train; expected train, test"),
    ],
)
def test_what_cannot_be_is_said(words, said):
    with pytest.raises(UsageError, match=said):
        zoo.experiment(**{"learner": "maml", "benchmark": "glyphs", **words})


ProtoNet = zoo.learners["protonet"]
PIXELS = np.zeros((3, 8, 8), np.uint8)


class Squares(Dataset):
    """Images of one's own: class c has a square at its place; labels are names."""

    def __init__(self, first: int, classes: int, kind: str = "uint8") -> None:
        self.first, self.classes, self.kind = first, classes, kind

    def __len__(self) -> int:
        return 12 * self.classes

    def __getitem__(self, number):
        label = self.first + number % self.classes
        image = np.random.default_rng(number).integers(0, 60, (3, 20, 20), np.uint8)
        row, column = divmod(label, 5)
        image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 150
        if self.kind == "float":
            return torch.from_numpy(image) / 255, torch.tensor(label)
        if self.kind == "pillow":
            return Image.fromarray(image.transpose(1, 2, 0)), f"square {label}"
        return image, f"square {label}"


@pytest.mark.parametrize("kind", ["uint8", "float", "pillow"])
def test_own_images_by_dataset(kind, tmp_path):
    """ProtoNet on a dataset of (image, label): the pixels are the dataset's, and it learns."""
    datasets = {"train": Squares(0, 10, kind), "test": Squares(10, 5, kind)}
    learner, data = zoo.experiment(
        "protonet", datasets, way=5, shot=1, train_way=5, train_query=4, query=4, meta_batch=1,
        updates=20, test_episodes=20, backbone="conv4[channels=8]", outer_lr=0.01, runs=tmp_path,
    )  # fmt: skip
    store = data.stores["train"]
    label = "square 3" if kind != "float" else "3"
    place = store.names.index(label)
    first = store.images[store.offsets[place]]
    expected = Squares(0, 10)[3][0]
    assert np.array_equal(first.numpy(), expected)
    episode = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert abs(float(episode.support.x.mean())) < 0.5  # normalised by the training images
    pl.seed_everything(0, verbose=False)
    trainer().fit(learner, data)
    (found,) = trainer().test(learner, data, verbose=False)
    assert found["test/accuracy"] > 0.6


def test_images_are_normalised_as_in_training(tmp_path):
    """Predictions of pixels by hand are those of the same pixels through the data module."""
    datasets = {"train": Squares(0, 10), "test": Squares(10, 5)}
    learner, data = zoo.experiment(
        "maml", datasets, way=5, train_way=5, query=4, train_query=4, meta_batch=1, updates=2,
        test_episodes=1, backbone="conv4_strided[channels=4]", runs=tmp_path,
    )  # fmt: skip
    fit = trainer(limit_val_batches=0)
    fit.fit(learner, data)
    fit.save_checkpoint(tmp_path / "kept.ckpt")
    batch = next(iter(data.test_dataloader()))
    expected = data.on_after_batch_transfer(batch, 0)
    n = batch.support
    (pixels,), (y,) = batch.x, batch.y
    assert learner.image_mean == pytest.approx(data.mean) and learner.image_std == data.std
    loaded = zoo.load(tmp_path / "kept.ckpt")
    assert loaded.image_mean == learner.image_mean and loaded.hparams == learner.hparams
    for one in (learner.eval(), loaded):
        support, queries = (one.normalised(part) for part in (pixels[:n], pixels[n:].numpy()))
        episode = zoo.make_episode((support, y[:n]), queries)
        assert torch.equal(episode.support.x, expected.support.x)
        assert torch.equal(one.probabilities(episode), learner.probabilities(expected))
        torch.testing.assert_close(one.normalised(pixels / 255), one.normalised(pixels))
    with pytest.raises(UsageError, match=r"shape \(20, 20, 3\): expected \(\.\.\., 3, H, W\)"):
        learner.normalised(np.zeros((20, 20, 3)))
    for wrong in (pixels.float(), pixels.int(), support, torch.full((3, 20, 20), torch.nan)):
        with pytest.raises(UsageError, match=r"expected uint8, or floating-point numbers in"):
            learner.normalised(wrong)


def test_a_learner_made_by_hand_asks_how(tmp_path):
    learner = zoo.learners["protonet"](zoo.build_backbone("conv4[channels=4]", (1, 28, 28)), 3)
    assert learner.image_mean is None and "image_mean" not in learner.hparams
    with pytest.raises(UsageError, match=r"call learner\.normalise_by\(mean, std\)"):
        learner.normalised(torch.rand(2, 1, 28, 28))
    learner.normalise_by([0.5], [0.25])
    assert learner.normalised(torch.ones(2, 1, 28, 28)).unique().tolist() == [2.0]


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ([], "train: the dataset is empty"),
        ([(np.zeros((3, 8, 8)) - 1, 0)], r"train: image 0: float64 from -1 to -1; expected uint8"),
        ([(np.zeros((2, 3, 8, 8), np.uint8), 0)], r"train: image 0: shape \(2, 3, 8, 8\)"),
        (
            [(np.zeros((3, 8, n), np.uint8), 0) for n in (8, 9)],
            "train: images differ in shape: .* resize them",
        ),
        ([(np.full((3, 8, 8), np.nan), 0)], "train: image 0: some pixels are nan"),
        ([(np.zeros((8, 8, 3)), 0)], r"train: image 0: .* transpose to \(C, H, W\)"),
        ([([0, 1], 0)], "train: image 0: a list; expected a PIL image, an array or a tensor"),
        ([(Image.new("I;16", (8, 8)), 0)], "train: image 0: PIL mode I;16, of more than 8 bits"),
        ([(PIXELS, 0), (PIXELS, torch.eye(3)[0])], r"train: item 1: a label of shape \(3,\)"),
        ([(PIXELS, None)], "train: item 0: the label is None; expected one number or name"),
        ([PIXELS], r"train: item 0 is a ndarray; expected \(image, label\)"),
        ([(PIXELS, 0, 1)], r"train: item 0 is a tuple; expected \(image, label\)"),
        ((pair for pair in [(PIXELS, 0)]), "train: a generator; expected something with a length"),
        ({"ant": [PIXELS]}, "train: a dict; expected something with a length"),
    ],
)
def test_images_that_cannot_be_taken(dataset, said):
    test = [(np.zeros((3, 8, 8), np.uint8), 0)]
    with pytest.raises(UsageError, match=said):
        zoo.experiment("protonet", {"train": dataset, "test": test})


def test_what_is_no_dict_of_datasets():
    with pytest.raises(UsageError, match="datasets: a list; expected a dict by split"):
        zoo.experiment("protonet", [[(PIXELS, 0)], [(PIXELS, 1)]])


def images_of(labels, first):
    """Five images of each label, every one of another shade."""
    shades = first + np.arange(5 * len(labels)).reshape(len(labels), 5)
    return [
        (np.full((1, 8, 8), shade, np.uint8), label)
        for label, row in zip(labels, shades, strict=True)
        for shade in row
    ]


def test_splits_share_neither_images_nor_classes():
    """What `random_split` makes of one dataset gives accuracies on classes that were trained on."""
    ants, bees, cows = images_of(["ant", "bee"], 0), images_of(["bee"], 50), images_of(["cow"], 90)
    for test in (ants, ants[:5], [*cows, ants[0]]):
        with pytest.raises(UsageError, match=r"train and test have .*images? in common; a few"):
            ImagesInMemory({"train": ants, "val": bees[:0] + cows[1:], "test": test})
    with pytest.raises(UsageError, match="val and test have an image in common"):
        ImagesInMemory({"train": ants, "val": cows, "test": cows[:1]})
    with pytest.raises(UsageError, match="train and test have classes in common, such as bee; a"):
        ImagesInMemory({"train": ants, "test": bees})
    ImagesInMemory({"train": ants, "test": cows})


def test_labels_that_are_numbers_may_start_anew_in_each_split():
    train, test = images_of([0, 1], 0), images_of([0], 50)
    with pytest.warns(UserWarning, match=r"train and test both have labels 0\. If these ar"):
        ImagesInMemory({"train": train, "test": test})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ImagesInMemory({"train": train, "test": images_of([2], 50)})


def test_numbers_of_numpy_and_what_the_trainer_decides():
    data = {"train": images_of([*"abcdef"], 0), "test": images_of([*"uvwxyz"], 100)}
    learner, _ = zoo.experiment("protonet", data, way=np.int64(3), shot=np.int32(1), query=2,
                                seed=np.uint8(1), backbone="mlp")  # fmt: skip
    assert learner.way == 3
    with pytest.raises(UsageError, match="device is no setting of the learner: the Trainer decid"):
        zoo.experiment("protonet", data, device="cpu")


def test_images_of_every_mode_of_pillow():
    """Grey stays grey, all else is RGB, and what is transparent is white."""
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    for mode in ("RGB", "P", "RGBA", "YCbCr"):
        pixels = pixels_of(red.convert(mode), mode)
        assert (
            pixels.shape == (3, 4, 4) and abs(pixels[:, 0, 0].astype(int) - [255, 0, 0]).max() < 3
        )
    assert pixels_of(red.convert("CMYK"), "").shape == (3, 4, 4)
    for mode in ("1", "L", "LA"):
        assert pixels_of(Image.new(mode, (4, 4), "white"), mode).tolist() == [[[255] * 4] * 4]
    assert pixels_of(Image.new("LA", (4, 4), (0, 0)), "").tolist() == [[[255] * 4] * 4]
    assert (pixels_of(Image.new("RGBA", (4, 4), (9, 9, 9, 0)), "") == 255).all()
    palette = red.convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert (pixels_of(palette, "") == 255).all()


def test_tensors_that_only_need_a_conversion():
    half = torch.full((1, 4, 4), 0.5)
    for image in (half.bfloat16(), half.half(), half.requires_grad_()):
        assert pixels_of(image, "").tolist() == [[[128] * 4] * 4]


def test_splits_of_different_sizes():
    train, test = ([(np.zeros((3, n, n), np.uint8), 0)] for n in (8, 9))
    with pytest.raises(UsageError, match=r"images differ in shape: .*'test': .3, 9, 9.*resize"):
        zoo.experiment("protonet", {"train": train, "test": test})


def test_weights_come_back_by_path(stores, tmp_path):
    """Of the file beside a record: the learner that was tested, its settings with it."""
    for learner in ("maml[inner_lr=0.3]", "trlearner[host=protonet]"):
        run = plan(tmp_path, stores, learner, flags={**FEW, "train_way": 5})
        run.execute(progress=False)
        again = zoo.load(weights_path(run.record_path))
        named = zoo.load(run.name, results=tmp_path / "results")
        for name, value in again.state_dict().items():
            assert torch.equal(named.state_dict()[name], value)
        assert type(again) is type(run.learner) and not again.training
        kept = {n: v for n, v in run.learner.hparams.items() if n != "micro_batch"}  # a machine's
        assert dict(again.hparams) == kept
        recorder = zoo.TestRecorder()
        trainer(callbacks=[recorder]).test(again, run.data.of_shape(5, 1), verbose=False)
        np.testing.assert_allclose(
            recorder.results()["nll"], numbers_of(run)["nll"], rtol=1e-3, atol=1e-5
        )


def test_what_is_no_weights(tmp_path):
    with pytest.raises(UsageError, match=r"nothing\.ckpt: there is no such file"):
        zoo.load(tmp_path / "nothing.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UsageError, match=r"other\.ckpt: not a checkpoint of a zoo learner"):
        zoo.load(tmp_path / "other.ckpt")
    with pytest.raises(UsageError, match=r"bad\.ckpt cannot be read as a checkpoint"):
        (tmp_path / "bad.ckpt").write_bytes(b"nothing")
        zoo.load(tmp_path / "bad.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(UsageError, match=r"list\.ckpt: not a checkpoint of a zoo learner"):
        zoo.load(tmp_path / "list.ckpt")
    for name in ("run.json", "run.npz"):
        (tmp_path / name).write_text("{}")
        with pytest.raises(UsageError, match=rf"{name}: expected .* run\.safetensors"):
            zoo.load(tmp_path / name)
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"bad\.safetensors: cannot be read as weights"):
        zoo.load(tmp_path / "bad.safetensors")


class Mine(ProtoNet):
    """A learner that nobody registered."""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "cannot be read as a checkpoint"),
        (b"nothing", "cannot be read as a checkpoint"),
        ([1, 2], "not a checkpoint of a zoo learner"),
        ({"state_dict": {}}, "not a checkpoint of a zoo learner"),
        ({"hyper_parameters": {"way": 5}}, "not a checkpoint of a zoo learner"),
    ],
)
def test_its_class_refuses_the_same_in_a_line(content, said, tmp_path):
    path = tmp_path / "some.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UsageError, match=rf"some\.ckpt:? {said}") as error:
        Mine.load_from_checkpoint(path)
    assert "\n" not in str(error.value)


def test_a_damaged_checkpoint_of_a_run_is_refused(tmp_path):
    """With a checksum in it, even where torch would read it."""
    learner = zoo.learners["protonet"](zoo.build_backbone("conv4[channels=4]", (1, 28, 28)), 3)
    parts = {"hyper_parameters": dict(learner.hparams), "state_dict": learner.state_dict()}
    path = tmp_path / "protonet.ckpt"
    write_checkpoint(path, parts)
    assert zoo.load(path).way == 3
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=False)  # says nothing
    for load in (zoo.load, type(learner).load_from_checkpoint):
        with pytest.raises(UsageError, match=r"protonet\.ckpt is damaged: its checksum does not"):
            load(path)


def test_a_checkpoint_of_a_learner_that_is_not_registered(tmp_path):
    learner = Mine(zoo.build_backbone("conv4_strided[channels=4]", (1, 28, 28)), 3)
    path = tmp_path / "mine.ckpt"
    parts = {"hyper_parameters": dict(learner.hparams), "state_dict": learner.state_dict()}
    torch.save(parts, path)
    own = r"load it by its own class: Mine\.load_from_checkpoint\(path\)"
    with pytest.raises(UsageError, match=f"is not registered; {own}"):
        zoo.load(path)
    assert type(Mine.load_from_checkpoint(path)) is Mine
    parts["hyper_parameters"]["learner"] = "gone"
    torch.save(parts, path)
    with pytest.raises(UsageError, match=f"'gone' is not registered here; .*{own}"):
        zoo.load(path)
    parts["hyper_parameters"]["learner"] = "protonet"
    parts["state_dict"].popitem()
    torch.save(parts, path)
    with pytest.raises(UsageError, match=r"mine\.ckpt does not fit its learner: .*Missing key"):
        zoo.load(path)


def test_an_episode_of_ones_own():
    learner = zoo.learners.get("protonet")(zoo.build_backbone("conv4[channels=4]", (1, 28, 28)), 3)
    x, y = torch.rand(6, 1, 28, 28), torch.tensor([0, 1, 2, 0, 1, 2])
    found = learner.eval().probabilities(zoo.make_episode((x, y), torch.rand(4, 1, 28, 28)))
    assert found.shape == (1, 4, 3)
    torch.testing.assert_close(found.sum(-1), torch.ones(1, 4))
    own = zoo.make_episode((x, y), (x, y))
    assert own.way == 3 and own.tasks == 1 and torch.equal(own.query.y, y[None])
    points = zoo.make_episode((torch.rand(5, 1), torch.rand(5, 2)), torch.rand(7, 1))
    assert points.way == 2 and points.query.y.shape == (1, 7, 2)


def test_an_episode_of_other_kinds_of_numbers():
    """NumPy's arrays, and labels of 32 bits."""
    expected = zoo.make_episode((X, Y), (X, Y))
    for labels in (Y.int(), Y.byte(), Y.numpy(), Y.numpy().astype(np.uint16)):
        found = zoo.make_episode((X.numpy(), labels), (X, labels))
        assert found.way == 2 and found.query.y.dtype == torch.int64
        assert all(torch.equal(*each) for each in zip(found.support, expected.support, strict=True))
    numbers = np.random.default_rng(0).random((5, 2))
    assert zoo.make_episode((numbers, numbers), numbers).query.y.dtype == torch.float32


X, Y = torch.rand(2, 4), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("support", "query", "said"),
    [
        ((torch.rand(2, 4), torch.tensor([0, 1, 1])), torch.rand(1, 4), "2 inputs and 3 labels"),
        ((torch.rand(3, 4), torch.tensor([0, 1, 1])), torch.rand(1, 4), r"\[1, 2\] of each class"),
        ((torch.rand(2, 4), torch.tensor([0, 1])), torch.rand(1, 5), r"shape \(4,\), queries"),
        ((X, Y.float()), X, r"support: class labels must be integers; outputs .* \(n, outputs\)"),
        ((X, torch.rand(2)), X, r"support: class labels must be integers; outputs of a regression"),
        ((X, torch.rand(2, 1)), (X, torch.rand(2)), r"query: .* shape \(n, outputs\)"),
        ((X, torch.rand(2, 1)), (X, torch.rand(2, 3)), r"query: outputs of shape \(2, 3\)"),
        ((X, Y), (X, Y.float()), "query: class labels must be integers"),
        ((X, Y), (X, Y + 1), "query: labels from 1 to 2; expected labels 0 to 1"),
        ((X, Y - 1), X, "support: labels from -1 to 0; expected labels 0 to"),
        ((X, Y), (X, Y - 1), "query: labels from -1 to 0"),
        ((X, Y), (X, Y[:1]), "query: 2 inputs and 1 labels"),
        ((X, torch.eye(2).long()), X, r"support: labels of shape \(2, 2\); expected \(n,\)"),
        ((X[:0], Y[:0]), X, "support: no examples"),
        ((X, Y), X[:0], "query: no examples"),
        (X, X, "support: a Tensor; expected a pair, inputs and labels"),
        ((X, Y), [X, Y], "query: a list; expected inputs, or a pair of inputs and labels"),
        ((X, Y), (X, Y, Y), "query: a tuple; expected inputs, or a pair"),
        ((X.byte(), Y), X.byte(), r"support: inputs are torch.uint8; .* learner\.normalised"),
        ((X.tolist(), Y), X, "support: inputs are a list; expected a tensor or an array"),
    ],
)
def test_an_episode_that_cannot_be(support, query, said):
    with pytest.raises(UsageError, match=said):
        zoo.make_episode(support, query)


def test_records_and_their_difference(stores, tmp_path):
    """As frames, and as the tables compare them."""
    runs = {}
    for learner in ("maml", "protonet"):
        for seed in (0, 1):
            run = plan(tmp_path, stores, learner, flags={**FEW, "train_way": 5}, seed=seed)
            run.execute(progress=False)
            runs.setdefault(learner, []).append(run)
    folder = tmp_path / "results"
    frame = zoo.records(folder)
    assert sorted(frame["learner"]) == ["maml", "maml", "protonet", "protonet"]
    paths = {learner: [run.record_path for run in own] for learner, own in runs.items()}
    one = zoo.difference(paths["maml"][0], paths["protonet"][0])
    values = [numbers_of(runs[learner][0])["accuracy"] for learner in ("maml", "protonet")]
    assert one.estimate.value == pytest.approx(np.mean(values[0] - values[1]), abs=1e-6)
    both = zoo.difference(paths["maml"][::-1], paths["protonet"], "nll")
    assert both.estimate.low < both.estimate.value < both.estimate.high and 0 <= both.p <= 1
    with pytest.raises(UsageError, match=r"seed of .* expected the same"):
        zoo.difference(paths["maml"][0], paths["protonet"][1])
    with pytest.raises(UsageError, match="no metric 'mse'; it has accuracy, nll"):
        zoo.difference(paths["maml"][0], paths["protonet"][0], "mse")
    with pytest.raises(UsageError, match=r"gone\.json: no record that can be read"):
        zoo.difference(folder / "gone.json", paths["maml"][0])
    assert {"learner", "benchmark", "value"} & {*zoo.published().columns}
    with pytest.raises(UsageError, match="no such folder"):
        zoo.records(tmp_path / "gone")


def test_runs_that_cannot_be_compared(stores, tmp_path):
    """Groups of no runs, of two learners or settings, or with a seed twice; names do for paths."""

    def record(learner, seed=0):
        flags = {**FEW, "updates": 0, "test_episodes": 3, "train_way": 5}
        run = plan(tmp_path, stores, learner, flags=flags, seed=seed)
        run.execute(progress=False)
        return run.name

    results = tmp_path / "results"
    one, two, fast, other = (
        record("protonet"), record("protonet", 1), record("maml[inner_lr=0.9]", 1), record("maml"),
    )  # fmt: skip
    found = zoo.difference(one, other, results=results)
    assert found.estimate == zoo.difference(results / f"{one}.json", other, results=results)[0]
    assert zoo.difference(one[:-9], other[:-9], results=results).estimate == found.estimate
    assert zoo.difference([one, two], [two, one], "nll", results=results).estimate.value == 0
    for runs, said in [
        ([], "difference: an empty list; expected the record of a run, or of several"),
        ([one, one], r"seeds \[0, 0\] of .*: expected another seed for each run"),
        ([one, fast], "differ in learner, protonet and maml: expected the same except for"),
        ([other, fast], r"differ in inner_lr, 0\.4 and 0\.9: expected the same except for"),
        ("protonet", "protonet: the beginning of 2 names, "),
        ("gone", r"gone\.json: no record that can be read"),
    ]:
        with pytest.raises(UsageError, match=said):
            zoo.difference(runs, [one, two], results=results)


def test_the_difference_of_regressions(tmp_path):
    """Is the one of squared errors, unless another is asked for."""
    names = []
    for learner in ("maml", "cnp"):
        flags = {**FEW, "backbone": "mlp", "meta_batch": 5, "updates": 0}
        run = sinusoid(tmp_path, learner, flags)
        run.execute(progress=False)
        names.append(run.name)
    found = zoo.difference(*names, results=tmp_path / "results")
    assert found == zoo.difference(*names, "mse", results=tmp_path / "results")
    assert found.estimate.value > 0


def test_a_tensor_dataset_will_do(tmp_path):
    images = torch.rand(40, 1, 28, 28)
    parts = {"train": images[:20], "test": images[20:]}
    datasets = {split: TensorDataset(x, torch.arange(20) % 5) for split, x in parts.items()}
    _, data = zoo.experiment("maml", datasets, query=3, budget="smoke", runs=tmp_path)
    assert data.stores["test"].names == ["0", "1", "2", "3", "4"]
    assert len(next(iter(data.test_dataloader())).x)
