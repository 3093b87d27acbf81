"""The memory, against numpy written from the published equations, and against a plain loop."""

import numpy as np
import pytest
import torch

from tests.support import lrua_plain
from zoo.baselines.mann_memory import LRUA, State
from zoo.errors import UsageError

STEPS, HEADS, ROWS, WIDTH, CELLS = 10, 3, 12, 4, 5


def lrua(**options) -> LRUA:
    torch.manual_seed(0)
    sizes = {"controller": CELLS, "rows": ROWS, "width": WIDTH, "heads": HEADS}
    net = LRUA(6, **{**sizes, **options}).double()
    if not net.own_rows:
        torch.nn.init.constant_(net.alpha, 0.3)
    return net


def sequence(tasks=2, steps=STEPS) -> torch.Tensor:
    return torch.randn(tasks, steps, 6, dtype=torch.float64, generator=_generator())


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def begun(net: LRUA, x: torch.Tensor) -> State:
    """A first state in which all usages differ, so that no equation is left to choose."""
    state = net.start(x)
    return state._replace(
        usage=torch.rand(state.usage.shape, dtype=x.dtype, generator=_generator())
    )


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


class Numpy:
    """One sequence, by the equations of section 3 with H heads."""

    def __init__(self, net: LRUA, usage: np.ndarray) -> None:
        self.w = {name: p.detach().numpy() for name, p in net.named_parameters()}
        self.h, self.c = np.zeros(CELLS), np.zeros(CELLS)
        self.r = np.zeros(HEADS * WIDTH)
        self.memory = np.zeros((ROWS, WIDTH))
        self.read = np.zeros((HEADS, ROWS))
        self.usage = usage.copy()

    def step(self, x: np.ndarray) -> None:
        w = self.w
        gates = w["input.weight"] @ x + w["input.bias"]
        gates = gates + w["recurrent.weight"] @ np.concatenate([self.h, self.r])
        keep, take, give, new = np.split(gates, 4)
        self.c = sigmoid(keep) * self.c + sigmoid(take) * np.tanh(new)
        self.h = sigmoid(give) * np.tanh(self.c)
        keys = np.tanh(w["address.weight"] @ self.h + w["address.bias"]).reshape(HEADS, WIDTH)
        threshold = np.sort(self.usage)[HEADS - 1]  # eq. 6
        self.least = (self.usage <= threshold).astype(float)
        gate = sigmoid(w["alpha"])
        self.write = np.array([gate * r + (1 - gate) * self.least for r in self.read])  # eq. 7
        self.memory[self.least == 1] = 0
        self.erased = self.memory.copy()
        for i in range(ROWS):  # eq. 8
            for head in range(HEADS):
                self.memory[i] += self.write[head, i] * keys[head]
        self.read = np.zeros((HEADS, ROWS))
        for head, key in enumerate(keys):  # eq. 2 and 3
            norms = np.linalg.norm(self.memory, axis=1) * np.linalg.norm(key)
            cosine = np.divide(self.memory @ key, norms, out=np.zeros(ROWS), where=norms > 0)
            self.read[head] = np.exp(cosine) / np.exp(cosine).sum()
        self.r = (self.read @ self.memory).ravel()  # eq. 4
        self.usage = net_decay * self.usage + self.read.sum(0) + self.write.sum(0)  # eq. 5


net_decay = 0.9


