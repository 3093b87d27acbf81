"""Convolution, batch norm, ReLU and max-pool with closed-form first and second derivatives.

Second-order meta-learning spends most of its time in them. PyTorch computes their second
derivatives by many elementwise passes over whole maps and by convolutions with maps as kernels;
here they cost about as much as another forward and backward pass. Inside, maps are channels-last:
a pixel's channels lie side by side in memory, as a CPU's fast kernels want them.

Each can be differentiated twice (max_pool as often as you like); a third time raises a
RuntimeError. The formulas are our own derivation; tests/networks/test_second_derivatives.py checks
them with `gradgradcheck` and against the plain layers of layers.py.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from zoo.batch_norm import EPS, MOMENTUM


class _NoMore(Function):
    """Returns the value, and raises an error if it is differentiated in any of the sources."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *sources: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        raise RuntimeError("a third derivative is not available")


def last_derivative(backward: Callable[..., tuple[Tensor | None, ...]]) -> Callable[..., Any]:
    """Decorator of a second derivative: to differentiate it again raises an error.

    PyTorch's `once_differentiable` raises one only if an incoming gradient requires grad. If saved
    tensors alone do, it silently takes the result for a constant.
    """

    def refusing(ctx: Any, *h: Tensor | None) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            values = backward(ctx, *h)
        sources = [t for t in (*h, *ctx.saved_tensors) if t is not None and t.requires_grad]
        if not torch.is_grad_enabled() or not sources:
            return values
        return tuple(None if v is None else _NoMore.apply(v, *sources) for v in values)

    return refusing


def channels_last(x: Tensor) -> Tensor:
    """The same map (n, C, H, W), with a pixel's channels side by side in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def conv2d(
    x: Tensor,
    weight: Tensor,
    stride: int = 1,
    groups: int = 1,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Convolution with an odd kernel, padded by half of it.

    Args:
        x: (n, groups*C, H, W).
        weight: (groups*O, C, k, k).
        stride: of the convolution.
        groups: how many parts of the channels are convolved each by itself.
        dtype: the type that maps and kernels are rounded to before they are multiplied, here and in
            both derivatives, such as torch.bfloat16; None for no rounding. What goes in and what
            comes out keeps its type.

    Returns:
        (n, groups*O, H', W').
    """
    return _Conv.apply(channels_last(x), weight, stride, groups, dtype)


def max_pool(z: Tensor) -> Tensor:
    """2x2 maxima: (n, C, H, W) -> (n, C, H/2, W/2); an odd last row or column is dropped."""
    return _MaxPool.apply(channels_last(z))


def batch_norm(
    z: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    relu: bool = False,
    pool: bool = False,
    running: tuple[Tensor, Tensor] | None = None,
    eps: float = EPS,
    momentum: float = MOMENTUM,
) -> Tensor:
    """bias + weight * (z - mean) / sqrt(var + eps), then a 2x2 max-pool and ReLU if asked for.

    Mean and variance are those of the batch, as `channel_moments` computes them.

    Args:
        z: (n, C, H, W), must be channels-last, as the output of `conv2d` is. It is **overwritten**,
            so do not use it again.
        weight: gamma (C,).
        bias: beta (C,).
        relu: whether negative values become zero.
        pool: whether to take maxima as `max_pool` does.
        running: mean and variance (C,) of earlier batches, moved towards this one's.
        eps: added to the variance.
        momentum: the share of the way that `running` is moved.

    Returns:
        (n, C, H, W), or (n, C, H/2, W/2) if pooled.
    """
    return _BatchNorm.apply(z, weight, bias, relu, pool, running or (None, None), eps, momentum)


