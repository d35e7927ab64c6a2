"""Attention of one query over the KV cache, with grouped heads (arXiv:2305.13245): ``H / KV`` queries share a key.

The rows before ``pos`` were written by earlier replays; only the row at ``pos`` comes from this one. So the past is
loaded by a phase of its own, which may run before the kernels of this step have finished. It loads as much as fits in
registers; ``attend`` reads the rest.
"""

from __future__ import annotations

import numpy as np

from forerun.ir.kernel import Kernel
from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.shapes import Floats, cuda_kernel, typed_name

__all__ = ["KERNEL", "ROWS", "attend", "declare", "launch_for", "load_past", "parameters", "scores_of"]

ROWS = "k_cache[0:pos + 1], v_cache[0:pos + 1]"
"""The rows up to the present one."""

_WARPS = 4


def launch_for(heads: int) -> Launch:
    """One CTA a query head."""
    return Launch((heads, 1, 1), (32 * _WARPS, 1, 1))


@phase(reads="k_cache[0:pos], v_cache[0:pos]", defines="past_k, past_v")
def load_past(k: Floats, v: Floats) -> tuple[Floats, Floats]:
    """The rows of earlier positions, in f32."""
    return k.astype(np.float32, copy=False), v.astype(np.float32, copy=False)


@phase(reads=f"q, {ROWS}", writes="y")
def attend(q: Floats, k: Floats, v: Floats, past_k: Floats, past_v: Floats) -> Floats:
    """Softmax of the scaled scores over past and present rows, times the values."""
    weights = scores_of(q, k, past_k)
    weights = np.exp(weights - weights.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    past = weights[:, :, :-1] @ past_v.transpose(1, 0, 2)
    result: Floats = past + weights[:, :, -1:] * v[-1:].astype(np.float32, copy=False).transpose(1, 0, 2)
    return result.reshape(q.shape)


def scores_of(q: Floats, k: Floats, past_k: Floats) -> Floats:
    """The scaled scores ``[KV, H / KV, rows]`` of the past rows and of the last row of ``k``.

    Batched over the KV heads, on views: the rows of one head are a strided matrix, which BLAS takes without a copy.
    """
    _, kv_heads, size = k.shape
    groups = q.reshape(kv_heads, -1, size)
    present = k[-1:].astype(np.float32, copy=False)
    scores = np.concatenate((groups @ past_k.transpose(1, 2, 0), groups @ present.transpose(1, 2, 0)), axis=2)
    scores *= np.float32(size**-0.5)
    return scores


def parameters(cache: DType) -> str:
    """The operands, and KV caches of a type."""
    caches = f"k_cache: {cache}[T, KV, HD] align 16, v_cache: {cache}[T, KV, HD] align 16"
    return f"q: f32[H, HD] align 16, {caches}"


def declare(cache: DType = DType.F32) -> Kernel:
    """The kernel for KV caches of that type; all else is f32."""
    signature = f"{parameters(cache)}, y: f32[H, HD], pos: scalar i32"
    name = typed_name("attention", cache)
    return cuda_kernel("attention", signature, load_past, attend, launches=WHOLE_WARPS, name=name)


KERNEL = declare()
