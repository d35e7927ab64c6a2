"""Random values for graphs that are run only to be timed, or to be compared with each other."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from forerun.compiler import Executable
    from forerun.ir.buffer import Buffer
    from forerun.ir.graph import Graph

__all__ = ["GraphWeights", "fill_state", "random_inputs"]

_DEVIATION = 0.02
"""The deviation of weights: sums over thousands of products stay of the size of their terms."""


class GraphWeights(Mapping[str, "NDArray[Any]"]):
    """The weights of any graph: normal, the same each time, drawn when they are asked for; integers are zeros."""

    def __init__(self, graph: Graph) -> None:
        self._buffers = {b.name: b for b in graph.buffers.values() if b.needs_value}

    def __getitem__(self, name: str) -> NDArray[Any]:
        return _values(self._buffers[name], _DEVIATION)

    def __iter__(self) -> Iterator[str]:
        return iter(self._buffers)

    def __len__(self) -> int:
        return len(self._buffers)


def random_inputs(graph: Graph, given: Mapping[str, int]) -> dict[str, Any]:
    """A value for each input of a graph: some are given, others are drawn, within their bounds if they have any.

    Raises:
        InvalidInput: If a given one is not an input.
    """
    from forerun.ir.types import BufferRole
    from forerun.support.diagnostics import InvalidInput, did_you_mean

    inputs = {b.name: b for b in graph.buffers.values() if b.role in (BufferRole.INPUT, BufferRole.PARAM)}
    for name in given:
        if name not in inputs:
            raise InvalidInput(f"the graph has no input '%{name}'", hint=did_you_mean(name, inputs, sigil="%"))
    found: dict[str, Any] = {name: _values(buffer, 1.0) for name, buffer in inputs.items()}
    for name, value in given.items():
        found[name][...] = value
    return found


def fill_state(executable: Executable) -> None:
    """Fill all state that is floating point, such as KV caches."""
    from forerun.ir.types import BufferRole

    for buffer in executable.graph.buffers.values():
        if buffer.role is BufferRole.STATE and buffer.dtype.is_float:
            executable.write(buffer.name, _values(buffer, 1.0))


def _values(buffer: Buffer, deviation: float) -> NDArray[Any]:
    import numpy as np

    from forerun.runtime.dtypes import numpy_dtype

    chooser: Generator = np.random.default_rng(zlib.crc32(buffer.name.encode()))
    dtype = numpy_dtype(buffer.dtype)
    if not buffer.dtype.is_float:
        low, high = buffer.bounds or (0, 0)
        integers = chooser.integers(low, high, buffer.shape, endpoint=True).astype(dtype)
        return np.sort(integers, axis=None).reshape(buffer.shape) if buffer.ascending else integers
    values = chooser.standard_normal(buffer.shape, np.float32)
    values *= np.float32(deviation)
    return values.astype(dtype)
