"""The pattern-rewrite driver."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from infra_samples import Nothing, fills, values

from forerun.ir.edit import GraphEdit
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import EmptyNode, KernelNode, MemsetNode, Node
from forerun.ir.verify import verify
from forerun.passes.base import PassContext
from forerun.passes.rewrite import RewriteRule, RewriteView, rewrite
from forerun.support.diagnostics import InternalError


def context(limit: int | None = None) -> PassContext:
    return PassContext(Nothing(), limit=limit)


@dataclass
class Step:
    """Adds to a value below a bound."""

    name: str = "step"
    benefit: int = 1
    amount: int = 1
    below: int = 5
    visits: list[str] = field(default_factory=list)

    def match(self, view: RewriteView, node: Node) -> MemsetNode | None:
        self.visits.append(node.name)
        return node if isinstance(node, MemsetNode) and node.value < self.below else None

    def apply(self, edit: GraphEdit, match: MemsetNode) -> None:
        edit.replace_node(replace(match, value=match.value + self.amount))


@dataclass
class RemoveJoin:
    """Removes an empty node, and connects its sources with its targets."""

    name: str = "remove-join"
    benefit: int = 1

    def match(self, view: RewriteView, node: Node) -> tuple[str, list[Dependency]] | None:
        if not isinstance(node, EmptyNode):
            return None
        around = [Dependency(a.source, b.target) for a in view.incoming(node.name) for b in view.outgoing(node.name)]
        return node.name, around

    def apply(self, edit: GraphEdit, match: tuple[str, list[Dependency]]) -> None:
        name, around = match
        edit.remove_node(name)
        for dependency in around:
            edit.add_dependency(dependency)


@dataclass
class FollowSource:
    """Takes the value of the source: changes run down a chain."""

    name: str = "follow"
    benefit: int = 1

    def match(self, view: RewriteView, node: Node) -> MemsetNode | None:
        if not isinstance(node, MemsetNode):
            return None
        sources = [view.node(dependency.source) for dependency in view.incoming(node.name)]
        above = max((s.value for s in sources if isinstance(s, MemsetNode)), default=0)
        return replace(node, value=above) if above > node.value else None

    def apply(self, edit: GraphEdit, match: MemsetNode) -> None:
        edit.replace_node(match)


def joins(pairs: Iterable[tuple[int, int]], count: int) -> Graph:
    dependencies = [Dependency(f"n{a}", f"n{b}") for a, b in sorted(set(pairs)) if a < b]
    return Graph("joins", nodes=[EmptyNode(f"n{i}") for i in range(count)], dependencies=dependencies)


def test_rules_are_applied_to_a_fixpoint() -> None:
    graph = fills(3)
    told = context()
    result = rewrite(graph, [Step()], told)
    assert values(result) == [5, 5, 5]
    assert told.applications == {"step": 15}
    assert values(graph) == [0, 0, 0]


def test_nothing_to_do_is_the_same_graph() -> None:
    graph = fills(3)
    assert rewrite(graph, [Step(below=0)], context()) is graph
    assert rewrite(graph, [], context()) is graph


def test_all_changes_are_one_delta() -> None:
    result = rewrite(fills(3), [Step()], context())
    assert result.delta is not None
    assert list(result.delta.nodes) == ["n0", "n1", "n2"]
    assert not result.delta.dependencies


def test_the_highest_benefit_goes_first_then_the_first_rule() -> None:
    told = context()
    rules = [Step("a", 1), Step("b", 2, below=2), Step("c", 2, below=2)]
    rewrite(fills(1), rules, told)
    assert told.applications == {"b": 2, "a": 3}


def test_neighbours_are_visited_again() -> None:
    @dataclass
    class Seed(Step):
        def match(self, view: RewriteView, node: Node) -> MemsetNode | None:
            return super().match(view, node) if node.name == "n0" else None

    result = rewrite(fills(50), [FollowSource(), Seed(below=3)], context())
    assert values(result) == [3] * 50


def test_new_nodes_are_visited() -> None:
    @dataclass
    class Grow:
        name: str = "grow"
        benefit: int = 1

        def match(self, view: RewriteView, node: Node) -> str | None:
            number = len(node.name)
            return node.name + "x" if number < 8 and node.name + "x" not in view else None

        def apply(self, edit: GraphEdit, match: str) -> None:
            edit.add_node(EmptyNode(match))

    result = rewrite(Graph("g", nodes=[EmptyNode("n")]), [Grow()], context())
    assert list(result.nodes) == ["n" + "x" * i for i in range(8)]


def test_rules_may_look_further_than_neighbours() -> None:
    """A change far away is found by the final sweep."""

    @dataclass
    class CopyLast(FollowSource):
        def match(self, view: RewriteView, node: Node) -> MemsetNode | None:
            names = list(view)
            last = view.node(names[-1])
            assert isinstance(last, MemsetNode)
            assert isinstance(node, MemsetNode)
            return replace(node, value=last.value) if node.value < last.value else None

    @dataclass
    class StepLast(Step):
        def match(self, view: RewriteView, node: Node) -> MemsetNode | None:
            return super().match(view, node) if node.name == "n9" else None

    assert values(rewrite(fills(10), [CopyLast(), StepLast()], context())) == [5] * 10


def test_a_change_of_a_shared_table_visits_all_nodes_again() -> None:
    @dataclass
    class Widen:
        """Changes a buffer; the nodes are told by nobody but the driver."""

        name: str = "widen"
        benefit: int = 9

        def match(self, view: RewriteView, node: Node) -> str | None:
            return "o0" if node.name == "n2" and view.buffers["o0"].shape == (4,) else None

        def apply(self, edit: GraphEdit, match: str) -> None:
            edit.set_buffer(replace(edit.base.buffers[match], shape=(2,)))

    step = Step(below=0)
    rewrite(fills(3), [Widen(), step], context())
    assert step.visits == ["n0", "n1", "n0", "n1", "n2", "n0", "n1", "n2"]


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30), st.integers(0, 11))
def test_the_driver_ends_and_is_deterministic(pairs: list[tuple[int, int]], limit: int) -> None:
    graph = joins(pairs, 12)
    event(f"{len(graph.dependencies) // 5 * 5} dependencies")
    assert len(rewrite(graph, [RemoveJoin()], context())) == 0
    told = context(limit)
    first = rewrite(graph, [RemoveJoin()], told)
    assert told.applications.get("remove-join", 0) == limit
    assert len(first) == 12 - limit
    assert verify(first) == []
    assert rewrite(graph, [RemoveJoin()], context(limit)) == first


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 4), st.integers(0, 2)), max_size=4), st.integers(0, 5))
def test_random_rules_reach_their_fixpoint(drawn: list[tuple[int, int, int]], count: int) -> None:
    rules = [Step(f"r{i}", benefit, amount, below) for i, (below, amount, benefit) in enumerate(drawn)]
    result = rewrite(fills(count + 1), rules, context())
    assert all(value >= max((rule.below for rule in rules), default=0) for value in values(result))


def test_rules_that_undo_each_other_are_named() -> None:
    @dataclass
    class Down(Step):
        def match(self, view: RewriteView, node: Node) -> MemsetNode | None:
            return node if isinstance(node, MemsetNode) and node.value == self.below else None

        def apply(self, edit: GraphEdit, match: MemsetNode) -> None:
            edit.replace_node(replace(match, value=0))

    with pytest.raises(InternalError) as caught:
        rewrite(fills(1), [Step("up", below=1), Down("down", below=1), Step("idle", below=0)], context())
    assert caught.value.message == "rewriting does not end: 110 applications, the last ones of 'down' and 'up'"
    assert caught.value.hint.startswith("rules must not undo each other; the last applications: ")
    assert caught.value.hint.endswith("up @n0, down @n0, up @n0")


def test_the_bound_can_be_set() -> None:
    assert values(rewrite(fills(1), [Step()], context(), max_applications=5)) == [5]
    with pytest.raises(InternalError, match="4 applications, the last ones of 'step'"):
        rewrite(fills(1), [Step()], context(), max_applications=4)


def test_a_rule_that_matches_must_change_something() -> None:
    with pytest.raises(InternalError, match="rule 'idle' matched at node 'n0', but changed nothing"):
        rewrite(fills(1), [Step("idle", amount=0)], context())


def test_the_view_follows_the_edit() -> None:
    graph = fills(3)
    edit = graph.edit()
    view = RewriteView(edit)
    assert list(view) == ["n0", "n1", "n2"]
    edit.remove_node("n1")
    edit.set_dependency(Dependency("n0", "n2"))
    edit.set_dependency(Dependency("ghost", "n2"))
    assert list(view) == ["n0", "n2"]
    assert "n1" not in view
    assert "ghost" not in view
    assert [d.source for d in view.incoming("n2")] == ["n0", "ghost"]
    assert [d.target for d in view.outgoing("n0")] == ["n2"]
    assert view.kernel_of(view.node("n0")) is None
    assert view.buffers == graph.buffers


def test_the_view_knows_the_kernels() -> None:
    kernel = Kernel("k")
    edit = Graph("g", kernels=[kernel], nodes=[KernelNode("a", "k"), KernelNode("b", "none")]).edit()
    view = RewriteView(edit)
    assert [view.kernel_of(view.node(name)) for name in view] == [kernel, None]


def test_rules_fit_the_protocol() -> None:
    rule: RewriteRule[MemsetNode] = Step()
    assert rule.name == "step"
