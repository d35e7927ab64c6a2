"""Queries, keys and values of a decode step in one: norm, the three projections, RoPE, and the rows appended.

What :mod:`~forerun.kernels.rope_append` says of rotary pairs holds here too. Every CTA normalizes the vector for
itself, and takes consecutive pairs of rows of the three matrices, one after the other. Some models have biases; others
normalize each head of queries and keys before it is rotated, for which clusters of CTAs have whole heads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from forerun.ir.kernel import Kernel
from forerun.ir.launches import Span
from forerun.ir.nodes import Launch
from forerun.ir.phases import Piece, phase, phase_of
from forerun.ir.types import DType
from forerun.kernels import head_norm, rope_append, row_stream
from forerun.kernels.packed_phases import load_phase
from forerun.kernels.packing import Storage
from forerun.kernels.shapes import Floats, cuda_kernel, matrix, typed_name

__all__ = [
    "KERNEL",
    "add_bias",
    "declare",
    "dot",
    "fits",
    "head_norm_launch_for",
    "launch_for",
    "load_bias",
    "load_head_scales",
    "load_weights",
    "normalize_heads",
    "rotate_append",
    "rotate_append_bf16",
    "rotate_append_f16",
]

_SMALL_SHARE = 64  # KB of the matrices for each SM
_CLUSTER = 8
_CLUSTERS = row_stream.SMS // _CLUSTER

HEAD_NORM_LAUNCHES = replace(row_stream.LAUNCHES, cluster=Span(2, 16))
"""Clusters have whole heads, and their CTAs tell each other the sums of squares."""


def fits(columns: int, head_size: int, storage: Storage) -> bool:
    """Whether the kernel takes matrices of that many columns, and heads of that size."""
    return head_size % 2 == 0 and row_stream.streams(columns, storage)


def launch_for(query_rows: int, key_rows: int, columns: int, storage: Storage = DType.BF16) -> Launch:
    """The launch for a number of rows of queries and of keys; see :func:`forerun.kernels.row_stream.launch_for`.

    Where the rings hold the whole matrix, it has small CTAs, which find room one by one when the kernel before leaves;
    where they hold half of it or more, it has 16 warps an SM instead of 8.
    """
    share = row_stream.share_of(query_rows + 2 * key_rows, columns, storage)
    ctas, warps, tiles = 1, 0, 3 * row_stream.WARPS
    if _SMALL_SHARE < share <= 2 * _SMALL_SHARE and (row_stream.split_of(columns, storage) or 0) <= 2:
        ctas, warps, tiles = 4, 2, 6
    elif 2 * _SMALL_SHARE < share <= 4 * _SMALL_SHARE:
        ctas, tiles = 2, 18
    units, how = query_rows // 2 + key_rows, {"tiles": tiles, "ctas": ctas, "warps": warps}
    return row_stream.launch_for(columns, storage, units, 2, normalized=True, **how)


def head_norm_launch_for(
    heads: int, kv_heads: int, head_size: int, columns: int, storage: Storage = DType.BF16
) -> Launch:
    """The launch for models that normalize heads: clusters of 8 CTAs, which share the heads of q, k and v.

    Example:
        >>> launch = head_norm_launch_for(32, 8, 128, 4096)
        >>> launch.grid, launch.cluster
        ((128, 1, 1), (8, 1, 1))
    """
    all_heads = heads + 2 * kv_heads
    clusters = min(_CLUSTERS, all_heads)
    pairs = -(-(-(-all_heads // clusters) * head_size // 2) // _CLUSTER)
    launch = row_stream.launch_for(columns, storage, clusters * _CLUSTER, 2 * pairs, normalized=True)
    return replace(launch, cluster=(_CLUSTER, 1, 1))


@phase(defines="tile_q, tile_k, tile_v", asynchronous=True)
def load_weights(w_q: Floats, w_k: Floats, w_v: Floats) -> tuple[Floats, Floats, Floats]:
    """The matrices, in f32."""
    return row_stream.load_weights(w_q), row_stream.load_weights(w_k), row_stream.load_weights(w_v)


@phase(defines="bias_q, bias_k, bias_v")
def load_bias(b_q: Floats, b_k: Floats, b_v: Floats) -> tuple[Floats, Floats, Floats]:
    """The biases, kept in registers."""
    return b_q, b_k, b_v


@phase(defines="q, k, v")
def dot(
    _w_q: Floats, _w_k: Floats, _w_v: Floats, tile_q: Floats, tile_k: Floats, tile_v: Floats, vector: Floats
) -> tuple[Floats, Floats, Floats]:
    """The three products."""
    return tile_q @ vector, tile_k @ vector, tile_v @ vector


@phase(defines="q, k, v")
def add_bias(
    product_q: Floats, product_k: Floats, product_v: Floats, bias_q: Floats, bias_k: Floats, bias_v: Floats
) -> tuple[Floats, Floats, Floats]:
    """The sums."""
    return product_q + bias_q, product_k + bias_k, product_v + bias_v


@phase(defines="scale_q, scale_k")
def load_head_scales(q_scale: Floats, k_scale: Floats) -> tuple[Floats, Floats]:
    """The weights of the heads' norms, kept in registers."""
    return q_scale, k_scale