def test_ten_steps_against_the_published_equations():
    net, x = lrua(decay=net_decay), sequence()
    state = begun(net, x)
    references = [Numpy(net, usage) for usage in state.usage.numpy()]
    projected = net.input(x)
    for t in range(STEPS):
        before = state
        state = net.step(projected[:, t], state)
        *_, gate = net.addresses(state.h)
        write, _ = net.write(net.addresses(state.h)[1], gate, before)
        for task, reference in enumerate(references):
            reference.step(x[task, t].numpy())
            ours = [part[task].detach().numpy() for part in (*state, write)]
            theirs = (reference.h, reference.c, reference.r, reference.memory, reference.read)
            for a, b in zip(ours, (*theirs, reference.usage, reference.write), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
            chosen = net.least_used(before.usage)[task]
            assert set(chosen.tolist()) == set(np.flatnonzero(reference.least))
            assert not reference.erased[chosen].any() and reference.least.sum() == HEADS
        torch.testing.assert_close(state.read.sum(-1), torch.ones_like(state.read[..., 0]))
        # What was read has weight 1 (nothing before the first step), each of n rows weight 1.
        sums = gate * before.read.sum(-1) + (1 - gate) * HEADS
        torch.testing.assert_close(write.sum(-1), sums)


@pytest.mark.parametrize("own_rows", [False, True])
def test_outputs_and_gradients_are_the_plain_loops(own_rows):
    net, x = lrua(own_rows=own_rows), sequence(3, 7).requires_grad_()
    found = []
    for outputs in (net(x)[0], lrua_plain.run(net, x)):
        weights = torch.linspace(-1, 1, outputs.numel(), dtype=x.dtype).view_as(outputs)
        inputs = [x, *net.parameters()]
        found.append([outputs, *torch.autograd.grad((outputs * weights).sum(), inputs)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_gradient_against_finite_differences():
    net = lrua()
    x = sequence(1, 4)
    parameters = list(net.parameters())

    def loss() -> torch.Tensor:
        return net(x)[0].square().sum()

    gradient = torch.autograd.grad(loss(), parameters)
    for p, g in zip(parameters, gradient, strict=True):
        way = torch.randn(p.shape, dtype=p.dtype, generator=_generator())
        with torch.no_grad():
            p += 1e-6 * way
            above = loss()
            p -= 2e-6 * way
            below = loss()
            p += 1e-6 * way
        assert float((above - below) / 2e-6) == pytest.approx(float((g * way).sum()), rel=1e-4)


def test_each_head_has_a_row_of_its_own_where_asked():
    net, x = lrua(own_rows=True), sequence()
    state = begun(net, x)
    _, vectors, gate = net.addresses(torch.randn(2, CELLS, dtype=x.dtype))
    write, memory = net.write(vectors, torch.zeros_like(gate), state)  # all into the least used
    for task in range(2):
        order = state.usage[task].argsort()[:HEADS]
        assert write[task].argmax(-1).tolist() == order.tolist()
        torch.testing.assert_close(memory[task, order], vectors[task])


def test_peeking_is_the_next_step_without_its_write():
    net, x = lrua(), sequence(2, 6)
    _, state = net(x[:, :5])
    before = [part.clone() for part in state]
    queries = sequence(2, 9)[:, 5:]
    seen = net.peek(queries, state)
    assert seen.shape == (2, 4, CELLS + HEADS * WIDTH)
    torch.testing.assert_close(seen[:, 2:3], net.peek(queries[:, 2:3], state))  # one by one
    assert all(torch.equal(a, b) for a, b in zip(before, state, strict=True))
    h = net.step(net.input(queries[:, 0]), state).h
    torch.testing.assert_close(seen[:, 0, :CELLS], h)
    keys = net.addresses(h)[0]
    torch.testing.assert_close(seen[:, 0, CELLS:], net.recall(keys, state.memory)[1].flatten(1))


def test_an_empty_memory_is_read_without_trouble():
    net = lrua(rows=ROWS)
    read, r = net.recall(torch.zeros(1, HEADS, WIDTH), torch.zeros(1, ROWS, WIDTH))
    assert torch.allclose(read, torch.full_like(read, 1 / ROWS)) and not r.any()


@pytest.mark.parametrize(
    ("options", "says"),
    [({"heads": 13}, "heads 13"), ({"rows": 0}, "rows 0"), ({"decay": 1.5}, "decay 1.5")],
)
def test_sizes_that_cannot_be_are_refused(options, says):
    with pytest.raises(UsageError, match=says):
        lrua(**options)
