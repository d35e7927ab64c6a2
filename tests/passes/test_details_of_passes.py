"""What passes choose where smaller graphs leave no choice: docs/evidence.md, "Mutation testing"."""

from __future__ import annotations

import pytest

from forerun.ir.buffer import ALLOCATION_ALIGNMENT, Buffer
from forerun.ir.graph import Graph
from forerun.ir.semantics import accesses, check, event_order
from forerun.ir.semantics.reaching_writes import EXPOSED
from forerun.ir.text import parse_graph
from forerun.ir.types import BufferRole, DType
from forerun.passes.hoist_loads import HoistLoads, complete_long_ago, hoisted, own_hazards
from forerun.passes.infra.base import PassContext
from forerun.passes.insert_pdl import convertible_dependencies
from forerun.passes.plan_memory import Coalesced, PlanMemory, best_fit, coalesced
from forerun.passes.reduce_edges import implied_dependencies

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
    phase load reads w defines v
    phase apply reads x uses v writes y
  }
}
kernel @early(w: f32[D], x: f32[D], y: f32[D]) {
  role main {
    phase load reads w defines v
    wait
    phase apply reads x uses v writes y
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


def test_an_event_holds_an_early_load_back_whatever_comes_after_the_event() -> None:
    graph = parsed("""
node #first = @late(w=%w, x=%x, y=%a)
node #event = event_wait "weights are there"
node #apart = fill %c with 1
node #second = @late(w=%w, x=%x, y=%b)
  after #event full
node #last = @early(w=%w, x=%b, y=%y)
  after #second full
  after #first full
""")
    assert converted(graph) == {("first", "last")}


def test_what_a_full_dependency_on_a_fill_gives_need_not_be_given_twice() -> None:
    """The fill starts when #first is complete, so #last does, whatever becomes of the other dependency."""
    graph = parsed("""
node #first = @late(w=%w, x=%x, y=%a)
node #fill = fill %b with 1
  after #first full
node #last = @early(w=%a, x=%b, y=%y)
  after #first full
  after #fill full
""")
    assert converted(graph) == {("first", "last")}


def test_a_programmatic_dependency_gives_nothing_at_the_start() -> None:
    graph = parsed("""
node #first = @late(w=%w, x=%x, y=%a)
node #second = @late(w=%w, x=%a, y=%b)
  after #first full
node #last = @early(w=%a, x=%b, y=%y)
  after #first full
  after #second programmatic
""")
    assert converted(graph) == {("first", "second")}


def test_a_load_may_take_what_a_load_before_it_gives() -> None:
    graph = parsed("""
kernel @gather(i: i32[D], w: f32[D], y: f32[D]) {
  role main {
    wait
    phase index reads i defines k
    phase load reads w uses k defines v
    phase apply uses v writes y
  }
}
""")
    (role,) = graph.kernels["gather"].roles or ()
    wait, index, load, apply = role.steps
    assert hoisted(role, set()) == ((index, load, wait, apply), 2, 0)
    assert hoisted(role, {"index"}) == (role.steps, 0, 2)


@pytest.mark.parametrize(
    ("body", "blocked"),
    [
        ("role main { wait phase load reads x[0:2] phase store writes x[0:2] }", set()),
        ("role main { wait phase store writes x[0:2] phase load reads x[0:2] }", {"load"}),
        ("role main { wait phase store writes x[0:2] phase load reads x[2:4] }", set()),
        ("role main { wait phase load reads x[0:2] } role other { wait phase store writes x[0:2] }", {"load"}),
        ("role main { wait phase load reads x[0:2] } role other { wait phase store writes x[2:4] }", set()),
    ],
)
def test_only_what_the_kernel_itself_may_write_before_holds_a_load(body: str, blocked: set[str]) -> None:
    lines = body.replace("{", "{\n").replace("}", "\n}\n").replace("phase", "\nphase")
    graph = parsed(f"kernel @both(x: f32[D]) {{\n{lines}\n}}\nnode #both = @both(x=%a)\n")
    assert own_hazards(graph.kernels["both"], accesses(graph)["both"]) == blocked


def test_a_load_that_was_early_already_asks_for_no_dependency() -> None:
    """What orders it is an assumption, H8; only a phase that moves needs what the strict rules give."""
    graph = parsed("""
kernel @fenced(w: f32[D], x: f32[D], y: f32[D]) {
  role main {
    wait
    phase store reads w, x writes y
    barrier
    trigger fence
  }
}
kernel @eager(a: f32[D], w: f32[D], x: f32[D], y: f32[D]) {
  role main {
    phase first reads a defines u
    wait
    phase load reads w defines v
    phase apply reads x uses u, v writes y
  }
}
node #first = @fenced(w=%w, x=%x, y=%a)
node #last = @eager(a=%a, w=%w, x=%x, y=%y)
  after #first programmatic
""")
    assert check(graph, {"H8"}).proved
    context = PassContext(HoistLoads())
    after = HoistLoads().apply(graph, context)
    assert context.statistics["phases_hoisted"] == 1
    assert after.dependencies == graph.dependencies


def test_a_full_path_implies_a_programmatic_dependency() -> None:
    graph = parsed("""
node #first = @late(w=%w, x=%x, y=%a)
node #second = @late(w=%w, x=%x, y=%b)
  after #first full
node #last = @late(w=%a, x=%b, y=%y)
  after #first programmatic
  after #second full
""")
    assert [dependency.pair for dependency in implied_dependencies(graph)] == [("first", "last")]


def reasons(text: str) -> dict[str, str]:
    return {unit.name: unit.reason for unit in coalesced(parse_graph(f"forerun 1\ngraph g\n{text}"))}


def test_what_shares_bytes_with_a_temporary_that_is_read_first_stays_and_its_neighbours_move() -> None:
    found = reasons("""
alloc $m : 64
buffer %below : f32[4] temp at $m
buffer %read : f32[8] temp at $m + 16
buffer %within : f32[4] temp at $m + 32
buffer %above : f32[4] temp at $m + 48
buffer %y : f32[8] output
node #copy = copy %read -> %y
""")
    assert found == {"below": "", "read": EXPOSED, "within": "it shares bytes with one that stays", "above": ""}


def test_temporaries_of_the_host_stay() -> None:
    found = reasons("buffer %h : f32[4] temp on host\nbuffer %d : f32[4] temp\n")
    assert found == {"h": "it is on the host", "d": ""}


def test_a_plan_counts_what_it_keeps_and_the_bytes_before_and_after() -> None:
    graph = parsed("""
buffer %d : f32[4] temp
buffer %h : f32[4] temp on host
node #one = copy %x -> %a
node #two = copy %a -> %b
  after #one full
node #three = copy %b -> %c
  after #two full
node #four = copy %c -> %d
  after #three full
node #five = copy %d -> %y
  after #four full
""")
    context = PassContext(PlanMemory())
    PlanMemory().apply(graph, context)
    expected = {
        "buffers_moved": 4,
        "buffers_kept": 1,
        "bytes_before": 4 * ALLOCATION_ALIGNMENT,
        "bytes_after": 2 * ALLOCATION_ALIGNMENT,
    }
    assert context.statistics == expected


def test_of_gaps_of_equal_size_the_first_is_taken() -> None:
    """Four lie one after another; what may not touch the second and the fourth fits before each of them."""
    found = [Coalesced([Buffer(name, DType.F32, (64,), BufferRole.TEMP, name)]) for name in "abcde"]
    others = {"a": "bcd", "b": "acde", "c": "abd", "d": "abce", "e": "bd"}
    assert best_fit(found, others) == {"a": 0, "b": 256, "c": 512, "d": 768, "e": 0}
