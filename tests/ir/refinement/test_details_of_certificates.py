"""Certificates: what mutation testing asked for (docs/evidence.md)."""

from __future__ import annotations

import pytest

from forerun.ir.graph import Graph
from forerun.ir.refinement.certificate import certify
from forerun.ir.semantics import Verdict
from forerun.ir.text import parse_graph
from forerun.support.diagnostics import InvalidInput, Severity


def parsed(text: str) -> Graph:
    return parse_graph(f"forerun 1\ngraph g\n{text}")


def test_a_kernel_that_is_not_declared_is_a_finding_and_no_crash() -> None:
    text = "buffer %x : f32[4] state\nkernel @box(x: f32) opaque\nnode #box = @box(x=%x)"
    before = parsed(text)
    lost = parsed(text.replace("= @box", "= @gone"))
    assert certify(before, before).proved
    verdict = certify(before, lost)
    assert not verdict.proved
    assert "its kernel is not declared" in verdict.findings[0].message


def test_another_condition_with_the_same_bodies_is_another_node() -> None:
    text = """
buffer %a : i32[1] input in 0..1
buffer %b : i32[1] input in 0..1
buffer %x : f32[4] state
node #choice = if %a {
  graph then
  node #fill = fill %x with 1
}
"""
    assert certify(parsed(text), parsed(text)).proved
    assert not certify(parsed(text), parsed(text.replace("if %a", "if %b"))).proved


def certified(before: str, *edit: str) -> Verdict:
    return certify(parsed(before), parsed(before.replace(*edit)))


def test_a_node_that_shares_no_bytes_may_not_outlive_the_graph_either() -> None:
    text = """
buffer %x : f32[4] state
buffer %y : f32[4] state
kernel @store(x: f32[N]) {
  role main {
    phase store writes x
  }
}
node #store = @store(x=%x)
node #last = @store(x=%y)
  after #store full
"""
    verdict = certified(text, "full", "programmatic")
    assert (verdict.status, verdict.undrained) == ("refuted", ("store",))


RECEIVED = """
buffer %x : f32[4] state
buffer %y : f32[4] state
buffer %z : f32[4] state
node #received = fill %x with 1
node #racing = fill %x with 2
node #first = fill %y with 1
node #second = fill %y with 2
  after #first full
node #child = child {
  graph body
  node #inner = fill %z with 1
  node #outer = fill %z with 2
    after #inner full
}
"""


def test_a_race_beside_one_that_was_received_is_refuted() -> None:
    assert certified(RECEIVED, "fill %y with 2\n  after #first full", "fill %y with 2").status == "refuted"
    assert certified(RECEIVED, "node #child", "node #more = empty\nnode #child").status == "unsupported"


def test_a_body_may_not_launch_a_kernel_that_was_redefined() -> None:
    text = """
buffer %x : f32[4] state
buffer %y : f32[4] state
kernel @both(x: f32[N], y: f32[N]) {
  role main {
    phase load reads x defines v
    phase store uses v writes y
  }
}
node #child = child {
  graph body
  node #both = @both(x=%x, y=%y)
}
"""
    assert certified(text, "phase store uses v writes y", "phase put uses v writes y").status == "unsupported"


GATE = """
buffer %w : f32[4] weight
buffer %x : f32[4] state
kernel @first(x: f32[N]) {
  role main {
    phase store writes x
  }
}
kernel @second(w: f32[N], x: f32[N]) {
  role main {
    wait
    phase load reads w defines v
    phase store uses v writes x
  }
}
node #go = event_wait "weights are there"
node #first = @first(x=%x)
  after #go full
node #second = @second(w=%w, x=%x)
  after #first programmatic
"""


def test_a_load_may_not_move_ahead_of_the_wait_for_an_event() -> None:
    verdict = certified(
        GATE, "    wait\n    phase load reads w defines v\n", "    phase load reads w defines v\n    wait\n"
    )
    assert (verdict.status, [finding.code for finding in verdict.findings]) == ("refuted", ["C5"])


def test_a_lost_write_of_a_size_that_is_not_known_refutes_nothing() -> None:
    """All that is known of the past columns is their hull, which other bytes may be all of."""
    text = """
buffer %pos : i32[1] state in 0..3
buffer %x : f32[4, 4] state
kernel @columns(x: f32[R, C], p: scalar i32) {
  role main {
    phase store writes x[0:p, 0:1]
  }
}
node #columns = @columns(x=%x, p=load(%pos[0]))
node #other = empty
  after #columns full
"""
    columns = "node #columns = @columns(x=%x, p=load(%pos[0]))\n"
    verdict = certified(text, f"{columns}node #other = empty\n  after #columns full", "node #other = empty")
    assert "C1" in [finding.code for finding in verdict.findings]
    assert verdict.status == "unsupported"


def test_a_load_that_did_not_wait_for_an_event_may_go_on_so() -> None:
    """Though it reads the bytes that the same node stores after its wait."""
    graph = parsed("""
buffer %x : f32[4] state
buffer %y : f32[4] state
kernel @first(y: f32[N]) {
  role main {
    phase store writes y
  }
}
kernel @second(x: f32[N]) {
  role main {
    phase load reads x defines v
    wait
    phase store uses v writes x
  }
}
node #go = event_wait "weights are there"
node #first = @first(y=%y)
  after #go full
node #second = @second(x=%x)
  after #first programmatic
""")
    assert certify(graph, graph.edit().commit()).proved


