"""Backbones: shapes, parameters, and batch norm's three modes against torch's own."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.batch_norm import BatchNorm, set_batch_norm
from zoo.errors import UsageError
from zoo.networks.backbone import batch_norm_context, build_backbone


@pytest.mark.parametrize(
    ("text", "image", "features", "parameters"),
    [
        ("conv4", (1, 28, 28), 64, 576 + 3 * 36864 + 8 * 64),
        ("conv4[channels=32]", (3, 84, 84), 800, 864 + 3 * 9216 + 8 * 32),
        ("conv4", (3, 84, 84), 1600, 1728 + 3 * 36864 + 8 * 64),
        ("conv4", (3, 32, 32), 256, 1728 + 3 * 36864 + 8 * 64),
        ("conv5", (1, 28, 28), 64, 576 + 4 * 36864),
        ("conv5[channels=32]", (3, 84, 84), 288, 864 + 4 * 9216),
        ("conv4_strided", (1, 28, 28), 64, 576 + 3 * 36864 + 8 * 64),
    ],
)
def test_sizes(text, image, features, parameters):
    net = build_backbone(text, image)
    assert net.features == features
    assert net(torch.zeros(2, *image)).shape == (2, features)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_conv4_is_torchs_conv4():
    ours = build_backbone("conv4[channels=5]", (3, 16, 16))
    layers = []
    for conv, norm in zip(ours.convs, ours.norms, strict=True):
        theirs = nn.Conv2d(conv.weight.shape[1], 5, 3, padding=1, bias=False)
        theirs.weight, batch_norm = conv.weight, nn.BatchNorm2d(5)
        batch_norm.weight, batch_norm.bias = norm.weight, norm.bias
        layers += [theirs, batch_norm, nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*layers, nn.Flatten())
    x = torch.randn(4, 3, 16, 16)
    set_batch_norm(ours, "running")
    torch.testing.assert_close(ours(x), net(x))
    torch.testing.assert_close(ours.norms[1].running_var, net[5].running_var)
    torch.testing.assert_close(ours.eval()(x), net.eval()(x))


def test_support_mode_uses_the_support_alone():
    norm = BatchNorm(3, "support")
    nn.init.normal_(norm.weight)
    x = torch.randn(6, 3, 4, 4)
    with batch_norm_context(norm, support_rows=4):
        out = norm(x)
    expected = F.batch_norm(x[:4], None, None, norm.weight, norm.bias, True)
    torch.testing.assert_close(out[:4], expected, rtol=1e-4, atol=1e-5)
    with batch_norm_context(norm, support_rows=4):
        other = norm(torch.cat([x[:4], torch.zeros(1, 3, 4, 4), x[5:]]))
    torch.testing.assert_close(other[5], out[5])
    torch.testing.assert_close(norm(x), F.batch_norm(x, None, None, norm.weight, norm.bias, True))


def test_the_batch_norm_context_is_undone_by_an_error():
    norm = BatchNorm(3)
    with pytest.raises(ZeroDivisionError), batch_norm_context(norm, track=False, support_rows=2):
        1 / 0  # noqa: B018
    assert norm.track and norm.support_rows is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("conv44", "did you mean 'conv4'"),
        ("conv4[width=3]", "no option 'width'; it has ['channels']"),
        ("conv4[channels=3", "closing bracket"),
        ("conv4[channels=x]", "expected a whole number of at least 1"),
        ("conv4[channels=0]", "expected a whole number of at least 1"),
    ],
)
def test_bad_backbones_are_named(text, says):
    with pytest.raises(UsageError) as error:
        build_backbone(text, (1, 28, 28))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_images_too_small_are_refused():
    with pytest.raises(UsageError, match="smaller than 16x16"):
        build_backbone("conv4", (1, 8, 8))


def test_unknown_batch_norm_mode():
    with pytest.raises(UsageError, match="no mode 'instance'"):
        set_batch_norm(BatchNorm(2), "instance")
