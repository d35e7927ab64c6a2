"""The checker on graphs that are hostile, or only large: many conflicts, races, columns, bodies, pointers and phases.

Every input has a number of pairs that grows with the square of its size; what the checker does with it may not. Times
are CPU seconds of one process, for a fresh graph in each round: ``verify`` and ``check``, and the explanation of the
findings that ``forerun check`` prints. Run from the repository's root: ``python -m benchmarks.bounded_work``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import Metric, bootstrap_median, write_result

from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.explain import explain
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role
from forerun.ir.nodes import BufferArgument, ChildGraphNode, KernelNode
from forerun.ir.refinement.certificate import certify
from forerun.ir.region import region
from forerun.ir.semantics import check
from forerun.ir.types import BufferRole, DType
from forerun.ir.verify import verify

__all__ = ["black_boxes", "children", "columns", "dense", "main", "phases", "races", "reordered"]

ROUNDS = 5
SHOWN = 10
"""Findings that ``forerun check`` prints."""

_ROW = 64


def _state(name: str, shape: tuple[int, ...], allocation: str = "", offset: int = 0) -> Buffer:
    return Buffer(name, DType.F32, shape, BufferRole.STATE, allocation or name, offset)


def _allocations(buffers: list[Buffer]) -> list[Allocation]:
    sizes: dict[str, int] = {}
    for buffer in buffers:
        sizes[buffer.allocation] = max(sizes.get(buffer.allocation, 0), buffer.stop)
    return [Allocation(name, size) for name, size in sizes.items()]


def _launch(name: str, kernel: str, **buffers: str) -> KernelNode:
    return KernelNode(name, kernel, tuple((parameter, BufferArgument(b)) for parameter, b in buffers.items()))


def _kernel(name: str, parameters: str, *found: Phase, dims: tuple[str, ...] | None = None) -> Kernel:
    return Kernel(name, tuple(BufferParameter(p, DType.F32, dims) for p in parameters), (Role("main", found),))


def dense(nodes: int) -> Graph:
    """A chain of nodes that read and write one buffer, of which nothing is known, so that nothing covers another."""
    buffer = _state("b", (_ROW,))
    found = [_launch(f"n{i}", "k", b="b") for i in range(nodes)]
    edges = [Dependency(f"n{i}", f"n{i + 1}") for i in range(nodes - 1)]
    return Graph(
        "dense", _allocations([buffer]), [buffer], [Kernel("k", (BufferParameter("b", DType.F32),))], found, edges
    )


def races(readers: int, writers: int) -> Graph:
    """Nodes that read a buffer, and others that write a row of it, all side by side."""
    buffer = _state("b", (_ROW,))
    kernels = [
        _kernel("read", "b", Phase("load", reads=(Access("b"),))),
        _kernel("write", "b", Phase("store", writes=(Access("b", region((0, 1))),))),
    ]
    found = [_launch(f"r{i}", "read", b="b") for i in range(readers)]
    found += [_launch(f"w{i}", "write", b="b") for i in range(writers)]
    return Graph("races", _allocations([buffer]), [buffer], kernels, found)


def columns(count: int, rows: int) -> Graph:
    """Nodes side by side, each of which writes a column of one matrix."""
    matrix = _state("m", (rows, count))
    kernels = [
        _kernel(f"k{i}", "m", Phase("store", writes=(Access("m", region(None, (i, i + 1))),)), dims=("R", "C"))
        for i in range(count)
    ]
    return Graph(
        "columns",
        _allocations([matrix]),
        [matrix],
        kernels,
        [_launch(f"n{i}", f"k{i}", m="m") for i in range(count)],
    )


def children(count: int) -> Graph:
    """A chain of child graphs with a node each, and as many buffers."""
    kernel = _kernel("copy", "xy", Phase("copy", (Access("x"),), (Access("y"),)))
    buffers = [_state(f"b{i}", (_ROW,)) for i in range(count + 1)]
    found = [
        ChildGraphNode(f"c{i}", Graph("body", nodes=[_launch("copy", "copy", x=f"b{i}", y=f"b{i + 1}")]))
        for i in range(count)
    ]
    edges = [Dependency(f"c{i}", f"c{i + 1}") for i in range(count - 1)]
    return Graph("children", _allocations(buffers), buffers, [kernel], found, edges)


def black_boxes(pointers: int) -> Graph:
    """Two black boxes side by side, with very many pointers into one allocation each."""
    buffers = [_state(f"b{i}", (_ROW,), "pool", 4 * _ROW * i) for i in range(pointers)]
    kernel = Kernel("k", tuple(BufferParameter(f"p{i}", DType.F32) for i in range(pointers)))
    bound = {f"p{i}": f"b{i}" for i in range(pointers)}
    found = [_launch("first", "k", **bound), _launch("second", "k", **bound)]
    return Graph("black_boxes", _allocations(buffers), buffers, [kernel], found)


def phases(count: int) -> Graph:
    """One kernel with very many phases that read and write one buffer, twice side by side."""
    buffer = _state("b", (_ROW,))
    found = [Phase(f"p{i}", (Access("b"),), (Access("b"),)) for i in range(count)]
    nodes = [_launch("first", "k", b="b"), _launch("second", "k", b="b")]
    return Graph("phases", _allocations([buffer]), [buffer], [_kernel("k", "b", *found)], nodes)


def reordered(graph: Graph) -> Graph:
    """The graph, with the phases of its kernel in the opposite order, and its nodes one after the other."""
    (kernel,) = graph.kernels.values()
    roles = tuple(replace(role, steps=role.steps[::-1]) for role in kernel.roles or ())
    names = list(graph.nodes)
    edges = [Dependency(*pair) for pair in pairwise(names)]
    tables = graph.allocations.values(), graph.buffers.values(), [replace(kernel, roles=roles)]
    return Graph(graph.name, *tables, graph.nodes.values(), edges)


def _checked(graph: Graph) -> None:
    assert not verify(graph)
    explain(graph, check(graph), limit=SHOWN)


def _certified() -> Callable[[], None]:
    before = phases(400)
    after = reordered(before)
    return lambda: _judge(certify(before, after).status)


def _judge(status: str) -> None:
    assert status == "refuted", status


INPUTS: dict[str, Callable[[], Callable[[], None]]] = {
    "dense_2000": lambda: _checking(dense(2000)),
    "races_160000": lambda: _checking(races(400, 400)),
    "columns": lambda: _checking(columns(60, 4000)),
    "children_1000": lambda: _checking(children(1000)),
    "black_boxes_800": lambda: _checking(black_boxes(800)),
    "phases_400": lambda: _checking(phases(400)),
    "phases_400_certify": _certified,
}


def _checking(graph: Graph) -> Callable[[], None]:
    return lambda: _checked(graph)


def seconds(prepare: Callable[[], Callable[[], None]], rounds: int) -> list[float]:
    """CPU seconds for each round."""
    found = []
    for _ in range(rounds):
        work = prepare()
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return found


def main() -> None:
    """Measure, and write benchmarks/results/bounded_work.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    metrics: dict[str, Metric] = {}
    for name, prepare in INPUTS.items():
        metrics[f"check.{name}_s"] = bootstrap_median(seconds(prepare, rounds), "s")
    write_result("bounded_work", metrics)


if __name__ == "__main__":
    main()
