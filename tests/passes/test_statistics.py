"""What the passes count is what they did."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from forerun.ir.graph import Graph
from forerun.ir.kernel import Barrier, Kernel, Phase, Trigger, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.text import parse_graph
from forerun.ir.types import DependencyKind
from forerun.passes.hoist_loads import HoistLoads
from forerun.passes.infer_dependencies import InferDependencies
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.insert_pdl import InsertPdl
from forerun.passes.plan_memory import PlanMemory
from forerun.passes.reduce_edges import ReduceEdges
from tests.passes.laws import input_of, levels_of
from tests.random_graphs import in_launch_order, looped, plain, rows


def graphs(name: str) -> Iterator[Graph]:
    for path in sorted((Path(__file__).parents[1] / "cases" / name).glob("*.in.fir")):
        yield parse_graph(path.read_text())
    chooser = random.Random(0)
    for number in range(300):
        yield input_of(name, in_launch_order(plain(chooser, 2, 4) if number < 150 else rows(chooser)))
    for _ in range(100):
        yield input_of(name, looped(chooser))


def kernels(graph: Graph) -> list[Kernel]:
    return [graph.kernels[node.kernel] for node in graph if isinstance(node, KernelNode)]


def ahead(graph: Graph) -> int:
    """How many phases come before the wait of their role."""
    found = 0
    for role in (role for kernel in kernels(graph) for role in kernel.roles or ()):
        waits = [i for i, step in enumerate(role.steps) if isinstance(step, Wait)]
        found += sum(isinstance(step, Phase) for step in role.steps[: waits[0]]) if waits else 0
    return found


def held(graph: Graph) -> int:
    """How many phases without writes stand between a wait and the next barrier, where the wait is not for nothing."""
    found = 0
    for node in graph:
        early = any(d.kind is DependencyKind.PROGRAMMATIC for d in graph.incoming(node.name))
        kernel = graph.kernels[node.kernel] if isinstance(node, KernelNode) and early else None
        for role in kernel.roles or () if kernel is not None and not kernel.has_foreign_code else ():
            waited = False
            for step in role.steps:
                waited = (waited or isinstance(step, Wait)) and not isinstance(step, Barrier)
                found += waited and isinstance(step, Phase) and bool(step.reads) and not step.writes
    return found


def holding(graph: Graph, kind: type[Wait] | type[Trigger]) -> int:
    return sum(kernel.has(kind) for kernel in kernels(graph))


def pairs(graph: Graph) -> set[tuple[str, str]]:
    return {d.pair for d in graph.dependencies}


def counted(subject: Pass, before: Graph, after: Graph) -> Counter[str]:
    """The statistics that a look at both graphs gives, and at the bodies in them."""
    found: Counter[str] = Counter()
    for level in zip(levels_of(before), levels_of(after), strict=True):
        found.update(counted_alone(subject, *level))
    return found


def counted_alone(subject: Pass, before: Graph, after: Graph) -> dict[str, int]:
    full, programmatic = (
        [graph.count_dependencies()[kind] for graph in (before, after)] for kind in ("full", "programmatic")
    )
    match subject:
        case InferDependencies():
            added, removed = pairs(after) - pairs(before), pairs(before) - pairs(after)
            return {"dependencies_added": len(added), "dependencies_removed": len(removed)}
        case InsertPdl():
            return {
                "dependencies_converted": programmatic[1] - programmatic[0],
                "dependencies_kept": full[1],
                "waits_inserted": holding(after, Wait) - holding(before, Wait),
                "triggers_inserted": holding(after, Trigger) - holding(before, Trigger),
            }
        case HoistLoads():
            return {
                "phases_hoisted": ahead(after) - ahead(before),
                "phases_held": held(after),
                "full_dependencies_added": full[1] - full[0],
            }
        case PlanMemory():
            moved = [name for name, old in before.buffers.items() if after.buffers[name] != old]
            new = [a.size for name, a in after.allocations.items() if before.allocations.get(name) != a]
            return {"buffers_moved": len(moved), "bytes_after": sum(new)}
        case _:
            return {"dependencies_removed": len(pairs(before) - pairs(after))}


@pytest.mark.parametrize(
    "subject", [InferDependencies(), InsertPdl(), HoistLoads(), PlanMemory(), ReduceEdges()], ids=str
)
def test_statistics_count_the_changes(subject: Pass) -> None:
    changed = 0
    for before in graphs(subject.name):
        context = PassContext(subject)
        after = subject.apply(before, context)
        expected = counted(subject, before, after)
        assert {name: context.statistics[name] for name in expected} == expected
        assert after is not before or not context.changes
        changed += after is not before
    assert changed >= 4
