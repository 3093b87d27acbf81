"""VSML's cells: a small LSTM in the place of every weight, all with the same parameters.

As in the authors' code (github louiskirsch/vsml-neurips2021); the paper's text was not at hand.
A layer of A inputs and B outputs has A x B cells of n numbers. Messages of m numbers run forward,
from inputs to outputs, and backward.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.methods.learned_rule import Rule


class Cell(nn.Module):
    """The parameters that all cells share: 4n (2m + n + 1) + 2m (n + 1), and 4m of layer norms."""

    def __init__(self, size: int, message: int, layer_norm: bool) -> None:
        """Draw them, as the code does: normal, cut off at two deviations of 1 / sqrt(inputs).

        Args:
            size: n, numbers in a cell's state.
            message: m, numbers in a message.
            layer_norm: whether each cell's messages are normalised.
        """
        super().__init__()
        inputs = 2 * message + size
        self.from_forward = _drawn(message, 4 * size, inputs)
        self.from_backward = _drawn(message, 4 * size, inputs)
        self.from_state = _drawn(size, 4 * size, inputs)
        self.bias = nn.Parameter(torch.zeros(4 * size))
        for direction in ("forward", "backward"):
            self.register_parameter(f"to_{direction}", _drawn(size, message, size))
            self.register_parameter(f"{direction}_bias", nn.Parameter(torch.zeros(message)))
            if layer_norm:
                self.register_parameter(f"{direction}_scale", nn.Parameter(torch.ones(message)))
                self.register_parameter(f"{direction}_offset", nn.Parameter(torch.zeros(message)))

    def freeze_messages(self, direction: str) -> None:
        """Leave the parameters of messages ``forward`` or ``backward`` as they are drawn."""
        for name, p in self.named_parameters():
            if name == f"to_{direction}" or name.startswith(f"{direction}_"):
                p.requires_grad_(False)


def _drawn(inputs: int, outputs: int, all_inputs: int) -> nn.Parameter:
    """A matrix (inputs, outputs) of a layer with so many inputs in all."""
    deviation = 1 / math.sqrt(all_inputs)
    weight = torch.empty(inputs, outputs)
    return nn.Parameter(nn.init.trunc_normal_(weight, 0, deviation, -2 * deviation, 2 * deviation))


def tick(
    rule: Rule,
    h: Tensor,
    c: Tensor,
    forward: Tensor,
    backward: Tensor,
    *,
    micro_ticks: int,
    gate_bias: float,
) -> tuple[Tensor, Tensor]:
    """The cells of a layer take in the messages.

    Args:
        rule: the parameters of `Cell`, (S, ...), for S states or 1.
        h: outputs of the LSTMs (S, A, B, n).
        c: their cells (S, A, B, n).
        forward: message of each input (S, A, m).
        backward: message of each output (S, B, m).
        micro_ticks: how often the LSTMs step on these same messages.
        gate_bias: added to the forget gates, and taken from the input gates.

    Returns:
        The new h and c.
    """
    to_all_outputs = times(forward, rule["from_forward"]).unsqueeze(2)
    to_all_inputs = times(backward, rule["from_backward"]) + rule["bias"].unsqueeze(1)
    told = to_all_outputs + to_all_inputs.unsqueeze(1)  # (S, A, B, 4n)
    for _ in range(micro_ticks):
        gates = told + applied(h, rule["from_state"])
        i, g, f, o = gates.chunk(4, -1)
        c = (f + gate_bias).sigmoid() * c + (i - gate_bias).sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    return h, c


def message(rule: Rule, h: Tensor, direction: str) -> Tensor:
    """What cells h (S, A, B, n) send: ``forward``, the mean over inputs (S, B, m), or ``backward``.

    The latter is the mean over outputs, (S, A, m).
    """
    over = {"forward": 1, "backward": 2}[direction]
    weight, bias = rule[f"to_{direction}"], rule[f"{direction}_bias"].unsqueeze(1)
    if f"{direction}_scale" not in rule:  # then the mean may be taken first
        return times(h.mean(over), weight) + bias
    sent = applied(h, weight) + bias.unsqueeze(1)
    normal = F.layer_norm(sent, sent.shape[-1:])
    scale, offset = (rule[f"{direction}_{name}"].unsqueeze(1) for name in ("scale", "offset"))
    return normal.mean(over) * scale + offset


def applied(h: Tensor, weight: Tensor) -> Tensor:
    """A matrix on every cell: (S, A, B, n), (S or 1, n, O) -> (S, A, B, O)."""
    return times(h.flatten(1, 2), weight).unflatten(1, h.shape[1:3])


def times(x: Tensor, weight: Tensor) -> Tensor:
    """(S, r, n) @ (S or 1, n, O); one matrix for all is one product, which is faster."""
    return x @ (weight[0] if len(weight) == 1 else weight)
