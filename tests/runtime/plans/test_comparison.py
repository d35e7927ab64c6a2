"""Graphs are compared by what they do."""

from __future__ import annotations

from dataclasses import replace

import pytest

import forerun
from forerun.ir.graph import Graph, Hazard
from forerun.ir.nodes import BufferArgument, ChildGraphNode, ConstantArgument, EmptyNode, KernelNode
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.types import DependencyKind
from forerun.runtime.plans import compare
from forerun.runtime.plans.comparison import sketch
from forerun.runtime.plans.lineage import compare_related
from tests.runtime.plans.samples import N, chain, decode, scale, shift, with_argument, with_edge, with_launch


def positions(graph: Graph) -> dict[str, int]:
    return {name: i for i, name in enumerate(graph.nodes)}


def test_a_graph_built_once_more_is_equal() -> None:
    assert compare(chain([1, 2, 3]), chain([1, 2, 3])).is_empty
    assert sketch(chain([1, 2, 3])) == sketch(chain([1, 2, 3]))


def test_names_of_nodes_and_kernels_do_not_count() -> None:
    other = chain([1, 2, 3], names="k", kernels=[replace(scale.KERNEL, name="another")])
    found = compare(chain([1, 2, 3]), other)
    assert found.is_empty
    assert found.renamed


def test_another_kernel_of_the_same_name_counts() -> None:
    impostor = replace(shift.KERNEL, name="scale")
    found = compare(chain([1]), chain([1], kernels=[impostor]))
    assert [(change.path, change.aspects) for change in found.nodes] == [("n0", ("kernel",))]


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (chain([1, 5, 3]), "argument 's' changed at n1"),
        (chain([7, 5, 3]), "argument 's' changed at n0, and 1 node more"),
        (chain([1, 2, 3], kernels=[None, None, shift]), "kernel changed at n2"),
        (with_launch(chain([1, 2, 3]), "n1", grid=(2, 1, 1), cluster=(2, 1, 1)), "grid, cluster changed at n1"),
        (with_edge(chain([1, 2, 3]), "n1", "n2", DependencyKind.LAUNCH_ORDER), "edge kind changed at n2: n1 -> n2"),
        (with_edge(chain([1, 2, 3]), "n1", "n2", None), "edge n1 -> n2 was removed at n2"),
        (with_edge(chain([1, 2, 3]), "n0", "n2", DependencyKind.FULL), "edge n0 -> n2 was added at n2"),
        (chain([1, 2, 3, 4]), "4 nodes, and 3 before"),
        (decode(0), "2 nodes, and 3 before"),
    ],
)
def test_the_reason_names_what_differs(after: Graph, reason: str) -> None:
    for known in (compare(chain([1, 2, 3]), after), compare(chain([1, 2, 3]), parse_graph(print_graph(after)))):
        assert known.reason.startswith(reason)


def test_kinds_of_nodes_and_bodies() -> None:
    def around(body: Graph) -> Graph:
        base = chain([1, 2])
        edit = base.edit()
        edit.add_node(ChildGraphNode("child", body.without_tables()))
        return edit.commit()

    inner = chain([1, 2])
    assert compare(around(inner), around(chain([1, 2]))).is_empty
    found = compare(around(inner), around(chain([1, 9])))
    assert [(str(c), c.is_inner, c.position) for c in found.nodes] == [("argument 's' changed at child/n1", True, 2)]
    edit = chain([1, 2]).edit()
    edit.add_node(EmptyNode("child"))
    assert compare(around(inner), edit.commit()).structure == "child is a join, and was a child graph"


def test_a_kernel_that_changed_is_seen_in_bodies_too() -> None:
    base = chain([1, 2])
    edit = base.edit()
    edit.add_node(ChildGraphNode("child", base.without_tables()))
    before = edit.commit()
    later = before.edit()
    later.set_kernel(replace(shift.KERNEL, name="scale"))
    paths = [change.path for change in compare(before, later.commit()).nodes]
    assert paths == ["n0", "n1", "child/n0", "child/n1"]


