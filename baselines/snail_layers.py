"""Causal layers over sequences that have their past in common (Mishra et al. 2018, section 3).

A learner reads a support set and then one query; many queries, read each by itself, have the same
past. So a tensor (T, P + Q, C) with a number P stands for T * Q sequences: its first P steps are
the past, and each of the others is step P of a sequence of its own. What is computed of the past
is computed once. With Q = 1 it is an ordinary sequence.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DenseBlock(nn.Module):
    """A causal convolution of two taps, gated, and its input beside it."""

    def __init__(self, channels: int, dilation: int, filters: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.channels = channels + filters  # of what comes out
        # Both convolutions at once; of each the tap at t - dilation, then the one at t.
        self.taps = nn.Linear(2 * channels, 2 * filters)

    def forward(self, x: Tensor, past: int) -> Tensor:
        """cat[x, tanh(xf) * sigmoid(xg)]: (T, P + Q, C) -> (T, P + Q, C + filters)."""
        before, now = self.taps.weight.chunk(2, dim=1)
        # Row t holds step t - dilation of the past, or zeros: there is nothing before the start.
        lagged = F.linear(F.pad(x[:, :past], (0, 0, self.dilation, 0))[:, : past + 1], before)
        at = positions(x.shape[1], past, x.device)
        xf, xg = (lagged[:, at] + F.linear(x, now, self.taps.bias)).chunk(2, dim=-1)
        return torch.cat([x, xf.tanh() * xg.sigmoid()], dim=-1)


class TCBlock(nn.Module):
    """Dense blocks, each of twice the dilation, until the whole sequence is reached."""

    def __init__(self, channels: int, length: int, filters: int, first_dilation: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for i in range((length - 1).bit_length()):  # ceil(log2(length))
            self.blocks.append(DenseBlock(channels, first_dilation * 2**i, filters))
            channels += filters
        self.channels = channels

    def forward(self, x: Tensor, past: int) -> Tensor:
        """(T, P + Q, C) -> (T, P + Q, C + blocks * filters)."""
        for block in self.blocks:
            x = block(x, past)
        return x


class Attention(nn.Module):
    """What is read of the steps so far by softmax attention, and its input beside it."""

    def __init__(self, channels: int, keys: int, values: int) -> None:
        super().__init__()
        self.sizes = [keys, keys, values]
        self.channels = channels + values
        self.affine = nn.Linear(channels, sum(self.sizes))  # queries, keys and values at once

    def forward(self, x: Tensor, past: int) -> Tensor:
        """cat[x, softmax(q k^T / sqrt(K)) v]: (T, P + Q, C) -> (T, P + Q, C + values)."""
        queries, keys, values = self.affine(x).split(self.sizes, dim=-1)
        logits = queries @ keys.mT / keys.shape[-1] ** 0.5
        unseen = ~visible(x.shape[1], past, x.device)
        return torch.cat([x, logits.masked_fill(unseen, -torch.inf).softmax(-1) @ values], dim=-1)


def positions(rows: int, past: int, device: torch.device) -> Tensor:
    """Which step of its sequence each of P + Q rows is: 0, 1, ..., P - 1, then P, P, ..."""
    return torch.arange(rows, device=device).clamp(max=past)


def visible(rows: int, past: int, device: torch.device) -> Tensor:
    """Which rows each one may look at, (P + Q, P + Q): those of the past before it, and itself."""
    at = positions(rows, past, device)
    return (at < at.unsqueeze(1)) | torch.eye(rows, dtype=torch.bool, device=device)
