"""A learner does the right thing under any Lightning Trainer, not only in `zoo run`."""

import copy
import math
import shutil
import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

import zoo
import zoo.losses
from tests.conftest import in_full
from tests.runs.test_run import numbers_of, plan
from tests.runs.test_settings import NO_EPISODES
from zoo import Episode, Examples
from zoo.errors import UsageError
from zoo.micro_batches import loss_in_parts
from zoo.networks.backbone import Backbone
from zoo.registry import learners

FEW = {
    "backbone": "conv4_strided[channels=8]", "updates": 4, "validations": 2, "val_episodes": 6,
    "test_episodes": 10, "meta_batch": 4, "query": 3, "train_query": 3,
}  # fmt: skip
STAGE = {
    "pretrained_from": "pretrain", "pretrain_updates": 2, "pretrain_batch": 8,
    "pretrain_validations": 1, "pretrain_val_episodes": 2,
}  # fmt: skip
TRAINED = [key for key in learners.names() if key not in NO_EPISODES]
UNTRAINED = {
    "pixelnn": {"backbone": "pixels"},
    "pretrained": STAGE,
    "finetune[head_steps=10]": STAGE,
    "finetune[head=cosine,head_steps=10]": {"pretrained_from": None},
}
VARIANTS = [
    *TRAINED,
    "trlearner[host=protonet]",
    "trlearner[host=anil]",
    "maml[multi_step=true]",
    "matchingnet[fce=true]",
]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
        yield


def trainer(**options) -> pl.Trainer:
    """A plain Trainer that leaves nothing behind."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    defaults = {"accelerator": "cpu", "enable_model_summary": False, "num_sanity_val_steps": 0}
    return pl.Trainer(**{**quiet, **defaults, "max_epochs": 1, **options})


def rates_of(learner, data, **options) -> list[float]:
    """The learning rate of each update, as a share of the first."""
    rates = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"] / pl_module.outer_lr)

    trainer(callbacks=[Watch()], **options).fit(learner, data)
    return rates


@pytest.mark.parametrize("learner", VARIANTS)
def test_ten_lines_of_lightning_give_the_numbers_of_zoo_run(learner, stores, tmp_path):
    """Every test episode's metrics and predictions, bit for bit."""
    flags = {**FEW, "micro_batch": None}
    if learners.get(learner.partition("[")[0]).fixed_way or "host" in learner:
        flags["train_way"] = 5
    run = plan(tmp_path, stores, learner, flags=flags)
    run.execute(progress=False)
    expected = numbers_of(run)

    ours = plan(tmp_path, stores, learner, flags=flags)
    learner, data = ours.learner, ours.data
    pl.seed_everything(0, verbose=False)
    best = ModelCheckpoint(tmp_path / "best", monitor=f"val/{ours.judged_by}", mode="max")
    fit = trainer(callbacks=[best], enable_checkpointing=True, val_check_interval=2)
    fit.fit(learner, data)
    learner = type(learner).load_from_checkpoint(best.best_model_path).eval()
    check_tested(learner, data, expected)


def check_tested(learner, data, expected) -> None:
    """Test by a plain Trainer, and compare with the numbers of `zoo run`, bit for bit."""
    recorder = zoo.TestRecorder()
    pl.seed_everything(0, verbose=False)
    if learner.embeds_alone:  # `zoo run` embeds each image once
        with learner.embedded() as network:
            trainer(callbacks=[recorder]).test(learner, data.embedded(network), verbose=False)
    else:
        trainer(callbacks=[recorder]).test(learner, data, verbose=False)
    found = recorder.results()
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(found[name].astype(values.dtype), values), name


@pytest.mark.parametrize("learner", UNTRAINED)
def test_of_what_learns_nothing_in_episodes_too(learner, stores, tmp_path):
    """The stage that comes before, a pre-training, is trained by both."""
    flags = {**FEW, "updates": 0, **UNTRAINED[learner]}
    run = plan(tmp_path / "run", stores, learner, flags=flags)
    run.execute(progress=False)
    ours = plan(tmp_path / "ours", stores, learner, flags=flags)
    fresh = copy.deepcopy(ours.learner.state_dict())
    trainer(max_steps=0, limit_val_batches=0).fit(ours.learner, ours.data)
    trained = any(not torch.equal(ours.learner.state_dict()[name], fresh[name]) for name in fresh)
    assert trained == ("pretrain_updates" in flags)
    check_tested(ours.learner.eval(), ours.data, numbers_of(run))
    batches = plan(tmp_path, stores, flags=FEW).data
    with pytest.raises(UsageError, match="nothing in it is learned in episodes: do not call fit"):
        trainer(limit_val_batches=0).fit(ours.learner, batches)


