"""Shapes and launches of the kernels that multiply a few vectors by rows of matrices (``cuda/batched_stream.cuh``).

Every CTA takes consecutive rows, eight at a time, whose columns are divided among its warps. The depth of the rings of
tiles follows from the launch's shared memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.launches import Launches, Span
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.batched import halves
from forerun.kernels.row_stream import SMS, WARPS, load_weights
from forerun.kernels.shapes import Floats
from forerun.support.diagnostics import InvalidInput

__all__ = [
    "FEW",
    "LAUNCHES",
    "MOST_VECTORS",
    "Blocks",
    "dot",
    "launch_for",
    "load_weights",
    "normalize",
    "require_short",
]

MOST_VECTORS = 8
"""The most vectors of a product; each takes two rows of the left operand (:mod:`forerun.kernels.batched.halves`)."""

FEW = 4
"""The number of vectors above which reading them takes noticeable time beside the weights."""

LAUNCHES = Launches(block=Span(32, 1024, 32), shared=Span(1, 227 * 1024), cluster=Span(1, 1))
"""Whole warps, with their rings in dynamic shared memory."""

_TILE_ROWS = 8
_STEP = 32  # columns
_MOST_STEPS = 8
_MOST_SHARED = 226 * 1024
_IN_CLUSTERS = 128  # SMs that clusters can use: the remainder of each GPC stays idle


@dataclass(frozen=True, slots=True)
class Blocks:
    """The division of columns: a CTA takes blocks one after another; in each, a warp has ``steps`` steps of 32 columns.

    Example:
        >>> Blocks.of(2048), Blocks.of(8192), Blocks.of(5632), Blocks.of(576)
        (Blocks(count=1, steps=8), Blocks(count=4, steps=8), Blocks(count=3, steps=8), Blocks(count=1, steps=3))
    """

    count: int
    steps: int

    @classmethod
    def of(cls, columns: int) -> Blocks:
        """The blocks of a CTA of 8 warps, which have registers for 8 steps of the vectors."""
        steps = -(-columns // _STEP)
        count = -(-steps // (_MOST_STEPS * WARPS))
        return cls(count, -(-steps // (count * WARPS)))

    @property
    def columns(self) -> int:
        """The number of columns of all blocks, if all are full."""
        return self.count * WARPS * self.steps * _STEP


def launch_for(columns: int, vectors: int, units: int, rows: int, *, depth: int, cluster: int = 1) -> Launch:
    """One CTA of 8 warps per SM, with rings of ``depth`` tiles, or fewer if shared memory does not hold them.

    Args:
        columns: Columns of the matrix.
        vectors: Number of vectors.
        units: Number of units of work, which are divided among the clusters.
        rows: Rows of a unit.
        depth: Tiles in the ring of a warp; a tile is 8 rows of up to 256 columns.
        cluster: CTAs that share the columns of the same rows.
    """
    shares = min(SMS if cluster == 1 else _IN_CLUSTERS // cluster, units)
    tiles = -(-(-(-units // shares) * rows) // _TILE_ROWS)
    blocks = Blocks.of(columns // cluster)
    tile = WARPS * (_TILE_ROWS * 64 * blocks.steps + 8)
    parts = min(2 * (2 if vectors > FEW else 4), blocks.count * tiles)
    sums = 0 if blocks.count == 1 and tiles <= parts else tiles
    fixed = 4 * vectors * _TILE_ROWS * (parts * WARPS + sums)
    depth = max(1, min(depth, blocks.count * tiles, (_MOST_SHARED - fixed) // tile))
    clusters = None if cluster == 1 else (cluster, 1, 1)
    return Launch((shares * cluster, 1, 1), (32 * WARPS, 1, 1), fixed + depth * tile, clusters)


def require_short(dtype: DType) -> None:
    """Check that matrices have a type of 16 bits that tensor cores multiply.

    Raises:
        InvalidInput: If the type is neither bf16 nor f16.
    """
    if dtype not in (DType.BF16, DType.F16):
        raise InvalidInput(f"matrices of type {dtype} are not supported for several sequences", hint="use bf16 or f16")


@phase(defines="vectors")
def normalize(x: NDArray[Any], squares: Floats, eps: float) -> Floats:
    """Each vector ``[B, K]``, which is scaled already, divided by the root mean square of what it was before.

    Squares are summed vector by vector, since the order of sums of several rows in NumPy may depend on their number.
    """
    rows = halves.joined(x)
    mean = [np.float32(row.sum()) / np.float32(rows.shape[1]) for row in squares]
    return np.stack([row / np.sqrt(one + np.float32(eps)) for row, one in zip(rows, mean, strict=True)])


@phase(defines="acc")
def dot(_w: Floats, _x: Floats, tile: Floats, vectors: Floats) -> Floats:
    """The products of each vector ``[B, N]``.

    Vectors are multiplied one at a time, since the order of sums in NumPy's product of two matrices may depend on
    their number. The phase reads the weights and vectors for which rings and registers have no room.
    """
    return np.stack([tile @ vector for vector in vectors])
