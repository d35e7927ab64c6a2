"""Passes rewrite bodies of child graphs and conditionals, and keep there what they keep anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest
from hypothesis import event, given, settings

from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.refinement.certificate import certify
from forerun.ir.semantics import NodeAccess, check, conflicts
from forerun.ir.semantics.access import with_tables
from forerun.ir.semantics.nested import inner_graph
from forerun.ir.text import parse_graph
from forerun.ir.types import BufferRole, DependencyKind
from forerun.ir.verify import verify
from forerun.ir.walk import bodies_in
from forerun.passes.fuse_kernels import FuseKernels
from forerun.passes.infra import bodies
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.bodies import rewrite_all
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.named_pipelines import NAMED_PIPELINES
from forerun.passes.insert_pdl import InsertPdl
from forerun.support.diagnostics import InternalError, Location
from forerun.testing import assert_same_outputs, graphs
from tests.passes.laws import applied, broken_law, input_of, levels_of, subjects
from tests.random_graphs import looped
from tests.strategies import portion

PASSES = subjects(but="memory nodes", options=False)


def random_graphs(count: int) -> Iterator[Graph]:
    chooser = Random(0)
    for _ in range(count):
        graph = looped(chooser)
        if not verify(graph):
            yield graph


@pytest.mark.parametrize("subject", PASSES, ids=str)
def test_laws_in_bodies(subject: Pass) -> None:
    changed = 0
    for chain in random_graphs(120):
        graph = input_of(subject.name, chain)
        after = applied(subject, graph)
        assert broken_law(subject, graph) is None
        verdict = certify(graph, after)
        assert verdict.proved, verdict.findings
        pairs = zip(levels_of(graph)[1:], levels_of(after)[1:], strict=True)
        changed += any(old.nodes != new.nodes or old.dependencies != new.dependencies for old, new in pairs)
    assert changed >= 5 or not any(subject.name in text for text in NAMED_PIPELINES.values())


@settings(portion(40), deadline=None)
@given(graphs(nodes=("kernel", "fill", "conditional", "child"), max_nodes=4, aimed_at="exact"))
def test_what_bodies_compute_is_kept_under_any_schedule(graph: Graph) -> None:
    after = PassManager("exact").run(graph).graph
    inside = sum(level.count_dependencies()["programmatic"] for level in levels_of(after)[1:])
    event(f"programmatic dependencies in bodies: {min(inside, 3)}")
    assert_same_outputs(graph, after)


@dataclass(frozen=True)
class LetsRoundsOverlap(Pass):
    """Lets the last nodes of a body start early, and without a wait, if nothing in that round needs them late."""

    name: ClassVar[str] = "insert-pdl"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        needed = {(c.earlier.node, c.later.node) for c in conflicts(graph)}
        for d in graph.dependencies if not graph.buffers or context.path else ():
            kernels = all(isinstance(graph.nodes[name], KernelNode) for name in d.pair)
            if kernels and d.pair not in needed and not graph.has_outgoing(d.target):
                edit.set_dependency(replace(d, kind=DependencyKind.PROGRAMMATIC))
        return edit.commit()


@dataclass(frozen=True)
class InBodies(Pass):
    """Applies a rewrite that is wrong in bodies there, and leaves the graph around them alone."""

    name: ClassVar[str] = "insert-pdl"
    changes: ClassVar[frozenset[str]] = InsertPdl.changes

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        twin = LetsRoundsOverlap()
        return rewrite_all(graph, context, lambda g, c: twin.apply(g, c) if c.path else g)


def test_a_twin_that_forgets_the_next_round_is_caught() -> None:
    broken = [broken_law(InBodies(), graph) for graph in random_graphs(120)]
    assert any(law is not None and law.startswith("drained") for law in broken)
    for graph in random_graphs(60):
        after = applied(InBodies(), graph)
        assert certify(graph, after).proved == (broken_law(InBodies(), graph) is None)


LOOP = """\
forerun 1
graph g
buffer %go : i32[1] state in 0..1
buffer %x : f32[4] state
buffer %carried : f32[4] temp
buffer %early : f32[4] temp
buffer %inner : f32[4] temp
buffer %y : f32[4] state
kernel @copy(a: f32[D], b: f32[D]) {
  role main {
    phase load reads a defines v
    phase store uses v writes b
  }
}
node #start = fill %carried with 0
node #loop = while %go {
  graph body
  node #first = @copy(a=%carried, b=%early)
  node #second = @copy(a=%x, b=%inner)
    after #first full
  node #third = @copy(a=%inner, b=%carried)
    after #second full
  node #last = @copy(a=%early, b=%y)
    after #third full
}
  after #start full
"""


BRANCH = """\
  node #second = if %go {
    graph branch
    node #perhaps = fill %inner with 1
  }
