"""Wrong passes that plan memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import networkx as nx

from forerun.ir.graph import Graph
from forerun.ir.semantics import EventOrder, event_order
from forerun.ir.semantics.reaching_writes import EXPOSED
from forerun.passes.infra.base import PassContext
from forerun.passes.plan_memory import Coalesced, PlanMemory, coalesced, interference, planned
from tests.wrong.wrong_pass import wrong_pass

__all__: list[str] = []

LIMIT = 256


def _planned(graph: Graph, found: Iterable[Coalesced], order: Any = None) -> Graph:
    movable = [unit for unit in found if not unit.reason]
    others = interference(movable, cast(EventOrder, order or event_order(graph)), LIMIT)
    return planned(graph, movable, others, PassContext(PlanMemory()))


def _order(graph: Graph, complete: Callable[[str], Iterable[str]]) -> Any:
    """An order of events in which some nodes are complete at the start of each, whatever the rules say."""
    position = {name: i for i, name in enumerate(graph.nodes)}
    sets = [sum(1 << position[source] for source in complete(name)) for name in graph.nodes]
    return SimpleNamespace(position=position, before_start=sets, before_wait=sets)


@wrong_pass("race", "a path of dependencies is an order, whatever their kinds")
def takes_paths_for_order(graph: Graph) -> Graph:
    return _planned(graph, coalesced(graph), _order(graph, lambda name: nx.ancestors(graph.topology, name)))


@wrong_pass("race", "what is earlier in launch order is complete")
def plans_by_launch_order(graph: Graph) -> Graph:
    names = list(graph.nodes)
    return _planned(graph, coalesced(graph), _order(graph, lambda name: names[: names.index(name)]))


@wrong_pass("race", "every access is taken to come after the wait")
def forgets_early_stores(graph: Graph) -> Graph:
    order = event_order(graph)
    fake = SimpleNamespace(position=order.position, before_start=order.before_wait, before_wait=order.before_wait)
    return _planned(graph, coalesced(graph), fake)


@wrong_pass("race", "a buffer is free once its last reader may start")
def forgets_the_last_reader(graph: Graph) -> Graph:
    found = coalesced(graph)
    return _planned(graph, [replace(unit, users=unit.users[:-1] or unit.users) for unit in found])


@wrong_pass("flow", "views of the same bytes move one by one")
def moves_views_apart(graph: Graph) -> Graph:
    found = (replace(unit, buffers=[buffer]) for unit in coalesced(graph) for buffer in unit.buffers)
    return _planned(graph, found)


@wrong_pass("flow", "what is read before it is written moves as well")
def moves_what_is_not_written(graph: Graph) -> Graph:
    found = coalesced(graph)
    return _planned(graph, [replace(unit, reason="" if unit.reason == EXPOSED else unit.reason) for unit in found])
