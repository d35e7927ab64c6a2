"""What the strategies draw is valid, runs, shrinks, and hits the shapes that matter."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.kernel import Barrier, Kernel, Trigger, Wait
from forerun.ir.nodes import KernelNode, ScalarLoad
from forerun.ir.semantics import check
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.types import BufferRole, DependencyKind
from forerun.ir.verify import verify
from forerun.passes.pipeline import Pipeline
from forerun.runtime.reference import ReferenceTarget
from forerun.testing import assert_same_outputs, graphs, kernels, pipelines, schedules
from forerun.testing.subject import applied, pipeline_of

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SEARCH = settings(max_examples=300, deadline=None, database=None, derandomize=True)


@FEW
@given(graphs())
def test_graphs_are_valid_proved_and_equal_their_text(graph: Graph) -> None:
    assert verify(graph) == []
    assert check(graph).proved
    assert parse_graph(print_graph(graph)) == graph


@settings(FEW, max_examples=30)
@given(graphs())
def test_graphs_compute_the_same_under_any_schedule(graph: Graph) -> None:
    # In particular, no kernel has a race with itself.
    assert_same_outputs(graph, graph, seeds=range(8))


def test_graphs_hit_the_shapes_that_passes_look_for() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=120, deadline=None, database=None, derandomize=True)
    @given(graphs())
    def run(graph: Graph) -> None:
        seen.update(shapes(graph))

    run()
    expected = {"programmatic", "wait", "trigger", "two roles", "barrier", "asynchronous", "partial"}
    expected |= {"scalar from memory", "weight", "temp", "output", "copy", "fill", "empty", "event", "4 nodes"}
    assert expected - set(seen) == set()


def shapes(graph: Graph) -> set[str]:
    found = {kind for kind, count in graph.count_dependencies().items() if count}
    found |= {str(b.role) for b in graph.buffers.values()} | {f"{len(graph)} nodes"}
    names = {"MemcpyNode": "copy", "MemsetNode": "fill", "EmptyNode": "empty", "EventRecordNode": "event"}
    for node in graph:
        found.add(names.get(type(node).__name__, "kernel"))
        if isinstance(node, KernelNode) and any(isinstance(a, ScalarLoad) for _, a in node.arguments):
            found.add("scalar from memory")
    for kernel in graph.kernels.values():
        found |= {"two roles"} if len(kernel.roles or ()) > 1 else set()
        found |= {
            name for kind, name in ((Wait, "wait"), (Trigger, "trigger"), (Barrier, "barrier")) if kernel.has(kind)
        }
        found |= {"asynchronous" for phase in kernel.phases if phase.asynchronous}
        found |= {"partial" for p in kernel.phases for a in (*p.reads, *p.writes) if not a.region.is_whole}
    return found


@pytest.mark.parametrize(
    ("condition", "nodes"),
    [
        (lambda graph: graph.count_dependencies()["programmatic"] > 0, 2),
        (lambda graph: any(b.role is BufferRole.TEMP for b in graph.buffers.values()), 1),
        (lambda graph: len(graph) >= 3, 3),
    ],
)
def test_graphs_shrink_to_few_nodes(condition, nodes) -> None:
    assert len(find(graphs(), condition, settings=SEARCH)) == nodes


@settings(FEW, max_examples=20)
@given(graphs(order="stream", kinds=(), waits=False, nodes=("kernel", "fill"), max_nodes=3))
def test_options_say_what_may_occur(graph: Graph) -> None:
    assert graph.count_dependencies() == {"full": len(graph) - 1, "programmatic": 0, "launch_order": 0}
    assert len(graph) <= 3
    assert not any(kernel.has(Wait) for kernel in graph.kernels.values())


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(after="infer-dependencies,insert-pdl", must_match=lambda graph: has_programmatic(graph)))
def test_graphs_can_be_prepared_and_filtered(graph: Graph) -> None:
    assert has_programmatic(graph)


def test_unknown_kinds_of_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match="not kernels"):
        graphs(nodes=["kernels"])


def has_programmatic(graph: Graph) -> bool:
    return any(d.kind is DependencyKind.PROGRAMMATIC for d in graph.dependencies)


def test_aiming_makes_a_pass_fire_more_often() -> None:
    subject = pipeline_of("hoist-loads")

    def fired(strategy: st.SearchStrategy[Graph]) -> int:
        found: list[bool] = []

        @settings(max_examples=60, deadline=None, database=None, derandomize=True)
        @given(strategy)
        def run(graph: Graph) -> None:
            found.append(applied(subject, graph) != graph)

        run()
        return sum(found)

    assert fired(graphs(aimed_at=subject)) > 1.5 * fired(graphs())


@FEW
@given(kernels(waits=False, roles=1, partial=False, asynchronous=False))
def test_kernels_keep_to_their_shape(kernel: Kernel) -> None:
    assert len(kernel.roles or ()) == 1
    assert not kernel.has(Wait)
    assert not kernel.has(Trigger)
    assert all(a.region.is_whole for p in kernel.phases for a in (*p.reads, *p.writes))
    assert not any(phase.asynchronous for phase in kernel.phases)


@FEW
@given(pipelines(max_size=3))
def test_pipelines_equal_their_text(pipeline: Pipeline) -> None:
    assert Pipeline.parse(str(pipeline)) == pipeline
    assert len(pipeline) <= 3


def test_pipelines_draw_options() -> None:
    with_option = find(pipelines(["insert-pdl"]), lambda p: "trigger=end" in str(p), settings=SEARCH)
    assert str(with_option) == "insert-pdl{trigger=end}"
    assert str(find(pipelines(), lambda p: True, settings=SEARCH)) == ""


@FEW
@given(st.data())
def test_schedules_are_targets(data: st.DataObject) -> None:
    target = data.draw(schedules(serial=True, h6=True))
    assert isinstance(target, ReferenceTarget)
    assert target.schedule in ("serial", "adversarial")
