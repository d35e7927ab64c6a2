"""The memory of a program: one array of bytes for each allocation, typed views of it, and copies of such views."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole
from forerun.runtime.constants import HeldConstant, held_constants
from forerun.runtime.dtypes import numpy_dtype
from forerun.runtime.values import check_names, check_weights, input_array, weight_array, weight_value

__all__ = ["POISON", "BufferMemory", "HostConstants", "Memory", "snapshot"]

Bytes = NDArray[np.uint8]

POISON = 0xFF
"""What bytes hold that nobody wrote: NaN in every floating point type, -1 in signed integers."""

ALIGNMENT = 64
"""Allocations begin at multiples of this, so that NumPy and BLAS take the same path for the same buffer everywhere."""

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class BufferMemory:
    """A buffer in memory.

    Attributes:
        buffer: Its declaration.
        bytes: All bytes of its allocation; its own alone, if it is a constant in common with other programs.
        array: The typed view.
        readable: The same view, not writable.
        constant: Whether no node can ever write these bytes: the allocation holds nothing but weights.
    """

    buffer: Buffer
    bytes: Bytes
    array: NDArray[Any]
    readable: NDArray[Any]
    constant: bool


class Memory:
    """Everything that the buffers of one loaded graph view.

    Weights that fill an allocation of their own are not copied: the caller's array is that allocation. State begins as
    zeros, which the system commits page by page as they are written. What lives within one replay is poisoned before
    each. Constants that other programs have, too, are views of the same bytes.

    Each weight is looked up once.

    Raises:
        InvalidInput: If a weight is missing, unknown, or does not fit.
    """

    def __init__(self, graph: Graph, weights: Mapping[str, ArrayLike]) -> None:
        roles: dict[BufferRole, list[Buffer]] = {role: [] for role in BufferRole}
        views: dict[str, list[Buffer]] = {name: [] for name in graph.allocations}
        for buffer in graph.buffers.values():
            roles[buffer.role].append(buffer)
            views[buffer.allocation].append(buffer)
        self._inputs = {buffer.name: buffer for buffer in (*roles[BufferRole.INPUT], *roles[BufferRole.PARAM])}
        self._outputs = [buffer.name for buffer in roles[BufferRole.OUTPUT]]
        self._state = [buffer.name for buffer in roles[BufferRole.STATE]]
        check_weights(graph, weights)
        self._held = held_constants(graph, weights)
        self._bytes: dict[str, Bytes] = {}
        self._add_transient(graph, views)
        self._add_persistent(graph, views)
        for buffer in (one for one in roles[BufferRole.WEIGHT] if one.name not in self._held):
            value = weight_array(buffer, weight_value(buffer, weights))
            self._add_weight(buffer, value, graph.allocations[buffer.allocation])
        constant = {name for name, found in views.items() if {buffer.role for buffer in found} == {BufferRole.WEIGHT}}
        self.poison()
        for name in constant & self._bytes.keys():
            self._bytes[name].flags.writeable = False
        self.buffers = {b.name: self._memory_of(b, b.allocation in constant) for b in graph.buffers.values()}

    @property
    def size_bytes(self) -> int:
        """Bytes of what is not the caller's weights alone."""
        return sum(data.nbytes for data in self._bytes.values() if data.flags.writeable)

    def let_go(self) -> None:
        """Hold no more constants in common with other programs. Nothing runs any more."""
        self._held = {}

    def bytes_of(self, allocation: str) -> Bytes:
        """All bytes of an allocation."""
        return self._bytes[allocation]

    def set_inputs(self, inputs: Mapping[str, ArrayLike]) -> None:
        """Write the caller's values to the input buffers; nothing is written if one of them is wrong.

        Raises:
            InvalidInput: If an input is missing, unknown, does not fit, or is out of its bounds.
        """
        check_names("input", self._inputs, inputs)
        arrays = [(name, input_array(buffer, inputs[name])) for name, buffer in self._inputs.items()]
        for name, array in arrays:
            self.buffers[name].array[...] = array

    def outputs(self) -> dict[str, NDArray[Any]]:
        """Copies of the output buffers."""
        return {name: self.buffers[name].array.copy() for name in self._outputs}

    def poison(self) -> None:
        """Spoil all bytes that live within one replay."""
        self._transient.fill(POISON)
        for gap in self._gaps:
            gap.fill(POISON)

    def reset(self) -> None:
        """Set state to zeros, without committing pages that were never written."""
        for name in self._state:
            view = self.buffers[name]
            start = view.buffer.offset
            for chunk_start in range(start, view.buffer.stop, _CHUNK):
                chunk = view.bytes[chunk_start : min(chunk_start + _CHUNK, view.buffer.stop)]
                if chunk.any():
                    chunk.fill(0)

    def _add_transient(self, graph: Graph, views: Mapping[str, list[Buffer]]) -> None:
        """Put what lives within one replay side by side, so that one fill poisons all of it."""
        places: dict[str, tuple[int, int]] = {}
        end = 0
        for name, found in views.items():
            if not any(buffer.role in _PERSISTENT for buffer in found):
                size = graph.allocations[name].size
                places[name] = end, end + size
                end += -(-size // ALIGNMENT) * ALIGNMENT
        self._transient = _aligned(np.empty, end)
        self._bytes.update((name, self._transient[start:stop]) for name, (start, stop) in places.items())

    def _add_persistent(self, graph: Graph, views: Mapping[str, list[Buffer]]) -> None:
        """Make the other allocations, except those that a weight fills; :meth:`_add_weight` makes these."""
        self._gaps: list[Bytes] = []
        for name, found in views.items():
            if found and all(buffer.name in self._held for buffer in found):
                continue
            size = graph.allocations[name].size
            fills = [buffer.size == size for buffer in found if buffer.role is BufferRole.WEIGHT]
            if name not in self._bytes and not (len(found) == 1 and any(fills)):
                data = self._bytes[name] = _aligned(np.zeros, size)
                self._gaps += [data[start:stop] for start, stop in _gaps(size, found)]

    def _add_weight(self, buffer: Buffer, array: NDArray[Any], allocation: Allocation) -> None:
        if allocation.name not in self._bytes and array.flags.c_contiguous and array.flags.aligned:
            self._bytes[allocation.name] = array.reshape(-1).view(np.uint8)
            return
        if allocation.name not in self._bytes:
            self._bytes[allocation.name] = _aligned(np.empty, allocation.size)
        _typed(self._bytes[allocation.name], buffer)[...] = array

    def _memory_of(self, buffer: Buffer, constant: bool) -> BufferMemory:
        held = self._held.get(buffer.name)
        if held is not None:
            array = held.place.view(numpy_dtype(buffer.dtype)).reshape(buffer.shape)
            return BufferMemory(buffer, held.place, array, array, constant=True)
        data = self._bytes[buffer.allocation]
        array, readable = _typed(data, buffer), _typed(data, buffer)
        readable.flags.writeable = False
        return BufferMemory(buffer, data, array, readable, constant)


class HostConstants:
    """Memory for constants of several programs: see :class:`forerun.runtime.constants.ConstantMemory`."""

    def __init__(self) -> None:
        self.size_bytes = 0

    def put(self, contents: Sequence[bytes]) -> list[HeldConstant]:
        """Copies that nobody can write, aligned as allocations are."""
        found = []
        for data in contents:
            place = _aligned(np.empty, len(data))
            place[...] = np.frombuffer(data, np.uint8)
            place.flags.writeable = False
            self.size_bytes += len(data)
            found.append(HeldConstant(data, place))
        return found

    def free(self, place: Bytes) -> None:
        """Count what is gone; NumPy gives the memory back."""
        self.size_bytes -= place.nbytes

    def close(self) -> None:
        """Nothing is left to do: NumPy gives memory back that nobody uses."""


def address(array: NDArray[Any]) -> int:
    """Where the first element of an array is."""
    found: int = array.__array_interface__["data"][0]
    return found


_PERSISTENT = {BufferRole.INPUT, BufferRole.WEIGHT, BufferRole.STATE, BufferRole.PARAM}


def _aligned(make: Callable[..., Any], size: int, shift: int = 0) -> Bytes:
    """New bytes that begin ``shift`` after a multiple of :data:`ALIGNMENT`."""
    data: Bytes = make(size + ALIGNMENT, np.uint8)
    start = (shift - address(data)) % ALIGNMENT
    return data[start : start + size]


def _typed(data: Bytes, buffer: Buffer) -> NDArray[Any]:
    return data[buffer.offset : buffer.stop].view(numpy_dtype(buffer.dtype)).reshape(buffer.shape)


def _gaps(size: int, views: Iterable[Buffer]) -> list[tuple[int, int]]:
    """The byte ranges of an allocation that no persistent buffer views."""
    gaps, end = [], 0
    for start, stop in sorted((b.offset, b.stop) for b in views if b.role in _PERSISTENT):
        if start > end:
            gaps.append((end, start))
        end = max(end, stop)
    return [*gaps, (end, size)] if end < size else gaps


def snapshot(
    data: Bytes, view: NDArray[Any], pending: Iterable[tuple[NDArray[Any], NDArray[Any]]] = ()
) -> NDArray[Any]:
    """A copy of a view as it is now.

    The copy has the strides and the alignment of the view. NumPy and BLAS choose the order of their sums by those, so
    a function gives the same bits for the copy and for the view.

    ``data`` are all bytes of the allocation. What is to be seen in ``pending`` views of them are the values given
    there, in order.

    Returns:
        The elements, not writable.
    """
    low, high = _span(view)
    stores = [(target, value, *_span(target)) for target, value in pending]
    first = min([low, *(start for _, _, start, _ in stores)])
    last = max([high, *(stop for _, _, _, stop in stores)])
    scratch = _aligned(np.empty, last - first, first % ALIGNMENT)
    if stores:
        base = address(data)
        scratch[...] = data[first - base : last - base]
        for target, value, start, _ in stores:
            _window(scratch, target, start - first)[...] = value
        copy = _window(scratch, view, low - first)
    else:
        copy = _window(scratch, view, low - first)
        copy[...] = view
    copy.flags.writeable = False
    return copy


def _span(view: NDArray[Any]) -> tuple[int, int]:
    """The first byte of a view, and the one after its last; strides are never negative here."""
    start = address(view)
    if view.size == 0:
        return start, start
    reach = sum((extent - 1) * stride for extent, stride in zip(view.shape, view.strides, strict=True))
    return start, start + reach + view.itemsize


def _window(scratch: Bytes, view: NDArray[Any], offset: int) -> NDArray[Any]:
    return np.ndarray(view.shape, view.dtype, buffer=scratch, offset=offset, strides=view.strides)
