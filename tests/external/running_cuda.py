"""A driver that runs the texts of kernels on memory, and lets a kernel see what programmatic edges allow at the worst.

Code is the text itself. What a node loads before it waits is what lay there when it could start at the earliest:
behind a programmatic edge before its source ran, without an edge when the graph began. What it loads after the wait is
what the wait orders: nothing but what it could load at its start if no programmatic edge leads to it.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from forerun.ptx import parse_module, summarise
from forerun.ptx.cfg import ControlFlow, control_flow
from tests.captured.samples import BLOCKS, SIZE
from tests.ptx.running import threads_of
from tests.runtime.cuda.capture.fake import FakeCuda, Handle

__all__ = ["RunningCuda", "compiled"]

_FIRST = 0x500000000000
_COMPARE = b"count_differences"


@dataclass
class RunningMemory:
    """Blocks by their first address. Loads see old blocks, where there are any: others before and after the wait."""

    blocks: dict[int, bytearray]
    old: tuple[dict[int, bytes], dict[int, bytes]] = field(default_factory=lambda: ({}, {}))

    def base(self, address: int) -> int:
        found = max((base for base in self.blocks if base <= address), default=-1)
        assert found >= 0, f"nothing is at {address:#x}"
        assert address < found + len(self.blocks[found]), f"nothing is at {address:#x}"
        return found

    def load(self, address: int, size: int, *, waited: bool) -> int:
        base = self.base(address)
        data = self.old[waited].get(base, self.blocks[base])
        return int.from_bytes(data[address - base : address - base + size], "little")

    def store(self, address: int, size: int, value: int) -> None:
        base = self.base(address)
        self.blocks[base][address - base : address - base + size] = (value & (1 << 8 * size) - 1).to_bytes(
            size, "little"
        )

    def bytes_at(self, address: int, size: int) -> bytes:
        base = self.base(address)
        return bytes(self.blocks[base][address - base : address - base + size])

    def put(self, address: int, data: bytes) -> None:
        base = self.base(address)
        assert address + len(data) <= base + len(self.blocks[base])
        self.blocks[base][address - base : address - base + len(data)] = data


@dataclass(frozen=True)
class ReadText:
    """A kernel: the names of its parameters, what is run, and whether it always waits."""

    parameters: tuple[str, ...]
    flow: ControlFlow
    waits: bool


class RunningCuda(FakeCuda):
    """The fake driver with memory and threads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.memory = RunningMemory({address: bytearray(SIZE) for address in BLOCKS.values()})
        self.graphs: dict[int, dict[str, Any]] = {}
        self.executables: dict[int, int] = {}
        self.code: dict[int, bytes] = {}
        self.texts: dict[tuple[str, str], ReadText] = {}

    # Memory

    def cuMemAlloc(self, size: int) -> tuple[int, Handle]:  # noqa: N802
        self.next += 1
        address = _FIRST + (self.next << 24)
        self.memory.blocks[address] = bytearray(size)
        return 0, Handle(address)

    def cuMemFree(self, address: int) -> tuple[int]:  # noqa: N802
        del self.memory.blocks[int(address)]
        return (0,)

    def cuMemcpyDtoDAsync(self, to: int, source: int, size: int, stream: Any) -> tuple[int]:  # noqa: N802
        self.memory.put(int(to), self.memory.bytes_at(int(source), size))
        return (0,)

    def cuMemcpyHtoD(self, to: int, source: int, size: int) -> tuple[int]:  # noqa: N802
        self.memory.put(int(to), ctypes.string_at(source, size))
        return (0,)

    def cuMemcpyDtoH(self, to: int, source: int, size: int) -> tuple[int]:  # noqa: N802
        ctypes.memmove(to, self.memory.bytes_at(int(source), size), size)
        return (0,)

    def cuMemsetD8Async(self, to: int, value: int, size: int, stream: Any) -> tuple[int]:  # noqa: N802
        self.memory.put(int(to), bytes([value]) * size)
        return (0,)

    # Code

    def cuModuleLoadData(self, code: bytes) -> tuple[int, Handle]:  # noqa: N802
        error, module = super().cuModuleLoadData(code)
        self.code[int(module)] = code
        return error, module

    def cuModuleGetFunction(self, module: Any, name: bytes) -> tuple[int, Handle]:  # noqa: N802
        error, function = super().cuModuleGetFunction(module, name)
        self.code[int(function)] = self.code[int(module)]
        self.functions[int(function)] = name.decode(), []
        return error, function

    def cuLaunchKernel(self, function: Any, *rest: Any) -> tuple[int]:  # noqa: N802
        assert self.functions[int(function)][0].encode() == _COMPARE
        table = (ctypes.c_void_p * 4).from_address(rest[-2])
        first, second, size, count = (int.from_bytes(ctypes.string_at(place, 8), "little") for place in table)
        one, other = self.memory.bytes_at(first, size), self.memory.bytes_at(second, size)
        different = 0 if one == other else sum(a != b for a, b in zip(one, other, strict=True))
        self.memory.store(count, 8, different)
        return (0,)

    # Graphs

    def cuGraphClone(self, graph: Any) -> tuple[int, Handle]:  # noqa: N802
        error, clone = super().cuGraphClone(graph)
        edges = {(a, b): (edge.type, edge.from_port) for a, b, edge in self.edges}
        self.graphs[int(clone)] = {"edges": edges, "nodes": {node: self._own(node) for node in self.nodes}}
        return error, clone

    def _own(self, node: int) -> tuple[str, str, tuple[int, ...]]:
        """The text, the kernel and the parameters of a captured node."""
        params = self.nodes[node].params
        name, layout = self.functions[params.func]
        return self.text, name, _words(params.kernelParams, len(layout))

    def cuGraphNodeFindInClone(self, node: int, graph: Any) -> tuple[int, tuple[int, int]]:  # type: ignore[override]  # noqa: N802
        return 0, (int(graph), node)

    def cuGraphKernelNodeSetParams(self, place: tuple[int, int], params: Any) -> tuple[int]:  # noqa: N802
        graph, node = place
        text, name = self.code[int(params.func)].decode(), self.functions[int(params.func)][0]
        count = len(self._read(text, name).parameters)
        self.graphs[graph]["nodes"][node] = text, name, _words(params.kernelParams, count)
        return (0,)

    def cuGraphDestroyNode(self, place: tuple[int, int]) -> tuple[int]:  # noqa: N802
        graph, node = place
        assert all(node not in pair for pair in self.graphs[graph]["edges"])
        del self.graphs[graph]["nodes"][node]
        return (0,)

    def cuGraphRemoveDependencies(self, graph: Any, sources: Any, targets: Any, *rest: Any) -> tuple[int]:  # noqa: N802
        for source, target in zip(sources, targets, strict=True):
            del self.graphs[int(graph)]["edges"][source[1], target[1]]
        return (0,)

    def cuGraphAddDependencies(  # noqa: N802
        self, graph: Any, sources: Any, targets: Any, edges: Any, count: int
    ) -> tuple[int]:
        for source, target, _ in zip(sources, targets, edges, strict=True):
            # As the driver does: the first one's data is what all get.
            self.graphs[int(graph)]["edges"][source[1], target[1]] = edges[0].type, edges[0].from_port
        return (0,)

    def cuGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Handle]:  # noqa: N802
        error, executable = super().cuGraphInstantiate(graph, flags)
        self.executables[int(executable)] = int(graph)
        return error, executable

    def cuGraphLaunch(self, executable: Any, stream: Any) -> tuple[int]:  # noqa: N802
        graph = self.graphs[self.executables[int(executable)]]
        edges, order = graph["edges"], list(graph["nodes"])
        at_start: dict[int, set[int]] = {}  # what is complete when a node starts
        done: dict[int, set[int]] = {}  # and what is when it is complete
        before: list[dict[int, bytes]] = []
        for number, node in enumerate(order):
            before.append({base: bytes(self.memory.blocks[base]) for base in BLOCKS.values()})
            own: tuple[set[int], set[int]] = (set(), set())  # before its wait, and after it
            for (source, target), (is_programmatic, _) in edges.items():
                if target == node:
                    own[0].update(at_start[source] if is_programmatic else done[source])
                    own[1].update(done[source])
            at_start[node] = own[0]
            done[node] = (own[1] if self._read(*graph["nodes"][node][:2]).waits else own[0]) | {node}
            running = ([i for i, other in enumerate(order[:number]) if other not in found] for found in own)
            first, second = (before[min(numbers)] if numbers else {} for numbers in running)
            self.memory.old = first, second
            self._run(node, *graph["nodes"][node])
            self.memory.old = {}, {}
        return (0,)

    def _read(self, text: str, name: str) -> ReadText:
        if (text, name) not in self.texts:
            function = parse_module(text).entry(name)
            names = tuple(one.name for one in function.parameters or ())
            self.texts[text, name] = ReadText(names, control_flow(function), summarise(function).always_waits)
        return self.texts[text, name]

    def _run(self, node: int, text: str, name: str, values: tuple[int, ...]) -> None:
        found, params = self._read(text, name), self.nodes[node].params
        parameters = dict(zip(found.parameters, values, strict=True))
        threads_of(found.flow, parameters, self.memory, ctas=params.gridDimX, threads=params.blockDimX)
        self.after(node)

    def after(self, node: int) -> None:
        """What happens after a node has run: nothing. Tests put their own in its place."""


def _words(place: int, count: int) -> tuple[int, ...]:
    table = (ctypes.c_void_p * count).from_address(place)
    return tuple(int.from_bytes(ctypes.string_at(at, 8), "little") for at in table)


def compiled(*_: Any) -> SimpleNamespace:
    """In place of a compiler: the kernel that compares."""
    return SimpleNamespace(code=_COMPARE)
