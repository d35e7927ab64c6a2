"""``logits = w @ n`` of a few normalized vectors ``n``, and the greatest logit of each part, as in ``norm_head``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels import argmax_partial, norm_head
from forerun.kernels.batched import stream
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "PARTS", "choose", "declare", "launch_for"]

PARTS = norm_head.PARTS
"""The number of parts that suits an H100: one per CTA."""


def launch_for(rows: int, columns: int, vectors: int, parts: int = PARTS, *, depth: int = 4) -> Launch:
    """One CTA per part, up to one per SM; see :func:`forerun.kernels.batched.stream.launch_for`.

    The rings are deep, so that a CTA cannot share an SM with neighbouring kernels: this one runs once and long.
    """
    return stream.launch_for(columns, vectors, parts, -(-rows // parts), depth=depth)


@phase(writes="logits, best_value, best_index")
def choose(acc: Floats, parts: int) -> tuple[Floats, Floats, NDArray[np.int32]]:
    """The logits ``[B, V]``, and the greatest of each part with the index of its first occurrence ``[B, P]``."""
    best = [argmax_partial.choose(logits, parts) for logits in acc]
    return acc, np.stack([value for value, _ in best]), np.stack([index for _, index in best])


def declare(dtype: DType = DType.BF16) -> Kernel:
    """The kernel for a matrix of a type, and vectors of halves of that type; all other arrays are f32.

    ``parts`` is the number of parts, as a constant; it must equal the extent ``P``, and be at most ``V``.

    Raises:
        InvalidInput: If the type is neither bf16 nor f16.
    """
    stream.require_short(dtype)
    inputs = f"x: {dtype}[B, C, 2, 2] align 16, squares: f32[B, G] align 16, w: {dtype}[V, K] align 16"
    outputs = "logits: f32[B, V], best_value: f32[B, P], best_index: i32[B, P]"
    parameters = f"{inputs}, {outputs}, eps: scalar f32, parts: scalar i32"
    body = stream.load_weights, stream.normalize, stream.dot, choose
    return cuda_kernel("batched_head", parameters, *body, launches=stream.LAUNCHES, name=f"batched_head_{dtype}")


KERNEL = declare()