# By what edits touched


def test_edits_are_followed_to_the_common_ancestor() -> None:
    base = chain([1, 2, 3])
    left, right = with_argument(base, "n0", "s", 5), with_argument(base, "n2", "s", 6)
    deeper = with_argument(right, "n1", "s", 7)
    for before in (base, left, right, deeper):
        for after in (base, left, right, deeper):
            found = compare_related(before, after, positions(before))
            if before is base and after is base:
                continue
            assert found == compare(before, after), (before, after)


def test_numbers_are_told_from_other_arguments() -> None:
    base = chain([1, 2, 3])
    for after in (chain([1, 7, 3]), with_argument(base, "n1", "s", 7)):
        (change,) = (compare_related(base, after, positions(base)) or compare(base, after)).nodes
        assert (change.path, change.aspects, change.numbers) == ("n1", ("argument 's'",), (1,))
    node = base.nodes["n1"]
    assert isinstance(node, KernelNode)
    x, s, y = node.arguments
    for arguments in ((x, ("s", BufferArgument("x")), y), (x, ("r", ConstantArgument(7)), y), (("x", s[1]), s, y)):
        edit = base.edit()
        edit.replace_node(replace(node, arguments=arguments))
        after = edit.commit()
        for found in (compare_related(base, after, positions(base)), compare(base, after)):
            assert found is not None
            assert [c.numbers for c in found.nodes] == [()]
    assert compare(base, with_launch(with_argument(base, "n1", "s", 7), "n1", grid=(2, 1, 1))).nodes[0].numbers == ()


def test_edits_that_move_nodes_are_compared_as_a_whole() -> None:
    base = chain([1, 2, 3])
    edit = base.edit()
    moved = edit.node("n2")
    edit.remove_node("n2")
    edit.add_node(moved)
    after = edit.commit()
    assert compare_related(base, after, positions(base)) is None
    assert compare(base, after).structure.startswith("edge n1 -> n2 was removed")


def test_an_ancestor_that_died_is_not_needed() -> None:
    left = with_argument(chain([1, 2]), "n0", "s", 5)
    right = with_argument(chain([1, 2]), "n0", "s", 6)
    assert compare_related(left, right, positions(left)) is None
    assert compare(left, right).reason == "argument 's' changed at n0"


def test_a_graph_without_tables_is_another_one() -> None:
    graph = with_argument(chain([1, 2]), "n0", "s", 5)
    assert compare_related(graph, graph.without_tables(), positions(graph)) is None
    assert compare(graph, graph.without_tables()).memory == "allocation $x was removed"


def test_hazards_of_an_edge_do_not_count() -> None:
    base = chain([1, 2, 3])
    edge = base.dependency("n0", "n1")
    assert edge is not None
    edit = base.edit()
    edit.set_dependency(replace(edge, hazards=()))
    edit.set_dependency(replace(edge, hazards=(Hazard("RAW", "t0"),)))
    after = edit.commit()
    found = compare_related(base, after, positions(base))
    assert found is not None
    assert found.is_empty
    assert compare(base, after).is_empty
    kind = with_edge(base, "n0", "n1", DependencyKind.PROGRAMMATIC)
    assert compare_related(base, kind, positions(base)) is None


def test_buffers_are_compared_by_name_and_value() -> None:
    def sized(count: int, name: str = "y") -> Graph:
        builder = forerun.GraphBuilder("g")
        x, y = builder.input("x", "i32", count), builder.output(name, "i32", count)
        builder.launch(scale, x=x, s=1, y=y, node="n")
        return builder.build()

    assert compare(sized(N), sized(2 * N)).memory == "size of allocation $x changed"
    assert compare(sized(N), sized(N, "z")).memory == "allocation $y was removed"
