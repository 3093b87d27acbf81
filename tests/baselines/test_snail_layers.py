"""Causal layers against loops written from the published equations."""

import numpy as np
import pytest
import torch

from zoo.baselines.snail import Attention, DenseBlock, TCBlock


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def by_hand(block: DenseBlock, x: np.ndarray) -> np.ndarray:
    """cat[x, tanh(xf) * sigmoid(xg)] of one sequence (t, C), step by step."""
    weight, bias = (p.detach().numpy() for p in (block.taps.weight, block.taps.bias))
    filters, channels = len(bias) // 2, x.shape[1]
    rows = []
    for t in range(len(x)):
        before = x[t - block.dilation] if t >= block.dilation else np.zeros(channels)
        z = weight[:, :channels] @ before + weight[:, channels:] @ x[t] + bias
        gate = np.tanh(z[:filters]) / (1 + np.exp(-z[filters:]))
        rows.append(np.concatenate([x[t], gate]))
    return np.stack(rows)


def attended(layer: Attention, x: np.ndarray) -> np.ndarray:
    """cat[x, softmax(q k^T / sqrt(K)) v] of one sequence (t, C), step by step."""
    weight, bias = (p.detach().numpy() for p in (layer.affine.weight, layer.affine.bias))
    K = layer.sizes[0]  # noqa: N806
    query, keys, values = np.split(x @ weight.T + bias, [K, 2 * K], axis=1)
    rows = []
    for t in range(len(x)):
        p = np.exp(keys[: t + 1] @ query[t] / np.sqrt(K))
        rows.append(np.concatenate([x[t], p / p.sum() @ values[: t + 1]]))
    return np.stack(rows)


@pytest.mark.parametrize("dilation", [1, 2, 4, 16])
def test_a_dense_block_is_its_equation(dilation):
    block, x = DenseBlock(3, dilation, 4).double(), numbers(2, 9, 3)
    for t in range(2):
        np.testing.assert_allclose(
            block(x, 8)[t].detach().numpy(), by_hand(block, x[t].numpy()), atol=1e-12
        )


def test_a_dense_block_is_torchs_convolution():
    block, x = DenseBlock(3, 2, 4).double(), numbers(2, 9, 3)
    conv = torch.nn.Conv1d(3, 8, 2, dilation=2).double()
    conv.weight.data = block.taps.weight.data.view(8, 2, 3).mT.contiguous()
    conv.bias.data = block.taps.bias.data
    xf, xg = conv(torch.nn.functional.pad(x.mT, (2, 0))).mT.chunk(2, -1)
    torch.testing.assert_close(block(x, 8)[..., 3:], xf.tanh() * xg.sigmoid())


def test_attention_is_its_equation():
    layer, x = Attention(3, 5, 4).double(), numbers(2, 7, 3)
    for t in range(2):
        np.testing.assert_allclose(
            layer(x, 6)[t].detach().numpy(), attended(layer, x[t].numpy()), atol=1e-12
        )


LAYERS = [
    lambda: DenseBlock(3, 2, 4),
    lambda: DenseBlock(3, 16, 4),
    lambda: TCBlock(3, 8, 4, 1),
    lambda: Attention(3, 5, 4),
]


@pytest.mark.parametrize("make", LAYERS)
def test_sequences_with_a_common_past_are_each_their_own(make):
    layer, x = make().double(), numbers(2, 7 + 4, 3)
    together = layer(x, 7)
    for q in range(4):
        alone = layer(torch.cat([x[:, :7], x[:, 7 + q : 8 + q]], 1), 7)
        torch.testing.assert_close(together[:, :7], alone[:, :7], rtol=0, atol=1e-12)
        torch.testing.assert_close(together[:, 7 + q], alone[:, 7], rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", LAYERS)
def test_the_future_never_changes_the_past(make):
    layer, x = make().double(), numbers(1, 8, 3)
    for t in range(1, 8):
        other = torch.cat([x[:, :t], x[:, t:] + 1], 1)
        assert torch.equal(layer(other, 7)[:, :t], layer(x, 7)[:, :t])


def reached(block: TCBlock, length: int) -> list[int]:
    """How many steps back the last output reads, by its gradient."""
    x = numbers(1, length, 1).requires_grad_()
    block(x, length - 1)[0, -1, 1:].sum().backward()
    return [lag for lag in range(length) if x.grad[0, length - 1 - lag, 0] != 0]


@pytest.mark.parametrize("length", [2, 6, 8, 26, 101])
def test_every_lag_is_reached(length):
    block = TCBlock(1, length, 2, 1).double()
    assert len(block.blocks) == int(np.ceil(np.log2(length)))
    assert reached(block, length) == list(range(length))


def test_the_printed_dilations_reach_even_lags_only():
    block = TCBlock(1, 26, 2, 2).double()
    assert [b.dilation for b in block.blocks] == [2, 4, 8, 16, 32]
    assert reached(block, 26) == list(range(0, 26, 2))
