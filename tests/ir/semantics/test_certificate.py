"""Certificates: every rule has a rewrite that breaks it, and nothing that is not understood is proved."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from forerun.ir.graph import Graph
from forerun.ir.semantics import Verdict, check
from forerun.ir.semantics.certificate import RULES, certify
from forerun.ir.text import parse_graph
from forerun.ir.types import DependencyKind
from forerun.ir.verify import require_valid

BASE = """\
forerun 1
graph base

buffer %x : f32[4] input
buffer %w : f32[4] weight
buffer %a : f32[4] temp
buffer %b : f32[4] temp
buffer %s : f32[8] state
buffer %y : f32[4] output
buffer %z : f32[4] output
buffer %h : f32[4] output on host

kernel @make(x: f32[D], y: f32[D]) {
  role main {
    phase run reads x writes y
  }
}
kernel @use(w: f32[D], x: f32[D], s: f32[T], y: f32[D]) {
  role main {
    wait
    phase load reads w gives tile
    phase apply reads x takes tile gives acc
    phase put writes s[0:4]
    barrier
    phase get reads s[2:6] gives old
    phase store takes acc, old writes y
  }
}
kernel @opaque(x: f32[D]) opaque

node #first = @make(x=%x, y=%a)
node #second = @use(w=%w, x=%a, s=%s, y=%y)
  after #first full
node #clear = fill %z with 0
node #mark = fill %z[0:1] with 1
  after #clear full
node #record = event_record "done"
  after #second full
node #wait = event_wait "go"
  after #record full
node #after = @make(x=%w, y=%b)
  after #wait full
node #patch = fill %b[0:1] with 5
  after #after full
node #copy = copy %b -> %s[4:8]
  after #patch full
node #tell = host "builtins:print" writes %h
node #tell_again = host "builtins:print" reads %h
  after #tell full
