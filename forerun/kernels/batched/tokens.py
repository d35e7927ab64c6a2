"""The first and the last kernel of a batched step: embedding of tokens, and greedy choice of the next ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Kernel
from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.batched import halves
from forerun.kernels.batched.stream import require_short
from forerun.kernels.shapes import Floats, cuda_kernel, typed_name

__all__ = ["CHOOSE", "choose", "choose_launch_for", "declare_embedding", "gather"]


@phase(reads="tokens[index:index + 1], table, scale", writes="y, halves, squares")
def gather(tokens: NDArray[np.int32], table: NDArray[Any], scale: Floats) -> tuple[Floats, NDArray[Any], Floats]:
    """The rows of the table for each token, in f32 ``[B, D]``; scaled, as halves; and the sums of their squares."""
    rows: Floats = table[tokens[0]].astype(np.float32, copy=False)
    return rows, halves.divided(rows * scale, table.dtype), halves.sums_of_squares(rows)


def declare_embedding(dtype: DType = DType.BF16) -> Kernel:
    """The kernel ``y = table[tokens[index]]`` for a table of a type: one row for each token of a step.

    The next kernel normalizes it, so it is written as by ``batched_projection``, too.

    Raises:
        InvalidInput: If the type is neither bf16 nor f16.
    """
    require_short(dtype)
    inputs = f"tokens: i32[N, B], table: {dtype}[V, D] align 16, scale: f32[D] align 16"
    outputs = f"y: f32[B, D] align 16, halves: {dtype}[B, C, 2, 2] align 16, squares: f32[B, G]"
    parameters = f"{inputs}, {outputs}, index: scalar i32"
    return cuda_kernel("batched_embedding", parameters, gather, name=typed_name("batched_embedding", dtype))


def choose_launch_for(parts: int, vectors: int) -> Launch:
    """One CTA per vector, with one thread per part, up to 1,024."""
    return Launch((vectors, 1, 1), (min(1024, -(-parts // 32) * 32), 1, 1))


@phase(writes="token[index:index + 1]")
def choose(best: Floats, place: NDArray[np.int32]) -> NDArray[np.int32]:
    """The chosen token of each vector ``[1, B]``; of equal logits, the first wins, since parts are in order."""
    return np.take_along_axis(place, best.argmax(axis=1)[:, np.newaxis], axis=1).reshape(1, -1)


CHOOSE = cuda_kernel(
    "batched_argmax",
    "best: f32[B, P], place: i32[B, P], token: i32[N, B], index: scalar i32",
    choose,
    launches=WHOLE_WARPS,
)
"""``token[index]``: the token of each vector's greatest logit, chosen among the parts of ``batched_head``."""
