"""``y = residual + w @ x``: a projection back into the residual stream."""

from __future__ import annotations

from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels import row_stream
from forerun.kernels.packed_phases import load_phase
from forerun.kernels.packing import Storage
from forerun.kernels.shapes import Floats, cuda_kernel, matrix, typed_name

__all__ = ["KERNEL", "add", "declare", "fits", "launch_for", "load_input", "load_residual"]


def fits(columns: int, storage: Storage) -> bool:
    """Whether the kernel takes a matrix of that many columns."""
    return row_stream.streams(columns, storage)


def launch_for(rows: int, columns: int, storage: Storage = DType.BF16) -> Launch:
    """The launch for a number of rows; see :func:`forerun.kernels.row_stream.launch_for`.

    It has room beside ``norm_gate_up``, which comes before or after it in a layer.
    """
    return row_stream.launch_for(columns, storage, rows, 1, normalized=False, depth=2)


@phase(defines="vector")
def load_input(x: Floats) -> Floats:
    """The vector, kept in registers."""
    return x


@phase(defines="base")
def load_residual(residual: Floats) -> Floats:
    """What is to be added to the products."""
    return residual


@phase(writes="y")
def add(acc: Floats, base: Floats) -> Floats:
    """The sum."""
    return base + acc


def declare(storage: Storage = DType.F32) -> Kernel:
    """The kernel for a matrix that is stored so; all else is f32."""
    parameters = f"{matrix('w', 'N', storage)}, x: f32[K] align 16, residual: f32[N], y: f32[N]"
    load = load_phase(row_stream.load_weights, storage, "w")
    body = load, load_input, load_residual, row_stream.dot, add
    name = typed_name("projection_add", storage)
    return cuda_kernel("projection_add", parameters, *body, launches=row_stream.LAUNCHES, name=name)


KERNEL = declare()
