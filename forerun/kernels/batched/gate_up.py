"""``y = silu(w_gate @ n) * (w_up @ n)`` of each of a few normalized vectors ``n``, as in ``norm_gate_up``."""

from __future__ import annotations

import numpy as np

from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels import norm_gate_up, silu_mul
from forerun.kernels.batched import stream
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "declare", "dot", "launch_for"]


def launch_for(rows: int, columns: int, vectors: int, *, depth: int = 4) -> Launch:
    """The launch for matrices of ``rows`` by ``columns``; see :func:`forerun.kernels.batched.stream.launch_for`."""
    return stream.launch_for(columns, vectors, rows, 2, normalized=True, depth=depth)


@phase(defines="gate, up")
def dot(
    _w_gate: Floats, _w_up: Floats, _x: Floats, tile_gate: Floats, tile_up: Floats, vectors: Floats
) -> tuple[Floats, Floats]:
    """Both products of each vector ``[B, N]``."""
    found = np.stack([(tile_gate @ vector, tile_up @ vector) for vector in vectors], axis=1)
    return found[0], found[1]


def declare(dtype: DType = DType.BF16) -> Kernel:
    """The kernel for matrices of a type; all other arrays are f32.

    Raises:
        InvalidInput: If the type is neither bf16 nor f16.
    """
    stream.require_short(dtype)
    matrices = f"w_gate: {dtype}[N, K] align 16, w_up: {dtype}[N, K] align 16"
    parameters = f"x: f32[B, K] align 16, scale: f32[K] align 16, {matrices}, y: f32[B, N], eps: scalar f32"
    body = norm_gate_up.load_weights, stream.load_scale, stream.normalize, dot, silu_mul.activate
    name = f"batched_gate_up_{dtype}"
    return cuda_kernel("batched_gate_up", parameters, *body, launches=stream.LAUNCHES, name=name)


KERNEL = declare()
