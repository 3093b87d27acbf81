"""SNAIL against a plain pass over whole sequences, and its own promises."""

import pytest
import torch
from torch.nn import functional as F

from tests.baselines.test_snail_layers import attended, by_hand
from tests.conftest import episode_of
from zoo import Episode, Examples
from zoo.baselines.snail import SNAIL, Attention
from zoo.episode import fewer_shots
from zoo.errors import UsageError
from zoo.networks.backbone import build_backbone
from zoo.runs.plan import Plan
from zoo.runs.request import RunRequest

IMAGE = (1, 16, 16)


def snail(**options) -> SNAIL:
    torch.manual_seed(0)
    backbone = build_backbone("conv4_strided[channels=8]", IMAGE)
    return SNAIL(backbone, options.pop("way", 5), **options)


def regression(points: int = 5, queries: int = 3, outputs: int = 1) -> Episode:
    g = torch.Generator().manual_seed(0)
    shapes = [(n, m) for n in (points, queries) for m in (1, outputs)]
    xs, ys, xq, yq = (torch.randn(2, *shape, generator=g) for shape in shapes)
    return Episode(Examples(xs, ys), Examples(xq, yq), outputs)


def naive(learner: SNAIL, episode: Episode) -> torch.Tensor:
    """Every query at the end of a sequence of its own, all layers by numpy, step by step."""
    logits = []
    for task in range(episode.tasks):
        support, query = ([part.x[task], part.y[task]] for part in episode[:2])
        steps = torch.cat([learner.net(support[0]), F.one_hot(support[1], 5)], 1)
        for x in learner.net(query[0]):
            last = torch.cat([x, torch.zeros(5)])
            sequence = torch.cat([steps, last[None]]).detach().numpy()
            for block in learner.blocks:
                if isinstance(block, Attention):
                    sequence = attended(block, sequence)
                else:
                    for dense in block.blocks:
                        sequence = by_hand(dense, sequence)
            logits.append(learner.out(torch.from_numpy(sequence[-1])))
    return torch.stack(logits).view(episode.tasks, -1, 5)


@pytest.mark.parametrize("options", [{}, {"tc": False}, {"attention": False}, {"embedding": 3}])
@pytest.mark.parametrize("shot", [1, 5])
def test_one_pass_is_a_pass_for_every_query(options, shot):
    learner = snail(**options).double().eval()
    e = episode_of(shot=shot, query=2, tasks=2, image=IMAGE)
    e = Episode(*(Examples(part.x.double(), part.y) for part in e[:2]), 5)
    torch.testing.assert_close(learner(e), naive(learner, e), rtol=0, atol=1e-12)


def test_the_channels_of_omniglot():
    """5-way 5-shot: 69 - 101 - 741 - 869 - 1509 - 1765 - 5."""
    learner = SNAIL(build_backbone("conv4", (1, 28, 28)), 5, embedding=64)
    assert [block.channels for block in learner.blocks] == [101, 741, 869, 1509, 1765]
    assert learner.blocks[0].affine.in_features == 69
    assert learner.out.weight.shape == (5, 1765)


def test_the_labels_of_the_support_and_zeros_are_read():
    learner, e = snail().eval(), episode_of(shot=2, query=3, image=IMAGE)
    x = learner.sequences(e)
    assert torch.equal(x[:, :10, 8:], F.one_hot(e.support.y, 5).float())
    assert not x[:, 10:, 8:].any() and x[:, 10:, :8].any()
    x = SNAIL(build_backbone("mlp", (1,)), 2).sequences(regression(outputs=2))
    assert torch.equal(x[:, :5, 40:], regression(outputs=2).support.y) and not x[:, 5:, 40:].any()


def test_fewer_shots_are_random_ones_in_order():
    torch.manual_seed(0)
    y = episode_of(way=3, shot=5, tasks=200).support.y
    place = torch.arange(15).expand(200, -1)
    kept, labels = fewer_shots(Examples(place, y), 2, 3)
    assert labels.shape == (200, 6)
    assert torch.equal(F.one_hot(labels, 3).sum(1), torch.full((200, 3), 2))
    assert torch.equal(labels, y.gather(1, kept)) and (kept.diff() > 0).all()
    share = F.one_hot(kept, 15).double().sum((0, 1)) / 200  # expected 2 of 5, deviation 0.035
    assert (share - 0.4).abs().max() < 0.14


