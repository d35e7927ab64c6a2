"""Three oracles, one meaning: the checker, the explorer, and the naive enumerator."""

from __future__ import annotations

import random
from itertools import islice, product

from hypothesis import event, given

from forerun.ir.graph import Graph
from forerun.ir.semantics import check
from forerun.ir.types import DependencyKind
from forerun.testing.explorer import enumerate_orders, explore
from tests.programs import Style, programs, races, undrained
from tests.three_kernels import BODIES, EDGES, graph_of


@given(programs(Style(most_nodes=4)))
def test_explorer_and_event_order_agree(graph: Graph) -> None:
    found = explore(graph)
    event(f"proved: {found.proved}")
    assert found.races == set(races(graph))
    assert found.undrained == set(undrained(graph))
    assert found.proved == check(graph).proved


def test_there_are_23_bodies_and_27_sets_of_edges() -> None:
    assert (len(BODIES), len(EDGES)) == (23, 27)


def test_explorer_and_enumerator_agree_on_two_kernels() -> None:
    kinds = (None, DependencyKind.FULL, DependencyKind.PROGRAMMATIC)
    for bodies in islice(product(range(len(BODIES)), repeat=2), 0, None, 2):
        for kind in kinds:
            graph = graph_of(bodies, (kind,))
            assert explore(graph).races == enumerate_orders(graph)
            assert explore(graph, ["H6"]).races == enumerate_orders(graph, ["H6"])


def test_explorer_and_checker_agree_on_a_sample_of_three_kernels() -> None:
    chooser = random.Random(0)
    for _ in range(3000):
        bodies = tuple(chooser.choices(range(len(BODIES)), k=3))
        graph = graph_of(bodies, chooser.choice(EDGES))
        assert explore(graph).proved == check(graph).proved
