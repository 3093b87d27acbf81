"""MANN's own promises: what it is told when, its two protocols, labels and heads."""

import math

import numpy as np
import pytest
import torch

from tests.conftest import episode_of
from zoo import Episode, Examples
from zoo.baselines.mann import MANN
from zoo.baselines.mann_labels import Numbers, Strings, hashed, instances, key_of, shuffled
from zoo.errors import UsageError
from zoo.networks.backbone import build_backbone
from zoo.networks.layers import pointwise
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.workspace import Workspace

IMAGE = (1, 28, 28)
TEN = {"way": 5, "shot": 9, "query": 1}


def mann(way=5, image=IMAGE, **options) -> MANN:
    torch.manual_seed(0)
    sizes = {"controller": 12, "rows": 8, "width": 5, "heads": 2}
    backbone = build_backbone("pixels20" if len(image) == 3 else "mlp", image)
    return MANN(backbone, way, **{**sizes, **options})


def test_the_papers_own_sizes():
    """LSTM of 200, 128 x 40, 4 heads, before 400 pixels and 5 labels."""
    learner = MANN(build_backbone("pixels20", IMAGE), 5)
    memory = learner.memory
    assert memory.input.weight.shape == (800, 405) and memory.recurrent.weight.shape == (800, 360)
    assert memory.address.weight.shape == (160, 200) and learner.head.weight.shape == (5, 360)
    assert memory.rows == 128 and memory.decay == 0.95


def test_pixels20_is_the_mean_over_areas():
    x = torch.arange(40 * 60.0).view(1, 1, 40, 60)
    found = build_backbone("pixels20", (1, 40, 60))(x).view(20, 20)
    np.testing.assert_allclose(found, x[0, 0].numpy().reshape(20, 2, 20, 3).mean((1, 3)))
    assert build_backbone("pixels20", (3, 84, 84)).features == 1200
    with pytest.raises(UsageError, match="needs images"):
        build_backbone("pixels20", (1,))


@pytest.mark.parametrize("labels", ["one_hot", "strings"])
def test_a_label_never_reaches_its_own_step(labels):
    """Changing the label of step t changes no answer up to step t, and some answer behind it."""
    learner, batch = mann(labels=labels).double(), episode_of(**TEN, tasks=2)
    x = pointwise(learner.net, torch.cat([batch.support.x, batch.query.x], 1).double())
    y, key = torch.cat([batch.support.y, batch.query.y], 1), key_of(batch.support.x)
    for t in (0, 7, 30):
        other = y.clone()
        other[:, t] = (y[:, t] + 1) % 5
        before, after = (learner.head(learner.read(x, some, key)[0]) for some in (y, other))
        assert torch.equal(before[:, : t + 1], after[:, : t + 1])
        assert not torch.equal(before[:, t + 1], after[:, t + 1])


def test_the_sequence_is_every_example_once_in_an_order_of_the_examples():
    batch = episode_of(**TEN, tasks=3)
    (x, y), order, key = shuffled(batch)
    assert torch.equal(key, key_of(batch.support.x))
    everything = torch.cat([batch.support.x, batch.query.x], 1)
    labels = torch.cat([batch.support.y, batch.query.y], 1)
    for t in range(3):
        assert sorted(order[t].tolist()) == list(range(50)) and order[t].tolist() != list(range(50))
        assert torch.equal(x[t], everything[t, order[t]]) and torch.equal(y[t], labels[t, order[t]])
    alone = Episode(*(Examples(e.x[1:2], e.y[1:2]) for e in batch[:2]), 5)
    assert torch.equal(shuffled(alone)[1][0], order[1])
    # The queries, which lie at the end of an episode, class by class, are spread evenly.
    many = episode_of(**TEN, tasks=400, image=(1, 4, 4))
    places = shuffled(many)[1].argsort(1)[:, 45:].double()
    assert places.mean() == pytest.approx(24.5, abs=1.5)
    assert (places[:, 0] > places[:, 1]).double().mean() == pytest.approx(0.5, abs=0.1)


def test_the_order_of_a_hash_does_not_depend_on_the_query_labels():
    batch = episode_of(**TEN)
    blind = batch._replace(query=batch.query._replace(y=torch.zeros_like(batch.query.y)))
    assert torch.equal(*(shuffled(e)[1] for e in (blind, batch)))
    assert len(hashed(batch.support.x).unique()) == 4 * 45


