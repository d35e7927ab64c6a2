"""The checker on large graphs: 1,000 nodes with 5,000 accesses, and 10,000 nodes.

The graphs are chains of layers like those of a decoder, with early loads, programmatic edges and an arena that is used
again and again. Every round gets a graph of its own, of which nothing is known yet. Run from the repository's root:
``python -m benchmarks.checker``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import Metric, bootstrap_median, timed, write_result

from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role, Trigger, Wait
from forerun.ir.nodes import BufferArgument, KernelNode
from forerun.ir.semantics import accesses, check
from forerun.ir.types import BufferRole, DependencyKind, DType

__all__ = ["layered"]

_WIDTH = 576
_SLOTS = 12


def layered(nodes: int) -> Graph:
    """A proved graph of that many kernel nodes with five accesses each.

    Node i loads its weight ahead of the wait, then reads what the two nodes before it wrote, and writes one of twelve
    slots of an arena and a row of its own.
    """
    size = 4 * _WIDTH
    allocations = [Allocation("arena", _SLOTS * size), Allocation("rows", nodes * size), Allocation("w", nodes * size)]
    slots = [Buffer(f"t{i}", DType.F32, (_WIDTH,), BufferRole.TEMP, "arena", i * size) for i in range(_SLOTS)]
    rows = [Buffer(f"r{i}", DType.F32, (_WIDTH,), BufferRole.STATE, "rows", i * size) for i in range(nodes)]
    weights = [Buffer(f"w{i}", DType.F32, (_WIDTH,), BufferRole.WEIGHT, "w", i * size) for i in range(nodes)]
    names = ("w", "a", "b", "y", "r")
    steps = (
        Phase("load", (Access("w"),), defines=("tile",)),
        Wait(),
        Trigger(),
        Phase("work", (Access("a"), Access("b")), (Access("y"), Access("r")), uses=("tile",)),
    )
    kernel = Kernel("layer", tuple(BufferParameter(n, DType.F32, ("N",)) for n in names), (Role("main", steps),))
    first = Kernel("first", kernel.parameters[3:], (Role("main", (Phase("fill", (), (Access("y"), Access("r"))),)),))
    found = []
    for i in range(nodes):
        bound = [f"w{i}", f"t{(i - 1) % _SLOTS}", f"t{(i - 2) % _SLOTS}", f"t{i % _SLOTS}", f"r{i}"]
        arguments = tuple((n, BufferArgument(b)) for n, b in zip(names, bound, strict=True))
        found.append(KernelNode(f"n{i}", "layer", arguments) if i > 1 else KernelNode(f"n{i}", "first", arguments[3:]))
    edges = [Dependency(f"n{i - 1}", f"n{i}", DependencyKind.PROGRAMMATIC) for i in range(2, nodes)]
    edges.append(Dependency("n0", "n1"))
    return Graph("layered", allocations, [*slots, *rows, *weights], [kernel, first], found, edges)


def seconds(nodes: int, rounds: int) -> list[float]:
    """Wall seconds of a check, a round an entry."""
    found = []
    for _ in range(rounds):
        graph = layered(nodes)
        found.append(timed(lambda graph=graph: check(graph)))
        assert check(graph).proved
    return found


def main() -> None:
    """Measure, and write benchmarks/results/checker.json."""
    touched = sum(map(len, accesses(layered(1000)).values()))
    assert touched >= 4990, touched
    metrics: dict[str, Metric] = {
        "checker.nodes_1000_ms": bootstrap_median([1000 * s for s in seconds(1000, 15)], "ms"),
        "checker.nodes_10000_s": bootstrap_median(seconds(10_000, 7), "s"),
    }
    write_result("checker", metrics)


if __name__ == "__main__":
    main()
