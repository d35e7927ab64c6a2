"""Witnesses, hints and repairs: what mutation testing asked for (docs/evidence.md)."""

from __future__ import annotations

from forerun.ir.graph import Graph
from forerun.ir.semantics import check, drain_repairs, drain_witness, order_under, repairs, witness
from forerun.ir.semantics.repair import AddWait, MoveAccess
from forerun.ir.semantics.witness import prerequisites
from forerun.ir.text import parse_graph


def parsed(text: str) -> Graph:
    return parse_graph(f"forerun 1\ngraph g\n{text}")


def test_a_wait_drains_and_says_so() -> None:
    graph = parsed("""
buffer %x : f32[4] state
buffer %y : f32[4] state
kernel @store(x: f32[N]) {
  role main {
    phase store writes x
  }
}
node #store = @store(x=%x)
node #last = @store(x=%y)
  after #store programmatic
""")
    assert check(graph).undrained == ("store",)
    said = [repair.sentence for repair in drain_repairs(graph, "store")]
    assert "let every role of 'last' wait first" in said


RELAY = """
buffer %x : f32[4] state
kernel @store(x: f32[N]) {
  role main {
    phase store writes x
  }
}
kernel @relay(x: f32[N]) {
  role main {
    wait
    trigger
  }
}
kernel @idle(x: f32[N]) {
  role main {
    trigger
  }
}
kernel @load(x: f32[N]) {
  role main {
    phase load reads x
  }
}
"""
LINKS = """
node #store = @store(x=%x)
node #relay = @relay(x=%x)
  after #store programmatic
node #idle = @idle(x=%x)
  after #relay programmatic
node #load = @load(x=%x)
  after #idle full
"""


def test_a_reason_names_the_first_node_of_the_chain() -> None:
    graph = parsed(RELAY + LINKS)
    (race,) = check(graph).races
    assert witness(graph, race).reason.endswith("so 'idle' may be complete before 'store' is")


def test_a_chain_prefers_what_orders_data_to_what_is_short() -> None:
    graph = parsed(RELAY + LINKS + "  after #store launch_order\n")
    (race,) = check(graph).races
    assert [d.target for d in witness(graph, race).chain] == ["relay", "idle", "load"]


def test_under_h6_a_start_comes_after_the_trigger_and_a_late_trigger_after_the_wait() -> None:
    graph = parsed(RELAY + LINKS)
    assert set(prerequisites(graph, order_under(graph, {"H6"}), ("S", "idle"))) == {("T", "relay")}
    assert set(prerequisites(graph, order_under(graph, {"H6"}), ("T", "relay"))) == {("S", "relay"), ("W", "relay")}
    assert set(prerequisites(graph, order_under(graph, {"H6"}), ("T", "idle"))) == {("S", "idle")}
    assert set(prerequisites(graph, order_under(graph), ("S", "idle"))) == set()


EARLY = """
buffer %x : f32[4] state
kernel @load(x: f32[N]) {
  role main {
    phase load reads x
  }
}
kernel @store(x: f32[N]) {
  role main {
    phase store writes x
    wait
  }
}
node #load = @load(x=%x)
node #store = @store(x=%x)
  after #load programmatic
"""


def test_a_store_may_move_behind_the_wait() -> None:
    graph = parsed(EARLY)
    verdict = check(graph)
    (race,) = verdict.races
    assert MoveAccess("store", "store") in [repair.change for repair in repairs(graph, race)]
    assert verdict.findings[0].hint == (
        "make the dependency 'load' -> 'store' full, or move the access after the wait of 'store'"
    )


def test_where_nothing_waits_the_hint_is_to_wait() -> None:
    (race,) = check(parsed(EARLY.replace("    wait\n", ""))).findings[:1]
    assert race.hint == "make the dependency 'load' -> 'store' full, or let 'store' wait"


def test_a_repair_inside_a_body_leaves_no_kernel_behind() -> None:
    tables, nodes = EARLY.replace("    wait\n", "").split("node #load", 1)
    graph = parsed(f"{tables}node #child = child {{\n  graph body\nnode #load{nodes}}}")
    (race,) = check(graph).races
    (repair,) = [repair for repair in repairs(graph, race) if isinstance(repair.change, AddWait)]
    assert set(repair.apply(graph).kernels) == {"load", "store.wait"}


def test_a_witness_of_a_node_that_outlives_the_graph_names_the_sink() -> None:
    graph = parsed(RELAY + LINKS)
    assert check(graph).undrained == ("store", "relay")
    found = drain_witness(graph, "store")
    assert found.missing == "C_store -> C_load"
    assert [d.target for d in found.chain] == ["relay", "idle", "load"]