def test_of_regression_too(tmp_path):
    for learner in ("maml", "cnp"):
        flags = {**FEW, "backbone": "mlp", "meta_batch": 5}
        run = sinusoid(tmp_path, learner, flags)
        run.execute(progress=False)
        ours = sinusoid(tmp_path, learner, flags)
        pl.seed_everything(0, verbose=False)
        best = ModelCheckpoint(tmp_path / learner, monitor="val/mse")
        trainer(callbacks=[best], enable_checkpointing=True, val_check_interval=2).fit(
            ours.learner, ours.data
        )
        recorder = zoo.TestRecorder()
        trainer(callbacks=[recorder]).test(
            ours.learner, ours.data, best.best_model_path, verbose=False
        )
        assert np.array_equal(recorder.results()["mse"], numbers_of(run)["mse"])


def sinusoid(folder, learner, flags):
    """A run on sine waves."""
    request = zoo.runs.request.RunRequest(learner, "sinusoid", shot=5, flags=flags)
    work = zoo.runs.workspace.Workspace(None, folder / "results", folder / "runs", "cpu", 1)
    return zoo.runs.run.Run(request, work)


def test_a_batch_is_an_update_whatever_the_micro_batch(stores, tmp_path):
    """With plain accumulation on top: of two batches, the gradient is that of both."""
    gradients = {}
    for micro in (1, 2, 4):
        run = plan(tmp_path, stores, flags={**FEW, "micro_batch": micro})
        run.learner.clip_value = None
        seen = gradients.setdefault(micro, [])

        class Watch(pl.Callback):
            def on_before_optimizer_step(self, trainer, pl_module, optimizer, seen=seen):
                seen.append(torch.cat([p.grad.flatten() for p in pl_module.parameters()]))

        fit = trainer(callbacks=[Watch()], accumulate_grad_batches=2, limit_val_batches=0)
        fit.fit(run.learner, run.data)
        assert fit.global_step == 2 and len(seen) == 2
    for micro in (1, 2):
        torch.testing.assert_close(gradients[micro][0], gradients[4][0], rtol=1e-3, atol=1e-5)
    assert gradients[4][0].abs().max() > 1e-3


def test_the_loss_in_parts_is_the_loss():
    """Its value and gradient, in tasks that do not divide evenly; what is not used has none."""
    torch.manual_seed(0)
    net, unused = nn.Linear(3, 2).double(), nn.Parameter(torch.ones(2))
    x, y = torch.randn(5, 4, 3).double(), torch.randn(5, 4, 2).double()
    episode = Episode(Examples(x, y), Examples(x, y), 2)

    def loss(part):
        return (net(part.query.x) - part.query.y).square().mean()

    parameters = [*net.parameters(), unused]
    expected = torch.autograd.grad(loss(episode), [*net.parameters()])
    for size in (1, 2, 5):
        value = loss_in_parts(loss, episode, size, parameters, zero_unused=False)
        (3 * value).backward()
        torch.testing.assert_close(value, loss(episode))
        for p, g in zip(net.parameters(), expected, strict=True):
            torch.testing.assert_close(p.grad, 3 * g)
        assert unused.grad is None
        net.zero_grad()
    loss_in_parts(loss, episode, 2, parameters, zero_unused=True).backward()
    assert unused.grad.tolist() == [0, 0]


@pytest.mark.parametrize(("learner", "expected"), [
    ("protonet[halvings=10]", [0.5 ** int(n * 10 / 4) for n in range(4)]),
    ("reptile", [1, 0.75, 0.5, 0.25]),
    ("maml", [1, 1, 1, 1]),
])  # fmt: skip
def test_rates_fall_over_the_whole_training(learner, expected, stores, tmp_path):
    """However its length is given; over two epochs as over one of twice the length."""
    for options in ({}, {"max_steps": 4, "max_epochs": -1}, {"max_epochs": 2, "half": True}):
        half = options.pop("half", False)
        run = plan(tmp_path, stores, learner, flags={**FEW, "updates": 2 if half else 4})
        assert rates_of(run.learner, run.data, **options, limit_val_batches=0) == expected


