"""Inputs to the device and outputs from it, through pinned memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole
from forerun.runtime.cuda.memory.external import ExternalArray, bind_array, is_device_array
from forerun.runtime.cuda.memory.memory import Memory
from forerun.runtime.cuda.memory.resources import Resources
from forerun.runtime.dtypes import array_at
from forerun.runtime.values import check_names, input_array

__all__ = ["Staging"]

_INPUTS = (BufferRole.INPUT, BufferRole.PARAM)


@dataclass(frozen=True, slots=True)
class _Port:
    """A buffer that the caller writes or reads.

    Attributes:
        buffer: Its declaration.
        address: Where the graph has it.
        view: Pinned memory for its value; the buffer itself if the graph keeps it on the host.
        staged: Address of that memory; 0 if it is the buffer itself.
    """

    buffer: Buffer
    address: int
    view: NDArray[Any]
    staged: int


class Staging:
    """The inputs and outputs of a program.

    ``bound`` names inputs that the caller keeps in memory of his own, so that he need not pass them.
    """

    def __init__(self, resources: Resources, graph: Graph, memory: Memory, bound: Collection[str]) -> None:
        self._resources = resources
        self._bound = frozenset(bound)
        buffers = graph.buffers.values()
        inputs = [buffer for buffer in buffers if buffer.role in _INPUTS]
        outputs = [buffer for buffer in buffers if buffer.role is BufferRole.OUTPUT]
        staged = [buffer for buffer in (*inputs, *outputs) if not memory.is_on_host(buffer.name)]
        base, offsets = self._allocate(staged)
        self._inputs = {b.name: _port(b, memory, base, offsets) for b in inputs}
        self._outputs = {b.name: _port(b, memory, base, offsets) for b in outputs}

    def _allocate(self, buffers: Iterable[Buffer]) -> tuple[int, dict[str, int]]:
        offsets, end = {}, 0
        for buffer in buffers:
            offsets[buffer.name] = end
            end += -(-buffer.size // 64) * 64
        if end == 0:
            return 0, offsets
        scope = self._resources.scope
        return int(scope.own("pinned", scope.driver.call("cuMemHostAlloc", end, 0), "cuMemFreeHost")), offsets

    def check(self, inputs: Mapping[str, ArrayLike]) -> dict[str, Any]:
        """Look at the caller's values, before anything is written.

        Returns:
            Arrays on the host, or :class:`ExternalArray` for those that are on the device; of these the values are not
            looked at.

        Raises:
            InvalidInput: If an input is missing, unknown, does not fit, or is out of its bounds.
        """
        check_names("input", [name for name in self._inputs if name not in self._bound or name in inputs], inputs)
        return {name: self._checked(self._inputs[name].buffer, value) for name, value in inputs.items()}

    def _checked(self, buffer: Buffer, value: Any) -> Any:
        if not isinstance(value, np.ndarray) and is_device_array(value):
            return bind_array(f"input '%{buffer.name}'", buffer, value, self._resources)
        return input_array(buffer, value)

    def write(self, checked: Mapping[str, Any]) -> None:
        """Put the values where the graph reads them, in the order of the program's stream.

        Nothing else may be in flight: pinned memory is used again.
        """
        driver, stream = self._resources.driver, self._resources.stream
        for name, value in checked.items():
            port = self._inputs[name]
            if isinstance(value, ExternalArray):
                copy = "cuMemcpyDtoDAsync" if port.staged else "cuMemcpyDtoHAsync"
                driver.call(copy, port.address, value.address, value.size, stream)
                continue
            port.view[...] = value
            if port.staged:
                driver.call("cuMemcpyHtoDAsync", port.address, port.staged, port.buffer.size, stream)

    def read(self) -> None:
        """Fetch the outputs into pinned memory, in the order of the stream."""
        driver, stream = self._resources.driver, self._resources.stream
        for port in self._outputs.values():
            if port.staged:
                driver.call("cuMemcpyDtoHAsync", port.staged, port.address, port.buffer.size, stream)

    def outputs(self) -> dict[str, NDArray[Any]]:
        """Copies of what was fetched."""
        return {name: port.view.copy() for name, port in self._outputs.items()}


def _port(buffer: Buffer, memory: Memory, base: int, offsets: Mapping[str, int]) -> _Port:
    address = memory.address(buffer.name)
    if buffer.name not in offsets:
        return _Port(buffer, address, array_at(buffer, address), 0)
    staged = base + offsets[buffer.name]
    return _Port(buffer, address, array_at(buffer, staged), staged)
