"""What a program captured: nodes, edges, machine code, parameters and memory, as values that need no GPU.

The terms are the driver's (CUDA Driver API, "Graph Management"). Addresses are those of the process that captured.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias, get_args

from forerun.support.diagnostics import InvalidInput

__all__ = [
    "MOST_SOURCE_BYTES",
    "WRITERS",
    "AssembledText",
    "CapturedEdge",
    "CapturedFunction",
    "CapturedGraph",
    "CapturedNode",
    "HostSource",
    "MemoryRange",
    "Transfer",
    "Writers",
    "digest_of",
    "range_at",
]


def digest_of(data: bytes | str) -> str:
    """By what images and texts are told apart: the first 128 bits of their SHA-256, in hexadecimal."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class AssembledText:
    """PTX, and how it became an image.

    Attributes:
        text: The PTX.
        options: What ptxas was given besides the text and the architecture: ``--fmad=false``, say.
        assembler: The version of that ptxas, ``12.8`` for instance; empty if it is not known.
        origin: Where the text was found, for people.
    """

    text: str = field(repr=False)
    options: tuple[str, ...] = ()
    assembler: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class CapturedFunction:
    """A kernel, as it was loaded.

    Attributes:
        name: Its name in the image. Not unique: programs load other code under the same name.
        image: The digest of its image; empty if no image was seen.
        text: The digest of the PTX that assembles to the same code; empty if there is none.
        parameters: Offset and size of each parameter, in bytes.
        attributes: The function's attributes: ``max_dynamic_shared_bytes``, ``shared_carveout``, ``registers``, ...
    """

    name: str
    image: str = ""
    text: str = ""
    parameters: tuple[tuple[int, int], ...] = ()
    attributes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transfer:
    """The bytes that a copy or a fill touches: rows of ``width`` bytes, ``pitch`` bytes apart.

    Attributes:
        source: The address that is read; ``None`` for a fill.
        destination: The address that is written.
        width: Bytes of a row.
        rows: How many there are, in all dimensions together.
        extent: Bytes from the first to the last, pitches included, on the side where that is more.
        value: What a fill writes.
        element_size: Bytes of the value.
    """

    source: int | None
    destination: int
    width: int
    rows: int = 1
    extent: int = 0
    value: int = 0
    element_size: int = 1

    @property
    def is_contiguous(self) -> bool:
        """Whether it has no gaps."""
        return self.width * self.rows == self.extent


MOST_SOURCE_BYTES = 4096
"""What a copy may bring to be recorded: launch parameters, not inputs. It is what kernels take by value, too."""

Writers: TypeAlias = Literal["nobody", "program", "kernels", "processes"]
"""Who may write memory of the host, each besides those before it."""

WRITERS: tuple[Writers, ...] = get_args(Writers)


@dataclass(frozen=True, slots=True)
class HostSource:
    """What a small copy reads from the host.

    Attributes:
        contents: What was there when it was captured; or, where that was not seen, when the graph was read.
        writers: Who may write it: ``nobody``, since it is mapped read-only; the ``program``; ``kernels`` that have its
            address, since the driver gave it out; other ``processes``, since it is shared memory.
        changed: Whether something else, or nothing, was there when the graph was read, or the folder was written.
    """

    contents: bytes
    writers: Writers = "program"
    changed: bool = False


@dataclass(frozen=True, slots=True)
class CapturedNode:
    """A node.

    Attributes:
        kind: As the driver calls it: ``kernel``, ``memcpy``, ``memset``, ``host``, ``graph``, ``empty``, ...
        function: Of a kernel: its number in :attr:`CapturedGraph.functions`.
        grid: CTAs in x, y and z.
        block: Threads of a CTA in x, y and z.
        shared_bytes: Dynamic shared memory a CTA.
        parameters: The bytes of each parameter.
        attributes: Launch attributes that are not as they are by default: ``cooperative``, ``cluster``, ``priority``.
        transfer: Of a copy or a fill.
        body: Of a child graph.
        unsupported: Why the node cannot be made again, a sentence each.
    """

    kind: str
    function: int = -1
    grid: tuple[int, int, int] = (1, 1, 1)
    block: tuple[int, int, int] = (1, 1, 1)
    shared_bytes: int = 0
    parameters: tuple[bytes, ...] = ()
    attributes: Mapping[str, int] = field(default_factory=dict)
    transfer: Transfer | None = None
    body: CapturedGraph | None = None
    unsupported: tuple[str, ...] = ()

    def pointers(self) -> Iterator[tuple[int, int, int]]:
        """What may be an address: the parameter's number, the offset in it, the value. Structs are looked through."""
        for number, data in enumerate(self.parameters):
            for at in range(0, len(data) - 7, 8):
                yield number, at, int.from_bytes(data[at : at + 8], "little")


