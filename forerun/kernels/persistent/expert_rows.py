"""Products of the rows of one expert: what a graph has that launches a kernel for each expert.

It computes as :mod:`~forerun.kernels.persistent.expert_tiles` does, with the same bits, but without a schedule.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from forerun.ir.builder import GraphBuilder
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch, ScalarLoad
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.persistent.expert_tiles import LAUNCHES, require_short
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "declare", "launch_expert", "multiply"]


@phase(reads="w, x[begin:end]", writes="y[begin:end]")
def multiply(w: Floats, x: Floats, expert: int) -> Floats:
    """The products of the rows from ``begin`` to ``end`` with the weights of the expert."""
    weights = w[int(expert)].astype(np.float32)
    products = [(weights * row).sum(axis=1) for row in x.astype(np.float32)]
    return np.array(products, np.float32).reshape(len(x), w.shape[1])


def declare(dtype: DType = DType.BF16) -> Kernel:
    """The kernel for rows and weights of that type; sums and results are f32.

    Raises:
        InvalidInput: If it is neither bf16 nor f16.
    """
    require_short(dtype)
    scalars = ", ".join(f"{name}: scalar i32" for name in ("expert", "begin", "end"))
    signature = f"w: {dtype}[E, N, K] align 16, x: {dtype}[Q, K] align 16, y: f32[Q, N], {scalars}"
    return cuda_kernel("expert_rows", signature, multiply, launches=LAUNCHES, name=f"expert_rows_{dtype}")


KERNEL = declare()


def launch_expert(
    builder: GraphBuilder,
    buffers: dict[str, str],
    expert: int,
    node: str,
    launch: Launch,
    dtype: DType = DType.BF16,
    after: str | Iterable[str] | None = None,
) -> str:
    """Launch it for an expert.

    Args:
        builder: Of the graph.
        buffers: The buffers by parameter: ``w``, ``x``, ``y``, and ``row_pointers``.
        expert: Which expert.
        node: The node's name.
        launch: See :func:`~forerun.kernels.persistent.expert_tiles.launch_for`.
        dtype: Of rows and weights.
        after: Nodes before it; by default the one launched before.

    Raises:
        InvalidInput: If the type is neither bf16 nor f16, or as for :meth:`~forerun.GraphBuilder.launch`.
    """
    pointers = buffers["row_pointers"]
    arguments: dict[str, Any] = {name: buffers[name] for name in ("w", "x", "y")}
    arguments |= {"begin": ScalarLoad(pointers, expert), "end": ScalarLoad(pointers, expert + 1)}
    return builder.launch(declare(dtype), node=node, launch=launch, expert=expert, after=after, **arguments)