def test_instances_are_counted_from_one():
    y = torch.tensor([[0, 1, 0, 0, 1, 2]])
    assert instances(y, 3).tolist() == [[1, 1, 2, 3, 2, 1]]


def test_accuracy_by_instance_of_answers_worked_out_by_hand(monkeypatch):
    """Right from the second instance on, as with a perfect memory; class 0 said at the first."""
    learner, batch = mann(protocol="instances").eval(), episode_of(**TEN, tasks=3)
    (_, y), order, _ = shuffled(batch)
    said = torch.where(instances(y, 5) > 1, y, 0)
    answer = 20.0 * torch.nn.functional.one_hot(said, 5)
    monkeypatch.setattr(learner, "instances", lambda e: (answer, None, y, order))
    metrics, prediction = learner.evaluate(batch)
    assert set(metrics) == {"nll", *(f"accuracy@instance{k}" for k in range(1, 11))}
    assert metrics["accuracy@instance1"].tolist() == pytest.approx([0.2] * 3)
    assert all(metrics[f"accuracy@instance{k}"].eq(1).all() for k in range(2, 11))
    assert metrics["nll"].tolist() == pytest.approx([4 * 20 / 50] * 3, rel=1e-3)
    assert prediction.shape == (3, 5)
    place = order.argsort(1)[:, 45:]  # a query that is the first of its class is said to be 0
    assert torch.equal(prediction, said.gather(1, place))


@pytest.mark.parametrize("protocol", ["standard", "instances"])
def test_the_loss_is_that_of_every_step(protocol):
    learner, batch = mann(protocol=protocol), episode_of(**TEN, tasks=2)
    if protocol == "standard":
        y = torch.cat([batch.support.y, batch.query.y], 1)
        heard = learner.read(pointwise(learner.net, batch.support.x), batch.support.y, None)[0]
        answer = torch.cat([learner.head(heard), learner(batch)], 1)
    else:
        answer, _, y, _ = learner.instances(batch)
    p = answer.softmax(-1).detach().numpy()
    steps = [-math.log(p[t, i, y[t, i]]) for t in range(2) for i in range(50)]
    assert learner.meta_loss(batch).item() == pytest.approx(np.mean(steps), rel=1e-5)


def test_queries_read_the_state_behind_the_support():
    """Behind each image beside the label of the one before, and the last label alone."""
    learner, batch = mann().eval(), episode_of()
    nothing = torch.zeros(4, 1, 400), torch.zeros(4, 1, 5)
    images = torch.cat([pointwise(learner.net, batch.support.x), nothing[0]], 1)
    labels = torch.cat([nothing[1], torch.eye(5)[batch.support.y]], 1)
    _, state = learner.memory(torch.cat([images, labels], -1))
    for q in (0, 14):
        query = torch.cat([pointwise(learner.net, batch.query.x[:, q : q + 1]), nothing[1]], -1)
        expected = learner.head(learner.memory.peek(query, state))
        torch.testing.assert_close(learner(batch)[:, q : q + 1], expected)


def test_strings_are_different_in_an_episode_and_between_episodes():
    strings, key = Strings(15), key_of(torch.randn(200, 3, 4))
    letters = strings.of(torch.arange(15).expand(200, -1), key)
    assert letters.shape == (200, 15, 5) and letters.min() == 0 and letters.max() == 4
    assert all(len(set(map(tuple, task.tolist()))) == 15 for task in letters)
    share = letters.reshape(-1, 5).float().mean(0)
    np.testing.assert_allclose(share, 2, atol=0.15)  # each letter as often as any other
    assert len({tuple(t) for t in letters[:, 0].tolist()}) > 180


def test_strings_against_numpy():
    strings, key = Strings(6), torch.tensor([12345])
    answer, y = torch.randn(1, 4, 25), torch.tensor([[0, 5, 3, 3]])
    letters = strings.of(torch.arange(6)[None], key)[0].numpy()
    z = answer[0].double().numpy().reshape(4, 5, 5)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    of_class = np.array(
        [[sum(log_p[t, i, word[i]] for i in range(5)) for word in letters] for t in range(4)]
    )
    np.testing.assert_allclose(strings.predict(answer, key, 6)[0], of_class, rtol=1e-5)
    loss = [-of_class[t, c] for t, c in enumerate(y[0])]
    np.testing.assert_allclose(strings.loss(answer, key, y)[0], loss, rtol=1e-5)
    exact = torch.zeros(1, 4, 5, 5)
    exact.scatter_(-1, torch.from_numpy(letters)[None, y[0]].unsqueeze(-1), 1)
    assert strings.right(exact.flatten(2), key, y).all()
    exact[0, 2, 4] = exact[0, 2, 4].roll(1)  # one letter wrong is wrong
    assert strings.right(exact.flatten(2), key, y).tolist() == [[True, True, False, True]]


