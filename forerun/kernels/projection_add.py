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

_SMALL_SHARE, _MIDDLE_SHARE, _LARGE_SHARE = 128, 192, 384  # KB of the matrix for each SM
_LONG_ROWS = 4  # warps that share one


def fits(columns: int, storage: Storage) -> bool:
    """Whether the kernel takes a matrix of that many columns."""
    return row_stream.streams(columns, storage)


def launch_for(rows: int, columns: int, storage: Storage = DType.BF16) -> Launch:
    """The launch for a number of rows; see :func:`forerun.kernels.row_stream.launch_for`.

    With rings of 64 KB it has room beside ``norm_gate_up``, its neighbour in a layer. Matrices of which an SM has
    somewhat more are read by two CTAs an SM with 48 KB each. Where rings of 192 KB hold half of the matrix or more, it
    has these: it starts when the kernel before it leaves an SM, and then has enough to load until its wait returns. Two
    CTAs share them if rows are long. What was measured on an H200 is in benchmarks/NOTES.md.
    """
    share, tiles, ctas = row_stream.share_of(rows, columns, storage), 16, 1
    if _SMALL_SHARE < share <= _MIDDLE_SHARE:
        tiles, ctas = 12, 2
    elif _MIDDLE_SHARE < share <= _LARGE_SHARE:
        tiles, ctas = (24, 2) if (row_stream.split_of(columns, storage) or 1) >= _LONG_ROWS else (48, 1)
    return row_stream.launch_for(columns, storage, rows, 1, normalized=False, tiles=tiles, ctas=ctas)


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
