"""Rotates queries and keys by position (RoPE), and appends the key and value rows to the KV cache.

Rotary pairs are adjacent elements, ``(x[2i], x[2i+1])``, as in GGUF files of the ``llama`` architecture and in the
paper (arXiv:2104.09864, equation 34). The query goes to a buffer of its own: the caches and the rotated query are all
that the attention reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.affine import affine
from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role, ScalarParameter
from forerun.ir.launches import ANY_LAUNCH
from forerun.ir.nodes import Launch
from forerun.ir.region import region
from forerun.ir.types import DType
from forerun.kernels.shapes import cuda, typed_name

__all__ = [
    "KERNEL",
    "declare",
    "launch_for",
    "load_table",
    "rotate_append",
    "rotate_append_bf16",
    "rotate_append_f16",
]

_ROW = region(("pos", affine("pos") + 1))


def declare(cache: DType = DType.F32) -> Kernel:
    """The kernel for KV caches of that type; all else is f32."""
    body = (
        Phase(
            "load_table",
            reads=(Access("frequencies"),),
            scalars=("pos",),
            defines=("cosine", "sine"),
            reference="forerun.kernels.rope_append:load_table",
        ),
        Phase(
            "rotate_append",
            reads=(Access("q"), Access("k"), Access("v")),
            uses=("cosine", "sine"),
            writes=(Access("q_out"), Access("k_cache", _ROW), Access("v_cache", _ROW)),
            reference=f"forerun.kernels.rope_append:{typed_name('rotate_append', cache)}",
        ),
    )
    return Kernel(
        typed_name("rope_append", cache),
        (
            BufferParameter("q", DType.F32, ("H", "HD")),
            BufferParameter("k", DType.F32, ("KV", "HD")),
            BufferParameter("v", DType.F32, ("KV", "HD")),
            BufferParameter("frequencies", DType.F32, ("P",)),
            BufferParameter("q_out", DType.F32, ("H", "HD")),
            BufferParameter("k_cache", cache, ("T", "KV", "HD")),
            BufferParameter("v_cache", cache, ("T", "KV", "HD")),
            ScalarParameter("pos", DType.I32),
        ),
        (Role("all", body),),
        cuda("rope_append"),
        ANY_LAUNCH,
    )


KERNEL = declare()


def launch_for(heads: int, kv_heads: int, head_size: int) -> Launch:
    """One CTA a head of q, k and v; one thread a pair."""
    return Launch((heads + 2 * kv_heads, 1, 1), (max(32, head_size // 2), 1, 1))


def load_table(frequencies: NDArray[np.float32], pos: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosine and sine of each pair's angle at ``pos``; ``frequencies`` are radians a position."""
    angles = np.float32(pos) * frequencies
    return np.cos(angles), np.sin(angles)


def rotate_append(
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    cosine: NDArray[np.float32],
    sine: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The rotated query, and the rows to append."""
    return _rotated(q, cosine, sine), _rotated(k, cosine, sine)[np.newaxis], v[np.newaxis]


def rotate_append_bf16(
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    cosine: NDArray[np.float32],
    sine: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[Any]]:
    """The same for caches of bf16."""
    import ml_dtypes

    rotated, key, value = rotate_append(q, k, v, cosine, sine)
    return rotated, key.astype(ml_dtypes.bfloat16), value.astype(ml_dtypes.bfloat16)


def rotate_append_f16(
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    cosine: NDArray[np.float32],
    sine: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float16], NDArray[np.float16]]:
    """The same for caches of f16."""
    rotated, key, value = rotate_append(q, k, v, cosine, sine)
    return rotated, key.astype(np.float16), value.astype(np.float16)


def _rotated(x: NDArray[np.float32], cosine: NDArray[np.float32], sine: NDArray[np.float32]) -> NDArray[np.float32]:
    even, odd = x[:, 0::2], x[:, 1::2]
    result = np.empty_like(x)
    result[:, 0::2] = even * cosine - odd * sine
    result[:, 1::2] = even * sine + odd * cosine
    return result
