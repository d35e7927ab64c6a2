"""Queries, keys and values of a decode step in one: norm, the three projections, biases, RoPE, and the rows appended.

What :mod:`~forerun.kernels.rope_append` says of rotary pairs holds here too. Every CTA normalizes the vector for
itself, and takes consecutive pairs of rows of the three matrices, one after the other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase, phase_of
from forerun.ir.types import DType
from forerun.kernels import rope_append, row_stream
from forerun.kernels.packed_phases import load_phase
from forerun.kernels.packing import Storage
from forerun.kernels.shapes import Floats, cuda_kernel, matrix, typed_name

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


def fits(columns: int, head_size: int, storage: Storage) -> bool:
    """Whether the kernel takes matrices of that many columns, and heads of that size."""
    return head_size % 2 == 0 and row_stream.streams(columns, storage)


def launch_for(query_rows: int, key_rows: int, columns: int, storage: Storage = DType.BF16) -> Launch:
    """The launch for a number of rows of queries and of keys; see :func:`forerun.kernels.row_stream.launch_for`."""
    return row_stream.launch_for(columns, storage, query_rows // 2 + key_rows, 2, normalized=True)


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


@phase(writes=rope_append.OUTPUTS)
def rotate_append(q: Floats, k: Floats, v: Floats, cosine: Floats, sine: Floats) -> tuple[Floats, Floats, Floats]:
    """The rotated query, and the rows to append."""
    return rope_append.rotate_append(*_by_head(q, k, v, sine), cosine, sine)


@phase(name="rotate_append", writes=rope_append.OUTPUTS)
def rotate_append_bf16(q: Floats, k: Floats, v: Floats, cosine: Floats, sine: Floats) -> tuple[Floats, Any, Any]:
    """The same for caches of bf16."""
    return rope_append.rotate_append_bf16(*_by_head(q, k, v, sine), cosine, sine)


@phase(name="rotate_append", writes=rope_append.OUTPUTS)
def rotate_append_f16(q: Floats, k: Floats, v: Floats, cosine: Floats, sine: Floats) -> tuple[Floats, Any, Any]:
    """The same for caches of f16."""
    return rope_append.rotate_append_f16(*_by_head(q, k, v, sine), cosine, sine)


def _by_head(q: Floats, k: Floats, v: Floats, sine: Floats) -> tuple[Floats, Floats, Floats]:
    """The vectors as rows, one a head; a head has a pair for each angle."""
    size = 2 * sine.size
    return q.reshape(-1, size), k.reshape(-1, size), v.reshape(-1, size)


def declare(storage: Storage = DType.F32, cache_dtype: DType = DType.F32, *, bias: bool = False) -> Kernel:
    """The kernel for matrices that are stored so, and KV caches of that type; all else is f32.

    If there are biases, ``b_q``, ``b_k`` and ``b_v`` are parameters after the matrices.
    """
    stem = "norm_qkv_bias_rope" if bias else "norm_qkv_rope"
    name = typed_name(stem, storage) if cache_dtype is DType.F32 else f"{stem}_{storage}_{cache_dtype}"
    matrices = ", ".join(matrix(f"w_{name}", rows, storage) for name, rows in (("q", "NQ"), ("k", "NK"), ("v", "NK")))
    inputs = f"x: f32[K] align 16, scale: f32[K] align 16, {matrices}"
    inputs += ", b_q: f32[NQ], b_k: f32[NK], b_v: f32[NK]" if bias else ""
    caches = f"k_cache: {cache_dtype}[T, KV, HD], v_cache: {cache_dtype}[T, KV, HD]"
    parameters = f"{inputs}, frequencies: f32[P], q_out: f32[H, HD], {caches}, pos: scalar i32, eps: scalar f32"
    load_scale, normalize = row_stream.NORM
    load = load_phase(load_weights, storage, "w_q", "w_k", "w_v")
    loads = (load, load_scale, *((load_bias,) if bias else ()), rope_append.load_table)
    products = (replace(phase_of(dot), defines="product_q, product_k, product_v"), add_bias) if bias else (dot,)
    rotate = {DType.BF16: rotate_append_bf16, DType.F16: rotate_append_f16}.get(cache_dtype, rotate_append)
    body = (*loads, normalize, *products, rotate)
    return cuda_kernel(stem, parameters, *body, launches=row_stream.LAUNCHES, name=name)


KERNEL = declare()