def test_an_unknown_assumption_is_an_error_even_where_nothing_changed() -> None:
    graph = parsed("buffer %x : f32[4] state\nnode #fill = fill %x with 1\n")
    with pytest.raises(InvalidInput, match="unknown assumption 'H7'"):
        certify(graph, graph, {"H7"})


RACES = """
buffer %x : f32[4] state
buffer %y : f32[4] state
buffer %t : f32[4] temp
node #one = fill %x with 1
node #two = fill %x with 2
node #three = fill %y with 1
"""


def test_a_race_in_a_body_that_was_not_there_is_no_order_that_was_lost() -> None:
    body = "node #body = child {\n  graph body\n  node #a = fill %t with 1\n  node #b = fill %t with 2\n}\n"
    verdict = certify(parsed(RACES), parsed(RACES + body))
    assert [race.body for race in verdict.races] == [(), (("body", 0),)]
    assert (verdict.status, {"C8", "C10"} - {found.code for found in verdict.findings}) == ("unsupported", set())


def test_what_is_new_has_no_order_that_could_be_lost() -> None:
    """The new copy reads what the first node of before writes; that other nodes changed places is right."""
    text = """
buffer %x : f32[4] state
buffer %y : f32[4] state
buffer %z : f32[4] state
buffer %t : f32[4] temp
node #first = fill %x with 1
node #second = fill %y with 1
node #third = fill %z with 1
"""
    second, third = "node #second = fill %y with 1\n", "node #third = fill %z with 1\n"
    after = text.replace(second + third, third + second).replace(
        "node #first", "node #new = copy %x -> %t\nnode #first"
    )
    verdict = certify(
        parsed(text), parsed(after.replace("with 1\nnode #third", "with 1\n  after #new full\nnode #third"))
    )
    assert (verdict.status, [found.code for found in verdict.findings]) == ("unsupported", ["C8"])


POSITIONS = """
buffer %pos : i32[1] temp in 0..3
buffer %rows : f32[4, 4] state
buffer %x : f32[4] state
kernel @put(y: f32[T, D], pos: scalar i32) {
  role all {
    phase put writes y[pos:pos + 1, :]
  }
}
node #received = fill %x with 1
node #racing = fill %x with 2
node #set = fill %pos with 1
node #put = @put(y=%rows, pos=load(%pos[0]))
  after #set full
node #again = @put(y=%rows, pos=load(%pos[0]))
  after #put full
"""


def test_an_access_stays_the_same_if_its_position_is_written_more_often() -> None:
    """So the race between the rows is one that the rewrite made."""
    twice = "node #one = fill %pos with 1\nnode #set = fill %pos with 1\n  after #one full\n"
    more = POSITIONS.replace("node #set = fill %pos with 1\n", twice)
    assert certify(parsed(POSITIONS), parsed(more)).status == "unsupported"
    unordered = more.replace("after #put full", "after #set full")
    assert certify(parsed(POSITIONS), parsed(unordered)).status == "refuted"


def test_an_access_of_other_bytes_is_another_one() -> None:
    text = RACES + "node #four = fill %y[0:2] with 3\n  after #three full\n"
    assert certified(text, "  after #three full\n", "").status == "refuted"
    assert certified(text, "%y[0:2] with 3\n  after #three full\n", "%y[0:3] with 3\n").status == "unsupported"


APART = """
buffer %w : f32[4] weight
buffer %x : f32[4] state
buffer %t : f32[4] temp
buffer %y : f32[4] output
kernel @norm(x: f32[D], y: f32[D]) {
  role all {
    phase norm reads x writes y
  }
}
kernel @times(w: f32[D], x: f32[D], y: f32[D]) {
  role all {
    phase times reads w, x writes y
  }
}
kernel @fused(w: f32[D], x: f32[D], y: f32[D]) {
  role all {
    wait
    phase load reads w defines v
    phase times reads x uses v writes y
  }
}
node #go = event_wait "weights are there"
node #other = @norm(x=%w, y=%x)
  after #go full
node #norm = @norm(x=%x, y=%t)
  after #other full
node #times = @times(w=%w, x=%t, y=%y)
  after #norm full
"""


def test_a_fused_node_follows_an_event_if_all_that_it_touches_comes_after_its_wait() -> None:
    fused = "node #fused = @fused(w=%w, x=%x, y=%y)\n  after #other programmatic\n"
    text, fusions = APART[: APART.index("node #norm")] + fused, {"fused": ("norm", "times")}
    assert certify(parsed(APART), parsed(text), fusions=fusions).proved
    early = text.replace("wait\n    phase load reads w defines v\n", "phase load reads w defines v\n    wait\n")
    verdict = certify(parsed(APART), parsed(early), fusions=fusions)
    assert [(finding.code, finding.severity) for finding in verdict.findings] == [("C5", Severity.ERROR)]
