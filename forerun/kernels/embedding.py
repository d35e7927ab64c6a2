"""``y = table[token]``: one row of the embedding table."""

from __future__ import annotations

import numpy as np

from forerun.ir.kernel import Kernel
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.shapes import Floats, cuda_kernel, typed_name

__all__ = ["KERNEL", "declare", "gather"]


@phase(reads="table[token:token + 1]", writes="y")
def gather(row: Floats) -> Floats:
    """The row as a vector."""
    return row.reshape(-1).astype(np.float32, copy=False)


def declare(dtype: DType = DType.F32) -> Kernel:
    """The kernel for a table of that type; activations are f32. The table is rows ``V`` of ``D`` elements."""
    parameters = f"table: {dtype}[V, D], y: f32[D], token: scalar i32"
    return cuda_kernel("embedding", parameters, gather, name=typed_name("embedding", dtype))


KERNEL = declare()
