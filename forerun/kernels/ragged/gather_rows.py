"""``y[r] = table[index[r]]``: rows of a table in f32, such as those of tokens, or the last rows of requests."""

from __future__ import annotations

import numpy as np

from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.ragged.shapes import Words, padded
from forerun.kernels.shapes import Floats, cuda_kernel, typed_name

__all__ = ["KERNEL", "declare", "gather", "launch_for"]


def launch_for(rows: int, width: int) -> Launch:
    """One CTA a row."""
    return Launch((rows, 1, 1), (min(256, -(-width // 32) * 32), 1, 1))


@phase(writes="y")
def gather(rows: Words, index: Words, table: Floats) -> Floats:
    """The rows; one whose index is outside of the table is 0. What no row of the batch has is NaN."""
    wanted = index[: int(rows[0])]
    inside = (wanted >= 0) & (wanted < len(table))
    found = np.where(inside[:, np.newaxis], table[np.where(inside, wanted, 0)].astype(np.float32), np.float32(0))
    return padded(found, len(index))


def declare(dtype: DType = DType.F32) -> Kernel:
    """The kernel for a table of that type, ``V`` rows of ``D`` elements; ``rows`` says how many are wanted."""
    parameters = f"rows: i32[1], index: i32[Q], table: {dtype}[V, D], y: f32[Q, D]"
    return cuda_kernel("gather_rows", parameters, gather, name=typed_name("gather_rows", dtype))


KERNEL = declare()
