"""Rotates the queries and keys of the rows of a batch (RoPE), and appends keys and values to the paged KV cache.

Rotary pairs are adjacent elements, as in :mod:`~forerun.kernels.rope_append`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.ragged.shapes import Words, padded, require_short
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "declare", "launch_for", "rotate_append"]


def launch_for(rows: int, heads: int, kv_heads: int, head_size: int) -> Launch:
    """One CTA a row; a thread has a pair of elements, or several."""
    pairs = (heads + 2 * kv_heads) * head_size // 2
    return Launch((rows, 1, 1), (min(256, -(-pairs // 32) * 32), 1, 1))


@phase(writes="q_out, k_cache, v_cache")
def rotate_append(
    rows: Words,
    positions: Words,
    places: Words,
    q: Floats,
    k: Floats,
    v: Floats,
    frequencies: Floats,
    k_cache: NDArray[Any],
    v_cache: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The rotated queries, NaN behind the rows of the batch, and the caches with the rows at their places."""
    n, kind = int(rows[0]), k_cache.dtype
    angles = positions[:n, np.newaxis].astype(np.float32) * frequencies
    cosine, sine = np.cos(angles)[:, np.newaxis], np.sin(angles)[:, np.newaxis]
    keys, values = k_cache.copy(), v_cache.copy()
    keys.reshape(-1, *k_cache.shape[2:])[places[:n]] = _rotated(k[:n], cosine, sine).astype(kind)
    values.reshape(-1, *v_cache.shape[2:])[places[:n]] = v[:n].astype(kind)
    return padded(_rotated(q[:n], cosine, sine).astype(kind), len(q)), keys, values


def _rotated(x: Floats, cosine: Floats, sine: Floats) -> Floats:
    even, odd = x[..., 0::2], x[..., 1::2]
    result = np.empty_like(x)
    result[..., 0::2] = even * cosine - odd * sine
    result[..., 1::2] = even * sine + odd * cosine
    return result


def declare(dtype: DType = DType.BF16) -> Kernel:
    """The kernel for rotated queries and caches of that type; all else is f32.

    Raises:
        InvalidInput: If it is neither bf16 nor f16.
    """
    require_short(dtype)
    where = "rows: i32[1], positions: i32[Q], places: i32[Q]"
    inputs = "q: f32[Q, H, HD] align 16, k: f32[Q, KV, HD] align 16, v: f32[Q, KV, HD] align 16, frequencies: f32[P]"
    cache = f"{dtype}[C, PS, KV, HD] align 16"
    outputs = f"q_out: {dtype}[Q, H, HD] align 16, k_cache: {cache}, v_cache: {cache}"
    name = f"rope_append_rows_{dtype}"
    return cuda_kernel("rope_append_rows", f"{where}, {inputs}, {outputs}", rotate_append, name=name)


KERNEL = declare()
