"""``y = silu(gate) * up`` for the rows of a batch, in bf16 or f16; ``silu(x) = x / (1 + exp(-x))``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.ragged.shapes import Words, padded, require_short, rounded
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "activate_bf16", "activate_f16", "declare", "launch_for"]

_ELEMENTS, _MOST_CTAS = 1024, 8 * 132


def launch_for(rows: int, width: int) -> Launch:
    """CTAs that fill a large GPU, or fewer; each takes 1,024 elements of a row by turns."""
    return Launch((min(_MOST_CTAS, rows * -(-width // _ELEMENTS)), 1, 1), (256, 1, 1))


def _activated(rows: Words, gate: Floats, up: Floats) -> Floats:
    wanted = slice(int(rows[0]))
    with np.errstate(over="ignore"):  # exp of a large number is infinite, and the quotient 0, as it should be
        activated: Floats = gate[wanted] / (1 + np.exp(-gate[wanted])) * up[wanted]
    return activated


@phase(name="activate", writes="y")
def activate_bf16(rows: Words, gate: Floats, up: Floats) -> NDArray[Any]:
    """The products, rounded to bf16."""
    return padded(rounded(_activated(rows, gate, up), DType.BF16), len(gate))


@phase(name="activate", writes="y")
def activate_f16(rows: Words, gate: Floats, up: Floats) -> NDArray[Any]:
    """The products, rounded to f16."""
    return padded(rounded(_activated(rows, gate, up), DType.F16), len(gate))


def declare(dtype: DType = DType.BF16) -> Kernel:
    """The kernel for results of that type.

    Raises:
        InvalidInput: If it is neither bf16 nor f16.
    """
    require_short(dtype)
    activate = activate_bf16 if dtype is DType.BF16 else activate_f16
    values = f"gate: f32[Q, D] align 16, up: f32[Q, D] align 16, y: {dtype}[Q, D] align 16"
    return cuda_kernel("silu_mul_rows", f"rows: i32[1], {values}", activate, name=f"silu_mul_rows_{dtype}")


KERNEL = declare()
