"""``y[s] = w[chosen[s]] @ x[s]``: of many matrices, each slot is multiplied by the one that was chosen for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Kernel
from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.shapes import Floats, cuda_kernel, typed_name

__all__ = ["CASES", "KERNEL", "declare", "launch_for", "multiply"]

CASES = {"E": 5, "N": 7, "M": 64, "R": 1, "S": 3}, {"E": 3, "N": 5, "M": 37, "R": 3, "S": 4}
_PARAMETERS = "w: {0}[E, N, M] align 16, x: f32[R, M] align 16, chosen: i32[S], y: f32[S, N]"


def launch_for(rows: int) -> Launch:
    """One warp a row of all slots, 8 warps a CTA."""
    return Launch((-(-rows // 8), 1, 1), (256, 1, 1))


@phase(writes="y")
def multiply(w: Floats, x: Floats, chosen: NDArray[np.int32]) -> Floats:
    """The products. Slots take the rows of ``x`` in turns; a number that no expert has counts as the nearest one."""
    experts = np.clip(chosen, 0, len(w) - 1)
    products = [w[expert].astype(np.float32, copy=False) @ x[slot % len(x)] for slot, expert in enumerate(experts)]
    return np.stack(products)


def declare(dtype: DType = DType.F32) -> Kernel:
    """The kernel for weights of that type; activations and accumulation are f32. It reads the chosen experts alone."""
    parameters = _PARAMETERS.format(dtype)
    return cuda_kernel("expert_gemv", parameters, multiply, launches=WHOLE_WARPS, name=typed_name("expert_gemv", dtype))


KERNEL = declare()
