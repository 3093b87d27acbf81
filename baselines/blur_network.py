"""BLUR's network: neurons and synapses with k states, and the genome that says how they change.

As in the authors' code (github google-research/blur), whose equations these are; the paper's text
was not at hand. All layers use the same genome. Neurons of a layer are (T, k, n, J), of n examples
and J neurons; its forward synapses are (T, k, I + 1, J), with a row for a bias neuron, and its
backward synapses (T, k, J, I + 1).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.methods.learned_rule import Draw, Network, Rule


class Genome(nn.Module):
    """4 k^2 + 4 numbers; parameters, so that they are learned."""

    def __init__(self, states: int, rate: float) -> None:
        """Draw a random genome.

        Args:
            states: k.
            rate: what `synapse_update` is.
        """
        super().__init__()
        self.forward_mix = nn.Parameter(torch.randn(states, states))  # U
        self.backward_mix = nn.Parameter(torch.randn(states, states))  # V
        self.pre = nn.Parameter(torch.randn(states, states))  # P
        self.post = nn.Parameter(torch.randn(states, states))  # Q
        self.neuron_keep = nn.Parameter(torch.tensor(1.0))  # f
        self.neuron_update = nn.Parameter(torch.tensor(1.0))  # eta
        self.synapse_keep = nn.Parameter(torch.tensor(1.0))  # f of synapses
        self.synapse_update = nn.Parameter(torch.tensor(rate))  # eta of synapses


def gradient_genome(step: float) -> Genome:
    """The genome of gradient descent, of two states; with `BACKPROPAGATION` it is exact.

    State 0 of a neuron is its activation. State 1 is the activation's derivative on the way
    forward and the derivative of the loss on the way back.
    """
    genome = Genome(2, -step)
    matrices = {
        "forward_mix": [[1, 1], [0, 0]],
        "backward_mix": [[1, 0], [0, 1]],
        "pre": [[1, 0], [0, 1]],
        "post": [[0, 1], [1, 0]],
    }
    with torch.no_grad():
        for name, rows in matrices.items():
            getattr(genome, name).copy_(torch.tensor(rows))
    return genome


class Dynamics(NamedTuple):
    """What else makes up a network, and is not learned."""

    hidden: Callable[[Tensor], Tensor]  # activation of hidden neurons, (T, k, n, J) -> the same
    last: Callable[[Tensor], Tensor]  # activation of the last layer
    backward: Callable[[Tensor], Tensor]  # activation on the way back
    multiplies: bool  # whether feedback multiplies all states but the first, or is added to all
    symmetric: bool  # whether synapses have one state, which serves forward and backward


def bounded(z: Tensor) -> Tensor:
    """relu(tanh(z))."""
    return z.tanh().relu()


def sigmoid_and_slope(z: Tensor) -> Tensor:
    """Sigmoid in state 0, its derivative in state 1: (T, 2, n, J)."""
    value, other = z.sigmoid().unbind(1)
    return torch.stack([value, other * (1 - other)], 1)


def unchanged(z: Tensor) -> Tensor:
    """The same."""
    return z


BIDIRECTIONAL = Dynamics(bounded, torch.tanh, bounded, multiplies=False, symmetric=False)
BACKPROPAGATION = Dynamics(sigmoid_and_slope, unchanged, unchanged, multiplies=True, symmetric=True)


def first_synapses(
    sizes: Sequence[int], states: int, symmetric: bool, tasks: int, random: Draw
) -> list[Tensor]:
    """Synapses before the first step: uniform, at most 1 / sqrt(inputs), of every layer.

    Args:
        sizes: neurons of each layer, from the input to the output.
        states: k.
        symmetric: whether the forward synapses of one state serve in both directions.
        tasks: T.
        random: who draws.

    Returns:
        Forward and then backward synapses of the first layer, then of the second, and so on.
    """
    found = []
    for inputs, outputs in pairwise(sizes):
        scale = (inputs + 1) ** -0.5
        found.append(scale * random.uniform(tasks, 1 if symmetric else states, inputs + 1, outputs))
        if symmetric:
            found.append(found[-1].mT)
        else:
            found.append(scale * random.uniform(tasks, states, outputs, inputs + 1))
    return found


def forward_pass(rule: Rule, how: Dynamics, synapses: Network, x: Tensor) -> list[Tensor]:
    """The neurons of each layer, the inputs first: a' = act(eta (a U) W), for x (T, n, D).

    The neurons of a layer are zero before, so the rule has no term of theirs. State 0 of the last
    layer is the prediction.
    """
    states = rule["forward_mix"].shape[-1]
    neurons = [F.pad(x.unsqueeze(1), (0, 0, 0, 0, 0, states - 1))]
    for forward in synapses[::2]:
        incoming = mixed(with_bias(neurons[-1]), rule["forward_mix"]) @ forward
        act = how.last if len(neurons) == len(synapses) // 2 else how.hidden
        neurons.append(act(factor(rule["neuron_update"]) * incoming))
    return neurons


def backward_pass(
    rule: Rule, how: Dynamics, synapses: Network, neurons: list[Tensor]
) -> list[Tensor]:
    """The neurons after feedback has come down from the last layer: a' = act(f a + eta (b V) W).

    b are the neurons of the layer above.
    Only hidden layers change. With `multiplies`, a' = a in state 0 and f a (b V) W in the others.
    """
    neurons = [*neurons]
    for layer in reversed(range(1, len(neurons) - 1)):
        backward = synapses[2 * layer + 1][..., :-1]  # the bias gets no feedback
        incoming = mixed(neurons[layer + 1], rule["backward_mix"]) @ backward
        kept = factor(rule["neuron_keep"]) * neurons[layer]
        if how.multiplies:
            after = torch.cat([neurons[layer][:, :1], (kept * incoming)[:, 1:]], 1)
        else:
            after = kept + factor(rule["neuron_update"]) * incoming
        neurons[layer] = how.backward(after)
    return neurons


def update_synapses(
    rule: Rule, how: Dynamics, synapses: Network, neurons: list[Tensor]
) -> list[Tensor]:
    """Every synapse W from u to v: f W + eta mean_n (u P) (Q v), the mean over the n examples."""
    found = []
    for (lower, upper), forward, backward in zip(
        pairwise(neurons), synapses[::2], synapses[1::2], strict=True
    ):
        lower = with_bias(lower)
        found.append(updated(rule, forward, lower, upper))
        found.append(found[-1].mT if how.symmetric else updated(rule, backward, upper, lower))
    return found


def updated(rule: Rule, synapses: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """The synapses from u to v after one update.

    `symmetric` synapses have one state, and only state 0 of the mixed neurons changes them.
    """
    states = synapses.shape[1]
    before = mixed(u, rule["pre"][..., :states])
    after = mixed(v, rule["post"].mT[..., :states])
    change = before.mT @ after / u.shape[2]
    return factor(rule["synapse_keep"]) * synapses + factor(rule["synapse_update"]) * change


def mixed(neurons: Tensor, matrix: Tensor) -> Tensor:
    """States mixed by a matrix of the genome: (T, k, n, J), (T or 1, k, s) -> (T, s, n, J)."""
    return (matrix.mT @ neurons.flatten(2)).unflatten(2, neurons.shape[2:])


def factor(number: Tensor) -> Tensor:
    """A number of the genome, (T or 1,), as a factor of tensors of four dimensions."""
    return number.view(-1, 1, 1, 1)


def with_bias(neurons: Tensor) -> Tensor:
    """One more neuron, whose states are all 1."""
    return F.pad(neurons, (0, 1), value=1.0)
