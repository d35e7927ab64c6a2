"""Shapes and launches of the kernels that multiply a few vectors by rows of matrices (``cuda/batched_stream.cuh``).

Every CTA takes consecutive rows, eight at a time; its warps share their columns. How deep the rings of their tiles are
is what the launch's shared memory holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forerun.ir.launches import Launches, Span
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels import rmsnorm
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
    "load_scale",
    "load_weights",
    "normalize",
    "require_short",
]

MOST_VECTORS = 8
"""Rows of the left operand of a product, of which each is there twice: what is rounded, and what is left."""

FEW = 4
"""Vectors; of more, what CTAs read of them beside the weights takes time."""

LAUNCHES = Launches(block=Span(32, 1024, 32), shared=Span(1, 227 * 1024), cluster=Span(1, 1))
"""Whole warps, whose rings are in dynamic shared memory."""

_TILE_ROWS = 8
_STEP = 32  # columns
_MOST_STEPS = 8
_MOST_SHARED = 226 * 1024
_IN_CLUSTERS = 128  # SMs at once: those of a GPC that are no multiple of the cluster stay idle


@dataclass(frozen=True, slots=True)
class Blocks:
    """How a CTA takes columns: in blocks one after the other, in each of which a warp has some steps of 32 columns.

    Example:
        >>> Blocks.of(2048), Blocks.of(8192), Blocks.of(5632), Blocks.of(576)
        (Blocks(count=1, steps=8), Blocks(count=4, steps=8), Blocks(count=3, steps=8), Blocks(count=1, steps=3))
    """

    count: int
    steps: int

    @classmethod
    def of(cls, columns: int) -> Blocks:
        """Those of CTAs of 8 warps, which have registers for 8 steps of the vectors."""
        steps = -(-columns // _STEP)
        count = -(-steps // (_MOST_STEPS * WARPS))
        return cls(count, -(-steps // (count * WARPS)))

    @property
    def columns(self) -> int:
        """How many columns all blocks have, if none of them lacks any."""
        return self.count * WARPS * self.steps * _STEP


def launch_for(
    columns: int, vectors: int, units: int, rows: int, *, normalized: bool, depth: int, cluster: int = 1
) -> Launch:
    """A CTA of 8 warps an SM, with rings of ``depth`` tiles, fewer if its shared memory does not hold them.

    Args:
        columns: Of the matrix.
        vectors: How many it is multiplied by.
        units: What is dealt to the clusters.
        rows: Of a unit.
        normalized: Whether the vectors are normalized.
        depth: Tiles of a warp: 8 rows of up to 256 columns.
        cluster: CTAs that share the columns of the same rows.
    """
    shares = min(SMS if cluster == 1 else _IN_CLUSTERS // cluster, units)
    tiles = -(-(-(-units // shares) * rows) // _TILE_ROWS)
    own = columns // cluster
    blocks = Blocks.of(own)
    tile = WARPS * (_TILE_ROWS * 64 * blocks.steps + 8)
    parts = min(2 * (2 if vectors > FEW else 4), blocks.count * tiles) * WARPS * 4 * vectors * _TILE_ROWS
    sums, scale = 4 * vectors * _TILE_ROWS * tiles, 4 * own if normalized else 0
    fixed = parts + (max(sums, scale) if blocks.count == 1 else sums + scale) + (4 * WARPS * 8 if normalized else 0)
    depth = max(1, min(depth, blocks.count * tiles, (_MOST_SHARED - fixed) // tile))
    clusters = None if cluster == 1 else (cluster, 1, 1)
    return Launch((shares * cluster, 1, 1), (32 * WARPS, 1, 1), fixed + depth * tile, clusters)


def require_short(dtype: DType) -> None:
    """Check the type of matrices.

    Raises:
        InvalidInput: If tensor cores do not multiply it.
    """
    if dtype not in (DType.BF16, DType.F16):
        raise InvalidInput(f"matrices of type {dtype} are not supported for several sequences", hint="bf16 and f16 are")


@phase(defines="scale_of_norm")
def load_scale(scale: Floats) -> Floats:
    """The norm's weights, kept in shared memory."""
    return scale


@phase(defines="vectors")
def normalize(x: Floats, scale_of_norm: Floats, eps: float) -> Floats:
    """Each vector divided by the root of its mean square, and scaled."""
    return np.stack([rmsnorm.normalize(row, scale_of_norm, eps) for row in x])


@phase(defines="acc")
def dot(_w: Floats, _x: Floats, tile: Floats, vectors: Floats) -> Floats:
    """The products, a vector at a time: the order of sums in a product of matrices may depend on their number.

    The phase reads what rings and registers had no room for.
    """
    return np.stack([tile @ vector for vector in vectors])