def test_fifteen_ways_by_strings():
    learner, batch = mann(15, labels="strings"), episode_of(15, 1, 1)
    assert not learner.fixed_way and learner(batch).shape == (4, 15, 15)
    assert mann().fixed_way and learner(episode_of(4, 1, 1)).shape == (4, 4, 4)
    learner.meta_loss(batch).backward()


def points(tasks=3, outputs=1) -> Episode:
    parts = [Examples(torch.randn(tasks, n, 1), torch.randn(tasks, n, outputs)) for n in (5, 7)]
    return Episode(*parts, outputs)


def test_regression_has_a_normal_head():
    learner, batch = mann(1, image=(1,)).eval(), points()
    metrics, prediction = learner.evaluate(batch)
    answer = learner.standard(batch)[0][:, 5:].detach().double()
    mean, sd = answer[..., :1], torch.log1p(answer[..., 1:].exp()) + 0.01
    density = torch.exp(-((batch.query.y - mean) ** 2) / (2 * sd**2)) / (
        sd * math.sqrt(2 * math.pi)
    )
    torch.testing.assert_close(metrics["nll"], -density.log().mean((1, 2)).float())
    torch.testing.assert_close(metrics["mse"].double(), ((batch.query.y - mean) ** 2).mean((1, 2)))
    assert torch.equal(prediction, learner(batch))
    learner.meta_loss(batch).backward()
    three = mann(3, image=(1,), labels="numbers")
    assert isinstance(three.labels, Numbers) and three(points(outputs=3)).shape == (3, 7, 3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"protocol": "instance"}, "protocol instance: did you mean 'instances'"),
        ({"labels": "words"}, "labels words: choose from one_hot, strings, numbers"),
        ({"heads": 9}, "heads 9: at most as many as rows, 8"),
        ({"labels": "numbers", "protocol": "instances"}, "protocol instances"),
    ],
)
def test_bad_options(options, says):
    with pytest.raises(UsageError, match=says):
        mann(**options)


def test_labels_that_do_not_fit_the_tasks_are_refused():
    with pytest.raises(UsageError, match="labels: numbers are for regression"):
        mann(labels="numbers").meta_loss(episode_of())
    with pytest.raises(UsageError, match="labels: numbers are for regression"):
        mann(1, image=(1,), labels="one_hot")(points())


SMALL = {"controller": 12, "rows": 8, "width": 5}


def planned(tmp_path, name, stores, flags, **options):
    workspace = Workspace(results=tmp_path / "results", runs=tmp_path / "runs", threads=1)
    flags = {**SMALL, **flags}
    return Run(
        RunRequest(name, "glyphs", budget="smoke", flags=flags, **options),
        workspace=workspace,
        stores=stores,
    )


@pytest.mark.parametrize(
    ("shot", "flags"), [(1, {}), (9, {"query": 5}), (9, {"train_query": 3}), (9, {"train_shot": 4})]
)
def test_instances_need_ten_of_each_class(tmp_path, stores, shot, flags):
    flags = {"protocol": "instances", **flags}
    with pytest.raises(UsageError, match="--shot 9 --query 1"):
        planned(tmp_path, "mann", stores, flags, shot=shot)


def test_nine_shots_are_the_papers_protocol_and_recorded_by_instance(tmp_path, stores):
    run = planned(tmp_path, "mann", stores, {}, shot=9)
    assert run["protocol"] == "instances" and run["query"] == run["train_query"] == 1
    record = run.execute(progress=False)
    assert set(record["metrics"]) == {"nll", *(f"accuracy@instance{k}" for k in range(1, 11))}
    assert record["validation"] and record["backbone_family"] == "lstm_memory"
    with np.load(run.record_path.with_suffix(".npz")) as arrays:
        assert arrays["prediction"].shape == (20, 5)
    standard = planned(tmp_path, "mann", stores, {}, shot=1).execute(progress=False)
    assert set(standard["metrics"]) == {"accuracy", "nll"}


def test_another_way_than_the_heads_is_refused(tmp_path, stores):
    with pytest.raises(UsageError, match="--train_way 4 must equal --way 5"):
        planned(tmp_path, "mann", stores, {"train_way": 4})
