"""How long a graph takes on a GPU, without one: bytes, and what each boundary between kernels costs.

Decode steps are bound by memory, so a node costs its bytes, and in between the memory is idle: from the last byte of a
kernel until its stores are visible (``tail``), until the next kernel's wait returns (``programmatic``) or that kernel
starts (``full``), and until bytes arrive (``latency``) at full rate (``ramp``). Loads before the wait hide both, as far
as they go. A kernel whose reads are all in the L2 cache costs a boundary alone, since boundaries are measured with such
kernels. How deep rings are beyond that makes no difference here, but does on a GPU: launches must be measured. Nor does
what a kernel computes: blocks of quantised weights take longer than their bytes. The constants are those of
:mod:`forerun.tuner.gpus`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel, Phase, Trigger
from forerun.ir.nodes import KernelNode, Launch, MemcpyNode
from forerun.ir.semantics import ByteSet, NodeAccess, accesses
from forerun.ir.semantics.body import late_steps
from forerun.ir.semantics.nested import inner_graph
from forerun.ir.types import DependencyKind, DType
from forerun.ir.walk import bodies_in
from forerun.tuner.gpus import Constants

__all__ = ["CostModel", "Estimate", "NodeCost", "cheapest", "estimate"]

_INTEGERS = (DType.I32, DType.I64)


@dataclass(frozen=True, slots=True)
class NodeCost:
    """What a node is thought to cost.

    Attributes:
        ready: When what it waits for is complete and seen, in seconds from the start of the replay.
        end: When it is complete.
        bytes: What it moves.
        early_bytes: What of it is on its way before the wait, at most.
        exposed: Seconds that it waits for its first bytes, and for what says where they are.
    """

    ready: float
    end: float
    bytes: int
    early_bytes: int
    exposed: float


@dataclass(frozen=True)
class Estimate:
    """A graph's time, and its nodes'."""

    seconds: float
    nodes: Mapping[str, NodeCost]

    @property
    def bytes(self) -> int:
        """What a replay moves."""
        return sum(node.bytes for node in self.nodes.values())


@dataclass(frozen=True)
class CostModel:
    """Estimates instead of measuring: what :class:`forerun.tuner.Search` takes as its ``measure``.

    Attributes:
        constants: Of the GPU.
        inputs: Values that regions depend on, such as ``{"position": [160]}``.
    """

    constants: Constants
    inputs: Mapping[str, ArrayLike] = field(default_factory=dict)

    def __call__(self, graph: Graph) -> float:
        """Seconds of one replay."""
        return estimate(graph, self.constants, self.inputs).seconds


def cheapest(candidates: Sequence[Graph], constants: Constants, inputs: Mapping[str, ArrayLike] | None = None) -> int:
    """The number of the graph that is thought to be fastest; of equal ones the first."""
    times = [estimate(graph, constants, inputs).seconds for graph in candidates]
    return times.index(min(times))


def estimate(graph: Graph, constants: Constants, inputs: Mapping[str, ArrayLike] | None = None) -> Estimate:
    """The time of one replay.

    Bodies of conditionals count once: an ``if`` as its first body, a ``while`` as one iteration.

    Args:
        graph: A valid graph.
        constants: Of the GPU.
        inputs: Values that regions depend on, by buffer; where they are missing, the middle of the buffer's bounds.
    """
    values = {name: np.asarray(value).ravel() for name, value in (inputs or {}).items()}
    model = _Model(graph, values, constants)
    nodes = model.run()
    return Estimate(max((node.end for node in nodes.values()), default=0.0), nodes)


class _Model:
    """One graph, its nodes gone through in launch order."""

    def __init__(self, graph: Graph, values: Mapping[str, np.ndarray], constants: Constants) -> None:
        self.graph = graph
        self.values = values
        self.constants = constants
        self.nodes: dict[str, NodeCost] = {}
        # When the memory is done with what was asked of it before.
        self.memory_free = 0.0
        # Bytes moved so far, and how many they were when each allocation was last used.
        self.moved = 0
        self.used: dict[str, int] = {}

    def run(self) -> dict[str, NodeCost]:
        for node in self.graph:
            self.nodes[node.name] = (self.of_body if bodies_in(node) else self.of_node)(node.name)
        return self.nodes

    def of_body(self, name: str) -> NodeCost:
        ready = self.ready(name)[0]
        inner = _Model(inner_graph(self.graph, name, 0), self.values, self.constants).run()
        seconds = max((node.end for node in inner.values()), default=0.0)
        self.memory_free = max(self.memory_free, ready + seconds)
        moved = sum(node.bytes for node in inner.values())
        self.moved += moved
        return NodeCost(ready, ready + seconds, moved, 0, 0.0)

    def of_node(self, name: str) -> NodeCost:
        found, constants = self.gathered(accesses(self.graph)[name]), self.constants
        moved, cold = self.size(found), self.size(self.cold(found))
        ready, hides = self.ready(name)
        early = min(self.size([a for a in found if a.early and not a.write]), self.room(name))
        bandwidth = min(self.bandwidth(name), self.spread(name) * constants.of_multiprocessor)
        # This many bytes on their way fill the time in which none arrive.
        most = constants.ramp * bandwidth
        needed = min(cold, most)
        hidden = min(1.0, early / needed) * hides if needed else 1.0
        until_full = constants.latency + (constants.ramp - constants.latency) * needed / most
        exposed = until_full * (1 - hidden) + self.indexed(name, found) * (1 - hides)
        begin = max(ready + exposed, self.memory_free)
        self.memory_free = begin + moved / bandwidth * (1 + constants.inside)
        end = self.memory_free + (constants.tail if cold else 0.0) + self.fixed(name)
        self.moved += moved
        self.used.update((access.allocation, self.moved) for access in found)
        return NodeCost(ready, end, moved, early, exposed)

    def cold(self, found: Iterable[NodeAccess]) -> list[NodeAccess]:
        """Reads of what the L2 cache does not have: what was not used, or so long ago that it was replaced since."""
        longest = self.constants.cache
        return [a for a in found if not a.write and self.moved - self.used.get(a.allocation, -longest) >= longest]

    def fixed(self, name: str) -> float:
        """Seconds that neither depend on bytes nor can be hidden: of copies, and of CTAs that exchange results."""
        node, constants = self.graph.nodes[name], self.constants
        if isinstance(node, MemcpyNode):
            return constants.copy
        clusters = isinstance(node, KernelNode) and node.launch.cluster is not None
        return constants.exchange if clusters else 0.0

    def indexed(self, name: str, found: Iterable[NodeAccess]) -> float:
        """Seconds until a kernel knows where to read, if it reads that from memory."""
        kernel = isinstance(self.graph.nodes[name], KernelNode)
        return self.constants.index if kernel and any(map(self.is_index, found)) else 0.0

    def is_index(self, access: NodeAccess) -> bool:
        """Whether a kernel reads numbers that say where it reads on."""
        buffer = self.graph.buffers.get(access.buffer)
        return not access.write and buffer is not None and buffer.dtype in _INTEGERS

    def gathered(self, found: Sequence[NodeAccess]) -> list[NodeAccess]:
        """The accesses, without the rows of tables that are not read.

        A read of a whole buffer whose first extent no other buffer of the node has takes its rows by number if the node
        reads integers: as many rows as it reads integers.
        """
        buffers = self.graph.buffers
        count = sum(self.size([a]) // buffers[a.buffer].dtype.itemsize for a in found if self.is_index(a))
        return [self.rows(access, found, count) if count else access for access in found]

    def rows(self, access: NodeAccess, others: Sequence[NodeAccess], count: int) -> NodeAccess:
        """A read of a table, of that many rows; any other access as it is."""
        buffer = self.graph.buffers.get(access.buffer)
        if access.write or buffer is None or access.bytes != ByteSet(0, buffer.size) or len(buffer.shape) < 2:
            return access
        names = {other.buffer for other in others} - {access.buffer}
        shared = any(buffer.shape[0] in self.graph.buffers[name].shape for name in names & self.graph.buffers.keys())
        if shared or count >= buffer.shape[0]:
            return access
        return replace(access, bytes=ByteSet(0, buffer.size // buffer.shape[0] * count))

    def ready(self, name: str) -> tuple[float, float]:
        """When the sources are complete and seen, and how much of the ramp loads before the wait can hide."""
        ready, hides = 0.0, 0.0
        for dependency in self.graph.incoming(name):
            programmatic = dependency.kind is DependencyKind.PROGRAMMATIC
            cost = self.constants.programmatic if programmatic else self.constants.full
            at = self.nodes[dependency.source].end + cost
            if at > ready:
                ready, hides = at, self.hides(dependency.source) if programmatic else 0.0
        return ready, hides

    def hides(self, source: str) -> float:
        """How much of the ramp a node can hide behind a source, by where that triggers."""
        node = self.graph.nodes[source]
        if not isinstance(node, KernelNode):
            return 0.0
        kernel = self.graph.kernels[node.kernel]
        places = list(_trigger_places(kernel))
        if not places or all(works for _, works in places):
            return 0.0
        if any(first for first, _ in places):
            return 1.0
        return 1.0 - self.constants.late_trigger / self.constants.ramp

    def room(self, name: str) -> int:
        """Bytes that fit where a node's CTAs keep what they load before the wait."""
        node = self.graph.nodes[name]
        if not isinstance(node, KernelNode):
            return 0
        launch = node.launch
        a_cta = launch.shared_bytes or math.prod(launch.block) * self.constants.registers_a_thread
        return a_cta * min(math.prod(launch.grid), 2 * self.constants.multiprocessors)

    def bandwidth(self, name: str) -> float:
        """What a node can read a second: bulk copies into rings are faster than loads into registers."""
        node = self.graph.nodes[name]
        loads = isinstance(node, KernelNode) and not node.launch.shared_bytes
        return self.constants.of_registers if loads else self.constants.bandwidth

    def spread(self, name: str) -> int:
        """How many multiprocessors a node runs on."""
        node = self.graph.nodes[name]
        launch = node.launch if isinstance(node, KernelNode) else Launch((self.constants.multiprocessors, 1, 1))
        return min(math.prod(launch.grid), self.constants.multiprocessors)

    def size(self, found: Iterable[NodeAccess]) -> int:
        """Bytes that are touched, each counted once."""
        ranges: dict[str, list[tuple[int, int]]] = {}
        strided: dict[tuple[str, ByteSet], int] = {}
        for access in found:
            start, stop = self.value(access.bytes, stop=False), self.value(access.bytes, stop=True)
            if access.bytes.levels:
                count = math.prod(count for count, _ in access.bytes.levels)
                strided[access.allocation, access.bytes] = count * access.bytes.run
            elif stop > start:
                ranges.setdefault(access.allocation, []).append((start, stop))
        return sum(strided.values()) + sum(map(_union, ranges.values()))

    def value(self, found: ByteSet, *, stop: bool) -> int:
        terms = found.stop_terms if stop else found.start_terms
        return (found.stop if stop else found.start) + sum(self.symbol(name) * factor for name, factor in terms)

    def symbol(self, name: str) -> int:
        """The value of ``%buffer[index]``, whichever version of it."""
        buffer, _, rest = name.removeprefix("%").partition("[")
        index = int(rest.partition("]")[0] or 0)
        if buffer in self.values and index < len(self.values[buffer]):
            return int(self.values[buffer][index])
        known = self.graph.buffers.get(buffer)
        low, high = (known.bounds if known is not None else None) or (0, 0)
        return (low + high) // 2


def _union(ranges: list[tuple[int, int]]) -> int:
    total, end = 0, -1
    for start, stop in sorted(ranges):
        total += max(0, stop - max(start, end))
        end = max(end, stop)
    return total


def _trigger_places(kernel: Kernel) -> Iterator[tuple[bool, bool]]:
    """For each trigger: whether nothing comes before it in its role, and whether a phase after the wait does."""
    late = late_steps(kernel)
    for role, position, step in kernel.steps():
        if isinstance(step, Trigger):
            before = enumerate(role.steps[:position])
            works = any(isinstance(other, Phase) and late[role.name, i] for i, other in before)
            yield position == 0, works
