"""The graphs of the fake driver: nodes are kept as they were added, and run in their order when launched."""

# ruff: noqa: N802 - the driver's names

from __future__ import annotations

import ctypes
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from cuda.bindings import driver as real

from forerun.runtime.cuda.codegen.condition import CONDITION_ENTRY
from forerun.runtime.cuda.codegen.hand_over import HAND_OVER_COPIES, HAND_OVER_ENTRY
from forerun.runtime.cuda.codegen.saved_state import SAVE_ENTRY, SAVE_WORDS
from forerun.runtime.cuda.codegen.stamp import STAMP_ENTRY
from forerun.runtime.cuda.driver import nodeparams

R = real.CUresult
OK = R.CUDA_SUCCESS
BAD = R.CUDA_ERROR_INVALID_VALUE
KERNEL, COPY, FILL, HOST, CHILD, EMPTY, CONDITIONAL = 0, 1, 2, 3, 4, 5, 13
_HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


_WORK = struct.Struct(f"<QQII{4 * HAND_OVER_COPIES}Q")

CLOCK = count(1_000_000, 800)
"""The GPU's clock, in nanoseconds: each look is 800 later."""

INTERPRETERS: list[tuple[int, Callable[..., None]]] = []
"""How many parameters a kernel has, and what it does with their words."""


@dataclass
class Node:
    """A node of a graph: its parameters as bytes, and whom it comes after: ``(handle, type, port)``."""

    handle: int
    params: bytes
    after: list[tuple[int, int, int]]
    words: tuple[int, ...] = ()
    bodies: list[int] = field(default_factory=list)
    entry: str = ""
    run: Callable[..., None] | None = None
    attributes: list[Any] = field(default_factory=list)

    @property
    def kind(self) -> int:
        return int.from_bytes(self.params[:4], "little")

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack_from(self.params, 16)