@dataclass(frozen=True, slots=True)
class CapturedEdge:
    """An edge.

    Attributes:
        source: The number of a node.
        target: The number of a node.
        kind: ``full``, ``programmatic``, or ``other``, which nothing is known of.
        from_port: 0 is completion, 1 the trigger, 2 the start (``CU_GRAPH_KERNEL_NODE_PORT_...``).
        to_port: 0, in all versions up to 13.
    """

    source: int
    target: int
    kind: str = "full"
    from_port: int = 0
    to_port: int = 0


@dataclass(frozen=True, slots=True)
class MemoryRange:
    """Memory that pointers of the program point into.

    Attributes:
        address: The first byte.
        size: Bytes.
        kind: ``device``; ``host``, ``managed``: memory that others may write at any time; ``free``: what an allocator
            has given to nobody.
        name: What it is called in dumps; empty for a number.
        whole: Whether it is all that the driver allocated there; otherwise a block of an allocator.
    """

    address: int
    size: int
    kind: str = "device"
    name: str = ""
    whole: bool = True

    @property
    def stop(self) -> int:
        """The first address behind it."""
        return self.address + self.size

    def __contains__(self, address: int) -> bool:
        return self.address <= address < self.stop


def range_at(ranges: Sequence[MemoryRange], address: int) -> MemoryRange | None:
    """The range around an address, of ranges by address that do not overlap; ``None`` if it lies in none."""
    at = bisect_right(ranges, address, key=lambda memory: memory.address) - 1
    return ranges[at] if at >= 0 and address in ranges[at] else None


@dataclass(frozen=True)
class CapturedGraph:
    """A graph that a program captured.

    Attributes:
        nodes: In the order of the driver's list, which is that of their creation.
        edges: Between them.
        functions: The kernels.
        images: Machine code, by digest.
        texts: PTX, by digest of the text.
        memory: What pointers of the nodes point into, by address; ranges do not overlap.
        machine: The GPU, the driver and what captured, for people.
        remarks: What is missing, a sentence each.
        host_sources: What small copies read from the host, by the number of the node; not of child graphs.
    """

    nodes: tuple[CapturedNode, ...]
    edges: tuple[CapturedEdge, ...] = ()
    functions: tuple[CapturedFunction, ...] = ()
    images: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    texts: Mapping[str, AssembledText] = field(default_factory=dict, repr=False)
    memory: tuple[MemoryRange, ...] = ()
    machine: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    host_sources: Mapping[int, HostSource] = field(default_factory=dict, repr=False)

    def function_of(self, node: CapturedNode) -> CapturedFunction:
        """The kernel that a kernel node launches."""
        return self.functions[node.function]

    def memory_at(self, address: int) -> MemoryRange | None:
        """The range around an address; ``None`` if it lies in none."""
        return range_at(self.memory, address)

    def all_nodes(self) -> Iterator[CapturedNode]:
        """Its nodes, each followed by those of its child graph."""
        for node in self.nodes:
            yield node
            if node.body is not None:
                yield from node.body.all_nodes()

    def with_functions(self, functions: tuple[CapturedFunction, ...]) -> CapturedGraph:
        """The graph with other functions, which those of child graphs are, too."""
        nodes = tuple(
            node if node.body is None else replace(node, body=node.body.with_functions(functions))
            for node in self.nodes
        )
        return replace(self, nodes=nodes, functions=functions)

    def launch_order(self) -> list[int]:
        """The numbers of the nodes, each after those that it depends on, as they were captured where there is a choice.

        Raises:
            InvalidInput: If the edges have a cycle.
        """
        import networkx as nx

        topology: nx.DiGraph[int] = nx.DiGraph()
        topology.add_nodes_from(range(len(self.nodes)))
        topology.add_edges_from((edge.source, edge.target) for edge in self.edges)
        try:
            return list(nx.lexicographical_topological_sort(topology))
        except nx.NetworkXUnfeasible as error:
            raise InvalidInput("the edges of the captured graph have a cycle", hint="capture it again") from error

    @cached_property
    def kinds(self) -> Mapping[str, int]:
        """How many nodes there are of each kind."""
        return Counter(node.kind for node in self.nodes)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        edges = Counter(edge.kind for edge in self.edges)
        opened = sum(bool(node.function >= 0 and self.function_of(node).text) for node in self.nodes)
        joined = ", ".join(f"{count} {kind}" for kind, count in sorted(edges.items()))
        return f"{len(self.nodes)} nodes ({kinds}), edges: {joined or 'none'}; PTX of {opened} nodes"
