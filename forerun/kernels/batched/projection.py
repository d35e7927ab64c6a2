"""``y = residual + w @ x`` for each of a few vectors: a projection back into the residual streams."""

from __future__ import annotations

from dataclasses import replace

from forerun.ir.kernel import Kernel
from forerun.ir.launches import Span
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.batched import stream
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "add", "cluster_for", "declare", "launch_for", "load_input", "load_residual"]


def launch_for(rows: int, columns: int, vectors: int, *, depth: int = 2, cluster: int | None = None) -> Launch:
    """One CTA an SM; see :func:`forerun.kernels.batched.stream.launch_for`.

    Args:
        rows: Of the matrix.
        columns: Of the matrix.
        vectors: How many it is multiplied by.
        depth: Tiles of a warp.
        cluster: CTAs that share the columns of rows; see :func:`cluster_for`.
    """
    cluster = cluster_for(columns, vectors) if cluster is None else cluster
    return stream.launch_for(columns, vectors, rows, 1, normalized=False, depth=depth, cluster=cluster)


def cluster_for(columns: int, vectors: int) -> int:
    """A CTA for each block of columns if there are many vectors, of which it reads its columns only; else one.

    Sums are taken block by block in either case, so the number of vectors changes no bit.

    Example:
        >>> cluster_for(8192, 8), cluster_for(8192, 4), cluster_for(5632, 8), cluster_for(2048, 8)
        (4, 1, 1, 1)
    """
    blocks = stream.Blocks.of(columns)
    may_be_shared = blocks.count in (2, 4, 8) and blocks.columns == columns
    return blocks.count if vectors > stream.FEW and may_be_shared else 1


@phase(defines="vectors")
def load_input(x: Floats) -> Floats:
    """The vectors, kept in registers."""
    return x


@phase(defines="base")
def load_residual(residual: Floats) -> Floats:
    """What is to be added to the products."""
    return residual


@phase(writes="y")
def add(acc: Floats, base: Floats) -> Floats:
    """The sums."""
    return base + acc


def declare(dtype: DType = DType.BF16) -> Kernel:
    """The kernel for a matrix of that type; all else is f32.

    Raises:
        InvalidInput: If it is neither bf16 nor f16.
    """
    stream.require_short(dtype)
    parameters = f"w: {dtype}[N, K] align 16, x: f32[B, K] align 16, residual: f32[B, N], y: f32[B, N]"
    body = stream.load_weights, load_input, load_residual, stream.dot, add
    launches = replace(stream.LAUNCHES, cluster=Span(1, 8))
    return cuda_kernel("batched_projection", parameters, *body, launches=launches, name=f"batched_projection_{dtype}")


KERNEL = declare()
