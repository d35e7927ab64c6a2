"""``y = silu(w_gate @ n) * (w_up @ n)`` of each of a few normalized vectors ``n``, as in ``norm_gate_up``.

The result is divided for the tensor cores of the next kernel (:mod:`forerun.kernels.batched.halves`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.phases import PhaseFunction, phase
from forerun.ir.types import DType
from forerun.kernels import norm_gate_up, silu_mul
from forerun.kernels.batched import halves, stream
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "activate_bf16", "activate_f16", "declare", "dot", "launch_for"]


def launch_for(rows: int, columns: int, vectors: int, *, depth: int = 4) -> Launch:
    """The launch for matrices of ``rows`` by ``columns``; see :func:`forerun.kernels.batched.stream.launch_for`."""
    return stream.launch_for(columns, vectors, rows // 2, 4, depth=depth)


@phase(defines="gate, up")
def dot(
    _w_gate: Floats, _w_up: Floats, _x: NDArray[Any], tile_gate: Floats, tile_up: Floats, vectors: Floats
) -> tuple[Floats, Floats]:
    """Both products of each vector ``[B, N]``."""
    found = np.stack([(tile_gate @ vector, tile_up @ vector) for vector in vectors], axis=1)
    return found[0], found[1]


def activate_bf16(gate: Floats, up: Floats) -> NDArray[Any]:
    """The activated products as halves of bf16."""
    return halves.divided_bf16(silu_mul.activate(gate, up))


def activate_f16(gate: Floats, up: Floats) -> NDArray[Any]:
    """The activated products as halves of f16."""
    return halves.divided_f16(silu_mul.activate(gate, up))


_ACTIVATE = {DType.BF16: activate_bf16, DType.F16: activate_f16}


def declare(dtype: DType = DType.BF16) -> Kernel:
    """The kernel for matrices of a type, and vectors of halves of that type; all other arrays are f32.

    Raises:
        InvalidInput: If the type is neither bf16 nor f16.
    """
    stream.require_short(dtype)
    matrices = f"w_gate: {dtype}[N, K] align 16, w_up: {dtype}[N, K] align 16"
    inputs = f"x: {dtype}[B, C, 2, 2] align 16, squares: f32[B, G] align 16, {matrices}"
    parameters = f"{inputs}, y: {dtype}[B, R, 2, 2] align 16, eps: scalar f32"
    activate = PhaseFunction(_ACTIVATE[dtype], writes="y", name="activate")
    body = norm_gate_up.load_weights, stream.normalize, dot, activate
    name = f"batched_gate_up_{dtype}"
    return cuda_kernel("batched_gate_up", parameters, *body, launches=stream.LAUNCHES, name=name)


KERNEL = declare()
