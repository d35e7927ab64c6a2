"""``y = x w^T``: the rows of a batch times a matrix of weights, by the tensor cores.

The products of a result are summed in f32 in one chain of steps of 16, from the first column to the last, whatever the
shape of the tile. So a row's results have the same bits in any batch, and whichever shape its number of rows chose.
"""

from __future__ import annotations

import numpy as np

from forerun.ir.kernel import Kernel
from forerun.ir.launches import Launches, Span
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.ragged.shapes import Words, padded, require_short
from forerun.kernels.shapes import Floats, cuda_kernel
from forerun.support.diagnostics import InvalidInput

__all__ = [
    "KERNEL",
    "declare",
    "declare_add",
    "declare_bias",
    "launch_for",
    "multiply",
    "multiply_add_bias",
    "multiply_add_rows",
]

_THREADS = 256
_SHARED = 6 * 32 * 1024  # bytes: six stages of the largest tile
_MOST_CTAS = 132
_TILE, _NARROWEST = 64, 16


def launch_for(rows: int, outputs: int, inputs: int) -> Launch:
    """A CTA for each SM of a large GPU, which take tiles by turns, or one for each of fewer tiles.

    Raises:
        InvalidInput: If rows of ``inputs`` elements do not consist of pieces of 16 bytes.
    """
    if inputs % 8:
        raise InvalidInput(f"a matrix product of rows of {inputs} elements is not supported", hint="multiples of 8 are")
    many = -(-rows // _TILE) * -(-outputs // _TILE)
    few = -(-outputs // _NARROWEST)
    return Launch((min(_MOST_CTAS, max(many, few)), 1, 1), (_THREADS, 1, 1), _SHARED)


def _products(rows: Words, x: Floats, w: Floats) -> Floats:
    """A row at a time: the order of sums in a product of matrices may depend on the number of rows."""
    weights = w.astype(np.float32)
    found = np.empty((int(rows[0]), len(w)), np.float32)
    for result, row in zip(found, x, strict=False):
        result[:] = weights @ row.astype(np.float32)
    return found


@phase(name="multiply", writes="y")
def multiply(rows: Words, x: Floats, w: Floats) -> Floats:
    """The products; NaN behind the rows of the batch."""
    return padded(_products(rows, x, w), len(x))


@phase(name="multiply", writes="y")
def multiply_add_rows(rows: Words, x: Floats, w: Floats, residual: Floats) -> Floats:
    """The products, added to another row."""
    return padded(residual[: int(rows[0])] + _products(rows, x, w), len(x))


@phase(name="multiply", writes="y")
def multiply_add_bias(rows: Words, x: Floats, w: Floats, bias: Floats) -> Floats:
    """The products and a bias."""
    return padded(bias + _products(rows, x, w), len(x))


def _declare(name: str, dtype: DType, added: str) -> tuple[str, str]:
    require_short(dtype)
    values = f"rows: i32[1], x: {dtype}[Q, K] align 16, w: {dtype}[N, K] align 16, {added}y: f32[Q, N] align 16"
    return f"{name}_{dtype}", values


_LAUNCHES = Launches(block=Span(_THREADS, _THREADS), shared=Span(64 * 1024, 227 * 1024), cluster=Span(1, 1))


def declare(dtype: DType = DType.BF16) -> Kernel:
    """The kernel for rows and weights of that type, ``N`` rows of ``K``; results are f32.

    Raises:
        InvalidInput: If it is neither bf16 nor f16.
    """
    name, values = _declare("matmul_rows", dtype, "")
    return cuda_kernel("matmul_rows", values, multiply, launches=_LAUNCHES, name=name)


def declare_add(dtype: DType = DType.BF16) -> Kernel:
    """The kernel of :func:`declare` whose results are added to the rows of ``residual`` (``[Q, N]``).

    Raises:
        InvalidInput: If it is neither bf16 nor f16.
    """
    name, values = _declare("matmul_rows_add", dtype, "residual: f32[Q, N] align 16, ")
    return cuda_kernel("matmul_rows", values, multiply_add_rows, launches=_LAUNCHES, name=name)


def declare_bias(dtype: DType = DType.BF16) -> Kernel:
    """The kernel of :func:`declare` whose results are added to ``bias``.

    Raises:
        InvalidInput: If it is neither bf16 nor f16.
    """
    name, values = _declare("matmul_rows_bias", dtype, "bias: f32[N] align 16, ")
    return cuda_kernel("matmul_rows", values, multiply_add_bias, launches=_LAUNCHES, name=name)


KERNEL = declare()
