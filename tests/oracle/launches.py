"""What the phases of one launch read, compute and store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from struct import pack
from typing import TypeAlias

from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.kernel import Access, BufferParameter, Phase
from forerun.ir.nodes import BufferArgument, ConstantArgument, KernelNode, ScalarLoad
from forerun.ir.region import Region
from tests.oracle.memory import Memory, Where, mixed, number_in, spelled

__all__ = ["Launched", "Store", "Values"]

Values: TypeAlias = dict[tuple[str, int], int]
"""The value of some bytes, by allocation and place."""


@dataclass
class Store:
    """What is stored where."""

    parts: list[tuple[Where, tuple[int, ...]]] = field(default_factory=list)

    def perform(self, memory: Memory) -> None:
        """Store it."""
        for where, values in self.parts:
            memory.write(where, values)


class Launched:
    """One launch of a kernel with a body.

    Args:
        graph: The graph with the tables.
        node: The node.
        memory: What it reads.
        stands_for: For a node that stands for others: what these store, given what it has read so far.
    """

    def __init__(
        self, graph: Graph, node: KernelNode, memory: Memory, stands_for: Callable[[Values], Store] | None = None
    ) -> None:
        self.graph, self.memory, self.stands_for = graph, memory, stands_for
        self.arguments = dict(node.arguments)
        self.partial = {name for name, argument in node.arguments if getattr(argument, "partial", False)}
        self.name = node.name
        self.locals: dict[str, int] = {}
        self.seen: Values = {}
        self.dims: dict[str, int] = {}
        for parameter in graph.kernels[node.kernel].parameters:
            argument = self.arguments.get(parameter.name)
            if isinstance(parameter, BufferParameter) and parameter.dims and isinstance(argument, BufferArgument):
                for dim, extent in zip(parameter.dims, graph.buffers[argument.buffer].shape, strict=False):
                    if isinstance(dim, str):
                        self.dims[dim] = extent

    def run(self, phase: Phase, identity: int, hidden: Sequence[Store]) -> Store:
        """Read what a phase reads, and what it stores."""
        inputs: list[object] = [identity]
        values = dict(self.dims)
        for scalar in self.scalars(phase):
            if scalar in self.arguments:
                values[scalar], found = self.scalar(scalar, hidden)
                inputs.append(found)
        for access in phase.reads:
            argument = self.arguments[access.parameter]
            assert isinstance(argument, BufferArgument)
            buffer = self.graph.buffers[argument.buffer]
            where, index = self.where(access, buffer, values)
            self.note_index(argument.buffer, index)
            inputs += [buffer.shape, index, self.read(where, hidden)]
        inputs += [self.locals[local] for local in phase.uses]
        result = mixed(*inputs)
        for number, local in enumerate(phase.defines):
            self.locals[local] = mixed(result, number, 1)
        return self.stored(phase, values, result)

    def where(self, access: Access, buffer: Buffer, values: Mapping[str, int]) -> tuple[Where, tuple[int, ...]]:
        """The bytes that an access touches: where it touches only some, those that the node's name chooses, if any."""
        where, index = self.memory.where(buffer, access.region, values)
        if access.parameter not in self.partial:
            return where, index
        step = spelled(self.name) % 3
        return Where(where.allocation, where.at[::step] if step else ()), index

    def scalars(self, phase: Phase) -> list[str]:
        """The scalars and dimensions that a phase uses, each once; the graph holds it, so its identity is its own."""
        known = self.memory.known
        if id(phase) not in known:
            symbols = [s for access in (*phase.reads, *phase.writes) for s in access.region.symbols]
            known[id(phase)] = list(dict.fromkeys([*phase.scalars, *symbols])), phase
        found: list[str] = known[id(phase)][0]
        return found

    def stored(self, phase: Phase, values: Mapping[str, int], result: int) -> Store:
        """What a phase stores; in the place of others, what these would have stored there."""
        store = Store()
        targets = list[Where]()
        for access in phase.writes:
            argument = self.arguments[access.parameter]
            assert isinstance(argument, BufferArgument)
            where, index = self.where(access, self.graph.buffers[argument.buffer], values)
            self.note_index(argument.buffer, index)
            targets.append(where)
        if self.stands_for is None:
            for number, where in enumerate(targets):
                store.parts.append((where, tuple([mixed(result, number, i) for i in range(len(where.at))])))
        elif targets:
            known = {
                (where.allocation, i): value
                for where, found in self.stands_for(self.seen).parts
                for i, value in zip(where.at, found, strict=True)
            }
            for where in targets:
                lacking = mixed(result, 99)
                store.parts.append((where, tuple([known.get((where.allocation, i), lacking) for i in where.at])))
        return store

    def scalar(self, name: str, hidden: Sequence[Store]) -> tuple[int, object]:
        """A scalar's value as an integer, and all that is to be known of it."""
        argument = self.arguments[name]
        if isinstance(argument, ConstantArgument):
            value = argument.value
            bits = pack("<d", value).hex() if isinstance(value, float) else repr(value)
            return int(value) if isinstance(value, int) else 0, spelled(f"{type(value).__name__} {bits}")
        assert isinstance(argument, ScalarLoad)
        buffer = self.graph.buffers[argument.buffer]
        start = buffer.offset + argument.index * buffer.dtype.itemsize
        where = Where(buffer.allocation, tuple(range(start, start + buffer.dtype.itemsize)))
        found = self.read(where, hidden)
        low, high = buffer.bounds or (0, 3)
        value = number_in(found, low, high) + argument.offset
        return value, (found, argument.offset)

    def read(self, where: Where, hidden: Sequence[Store]) -> tuple[int, ...]:
        """The values of some bytes, as the node itself sees them."""
        found = self.memory.read(where)
        if hidden:
            own = {
                (part.allocation, i): value
                for store in hidden
                for part, values in store.parts
                for i, value in zip(part.at, values, strict=True)
            }
            found = tuple([own.get((where.allocation, i), value) for i, value in zip(where.at, found, strict=True)])
        if self.stands_for is not None:
            for i, value in zip(where.at, found, strict=True):
                self.seen[where.allocation, i] = value
        return found

    def note_index(self, buffer: str, found: tuple[int, ...]) -> None:
        """What a node that stands for others has seen of an index."""
        index = self.graph.buffers[buffer].index
        if self.stands_for is not None and found and index is not None:
            name = getattr(index, "table", None) or index.offsets
            table = self.graph.buffers[name]
            where, _ = self.memory.where(table, Region(), {})
            for i, value in zip(where.at, found, strict=True):
                self.seen[where.allocation, i] = value
