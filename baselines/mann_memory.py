"""A recurrent network with an external memory, written by least recently used access.

Santoro et al. 2016, sections 3.1 and 3.2: an LSTM controller, and a memory of R rows of W numbers
that H heads write and read by content. One more legend: C cells of the controller.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UsageError

TINY = 1e-8  # a row of zeros has a cosine of 0 to every key


class State(NamedTuple):
    """What one step leaves to the next, of T sequences."""

    h: Tensor  # (T, C) the controller's output
    c: Tensor  # (T, C) its cells
    r: Tensor  # (T, H*W) what was read
    memory: Tensor  # (T, R, W) M
    read: Tensor  # (T, H, R) w^r
    usage: Tensor  # (T, R) w^u, a constant: only its smallest places count


class LRUA(nn.Module):
    """An LSTM that reads and writes a memory at every step."""

    def __init__(
        self,
        inputs: int,
        controller: int = 200,
        rows: int = 128,
        width: int = 40,
        heads: int = 4,
        decay: float = 0.95,
        own_rows: bool = False,
    ) -> None:
        """Size everything.

        Args:
            inputs: numbers that enter at each step.
            controller: C.
            rows: R.
            width: W.
            heads: H, each with a key of its own.
            decay: gamma, of the usage.
            own_rows: the choices of the code that circulates. Every head writes a vector of its
                own instead of its key, into one least-used row of its own instead of into all H;
                the controller sets each head's gate; one row is erased instead of H; what is read
                and used before the first step is row 0.
        """
        sizes = {"controller": controller, "rows": rows, "width": width, "heads": heads}
        for name, size in sizes.items():
            if size < 1:
                raise UsageError(f"{name} {size}: expected a number of at least 1")
        if heads > rows:
            raise UsageError(f"heads {heads}: at most as many as rows, {rows}")
        if not 0 <= decay <= 1:
            raise UsageError(f"decay {decay}: expected a number from 0 to 1")
        super().__init__()
        self.rows, self.width, self.heads, self.decay = rows, width, heads, decay
        self.own_rows = own_rows
        self.features = controller + heads * width
        self.input = nn.Linear(inputs, 4 * controller)
        self.recurrent = nn.Linear(self.features, 4 * controller, bias=False)
        addressed = heads * (2 * width + 1) if own_rows else heads * width
        self.address = nn.Linear(controller, addressed)
        if not own_rows:
            self.alpha = nn.Parameter(torch.zeros(()))
        for layer in (self.input, self.recurrent, self.address):
            nn.init.xavier_uniform_(layer.weight)

    def start(self, x: Tensor) -> State:
        """The state before the first step of T sequences; x (T, ...)."""
        tasks, cells = len(x), self.features - self.heads * self.width
        read, usage = x.new_zeros(tasks, self.heads, self.rows), x.new_zeros(tasks, self.rows)
        if self.own_rows:
            read[..., 0] = usage[..., 0] = 1
        return State(
            x.new_zeros(tasks, cells),
            x.new_zeros(tasks, cells),
            x.new_zeros(tasks, self.heads * self.width),
            x.new_zeros(tasks, self.rows, self.width),
            read,
            usage,
        )

    def forward(self, x: Tensor) -> tuple[Tensor, State]:
        """Whole sequences: (T, n, D) -> all [h_t, r_t] (T, n, C + H*W), and the last state."""
        state, outputs = self.start(x), []
        for projected in self.input(x).unbind(1):  # all steps at once
            state = self.step(projected, state)
            outputs.append(torch.cat([state.h, state.r], -1))
        return torch.stack(outputs, 1), state

    def peek(self, x: Tensor, state: State) -> Tensor:
        """One more step of each x on a copy of the state: it reads, and writes nothing.

        x (T, m, D) -> [h, r] (T, m, C + H*W)
        """
        before = torch.cat([state.h, state.r], -1).unsqueeze(1)
        h, _ = self.control(self.input(x) + self.recurrent(before), state.c.unsqueeze(1))
        keys, _, _ = self.addresses(h)
        _, r = self.recall(keys.flatten(1, 2), state.memory)
        return torch.cat([h, r.reshape(*h.shape[:2], -1)], -1)

    def step(self, projected: Tensor, state: State) -> State:
        """One step of the controller, then of the memory: written, then read.

        projected: the input's part of the gates, (T, 4C).
        """
        before = torch.cat([state.h, state.r], -1)
        h, c = self.control(projected + self.recurrent(before), state.c)
        keys, vectors, gate = self.addresses(h)
        write, memory = self.write(vectors, gate, state)
        read, r = self.recall(keys, memory)
        with torch.no_grad():
            usage = self.decay * state.usage + (read + write).sum(1)  # (eq. 5)
        return State(h, c, r.flatten(1), memory, read, usage)

    def control(self, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The LSTM's h_t and c_t: (..., 4C), (..., C)."""
        cells = c.shape[-1]
        opened = gates[..., : 3 * cells].sigmoid()
        keep, take, give = opened.chunk(3, -1)
        c = torch.addcmul(keep * c, take, gates[..., 3 * cells :].tanh())
        return give * c.tanh(), c

    def addresses(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """k_t, what is written (..., H, W), and the write gate sigma(alpha) (..., H, 1) or ()."""
        if not self.own_rows:
            keys = self.address(h).tanh().unflatten(-1, (self.heads, self.width))
            return keys, keys, self.alpha.sigmoid()
        size = self.heads * self.width
        parts = self.address(h)
        keys, vectors = parts[..., : 2 * size].tanh().unflatten(-1, (-1, self.width)).chunk(2, -2)
        return keys, vectors, parts[..., 2 * size :].sigmoid().unsqueeze(-1)

    def write(self, vectors: Tensor, gate: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """w^w_t (T, H, R) and M_t (T, R, W)."""
        least = self.least_used(state.usage)
        if self.own_rows:
            written, erased = least.unsqueeze(2), least[:, :1]
        else:
            written, erased = least.unsqueeze(1).expand(-1, self.heads, -1), least
        used = torch.zeros_like(state.read).scatter_(2, written, 1)
        weights = torch.lerp(used, state.read, gate)  # (eq. 7)
        keep = torch.ones_like(state.usage).scatter_(1, erased, 0).unsqueeze(-1)
        return weights, torch.baddbmm(state.memory * keep, weights.mT, vectors)  # (eq. 8)

    def least_used(self, usage: Tensor) -> Tensor:
        """Where w^lu is 1, the H rows of smallest usage, the smallest first: (T, H) (eq. 6).

        Exactly H: rows of equal usage, such as those never written, have equal contents.
        """
        return usage.topk(self.heads, dim=1, largest=False).indices

    def recall(self, keys: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """w^r_t (T, m, R) and r_t (T, m, W) of keys (T, m, W)  (eq. 2-4)."""
        of_key = (keys.square().sum(-1, keepdim=True) + TINY).rsqrt()
        of_row = (memory.square().sum(-1) + TINY).rsqrt().unsqueeze(1)
        weights = F.softmax((keys * of_key) @ memory.mT * of_row, dim=-1)
        return weights, weights @ memory