def test_a_training_of_unknown_length(stores, tmp_path):
    """Is refused where steps follow from the length, and made where they do not."""
    endless = {"max_epochs": -1, "max_time": {"seconds": 0.2}, "limit_val_batches": 0}
    for learner in ("protonet", "maml[multi_step=true]"):
        run = plan(tmp_path, stores, learner, flags=FEW)
        with pytest.raises(UsageError, match="give it max_steps, or max_epochs"):
            trainer(**endless).fit(run.learner, run.data)
    run = plan(tmp_path, stores, flags=FEW)
    trainer(**endless).fit(run.learner, run.data)
    assert run.learner.trainer.global_step >= 1


def test_two_epochs_are_one_of_twice_the_length(stores, tmp_path):
    """The second has other episodes; killed in it, a training goes on with the same bits."""

    def trained(updates, callbacks=(), resumed=None, **options):
        run = plan(tmp_path, stores, flags={**FEW, "updates": updates})
        fit = trainer(callbacks=[*callbacks], limit_val_batches=0, **options)
        fit.fit(run.learner, run.data, ckpt_path=resumed)
        return fit, run.learner.state_dict()

    _, expected = trained(4)
    _, found = trained(2, max_epochs=2)
    kept = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=1, save_top_k=-1)
    trained(2, [kept], max_epochs=2, max_steps=3, enable_checkpointing=True)
    fit, resumed = trained(2, max_epochs=2, resumed=tmp_path / "kept" / "epoch=1-step=3.ckpt")
    assert fit.global_step == 4
    for name, value in expected.items():
        assert torch.equal(found[name], value) and torch.equal(resumed[name], value), name


def test_a_checkpoint_of_an_epochs_end_goes_on_behind_it(stores, tmp_path):
    """As a ModelCheckpoint writes it by default; and with fewer batches than an epoch has."""
    for limit, steps in ((1.0, 8), (3, 6)):

        def fitted(epochs, resumed=None, limit=limit):
            run = plan(tmp_path, stores, flags={**FEW})
            fit = trainer(max_epochs=epochs, limit_val_batches=0, limit_train_batches=limit)
            fit.fit(run.learner, run.data, ckpt_path=resumed)
            return fit, run.learner.state_dict()

        whole, expected = fitted(2)
        half, _ = fitted(1)
        half.save_checkpoint(tmp_path / "half.ckpt")
        resumed, found = fitted(2, tmp_path / "half.ckpt")
        assert whole.global_step == resumed.global_step == steps
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_second_fit_goes_on_with_new_episodes(stores, tmp_path):
    run = plan(tmp_path, stores, flags=FEW)
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append(float(batch.query.x.double().sum()))

    for _ in range(2):
        trainer(callbacks=[Watch()], limit_val_batches=0).fit(run.learner, run.data)
    assert len({*seen}) == 8
    seen.clear()
    trainer(callbacks=[Watch()], limit_val_batches=0, overfit_batches=2, max_epochs=3).fit(
        run.learner, run.data
    )
    assert len(seen) == 6 and len({*seen}) == 2


def test_another_learners_checkpoint_is_refused(stores, tmp_path):
    run = plan(tmp_path, stores, "protonet", flags={**FEW, "updates": 1, "train_way": 5})
    fit = trainer(limit_val_batches=0)
    fit.fit(run.learner, run.data)
    fit.save_checkpoint(tmp_path / "protonet.ckpt")
    other = plan(tmp_path, stores, "matchingnet", flags={**FEW, "train_way": 5})
    with pytest.raises(UsageError, match="is a checkpoint of protonet, not of matchingnet"):
        type(other.learner).load_from_checkpoint(tmp_path / "protonet.ckpt")
    with pytest.raises(UsageError, match="is a checkpoint of protonet, not of matchingnet"):
        trainer().fit(other.learner, other.data, ckpt_path=tmp_path / "protonet.ckpt")


