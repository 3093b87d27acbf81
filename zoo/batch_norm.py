"""Batch normalisation in three modes, and putting a network into one of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F

from zoo.errors import UsageError

EPS, MOMENTUM = 1e-5, 0.1  # of every batch norm
BATCH_NORM_MODES = ("batch", "running", "support")


class BatchNorm(nn.Module):
    """Batch normalisation in three modes.

    - ``batch``: statistics of the batch at hand, always.
    - ``running``: batch statistics in training, which also move the buffers; the buffers'
      constants in evaluation.
    - ``support``: statistics of the support set, with gradient through them, also for the
      queries behind it in the batch: the inductive variant of ``batch`` (see `batch_norm_context`).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, mode: str = "batch") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.mode = mode
        self.support_rows: int | None = None  # set by `batch_norm_context`
        self.track = True
        self.film: Any = (
            None  # a zoo.networks.layers.FiLM behind this norm, where a learner put one
        )

    @property
    def constant(self) -> bool:
        """Whether the statistics are the buffers' constants."""
        return self.mode == "running" and not self.training

    @property
    def spans_processes(self) -> bool:
        """Whether the statistics are of the batches of all processes that train together."""
        return self.mode == "running" and self.training and self.track and shared_by_processes()

    @contextmanager
    def moving(self) -> Iterator[tuple[Tensor, Tensor] | None]:
        """The running statistics that this batch moves, a copy for each task; None for none."""
        if self.mode != "running" or not self.training or not self.track:
            yield None
            return
        tasks = self.weight.numel() // len(self.running_mean)
        moved = self.running_mean.repeat(tasks), self.running_var.repeat(tasks)
        yield moved
        for buffer, values in zip((self.running_mean, self.running_var), moved, strict=True):
            buffer.copy_(values.view(tasks, -1).mean(0))

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, ...) -> the same; with weights (T, C), (n, T*C, ...) -> the same."""
        weight, bias = self.weight.flatten(), self.bias.flatten()
        if self.mode == "support" and self.support_rows is not None:
            dims = [d for d in range(x.dim()) if d != 1]
            shape = [-1 if d == 1 else 1 for d in range(x.dim())]
            var, mean = torch.var_mean(x[: self.support_rows], dims, correction=0, keepdim=True)
            return (x - mean) * (var + EPS).rsqrt() * weight.view(shape) + bias.view(shape)
        if self.constant:
            tasks = len(weight) // len(self.running_mean)
            constants = self.running_mean.repeat(tasks), self.running_var.repeat(tasks)
            return F.batch_norm(x, *constants, weight, bias, False, MOMENTUM, EPS)
        if self.spans_processes:
            return self.over_all_processes(x, weight, bias)
        with self.moving() as moved:
            moving_mean, moving_var = moved or (None, None)
            return F.batch_norm(x, moving_mean, moving_var, weight, bias, True, MOMENTUM, EPS)

    def over_all_processes(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """With the statistics of the batches of all processes that train together, (n, C, ...).

        Each has its share of a meta-batch, and gets what it would if it had the whole of it.
        """
        dims = [d for d in range(x.dim()) if d != 1]
        shape = [-1 if d == 1 else 1 for d in range(x.dim())]
        sizes = torch.cat([x.sum(dims), x.new_tensor([x.numel() / x.shape[1]])])
        *sums, count = all_reduce(sizes).split([x.shape[1], 1])
        mean = sums[0] / count
        centred = x - mean.view(shape)
        var = all_reduce(centred.square().sum(dims)) / count
        with self.moving() as moved, torch.no_grad():
            assert moved is not None
            moved[0].lerp_(mean, MOMENTUM)
            moved[1].lerp_(var * count / (count - 1), MOMENTUM)
        scale = (var + EPS).rsqrt() * weight
        return centred * scale.view(shape) + bias.view(shape)


def shared_by_processes() -> bool:
    """Whether several processes train together."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and (distributed.get_world_size() > 1)
    )


def set_batch_norm(net: nn.Module, mode: str) -> bool:
    """Put every batch norm of a network into one of the three modes; tells whether it has any.

    Raises:
        UsageError: there is no such mode.
    """
    if mode not in BATCH_NORM_MODES:
        raise UsageError(f"batch_norm: no mode {mode!r}: choose from {', '.join(BATCH_NORM_MODES)}")
    norms = [module for module in net.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.mode = mode
    return bool(norms)
