"""The structured result of the check: races, undrained nodes, nested graphs, what is uncertain."""

from __future__ import annotations

import pytest

from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.explain import drain_repairs, drain_witness, explain, repairs, witness
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role, Step, Wait
from forerun.ir.nodes import BufferArgument, ChildGraphNode, ConditionalNode, KernelNode
from forerun.ir.semantics import Race, Undrained, check
from forerun.ir.text import draw, parse_graph
from forerun.ir.types import BufferRole, DependencyKind, DType
from forerun.ir.verify import verify

FULL, PROGRAMMATIC = DependencyKind.FULL, DependencyKind.PROGRAMMATIC
PARAMETERS = (BufferParameter("b", DType.I32),)
STEPS: dict[str, tuple[Step, ...] | None] = {
    "write": (Phase("store", writes=(Access("b"),)),),
    "read": (Phase("load", reads=(Access("b"),)),),
    "late": (Wait(), Phase("load", reads=(Access("b"),))),
    "opaque": None,
}


def graph_of(kernels: list[str], *edges: tuple[int, int, DependencyKind], wrap: str = "") -> Graph:
    """Launches of kernels on one buffer; with ``wrap``, inside a ``child`` or a ``while`` node."""
    tables = (
        [Allocation("m", 4)],
        [Buffer("b", DType.I32, (1,), BufferRole.STATE, "m")],
        [Kernel(k, PARAMETERS, None if s is None else (Role("main", s),)) for k, s in STEPS.items()],
    )
    nodes = [KernelNode(f"n{i}", k, (("b", BufferArgument("b")),)) for i, k in enumerate(kernels)]
    dependencies = [Dependency(f"n{u}", f"n{v}", kind) for u, v, kind in edges]
    if not wrap:
        return Graph("g", *tables, nodes, dependencies)
    body = Graph("body", nodes=nodes, dependencies=dependencies)
    outer = ChildGraphNode("sub", body) if wrap == "child" else ConditionalNode("sub", "while", "b", (body,))
    return Graph("g", *tables, [outer])


def test_a_race_names_both_accesses_and_what_is_missing() -> None:
    verdict = check(graph_of(["write", "read"], (0, 1, PROGRAMMATIC)))
    assert verdict.status == "refuted"
    (race,) = verdict.races
    assert (race.earlier.node, race.earlier.phase, race.later.node, race.later.phase) == ("n0", "store", "n1", "load")
    assert (race.kind, race.missing, race.certain, race.body) == ("RAW", "C_n0 -> S_n1", True, ())
    assert verdict.undrained == ("n0",)
    assert [finding.code for finding in verdict.findings] == ["R1", "R2"]


def test_the_missing_order_of_a_late_access_is_that_of_the_wait() -> None:
    verdict = check(graph_of(["write", "late"]))
    assert [race.missing for race in verdict.races] == ["C_n0 -> W_n1"]


@pytest.mark.parametrize(
    ("kernels", "kind"), [(["write", "read"], "RAW"), (["read", "write"], "WAR"), (["write"] * 2, "WAW")]
)
def test_kinds(kernels: list[str], kind: str) -> None:
    assert [race.kind for race in check(graph_of(kernels)).races] == [kind]


def test_what_a_black_box_does_is_uncertain() -> None:
    verdict = check(graph_of(["write", "opaque"]))
    assert verdict.status == "unsupported"
    assert verdict.races
    assert not any(race.certain for race in verdict.races)


def test_a_proved_verdict_is_empty_and_kept() -> None:
    graph = graph_of(["write", "late"], (0, 1, PROGRAMMATIC))
    verdict = check(graph)
    assert verdict.proved
    assert (verdict.findings, verdict.races, verdict.undrained) == ((), (), ())
    assert check(graph) is verdict


