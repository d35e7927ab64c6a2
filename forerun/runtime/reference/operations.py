"""What nodes other than kernels, child graphs and conditionals do, as functions without arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from forerun.ir.nodes import (
    AllocNode,
    ChildGraphNode,
    ConditionalNode,
    EmptyNode,
    EventRecordNode,
    EventWaitNode,
    FreeNode,
    HostCallbackNode,
    KernelNode,
    MemcpyNode,
    MemsetNode,
    Node,
)
from forerun.ir.region import BufferView
from forerun.runtime.reference.functions import check_arity, checked, find_function, results_of
from forerun.runtime.reference.memory import POISON, Memory
from forerun.support.diagnostics import InternalError

__all__ = ["bind_operation"]

Operation = Callable[[], None]


def bind_operation(node: Node, place: str, memory: Memory) -> Operation:
    """What a node does, bound to memory.

    Raises:
        InvalidInput: If a host call's function cannot be found, or cannot take what the node reads.
    """
    match node:
        case MemcpyNode():
            return _copy(_elements(memory, node.source, write=False), _elements(memory, node.destination, write=True))
        case MemsetNode():
            return _fill(_elements(memory, node.destination, write=True), node.value)
        case HostCallbackNode():
            return _host(node, place, memory)
        case AllocNode() | FreeNode():
            return _spoil(memory.bytes_of(node.allocation))
        case EmptyNode() | EventRecordNode() | EventWaitNode():
            # One graph runs alone here, so nobody outside waits for its events or records those it waits for.
            return _nothing
        case KernelNode() | ChildGraphNode() | ConditionalNode():
            raise InternalError(f"{place}: a {type(node).__name__} is more than one operation")
        case _:
            assert_never(node)


def _nothing() -> None:
    return None


def _copy(source: NDArray[Any], destination: NDArray[Any]) -> Operation:
    shape = destination.shape

    def copy() -> None:
        destination[...] = source.reshape(shape)

    return copy


def _fill(destination: NDArray[Any], value: int) -> Operation:
    pattern = destination.view(np.dtype(f"u{destination.itemsize}"))

    def fill() -> None:
        pattern.fill(value)

    return fill


def _spoil(data: NDArray[np.uint8]) -> Operation:
    def spoil() -> None:
        data.fill(POISON)

    return spoil


def _host(node: HostCallbackNode, place: str, memory: Memory) -> Operation:
    place = f"{place}, function '{node.function}'"
    function = find_function(node.function, place)
    check_arity(function, len(node.reads), place)
    reads = [_elements(memory, view, write=False) for view in node.reads]
    writes = [(view.buffer, _elements(memory, view, write=True)) for view in node.writes]
    # What is returned may be a view of what was read: the first write must not spoil the second.
    aliased = len(writes) > 1 and any(np.may_share_memory(r, w) for r in reads for _, w in writes)

    def call() -> None:
        returned = function(*([array.copy() for array in reads] if aliased else reads))
        for (buffer, target), value in zip(writes, results_of(place, len(writes), returned), strict=True):
            target[...] = checked(place, buffer, target, value)

    return call


def _elements(memory: Memory, view: BufferView, *, write: bool) -> NDArray[Any]:
    found = memory.buffers[view.buffer]
    array = found.array if write else found.readable
    index = tuple(slice(None) if s is None else slice(s.start.constant, s.stop.constant) for s in view.region.slices)
    result: NDArray[Any] = array[index]
    return result
