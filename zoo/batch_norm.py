"""Batch normalisation in three modes, and how to put a network into one of them.

PyTorch's batch norms, which other people's networks have, are converted to ours.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase

from zoo.errors import UsageError
from zoo.processes import process_count

# For our own networks; a layer converted from PyTorch keeps its own values.
EPS = 1e-5
MOMENTUM = 0.1
BATCH_NORM_MODES = ("batch", "running", "support")


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of all processes' tensors, differentiable."""
    total: Tensor = _SumOverProcesses.apply(x)
    return total


class _SumOverProcesses(torch.autograd.Function):
    """The sum over processes, and its gradient.

    Every process receives the sum and computes a loss from it. So the gradient with respect to one
    process's tensor is the sum of the gradients in all processes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        return sum_over_processes(gradient)


class BatchNorm(nn.Module):
    """Batch normalisation in three modes.

    - ``batch``: always the statistics of the current batch.
    - ``running``: in training, statistics of the current batch, which also update the buffers; in
      evaluation, the buffers.
    - ``support``: the inductive variant of ``batch``. A batch holds the support set and then the
      queries, and both are normalised by the support set's statistics, with gradient through
      them (see `batch_norm_context`).
    """

    running_mean: Tensor
    running_var: Tensor
    eps: float
    momentum: float

    def __init__(self, channels: int, mode: str = "batch") -> None:
        super().__init__()
        self.eps = EPS
        self.momentum = MOMENTUM
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.use(mode)

    def use(self, mode: str) -> None:
        """Set the mode, and reset what `batch_norm_context` and learners with FiLM set."""
        self.mode = mode
        self.support_rows: int | None = None
        self.track = True
        # The zoo.networks.layers.FiLM that modulates the output, if a learner put one here.
        self.film: Any = None

    @property
    def constant(self) -> bool:
        """Whether it normalises by the buffers."""
        return self.mode == "running" and not self.training

    @property
    def spans_processes(self) -> bool:
        """Whether its statistics are over the batches of all processes that train together."""
        return self.mode == "running" and self.training and self.track and process_count() > 1

    @contextmanager
    def moving(self) -> Iterator[tuple[Tensor, Tensor] | None]:
        """Let the block update the running statistics.

        Yields:
            Mean and variance (T*C,), a copy for each task, to be updated in place. Afterwards the
            buffers become their means over tasks. None if this batch does not update them.
        """
        if self.mode != "running" or not self.training or not self.track:
            yield None
            return
        tasks = self.weight.numel() // len(self.running_mean)
        mean, var = self.running_mean.repeat(tasks), self.running_var.repeat(tasks)
        yield mean, var
        self.running_mean.copy_(mean.view(tasks, -1).mean(0))
        self.running_var.copy_(var.view(tasks, -1).mean(0))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, C, ...); with weights (T, C), (n, T*C, ...). The shape stays."""
        weight, bias = self.weight.flatten(), self.bias.flatten()
        if self.mode == "support" and self.support_rows is not None:
            dims = [d for d in range(x.dim()) if d != 1]
            shape = [-1 if d == 1 else 1 for d in range(x.dim())]
            var, mean = torch.var_mean(x[: self.support_rows], dims, correction=0, keepdim=True)
            return (x - mean) * (var + self.eps).rsqrt() * weight.view(shape) + bias.view(shape)
        if self.constant:
            tasks = len(weight) // len(self.running_mean)
            constants = self.running_mean.repeat(tasks), self.running_var.repeat(tasks)
            return F.batch_norm(x, *constants, weight, bias, False, self.momentum, self.eps)
        if self.spans_processes:
            return self.over_all_processes(x, weight, bias)
        with self.moving() as running:
            running_mean, running_var = running or (None, None)
            return F.batch_norm(
                x, running_mean, running_var, weight, bias, True, self.momentum, self.eps
            )

    def over_all_processes(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Normalise x (n, C, ...) by the statistics of all processes' batches.

        Each process has its share of a meta-batch, and gets what it would with the whole of it.
        """
        dims = [d for d in range(x.dim()) if d != 1]
        shape = [-1 if d == 1 else 1 for d in range(x.dim())]
        sums_and_count = torch.cat([x.sum(dims), x.new_tensor([x.numel() / x.shape[1]])])
        sums, count = sum_over_processes(sums_and_count).split([x.shape[1], 1])
        mean = sums / count
        centred = x - mean.view(shape)
        var = sum_over_processes(centred.square().sum(dims)) / count
        with self.moving() as running, torch.no_grad():
            assert running is not None
            running_mean, running_var = running
            running_mean.lerp_(mean, self.momentum)
            running_var.lerp_(var * count / (count - 1), self.momentum)
        scale = (var + self.eps).rsqrt() * weight
        return centred * scale.view(shape) + bias.view(shape)


# A layer with one of these forward methods computes just what PyTorch's batch norm does.
TORCH_FORWARDS = (nn.BatchNorm1d.forward, nn.SyncBatchNorm.forward)


def convert_batch_norm(net: nn.Module) -> None:
    """Convert PyTorch's batch norms in a network to ours, in place.

    Parameters, running statistics, epsilon and momentum stay; `num_batches_tracked` is dropped. The
    layer objects stay the same ones, so that any other reference to them, such as a plain list that
    the network keeps, sees the converted layer.

    Raises:
        UsageError: a norm keeps running statistics and cannot be converted.
    """
    like = next(net.parameters(), torch.empty(0))  # for dtype and device
    for name, layer in net.named_modules():
        if not isinstance(layer, _NormBase):
            continue
        if type(layer).forward not in TORCH_FORWARDS:
            if layer.running_mean is None:
                continue  # it has no running statistics; an instance norm, for example
            refuse_norm(name, layer, "keeps running statistics in a way of its own", "leave it out")
        if layer.momentum is None:
            refuse_norm(name, layer, "has momentum=None", "give it a number, such as 0.1")
        del layer.num_batches_tracked
        for part, value in (("weight", 1.0), ("bias", 0.0)):
            if getattr(layer, part) is None:  # affine=False
                delattr(layer, part)
                constant = like.new_full((layer.num_features,), value)
                layer.register_buffer(part, constant, persistent=False)
        layer.__class__ = BatchNorm  # type: ignore[assignment]
        layer.use("batch")  # type: ignore[operator]


def refuse_norm(name: str, layer: nn.Module, fault: str, remedy: str) -> NoReturn:
    """Raise a UsageError that says what is wrong with a norm and what to do."""
    raise UsageError(f"backbone: its layer {name}, a {type(layer).__name__}, {fault}: {remedy}")


def set_batch_norm(net: nn.Module, mode: str) -> bool:
    """Put every batch norm of a network into one of the three modes.

    PyTorch's own are converted first.

    Returns:
        Whether the network has any batch norm.

    Raises:
        UsageError: there is no such mode, or the network has a norm that cannot be in it.
    """
    if mode not in BATCH_NORM_MODES:
        raise UsageError(f"batch_norm: no mode {mode!r}: choose from {', '.join(BATCH_NORM_MODES)}")
    convert_batch_norm(net)
    norms = {name: layer for name, layer in net.named_modules() if isinstance(layer, BatchNorm)}
    for name, norm in norms.items():
        if mode == "running" and norm.running_mean is None:
            remedy = "use batch_norm=batch, or build it with track_running_stats=True"
            refuse_norm(name, norm, "has no running statistics", remedy)
        norm.mode = mode
    return bool(norms)