def test_shots_are_mixed_in_training_only():
    learner, e, seen = snail(), episode_of(shot=5, query=1, image=IMAGE), set()
    learner.forward = lambda e: seen.add(e.support.y.shape[1] // 5) or e.query.x.new_zeros(4, 5, 5)
    for _ in range(60):
        learner.meta_loss(e)
    assert seen == {1, 2, 3, 4, 5}
    seen.clear()
    learner.mixed_shots = False
    learner.meta_loss(e)
    learner.evaluate(e)
    assert seen == {5}


@pytest.mark.parametrize("outputs", [1, 2])
def test_regression(outputs):
    torch.manual_seed(0)
    learner = SNAIL(build_backbone("mlp", (1,)), outputs, max_shot=5)
    e = regression(outputs=outputs)
    assert learner(e).shape == e.query.y.shape
    expected = (learner(e) - e.query.y).square().mean()
    torch.testing.assert_close(learner.eval().evaluate(e)[0]["mse"].mean(), expected)
    with pytest.raises(UsageError, match="shot 6"):
        learner(regression(6, outputs=outputs))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: snail(max_shot=0), "max_shot 0"),
        (lambda: snail(embedding=0), "embedding 0"),
        (lambda: snail(first_dilation=4), "first_dilation 4: choose from 1, 2"),
        (lambda: snail(tc=False, attention=False), "no block is left"),
        (
            lambda: Plan(RunRequest("snail", "glyphs", shot=6)),
            "shot 6: SNAIL's sequences have room for 5",
        ),
        (
            lambda: Plan(RunRequest("snail", "glyphs", flags={"train_shot": 9})),
            "set --max_shot to 9",
        ),
        (lambda: Plan(RunRequest("snail", "sinusoid", shot=11)), "shot 11"),
        (lambda: Plan(RunRequest("snail", "glyphs", flags={"train_way": 6})), "must equal --way 5"),
    ],
)
def test_what_it_cannot_do_is_said_before_training(call, says):
    with pytest.raises(UsageError) as error:
        call()
    assert says in str(error.value) and "\n" not in str(error.value)


def test_the_test_may_have_any_shots_up_to_the_length():
    for shot in (1, 3, 5):
        assert Plan(RunRequest("snail", "glyphs", shot=shot))["train_shot"] == 5
    assert Plan(RunRequest("snail[max_shot=10]", "glyphs", shot=10)).learner.max_shot == 10


def test_its_residual_embedding():
    torch.manual_seed(0)
    net = build_backbone("resnet_snail", (3, 84, 84))
    x = torch.randn(2, 3, 84, 84)
    with torch.no_grad():
        assert net.blocks(x).shape == (2, 256, 6, 6)
        assert net.features == 384 and net.family == "resnet_snail"
        assert not torch.equal(net(x), net(x))  # dropout
        net.eval()
        # The paper's order: a 1x1 convolution, the mean over 6x6 pixels, ReLU, a 1x1 convolution.
        wide = F.conv2d(net.blocks(x), net.wide.weight[..., None, None], net.wide.bias)
        pooled = F.relu(F.avg_pool2d(wide, 6))
        expected = F.conv2d(pooled, net.out.weight[..., None, None], net.out.bias).flatten(1)
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


def test_a_residual_block_is_torchs():
    torch.manual_seed(0)
    part = build_backbone("resnet_snail", (3, 9, 9)).blocks[0]
    x = z = torch.randn(4, 3, 9, 9)
    for conv, norm in zip(part.convs, part.norms, strict=True):
        z = F.conv2d(z, conv.weight, padding=1)
        z = F.leaky_relu(F.batch_norm(z, None, None, norm.weight, norm.bias, True), 0.1)
    expected = F.max_pool2d(z + part.shortcut(x), 2, ceil_mode=True)
    assert expected.shape[-1] == 5
    out = part(x)
    kept = out != 0
    torch.testing.assert_close(out[kept], expected[kept] / 0.9, rtol=1e-4, atol=1e-4)
    assert 0.87 < kept.double().mean() < 0.93
