"""Checks of a graph's accesses on the GPU: the code of each node counts in a table where its summary is wrong."""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from forerun.captured import CapturedNode, MemoryRange
from forerun.external.node_texts import NodeText, assemble_all
from forerun.external.subject import Subject
from forerun.external.trials import Trials
from forerun.ir.nodes import BufferArgument, KernelNode
from forerun.ptx.check_table import Block, Instrumented, Root, TableReport
from forerun.ptx.instrument import instrument
from forerun.runtime.cuda.capture.clone import Clone, NodeCode
from forerun.support.diagnostics import Unsupported

__all__ = ["CheckedNode", "Checks"]


@dataclass(frozen=True)
class CheckedNode:
    """A node with checks: its code, and where its table lies among all."""

    instrumented: Instrumented
    code: bytes
    offset: int


class Checks:
    """A graph whose nodes check their accesses.

    Attributes:
        nodes: Those that do, by name.
        kept: Why other kernel nodes do not.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.nodes: dict[str, CheckedNode] = {}
        self.kept = dict(subject.texts.kept)
        texts = subject.texts.texts
        checked = self._instrumented(texts)
        codes = assemble_all([(texts[name], one.text) for name, one in checked.items()])
        self._bytes = 0
        for (name, one), code in zip(checked.items(), codes, strict=True):
            if isinstance(code, str):
                self.kept[name] = code
            else:
                self.nodes[name] = CheckedNode(one, code, self._bytes)
                self._bytes += -(-one.table_bytes // 16) * 16
        self._address = 0

    def _instrumented(self, texts: Mapping[str, NodeText]) -> Mapping[str, Instrumented]:
        made: dict[tuple[str, str], Instrumented | str] = {}
        for one in texts.values():
            if (one.entry, one.text) not in made:
                try:
                    made[one.entry, one.text] = instrument(one.text, one.entry)
                except Unsupported as error:
                    made[one.entry, one.text] = str(error)
        found = {name: made[one.entry, one.text] for name, one in texts.items()}
        self.kept |= {name: one for name, one in found.items() if isinstance(one, str)}
        return {name: one for name, one in found.items() if isinstance(one, Instrumented)}

    def clone(self, trials: Trials) -> Clone:
        """A clone in which they run, with tables that count from nothing.

        Raises:
            CudaError: If the driver fails.
        """
        driver = self.subject.live.driver
        self._address = int(trials.scope.own("memory", driver.call("cuMemAlloc", max(self._bytes, 16)), "cuMemFree"))
        tables = bytearray(self._bytes)
        names = {name: number for number, name in enumerate(self.subject.imported.names)}
        for name, one in self.nodes.items():
            captured = self.subject.live.graph.nodes[names[name]]
            table = one.instrumented.table(self._blocks(name, one.instrumented, captured))
            tables[one.offset : one.offset + len(table)] = table
        data = (ctypes.c_uint8 * max(self._bytes, 1)).from_buffer(tables or bytearray(1))
        driver.call("cuMemcpyHtoD", self._address, ctypes.addressof(data), max(self._bytes, 1))
        codes = {name: NodeCode(one.code, (self._address + one.offset,)) for name, one in self.nodes.items()}
        return trials.clone(self.subject.graph, {**self.subject.codes, **codes})

    def _blocks(self, name: str, one: Instrumented, captured: CapturedNode) -> Mapping[Root, Block]:
        """The memory that a node's pointers may reach: the parts that the import claims, or else the blocks around.

        There is none for what no block of the capture is around.
        """
        found = dict(self._claimed(name, one))
        for root in one.roots:
            data = captured.parameters[one.parameters.index(root.parameter)][root.offset :][:8]
            memory = _around(self.subject.live.graph.memory, int.from_bytes(data, "little"))
            if memory is not None and memory.kind != "free":
                found.setdefault(root, Block(memory.address, memory.size))
        return found

    def _claimed(self, name: str, one: Instrumented) -> Iterator[tuple[Root, Block]]:
        """The bytes that a node reaches through each pointer parameter, as the certificate has them."""
        imported = self.subject.imported
        node, base = imported.graph.nodes[name], imported.captured.memory[:1]
        arguments = dict(node.arguments) if isinstance(node, KernelNode) else {}
        for root in one.roots:
            argument = arguments.get(f"p{one.parameters.index(root.parameter)}")
            if base and not root.offset and isinstance(argument, BufferArgument):
                buffer = imported.graph.buffers[argument.buffer]
                yield root, Block(base[0].address + buffer.offset, buffer.stop - buffer.offset)

    def reports(self) -> Mapping[str, TableReport]:
        """What the tables say, by the nodes' names. All replays must be complete."""
        data = (ctypes.c_uint8 * max(self._bytes, 1))()
        driver = self.subject.live.driver
        driver.call("cuMemcpyDtoH", ctypes.addressof(data), self._address, max(self._bytes, 1))
        tables = bytes(data)
        found = {}
        for name, one in self.nodes.items():
            found[name] = one.instrumented.report(tables[one.offset : one.offset + one.instrumented.table_bytes])
        return found


def _around(memory: tuple[MemoryRange, ...], address: int) -> MemoryRange | None:
    at = bisect_right([one.address for one in memory], address) - 1
    return memory[at] if at >= 0 and address in memory[at] else None
