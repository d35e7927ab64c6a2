"""What insert-pdl and hoist-loads choose where smaller graphs leave no choice: docs/evidence.md, "Mutation testing"."""

from __future__ import annotations

from forerun.ir.graph import Graph
from forerun.ir.semantics import event_order
from forerun.ir.text import parse_graph
from forerun.passes.base import PassContext
from forerun.passes.hoist_loads import HoistLoads, complete_long_ago, hoisted
from forerun.passes.insert_pdl import convertible_dependencies

KERNELS = """\
forerun 1
graph g
buffer %w : f32[4] weight
buffer %x : f32[4] input
buffer %a : f32[4] temp
buffer %b : f32[4] temp
buffer %c : f32[4] temp
buffer %y : f32[4] output
kernel @late(w: f32[D], x: f32[D], y: f32[D]) {
  role main {
    wait
    phase load reads w gives v
    phase apply reads x takes v writes y
  }
}
kernel @early(w: f32[D], x: f32[D], y: f32[D]) {
  role main {
    phase load reads w gives v
    wait
    phase apply reads x takes v writes y
  }
}
"""


def parsed(nodes: str) -> Graph:
    return parse_graph(KERNELS + nodes)


def converted(graph: Graph) -> set[tuple[str, str]]:
    return {dependency.pair for dependency in convertible_dependencies(graph)}


def test_an_event_in_the_middle_holds_an_early_load_back() -> None:
    graph = parsed("""
node #first = @late(w=%w, x=%x, y=%a)
node #event = event_wait "weights are there"
node #second = @late(w=%w, x=%x, y=%b)
  after #event full
node #last = @early(w=%w, x=%b, y=%c)
  after #second full
  after #first full
""")
    assert converted(graph) == {("first", "last")}


def test_the_source_that_is_read_early_stays_full_and_no_other() -> None:
    graph = parsed("""
node #first = @late(w=%w, x=%x, y=%a)
node #second = @late(w=%w, x=%x, y=%b)
node #last = @early(w=%b, x=%a, y=%y)
  after #first full
  after #second full
""")
    assert converted(graph) == {("first", "last")}


def test_what_one_of_two_last_sources_does_not_wait_for_is_not_complete_long_ago() -> None:
    graph = parsed("""
node #start = @late(w=%w, x=%x, y=%a)
node #left = @late(w=%w, x=%a, y=%b)
  after #start programmatic
node #right = @late(w=%w, x=%x, y=%c)
node #last = @late(w=%a, x=%b, y=%y)
  after #left programmatic
  after #right programmatic
""")
    assert complete_long_ago(graph, event_order(graph), "start") == 0
    assert complete_long_ago(graph, event_order(graph), "left") == 0
    assert complete_long_ago(graph, event_order(graph), "last") == 0


def test_an_event_that_a_node_does_not_wait_for_holds_nothing_back() -> None:
    graph = parsed("""
node #first = @late(w=%w, x=%x, y=%a)
node #last = @late(w=%w, x=%a, y=%y)
  after #first programmatic
node #event = event_record "done"
  after #last full
""")
    hoist = HoistLoads()
    context = PassContext(hoist)
    hoist.apply(graph, context)
    assert context.statistics == {"phases_hoisted": 1, "phases_held": 0, "full_dependencies_added": 0}


def test_whatever_is_not_blocked_moves() -> None:
    (role,) = parsed("").kernels["late"].roles or ()
    wait, load, apply = role.steps
    assert hoisted(role, set()) == ((load, wait, apply), 1, 0)
    assert hoisted(role, {"load"}) == (role.steps, 0, 1)
    assert hoisted(role, set(), lambda: False) == (role.steps, 0, 1)