def test_a_copy_with_untrained_stages_is_refused(stores, tmp_path):
    """It would give the stage's weights to the original."""
    flags = {**FEW, **STAGE}
    run = plan(tmp_path, stores, flags=flags)
    copied = copy.deepcopy(run.learner)
    with pytest.raises(UsageError, match="a copy of a learner whose stages are not trained yet"):
        trainer().fit(copied, run.data)
    trainer(limit_val_batches=0).fit(run.learner, run.data)
    trainer(limit_val_batches=0).fit(copy.deepcopy(run.learner), run.data)


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_adaptive_tasks_follow_the_learner_that_is_trained(precision, stores, tmp_path):
    """A copy of the learner, in either precision."""
    run = plan(tmp_path, stores, flags={**FEW, "sampler": "adaptive"})
    learner = copy.deepcopy(run.learner)
    seen = []
    loader = run.data.train_dataloader
    fit = trainer(precision=precision, limit_val_batches=0)
    fit.fit(learner, run.data)
    net = loader().scores
    assert net.name == "net.backbone"
    seen.append(fit.lightning_module.get_submodule(net.name) is learner.net.backbone)
    assert seen == [True] and fit.global_step == 4


def test_losses_are_logged_of_the_whole_meta_batch(stores, tmp_path, monkeypatch):
    """Also the terms of a learner that adds some, in micro-batches."""
    cls = learners.get("maml")

    def loss_terms(self, episode):
        host = zoo.losses.task_loss(self(episode), episode.query.y).mean()
        return {"host": host, "more": 0.01 * self(episode).square().mean()}

    monkeypatch.setattr(cls, "loss_terms", loss_terms)
    found = []
    for micro in (1, 4):
        run = plan(tmp_path, stores, flags={**FEW, "micro_batch": micro, "updates": 1})
        fit = trainer(limit_val_batches=0)
        fit.fit(run.learner, run.data)
        logged = fit.callback_metrics
        total = logged["train/host_loss"] + logged["train/added_loss"]
        assert float(total) == pytest.approx(float(logged["train/loss"]), rel=1e-5)
        found.append([float(logged[f"train/{n}"]) for n in ("loss", "host_loss", "added_loss")])
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_settings_come_back_with_a_checkpoint(stores, tmp_path):
    settings = {
        "maml[inner_lr=0.37,first_order=true,step_rates=true]": {},
        "trlearner[host=anil,heads=2]": {},
        "protonet": {"outer_decay": "cosine"},
        "cnp": {},
    }
    for text, more in settings.items():
        run = plan(tmp_path, stores, text, flags={**FEW, "updates": 1, "train_way": 5, **more})
        fit = trainer(limit_val_batches=0)
        fit.fit(run.learner, run.data)
        fit.save_checkpoint(tmp_path / "kept.ckpt")
        batch = run.data.on_after_batch_transfer(next(iter(run.data.test_dataloader())), 0)
        for again in (
            type(run.learner).load_from_checkpoint(tmp_path / "kept.ckpt"),
            zoo.load(tmp_path / "kept.ckpt"),
        ):
            assert type(again) is type(run.learner) and again.hparams == run.learner.hparams
            assert again.outer_decay == run["outer_decay"]
            with torch.no_grad():
                assert torch.equal(again.eval()(batch), run.learner.eval()(batch))
    changed = learners.get("cnp").load_from_checkpoint(tmp_path / "kept.ckpt", outer_lr=0.5)
    assert changed.outer_lr == 0.5


