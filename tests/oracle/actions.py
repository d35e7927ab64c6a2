"""What nodes without phases do to memory: copies, fills, host calls, events, allocations, black boxes."""

from __future__ import annotations

from dataclasses import dataclass

from forerun.ir.nodes import (
    AllocNode,
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
from forerun.ir.types import BufferRole
from tests.oracle.facts import is_opaque
from tests.oracle.memory import Memory, mixed, spelled

__all__ = ["Action", "acts"]

_VISIBLE = (BufferRole.INPUT, BufferRole.OUTPUT, BufferRole.STATE, BufferRole.WEIGHT, BufferRole.PARAM)
_CHANGED = (BufferRole.OUTPUT, BufferRole.STATE)


def acts(node: Node) -> bool:
    """Whether a node other than a kernel does something by itself."""
    kinds = MemcpyNode | MemsetNode | HostCallbackNode | EventRecordNode | EventWaitNode | AllocNode | FreeNode
    return isinstance(node, kinds)


@dataclass
class Action:
    """What one run of a node does, and notes in the log."""

    memory: Memory
    node: Node
    log: list[tuple[str, tuple[int, ...]]]

    def perform(self) -> None:
        """Do all that the node does, in one step."""
        node, memory = self.node, self.memory
        match node:
            case MemcpyNode():
                self.put(node.destination, self.get(node.source))
            case MemsetNode():
                width = memory.graph.buffers[node.destination.buffer].dtype.itemsize
                value = tuple(node.value.to_bytes(width, "little"))
                self.put(node.destination, value, repeated=True)
            case HostCallbackNode():
                self.call(node)
            case EventRecordNode() | EventWaitNode():
                kind = "record" if isinstance(node, EventRecordNode) else "wait"
                self.log.append((f"{kind} {node.event}", memory.snapshot(_VISIBLE)))
                self.disturb((BufferRole.INPUT, BufferRole.STATE), spelled(node.event))
            case AllocNode():
                memory.refresh(node.allocation, 1)
            case FreeNode():
                memory.dead.add(node.allocation)
            case KernelNode():
                self.black_box(node)

    def get(self, view: BufferView) -> tuple[int, ...]:
        where, index = self.memory.where(self.memory.graph.buffers[view.buffer], view.region, {})
        return (*index, *self.memory.read(where))

    def put(self, view: BufferView, values: tuple[int, ...], *, repeated: bool = False) -> None:
        where, index = self.memory.where(self.memory.graph.buffers[view.buffer], view.region, {})
        if repeated:
            values = values * (len(where.at) // max(len(values), 1))
        elif len(values) != len(where.at) or index:
            values = tuple(mixed(values, index, i) for i in range(len(where.at)))
        self.memory.write(where, values)

    def call(self, node: HostCallbackNode) -> None:
        """A host call sees and changes all that it can, unless it declares what it does."""
        reads = tuple(value for view in node.reads for value in self.get(view))
        if is_opaque(node):
            reads += self.memory.snapshot(_VISIBLE)
            self.log.append((node.function, reads))
            self.disturb(_CHANGED, spelled(node.function))
        result = mixed(spelled(node.function), reads)
        for number, view in enumerate(node.writes):
            where, _ = self.memory.where(self.memory.graph.buffers[view.buffer], view.region, {})
            self.put(view, tuple(mixed(result, number, i) for i in range(len(where.at))))

    def disturb(self, roles: tuple[BufferRole, ...], salt: int) -> None:
        """Somebody outside changes memory."""
        memory = self.memory
        for buffer in memory.graph.buffers.values():
            if buffer.role in roles and buffer.allocation not in memory.dead:
                found = memory.bytes[buffer.allocation]
                for i in range(buffer.offset, buffer.stop):
                    found[i] = mixed(found[i], salt)

    def black_box(self, node: KernelNode) -> None:
        """It reads all that it can reach, and writes some of it."""
        memory, graph = self.memory, self.memory.graph
        names = [a.buffer for _, a in node.arguments if hasattr(a, "buffer")]
        reached = list(dict.fromkeys(graph.buffers[name].allocation for name in names))
        for name in list(names):
            index = graph.buffers[name].index
            reached += [graph.buffers[getattr(index, "table", None) or index.offsets].allocation] if index else []
        identity = spelled(repr((node.kernel, node.launch, [a for a in node.arguments if not hasattr(a[1], "buffer")])))
        seen = mixed(identity, *(tuple(memory.bytes[name]) for name in reached))
        if memory.dead & set(reached):
            memory.misuses += 1
        for name in dict.fromkeys(reached):
            found = memory.bytes[name]
            for i in range(len(found)):
                if mixed(identity, spelled(name), i) % 4 == 0:
                    found[i] = mixed(seen, spelled(name), i)
