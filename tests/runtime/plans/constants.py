"""Graphs with constants, and what a cache of plans holds of them, for tests of shared constants."""

from __future__ import annotations

import numpy as np

import forerun
from forerun.ir.graph import Graph
from forerun.ir.nodes import MemcpyNode
from forerun.ir.types import DEVICE0
from forerun.kernels.builtin import KERNELS
from forerun.passes.fold_params import FoldParams
from forerun.passes.infra.base import PassContext
from forerun.runtime.plans import Plan, PlanCache

TARGETS = ("reference", "cuda")


def added(count: int, *values: int, name: str = "k") -> Graph:
    """``y = x + v0 + v1 + ...``, where each number is a constant array of as many elements on the device."""
    builder = forerun.GraphBuilder(f"batch of {count}")
    before, y = builder.input("x", "i32", count), builder.output("y", "i32", count)
    for number, value in enumerate(values):
        after = y if number + 1 == len(values) else builder.temp(f"t{number}", "i32", count)
        constant = builder.constant(f"{name}{number}", "i32", [value] * count, place=DEVICE0)
        builder.launch(KERNELS["add_i32"], a=before, b=constant, y=after)
        before = after
    return builder.build()


def uploading(count: int, *values: int) -> Graph:
    """The same, of constants on the host that are copied before each launch, without these copies."""
    builder = forerun.GraphBuilder(f"batch of {count}")
    before, y = builder.input("x", "i32", count), builder.output("y", "i32", count)
    for number, value in enumerate(values):
        after = y if number + 1 == len(values) else builder.temp(f"t{number}", "i32", count)
        builder.constant(f"k{number}", "i32", [value] * count)
        builder.copy(f"k{number}", builder.temp(f"p{number}", "i32", count))
        builder.launch(KERNELS["add_i32"], a=before, b=f"p{number}", y=after)
        before = after
    folded = FoldParams().apply(builder.build(), PassContext(FoldParams()))
    assert not [node for node in folded if isinstance(node, MemcpyNode)]
    return folded


def on_device(graph: Graph) -> dict[str, bytes]:
    """What a graph's constants on the device hold, by name."""
    places = {name: one.place.kind for name, one in graph.allocations.items()}
    found = (b for b in graph.buffers.values() if places[b.allocation] == "device")
    return {b.name: b.contents for b in found if b.contents is not None}


def contents(graph: Graph) -> set[bytes]:
    """What a graph's constants on the device hold."""
    return set(on_device(graph).values())


def run(cache: PlanCache | Plan, graph: Graph) -> list[int]:
    inputs = {"x": np.arange(graph.buffers["x"].count, dtype=np.int32)}
    return (cache.run(graph, inputs) if isinstance(cache, PlanCache) else cache.run(inputs))["y"].tolist()  # type: ignore[no-any-return]


def expected(graph: Graph, *values: int) -> list[int]:
    return [i + sum(values) for i in range(graph.buffers["x"].count)]


def wanted_by(cache: PlanCache) -> set[bytes]:
    """What the plans of a cache use."""
    return set().union(*(contents(entry.plan.graph) for entry in cache._kept.entries))


def in_memory(cache: PlanCache) -> frozenset[bytes]:
    return cache._kept._sources.constants()