class Tiny(Backbone):
    """A network of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.weights = 6, nn.Linear(784, 6)

    def forward(self, x):
        return self.weights(x.flatten(1))


def test_a_network_of_ones_own_is_given_again(stores, tmp_path):
    learner = learners.get("maml")(Tiny(), 5, inner_lr=0.2)
    assert learner.hparams["inner_lr"] == 0.2 and "backbone" not in learner.hparams
    fit = trainer(limit_val_batches=0)
    fit.fit(learner, plan(tmp_path, stores, flags={**FEW, "updates": 1}).data)
    fit.save_checkpoint(tmp_path / "own.ckpt")
    with pytest.raises(UsageError, match="a network of your own: give it"):
        learners.get("maml").load_from_checkpoint(tmp_path / "own.ckpt")
    again = learners.get("maml").load_from_checkpoint(tmp_path / "own.ckpt", backbone=Tiny())
    assert again.hparams["inner_lr"] == 0.2
    assert torch.equal(again.net.backbone.weights.weight, learner.net.backbone.weights.weight)


def test_stages_are_run_or_asked_for(stores, tmp_path):
    """By a plain Trainer, once; a learner made by hand says what it lacks."""
    flags = {**FEW, **STAGE}
    run = plan(tmp_path, stores, flags=flags)
    fresh = {name: value.clone() for name, value in run.learner.net.backbone.state_dict().items()}
    trainer(max_steps=0, limit_val_batches=0).fit(run.learner, run.data)
    start = run.learner.net.backbone.state_dict()
    assert any(not torch.equal(start[name], value) for name, value in fresh.items())
    kept = torch.load(next((tmp_path / "runs" / "stages").glob("pretrain*/weights.ckpt")))
    assert all(torch.equal(start[name], value) for name, value in kept.items())
    trainer(limit_val_batches=0).fit(run.learner, run.data)
    trainer(max_epochs=2, limit_val_batches=0).fit(run.learner, run.data)  # trained on, not anew
    net = zoo.build_backbone("conv4[channels=8]", (1, 28, 28))
    npbml = learners.get("npbml")(net, 5, relation_updates=2)
    with pytest.raises(UsageError, match="stage relation must be trained before"):
        trainer().fit(npbml, run.data)


def test_what_a_test_and_a_prediction_return(stores, tmp_path):
    run = plan(tmp_path, stores, flags=FEW)
    (found,) = trainer().test(run.learner, run.data, verbose=False)
    recorder = zoo.TestRecorder()
    trainer(callbacks=[recorder]).test(run.learner, run.data, verbose=False)
    results = recorder.results()
    assert found["test/accuracy"] == pytest.approx(results["accuracy"].mean())
    assert {*found} == {"test/accuracy", "test/nll"}
    batches = trainer().predict(run.learner, run.data)
    probabilities = torch.cat(batches)
    assert probabilities.shape == (10, 15, 5)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(10, 15))
    assert np.array_equal(probabilities.argmax(-1), results["prediction"])


class OneTask(torch.utils.data.Dataset):
    """Tasks of one's own, each an Episode without the leading T."""

    def __init__(self, ways):
        self.ways = ways

    def __len__(self):
        return len(self.ways)

    def __getitem__(self, number):
        way = self.ways[number]
        g = torch.Generator().manual_seed(number)
        y = torch.arange(way)
        parts = [Examples(torch.randn(way, 1, 28, 28, generator=g), y) for _ in range(2)]
        return Episode(*parts, way)


def test_a_plain_data_loader_of_episodes(stores, tmp_path):
    learner = plan(tmp_path, stores, flags=FEW).learner
    trainer(limit_val_batches=0).fit(learner, DataLoader(OneTask([5, 5, 5, 5]), 2))
    assert learner.trainer.global_step == 2
    with pytest.raises(UsageError, match=r"episodes of ways \[4, 5\]: expected one way"):
        trainer().test(learner, DataLoader(OneTask([5, 4]), 1, collate_fn=mixed), verbose=False)
    pairs = DataLoader([(torch.randn(1, 28, 28), 0)] * 4, 2)
    with pytest.raises(UsageError, match=r"a batch is a list; expected a zoo\.Episode"):
        trainer().test(learner, pairs, verbose=False)


def mixed(episodes):
    """As a user's collate function might have it."""
    (episode,) = episodes
    return episode._replace(way=torch.tensor([5, 4]))


@pytest.mark.parametrize("learner", in_full(VARIANTS, "maml", "protonet", "npbml", "reptile"))
def test_double_precision(learner, stores, tmp_path):
    """Gives the numbers of single precision but for rounding; the battery has each by itself."""
    losses = {}
    for precision in ("32-true", "64-true"):
        run = plan(tmp_path, stores, learner, flags={**FEW, "train_way": 5})
        run.learner.stages_trained = True
        fit = trainer(precision=precision, max_steps=1, limit_val_batches=0)
        fit.fit(run.learner, run.data)
        losses[precision] = float(fit.callback_metrics["train/loss"])
        dtype = next(run.learner.parameters()).dtype
        assert dtype == (torch.float64 if precision == "64-true" else torch.float32)
    assert losses["64-true"] == pytest.approx(losses["32-true"], rel=1e-4)
    assert losses["64-true"] != losses["32-true"]


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_other_precisions_are_refused(precision, stores, tmp_path):
    run = plan(tmp_path, stores, flags=FEW)
    with pytest.raises(UsageError, match=f'precision "{precision}": MAML computes in 32-true or'):
        trainer(precision=precision).fit(run.learner, run.data)


