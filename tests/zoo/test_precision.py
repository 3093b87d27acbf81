"""Convolutions in bfloat16: near float32 in all derivatives, refused where it is slow."""

import copy

import pytest
import torch
from torch import nn

from zoo import precision
from zoo.errors import UsageError
from zoo.networks.backbone import build_backbone
from zoo.networks.second_derivatives import conv2d
from zoo.precision import check_precision, is_fast_in_bf16, set_precision

BF16_STEP = 2**-8  # the relative step between neighbouring bfloat16 numbers, rounding is half of it


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


def derivatives(x, w, v, dtype, stride=1, groups=1):
    """Convolution, its gradients, and the gradient of a function of these gradients."""
    x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
    z = conv2d(x, w, stride, groups, dtype)
    gx, gw = torch.autograd.grad(
        (z.sin() * v[..., : z.shape[-2], : z.shape[-1]]).sum(), (x, w), create_graph=True
    )
    second = torch.autograd.grad(gx.square().sum() + gw.square().sum(), (x, w))
    return [z, gx, gw, *second]


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 2)])
def test_all_derivatives_are_near_those_of_float32(stride, groups):
    torch.manual_seed(0)
    x, w, v = (
        torch.randn(3, 8, 9, 9),
        torch.randn(8, 8 // groups, 3, 3) / 6,
        torch.randn(3, 8, 9, 9),
    )
    exact = derivatives(x, w, v, None, stride, groups)
    rounded = derivatives(x, w, v, torch.bfloat16, stride, groups)
    for got, expected in zip(rounded, exact, strict=True):
        assert got.dtype == torch.float32
        assert 0 < relative(got, expected) < 8 * BF16_STEP


def test_products_of_numbers_that_bfloat16_holds_are_exact():
    """Rounding the operands changes nothing here, so that sums must be those of float32."""
    torch.manual_seed(0)
    x = torch.randint(-8, 9, (2, 4, 6, 6)).float()
    w = torch.randint(-1, 2, (4, 4, 3, 3)).float()
    z = conv2d(x, w, dtype=torch.bfloat16)
    assert z.abs().max() < 256  # a sum up to here is a bfloat16 number too
    torch.testing.assert_close(z, conv2d(x, w), rtol=0, atol=0)


@pytest.mark.parametrize("text", ["conv4[channels=8]", "conv4_strided[channels=8]", "resnet12"])
def test_a_network_in_bfloat16(text):
    torch.manual_seed(0)
    net = build_backbone(text, (3, 16, 16))
    rounded = copy.deepcopy(net)
    set_precision(rounded.modules(), "bf16")
    x = torch.randn(6, 3, 16, 16)
    z, exact = rounded(x), net(x)
    assert z.dtype == torch.float32 and 0 < relative(z, exact) < 0.1
    assert {p.dtype for p in rounded.parameters()} == {torch.float32}
    set_precision(rounded.modules(), "float32")
    torch.testing.assert_close(rounded(x), net(x), rtol=0, atol=0)


def test_what_cannot_compute_in_it_is_refused():
    for layers, said in (
        ([nn.Linear(2, 2)], "rounds what convolutions multiply, and this network has none"),
        ([nn.Conv2d(1, 1, 3)], "the network has layers Conv2d, which compute in float32 alone"),
    ):
        with pytest.raises(UsageError, match=f"--precision bf16: {said}"):
            set_precision(layers, "bf16")
        set_precision(layers, "float32")
    with pytest.raises(UsageError, match="--precision fp16: choose from float32, bf16"):
        set_precision([], "fp16")


@pytest.mark.parametrize(("flags", "fast"), [("fpu avx2 amx_tile amx_bf16", True), ("avx2", False)])
def test_only_processors_that_have_units_for_it(tmp_path, monkeypatch, flags, fast):
    info = tmp_path / "cpuinfo"
    info.write_text(f"flags\t\t: {flags}\n")
    monkeypatch.setattr(precision, "CPU_INFO", info)
    cpu = torch.device("cpu")
    assert is_fast_in_bf16(cpu) == fast
    check_precision("float32", cpu)
    if fast:
        check_precision("bf16", cpu)
    else:
        with pytest.raises(UsageError, match="this cpu has no units for bfloat16 products"):
            check_precision("bf16", cpu)
    info.unlink()
    assert is_fast_in_bf16(cpu) is False
