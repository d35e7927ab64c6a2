"""Attention of consecutive requests of a ragged batch, one launch for each group: what an engine's graph has.

Decode requests and prefill requests of one batch, say, are two launches over the same buffers, which write disjoint
rows: those between two elements of the batch's index pointer. ``fuse-persistent`` makes one persistent kernel of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.builder import GraphBuilder
from forerun.ir.kernel import Kernel
from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch, ScalarLoad
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.shapes import Floats, cuda_kernel
from forerun.support.diagnostics import InvalidInput

__all__ = ["BATCH", "KERNEL", "VALUES", "attend", "declare", "launch_for", "launch_requests"]

Words = NDArray[np.int32]

VALUES = ("q", "k_cache", "v_cache")
"""The parameters that are values of what is attended to."""

BATCH = ("query_pointers", "kv_lengths", "page_pointers", "pages")
"""The parameters that say what the batch is."""

_WARPS = 4


def launch_for(rows: int, heads: int) -> Launch:
    """A warp for each of that many rows and heads, in CTAs of four; any grid is right for any batch."""
    return Launch((max(1, -(-rows * heads // _WARPS)), 1, 1), (32 * _WARPS, 1, 1))


@phase(reads=f"q[begin:end], {', '.join((*VALUES[1:], *BATCH))}", writes="y[begin:end]")
def attend(
    q: Floats,
    k_cache: Floats,
    v_cache: Floats,
    query_pointers: Words,
    kv_lengths: Words,
    page_pointers: Words,
    pages: Words,
    first: int,
    count: int,
    begin: int,
    end: int,
) -> Floats:
    """Causal attention of the rows from ``begin`` to ``end``; of those that no request of the group has, 0."""
    page_size, kv_heads, head_size = k_cache.shape[1:]
    y = np.zeros(q.shape, np.float32)
    for request in range(int(first), int(first + count)):
        own, last = int(query_pointers[request]), int(query_pointers[request + 1])
        positions = np.arange(int(kv_lengths[request]))
        at = pages[int(page_pointers[request]) + positions // page_size], positions % page_size
        keys, values = (cache[at].astype(np.float32) for cache in (k_cache, v_cache))
        for row in range(max(own, int(begin)), min(last, int(end))):
            seen = len(positions) - (last - row) + 1
            queries = q[row - int(begin)].astype(np.float32).reshape(kv_heads, -1, head_size)
            scores = queries @ keys[:seen].transpose(1, 2, 0) * np.float32(head_size**-0.5)
            weights = np.exp(scores - scores.max(axis=2, keepdims=True))
            weights /= weights.sum(axis=2, keepdims=True)
            y[row - int(begin)] = (weights @ values[:seen].transpose(1, 0, 2)).reshape(q.shape[1:])
    return y.astype(q.dtype)


def declare(dtype: DType = DType.BF16) -> Kernel:
    """The kernel for queries, KV cache and results of that type; sums are f32.

    ``first`` and ``count`` say which requests; ``begin`` and ``end`` are the elements ``first`` and ``first + count``
    of ``query_pointers``, loaded as scalars, since they say which rows are read and written.
    """
    cache = f"{dtype}[N, PS, KV, HD]"
    values = f"q: {dtype}[Q, H, HD], k_cache: {cache}, v_cache: {cache}"
    batch = ", ".join(f"{name}: i32[_]" for name in BATCH)
    scalars = ", ".join(f"{name}: scalar i32" for name in ("first", "count", "begin", "end"))
    signature = f"{values}, {batch}, y: {dtype}[Q, H, HD], {scalars}"
    return cuda_kernel(
        "attention_requests", signature, attend, launches=WHOLE_WARPS, name=f"attention_requests_{dtype}"
    )


KERNEL = declare()


def launch_requests(
    builder: GraphBuilder,
    buffers: dict[str, str],
    first: int,
    count: int,
    node: str,
    launch: Launch,
    dtype: DType = DType.BF16,
) -> str:
    """Launch it for the requests from ``first`` to ``first + count - 1``.

    Args:
        builder: Of the graph.
        buffers: The buffers by parameter: ``VALUES``, ``BATCH`` and ``y``.
        first: The first request.
        count: How many; those that a batch lacks have no rows.
        node: The node's name.
        launch: Grid and block; see :func:`launch_for`.
        dtype: Of queries, KV cache and results.

    Raises:
        InvalidInput: If ``first`` or ``count`` is negative, or as for :meth:`~forerun.GraphBuilder.launch`.
    """
    if min(first, count) < 0:
        raise InvalidInput(f"requests {first} to {first + count} are none of a batch")
    kernel = declare(dtype)
    arguments: dict[str, Any] = {p.name: buffers[p.name] for p in kernel.buffer_parameters}
    pointers = buffers["query_pointers"]
    arguments |= {"begin": ScalarLoad(pointers, first), "end": ScalarLoad(pointers, first + count)}
    return builder.launch(kernel, node=node, launch=launch, first=first, count=count, **arguments)
