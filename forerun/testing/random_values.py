"""Values for the inputs and weights of graphs that nobody has values for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole
from forerun.runtime.dtypes import numpy_dtype

__all__ = ["inputs_of", "weights_of"]


def inputs_of(graph: Graph, replay: int = 0) -> dict[str, NDArray[Any]]:
    """A value for every input, within its bounds; another one in each replay.

    Example:
        >>> from forerun import GraphBuilder
        >>> from forerun.ir.types import DType
        >>> builder = GraphBuilder("g")
        >>> x = builder.input("x", DType.I32, (3,))
        >>> inputs_of(builder.build())["x"].tolist(), inputs_of(builder.build(), replay=1)["x"].tolist()
        ([23, 30, 37], [36, 43, 50])
    """
    roles = BufferRole.INPUT, BufferRole.PARAM
    return {b.name: _value(b, replay) for b in graph.buffers.values() if b.role in roles}


def weights_of(graph: Graph) -> dict[str, NDArray[Any]]:
    """A value for every weight."""
    return {b.name: _value(b, 0) for b in graph.buffers.values() if b.needs_value}


def _value(buffer: Buffer, replay: int) -> NDArray[Any]:
    """Elements that differ from each other, from those of other buffers, and from replay to replay."""
    start = sum(map(ord, buffer.name)) + 13 * replay
    numbers: NDArray[Any] = (start + 7 * np.arange(buffer.count)) % 97
    if buffer.bounds is not None:
        low, high = buffer.bounds
        numbers = low + numbers % (high - low + 1)
    elif buffer.dtype.is_float:
        numbers = numbers / 8 - 6
    if buffer.ascending:
        numbers = np.sort(numbers)
    return numbers.astype(numpy_dtype(buffer.dtype)).reshape(buffer.shape)