@pytest.mark.parametrize("wrap", ["child", "while"])
def test_bodies_are_checked_as_graphs_of_their_own(wrap: str) -> None:
    graph = graph_of(["write", "read"], (0, 1, PROGRAMMATIC), wrap=wrap)
    verdict = check(graph)
    assert verdict.status == "refuted"
    (race,) = verdict.races
    assert race.body == (("sub", 0),)
    assert verdict.undrained == ("sub/n0",)
    assert [finding.location.name for finding in verdict.findings] == ["sub/n1", "sub/n0"]
    assert "^" in draw(verdict.findings, graph)
    assert witness(graph, race).chain == (Dependency("n0", "n1", PROGRAMMATIC),)
    found = repairs(graph, race)
    assert [repair.body for repair in found] == [race.body] * 2
    for repair in found:
        assert repair.proved
        repaired = repair.apply(graph)
        assert verify(repaired) == []
        assert check(repaired).proved
        assert repair.sentence.endswith(", inside 'sub'")
    assert verdict.outliving == (Undrained("n0", race.body),)
    assert drain_witness(graph, "n0", body=race.body).missing == "C_n0 -> C_n1"
    drained = drain_repairs(graph, "n0", body=race.body)
    assert [repair.sentence for repair in drained] == [repair.sentence for repair in found]
    assert all(check(repair.apply(graph)).proved for repair in drained)
    assert check(graph_of(["write", "read"], (0, 1, FULL), wrap=wrap)).proved


def test_bodies_with_the_same_names_are_told_apart() -> None:
    """The else-body has the fault; the repair is made there, and the kernel of the other one stays."""
    right, wrong = (
        graph_of(["write", kernel], (0, 1, PROGRAMMATIC), wrap="while").nodes["sub"] for kernel in ("late", "read")
    )
    assert isinstance(right, ConditionalNode)
    assert isinstance(wrong, ConditionalNode)
    choice = ConditionalNode("choice", "if", "b", (*right.bodies, *wrong.bodies))
    plain = graph_of([])
    tables = plain.allocations.values(), plain.buffers.values(), plain.kernels.values()
    graph = Graph("g", *tables, [ChildGraphNode("sub", Graph("body", nodes=[choice]))])
    assert verify(graph) == []
    verdict = check(graph)
    assert [finding.location.name for finding in verdict.findings] == ["sub/choice/n1", "sub/choice/n0"]
    for explanation in explain(graph, verdict):
        assert explanation.witness is not None
        assert len(explanation.repairs) == 2
        for repair in explanation.repairs:
            assert repair.body == (("sub", 0), ("choice", 1))
            assert repair.sentence.endswith(", inside 'sub/choice (body 2)'")
            repaired = repair.apply(graph).nodes["sub"]
            assert check(repair.apply(graph)).proved
            assert isinstance(repaired, ChildGraphNode)
            assert repaired.body.nodes["choice"].bodies[0] == choice.bodies[0]  # type: ignore[union-attr]


def test_uncertain_findings_beside_certain_ones_refute() -> None:
    verdict = check(graph_of(["opaque", "write", "read"], (0, 1, FULL)))
    assert verdict.status == "refuted"
    assert {race.certain for race in verdict.races} == {True}
    assert isinstance(verdict.races[0], Race)


@pytest.mark.parametrize(("element", "status"), [(0, "unsupported"), (1, "refuted")])
def test_an_access_that_would_have_to_leave_its_buffer_refutes_nothing(element: int, status: str) -> None:
    """Which row is written is loaded: some row of ``high``, so never element 0 of ``low``, which ends within it."""
    graph = parse_graph(
        "forerun 1\ngraph arena\nalloc $arena : 12\n"
        "buffer %low : i32[2] state at $arena\nbuffer %high : i32[2] state at $arena + 4\n"
        "buffer %row : i32[1] input in 0..1\n"
        "kernel @put(b: i32[2], r: scalar i32) {\n  role main {\n    phase put writes b[r:r + 1]\n  }\n}\n"
        "node #first = @put(b=%high, r=load(%row[0]))\n"
        f"node #second = @put(b=%low, r={element})\n"
    )
    verdict = check(graph)
    assert (verdict.status, [race.certain for race in verdict.races]) == (status, [status == "refuted"])
