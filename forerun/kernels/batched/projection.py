"""``y = residual + w @ x`` for each of a few vectors ``x``: the projection back into the residual stream.

The next kernel normalizes ``y``. So this one writes ``y * scale``, divided for the tensor cores
(:mod:`forerun.kernels.batched.halves`), and the sums of squares.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from forerun.ir.kernel import Kernel
from forerun.ir.launches import Span
from forerun.ir.nodes import Launch
from forerun.ir.phases import PhaseFunction, phase
from forerun.ir.types import DType
from forerun.kernels.batched import halves, stream
from forerun.kernels.projection_add import load_residual
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "add_bf16", "add_f16", "cluster_for", "declare", "launch_for", "load_input", "load_scale"]


def launch_for(rows: int, columns: int, vectors: int, *, depth: int = 2, cluster: int | None = None) -> Launch:
    """One CTA per SM; see :func:`forerun.kernels.batched.stream.launch_for`.

    Args:
        rows: Rows of the matrix.
        columns: Columns of the matrix.
        vectors: Number of vectors.
        depth: Tiles in the ring of a warp.
        cluster: CTAs that share the columns of the same rows; by default those of :func:`cluster_for`.
    """
    cluster = cluster_for(columns, vectors) if cluster is None else cluster
    return stream.launch_for(columns, vectors, rows // halves.EIGHT, halves.EIGHT, depth=depth, cluster=cluster)


def cluster_for(columns: int, vectors: int) -> int:
    """The CTAs of a cluster: one per block of columns for four vectors or more, so that each reads only its columns.

    Sums are taken block by block in both cases, so the result does not depend on the number of vectors.

    Example:
        >>> cluster_for(8192, 4), cluster_for(8192, 3), cluster_for(5632, 8), cluster_for(2048, 8)
        (4, 1, 1, 1)
    """
    blocks = stream.Blocks.of(columns)
    may_be_shared = blocks.count in (2, 4, 8) and blocks.columns == columns
    return blocks.count if vectors >= stream.FEW and may_be_shared else 1


@phase(defines="vectors")
def load_input(x: NDArray[Any]) -> Floats:
    """The vectors ``[B, K]``, kept in registers."""
    return halves.joined(x)


@phase(defines="scale_of_norm")
def load_scale(scale: Floats) -> Floats:
    """The weights of the next norm ``[N]``, kept in registers."""
    return scale


def add_bf16(acc: Floats, base: Floats, scale_of_norm: Floats) -> tuple[Floats, NDArray[Any], Floats]:
    """The sum, the scaled sum as halves of bf16, and the sums of squares."""
    y: Floats = base + acc
    return y, halves.divided_bf16(y * scale_of_norm), halves.sums_of_squares(y)


def add_f16(acc: Floats, base: Floats, scale_of_norm: Floats) -> tuple[Floats, NDArray[Any], Floats]:
    """The sum, the scaled sum as halves of f16, and the sums of squares."""
    y: Floats = base + acc
    return y, halves.divided_f16(y * scale_of_norm), halves.sums_of_squares(y)


_ADD = {DType.BF16: add_bf16, DType.F16: add_f16}


def declare(dtype: DType = DType.BF16) -> Kernel:
    """The kernel for a matrix of a type, and vectors of halves of that type; all other arrays are f32.

    Raises:
        InvalidInput: If the type is neither bf16 nor f16.
    """
    stream.require_short(dtype)
    inputs = f"w: {dtype}[N, K] align 16, x: {dtype}[B, C, 2, 2] align 16, residual: f32[B, N] align 16"
    outputs = f"y: f32[B, N] align 16, halves: {dtype}[B, R, 2, 2] align 16, squares: f32[B, G]"
    parameters = f"{inputs}, scale: f32[N] align 16, {outputs}"
    add = PhaseFunction(_ADD[dtype], writes="y, halves, squares", name="add")
    body = stream.load_weights, load_scale, load_input, load_residual, stream.dot, add
    launches = replace(stream.LAUNCHES, cluster=Span(1, 8))
    return cuda_kernel("batched_projection", parameters, *body, launches=launches, name=f"batched_projection_{dtype}")


KERNEL = declare()
