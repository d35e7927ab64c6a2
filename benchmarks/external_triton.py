"""Persistent matrix products in Triton, as people write them: a program takes tile after tile, in swizzled order.

Of two kinds: tiles come by asynchronous copies of pointers, or by the copy engine and tensor maps.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["persistent_product", "persistent_product_of_maps"]


@triton.jit
def tile_place(tile, tall, wide, group: tl.constexpr):
    """Row and column of a tile: groups of rows are walked column by column, so that L2 is hit."""
    in_group = group * wide
    first = tile // in_group * group
    height = min(tall - first, group)
    return first + tile % in_group % height, tile % in_group // height


@triton.jit
def persistent_product(
    x, w, y, rows, columns, depth,
    bm: tl.constexpr, bn: tl.constexpr, bk: tl.constexpr, group: tl.constexpr, programs: tl.constexpr,
    relu: tl.constexpr,
):  # fmt: skip
    """``y = x @ w.T``, row-major bf16, f32 sums; ``columns`` and ``depth`` are multiples of a tile's."""
    tall, wide = tl.cdiv(rows, bm), tl.cdiv(columns, bn)
    inner = tl.arange(0, bk)
    for tile in tl.range(tl.program_id(0), tall * wide, programs, flatten=True):
        row, column = tile_place(tile, tall, wide, group)
        m = row * bm + tl.arange(0, bm)
        n = column * bn + tl.arange(0, bn)
        total = tl.zeros((bm, bn), tl.float32)
        for k in range(0, depth, bk):
            left = tl.load(x + m[:, None] * depth + (k + inner)[None, :], m[:, None] < rows, 0.0)
            right = tl.load(w + n[None, :] * depth + (k + inner)[:, None])
            total = tl.dot(left, right, total)
        if relu:
            total = tl.maximum(total, 0.0)
        tl.store(y + m[:, None] * columns + n[None, :], total.to(tl.bfloat16), m[:, None] < rows)


@triton.jit
def persistent_product_of_maps(
    x_map, w_map, y_map, rows, columns, depth,
    bm: tl.constexpr, bn: tl.constexpr, bk: tl.constexpr, group: tl.constexpr, programs: tl.constexpr,
    relu: tl.constexpr,
):  # fmt: skip
    """The same through tensor maps."""
    tall, wide = tl.cdiv(rows, bm), tl.cdiv(columns, bn)
    for tile in tl.range(tl.program_id(0), tall * wide, programs, flatten=True):
        row, column = tile_place(tile, tall, wide, group)
        total = tl.zeros((bm, bn), tl.float32)
        for k in range(0, depth, bk):
            left = x_map.load([row * bm, k])
            right = w_map.load([column * bn, k])
            total = tl.dot(left, right.T, total)
        if relu:
            total = tl.maximum(total, 0.0)
        y_map.store([row * bm, column * bn], total.to(tl.bfloat16))
