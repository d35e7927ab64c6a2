"""The bytes that a node must move: each byte that its phases read or write, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.bound_kernel import BoundParameters, bind_kernel
from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import KernelNode
from forerun.ir.region import WHOLE, Region
from forerun.ir.types import BufferRole

__all__ = ["Traffic", "traffic_of", "volume"]

Box = tuple[tuple[int, int], ...]

_Read = Callable[[str], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes by what they are: of weights, of state (KV rows), and of everything else."""

    weights: int = 0
    state: int = 0
    activations: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.state + self.activations

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.weights + other.weights, self.state + other.state, self.activations + other.activations)


_FIELDS = {BufferRole.WEIGHT: "weights", BufferRole.STATE: "state"}


def traffic_of(graph: Graph, node: KernelNode, read: _Read) -> Traffic:
    """What a node must move.

    What is read and what is written count once each, however often phases and CTAs touch it: what comes out is what a
    perfect cache would leave to do. Scalars that are loaded are left out.

    Args:
        graph: Declares kernels and buffers.
        node: The node.
        read: The value of a buffer, for scalars that are loaded from it.

    Example:
        >>> from forerun import GraphBuilder
        >>> from forerun.ir.types import DType
        >>> from forerun.kernels.builtin import KERNELS
        >>> builder = GraphBuilder("g")
        >>> x, w = builder.input("x", DType.F32, (4,)), builder.weight("w", DType.F32, (4,))
        >>> name = builder.launch(KERNELS["add_f32"], a=x, b=w, y=builder.output("y", DType.F32, (4,)))
        >>> graph = builder.build()
        >>> traffic_of(graph, graph.nodes[name], lambda buffer: [])
        Traffic(weights=16, state=0, activations=32)
    """
    bound = bind_kernel(graph, node)
    values = _values(bound, read)
    touched: dict[tuple[str, bool], list[Box]] = {}
    for parameter, region, written in _regions(bound.kernel):
        buffer = bound.buffers[parameter]
        touched.setdefault((buffer.name, written), []).append(_box(buffer, region, values))
    found: dict[str, int] = {}
    for (name, _), boxes in touched.items():
        buffer = graph.buffers[name]
        key = _FIELDS.get(buffer.role, "activations")
        found[key] = found.get(key, 0) + volume(boxes) * buffer.dtype.itemsize
    return Traffic(**found)


def _regions(kernel: Kernel) -> list[tuple[str, Region, bool]]:
    """What phases touch; a black box touches all that it is given, and what it writes is not known."""
    if kernel.is_black_box:
        return [(parameter.name, WHOLE, False) for parameter in kernel.buffer_parameters]
    reads = [(access, False) for phase in kernel.phases for access in phase.reads]
    writes = [(access, True) for phase in kernel.phases for access in phase.writes]
    return [(access.parameter, access.region, written) for access, written in reads + writes]


def _values(bound: BoundParameters, read: _Read) -> Mapping[str, int]:
    """What the symbols in a kernel's regions are at a node."""
    used = {symbol for _, region, _ in _regions(bound.kernel) for symbol in region.symbols}
    loads = {name: load for name, load in bound.loads.items() if name in used}
    read_now = {n: int(np.asarray(read(x.buffer)).reshape(-1)[x.index]) + x.offset for n, x in loads.items()}
    return {**bound.integers, **read_now}


def _box(buffer: Buffer, region: Region, values: Mapping[str, int]) -> Box:
    """A region's bounds, within the buffer."""
    slices = (*region.slices, *[None] * (len(buffer.shape) - len(region.slices)))
    box = []
    for bounds, extent in zip(slices, buffer.shape, strict=False):
        first, stop = (0, extent) if bounds is None else (bounds.start.evaluate(values), bounds.stop.evaluate(values))
        box.append((min(max(first, 0), extent), min(max(stop, 0), extent)))
    return tuple(box)


def volume(boxes: Sequence[Box]) -> int:
    """How many elements lie in at least one of some boxes of a space.

    Example:
        >>> volume([((0, 4), (0, 2)), ((2, 6), (0, 2)), ((3, 3), (0, 2))])
        12
    """
    boxes = [box for box in dict.fromkeys(boxes) if all(first < stop for first, stop in box)]
    if len(boxes) <= 1:
        return sum(int(np.prod([stop - first for first, stop in box], dtype=np.int64)) for box in boxes)
    ends = [np.unique([end for box in boxes for end in box[axis]]) for axis in range(len(boxes[0]))]
    covered = np.zeros([len(axis) - 1 for axis in ends], bool)
    for box in boxes:
        covered[tuple(slice(*np.searchsorted(axis, bounds)) for axis, bounds in zip(ends, box, strict=True))] = True
    sizes = np.array(1, np.int64)
    for axis in ends:
        sizes = np.multiply.outer(sizes, np.diff(axis))
    return int(sizes[covered].sum())
