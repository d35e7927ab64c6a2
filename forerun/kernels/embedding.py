"""``y = table[token]``: one row of the embedding table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.affine import affine
from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role, ScalarParameter
from forerun.ir.launches import ANY_LAUNCH
from forerun.ir.region import region
from forerun.ir.types import DType
from forerun.kernels.shapes import cuda, typed_name

__all__ = ["KERNEL", "declare", "gather"]


def declare(dtype: DType = DType.F32) -> Kernel:
    """The kernel for a table of that type; activations are f32. The table is rows ``V`` of ``D`` elements."""
    gather_row = Phase(
        "gather",
        reads=(Access("table", region(("token", affine("token") + 1))),),
        writes=(Access("y"),),
        reference="forerun.kernels.embedding:gather",
    )
    return Kernel(
        typed_name("embedding", dtype),
        (
            BufferParameter("table", dtype, ("V", "D")),
            BufferParameter("y", DType.F32, ("D",)),
            ScalarParameter("token", DType.I32),
        ),
        (Role("all", (gather_row,)),),
        cuda("embedding"),
        ANY_LAUNCH,
    )


KERNEL = declare()


def gather(row: NDArray[np.float32]) -> NDArray[np.float32]:
    """The row as a vector."""
    return row.reshape(-1).astype(np.float32, copy=False)
