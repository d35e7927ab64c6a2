"""Queries, keys and values of tokens of several sequences with separate KV caches, as in ``norm_qkv_rope``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.phases import PhaseFunction, phase
from forerun.ir.types import DType
from forerun.kernels import norm_qkv_rope, rope_append
from forerun.kernels.batched import stream
from forerun.kernels.batched.sequences import Sequences
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = [
    "KERNEL",
    "declare",
    "dot",
    "launch_for",
    "load_table",
    "rotate_append",
    "rotate_append_bf16",
    "rotate_append_f16",
]


def launch_for(query_rows: int, key_rows: int, columns: int, vectors: int, *, depth: int = 3) -> Launch:
    """The launch for the rows of query and key matrices; see :func:`forerun.kernels.batched.stream.launch_for`."""
    return stream.launch_for(columns, vectors, query_rows // 2 + key_rows, 2, depth=depth)


@phase(defines="q, k, v")
def dot(
    _w_q: Floats,
    _w_k: Floats,
    _w_v: Floats,
    _x: NDArray[Any],
    tile_q: Floats,
    tile_k: Floats,
    tile_v: Floats,
    vectors: Floats,
) -> tuple[Floats, Floats, Floats]:
    """The three products of each vector."""
    q, k, v = (np.stack([tile @ vector for vector in vectors]) for tile in (tile_q, tile_k, tile_v))
    return q, k, v


def load_table(frequencies: Floats, tokens: int, *positions: int) -> tuple[Floats, Floats]:
    """Cosine and sine of each pair's angle ``[B, P]``; the tokens of a sequence are contiguous."""
    tables = [rope_append.load_table(frequencies, first + i) for first in positions for i in range(tokens)]
    cosine, sine = zip(*tables, strict=True)
    return np.stack(cosine), np.stack(sine)


def rotate_append(
    q: Floats, k: Floats, v: Floats, cosine: Floats, sine: Floats, tokens: int
) -> tuple[NDArray[Any], ...]:
    """The rotated queries, and the rows to append: the keys of each sequence, then the values of each."""
    size = 2 * sine.shape[1]
    by_head = [array.reshape(len(array), -1, size) for array in (q, k, v)]
    found = [rope_append.rotate_append(*operands) for operands in zip(*by_head, cosine, sine, strict=True)]
    queries, keys, values = (np.stack(rows) for rows in zip(*found, strict=True))
    caches = [rows.reshape(-1, tokens, *rows.shape[1:]) for rows in (keys[:, 0], values[:, 0])]
    return queries, *caches[0], *caches[1]


def rotate_append_bf16(
    q: Floats, k: Floats, v: Floats, cosine: Floats, sine: Floats, tokens: int
) -> tuple[NDArray[Any], ...]:
    """As :func:`rotate_append`, for caches of bf16."""
    import ml_dtypes

    queries, *rows = rotate_append(q, k, v, cosine, sine, tokens)
    return queries, *(row.astype(ml_dtypes.bfloat16) for row in rows)


def rotate_append_f16(
    q: Floats, k: Floats, v: Floats, cosine: Floats, sine: Floats, tokens: int
) -> tuple[NDArray[Any], ...]:
    """As :func:`rotate_append`, for caches of f16."""
    queries, *rows = rotate_append(q, k, v, cosine, sine, tokens)
    return queries, *(row.astype(np.float16) for row in rows)


_ROTATE = {DType.F32: rotate_append, DType.BF16: rotate_append_bf16, DType.F16: rotate_append_f16}


def declare(dtype: DType = DType.BF16, cache_dtype: DType = DType.BF16, sequences: Sequences | None = None) -> Kernel:
    """The kernel for matrices and KV caches of these types, and vectors of halves; all other arrays are f32.

    ``tokens`` is the number of tokens of each sequence, as a constant; ``pos0``, ``pos1``, ... are the positions of
    each sequence's first token, and ``k_cache0``, ``v_cache0``, ... its caches.

    Raises:
        InvalidInput: If the matrices are neither bf16 nor f16.
    """
    stream.require_short(dtype)
    of = sequences or Sequences(1)
    matrices = f"w_q: {dtype}[NQ, K] align 16, w_k: {dtype}[NK, K] align 16, w_v: {dtype}[NK, K] align 16"
    vectors = f"x: {dtype}[B, C, 2, 2] align 16, squares: f32[B, G] align 16"
    inputs = f"{vectors}, {matrices}, frequencies: f32[P]"
    outputs = f"q_out: f32[B, H, HD], {of.declared(cache_dtype)}"
    parameters = f"{inputs}, {outputs}, {of.scalars}, tokens: scalar i32, eps: scalar f32"
    scalars = ", ".join(("tokens", *of.positions))
    table = PhaseFunction(load_table, defines="cosine, sine", reads="frequencies", uses="", scalars=scalars)
    writes = f"q_out, {of.appended}"
    rotate = PhaseFunction(_ROTATE[cache_dtype], writes=writes, name="rotate_append")
    body = norm_qkv_rope.load_weights, table, stream.normalize, dot, rotate
    name = f"batched_qkv_rope_{dtype}_{cache_dtype}_{of.count}x{of.tokens}"
    return cuda_kernel("batched_qkv_rope", parameters, *body, launches=stream.LAUNCHES, name=name)


KERNEL = declare()
