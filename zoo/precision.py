"""In which precision the convolutions of a network multiply: float32, or bfloat16.

In bfloat16 a convolution rounds its maps and its weights before it multiplies them, in the forward
pass and in both derivatives, and adds up in float32. All else stays float32: what comes out, the
weights, their gradients, the moments of batch norm, distances, losses and the outer optimiser.
"""

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.errors import UsageError

FLOAT32, BF16 = "float32", "bf16"
PRODUCT_TYPES = {FLOAT32: None, BF16: torch.bfloat16}
CPU_INFO = Path("/proc/cpuinfo")  # of Linux; says what the processor can do
OTHER_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def set_precision(modules: Iterable[nn.Module], precision: str) -> None:
    """Let the convolutions among some modules multiply in a precision, ``float32`` or ``bf16``.

    These are the modules with an attribute `product_type`, as `zoo.networks.layers.Conv` has it.

    Raises:
        UsageError: there is no such precision; or for bf16 there are no convolutions, or a
            convolution that is not ours.
    """
    if precision not in PRODUCT_TYPES:
        raise UsageError(f"--precision {precision}: choose from {', '.join(PRODUCT_TYPES)}")
    modules = list(modules)
    convolutions: list[Any] = [module for module in modules if hasattr(module, "product_type")]
    if precision != FLOAT32:
        others = {type(m).__name__ for m in modules if isinstance(m, OTHER_CONVOLUTIONS)}
        if others:
            raise UsageError(
                f"--precision {precision}: the network has layers {', '.join(sorted(others))}, "
                "which compute in float32 alone; build it of zoo.networks.layers.Conv"
            )
        if not convolutions:
            raise UsageError(
                f"--precision {precision}: rounds what convolutions multiply, and this network has "
                f"none; take {FLOAT32}"
            )
    for convolution in convolutions:
        convolution.product_type = PRODUCT_TYPES[precision]


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse bfloat16 on a device that is slower in it than in float32.

    Raises:
        UsageError: the device has no units for it.
    """
    if precision == BF16 and not is_fast_in_bf16(device):
        raise UsageError(
            f"--precision {precision}: this {device.type} has no units for bfloat16 products (AMX "
            f"of a processor, tensor cores of a GPU) and would be slower: take {FLOAT32}"
        )


def is_fast_in_bf16(device: torch.device) -> bool:
    """Whether a device has units for products of bfloat16 numbers."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    with contextlib.suppress(OSError):
        return re.search(r"\bamx_bf16\b", CPU_INFO.read_text()) is not None
    return False
