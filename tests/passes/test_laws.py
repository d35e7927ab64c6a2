"""Every pass keeps the laws on random programs, and every wrong twin is caught by them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, event, find, given, settings
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.passes.base import Pass
from forerun.passes.hoist_loads import HoistLoads
from forerun.passes.infer_dependencies import InferDependencies
from forerun.passes.insert_pdl import InsertPdl
from forerun.passes.reduce_edges import ReduceEdges
from tests.passes.laws import applied, broken_law, input_of, weakened
from tests.passes.twins import TWINS
from tests.programs import Style, programs

CHAINS = programs(Style(chain=True, most_nodes=5))


@pytest.mark.parametrize(
    "subject",
    [InferDependencies(), *(InsertPdl(t) for t in ("start", "after-wait", "end", "none")), HoistLoads(), ReduceEdges()],
    ids=str,
)
@given(chain=CHAINS)
def test_laws(subject: Pass, chain: Graph) -> None:
    graph = input_of(subject.name, chain)
    event(f"changes the graph: {applied(subject, graph) is not graph}")
    assert broken_law(subject, graph) is None


@given(CHAINS, st.permutations([InferDependencies(), InsertPdl(), HoistLoads(), ReduceEdges()]))
def test_laws_in_any_order(graph: Graph, passes: list[Pass]) -> None:
    for subject in passes:
        assert broken_law(subject, graph) is None, str(subject)
        graph = applied(subject, graph)


@given(CHAINS)
def test_laws_where_some_kernels_never_wait(chain: Graph) -> None:
    graph = weakened(applied(InferDependencies(), chain))
    event(f"programmatic: {graph.count_dependencies()['programmatic']}")
    for subject in (ReduceEdges(), HoistLoads(), InsertPdl(), InferDependencies()):
        assert broken_law(subject, graph) is None, str(subject)


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: type(twin).__name__)
def test_wrong_twins_are_caught(twin: Pass) -> None:
    def caught(chain: Graph) -> bool:
        inputs = input_of(twin.name, chain), weakened(applied(InferDependencies(), chain))
        return any(broken_law(twin, graph) is not None for graph in inputs)

    # Without shrinking: here it only matters that there is a counterexample.
    few = settings(
        max_examples=3000,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    assert len(find(CHAINS, caught, settings=few)) <= 5
