"""What every learner in the zoo must do, whatever its paper: the conformance battery."""

import inspect
import io

import pytest
import torch

from tests.conftest import episode_of
from zoo import Episode, Examples, Learner, learners
from zoo.backbones import build_backbone
from zoo.errors import UsageError
from zoo.layers import BATCH_NORM_MODES
from zoo.settings import constructor_defaults

IMAGE = (1, 20, 20)


def build(key: str, way: int = 5, **options) -> Learner:
    torch.manual_seed(0)
    return learners.get(key)(build_backbone("conv4_strided[channels=8]", IMAGE), way, **options)


def episode(**shape) -> Episode:
    return episode_of(image=IMAGE, **shape)


MODES = [{}, *({"batch_norm": mode} for mode in BATCH_NORM_MODES)]


def configurations():
    """Every learner in every batch-norm mode that it has, defaults first."""
    for key in learners.names():
        for options in MODES:
            if options and "batch_norm" not in constructor_defaults(learners.get(key)):
                continue
            try:
                build(key, **options)
            except UsageError:
                continue
            yield key, options


@pytest.fixture(
    params=configurations(), ids=lambda c: c[0] + "".join(f"-{v}" for v in c[1].values())
)
def learner(request) -> Learner:
    key, options = request.param
    return build(key, **options)


@pytest.fixture(params=["training", "evaluation"])
def either_mode(request, learner) -> Learner:
    return learner.train(request.param == "training")


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [{}, {"shot": 1, "query": 1}, {"tasks": 1}, {"shot": 3}])
def test_logits_have_a_row_a_query_and_a_column_a_way(either_mode, shape):
    batch = episode(**shape)
    assert either_mode(batch).shape == (*batch.query.y.shape, 5)


def test_it_runs_at_other_ways(learner):
    key = next(k for k in learners.names() if isinstance(learner, learners.get(k)))
    other = build(key, way=3)
    assert other(episode(way=3)).shape[-1] == 3


def test_meta_loss_reaches_every_parameter(learner):
    learner.meta_loss(episode()).backward()
    for name, p in learner.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


def test_the_loss_is_the_mean_over_tasks(learner):
    """So micro-batches add up to the meta-batch; a learner that needs it whole says so."""
    if learner.joint_tasks:
        pytest.skip("joint_tasks")
    batch = episode()
    alone = [learner.meta_loss(task(batch, t)) for t in range(batch.tasks)]
    close(learner.meta_loss(batch), torch.stack(alone).mean())


def task(batch: Episode, t: int) -> Episode:
    part = [Examples(e.x[t : t + 1], e.y[t : t + 1]) for e in (batch.support, batch.query)]
    return Episode(*part, batch.way)


def test_tasks_do_not_mix_in_evaluation(learner):
    learner.eval()
    batch = episode()
    close(learner(batch), torch.cat([learner(task(batch, t)) for t in range(batch.tasks)]))


def test_no_query_label_is_seen(either_mode):
    batch = episode()
    blind = batch._replace(query=batch.query._replace(y=torch.zeros_like(batch.query.y)))
    assert torch.equal(either_mode(blind), either_mode(batch))


def test_support_order_matters_only_to_sequential_learners(learner):
    if learner.sequential:
        pytest.skip("sequential")
    batch = episode().support
    shuffle = torch.randperm(batch.x.shape[1], generator=torch.Generator().manual_seed(1))
    shuffled = episode()._replace(support=Examples(batch.x[:, shuffle], batch.y[:, shuffle]))
    learner.eval()
    close(learner(shuffled), learner(episode()))


def test_support_is_used(learner):
    learner.eval()
    batch = episode()
    other = batch._replace(support=Examples(batch.support.x.flip(1), batch.support.y))
    assert not torch.allclose(learner(other), learner(batch), atol=1e-6)


def test_an_inductive_learner_classifies_queries_one_by_one(learner):
    learner.eval()
    batch = episode()
    alone = batch._replace(query=Examples(batch.query.x[:, :1], batch.query.y[:, :1]))
    same = torch.allclose(learner(alone), learner(batch)[:, :1], atol=1e-4)
    assert same != learner.transductive, "its trait `transductive` says otherwise"


def test_way_equivariant_learners_permute_with_the_labels(learner):
    if not learner.way_equivariant:
        pytest.skip("not way_equivariant")
    learner.eval()
    batch = episode()
    relabel = torch.tensor([3, 0, 4, 1, 2])
    other = batch._replace(support=Examples(batch.support.x, relabel[batch.support.y]))
    close(learner(other)[..., relabel], learner(batch))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_adapts_without_autograd(learner, context):
    learner.eval()
    with context():
        batch = episode()  # made inside: an inference tensor
        blind = learner(batch)
    assert not blind.requires_grad
    close(blind, learner(episode()).detach())


def test_evaluation_changes_nothing(learner):
    learner.eval()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    learner.evaluate(episode())
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert all(p.grad is None for p in learner.parameters())


def test_features_stand_for_images_that_are_embedded_alone(learner):
    """Each embedded by itself, in float64: so nothing but rounding may differ."""
    if not learner.embeds_alone:
        with pytest.raises(UsageError, match="features of an image depend"), learner.embedded():
            pass
        return
    batch = episode()
    learner.double()
    for _ in range(3):
        learner.meta_loss(doubled(batch))  # moves running statistics
    expected = learner.eval()(doubled(batch))
    learner.train()  # as training leaves it
    with learner.embedded() as net:
        parts = [
            Examples(torch.stack([torch.cat([net(x[None]) for x in task]) for task in e.x]), e.y)
            for e in doubled(batch)[:2]
        ]
        assert parts[0].x.dim() == 3
        torch.testing.assert_close(learner(Episode(*parts, batch.way)), expected)
    assert learner.net is net and net.training


def doubled(batch: Episode) -> Episode:
    return Episode(*(Examples(e.x.double(), e.y) for e in batch[:2]), batch.way)


def test_metrics_are_one_number_a_task(learner):
    learner.eval()
    batch = episode()
    metrics, prediction = learner.evaluate(batch)
    logits = learner(batch)
    assert prediction.shape == batch.query.y.shape
    torch.testing.assert_close(
        metrics["accuracy"], (logits.argmax(-1) == batch.query.y).float().mean(1)
    )
    p = logits.softmax(-1).gather(-1, batch.query.y[..., None]).squeeze(-1)
    close(metrics["nll"], -p.log().mean(1))


def test_weights_survive_a_round_trip(learner):
    file = io.BytesIO()
    learner.eval()
    torch.save(learner.state_dict(), file)
    file.seek(0)
    with torch.no_grad():
        expected = learner(episode())
        for p in learner.parameters():
            p.add_(1)
    learner.load_state_dict(torch.load(file, weights_only=True))
    close(learner(episode()).detach(), expected)


def test_it_follows_from_its_seed(learner):
    key = next(k for k in learners.names() if isinstance(learner, learners.get(k)))
    known = constructor_defaults(learners.get(key))
    options = {"batch_norm": learner.batch_norm} if "batch_norm" in known else {}
    first, second = (build(key, **options).meta_loss(episode()) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("key", learners.names())
def test_its_file_says_what_it_is(key):
    cls = learners.get(key)
    assert "arxiv.org" in (inspect.getmodule(cls).__doc__ or "").splitlines()[0]
    assert cls.title and (cls.__doc__ or "").count("\n") <= 1
    assert len(inspect.getsource(inspect.getmodule(cls)).splitlines()) <= 150
