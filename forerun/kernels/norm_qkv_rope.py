"""Queries, keys and values of a decode step in one: norm, the three projections, biases, RoPE, and the rows appended.

What :mod:`~forerun.kernels.rope_append` says of rotary pairs holds here too. Every CTA normalizes the vector for
itself, and takes consecutive pairs of rows of the three matrices, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.affine import affine
from forerun.ir.kernel import Access, BufferParameter, Kernel, Parameter, Phase, Role, ScalarParameter
from forerun.ir.nodes import Launch
from forerun.ir.region import region
from forerun.ir.types import DType
from forerun.kernels import rope_append, row_stream
from forerun.kernels.shapes import cuda, typed_name

__all__ = [
    "KERNEL",
    "add_bias",
    "declare",
    "dot",
    "fits",
    "launch_for",
    "load_bias",
    "load_weights",
    "rotate_append",
    "rotate_append_bf16",
    "rotate_append_f16",
]

_MATRICES = Access("w_q"), Access("w_k"), Access("w_v")
_BIASES = Access("b_q"), Access("b_k"), Access("b_v")
_BIAS_PARAMETERS = tuple(
    BufferParameter(name, DType.F32, (rows,)) for name, rows in (("b_q", "NQ"), ("b_k", "NK"), ("b_v", "NK"))
)
_TILES = "tile_q", "tile_k", "tile_v"
_LOADED_BIASES = "bias_q", "bias_k", "bias_v"
_PRODUCTS = "product_q", "product_k", "product_v"
_SUMS = "q", "k", "v"
_ROW = region(("pos", affine("pos") + 1))
_HERE = "forerun.kernels.norm_qkv_rope"

Vector = NDArray[np.float32]


def declare(dtype: DType = DType.F32, cache_dtype: DType = DType.F32, *, bias: bool = False) -> Kernel:
    """The kernel for matrices and KV caches of those types; all else is f32.

    Args:
        dtype: Of the matrices.
        cache_dtype: Of the caches.
        bias: Whether there are biases, ``b_q``, ``b_k`` and ``b_v``, which are parameters after the matrices then.
    """
    stem = "norm_qkv_bias_rope" if bias else "norm_qkv_rope"
    name = typed_name(stem, dtype) if cache_dtype is DType.F32 else f"{stem}_{dtype}_{cache_dtype}"
    parameters: tuple[Parameter, ...] = (
        BufferParameter("x", DType.F32, ("K",), align=16),
        BufferParameter("scale", DType.F32, ("K",), align=16),
        BufferParameter("w_q", dtype, ("NQ", "K"), align=16),
        BufferParameter("w_k", dtype, ("NK", "K"), align=16),
        BufferParameter("w_v", dtype, ("NK", "K"), align=16),
        *(_BIAS_PARAMETERS if bias else ()),
        BufferParameter("frequencies", DType.F32, ("P",)),
        BufferParameter("q_out", DType.F32, ("H", "HD")),
        BufferParameter("k_cache", cache_dtype, ("T", "KV", "HD")),
        BufferParameter("v_cache", cache_dtype, ("T", "KV", "HD")),
        ScalarParameter("pos", DType.I32),
        ScalarParameter("eps", DType.F32),
    )
    return Kernel(name, parameters, (Role("all", tuple(_phases(cache_dtype, bias))),), cuda(stem), row_stream.LAUNCHES)


def _phases(cache_dtype: DType, bias: bool) -> Iterator[Phase]:
    load_scale, normalize = row_stream.norm_phases()
    yield Phase(
        "load_weights",
        reads=_MATRICES,
        defines=_TILES,
        asynchronous=True,
        reference=f"{_HERE}:load_weights",
    )
    yield load_scale
    if bias:
        yield Phase("load_bias", reads=_BIASES, defines=_LOADED_BIASES, reference=f"{_HERE}:load_bias")
    yield Phase(
        "load_table",
        reads=(Access("frequencies"),),
        scalars=("pos",),
        defines=("cosine", "sine"),
        reference="forerun.kernels.rope_append:load_table",
    )
    yield normalize
    yield Phase(
        "dot",
        reads=_MATRICES,
        uses=(*_TILES, "vector"),
        defines=_PRODUCTS if bias else _SUMS,
        reference=f"{_HERE}:dot",
    )
    if bias:
        yield Phase("add_bias", uses=(*_PRODUCTS, *_LOADED_BIASES), defines=_SUMS, reference=f"{_HERE}:add_bias")
    yield Phase(
        "rotate_append",
        uses=(*_SUMS, "cosine", "sine"),
        writes=(Access("q_out"), Access("k_cache", _ROW), Access("v_cache", _ROW)),
        reference=f"{_HERE}:{typed_name('rotate_append', cache_dtype)}",
    )


KERNEL = declare()


def fits(columns: int, head_size: int, dtype: DType) -> bool:
    """Whether the kernel takes matrices of that many columns, and heads of that size."""
    return head_size % 2 == 0 and row_stream.streams(columns, dtype)


def launch_for(query_rows: int, key_rows: int, columns: int, dtype: DType = DType.BF16) -> Launch:
    """The launch for a number of rows of queries and of keys; see :func:`forerun.kernels.row_stream.launch_for`."""
    return row_stream.launch_for(columns, dtype, query_rows // 2 + key_rows, 2, normalized=True)


def load_weights(w_q: Vector, w_k: Vector, w_v: Vector) -> tuple[Vector, Vector, Vector]:
    """The matrices, in f32."""
    return row_stream.load_weights(w_q), row_stream.load_weights(w_k), row_stream.load_weights(w_v)


def load_bias(b_q: Vector, b_k: Vector, b_v: Vector) -> tuple[Vector, Vector, Vector]:
    """The biases, kept in registers."""
    return b_q, b_k, b_v


def dot(
    _w_q: Vector, _w_k: Vector, _w_v: Vector, tile_q: Vector, tile_k: Vector, tile_v: Vector, vector: Vector
) -> tuple[Vector, Vector, Vector]:
    """The three products."""
    return tile_q @ vector, tile_k @ vector, tile_v @ vector


def add_bias(
    product_q: Vector, product_k: Vector, product_v: Vector, bias_q: Vector, bias_k: Vector, bias_v: Vector
) -> tuple[Vector, Vector, Vector]:
    """The sums."""
    return product_q + bias_q, product_k + bias_k, product_v + bias_v


def rotate_append(q: Vector, k: Vector, v: Vector, cosine: Vector, sine: Vector) -> tuple[Vector, Vector, Vector]:
    """The rotated query, and the rows to append."""
    return rope_append.rotate_append(*_by_head(q, k, v, sine), cosine, sine)


def rotate_append_bf16(q: Vector, k: Vector, v: Vector, cosine: Vector, sine: Vector) -> tuple[Vector, Any, Any]:
    """The same for caches of bf16."""
    return rope_append.rotate_append_bf16(*_by_head(q, k, v, sine), cosine, sine)


def rotate_append_f16(q: Vector, k: Vector, v: Vector, cosine: Vector, sine: Vector) -> tuple[Vector, Any, Any]:
    """The same for caches of f16."""
    return rope_append.rotate_append_f16(*_by_head(q, k, v, sine), cosine, sine)


def _by_head(q: Vector, k: Vector, v: Vector, sine: Vector) -> tuple[Vector, Vector, Vector]:
    """The vectors as rows, one a head; a head has a pair for each angle."""
    size = 2 * sine.size
    return q.reshape(-1, size), k.reshape(-1, size), v.reshape(-1, size)