"""


def roles(graph: Graph) -> dict[str, BufferRole]:
    return {name: buffer.role for name, buffer in graph.buffers.items() if name in ("carried", "early", "inner", "go")}


def test_temporaries_that_rounds_hand_on_are_state_in_the_body() -> None:
    graph = parse_graph(LOOP)
    found = roles(inner_graph(graph, "loop"))
    assert found == {
        "carried": BufferRole.STATE,
        "early": BufferRole.TEMP,
        "inner": BufferRole.TEMP,
        "go": BufferRole.STATE,
    }


@pytest.mark.parametrize(
    ("edit", "seen"),
    [
        # Read before it is written: the value is that of the round before.
        (("a=%carried, b=%early", "a=%early, b=%carried"), {"early"}),
        # Written in part only.
        (("phase store uses v writes b\n", "phase store uses v writes b[0:3]\n"), {"early", "inner"}),
        # Somebody outside reads it.
        (
            ("node #start = fill %carried with 0", "node #start = fill %carried with 0\nnode #b = copy %early -> %x"),
            {"early"},
        ),
        # Its write may be left out.
        (("  node #second = @copy(a=%x, b=%inner)\n", BRANCH), {"inner"}),
        # It is read in a body of the body.
        (
            (
                "  node #third",
                "  node #more = child {\n    graph more\n    node #e = copy %early -> %x\n  }\n  node #third",
            ),
            set(),
        ),
    ],
)
def test_what_is_seen_outside_a_body(edit: tuple[str, str], seen: set[str]) -> None:
    assert edit[0] in LOOP
    before, after = (roles(inner_graph(parse_graph(text), "loop")) for text in (LOOP, LOOP.replace(*edit)))
    changed = {name for name in after if before[name] is BufferRole.TEMP and after[name] is BufferRole.STATE}
    assert changed == seen


def test_kernels_that_bodies_get_are_kernels_of_the_graph() -> None:
    graph = parse_graph(LOOP)
    after = PassManager("exact").run(graph).graph
    (body,) = bodies_in(after.nodes["loop"])
    assert (body.kernels, body.buffers) == ({}, {})
    assert {node.kernel for node in body if isinstance(node, KernelNode)} == set(after.kernels)
    assert body.count_dependencies() == {"full": 0, "programmatic": 3, "launch_order": 0}
    assert check(after).proved


def test_the_delta_is_that_of_all_edits() -> None:
    outside = """\
node #left = @copy(a=%x, b=%y)
node #right = @copy(a=%y, b=%x)
  after #left full
"""
    graph = parse_graph(LOOP + outside.replace("b=%y)\n", "b=%y)\n  after #loop full\n", 1))
    after = applied(InsertPdl(), graph)
    assert after.delta is not None
    assert set(after.delta.nodes) == {"loop", "left", "right"}
    assert set(after.delta.dependencies) == {("left", "right")}
    assert set(after.delta.kernels) == {"copy", "copy.pdl", "copy.pdl2", "copy.pdl3"}


@dataclass(frozen=True)
class Remarks(Pass):
    """Remarks every kernel node."""

    name: ClassVar[str] = "test-remarks"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        def remark(level: Graph, inside: PassContext) -> Graph:
            for node in level:
                inside.remark("seen", Location("node", node.name))
            inside.remark("done", Location("graph", level.name))
            return level

        return rewrite_all(graph, context, remark)


def test_remarks_are_located_in_bodies() -> None:
    context = PassContext(Remarks())
    assert Remarks().apply(graph := parse_graph(LOOP), context) is graph
    assert [str(remark.location) for remark in context.remarks] == [
        *(f"node loop/{name}" for name in ("first", "second", "third", "last")),
        "node loop",
        "node start",
        "node loop",
        "graph g",
    ]


def test_a_body_has_no_buffers_to_change() -> None:
    def shrink(level: Graph, context: PassContext) -> Graph:
        edit = level.edit()
        edit.set_buffer(replace(level.buffers["x"], role=BufferRole.TEMP))
        return edit.commit()

    with pytest.raises(InternalError, match="changed buffers or allocations for a body of 'loop'"):
        rewrite_all(parse_graph(LOOP), PassContext(InsertPdl()), shrink)


def case(name: str) -> Graph:
    return parse_graph((Path(__file__).parents[1] / "cases" / "fuse-kernels" / f"{name}.in.fir").read_text())


def refuted(before: Graph, after: Graph) -> set[str]:
    verdict = certify(before, after)
    assert (after == before, verdict.status) == (False, "refuted"), verdict.findings
    return {finding.code for finding in verdict.findings}


def test_a_twin_that_forgets_the_round_before_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(graph: Graph, owner: str, number: int = 0) -> Graph:
        return with_tables(graph, bodies_in(graph.nodes[owner])[number])

    monkeypatch.setattr(bodies, "inner_graph", forgetful)
    graph = case("loop_that_carries")
    assert refuted(graph, applied(FuseKernels(), graph)) == {"C1"}
    # Where nothing is carried, it is right.
    graph = case("loop")
    assert certify(graph, applied(FuseKernels(), graph)).proved


def test_a_twin_that_believes_that_branches_are_always_taken_is_caught() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NodeAccess, "definite", property(lambda access: access.certain and access.bytes.exact))
        after = applied(FuseKernels(), case("branch_in_between"))
    assert refuted(case("branch_in_between"), after) == {"C1"}
