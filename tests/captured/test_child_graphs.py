"""Child graphs of captured graphs: what their nodes access counts, inside and outside; their code and edges stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from forerun.captured import CapturedEdge, CapturedGraph, CapturedNode, load_capture, save_capture
from forerun.external.choices import with_bodies_of
from forerun.frontends.captured import import_capture
from forerun.frontends.captured_advice import advice
from forerun.ir.graph import Graph
from forerun.ir.nodes import ChildGraphNode, KernelNode
from forerun.ir.refinement.certificate import certify
from forerun.ir.semantics import check
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.verify import require_valid
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda.capture.clone import _require_same_bodies
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.captured.samples import SCALE, captured, kernel, launch

PIPELINE = "insert-pdl,hoist-loads{full_edges=false}"
WAITS = ("griddepcontrol.wait;", *SCALE)


def child(nodes: Sequence[CapturedNode], edges: Sequence[CapturedEdge] = ()) -> CapturedNode:
    return CapturedNode("graph", body=CapturedGraph(tuple(nodes), tuple(edges)))


def program(
    nodes: Sequence[CapturedNode], edges: Sequence[CapturedEdge] | None = None, lines: Sequence[str] = SCALE
) -> CapturedGraph:
    """A graph whose kernels are all the same; what its child graphs launch is the outer graph's."""
    found = captured([kernel("scale", *lines)], nodes, edges)

    def known(node: CapturedNode) -> CapturedNode:
        if node.body is None:
            return node
        inner = tuple(known(one) for one in node.body.nodes)
        return replace(node, body=replace(node.body, nodes=inner, functions=found.functions))

    return replace(found, nodes=tuple(known(node) for node in found.nodes))


def imported(graph: CapturedGraph) -> Graph:
    found = import_capture(graph).graph
    require_valid(found)
    assert parse_graph(print_graph(found)) == found
    return found


ORDERED = child([launch(0, "w0", "x", "y"), launch(0, "w1", "y", "z")], [CapturedEdge(0, 1)])


def test_what_is_ordered_inside_is_proved() -> None:
    graph = imported(program([ORDERED]))
    node = graph.nodes["n0"]
    assert isinstance(node, ChildGraphNode)
    assert [one.name for one in node.body] == ["n0", "n1"]
    assert check(graph).proved


def test_a_race_inside_is_found() -> None:
    assert ORDERED.body is not None
    verdict = check(imported(program([child(ORDERED.body.nodes)])))
    assert verdict.status == "refuted"
    assert {verdict.races[0].earlier.node, verdict.races[0].later.node} == {"n0", "n1"}


@pytest.mark.parametrize("edges", [(), (CapturedEdge(0, 1),)])
def test_what_is_written_inside_is_ordered_outside(edges: Sequence[CapturedEdge]) -> None:
    verdict = check(imported(program([ORDERED, launch(0, "w0", "z", "x")], edges)))
    assert verdict.status == ("proved" if edges else "refuted")


def test_nodes_that_touch_other_bytes_need_no_order() -> None:
    assert check(imported(program([child([launch(0, "w0", "x", "y")]), launch(0, "w1", "x", "z")], ()))).proved


def test_what_is_written_inside_is_no_weight() -> None:
    """``w1`` is a weight of the last node, unless a child graph writes it."""
    for written, early in (("y", 1), ("w1", 0)):
        nodes = [child([launch(0, "w0", "x", written)]), launch(0, "w0", "x", "y"), launch(0, "w1", "y", "z")]
        after = PassManager(PIPELINE).run(imported(program(nodes))).graph
        kinds = [str(dependency.kind) for dependency in after.dependencies]
        assert kinds == ["full", "programmatic"]
        last = after.nodes["n2"]
        assert isinstance(last, KernelNode)
        (role,) = after.kernels[last.kernel].roles or ()
        assert [type(step).__name__ for step in role.steps].index("Wait") == early


def test_code_inside_stays() -> None:
    found = import_capture(program([ORDERED]))
    assert set(found.reasons) == {"n0/n0", "n0/n1"}
    assert "keep their code" in found.reasons["n0/n0"]
    after = PassManager(PIPELINE).run(found.graph).graph
    assert after.nodes["n0"] == found.graph.nodes["n0"]


def test_edges_inside_stay_in_clones() -> None:
    """Passes may make edges between kernels that wait already programmatic; what is cloned has them as they were."""
    nodes = [ORDERED, launch(0, "w0", "x", "y"), launch(0, "w1", "y", "z")]
    before = imported(program(nodes, lines=WAITS))
    after = PassManager(PIPELINE).run(before).graph
    changed = after.nodes["n0"]
    assert isinstance(changed, ChildGraphNode)
    assert changed.body.count_dependencies()["programmatic"] == 1
    with pytest.raises(Unsupported, match="'n0' is a child graph"):
        _require_same_bodies(before, after, tuple(before.nodes))
    kept = with_bodies_of(before, after)
    assert kept.nodes["n0"] == before.nodes["n0"]
    assert kept.count_dependencies() == after.count_dependencies() == {"full": 1, "programmatic": 1, "launch_order": 0}
    assert certify(before, kept).proved
    _require_same_bodies(before, kept, tuple(before.nodes))
    assert with_bodies_of(before, kept) is kept


def test_the_same_function_outside_is_opened() -> None:
    nodes = [ORDERED, launch(0, "w0", "x", "y"), launch(0, "w1", "y", "z")]
    after = PassManager(PIPELINE).run(imported(program(nodes))).graph
    assert after.count_dependencies()["programmatic"] == 1


def test_child_graphs_in_child_graphs() -> None:
    inner = child([child([launch(0, "w0", "x", "y")]), launch(0, "w1", "y", "z")], [CapturedEdge(0, 1)])
    graph = program([inner, launch(0, "w0", "z", "x")])
    found = import_capture(graph)
    assert check(found.graph).proved
    assert set(found.reasons) == {"n0/n0/n0", "n0/n1"}
    unordered = replace(inner, body=replace(graph.nodes[0].body, edges=()))  # type: ignore[type-var]
    assert check(imported(replace(graph, nodes=(unordered, graph.nodes[1])))).status == "refuted"


def test_a_cycle_inside_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cycle"):
        import_capture(program([child(ORDERED.body.nodes, [CapturedEdge(0, 1), CapturedEdge(1, 0)])]))  # type: ignore[union-attr]


def test_an_empty_child_graph() -> None:
    assert check(imported(program([child([]), launch(0, "w0", "x", "y")]))).proved


def test_kernels_inside_of_which_nothing_is_known() -> None:
    graph = program([ORDERED, launch(0, "w0", "z", "x")], ())
    closed = replace(graph, functions=tuple(replace(one, text="") for one in graph.functions), texts={})
    assert not check(imported(closed)).proved


def test_folders_hold_them(tmp_path: object) -> None:
    graph = program([ORDERED, launch(0, "w0", "z", "x")])
    found = load_capture(save_capture(graph, f"{tmp_path}/capture"))
    assert found == graph
    assert imported(found) == imported(graph)


def test_advice_on_a_graph_with_child_graphs() -> None:
    graph = imported(program([ORDERED, launch(0, "w0", "z", "x")], lines=WAITS))
    assert "A2" in {one.code for one in advice(graph)}
