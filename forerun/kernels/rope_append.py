"""Rotates queries and keys by position (RoPE), and appends the key and value rows to the KV cache.

Rotary pairs are adjacent elements, ``(x[2i], x[2i+1])``, as in GGUF files of the ``llama`` architecture and in the
paper (arXiv:2104.09864, equation 34). The query goes to a buffer of its own: the caches and the rotated query are all
that the attention reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.shapes import Floats, cuda_kernel, typed_name

__all__ = [
    "KERNEL",
    "OUTPUTS",
    "declare",
    "launch_for",
    "load_table",
    "rotate_append",
    "rotate_append_bf16",
    "rotate_append_f16",
]

OUTPUTS = "q_out, k_cache[pos:pos + 1], v_cache[pos:pos + 1]"
"""What is written: the rotated query, and the rows at ``pos``."""


def launch_for(heads: int, kv_heads: int, head_size: int) -> Launch:
    """One CTA a head of q, k and v; one thread a pair."""
    return Launch((heads + 2 * kv_heads, 1, 1), (max(32, head_size // 2), 1, 1))


@phase(defines="cosine, sine")
def load_table(frequencies: Floats, pos: int) -> tuple[Floats, Floats]:
    """Cosine and sine of each pair's angle at ``pos``; ``frequencies`` are radians a position."""
    angles = np.float32(pos) * frequencies
    return np.cos(angles), np.sin(angles)


@phase(writes=OUTPUTS)
def rotate_append(q: Floats, k: Floats, v: Floats, cosine: Floats, sine: Floats) -> tuple[Floats, Floats, Floats]:
    """The rotated query, and the rows to append."""
    return _rotated(q, cosine, sine), _rotated(k, cosine, sine)[np.newaxis], v[np.newaxis]


@phase(name="rotate_append", writes=OUTPUTS)
def rotate_append_bf16(q: Floats, k: Floats, v: Floats, cosine: Floats, sine: Floats) -> tuple[Floats, Any, Any]:
    """The rotated query, and the rows to append to caches of bf16."""
    import ml_dtypes

    rotated, key, value = rotate_append(q, k, v, cosine, sine)
    return rotated, key.astype(ml_dtypes.bfloat16), value.astype(ml_dtypes.bfloat16)


@phase(name="rotate_append", writes=OUTPUTS)
def rotate_append_f16(q: Floats, k: Floats, v: Floats, cosine: Floats, sine: Floats) -> tuple[Floats, Any, Any]:
    """The rotated query, and the rows to append to caches of f16."""
    rotated, key, value = rotate_append(q, k, v, cosine, sine)
    return rotated, key.astype(np.float16), value.astype(np.float16)


def _rotated(x: Floats, cosine: Floats, sine: Floats) -> Floats:
    even, odd = x[:, 0::2], x[:, 1::2]
    result = np.empty_like(x)
    result[:, 0::2] = even * cosine - odd * sine
    result[:, 1::2] = even * sine + odd * cosine
    return result


def declare(cache: DType = DType.F32) -> Kernel:
    """The kernel for KV caches of that type; all else is f32."""
    inputs = "q: f32[H, HD], k: f32[KV, HD], v: f32[KV, HD], frequencies: f32[P]"
    outputs = f"q_out: f32[H, HD], k_cache: {cache}[T, KV, HD], v_cache: {cache}[T, KV, HD]"
    rotate = {DType.BF16: rotate_append_bf16, DType.F16: rotate_append_f16}.get(cache, rotate_append)
    parameters = f"{inputs}, {outputs}, pos: scalar i32"
    return cuda_kernel("rope_append", parameters, load_table, rotate, name=typed_name("rope_append", cache))


KERNEL = declare()