FIRST_ORDER = "maml[first_order=true,inner_steps=1,test_steps=1]"


@pytest.mark.parametrize("backend", in_full(["eager", "inductor"], "eager"))
@pytest.mark.parametrize("learner", in_full([FIRST_ORDER, "protonet", "reptile"], FIRST_ORDER))
def test_a_compiled_network(learner, backend, stores, tmp_path):
    """Gives the numbers of one that is not: of an update, and of the test's forward passes."""
    if backend == "inductor" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler, which torch.compile's own backend needs")
    torch._dynamo.reset()
    found = []
    for compiled in (False, True):
        run = plan(tmp_path, stores, learner, flags={**FEW, "updates": 1})
        if compiled:
            run.learner.net.compile(backend=backend)
        fit = trainer(limit_val_batches=0)
        fit.fit(run.learner, run.data)
        loss = float(fit.callback_metrics["train/loss"])
        (tested,) = trainer(limit_test_batches=1).test(run.learner, run.data, verbose=False)
        found.append([loss, tested["test/nll"]])
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    assert run.learner.net._compiled_call_impl is not None


def test_a_compiled_network_of_second_order_is_refused(stores, tmp_path):
    run = plan(tmp_path, stores, flags=FEW)
    run.learner.net.compile(backend="eager")
    with pytest.raises(UsageError, match="no right second derivative: set first_order=true"):
        trainer(limit_val_batches=0).fit(run.learner, run.data)
    whole = torch.compile(plan(tmp_path, stores, flags=FEW).learner, backend="eager")
    with pytest.raises(UsageError, match=r"compile its network alone: learner\.net\.compile"):
        trainer().fit(whole, run.data)


def test_clipping_and_early_stopping_are_the_trainers(stores, tmp_path):
    run = plan(tmp_path, stores, flags={**FEW, "updates": 20})
    norms = []

    class Watch(pl.Callback):
        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            grads = [p.grad.flatten() for p in pl_module.parameters() if p.grad is not None]
            norms.extend([torch.cat(grads).norm().item()] if grads else [])

    stop = EarlyStopping("val/accuracy", min_delta=1.0, patience=1, mode="max")
    fit = trainer(callbacks=[Watch(), stop], gradient_clip_val=1e-3, val_check_interval=2)
    fit.fit(run.learner, run.data)
    assert norms and max(norms) == pytest.approx(1e-3, rel=1e-4)
    assert fit.global_step == 4  # two validations


def test_clipping_by_a_setting_is_clipping_by_the_trainer(stores, tmp_path):
    """Bit for bit; a checkpoint and the weights of a run keep it."""
    trained = []
    for setting, option in (({"gradient_clip_val": 1e-3}, {}), ({}, {"gradient_clip_val": 1e-3})):
        run = plan(tmp_path, stores, flags={**FEW, **setting})
        fit = trainer(limit_val_batches=0, **option)
        fit.fit(run.learner, run.data)
        trained.append(copy.deepcopy(run.learner.state_dict()))
        if setting:
            fit.save_checkpoint(tmp_path / "clipped.ckpt")
            run.execute(progress=False)
            for again in (tmp_path / "clipped.ckpt", run.record_path.with_suffix(".safetensors")):
                assert zoo.load(again).hparams["gradient_clip_val"] == 1e-3
    assert all(torch.equal(trained[0][name], value) for name, value in trained[1].items())


def test_loggers_show_the_settings(stores, tmp_path):
    logger = pl.loggers.CSVLogger(tmp_path, "log", "")
    run = plan(tmp_path, stores, flags={**FEW, "inner_lr": 0.37})
    trainer(logger=logger, limit_val_batches=0, log_every_n_steps=1).fit(run.learner, run.data)
    text = (tmp_path / "log" / "hparams.yaml").read_text()
    assert "inner_lr: 0.37" in text and "backbone: conv4_strided[channels=8]" in text
    assert "outer_decay: paper" in text


def test_progress_needs_no_length_at_first():
    learner = learners.get("maml")(zoo.build_backbone("conv4[channels=4]", (1, 28, 28)), 5)
    assert learner.progress == 0.0 and not learner.needs_length
    learner.outer_decay = "cosine"
    assert learner.needs_length and math.isclose(learner.outer_rate(0.5), 0.5)
