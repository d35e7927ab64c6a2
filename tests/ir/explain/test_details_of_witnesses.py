"""Witnesses, hints and repairs: what mutation testing asked for (docs/evidence.md)."""

from __future__ import annotations

from forerun.ir.explain import drain_repairs, drain_witness, explain, repairs, witness
from forerun.ir.explain.explanation import Explanation
from forerun.ir.explain.repair import AddWait, MoveAccess
from forerun.ir.explain.witness import prerequisites
from forerun.ir.graph import Graph
from forerun.ir.nodes import ConditionalNode
from forerun.ir.semantics import check, order_under
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


COPY = """
buffer %x : f32[4] state
kernel @store(x: f32[N]) {
  role main {
    phase store writes x
    barrier
    trigger fence
  }
}
kernel @load(x: f32[N]) {
  role main {
    phase load reads x defines v async
  }
}
node #store = @store(x=%x)
node #load = @load(x=%x)
  after #store programmatic
"""


def test_a_reason_under_h8_says_what_the_fence_does_not_give() -> None:
    for text, reason in (
        (COPY, "and 'load' never waits; what the fence releases need not reach the copy engine"),
        (
            COPY.replace("    barrier\n", ""),
            "; the trigger of 'store' does not release phase 'store': no barrier and fence in between",
        ),
    ):
        graph = parsed(text)
        (race,) = check(graph, {"H8"}).races
        assert witness(graph, race, {"H8"}).reason.endswith(reason)
        (strict,) = check(graph).races
        assert witness(graph, strict).reason.endswith("and 'load' never waits")


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


def test_an_explanation_ends_with_the_repairs_that_were_tried() -> None:
    graph = parsed(EARLY)
    race, outliving = explain(graph, check(graph))[0], explain(parsed(RELAY + LINKS), check(parsed(RELAY + LINKS)))[1]
    assert list(race.lines())[-3:] == [
        "  each of these was tried, and repairs it:",
        "    1. make the dependency 'load' -> 'store' full (then all is proved)",
        "    2. move phase 'store' of 'store' after the wait (then all is proved)",
    ]
    assert (outliving.race, outliving.finding.code) == (None, "R2")
    assert "missing: C_store -> C_load" in "\n".join(outliving.lines())


def test_beyond_the_limit_findings_are_bare_but_known() -> None:
    graph = parsed(RELAY + LINKS)
    verdict = check(graph)
    full, bare = explain(graph, verdict), explain(graph, verdict, limit=1)
    assert len(verdict.findings) == 3
    assert [found.finding for found in bare] == list(verdict.findings)
    assert [found.race for found in bare] == [found.race for found in full] == [verdict.races[0], None, None]
    assert [found.witness is None for found in bare] == [False, True, True]
    assert [list(found.lines()) for found in bare[1:]] == [[], []]
    assert "tried" not in "\n".join(Explanation(full[0].finding, witness=full[0].witness).lines())


def test_a_repair_in_one_body_keeps_the_others() -> None:
    """The first of two bodies is repaired; the second one has no fault."""
    tables, nodes = EARLY.replace("buffer %x", "buffer %go : i32[1] state in 0..1\nbuffer %x").split("node #load", 1)
    bodies = f"{{\n  graph then\nnode #load{nodes}}} else {{\n  graph else\nnode #other = empty\n}}"
    graph = parsed(f"{tables}node #choice = if %go {bodies}")
    (race,) = check(graph).races
    assert race.body == (("choice", 0),)
    for repair in repairs(graph, race):
        choice = repair.apply(graph).nodes["choice"]
        assert isinstance(choice, ConditionalNode)
        assert [list(body.nodes) for body in choice.bodies] == [["load", "store"], ["other"]]
        assert check(repair.apply(graph)).proved


def test_a_witness_shows_the_nodes_of_its_chain_in_order() -> None:
    chained, apart = parsed(RELAY + LINKS), parsed(EARLY.replace("  after #load programmatic\n", ""))
    assert witness(chained, check(chained).races[0]).nodes == ("store", "relay", "idle", "load")
    assert set(witness(apart, check(apart).races[0]).nodes) == {"load", "store"}


def test_an_order_of_starts_in_the_middle_of_a_chain_is_the_reason() -> None:
    graph = parsed(
        RELAY
        + """
node #store = @store(x=%x)
node #idle = @idle(x=%x)
  after #store launch_order
node #load = @load(x=%x)
  after #idle full
"""
    )
    (race,) = check(graph).races
    assert witness(graph, race).reason == "the dependency 'store' -> 'idle' orders the starts at best"
    assert drain_witness(graph, "store").reason == witness(graph, race).reason


def test_what_is_no_kernel_gets_no_wait() -> None:
    graph = parsed("buffer %x : f32[4] state\nnode #fill = fill %x with 1\n")
    assert AddWait("fill").apply(graph) is graph
