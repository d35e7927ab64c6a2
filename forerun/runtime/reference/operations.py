"""What nodes other than kernels, child graphs and conditionals do, as functions without arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from forerun.ir import nodes
from forerun.ir.region import BufferView
from forerun.runtime.reference.functions import host_call, selected
from forerun.runtime.reference.memory import POISON, Memory
from forerun.support.diagnostics import InternalError

__all__ = ["bind_operation"]

Operation = Callable[[], None]


def bind_operation(node: nodes.Node, place: str, memory: Memory) -> Operation:
    """What a node does, bound to memory.

    Raises:
        InvalidInput: If a host call's function cannot be found, or cannot take what the node reads.
    """
    elements = partial(_elements, memory)
    match node:
        case nodes.MemcpyNode():
            return _copy(elements(node.source, False), elements(node.destination, True))
        case nodes.MemsetNode():
            target = elements(node.destination, True)
            return partial(target.view(np.dtype(f"u{target.itemsize}")).fill, node.value)
        case nodes.HostCallbackNode():
            return host_call(node, place, elements)
        case nodes.AllocNode() | nodes.FreeNode():
            return partial(memory.bytes_of(node.allocation).fill, POISON)
        case nodes.EmptyNode() | nodes.EventRecordNode() | nodes.EventWaitNode():
            # One graph runs alone here, so nobody outside waits for its events or records those it waits for.
            return lambda: None
        case nodes.KernelNode() | nodes.ChildGraphNode() | nodes.ConditionalNode():
            raise InternalError(f"{place}: a {type(node).__name__} is more than one operation")
        case _:
            assert_never(node)


def _copy(source: NDArray[Any], destination: NDArray[Any]) -> Operation:
    shape = destination.shape

    def copy() -> None:
        destination[...] = source.reshape(shape)

    return copy


def _elements(memory: Memory, view: BufferView, write: bool) -> NDArray[Any]:
    found = memory.buffers[view.buffer]
    return selected(found.array if write else found.readable, view)