class FakeGraphs(ABC):
    """Graphs, executables, and the functions that their nodes launch."""

    def __init__(self) -> None:
        self.sticky: Any = None
        self.kernels: dict[str, Callable[..., None]] = {}
        """What kernels do instead of what they should, by the name of their entry."""
        self.launches: list[int] = []
        self.graphs: dict[int, list[Node]] = {}
        self.owned_graphs: set[int] = set()
        self.executables: dict[int, list[Node]] = {}
        self.modules: dict[int, tuple[bytes, dict[int, str]]] = {}
        self.conditions: dict[int, int] = {}
        self.numbers = count(0x1000, 0x10)
        self.waiting: list[threading.Thread] = []
        self.failures: list[BaseException] = []
        self._body_arrays: list[Any] = []

    @abstractmethod
    def inside(self, address: int, size: int) -> bool:
        """Whether bytes belong to an allocation that lives."""

    def cuGraphCreate(self, flags: int) -> Any:
        handle = next(self.numbers)
        self.graphs[handle] = []
        return OK, handle

    def cuGraphDestroy(self, graph: int) -> Any:
        return drop(self.graphs, graph)

    def cuGraphAddNode(self, graph: int, sources: list[int], edges: list[Any], number: int, params: Any) -> Any:
        nodes = self.graphs[graph]
        known = {node.handle for node in nodes}
        if len(sources) != number or len(edges) != number or not known.issuperset(sources):
            return BAD, None
        where = params.getPtr()
        after = [(s, int(e.type), int(e.from_port)) for s, e in zip(sources, edges, strict=True)]
        node = Node(next(self.numbers), ctypes.string_at(where, nodeparams.SIZE), after)
        programmatic = {source for source, kind, _ in after if kind}
        if programmatic and {KERNEL} != {node.kind, *(one.kind for one in nodes if one.handle in programmatic)}:
            return BAD, None
        if node.kind == KERNEL:
            self._capture(node)
        elif node.kind == CHILD:
            (child, _) = node.unpack(nodeparams._CHILD)
            node.bodies = [next(self.numbers)]
            self.graphs[node.bodies[0]] = list(self.graphs[child])
        elif node.kind == CONDITIONAL:
            self._make_bodies(node, where)
        self.owned_graphs.update(node.bodies)
        nodes.append(node)
        return OK, node.handle

    def _capture(self, node: Node) -> None:
        function, *_, parameters, _, _, _ = node.unpack(nodeparams._KERNEL)
        node.entry, length, node.run = self._function(function)
        pointers = (ctypes.c_uint64 * length).from_address(parameters)
        if node.entry == HAND_OVER_ENTRY:  # its one parameter is a structure
            node.words = _WORK.unpack(ctypes.string_at(pointers[0], _WORK.size))
            return
        node.words = tuple(ctypes.c_uint64.from_address(pointer).value for pointer in pointers)

    def _make_bodies(self, node: Node, where: int) -> None:
        _, _, number, _, _ = node.unpack(nodeparams._CONDITIONAL)
        node.bodies = [next(self.numbers) for _ in range(number)]
        self.graphs.update((body, []) for body in node.bodies)
        array = (ctypes.c_uint64 * number)(*node.bodies)
        self._body_arrays.append(array)
        ctypes.c_uint64.from_address(where + nodeparams.BODIES_AT).value = ctypes.addressof(array)

    def cuGraphKernelNodeSetAttribute(self, node: int, kind: Any, value: Any) -> Any:
        found = next(n for nodes in self.graphs.values() for n in nodes if n.handle == node)
        found.attributes.append(kind)
        return (OK,)

    def cuGraphConditionalHandleCreate(self, graph: int, context: int, value: int, flags: int) -> Any:
        handle = next(self.numbers)
        self.conditions[handle] = value
        return OK, handle

    def cuGraphInstantiateWithParams(self, graph: int, params: Any) -> Any:
        handle = next(self.numbers)
        self.executables[handle] = list(self.graphs[graph])
        return OK, handle

    def cuGraphExecNodeSetParams(self, executable: int, handle: int, params: Any) -> Any:
        nodes = self.executables.get(executable, [])
        at = next((i for i, node in enumerate(nodes) if node.handle == handle), None)
        if at is None or nodes[at].kind != KERNEL:
            return (BAD,)
        new = replace(nodes[at], params=ctypes.string_at(params.getPtr(), nodeparams.SIZE))
        self._capture(new)
        nodes[at] = new
        return (OK,)

    def cuGraphExecDestroy(self, executable: int) -> Any:
        return drop(self.executables, executable)

    def cuGraphUpload(self, executable: int, stream: int) -> Any:
        return (OK,) if executable in self.executables and stream in self.streams else (BAD,)

    def cuGraphLaunch(self, executable: int, stream: int) -> Any:
        if executable not in self.executables:
            return (BAD,)
        self.launches.append(stream)
        nodes = self.executables[executable]
        if self.waiting or any(node.entry == HAND_OVER_ENTRY for node in nodes):
            self._start(list(nodes))
        else:
            self._run(nodes)
        return (OK,) if self.sticky is None else (self.sticky,)

    def _start(self, nodes: list[Node]) -> None:
        """Run the nodes on a thread of their own, after those that were launched before: they wait for the host."""
        before = self.waiting[-1:]

        def run() -> None:
            for thread in before:
                thread.join()
            try:
                self._run(nodes)
            except BaseException as error:
                self.failures.append(error)

        self.waiting.append(threading.Thread(target=run, name="fake device", daemon=True))
        self.waiting[-1].start()

    def is_idle(self) -> bool:
        """Whether all that was launched is over."""
        return not any(thread.is_alive() for thread in self.waiting)

    def join(self) -> None:
        """Wait for all that was launched."""
        for thread in self.waiting:
            thread.join(timeout=20)
            assert not thread.is_alive(), "the device waits for ever"
        self.waiting.clear()
        if self.failures:
            raise self.failures.pop()

    def _run(self, nodes: list[Node]) -> None:
        for node in nodes:
            {
                KERNEL: self._kernel,
                COPY: self._memcpy,
                FILL: self._memset,
                HOST: self._host,
            }.get(node.kind, self._bodies)(node)

    def _kernel(self, node: Node) -> None:
        run = self.kernels.get(node.entry, node.run)
        assert run is not None
        run(*node.words)

    def _set_condition(self, handle: int, address: int, size: int, signed: int, bodies: int) -> None:
        assert self.inside(address, size)
        value = int.from_bytes(ctypes.string_at(address, size), "little", signed=bool(signed))
        chosen = value if 0 <= value < bodies else bodies
        self.conditions[handle] = chosen if bodies else int(value != 0)

    def _stamp(self, place: int) -> None:
        assert self.inside(place, 8)
        ctypes.c_uint64.from_address(place).value = next(CLOCK)

    def _hand_over(self, called: int, answer: int, before: int, after: int, *copies: int) -> None:
        """As the kernel does it: ``hand_over.py``."""
        assert self.inside(called, 4)
        assert self.inside(answer, 4)
        for number in range(before + after):
            if number == before:
                self._wait_for_host(called, answer)
            source, to, size, times = copies[4 * number : 4 * number + 4]
            assert self.inside(source, size)
            assert self.inside(to, size)
            ctypes.memmove(to, source, size)
            if times:
                self._stamp(times)
                self._stamp(times + 8)
        if not after:
            self._wait_for_host(called, answer)

    def _wait_for_host(self, called: int, answer: int) -> None:
        ctypes.c_uint32.from_address(called).value = 1
        word = ctypes.c_uint32.from_address(answer)
        while not word.value and self.sticky is None:
            time.sleep(1e-5)
        word.value = 0

    def _save_state(self, table: int, moved: int, count: int, arrived: int, failed: int, put_back: int) -> None:
        """As the kernel does it: ``saved_state.py``."""
        if put_back or ctypes.c_uint32.from_address(failed).value:
            self._move_state(table, moved, count, put_back=True)
        if not put_back:
            self._move_state(table, moved, count, put_back=False)

    def _move_state(self, table: int, moved: int, count: int, *, put_back: bool) -> None:
        for i in range(count):
            row = (ctypes.c_int64 * SAVE_WORDS).from_address(table + 8 * SAVE_WORDS * i)
            live, saved, size, element, element_bytes, stride, low, high = row
            where = ctypes.c_int64.from_address(moved + 8 * i)
            if not put_back:
                text = ctypes.string_at(element, abs(element_bytes)) if element else b""
                where.value = stride * int.from_bytes(text, "little", signed=element_bytes < 0)
            begin = live + where.value
            first, last = max(begin, low), min(begin + size, high)
            if first < last:
                ends = saved + first - begin, first
                assert all(self.inside(end, last - first) for end in ends)
                ctypes.memmove(*(reversed(ends) if put_back else ends), last - first)

    def _memcpy(self, node: Node) -> None:
        fields = node.unpack(nodeparams._COPY)
        (source, source_pitch), (destination, destination_pitch) = (_end(fields[3:14]), _end(fields[14:25]))
        width, rows, depth = fields[25:]
        assert depth == 1
        for row in range(rows):
            to, start = destination + row * destination_pitch, source + row * source_pitch
            assert self.inside(to, width)
            ctypes.memmove(to, start, width)

    def _memset(self, node: Node) -> None:
        address, pitch, value, size, width, rows, _ = node.unpack(nodeparams._FILL)
        for row in range(rows):
            assert self.inside(address + row * pitch, width * size)
            ctypes.memmove(address + row * pitch, value.to_bytes(size, "little") * width, width * size)

    def _host(self, node: Node) -> None:
        function, argument = node.unpack(nodeparams._HOST)
        _HostFunction(function)(argument)

    def _bodies(self, node: Node) -> None:
        if node.kind == CHILD:
            self._run(self.graphs[node.bodies[0]])
        elif node.kind == CONDITIONAL:
            handle, kind, number, _, _ = node.unpack(nodeparams._CONDITIONAL)
            for body in self._chosen(handle, kind, number):
                self._run(self.graphs[node.bodies[body]])

    def _chosen(self, handle: int, kind: int, number: int) -> Iterator[int]:
        if kind == 1:
            while self.conditions[handle]:
                yield 0
        elif kind == 2:
            yield from [self.conditions[handle]] if self.conditions[handle] < number else []
        elif self.conditions[handle]:
            yield 0
        elif number == 2:
            yield 1

    def _function(self, handle: int) -> tuple[str, int, Callable[..., None]]:
        """Name, number of parameters, and what it does."""
        image, functions = next(module for module in self.modules.values() if handle in module[1])
        if functions[handle] == CONDITION_ENTRY:
            return CONDITION_ENTRY, 5, self._set_condition
        if functions[handle] == STAMP_ENTRY:
            return STAMP_ENTRY, 1, self._stamp
        if functions[handle] == HAND_OVER_ENTRY:
            return HAND_OVER_ENTRY, 1, self._hand_over
        if functions[handle] == SAVE_ENTRY:
            return SAVE_ENTRY, 6, self._save_state
        return functions[handle], *INTERPRETERS[int(image)]


def drop(table: Any, handle: int) -> Any:
    """Take a handle out of a table."""
    if handle not in table:
        return (BAD,)
    if isinstance(table, set):
        table.remove(handle)
    else:
        del table[handle]
    return (OK,)


def _end(fields: tuple[int, ...]) -> tuple[int, int]:
    """Address and pitch of an end of a copy."""
    _, _, _, _, kind, host, device, _, _, pitch, _ = fields
    assert (kind, bool(host), bool(device)) in ((1, True, False), (2, False, True))
    return host or device, pitch
