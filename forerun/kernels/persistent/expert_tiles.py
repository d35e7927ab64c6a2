"""Products of ragged rows with the weights of their experts, by one persistent kernel, which works off a schedule.

:mod:`~forerun.kernels.persistent.expert_schedule` has made the schedule before it in the graph. Results do not depend
on it, bit by bit: each is the sum of the same products in the same order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Kernel
from forerun.ir.launches import Launches, Span
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.shapes import Floats, cuda_kernel
from forerun.schedules.capacity import Capacity
from forerun.schedules.expert_gemv import OUTPUT_BLOCK, ExpertBatch, ExpertGemv
from forerun.schedules.expert_gemv_runner import ExpertGemvRunner
from forerun.schedules.schedule import Item
from forerun.support.diagnostics import InvalidInput

__all__ = ["KERNEL", "LAUNCHES", "buffer_shapes", "declare", "launch_for", "multiply", "require_short"]

Words = NDArray[np.int32]

_MOST_SHARED = 225 * 1024  # bytes: what a CTA may have on sm_90, less what is static
_WARPS, _STAGES, _STAGE_BYTES = 8, 8, OUTPUT_BLOCK * 64 * 2

LAUNCHES = Launches(block=Span(32, 512, 32), shared=Span(8 * 1024, 227 * 1024), cluster=Span(1, 1))
"""With which launches these products are right."""


def launch_for(family: ExpertGemv, ctas: int) -> Launch:
    """That many CTAs, each with a group of rows, and rings for weights in what else there is of shared memory.

    Raises:
        InvalidInput: If a row is not one of pieces of 16 columns, or a group of rows leaves no room for weights.
    """
    if family.columns % 16:
        raise InvalidInput(f"products of {family.columns} columns are not supported", hint="multiples of 16 are")
    fixed = family.rows * (family.columns // 8 | 1) * 16 + 2 * _WARPS * family.rows * (OUTPUT_BLOCK + 4) * 4
    shared = min(_MOST_SHARED, fixed + _STAGES * _WARPS * _STAGE_BYTES)
    if shared < fixed + 2 * _WARPS * _STAGE_BYTES:
        raise InvalidInput(f"{family.rows} rows of {family.columns} columns do not fit into shared memory")
    return Launch((ctas, 1, 1), (32 * _WARPS, 1, 1), shared)


def buffer_shapes(family: ExpertGemv, capacity: Capacity) -> dict[str, tuple[int, ...]]:
    """The shapes of the buffers that are not the schedule's, by parameter."""
    return {
        "w": (family.experts, family.outputs, family.columns),
        "x": (capacity.rows, family.columns),
        "y": (capacity.rows, family.outputs),
    }


def require_short(dtype: DType) -> None:
    """Raise if the tensor cores do not take that type.

    Raises:
        InvalidInput: If it is neither bf16 nor f16.
    """
    if dtype not in (DType.BF16, DType.F16):
        raise InvalidInput(f"rows and weights of {dtype} are not multiplied here", hint="bf16 and f16 are")


@phase(writes="y")
def multiply(w: Floats, x: Floats, row_pointers: Words, pointers: Words, items: Words) -> Floats:
    """The products of all rows that experts have ``[Q, N]``; what else is written is NaN, or as it was."""
    family = ExpertGemv(*w.shape)
    runner = ExpertGemvRunner(family, ExpertBatch(row_pointers), w.astype(np.float32), x.astype(np.float32))
    for words in items[: int(pointers[-1])].tolist():
        item = Item(*words)
        rows, outputs = runner.rows_of(item), slice(item.begin, item.end)
        runner.y[rows, outputs] = runner.compute(item).reshape(-1, family.outputs)[:, outputs]
    return runner.y


def declare(dtype: DType = DType.BF16) -> Kernel:
    """The kernel for rows and weights of that type; sums and results are f32.

    Raises:
        InvalidInput: If it is neither bf16 nor f16.
    """
    require_short(dtype)
    values = f"w: {dtype}[E, N, K] align 16, x: {dtype}[Q, K] align 16, row_pointers: i32[_]"
    signature = f"{values}, pointers: i32[B], items: i32[_, 8] align 16, y: f32[Q, N]"
    return cuda_kernel("expert_tiles", signature, multiply, launches=LAUNCHES, name=f"expert_tiles_{dtype}")


KERNEL = declare()
