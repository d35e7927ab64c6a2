"""``y = residual + w @ x``: a projection back into the residual stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels import row_stream
from forerun.kernels.shapes import cuda, typed_name

__all__ = ["KERNEL", "add", "declare", "fits", "launch_for", "load_input", "load_residual"]


def declare(dtype: DType = DType.F32) -> Kernel:
    """The kernel for a matrix of that type; all else is f32."""
    body = (
        row_stream.load_weights_phase(),
        Phase(
            "load_input",
            reads=(Access("x"),),
            defines=("vector",),
            reference="forerun.kernels.projection_add:load_input",
        ),
        Phase(
            "load_residual",
            reads=(Access("residual"),),
            defines=("base",),
            reference="forerun.kernels.projection_add:load_residual",
        ),
        row_stream.dot_phase(),
        Phase(
            "add",
            uses=("acc", "base"),
            writes=(Access("y"),),
            reference="forerun.kernels.projection_add:add",
        ),
    )
    return Kernel(
        typed_name("projection_add", dtype),
        (
            BufferParameter("w", dtype, ("N", "K"), align=16),
            BufferParameter("x", DType.F32, ("K",), align=16),
            BufferParameter("residual", DType.F32, ("N",)),
            BufferParameter("y", DType.F32, ("N",)),
        ),
        (Role("all", body),),
        cuda("projection_add"),
        row_stream.LAUNCHES,
    )


KERNEL = declare()


def fits(columns: int, dtype: DType) -> bool:
    """Whether the kernel takes a matrix of that many columns."""
    return row_stream.streams(columns, dtype)


def launch_for(rows: int, columns: int, dtype: DType = DType.BF16) -> Launch:
    """The launch for a number of rows; see :func:`forerun.kernels.row_stream.launch_for`.

    It has room beside ``norm_gate_up``, which comes before or after it in a layer.
    """
    return row_stream.launch_for(columns, dtype, rows, 1, normalized=False, depth=2)


def load_input(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector, kept in registers."""
    return x


def load_residual(residual: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is to be added to the products."""
    return residual


def add(acc: NDArray[np.float32], base: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum."""
    return base + acc
