"""Makes the code of the kernels of a captured graph that are to do something else than before."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel, Role
from forerun.ir.nodes import KernelNode
from forerun.runtime.cuda.capture.assembled import MadeCode
from forerun.runtime.cuda.capture.known_code import known_code
from forerun.runtime.cuda.capture.session import LiveCapture
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.toolchain.compile import processors

__all__ = ["CodeMaker", "CodeOfNodes"]


@dataclass(frozen=True)
class CodeOfNodes:
    """What changed kernels became.

    Attributes:
        made: The code, by the kernel's name in the graph.
        unfit: Why functions can have no such code, by their number in the captured graph.
    """

    made: Mapping[str, MadeCode]
    unfit: Mapping[int, str]


_Body = tuple[int, tuple[Role, ...] | None, bool]
"""The number of a function, what it is to do, and whether it prefetches what it may load early.

Kernels of different graphs have the same names for other bodies.
"""


class CodeMaker:
    """Makes the code of changed kernels, each body of a function once.

    Args:
        live: The captured graph.
        before: What it was imported as.
        names: The nodes' names, in the order of the captured ones.
    """

    def __init__(self, live: LiveCapture, before: Graph, names: tuple[str, ...]) -> None:
        self.live = live
        self.before = before
        self.names = names
        self._multiprocessors = _multiprocessors(live.driver)
        self._made: dict[_Body, MadeCode | str] = {}

    def prepare(self, graphs: Iterable[tuple[Graph, Collection[int]]]) -> None:
        """Make the code of all kernels of some graphs that have another body than before, all processors at once.

        Args:
            graphs: The graphs, and the functions that prefetch what they may load early.
        """
        changed = (one for graph, prefetching in graphs for one in self._changed(graph, prefetching))
        wanted = {key: own for _, key, own in changed if key not in self._made}
        with ThreadPoolExecutor(processors()) as workers:
            made = workers.map(lambda key: self._make(*wanted[key], prefetches=key[2]), wanted)
            self._made |= zip(wanted, made, strict=True)

    def code(self, graph: Graph, prefetching: Collection[int] = ()) -> CodeOfNodes:
        """The code of the kernels of a graph that have another body than before.

        Args:
            graph: The graph.
            prefetching: The functions that prefetch what they may load early.
        """
        self.prepare([(graph, prefetching)])
        found = {name: (key[0], self._made[key]) for name, key, _ in self._changed(graph, prefetching)}
        made = {name: code for name, (_, code) in found.items() if isinstance(code, MadeCode)}
        return CodeOfNodes(made, {number: code for number, code in found.values() if isinstance(code, str)})

    def _changed(self, graph: Graph, prefetching: Collection[int]) -> Iterator[tuple[str, _Body, tuple[int, Kernel]]]:
        """The kernels with another body: their names, their bodies, and a node of each."""
        for number, name in enumerate(self.names):
            node = graph.nodes[name]
            if isinstance(node, KernelNode) and node != self.before.nodes[name]:
                kernel, function = graph.kernels[node.kernel], self.live.graph.nodes[number].function
                yield node.kernel, (function, kernel.roles, function in prefetching), (number, kernel)

    def _make(self, number: int, kernel: Kernel, *, prefetches: bool) -> MadeCode | str:
        graph = self.live.graph
        node = graph.nodes[number]
        function = graph.function_of(node)
        text, image = graph.texts[function.text], graph.images[function.image]
        assembler, count = self.live.assemblers[function.text], self._multiprocessors
        return known_code(text, assembler, kernel, function, image, node, count, prefetches=prefetches)


def _multiprocessors(driver: Driver) -> int:
    kind = driver.api.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
    return int(driver.call("cuDeviceGetAttribute", kind, driver.call("cuCtxGetDevice")))