def rounded_to(t: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The tensor in another type; as it is if `dtype` is None."""
    return t if dtype is None else t.to(dtype)


def _convolve(x: Tensor, w: Tensor, stride: int, groups: int, dtype: torch.dtype | None) -> Tensor:
    pad = w.shape[-1] // 2
    z = F.conv2d(rounded_to(x, dtype), rounded_to(w, dtype), None, stride, pad, 1, groups)
    return channels_last(z.to(x.dtype))


def _convolve_back(
    g: Tensor,
    x: Tensor,
    w: Tensor,
    stride: int,
    groups: int,
    dtype: torch.dtype | None,
    to_x: bool,
    to_w: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients in x (if `to_x`) and in w (if `to_w`), from g, the gradient in the output."""
    pad = w.shape[-1] // 2
    gx, gw, _ = torch.ops.aten.convolution_backward(
        rounded_to(g, dtype),
        rounded_to(x, dtype),
        rounded_to(w, dtype),
        None,
        [stride] * 2,
        [pad] * 2,
        [1, 1],
        False,
        [0, 0],
        groups,
        [to_x, to_w, False],
    )
    return gx.to(g.dtype) if to_x else None, gw.to(g.dtype) if to_w else None


class _Conv(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, stride: int, groups: int, dtype: torch.dtype | None
    ) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.options = stride, groups, dtype
        return _convolve(x, w, *ctx.options)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        to_x, to_w, *_ = ctx.needs_input_grad
        gx, gw = _ConvBackward.apply(channels_last(g), x, w, *ctx.options, to_x, to_w)
        return gx, gw, None, None, None


class _ConvBackward(Function):
    @staticmethod
    def forward(
        ctx: Any,
        g: Tensor,
        x: Tensor,
        w: Tensor,
        stride: int,
        groups: int,
        dtype: torch.dtype | None,
        to_x: bool,
        to_w: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        ctx.set_materialize_grads(False)
        # If x is fixed data, the second derivative does not need g, the largest map of all.
        ctx.save_for_backward(g if to_x else None, x, w)
        ctx.options = stride, groups, dtype
        return _convolve_back(g, x, w, stride, groups, dtype, to_x, to_w)

    @staticmethod
    @last_derivative
    def backward(ctx: Any, hx: Tensor | None, hw: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradient of <hx, gx> + <hw, gw> = <g, conv(hx, w) + conv(x, hw)>."""
        g, x, w = ctx.saved_tensors
        stride, groups, dtype = ctx.options
        needs_g, needs_x, needs_w = ctx.needs_input_grad[:3]
        to_g = to_x = to_w = None
        if hw is not None and needs_x:
            to_x, _ = _convolve_back(g, x, hw, stride, groups, dtype, to_x=True, to_w=False)
        if hx is not None and needs_w:
            hx = channels_last(hx)
            _, to_w = _convolve_back(g, hx, w, stride, groups, dtype, to_x=False, to_w=True)
        pairs = [(m, k) for m, k in ((x, hw), (hx, w)) if m is not None and k is not None]
        if needs_g and pairs:
            # The sum of two convolutions, as one: their channels side by side.
            maps, kernels = zip(*pairs, strict=True)
            joined = _join_channels(maps, groups)
            to_g = _convolve(joined, torch.cat(kernels, 1), stride, groups, dtype)
        return to_g, to_x, to_w, None, None, None, None, None


def _join_channels(maps: tuple[Tensor, ...], groups: int) -> Tensor:
    """Put the channels of maps side by side, group by group."""
    pixels = [x.permute(0, 2, 3, 1).unflatten(3, (groups, -1)) for x in maps]
    return torch.cat(pixels, 4).flatten(3).permute(0, 3, 1, 2)


class _MaxPool(Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        p, where = _pool(z)
        ctx.save_for_backward(where)
        ctx.shape = z.shape
        return p

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return _Unpool.apply(g, *ctx.saved_tensors, ctx.shape)


class _Unpool(Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, where: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(where)
        ctx.shape = shape
        z = torch.empty(shape, dtype=g.dtype, device=g.device, memory_format=torch.channels_last)
        return _put(z.zero_(), where, channels_last(g))

    @staticmethod
    def backward(ctx: Any, h: Tensor) -> tuple[Tensor | None, ...]:
        return _Take.apply(h, *ctx.saved_tensors, ctx.shape), None, None


class _Take(Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, where: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(where)
        ctx.shape = shape
        return _take(channels_last(h), where)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return _Unpool.apply(g, *ctx.saved_tensors, ctx.shape), None, None


def _pool(z: Tensor) -> tuple[Tensor, Tensor]:
    """The 2x2 maxima, and their positions in the memory of z (see `_memory`)."""
    n, c, h, w = z.shape
    p, where = F.max_pool2d(z, 2, return_indices=True)  # which pixel of the image
    first = torch.arange(n, device=z.device).view(n, 1, 1, 1) * (c * h * w)
    first = first + torch.arange(c, device=z.device).view(c, 1, 1)
    torch.add(first, where, alpha=c, out=where)
    return channels_last(p), channels_last(where)


def _memory(z: Tensor) -> Tensor:
    """The numbers of a channels-last map, in the order in which they lie in memory."""
    return z.permute(0, 2, 3, 1).view(-1)


def _put(z: Tensor, where: Tensor, values: Tensor) -> Tensor:
    """Write values into z at some positions of its memory; returns z."""
    _memory(z).index_copy_(0, _memory(where), _memory(values))
    return z


def _take(z: Tensor, where: Tensor) -> Tensor:
    """The values of z at some positions of its memory."""
    n, c, h, w = where.shape
    return _memory(z).take(_memory(where)).view(n, h, w, c).permute(0, 3, 1, 2)


def _sums(z: Tensor) -> Tensor:
    """The sum of each channel: (n, C, H, W) -> (C,)."""
    return z.permute(0, 2, 3, 1).view(-1, z.shape[1]).sum(0)


def channel_moments(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel over n, H and W: (n, C, H, W) -> (C,), (C,).

    On a CPU, PyTorch adds up a channels-last map number by number in float32. For a channel of
    176,400 equal numbers its mean is off by 2e-3 of their size, which batch norm enlarges up to
    300-fold. So the moments of each pixel over n are computed first, and then combined.
    """
    if not z.is_cpu:
        var, mean = torch.var_mean(z, (0, 2, 3), correction=0)
        return mean, var
    pixels = channels_last(z).permute(0, 2, 3, 1).reshape(len(z), -1, 1, 1)  # (n, H*W*C, 1, 1)
    means, variances = torch.batch_norm_update_stats(pixels, None, None, 0.0)
    means = means.view(-1, z.shape[1])  # (H*W, C)
    variances = variances.view(-1, z.shape[1])
    mean = means.mean(0)
    return mean, variances.mean(0) + (means - mean).square_().mean(0)


def wide(v: Tensor) -> Tensor:
    """(C,) -> (C, 1, 1)."""
    return v.view(-1, 1, 1)


def _move(
    running: tuple[Tensor | None, Tensor | None],
    momentum: float,
    mean: Tensor,
    var: Tensor,
    count: int,
) -> None:
    """Move running statistics, if there are any, towards this batch's; the variance is unbiased."""
    unbiased = var * (count / max(1, count - 1))
    for old, new in zip(running, (mean, unbiased), strict=True):
        if old is not None:
            old.lerp_(new, momentum)


class _BatchNorm(Function):
    """With zhat = (z - mean) istd, p = zhat at its maxima, u = beta + gamma p, y = relu(u).

    istd is 1 / sqrt(var + eps). Without a pool p is all of zhat, and without a ReLU y is u.
    """

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        gamma: Tensor,
        beta: Tensor,
        relu: bool,
        pool: bool,
        running: tuple[Tensor | None, Tensor | None],
        eps: float,
        momentum: float,
    ) -> Tensor:
        zhat = z.detach()
        mean, var = channel_moments(zhat)
        _move(running, momentum, mean, var, zhat.numel() // len(gamma))
        istd = (var + eps).rsqrt()
        # In place: the derivatives need zhat, and z only to continue along the graph.
        torch.addcmul(wide(-mean * istd), zhat, wide(istd), out=zhat)
        p, where = zhat, None
        # On a GPU gamma's signs are not looked at, because that would stall it.
        if pool and (not z.is_cpu or bool((gamma <= 0).any())):
            _, where = _pool(zhat * wide(gamma.sign()))  # minima of zhat where gamma < 0
            p = _take(zhat, where)
        elif pool:
            p, where = _pool(zhat)
        y = torch.addcmul(wide(beta), p, wide(gamma))
        y = y.relu_() if relu else y
        ctx.save_for_backward(z, gamma, istd, p if pool else None, y if relu else None, where)
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        gz, ggamma, gbeta = _BatchNormBackward.apply(channels_last(gy), *ctx.saved_tensors)
        return gz, ggamma, gbeta, None, None, None, None, None


class _BatchNormBackward(Function):
    """(gy, z, gamma) -> (gz, ggamma, gbeta); the tensor z holds zhat by now."""

    @staticmethod
    def forward(
        ctx: Any,
        gy: Tensor,
        zhat: Tensor,
        gamma: Tensor,
        istd: Tensor,
        p: Tensor | None,
        y: Tensor | None,
        where: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        gu = gy if y is None else torch.ops.aten.threshold_backward(gy, y, 0)
        ps = zhat if p is None else p  # p, also without a pool
        count = zhat.numel() // len(gamma)
        gbeta, ggamma = _sums(gu), _sums(gu * ps)
        a = gamma * istd
        c0, c1 = wide(-a * gbeta / count), wide(-a * ggamma / count)
        gz = torch.addcmul(c0, ps, c1).addcmul_(gu, wide(a))
        if where is not None:
            gz = _put(torch.addcmul(c0, zhat, c1), where, gz)
        ctx.save_for_backward(gu, zhat, gamma, istd, p, y, where, gbeta, ggamma)
        return gz, ggamma, gbeta

    @staticmethod
    @last_derivative
    def backward(ctx: Any, h: Tensor, hg: Tensor, hb: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of <h, gz> + <hg, ggamma> + <hb, gbeta>.

        A name that ends in t, such as `ggammat`, is the derivative of that value as z, gamma and
        beta move along h, hg and hb. `ps` is p, or zhat without a pool; `hs` is h at the positions
        `where` of the maxima.
        """
        gu, zhat, gamma, istd, p, y, where, gbeta, ggamma = ctx.saved_tensors
        ps = zhat if p is None else p
        count = zhat.numel() // len(gamma)
        h = channels_last(h)
        hs = h if where is None else _take(h, where)  # h at the maxima
        mean_h, mean_hz = _sums(h) / count, _sums(h * zhat) / count
        a = gamma * istd
        at = hg * istd - a * istd * mean_hz
        # pt = istd (h - mean_h - zhat mean_hz) at the maxima, ut = gamma pt + hg p + hb
        pt = torch.addcmul(wide(-istd * mean_h), hs, wide(istd))
        pt.addcmul_(ps, wide(-istd * mean_hz))
        ggammat = _sums(gu * pt)
        ut = torch.addcmul(wide(hb), pt, wide(gamma)).addcmul_(ps, wide(hg))
        to_gy = ut if y is None else torch.ops.aten.threshold_backward(ut, y, 0)
        k = a * istd * ggamma / count
        c0 = wide(k * mean_h - at * gbeta / count)
        c1 = wide(k * mean_hz - (at * ggamma + a * ggammat) / count)
        to_z = torch.addcmul(c0, ps, c1).addcmul_(hs, wide(-k)).addcmul_(gu, wide(at))
        if where is not None:
            to_z = _put(torch.addcmul(c0, zhat, c1).addcmul_(h, wide(-k)), where, to_z)
        return to_gy, to_z, ggammat, None, None, None, None
