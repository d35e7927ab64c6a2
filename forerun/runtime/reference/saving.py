"""The state that a replay writes, copied before it, and put back when the replay fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forerun.ir.graph import Graph
from forerun.ir.nodes import is_host_work
from forerun.ir.walk import all_nodes
from forerun.runtime.reference.memory import Memory

if TYPE_CHECKING:
    from forerun.ir.semantics.written_state import WrittenRange

__all__ = ["ranges_to_save", "undone_by_failure"]

Bytes = NDArray[np.uint8]


def ranges_to_save(graph: Graph) -> tuple[WrittenRange, ...]:
    """The state that a replay of a valid graph writes, if the graph has work for the host, which may raise."""
    from forerun.ir.semantics.written_state import written_state  # costs time at start, and few graphs need it

    has_host_work = any(is_host_work(node) for _, node in all_nodes(graph))
    return written_state(graph) if has_host_work else ()


@contextmanager
def undone_by_failure(memory: Memory, ranges: Sequence[WrittenRange]) -> Iterator[None]:
    """If the block raises, the ranges hold afterwards what they held before."""
    saved = [(view, view.copy()) for view in (_bytes_of(memory, written) for written in ranges)]
    try:
        yield
    except BaseException:
        for view, copy in saved:
            view[...] = copy
        raise


def _bytes_of(memory: Memory, written: WrittenRange) -> Bytes:
    """Where a range is now."""
    start = written.start
    if written.element is not None:
        elements = memory.buffers[written.element.buffer].array.reshape(-1)
        start += written.element.stride * int(elements[written.element.index])
    low, high = written.bounds
    first, last = max(start, low), min(start + written.size, high)
    return memory.bytes_of(written.allocation)[first : max(first, last)]
