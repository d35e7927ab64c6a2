"""Repairs remove what they are for, add nothing, and change one thing."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, event, given

from forerun.ir.explain import drain_repairs, repairs
from forerun.ir.explain.repair import AddWait, FullDependency, MoveAccess
from forerun.ir.graph import Graph
from forerun.ir.kernel import Access, Barrier, Implementation, Phase, Step, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics import Verdict, check
from forerun.ir.types import DependencyKind
from forerun.ir.verify import verify
from tests.programs import programs
from tests.strategies import portion
from tests.three_kernels import graph_of_bodies

FULL, PROGRAMMATIC = DependencyKind.FULL, DependencyKind.PROGRAMMATIC
READ: tuple[Step, ...] = (Phase("load", reads=(Access("b"),)),)
WRITE: tuple[Step, ...] = (Phase("store", writes=(Access("b"),)),)
WAIT: tuple[Step, ...] = (Wait(),)


# Drawing a program takes longer than repairing it, so one is used for both.
@portion(50)
@given(programs())
def test_repairs(graph: Graph) -> None:
    verdict = check(graph)
    assume(not verdict.proved)
    event(f"races: {bool(verdict.races)}, undrained: {bool(verdict.undrained)}")
    remove_races_and_add_none(graph, verdict)
    drain(graph, verdict)


def remove_races_and_add_none(graph: Graph, verdict: Verdict) -> None:
    for race in verdict.races[:3]:
        found = repairs(graph, race)
        event(f"{len(found)} repairs")
        assert len(found) <= 3
        # A sink that gets a dependent is drained no longer if the dependent is not.
        assert found or race.later.node in verdict.undrained
        for repair in found:
            repaired = repair.apply(graph)
            left = check(repaired)
            assert verify(repaired) == []
            assert len(left.findings) < len(verdict.findings)
            assert repair.proved == left.proved
            assert set(left.undrained) <= set(verdict.undrained)
            pairs = {(r.earlier.node, r.later.node) for r in left.races}
            assert pairs <= {(r.earlier.node, r.later.node) for r in verdict.races}
            assert repair.sentence


def drain(graph: Graph, verdict: Verdict) -> None:
    for name in verdict.undrained:
        found = drain_repairs(graph, name)
        assert 1 <= len(found) <= 3
        for repair in found:
            left = check(repair.apply(graph))
            assert name not in left.undrained
            assert set(left.undrained) < set(verdict.undrained)


def changes(*bodies: tuple[Step, ...], kinds: tuple[DependencyKind | None, ...]) -> list[object]:
    graph = graph_of_bodies(tuple((body,) for body in bodies), kinds)
    found = repairs(graph, check(graph).races[0])
    assert all(repair.proved for repair in found)
    return [repair.change for repair in found]


def test_what_is_offered() -> None:
    assert changes(WRITE, READ, kinds=(None,)) == [FullDependency("n0", "n1", present=False)]
    assert changes(WRITE, READ, kinds=(PROGRAMMATIC,)) == [FullDependency("n0", "n1", True), AddWait("n1")]
    early = changes(WRITE, READ + WAIT, kinds=(PROGRAMMATIC,))
    assert early == [FullDependency("n0", "n1", True), MoveAccess("n1", "load")]
    through = changes(WRITE, (), WAIT + READ, kinds=(PROGRAMMATIC, None, PROGRAMMATIC))
    assert through == [FullDependency("n0", "n1", True), AddWait("n1"), FullDependency("n0", "n2", False)]


def test_a_phase_moves_over_what_does_not_need_it() -> None:
    other, taker = Phase("other", defines=("o",)), Phase("taker", uses=("t",), defines=("u",))
    giver = Phase("load", reads=(Access("b"),), defines=("t",))
    store = Phase("store2", writes=(Access("b"),))

    def moves(*steps: Step) -> list[object]:
        found = changes(WRITE, (*steps, Wait()), kinds=(PROGRAMMATIC,))
        return [change for change in found if isinstance(change, MoveAccess)]

    assert moves(giver, other)
    assert not moves(giver, taker)
    assert not moves(giver, Barrier())
    assert not moves(giver, store)
    graph = graph_of_bodies(((WRITE,), ((giver, other, Wait()),)), (PROGRAMMATIC,))
    moved = MoveAccess("n1", "load").apply(graph)
    node = moved.nodes["n1"]
    assert isinstance(node, KernelNode)
    assert node.kernel == "k1.late"
    assert moved.kernels["k1.late"].roles[0].steps == (other, Wait(), giver)  # type: ignore[index]


def test_a_phase_moves_in_its_role_and_the_others_stay() -> None:
    idle: tuple[Step, ...] = (Phase("idle"),)
    late: tuple[Step, ...] = (Wait(), Phase("late"))
    graph = graph_of_bodies(((WRITE,), (idle, READ + WAIT, late)), (PROGRAMMATIC,))
    (race,) = check(graph).races
    assert MoveAccess("n1", "load") in [repair.change for repair in repairs(graph, race)]
    moved = MoveAccess("n1", "load").apply(graph)
    assert [role.steps for role in moved.kernels["k1.late"].roles or ()] == [idle, WAIT + READ, late]


def test_a_wait_goes_to_the_roles_that_have_none() -> None:
    graph = graph_of_bodies(((WRITE,), (WAIT, READ)), (PROGRAMMATIC,))
    (race,) = check(graph).races
    assert AddWait("n1") in [repair.change for repair in repairs(graph, race)]
    repaired = AddWait("n1").apply(graph)
    assert [role.steps for role in repaired.kernels["k1.wait"].roles or ()] == [WAIT, WAIT + READ]
    assert check(repaired).proved


def test_machine_code_of_others_is_left_alone() -> None:
    graph = graph_of_bodies(((WRITE,), (READ,)), (PROGRAMMATIC,))
    edit = graph.edit()
    edit.set_kernel(replace(graph.kernels["k1"], implementations=(Implementation("cubin", "a.cubin", "f"),)))
    graph = edit.commit()
    (race,) = check(graph).races
    assert [repair.change for repair in repairs(graph, race)] == [FullDependency("n0", "n1", True)]
