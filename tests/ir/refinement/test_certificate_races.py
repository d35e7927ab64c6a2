"""Certificates of rewrites that make races, receive them, or order them."""

from __future__ import annotations

from forerun.ir.refinement.certificate import certify
from forerun.ir.text import parse_graph
from forerun.ir.types import DependencyKind
from tests.ir.semantics.rewrites import BASE, SWAPPED_FILLS, codes, rewritten, verdict_of

CHAIN = "s=%s, y=%y)\n  after #first full"
UNORDERED = (CHAIN, "s=%s, y=%y)")
FILLS_UNORDERED = ("  after #clear full\n", "")


def test_a_race_that_the_rewrite_makes() -> None:
    verdict = verdict_of(UNORDERED)
    assert (verdict.status, codes(verdict)) == ("refuted", {"R1", "C5"})
    assert verdict.races


def test_a_race_that_was_received() -> None:
    before = rewritten(FILLS_UNORDERED)
    after = rewritten(FILLS_UNORDERED, ("    wait\n", "    trigger\n    wait\n"))
    verdict = certify(before, after)
    assert (verdict.status, codes(verdict)) == ("unsupported", {"R1", "C10"})
    assert "the graph before is not race-free: node mark: WAW race" in str(verdict.findings[0])


def test_a_race_that_the_rewrite_makes_beside_one_that_it_received() -> None:
    verdict = certify(rewritten(FILLS_UNORDERED), rewritten(FILLS_UNORDERED, UNORDERED))
    assert (verdict.status, codes(verdict)) == ("refuted", {"R1", "C5", "C10"})


def test_a_race_that_the_rewrite_orders_as_launch_order_does() -> None:
    assert certify(rewritten(FILLS_UNORDERED), parse_graph(BASE)).proved


def test_a_race_that_the_rewrite_orders_the_other_way() -> None:
    verdict = certify(rewritten(FILLS_UNORDERED), rewritten(*SWAPPED_FILLS))
    assert (verdict.status, codes(verdict)) == ("refuted", {"C3"})


def test_a_node_that_outlives_the_graph() -> None:
    programmatic = (CHAIN, CHAIN.replace("full", "programmatic"))
    racy = rewritten(FILLS_UNORDERED)
    undrained = rewritten(FILLS_UNORDERED, programmatic, ("    wait\n", ""))
    verdict = certify(racy, undrained)
    assert verdict.status == "refuted"
    assert {"R1", "C10"} <= codes(verdict)


def test_a_assumption_decides_what_is_a_race() -> None:
    """L5 of the litmus tests: first -> middle (full), middle -> last (programmatic), last reads before its wait."""
    before = parse_graph(
        """forerun 1
graph granted
buffer %x : f32[4] input
buffer %a : f32[4] temp
buffer %y : f32[4] output
buffer %z : f32[4] output
kernel @make(x: f32[D], y: f32[D]) {
  role main {
    wait
    phase run reads x writes y
  }
}
kernel @last(x: f32[D], y: f32[D]) {
  role main {
    phase load reads x defines v
    wait
    phase store uses v writes y
  }
}
node #first = @make(x=%x, y=%a)
node #middle = @make(x=%a, y=%y)
  after #first full
node #last = @last(x=%a, y=%z)
  after #middle full
"""
    )
    edit = before.edit()
    dependency = before.dependency("middle", "last")
    assert dependency is not None
    edit.set_dependency(type(dependency)("middle", "last", DependencyKind.PROGRAMMATIC))
    after = edit.commit()
    assert certify(before, after).status == "refuted"
    assert certify(before, after, {"H6"}).proved
