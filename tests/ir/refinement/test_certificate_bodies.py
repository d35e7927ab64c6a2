"""Certificates look into bodies of child graphs and conditionals, and at memory that nodes allocate."""

from __future__ import annotations

import pytest

from forerun.ir.refinement.certificate import certify
from forerun.ir.text import parse_graph
from tests.ir.semantics.rewrites import Edit, codes

NESTED = """forerun 1
graph nested
buffer %y : f32[4] output
buffer %z : f32[4] output
node #child = child {
  graph body
  node #clear = fill %y with 0
  node #mark = fill %y[0:1] with 1
    after #clear full
}
node #done = fill %z with 0
  after #child full
"""


@pytest.mark.parametrize(
    ("edit", "status", "code"),
    [
        (("with 1", "with 2"), "unsupported", "C7"),
        (("    after #clear full\n", ""), "refuted", "R1"),
        (("    after #clear full\n", "    after #clear full\n  node #more = fill %z with 3\n"), "refuted", "C2"),
    ],
)
def test_bodies_are_compared(edit: Edit, status: str, code: str) -> None:
    before, after = parse_graph(NESTED), parse_graph(NESTED.replace(*edit))
    verdict = certify(before, after)
    assert (verdict.status, code in codes(verdict)) == (status, True), verdict.findings


def test_equal_bodies_are_proved() -> None:
    assert certify(parse_graph(NESTED), parse_graph(NESTED)).proved


EVENT_INSIDE = """forerun 1
graph nested
buffer %y : f32[4] output
buffer %z : f32[4] output
node #clear = fill %y with 0
node #child = child {
  graph body
  node #record = event_record "cleared"
}
  after #clear full
node #done = fill %z with 0
  after #child full
"""


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("  after #clear full\n", ""), "node clear: may not be complete when event node 'child' starts"),
        (("  after #child full\n", ""), "node done: may begin before event node 'child' is complete"),
    ],
)
def test_a_child_graph_with_an_event_is_not_crossed(edit: Edit, said: str) -> None:
    verdict = certify(parse_graph(EVENT_INSIDE), parse_graph(EVENT_INSIDE.replace(*edit)))
    assert (verdict.status, codes(verdict)) == ("refuted", {"C5"})
    assert said in str(verdict.findings[0])


@pytest.mark.parametrize(("edit", "status"), [(("", ""), "unsupported"), (("    after #clear full\n", ""), "refuted")])
def test_a_race_that_a_rewrite_makes_in_a_body_beside_one_that_it_received(edit: Edit, status: str) -> None:
    before = NESTED + "node #again = fill %z with 1\n"
    verdict = certify(parse_graph(before), parse_graph(before.replace(*edit)))
    assert (verdict.status, codes(verdict)) == (status, {"R1", "C10"})


def test_findings_in_bodies_name_the_nodes_around_them() -> None:
    verdict = certify(parse_graph(NESTED), parse_graph(NESTED.replace("with 1", "with 2")))
    assert {str(finding.location) for finding in verdict.findings} == {"node child/mark"}


def test_memory_may_be_allocated_elsewhere_but_that_is_not_understood() -> None:
    text = "forerun 1\ngraph g\nalloc $arena : 16\nbuffer %y : f32[4] output\nnode #fill = fill %y with 0\n"
    nodes = "node #begin = alloc $arena\nnode #end = free $arena\n  after #begin full\n"
    verdict = certify(parse_graph(text + nodes), parse_graph(text))
    assert (verdict.status, codes(verdict)) == ("unsupported", {"C8"})