@phase(defines="q, k")
def normalize_heads(
    product_q: Floats, product_k: Floats, scale_q: Floats, scale_k: Floats, eps: float
) -> tuple[Floats, Floats]:
    """Each head of queries and keys, normalized."""
    q, k = (
        head_norm.normalize(product.reshape(-1, scale.size), scale, eps).reshape(-1)
        for product, scale in ((product_q, scale_q), (product_k, scale_k))
    )
    return q, k


@phase(writes=rope_append.OUTPUTS)
def rotate_append(q: Floats, k: Floats, v: Floats, cosine: Floats, sine: Floats) -> tuple[Floats, Floats, Floats]:
    """The rotated query, and the rows to append."""
    return rope_append.rotate_append(*_by_head(q, k, v, sine), cosine, sine)


@phase(name="rotate_append", writes=rope_append.OUTPUTS)
def rotate_append_bf16(q: Floats, k: Floats, v: Floats, cosine: Floats, sine: Floats) -> tuple[Floats, Any, Any]:
    """The rotated query, and the rows to append to caches of bf16."""
    return rope_append.rotate_append_bf16(*_by_head(q, k, v, sine), cosine, sine)


@phase(name="rotate_append", writes=rope_append.OUTPUTS)
def rotate_append_f16(q: Floats, k: Floats, v: Floats, cosine: Floats, sine: Floats) -> tuple[Floats, Any, Any]:
    """The rotated query, and the rows to append to caches of f16."""
    return rope_append.rotate_append_f16(*_by_head(q, k, v, sine), cosine, sine)


def _by_head(q: Floats, k: Floats, v: Floats, sine: Floats) -> tuple[Floats, Floats, Floats]:
    """The vectors as rows, one a head; a head has a pair for each angle."""
    size = 2 * sine.size
    return q.reshape(-1, size), k.reshape(-1, size), v.reshape(-1, size)


def declare(
    storage: Storage = DType.F32, cache_dtype: DType = DType.F32, *, bias: bool = False, head_norms: bool = False
) -> Kernel:
    """The kernel for matrices that are stored so, and KV caches of that type; all else is f32.

    If there are biases, ``b_q``, ``b_k`` and ``b_v`` are parameters after the matrices; if heads are normalized,
    ``q_scale`` and ``k_scale`` are. No model has both.
    """
    assert not (bias and head_norms), "no kernel has both"
    stem = "norm_qkv_bias_rope" if bias else "norm_qkv_norm_rope" if head_norms else "norm_qkv_rope"
    name = typed_name(stem, storage) if cache_dtype is DType.F32 else f"{stem}_{storage}_{cache_dtype}"
    load_scale, normalize = row_stream.NORM
    load = load_phase(load_weights, storage, "w_q", "w_k", "w_v")
    given: tuple[Piece, ...] = ()
    products: tuple[Piece, ...] = (dot,)
    if bias:
        given, products = (load_bias,), (replace(phase_of(dot), defines="product_q, product_k, product_v"), add_bias)
    elif head_norms:
        products = (replace(phase_of(dot), defines="product_q, product_k, v"), normalize_heads)
        given = (load_head_scales,)
    rotate = {DType.BF16: rotate_append_bf16, DType.F16: rotate_append_f16}.get(cache_dtype, rotate_append)
    body = (load, load_scale, *given, rope_append.load_table, normalize, *products, rotate)
    launches = HEAD_NORM_LAUNCHES if head_norms else row_stream.LAUNCHES
    own = "b_q: f32[NQ], b_k: f32[NK], b_v: f32[NK], " if bias else ""
    own = "q_scale: f32[HD], k_scale: f32[HD], " if head_norms else own
    return cuda_kernel(stem, _parameters(storage, cache_dtype, own), *body, launches=launches, name=name)


def _parameters(storage: Storage, cache_dtype: DType, own: str) -> str:
    matrices = ", ".join(matrix(f"w_{name}", rows, storage) for name, rows in (("q", "NQ"), ("k", "NK"), ("v", "NK")))
    caches = f"k_cache: {cache_dtype}[T, KV, HD], v_cache: {cache_dtype}[T, KV, HD]"
    outputs = f"frequencies: f32[P], q_out: f32[H, HD], {caches}, pos: scalar i32, eps: scalar f32"
    return f"x: f32[K] align 16, scale: f32[K] align 16, {matrices}, {own}{outputs}"


KERNEL = declare()
