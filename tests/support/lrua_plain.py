"""MANN's recurrence written plainly, step by step and equation by equation.

It is the reference of the tests, and of the speed that `make bench-quick` measures.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.baselines.mann_memory import LRUA


def run(net: LRUA, x: Tensor, usage: Tensor | None = None) -> Tensor:
    """[h_t, r_t] at every step with the weights of `net`: (T, n, D) -> (T, n, C + H*W).

    Args:
        net: C controller units, H read heads, R rows of memory of width W.
        x: n steps of T tasks.
        usage: of the rows at the start, (T, R); None: that of `net`.
    """
    h, c, r, memory, read, used = net.start(x)
    used = used if usage is None else usage
    outputs = []
    for x_t in x.unbind(1):
        gates = net.input(x_t) + net.recurrent(torch.cat([h, r], -1))
        f, i, o, g = gates.chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        size = net.heads * net.width
        address = net.address(h)
        key = address[:, :size].tanh().unflatten(-1, (net.heads, net.width))
        least = used.topk(net.heads, dim=1, largest=False).indices
        one_hot = F.one_hot(least, net.rows).to(x)  # (T, H, R), one memory row per head
        if net.own_rows:
            vector = address[:, size : 2 * size].tanh().unflatten(-1, (net.heads, net.width))
            gate = address[:, 2 * size :].sigmoid().unsqueeze(-1)
            write = gate * read + (1 - gate) * one_hot
            erased = one_hot[:, 0]
        else:
            vector, gate, erased = key, net.alpha.sigmoid(), one_hot.sum(1)
            write = gate * read + (1 - gate) * erased.unsqueeze(1)
        memory = memory * (1 - erased).unsqueeze(-1)
        memory = memory + (write.unsqueeze(-1) * vector.unsqueeze(2)).sum(1)
        cosine = F.cosine_similarity(key.unsqueeze(2), memory.unsqueeze(1), dim=-1)
        read = cosine.softmax(-1)
        r = (read.unsqueeze(-1) * memory.unsqueeze(1)).sum(2).flatten(1)
        used = net.decay * used + read.sum(1) + write.sum(1)
        outputs.append(torch.cat([h, r], -1))
    return torch.stack(outputs, 1)
