"""A recurrent network with an external memory, which overwrites the least recently used rows.

Santoro et al. 2016, sections 3.1 and 3.2: an LSTM controller of C cells, and a memory of R rows of
W numbers, which H heads write and read by content.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UsageError

TINY = 1e-8  # a row of zeros has a cosine of 0 to every key


class State(NamedTuple):
    """What one step passes to the next, for T sequences."""

    h: Tensor  # (T, C) the controller's output
    c: Tensor  # (T, C) its cells
    r: Tensor  # (T, H*W) what was read
    memory: Tensor  # (T, R, W) M
    read: Tensor  # (T, H, R) w^r
    usage: Tensor  # (T, R) w^u, without gradient: it only chooses the rows to write


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
        """Choose the sizes.

        Args:
            inputs: numbers that enter at each step.
            controller: C.
            rows: R.
            width: W.
            heads: H, each with a key of its own.
            decay: gamma, of the usage.
            own_rows: make the choices of public code. Each head then writes a separate vector
                instead of its key, into one of the H least-used rows instead of into all of them;
                the controller sets each head's gate; one row is erased instead of H; and row 0
                counts as read and used before the first step.
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
        state = State(
            h=x.new_zeros(tasks, cells),
            c=x.new_zeros(tasks, cells),
            r=x.new_zeros(tasks, self.heads * self.width),
            memory=x.new_zeros(tasks, self.rows, self.width),
            read=x.new_zeros(tasks, self.heads, self.rows),
            usage=x.new_zeros(tasks, self.rows),
        )
        if self.own_rows:
            state.read[..., 0] = 1
            state.usage[..., 0] = 1
        return state

    def forward(self, x: Tensor) -> tuple[Tensor, State]:
        """Whole sequences: (T, n, D) -> all [h_t, r_t] (T, n, C + H*W), and the last state."""
        state, outputs = self.start(x), []
        for projected in self.input(x).unbind(1):  # the input layer runs on all steps at once
            state = self.step(projected, state)
            outputs.append(torch.cat([state.h, state.r], -1))
        return torch.stack(outputs, 1), state

    def peek(self, x: Tensor, state: State) -> Tensor:
        """What one more step would read for each x, if it wrote nothing.

        x (T, m, D) -> [h, r] (T, m, C + H*W)
        """
        before = torch.cat([state.h, state.r], -1).unsqueeze(1)
        h, _ = self.control(self.input(x) + self.recurrent(before), state.c.unsqueeze(1))
        keys, _, _ = self.addresses(h)
        _, r = self.recall(keys.flatten(1, 2), state.memory)
        return torch.cat([h, r.reshape(*h.shape[:2], -1)], -1)

    def step(self, projected: Tensor, state: State) -> State:
        """One step of the controller, which then writes to the memory and reads from it.

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
        forget_gate, input_gate, output_gate = gates[..., : 3 * cells].sigmoid().chunk(3, -1)
        c = torch.addcmul(forget_gate * c, input_gate, gates[..., 3 * cells :].tanh())
        return output_gate * c.tanh(), c

    def addresses(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys k_t and what to write, (..., H, W), and the gate sigma(alpha), (..., H, 1) or ()."""
        if not self.own_rows:
            keys = self.address(h).tanh().unflatten(-1, (self.heads, self.width))
            return keys, keys, self.alpha.sigmoid()
        size = self.heads * self.width
        parts = self.address(h)
        keys, vectors = parts[..., : 2 * size].tanh().unflatten(-1, (-1, self.width)).chunk(2, -2)
        return keys, vectors, parts[..., 2 * size :].sigmoid().unsqueeze(-1)

    def write(self, vectors: Tensor, gate: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """Write weights w^w_t (T, H, R), and the new memory M_t (T, R, W)."""
        least = self.least_used(state.usage)
        if self.own_rows:
            written = least.unsqueeze(2)
            erased = least[:, :1]
        else:
            written = least.unsqueeze(1).expand(-1, self.heads, -1)
            erased = least
        least_used = torch.zeros_like(state.read).scatter_(2, written, 1)  # w^lu
        weights = torch.lerp(least_used, state.read, gate)  # (eq. 7)
        keep = torch.ones_like(state.usage).scatter_(1, erased, 0).unsqueeze(-1)
        return weights, torch.baddbmm(state.memory * keep, weights.mT, vectors)  # (eq. 8)

    def least_used(self, usage: Tensor) -> Tensor:
        """The H rows of smallest usage, where w^lu is 1, the smallest first: (T, H) (eq. 6).

        There are exactly H, where (eq. 6) takes all rows of equal usage. Such rows, as unwritten
        ones, have the same contents: it does not matter which of them are taken.
        """
        return usage.topk(self.heads, dim=1, largest=False).indices

    def recall(self, keys: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Read by keys (T, m, W): weights w^r_t (T, m, R), and r_t (T, m, W) (eq. 2-4)."""
        inverse_key_norm = (keys.square().sum(-1, keepdim=True) + TINY).rsqrt()
        inverse_row_norm = (memory.square().sum(-1) + TINY).rsqrt().unsqueeze(1)
        cosines = (keys * inverse_key_norm) @ memory.mT * inverse_row_norm
        weights = F.softmax(cosines, dim=-1)
        return weights, weights @ memory
