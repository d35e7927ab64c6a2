"""Conflicts by what they have in common: the same races as pair by pair, and work that does not grow with the pairs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.explain import explain
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role, Step, Trigger, Wait
from forerun.ir.nodes import BufferArgument, ChildGraphNode, KernelNode
from forerun.ir.refinement.certificate import certify
from forerun.ir.refinement.rules import MAX_FINDINGS
from forerun.ir.region import WHOLE, region
from forerun.ir.semantics import ByteSet, NodeAccess, accesses, binding, check, conflicts, reaching_accesses
from forerun.ir.semantics import races as races_module
from forerun.ir.semantics.hazards import Conflict, is_certain
from forerun.ir.semantics.order import order_under
from forerun.ir.semantics.races import MAX_RACES
from forerun.ir.types import BufferRole, DependencyKind, DType
from forerun.ir.verify import nodes as verify_nodes
from forerun.ir.verify import verify
from forerun.passes.infer_dependencies import InferDependencies
from forerun.passes.infra.manager import PassManager
from tests.programs import programs

_REGIONS = (WHOLE, WHOLE, region((0, 2)), region((1, 3)), region(None, (0, 1)), region(None, (1, 2)))


def crowd(seed: int, nodes: int) -> Graph:
    """Many nodes on one small matrix: kernels of several phases, black boxes, random dependencies of all kinds."""
    chooser = random.Random(seed)
    kernels = [Kernel("opaque", (BufferParameter("b", DType.F32),))]
    for number in range(4):
        steps: list[Step] = []
        for i in range(chooser.randint(1, 3)):
            touched = (Access("b", chooser.choice(_REGIONS)),)
            writes = chooser.random() < 0.4
            steps.append(Phase(f"p{i}", () if writes else touched, touched if writes else ()))
        if chooser.random() < 0.6:
            steps.insert(chooser.randint(0, len(steps)), Wait())
        if chooser.random() < 0.5:
            steps.insert(chooser.randint(0, len(steps)), Trigger(fenced=chooser.random() < 0.5))
        kernels.append(Kernel(f"k{number}", (BufferParameter("b", DType.F32, ("R", "C")),), (Role("main", (*steps,)),)))
    buffer = Buffer("b", DType.F32, (3, 2), BufferRole.STATE, "b")
    weights = [1, 5, 5, 5, 5]
    launched = chooser.choices(kernels, weights, k=nodes)
    found = [KernelNode(f"n{i}", k.name, (("b", BufferArgument("b")),)) for i, k in enumerate(launched)]
    pairs = [(u, v) for v in range(nodes) for u in range(v) if chooser.random() < 0.15]
    edges = [Dependency(f"n{u}", f"n{v}", chooser.choice(list(DependencyKind))) for u, v in pairs]
    return Graph("crowd", [Allocation("b", 24)], [buffer], kernels, found, edges)


def pair_by_pair(graph: Graph) -> Iterator[Conflict]:
    """The direct conflicts, as docs/checker.md says it."""
    exposed: list[NodeAccess] = []
    for own in accesses(graph).values():
        for later in own:
            for earlier in exposed:
                same = earlier.allocation == later.allocation and (earlier.write or later.write)
                if same and earlier.bytes.overlaps(later.bytes):
                    yield Conflict(earlier, later)
        writes = [access for access in own if access.write and access.definite]
        exposed = [a for a in exposed if not any(_hides(write, a) for write in writes)] + list(own)


def _hides(write: NodeAccess, access: NodeAccess) -> bool:
    return write.allocation == access.allocation and write.bytes.covers(access.bytes)


def unordered(graph: Graph, assumptions: frozenset[str]) -> list[tuple[NodeAccess, NodeAccess, bool]]:
    """The races, each with whether it is certain, as docs/checker.md says it."""
    order = order_under(graph, assumptions)
    found = []
    for conflict in pair_by_pair(graph):
        earlier, later = conflict.earlier, conflict.later
        pair = earlier.node, later.node
        known = order.completes_before_start(*pair) if later.early else order.completes_before_wait(*pair)
        triggered = order.triggered_before_start if later.early else order.triggered_before_wait
        released = triggered[order.position[later.node]] >> order.position[earlier.node] & 1
        if known or (earlier.released and released and not (later.early and later.asynchronous)):
            continue
        question = later.early and earlier.released and released
        found.append((earlier, later, is_certain(graph, conflict) and not question))
    return found


_ASSUMPTIONS = st.sampled_from([frozenset[str](), frozenset({"H6"}), frozenset({"H8"}), frozenset({"H6", "H8"})])


_FEW = st.sampled_from([0, 16])
"""How many accesses are not kept together."""


@given(st.integers(0, 1 << 30), st.integers(2, 14), _ASSUMPTIONS, _FEW)
def test_the_races_are_those_that_are_found_pair_by_pair(
    seed: int, nodes: int, assumptions: frozenset[str], few: int
) -> None:
    graph = crowd(seed, nodes)
    assert not verify(graph)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reaching_accesses, "_FEW", few)
        assert list(conflicts(graph)) == list(pair_by_pair(graph))
        assert len(conflicts(graph)) == len(list(pair_by_pair(graph)))
        verdict, expected = check(graph, assumptions), unordered(graph, assumptions)
    event(f"races: {min(len(expected) // 10, 9)}0s, alike: {len(conflicts(graph).clashes) < len(conflicts(graph))}")
    assert [(r.earlier, r.later, r.certain) for r in verdict.races] == expected
    assert verdict.count == len(expected) + len(verdict.outliving)


@given(st.integers(0, 1 << 30), st.integers(2, 14))
def test_passes_do_the_same_where_conflicts_are_kept_together(seed: int, nodes: int) -> None:
    found = []
    for few in (0, 1000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reaching_accesses, "_FEW", few)
            result = PassManager("infer-dependencies,insert-pdl,hoist-loads").run(crowd(seed, nodes)).graph
        found.append((result.nodes, result.kernels, set(result.dependencies)))
    assert found[0] == found[1]


def test_what_may_be_certain_is_not_kept_together() -> None:
    """Not with what is given to an access of the same node and bytes that is not certain."""
    count = 40
    writers = [Kernel(f"k{i}", OPAQUE.parameters, (_writes(Access("b", region((i, i + 1)))),)) for i in range(count)]
    names = [f"p{i}" for i in range(count)]
    parameters = tuple(BufferParameter(name, DType.F32) for name in names)
    last = Kernel("last", parameters, (_writes(*map(Access, names)),))
    bound = tuple((name, BufferArgument("b", partial=i < count // 2)) for i, name in enumerate(names))
    nodes = [KernelNode(f"n{i}", f"k{i}", (("b", BufferArgument("b")),)) for i in range(count)]
    buffer = Buffer("b", DType.F32, (count,), BufferRole.STATE, "b")
    graph = Graph(
        "g", [Allocation("b", 4 * count)], [buffer], [*writers, last], [*nodes, KernelNode("n", "last", bound)]
    )
    parts = Counter((clash.later.certain, len(clash.earlier)) for clash in conflicts(graph).clashes)
    assert parts == {(False, 1): count // 2, (True, count): count // 2}


def _writes(*accesses: Access) -> Role:
    return Role("main", (Phase("p", writes=accesses),))


@given(programs())
def test_the_conflicts_of_programs_are_those_that_are_found_pair_by_pair(graph: Graph) -> None:
    assert list(conflicts(graph)) == list(pair_by_pair(graph))


@given(st.integers(0, 1 << 30), st.integers(1, 4), _ASSUMPTIONS)
def test_races_that_are_not_kept_are_counted_and_judged(seed: int, kept: int, assumptions: frozenset[str]) -> None:
    whole = check(crowd(seed, 10), assumptions)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(races_module, "MAX_RACES", kept)
        part = check(crowd(seed, 10), assumptions)
    assert (part.status, part.count, part.outliving) == (whole.status, whole.count, whole.outliving)
    assert part.races[:kept] == whole.races[:kept]
    others = part.races[kept:]
    event(f"a certain one beyond: {bool(others)}")
    assert [race.certain for race in others] in ([], [True])
    assert set(others) <= set(whole.races)
    assert any(r.certain for r in part.races) == any(r.certain for r in whole.races)


# Work


@pytest.fixture
def comparisons(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often byte sets are compared."""
    counted = Counter[str]()
    for name in ("overlaps", "covers"):
        original = getattr(ByteSet, name)

        def method(self: ByteSet, other: ByteSet, original: Any = original, name: str = name) -> bool:
            counted[name] += 1
            return bool(original(self, other))

        monkeypatch.setattr(ByteSet, name, method)
    return counted


