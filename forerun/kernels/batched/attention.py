"""Causal attention of the tokens of several sequences, as in ``attention_cluster``.

Rows before a sequence's first token were written by earlier replays, so a separate phase loads them. Tensor cores
multiply caches of 16 bits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.phases import PhaseFunction
from forerun.ir.types import DType
from forerun.kernels import attention, attention_cluster
from forerun.kernels.batched import halves
from forerun.kernels.batched.sequences import Sequences
from forerun.kernels.batched.stream import FEW, require_short
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "attend", "attend_bf16", "attend_f16", "declare", "launch_for", "load_past"]


def launch_for(kv_heads: int, rows: int, head_size: int, vectors: int, *, spans: int | None = None) -> Launch:
    """One cluster per KV head and token.

    Rows are cut into as many spans as one token alone has CTAs (:func:`forerun.kernels.attention_cluster.launch_for`),
    so the order of sums does not depend on the number of tokens.

    Args:
        kv_heads: Number of KV heads.
        rows: Rows of a cache.
        head_size: Elements of a head.
        vectors: Number of tokens.
        spans: Spans per CTA, a power of two. By default two for more than four tokens, so that the CTAs of all clusters
            are resident, and one otherwise.
    """
    alone = attention_cluster.launch_for(kv_heads, rows, head_size)
    spans = spans or (2 if vectors > FEW else 1)
    cluster = max(2, alone.grid[0] // kv_heads // spans)
    return replace(alone, grid=(vectors * kv_heads * cluster, 1, 1), cluster=(cluster, 1, 1))


def load_past(*caches: Floats) -> tuple[Floats, ...]:
    """The rows of earlier steps, in f32: the keys of each sequence, then the values of each."""
    return tuple(rows.astype(np.float32, copy=False) for rows in caches)


def attend(q: Floats, *arrays: Floats) -> Floats:
    """Attention of each token ``[B, H * HD]``.

    The arrays are the keys and the values of each sequence up to its last token, then those of earlier steps.
    """
    count = len(arrays) // 4
    keys, values, past_keys, past_values = (arrays[i * count : (i + 1) * count] for i in range(4))
    tokens = len(q) // count
    found = []
    for number, query in enumerate(q):
        sequence, token = divmod(number, tokens)
        k, v = keys[sequence], values[sequence]
        begun = len(past_keys[sequence])
        past_k, past_v = (
            np.concatenate((past, rows[begun : begun + token].astype(np.float32))) if token else past
            for past, rows in ((past_keys[sequence], k), (past_values[sequence], v))
        )
        present = slice(begun + token, begun + token + 1)
        found.append(attention.attend(query, k[present], v[present], past_k, past_v))
    return np.stack(found).reshape(len(q), -1)


def attend_bf16(q: Floats, *arrays: Floats) -> NDArray[Any]:
    """As :func:`attend`, as halves of bf16."""
    return halves.divided_bf16(attend(q, *arrays))


def attend_f16(q: Floats, *arrays: Floats) -> NDArray[Any]:
    """As :func:`attend`, as halves of f16."""
    return halves.divided_f16(attend(q, *arrays))


_ATTEND = {DType.BF16: attend_bf16, DType.F16: attend_f16}


def declare(cache_dtype: DType = DType.BF16, sequences: Sequences | None = None, dtype: DType = DType.BF16) -> Kernel:
    """The kernel for KV caches of a type, whose results are halves of another one; queries are f32.

    ``pos0``, ``pos1``, ... are the positions of each sequence's first token, and ``k_cache0``, ``v_cache0``, ... its
    caches.

    Raises:
        InvalidInput: If the halves are neither bf16 nor f16.
    """
    require_short(dtype)
    of = sequences or Sequences(1)
    parameters = f"q: f32[B, H, HD] align 16, {of.declared(cache_dtype)}, y: {dtype}[B, C, 2, 2], {of.scalars}"
    past = ", ".join(f"past_{part}{number}" for part in "kv" for number in range(of.count))
    load = PhaseFunction(load_past, defines=past, reads=of.past, uses="", scalars="")
    finish = PhaseFunction(_ATTEND[dtype], writes="y", reads=f"q, {of.present}", uses=past, scalars="", name="attend")
    name = f"batched_attention_{cache_dtype}_{dtype}_{of.count}x{of.tokens}"
    return cuda_kernel("batched_attention", parameters, load, finish, launches=attention_cluster.LAUNCHES, name=name)


KERNEL = declare()
