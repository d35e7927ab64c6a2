"""What the strategies draw is valid, runs, shrinks, and hits the shapes that matter."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.kernel import Barrier, Kernel, Trigger, Wait
from forerun.ir.nodes import ChildGraphNode, ConditionalNode, EmptyNode, KernelNode, ScalarLoad
from forerun.ir.semantics import check
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.types import BufferRole, DependencyKind
from forerun.ir.verify import verify
from forerun.passes import Pass, PassContext
from forerun.passes.infra import registry
from forerun.passes.infra.pipeline import Pipeline
from forerun.runtime.reference import ReferenceTarget
from forerun.support.options import option, specs
from forerun.testing import assert_same_outputs, graphs, kernels, pipelines, schedules

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Without the phase that explains failures, which takes as long as the rest.
SEARCH = settings(
    max_examples=1000, deadline=None, database=None, derandomize=True, phases=[Phase.generate, Phase.shrink]
)


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

    @settings(max_examples=400, deadline=None, database=None, derandomize=True)
    @given(graphs())
    def run(graph: Graph) -> None:
        seen.update(shapes(graph))

    run()
    expected = {"programmatic", "wait", "trigger", "two roles", "barrier", "asynchronous", "partial"}
    expected |= {"scalar from memory", "weight", "temp", "output", "copy", "fill", "empty", "event", "4 nodes"}
    expected |= {"child", "if", "if with else", "switch", "while", "host", "i32", "f32", "i8"}
    assert expected - set(seen) == set()


def shapes(graph: Graph) -> set[str]:
    found = {kind for kind, count in graph.count_dependencies().items() if count}
    found |= {str(b.role) for b in graph.buffers.values()} | {f"{len(graph)} nodes"}
    found |= {str(b.dtype) for b in graph.buffers.values() if b.name in ("s0", "x", "y")}
    names = {"MemcpyNode": "copy", "MemsetNode": "fill", "EmptyNode": "empty", "EventRecordNode": "event"}
    names |= {"HostCallbackNode": "host", "ChildGraphNode": "child"}
    for node in graph:
        found.add(names.get(type(node).__name__, "kernel"))
        if isinstance(node, ConditionalNode):
            found.add("if with else" if node.kind == "if" and len(node.bodies) > 1 else node.kind)
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


def test_bodies_have_programmatic_dependencies_too() -> None:
    def condition(graph: Graph) -> bool:
        return any(has_programmatic(node.body) for node in graph if isinstance(node, ChildGraphNode))

    found = find(graphs(nodes=("kernel", "child"), max_nodes=2), condition, settings=SEARCH)
    assert len(found) == 1


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


SEEN: list[Graph] = []
"""The graphs that :class:`Watches` was tried on since the last one was drawn."""


@dataclass(frozen=True)
class Watches(Pass):
    """Adds a node to graphs of more than one node, and remembers what it saw."""

    name: ClassVar[str] = "watches"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        SEEN.append(graph)
        edit = graph.edit()
        if len(graph) > 1:
            edit.add_node(EmptyNode("more"))
        return edit.commit()


def test_aiming_tries_up_to_three_graphs_for_one_that_the_pass_changes() -> None:
    """Not by counting how often a pass fires: that says little unless there are very many graphs."""
    second_choice: list[Graph] = []
    SEEN.clear()

    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    @given(graphs(aimed_at=Watches, max_nodes=2, nodes=("empty",)))
    def run(graph: Graph) -> None:
        # What an example that Hypothesis gave up has seen comes before.
        assert graph is SEEN[-1]
        sizes = [len(seen) for seen in SEEN[-3:]]
        assert len(graph) > 1 or sizes == [1, 1, 1]
        second_choice.extend([graph] if sizes[-2:] == [1, 2] else [])
        SEEN.clear()

    run()
    assert second_choice


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


@dataclass(frozen=True)
class Reads(Watches):
    """Needs a file."""

    name: ClassVar[str] = "reads"

    table: str = option(help="a file that must be there", file=True)


@dataclass(frozen=True)
class MayRead(Watches):
    """May have a file."""

    name: ClassVar[str] = "may-read"

    hints: str = option("", help="a file of hints", file=True)


def test_pipelines_draw_no_file() -> None:
    """The declaration of an option says that it is a file; a made-up name of one breaks the pass that reads it."""
    with pytest.raises(ValueError, match="pass 'reads' needs a file"):
        pipelines([MayRead, Reads])
    names: set[str] = set()

    @settings(FEW, max_examples=160, database=None, derandomize=True)
    @given(st.one_of(pipelines(), pipelines([MayRead])))
    def run(pipeline: Pipeline) -> None:
        for subject in pipeline:
            names.add(subject.name)
            assert all(getattr(subject, spec.name) == spec.default for spec in specs(type(subject)) if spec.is_file)

    run()
    without = {cls.name for cls in registry.available().values() if not any(spec.is_file for spec in specs(cls))}
    assert names == without | {MayRead.name}
    assert "apply-tuning" not in names


@FEW
@given(st.data())
def test_schedules_are_targets(data: st.DataObject) -> None:
    target = data.draw(schedules(serial=True, h6=True))
    assert isinstance(target, ReferenceTarget)
    assert target.schedule in ("serial", "adversarial")
