"""``y = residual + w @ x`` for each of a few vectors ``x``: the projection back into the residual stream."""

from __future__ import annotations

from dataclasses import replace

from forerun.ir.kernel import Kernel
from forerun.ir.launches import Span
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.batched import stream
from forerun.kernels.projection_add import add, load_residual
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "cluster_for", "declare", "launch_for", "load_input"]


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
    return stream.launch_for(columns, vectors, rows, 1, normalized=False, depth=depth, cluster=cluster)


def cluster_for(columns: int, vectors: int) -> int:
    """The CTAs of a cluster: one per block of columns for many vectors, so that each reads only its columns; else one.

    Sums are taken block by block in both cases, so the result does not depend on the number of vectors.

    Example:
        >>> cluster_for(8192, 8), cluster_for(8192, 4), cluster_for(5632, 8), cluster_for(2048, 8)
        (4, 1, 1, 1)
    """
    blocks = stream.Blocks.of(columns)
    may_be_shared = blocks.count in (2, 4, 8) and blocks.columns == columns
    return blocks.count if vectors > stream.FEW and may_be_shared else 1


@phase(defines="vectors")
def load_input(x: Floats) -> Floats:
    """The vectors ``[B, K]``, kept in registers."""
    return x


def declare(dtype: DType = DType.BF16) -> Kernel:
    """The kernel for a matrix of a type; all other arrays are f32.

    Raises:
        InvalidInput: If the type is neither bf16 nor f16.
    """
    stream.require_short(dtype)
    parameters = f"w: {dtype}[N, K] align 16, x: f32[B, K] align 16, residual: f32[B, N], y: f32[B, N]"
    body = stream.load_weights, load_input, load_residual, stream.dot, add
    launches = replace(stream.LAUNCHES, cluster=Span(1, 8))
    return cuda_kernel("batched_projection", parameters, *body, launches=launches, name=f"batched_projection_{dtype}")


KERNEL = declare()