def launches(count: int, *kernels: Kernel, chained: bool = False) -> Graph:
    """Kernels on one buffer, each as many times, side by side or one after the other."""
    buffer = Buffer("b", DType.F32, (8, 2), BufferRole.STATE, "b")
    names = [kernel.name for kernel in kernels for _ in range(count)]
    nodes = [KernelNode(f"n{i}", name, (("b", BufferArgument("b")),)) for i, name in enumerate(names)]
    edges = [Dependency(f"n{i}", f"n{i + 1}") for i in range(len(nodes) - 1)] if chained else []
    return Graph("g", [Allocation("b", 64)], [buffer], kernels, nodes, edges)


OPAQUE = Kernel("opaque", (BufferParameter("b", DType.F32),))
READER = Kernel("read", OPAQUE.parameters, (Role("main", (Phase("p", reads=(Access("b"),)),)),))
ROW = Kernel("row", OPAQUE.parameters, (Role("main", (Phase("p", writes=(Access("b", region((0, 1))),)),)),))


@pytest.mark.parametrize("chained", [False, True])
def test_nodes_that_all_conflict_take_a_few_comparisons_each(comparisons: Counter[str], chained: bool) -> None:
    count = 1000
    graph = launches(count, OPAQUE, chained=chained)
    verdict = check(graph)
    assert verdict.count == (0 if chained else 3 * count * (count - 1) // 2)
    assert len(verdict.races) == (0 if chained else MAX_RACES)
    assert verdict.status == ("proved" if chained else "unsupported")
    assert sum(comparisons.values()) <= 8 * count


def test_nodes_that_are_ordered_are_not_compared(comparisons: Counter[str]) -> None:
    count = 200
    rows = [Access("b", region((i, i + 9))) for i in range(count)]
    bodies = [(Role("main", (Phase("p", (row,), (row,)),)),) for row in rows]
    kernels = [Kernel(f"k{i}", (BufferParameter("b", DType.F32, ("N",)),), body) for i, body in enumerate(bodies)]
    buffer = Buffer("b", DType.F32, (count + 9,), BufferRole.STATE, "b")
    nodes = [KernelNode(f"n{i}", f"k{i}", (("b", BufferArgument("b")),)) for i in range(count)]
    edges = [Dependency(f"n{i}", f"n{i + 1}") for i in range(count - 1)]
    assert check(Graph("g", [Allocation("b", buffer.stop)], [buffer], kernels, nodes, edges)).proved
    assert not comparisons
    open_graph = Graph("g", [Allocation("b", buffer.stop)], [buffer], kernels, nodes, edges[:-1])
    assert check(open_graph).status == "refuted"
    assert comparisons


def test_readers_beside_writers_are_counted_and_not_listed(comparisons: Counter[str]) -> None:
    count = 400
    verdict = check(launches(count, READER, ROW))
    assert (verdict.status, verdict.count) == ("refuted", count * count + count - 1)
    assert len(verdict.races) == MAX_RACES
    assert len(explain(launches(count, READER, ROW), verdict, limit=2)) == MAX_RACES
    assert sum(comparisons.values()) <= 20 * count


def test_a_kernel_of_many_phases_is_compared_once(comparisons: Counter[str]) -> None:
    count = 300
    phases = tuple(Phase(f"p{i}", (Access("b"),), (Access("b"),)) for i in range(count))
    verdict = check(launches(2, Kernel("k", OPAQUE.parameters, (Role("main", phases),))))
    assert (verdict.status, verdict.count) == ("refuted", 3 * count * count)
    assert sum(comparisons.values()) <= 20


def test_black_boxes_with_many_pointers_are_compared_once(comparisons: Counter[str]) -> None:
    count = 500
    parameters = tuple(BufferParameter(f"p{i}", DType.F32) for i in range(count))
    buffers = [Buffer(f"b{i}", DType.F32, (1,), BufferRole.STATE, "a", 4 * i) for i in range(count)]
    bound = tuple((f"p{i}", BufferArgument(f"b{i}")) for i in range(count))
    nodes = [KernelNode(name, "k", bound) for name in ("first", "second")]
    verdict = check(Graph("g", [Allocation("a", 4 * count)], buffers, [Kernel("k", parameters)], nodes))
    assert (verdict.status, verdict.count) == ("unsupported", 3 * count * count)
    assert sum(comparisons.values()) <= 20


def test_what_depends_on_tables_alone_is_worked_out_once_for_all_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = Counter[frozenset[str]]()
    buffers = [Buffer(f"b{i}", DType.F32, (1,), BufferRole.STATE, f"b{i}") for i in range(50)]
    kernel = Kernel("k", OPAQUE.parameters, (Role("main", (Phase("p", writes=(Access("b"),)),)),))
    bodies = [Graph("body", nodes=[KernelNode("n", "k", (("b", BufferArgument(b.name)),))]) for b in buffers]
    nodes = [ChildGraphNode(f"c{i}", body) for i, body in enumerate(bodies)]
    graph = Graph("g", [Allocation(b.name, 4) for b in buffers], buffers, [kernel], nodes)
    for analysis in (binding._all_bytes, binding._plain_buffers, verify_nodes._parts):
        compute = analysis.compute

        def counting(graph: Graph, compute: Any = compute, analysis: Any = analysis) -> Any:
            computed[analysis.depends] += 1
            return compute(graph)

        monkeypatch.setattr(analysis, "compute", counting)
    assert not verify(graph)
    assert check(graph).proved
    assert computed == {frozenset({"buffers"}): 2, frozenset({"kernels"}): 1}


def test_inferred_dependencies_grow_with_the_nodes_and_not_with_the_pairs() -> None:
    count = 300
    graph = launches(count, OPAQUE)
    inferred = PassManager([InferDependencies()]).run(graph).graph
    assert check(inferred).proved
    assert len(inferred.dependencies) <= 65 * count


def reversed_phases(graph: Graph) -> Graph:
    """The graph with the phases of its kernels in the opposite order."""
    kernels = [
        replace(kernel, roles=tuple(replace(role, steps=role.steps[::-1]) for role in kernel.roles or ()))
        for kernel in graph.kernels.values()
    ]
    tables = graph.allocations.values(), graph.buffers.values(), kernels
    return Graph(graph.name, *tables, graph.nodes.values(), graph.dependencies)


def test_a_body_in_another_order_is_compared_once_for_phases_that_touch_the_same(comparisons: Counter[str]) -> None:
    count = 150
    phases = tuple(Phase(f"p{i}", (Access("b"),), (Access("b"),)) for i in range(count))
    before = launches(2, Kernel("k", OPAQUE.parameters, (Role("main", phases),)), chained=True)
    verdict = certify(before, reversed_phases(before))
    assert (verdict.status, verdict.count) == ("refuted", count * (count - 1))
    assert len(verdict.findings) == MAX_FINDINGS
    assert {finding.code for finding in verdict.findings} == {"C4"}
    assert sum(comparisons.values()) <= 50
