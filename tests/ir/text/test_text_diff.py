"""Diffs of graphs: literal, applicable, and quick on large graphs."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.graph import Dependency, Graph, Hazard
from forerun.ir.nodes import ChildGraphNode, EmptyNode, MemsetNode
from forerun.ir.region import BufferView
from forerun.ir.text import diff_graphs, print_graph
from forerun.ir.text.diff import anchors
from forerun.ir.types import DependencyKind
from tests.strategies import graphs, portion

HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@.*\n")


def applied(text: str, diff: str) -> str:
    """What ``patch`` makes of a text."""
    lines, result, at = text.splitlines(keepends=True), [], 0
    old = new = 0
    for line in diff.splitlines(keepends=True)[2:]:
        if (match := HUNK.fullmatch(line)) is not None:
            assert old == new == 0
            first, old, to, new = (int(group) if group else 1 for group in match.groups())
            first -= 1 if old else 0
            result += lines[at:first]
            at = first
            assert len(result) == to - (1 if new else 0)
            continue
        sign, content = line[0], line[1:]
        if sign in "- ":
            assert lines[at] == content
            at, old = at + 1, old - 1
        if sign in "+ ":
            result.append(content)
            new -= 1
    assert old == new == 0
    return "".join(result + lines[at:])


@portion(20)
@given(before=graphs(), after=graphs(), context=st.integers(0, 3))
def test_applying_the_diff(before: Graph, after: Graph, context: int) -> None:
    diff = diff_graphs(before, after, context=context)
    event(f"hunks: {diff.count('@@ -')}")
    assert applied(print_graph(before), diff) == print_graph(after)
    assert (diff == "") == (print_graph(before) == print_graph(after))


LINE = Graph(
    "line",
    nodes=[EmptyNode("a"), EmptyNode("b"), EmptyNode("c"), EmptyNode("d"), EmptyNode("e")],
    dependencies=[Dependency("a", "b"), Dependency("b", "c", hazards=(Hazard("RAW", "x"),)), Dependency("c", "e")],
)


def test_a_changed_dependency_is_found_under_its_node() -> None:
    edit = LINE.edit()
    edit.set_dependency(Dependency("b", "c", DependencyKind.PROGRAMMATIC, (Hazard("RAW", "x"),)))
    edit.remove_dependency("c", "e")
    assert diff_graphs(LINE, edit.commit(), labels=("00-input", "01-insert-pdl"), context=0) == (
        "--- 00-input\n"
        "+++ 01-insert-pdl\n"
        "@@ -8 +8 @@ node c\n"
        "-  after #b full RAW %x\n"
        "+  after #b programmatic RAW %x\n"
        "@@ -11 +10,0 @@ node e\n"
        "-  after #c full\n"
    )


def test_a_moved_node() -> None:
    edit = LINE.edit()
    edit.remove_node("d")
    edit.add_node(EmptyNode("d"), before="a")
    assert diff_graphs(LINE, edit.commit(), context=0) == (
        "--- before\n+++ after\n@@ -3,0 +4 @@ node d\n+node #d = empty\n@@ -9 +9,0 @@ node d\n-node #d = empty\n"
    )


def test_a_change_within_a_body() -> None:
    def graph(value: int) -> Graph:
        nodes = [EmptyNode("first"), MemsetNode("clear", BufferView("x"), value)]
        return Graph("g", nodes=[ChildGraphNode("loop", Graph("body", nodes=nodes))])

    assert diff_graphs(graph(0), graph(1), context=0) == (
        "--- before\n+++ after\n@@ -7 +7 @@ node loop/clear\n"
        "-  node #clear = fill %x with 0\n+  node #clear = fill %x with 1\n"
    )


def test_a_name_never_breaks_the_head_of_a_hunk() -> None:
    graph = Graph("g", nodes=[EmptyNode("two\nlines")])
    assert '@@ -2,0 +3,2 @@ node "two\\nlines"\n' in diff_graphs(Graph("g"), graph, context=0)


def test_no_difference() -> None:
    assert diff_graphs(LINE, LINE) == ""
    assert diff_graphs(LINE, Graph("line", nodes=LINE, dependencies=LINE.dependencies)) == ""


def test_every_node_of_a_large_graph_changed() -> None:
    before, after = (
        Graph("g", nodes=[MemsetNode(f"n{i}", BufferView("x"), value) for i in range(3000)]) for value in (0, 1)
    )
    lines = diff_graphs(before, after).splitlines()
    assert lines[5:9] == [
        "-node #n0 = fill %x with 0",
        "+node #n0 = fill %x with 1",
        "-node #n1 = fill %x with 0",
        "+node #n1 = fill %x with 1",
    ]
    assert len(lines) == 2 + 1 + 2 + 6000


@given(st.lists(st.integers(0, 5), max_size=12), st.lists(st.integers(0, 5), max_size=12))
def test_anchors_are_a_common_subsequence(before: list[int], after: list[int]) -> None:
    found = anchors(before, after)
    assert all(before[i] == after[j] for i, j in found)
    assert all(i < k and j < m for (i, j), (k, m) in pairwise(found))


@given(st.permutations(range(7)), st.permutations(range(7)))
def test_anchors_are_as_many_as_can_be(before: list[int], after: list[int]) -> None:
    lengths = [[0] * (len(after) + 1) for _ in range(len(before) + 1)]
    for i, item in enumerate(before):
        for j, other in enumerate(after):
            lengths[i + 1][j + 1] = lengths[i][j] + 1 if item == other else max(lengths[i][j + 1], lengths[i + 1][j])
    assert len(anchors(before, after)) == lengths[-1][-1]
