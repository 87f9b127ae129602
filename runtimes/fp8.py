"""Matrix products in float8 (e4m3) for cards that have them: compute capability 8.9 and later."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pocketgenie.errors import UserError

E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max  # 448
FIRST_CARD = (8, 9)
MULTIPLE = 16
"""The hardware's products take rows and columns in sixteens."""


def to_float8(rows_MK: Tensor) -> tuple[Tensor, Tensor]:
    """float [M, K] -> e4m3 [M, K] and float32 scales [M, 1], by which the rows must be multiplied again."""
    scale = (rows_MK.abs().amax(-1, keepdim=True).float() / LARGEST).clamp(min=1e-12)
    return (rows_MK.float() / scale).clamp(-LARGEST, LARGEST).to(E4M3), scale


class Float8Linear(nn.Module):
    """A linear layer without bias: weights quantized once, per output; inputs at every call, per token.

    Eager, quantizing costs more kernels than the product saves for small worlds: meant to be compiled.
    """

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        weight, scale = to_float8(plain.weight.detach())
        self.register_buffer("weight", weight)  # [N, K]
        self.register_buffer("scale_1N", scale.T.contiguous())
        self.weight: Tensor
        self.scale_1N: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., N] of the same dtype"""
        rows, scale = to_float8(x.flatten(0, -2))
        out = torch._scaled_mm(
            *(rows, self.weight.T, scale, self.scale_1N),
            out_dtype=torch.bfloat16,  # all that cards give with a scale per row
            use_fast_accum=True,
        )
        turned: Tensor = out.to(x.dtype).unflatten(0, x.shape[:-1])
        return turned


def use_float8(module: nn.Module) -> int:
    """Replace every linear layer without bias below `module`; -> how many. Raises UserError for odd sizes."""
    replaced = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and child.bias is None:
                if child.in_features % MULTIPLE or child.out_features % MULTIPLE:
                    size = f"{child.in_features} x {child.out_features}"
                    raise UserError(
                        f"float8 products need multiples of {MULTIPLE}, not {size}; play it at float16"
                    )
                setattr(parent, name, Float8Linear(child))
                replaced += 1
    return replaced


def check_card(device: torch.device) -> None:
    """Raises UserError for a card without float8 products. The CPU has them, slowly, for tests."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < FIRST_CARD:
        major, minor = torch.cuda.get_device_capability(device)
        raise UserError(
            f"this card (compute capability {major}.{minor}) has no float8 products, 8.9 and later have; "
            "play it at bfloat16 or float16"
        )