"""

Edit = tuple[str, str]


def rewritten(*edits: Edit) -> Graph:
    """BASE with texts replaced; each of them occurs."""
    text = BASE
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return parse_graph(text)


def verdict_of(*edits: Edit) -> Verdict:
    after = rewritten(*edits)
    require_valid(after)
    return certify(parse_graph(BASE), after)


def codes(verdict: Verdict) -> set[str]:
    return {finding.code for finding in verdict.findings}


@dataclass(frozen=True)
class Wrong:
    """A rewrite, the code that finds it, and the verdict."""

    code: str
    edits: tuple[Edit, ...]
    said: str
    status: str = "refuted"


LAUNCH = "node #second = @use("
WRONG = {
    "a write is lost": Wrong(
        "C1",
        (("node #clear = fill %z with 0\n", ""), ("  after #clear full\n", "")),
        r"the write of 'clear' to %z bytes \[0, 16\) is lost",
    ),
    "a node writes elsewhere": Wrong(
        "C1",
        (("node #clear = fill %z ", "node #clear = fill %z[0:2] "), ("#mark = fill %z[0:1]", "#mark = fill %z[1:2]")),
        "the write of 'mark' .* is lost",
    ),
    "a temporary that is read is lost": Wrong(
        "C1",
        (("node #patch = fill %b[0:1] with 5\n  after #after full\n", ""), ("after #patch full", "after #after full")),
        r"the write of 'patch' to %b bytes \[0, 4\) is lost",
    ),
    "a temporary that nobody reads any more is lost": Wrong(
        "C7",
        (("node #first = @make(x=%x, y=%a)", "node #first = @make(x=%x, y=%b)"), ("x=%a, s", "x=%b, s")),
        "first: .*: another arguments",
        "unsupported",
    ),
    "a host call is lost": Wrong(
        "C1",
        (('node #tell_again = host "builtins:print" reads %h\n  after #tell full\n', ""),),
        "what host call 'tell_again' does is lost",
    ),
    "a write is new": Wrong(
        "C2",
        (("node #mark", "node #late = fill %s[0:1] with 7\n  after #second full\nnode #mark"),),
        "the write of 'late' to %s .* is new",
    ),
    "two writes change places": Wrong(
        "C3",
        (
            ("node #clear = fill %z with 0\n", ""),
            ("with 1\n  after #clear full\n", "with 1\nnode #clear = fill %z with 0\n  after #mark full\n"),
        ),
        r"writes %z bytes \[0, 16\) after 'mark', no longer before it",
    ),
    "phases change places": Wrong(
        "C4",
        (
            ("    phase put writes s[0:4]\n    barrier\n", "    barrier\n"),
            ("    phase store", "    phase put writes s[0:4]\n    phase store"),
        ),
        "phase 'get' moved ahead of phase 'put', but shares bytes of %s with it",
    ),
    "a barrier no longer separates two phases": Wrong(
        "C4",
        (
            (
                "    barrier\n    phase get reads s[2:6] gives old\n",
                "    phase get reads s[2:6] gives old\n    barrier\n",
            ),
        ),
        "phase 'get' is no longer separated by a barrier from phase 'put'",
    ),
    "a node leaves its event": Wrong(
        "C5",
        (('event_record "done"\n  after #second full', 'event_record "done"'),),
        "node second: may not be complete when event node 'record' starts",
    ),
    "a node overtakes an event": Wrong(
        "C5",
        (("node #after = @make(x=%w, y=%b)\n  after #wait full", "node #after = @make(x=%w, y=%b)"),),
        "node after: may begin before event node 'wait' is complete",
    ),
    "events change places": Wrong(
        "C5",
        (('"go"\n  after #record full', '"go"'),),
        "node record: may not be complete when event node 'wait' starts",
    ),
    "an event disappears": Wrong(
        "C6",
        (
            ('node #record = event_record "done"\n  after #second full\n', ""),
            ("after #record full", "after #second full"),
        ),
        "EventRecordNode 'record' disappeared",
    ),
    "an event is new": Wrong("C6", (("node #mark", 'node #more = event_record "x"\nnode #mark'),), "'more' is new"),
    "another launch": Wrong("C7", ((", y=%y)", ", y=%y) grid(2)"),), "second: .*: another launch", "unsupported"),
    "another value": Wrong("C7", (("with 1", "with 2"),), "mark: .*: another value", "unsupported"),
    "another kind": Wrong(
        "C7", (("copy %b -> %s[4:8]", "fill %s[4:8] with 0"),), "copy: .*: it was a MemcpyNode", "unsupported"
    ),
    "another phase": Wrong(
        "C7", (("apply reads x takes", "apply reads x, w takes"),), "role 'main' runs other phases", "unsupported"
    ),
    "a barrier less": Wrong("C7", (("    barrier\n", ""),), "role 'main' lost a barrier", "unsupported"),
    "a barrier of the grid": Wrong(
        "C7", (("    phase store", "    barrier grid\n    phase store"),), "got one of the grid", "unsupported"
    ),
    "other arguments": Wrong(
        "C7", (("#after = @make(x=%w, y", "#after = @make(x=%x, y"),), "another arguments", "unsupported"
    ),
    "a black box appears": Wrong(
        "C8",
        (("node #tell ", "node #more = @opaque(x=%b)\n  after #copy full\nnode #tell "),),
        "'more' is new",
        "unsupported",
    ),
    "a temporary is copied once more": Wrong(
        "C8",
        (
            ("node #tell ", "node #more = copy %b -> %t\n  after #patch full\nnode #tell "),
            ("buffer %s", "buffer %t : f32[4] temp\nbuffer %s"),
        ),
        "MemcpyNode 'more' is new",
        "unsupported",
    ),
    "a buffer moves": Wrong(
        "C9",
        (("buffer %b : f32[4] temp", "alloc $arena : 64\nbuffer %b : f32[4] temp at $arena + 16"),),
        "allocation 'b' is not as before",
        "unsupported",
    ),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_wrong_rewrites(case: Wrong) -> None:
    verdict = verdict_of(*case.edits)
    said = "\n".join(map(str, verdict.findings))
    assert verdict.status == case.status, said
    assert case.code in codes(verdict), said
    assert re.search(case.said, said), said


def test_every_rule_has_a_negative_test() -> None:
    tested = {case.code for case in WRONG.values()} | {"C10"}  # C10: test_a_race_that_was_received
    assert tested == set(RULES)


def test_base_is_proved() -> None:
    assert check(parse_graph(BASE)).proved


RIGHT: dict[str, tuple[Edit, ...]] = {
    "nothing": (),
    "another name": (("graph base", "graph other"),),
    "a phase ahead of the wait": (
        ("    wait\n    phase load reads w gives tile\n", "    phase load reads w gives tile\n    wait\n"),
    ),
    "independent phases change places": (
        (
            "    phase apply reads x takes tile gives acc\n    phase put writes s[0:4]\n",
            "    phase put writes s[0:4]\n    phase apply reads x takes tile gives acc\n",
        ),
    ),
    "a trigger": (("    wait\n", "    trigger\n    wait\n"),),
    "a barrier more": (("    phase store", "    barrier\n    phase store"),),
    "a programmatic dependency": (("s=%s, y=%y)\n  after #first full", "s=%s, y=%y)\n  after #first programmatic"),),
    "a join": (
        ("after #clear full", "after #join full"),
        ("node #mark", "node #join = empty\n  after #clear full\nnode #mark"),
    ),
    "a full dependency more": (("with 1\n  after #clear full", "with 1\n  after #clear full\n  after #second full"),),
    "independent nodes change places": (
        ("node #clear = fill %z with 0\n", ""),
        ("node #first", "node #clear = fill %z with 0\nnode #first"),
    ),
    "a kernel under another name": (("@make", "@make.again"),),
    "an unused kernel goes": (("kernel @opaque(x: f32[D]) opaque\n", ""),),
}


@pytest.mark.parametrize("edits", RIGHT.values(), ids=RIGHT.keys())
def test_right_rewrites(edits: tuple[Edit, ...]) -> None:
    verdict = verdict_of(*edits)
    assert verdict == Verdict("proved"), [str(finding) for finding in verdict.findings]


# Races

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
    verdict = certify(rewritten(FILLS_UNORDERED), rewritten(*WRONG["two writes change places"].edits))
    assert (verdict.status, codes(verdict)) == ("refuted", {"C3"})


def test_a_node_that_outlives_the_graph() -> None:
    programmatic = (CHAIN, CHAIN.replace("full", "programmatic"))
    racy = rewritten(FILLS_UNORDERED)
    undrained = rewritten(FILLS_UNORDERED, programmatic, ("    wait\n", ""))
    verdict = certify(racy, undrained)
    assert verdict.status == "refuted"
    assert {"R1", "C10"} <= codes(verdict)


def test_a_licence_decides_what_is_a_race() -> None:
    """L5 of the litmus tests: first -> middle (full), middle -> last (programmatic), last reads before its wait."""
    before = parse_graph(
        """forerun 1
graph licensed
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
    phase load reads x gives v
    wait
    phase store takes v writes y
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


# Nested graphs

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


def test_findings_in_bodies_name_the_nodes_around_them() -> None:
    verdict = certify(parse_graph(NESTED), parse_graph(NESTED.replace("with 1", "with 2")))
    assert [str(finding.location) for finding in verdict.findings] == ["node child/mark"]


def test_memory_may_be_allocated_elsewhere_but_that_is_not_understood() -> None:
    text = "forerun 1\ngraph g\nalloc $arena : 16\nbuffer %y : f32[4] output\nnode #fill = fill %y with 0\n"
    nodes = "node #begin = alloc $arena\nnode #end = free $arena\n  after #begin full\n"
    verdict = certify(parse_graph(text + nodes), parse_graph(text))
    assert (verdict.status, codes(verdict)) == ("unsupported", {"C8"})
