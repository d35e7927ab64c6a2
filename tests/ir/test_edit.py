"""Edits: transactions, deltas, and the analyses that survive them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forerun.ir.buffer import Allocation
from forerun.ir.graph import Dependency, Graph, Hazard
from forerun.ir.kernel import Kernel, Role, Wait
from forerun.ir.nodes import EmptyNode, KernelNode
from forerun.ir.semantics import accesses, conflicts, event_order
from forerun.ir.types import DependencyKind
from forerun.ir.verify import verify
from forerun.support.diagnostics import InternalError, InvalidInput
from tests.programs import Style, programs

LINE = Graph("line", nodes=map(EmptyNode, "abc"), dependencies=[Dependency("a", "b"), Dependency("b", "c")])


def test_nothing_done_is_the_same_graph() -> None:
    edit = LINE.edit()
    edit.set_dependency(Dependency("a", "b"))
    edit.replace_node(EmptyNode("a"))
    assert edit.commit() is LINE


def test_the_base_does_not_change() -> None:
    edit = LINE.edit()
    edit.remove_node("b")
    edit.add_node(EmptyNode("d"), before="a")
    after = edit.commit()
    assert list(LINE.nodes) == ["a", "b", "c"]
    assert list(after.nodes) == ["d", "a", "c"]
    assert after.dependencies == ()
    assert after.delta is not None
    assert list(after.delta.nodes) == ["b", "d"]
    assert list(after.delta.dependencies) == [("a", "b"), ("b", "c")]


def test_tables_that_no_edit_changed_are_shared() -> None:
    base = LINE
    edit = base.edit()
    edit.set_allocation(Allocation("more", 16))
    first = edit.commit()
    assert (first.buffers is base.buffers, first.kernels is base.kernels) == (True, True)
    assert (first.allocations["more"].size, "more" in base.allocations) == (16, False)
    edit.remove_allocation("more")
    assert (edit.commit().allocations, "more" in first.allocations) == (base.allocations, True)


def test_a_graph_cannot_be_assigned_to() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        LINE.name = "other"
    with pytest.raises(TypeError):
        LINE.buffers["x"] = None  # type: ignore[index]
    with pytest.raises(Exception, match=r"(?i)frozen"):
        LINE.topology.add_node("d")


def test_dependencies_of_a_pair_unite() -> None:
    edit = LINE.edit()
    edit.add_dependency(Dependency("a", "c", DependencyKind.PROGRAMMATIC, (Hazard("RAW", "x"),)))
    edit.add_dependency(Dependency("a", "c", DependencyKind.LAUNCH_ORDER, (Hazard("WAR", "y"),)))
    united = edit.commit().dependency("a", "c")
    assert united == Dependency("a", "c", DependencyKind.PROGRAMMATIC, (Hazard("RAW", "x"), Hazard("WAR", "y")))


def test_kernel_variants_are_shared_and_numbered() -> None:
    kernel = Kernel("k", (), (Role("r"),))
    base = Graph("g", kernels=[kernel], nodes=[KernelNode("n", "k")])
    edit = base.edit()
    waiting = (Role("r", (Wait(),)),)
    first = edit.kernel_variant(kernel, waiting, "pdl")
    assert first.name == "k.pdl"
    assert edit.kernel_variant(kernel, waiting, "pdl") == first
    assert edit.kernel_variant(kernel, (Role("s"),), "pdl").name == "k.pdl2"
    edit.replace_node(KernelNode("n", first.name))
    edit.drop_unused_kernels()
    assert list(edit.commit().kernels) == ["k.pdl"]


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda e: e.remove_node("x"), "no node 'x'"),
        (lambda e: e.add_node(EmptyNode("a")), "exists already"),
        (lambda e: e.remove_dependency("a", "c"), "no dependency a -> c"),
        (lambda e: e.add_dependency(Dependency("a", "x")), "no node 'x'"),
        (lambda e: e.remove_buffer("x"), "no buffer 'x'"),
    ],
)
def test_misuse_is_told_at_once(act, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InternalError, match=words):
        act(LINE.edit())


def test_names_and_pairs_are_unique() -> None:
    with pytest.raises(InvalidInput, match="node 'a' occurs twice"):
        Graph("g", nodes=[EmptyNode("a"), EmptyNode("a")])
    with pytest.raises(InvalidInput, match="dependency a -> b occurs twice"):
        Graph("g", nodes=map(EmptyNode, "ab"), dependencies=[Dependency("a", "b"), Dependency("a", "b")])
    with pytest.raises(InvalidInput, match="kernel 'k' occurs twice"):
        Graph("g", kernels=[Kernel("k"), Kernel("k")])


@given(programs(Style(most_nodes=4)), st.data())
def test_analyses_that_survive_an_edit_are_those_of_the_edited_graph(graph: Graph, data: st.DataObject) -> None:
    for analysis in (accesses, conflicts, event_order, verify):
        analysis(graph)
    edit = graph.edit()
    for number in range(data.draw(st.integers(1, 3))):
        action = data.draw(st.sampled_from(["cut", "wait", "drop", "insert"]))
        names = list(edit.commit().nodes)
        pairs = [d.pair for d in edit.commit().dependencies]
        edit = edit.commit().edit()
        if action == "cut" and pairs:
            edit.remove_dependency(*data.draw(st.sampled_from(pairs)))
        elif action == "insert":
            edit.add_node(EmptyNode(f"new{number}"), before=names[0] if names else None)
        elif action == "drop" and names:
            edit.remove_node(data.draw(st.sampled_from(names)))
        elif action == "wait":
            for name in names:
                node = edit.node(name)
                kernel = edit.kernels.get(node.kernel) if isinstance(node, KernelNode) else None
                if isinstance(node, KernelNode) and kernel is not None and kernel.roles and not kernel.has(Wait):
                    roles = tuple(replace(role, steps=(Wait(), *role.steps)) for role in kernel.roles)
                    edit.replace_node(replace(node, kernel=edit.kernel_variant(kernel, roles, "w").name))
                    break
    after = edit.commit()
    tables = (after.allocations.values(), after.buffers.values(), after.kernels.values())
    fresh = Graph(after.name, *tables, after.nodes.values(), after.dependencies)
    assert after == fresh
    assert dict(accesses(after)) == dict(accesses(fresh))
    assert list(conflicts(after)) == list(conflicts(fresh))
    assert verify(after) == verify(fresh)
    assert event_order(after).before_wait == event_order(fresh).before_wait
