"""Fused nodes: what they are said to stand for is checked, not believed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from forerun.ir.graph import Graph
from forerun.ir.nodes import ChildGraphNode
from forerun.ir.refinement.certificate import certify
from forerun.ir.refinement.fused import claims
from forerun.ir.semantics import Verdict
from forerun.ir.text import parse_graph

TABLES = """\
forerun 1
graph fused
buffer %x : f32[4] input
buffer %w : f32[4] weight
buffer %a : f32[4] temp
buffer %b : f32[4] temp
buffer %s : f32[4] state
buffer %pos : i32[1] temp in 0..3
buffer %rows : f32[4, 4] state
buffer %y : f32[4] output
buffer %z : f32[4] output
kernel @norm(x: f32[D], y: f32[D]) {
  role all {
    phase run reads x writes y
  }
}
kernel @times(w: f32[D], x: f32[D], y: f32[D]) {
  role all {
    phase run reads w, x writes y
  }
}
kernel @row(x: f32[D], y: f32[T, D], pos: scalar i32) {
  role all {
    phase put reads x writes y[pos:pos + 1, :]
  }
}
kernel @all(x: f32[D], w: f32[D], r: f32[D], y: f32[D]) {
  role all {
    phase load reads w defines tile
    phase dot reads x, r uses tile writes y
  }
}
kernel @norm_row(x: f32[D], y: f32[T, D], pos: scalar i32) {
  role all {
    phase load reads x defines n
    phase put uses n writes y[pos:pos + 1, :]
  }
}
kernel @opaque(x: f32[D], w: f32[D], r: f32[D], y: f32[D]) opaque
"""

BEFORE = """\
node #update = fill %s with 0
node #norm = @norm(x=%x, y=%a)
node #times = @times(w=%w, x=%a, y=%b)
node #plus = @times(w=%s, x=%b, y=%y)
node #other = @norm(x=%x, y=%z)
"""

AFTER = """\
node #update = fill %s with 0
node #f = @all(x=%x, w=%w, r=%s, y=%y)
node #other = @norm(x=%x, y=%z)
"""

Edit = tuple[str, str]
PARTS = {"f": ("norm", "times", "plus")}


@dataclass(frozen=True)
class Case:
    code: str
    said: str
    before: tuple[Edit, ...] = ()
    after: tuple[Edit, ...] = ()
    fusions: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: PARTS)
    status: str = "refuted"


def serial(nodes: str, edits: tuple[Edit, ...]) -> Graph:
    """A graph whose nodes depend each on the one before. Some would not pass the verifier: it is not asked here."""
    text = TABLES + nodes
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    names = re.findall(r"^node (#\w+)", text, re.MULTILINE)
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if line.startswith(tuple(f"node {name} " for name in names[1:])):
            before = names[names.index(line.split()[1]) - 1]
            lines[i] = f"{line}\n  after {before} full"
    return parse_graph("\n".join(lines) + "\n")


def verdict_of(case: Case) -> Verdict:
    return certify(serial(BEFORE, case.before), serial(AFTER, case.after), fusions=case.fusions)


FENCE = ("node #times = ", 'node #event = event_record "e"\nnode #times = ')
AT_FIRST = ("node #f = ", 'node #event = event_record "e"\nnode #f = ')
AT_LAST = ("node #other = ", 'node #event = event_record "e"\nnode #other = ')
TWO = ("node #other = @norm(x=%x, y=%z)", "node #again = @times(w=%w, x=%a, y=%z)\nnode #other = @norm(x=%x, y=%z)")

HALVES = "".join(
    f"""\
kernel @{name}(x: f32[D], w: f32[D], r: f32[D], y: f32[D]) {{
  role all {{
    phase load reads w defines tile
    phase dot reads x, r uses tile writes y[{bounds}]
  }}
}}
"""
    for name, bounds in (("low", "0:2"), ("high", "2:4"))
)

BOTH = (
    "kernel @opaque",
    """\
kernel @both(x: f32[D], w: f32[D], r: f32[D], y: f32[D], t: f32[D]) {
  role all {
    phase dot reads x, w, r writes y, t
  }
}
kernel @opaque""",
)

WRONG = {
    "a temporary is read elsewhere": Case(
        "C1",
        r"the write of 'times' to %b bytes \[0, 16\) is lost, but 'other' reads them",
        before=(("#other = @norm(x=%x", "#other = @norm(x=%b"),),
        after=(("#other = @norm(x=%x", "#other = @norm(x=%b"),),
    ),
    "a temporary is read by one that does not recompute it": Case(
        "C1",
        "the write of 'norm' to %a .* is lost, but 'times' reads them",
        before=(TWO,),
        after=(("@all(x=%x", "@all(x=%a"), ("node #other", "node #g = @times(w=%w, x=%x, y=%z)\nnode #other")),
        fusions={"f": ("times", "plus"), "g": ("norm", "again")},
    ),
    "what is computed on the way is an output": Case(
        "C1",
        "the write of 'times' to %b .* is lost",
        before=(("%b : f32[4] temp", "%b : f32[4] output"),),
        after=(("%b : f32[4] temp", "%b : f32[4] output"),),
    ),
    "it writes more": Case(
        "C2",
        "the write of 'f' to %z .* is new",
        after=(("#f = @all(x=%x, w=%w, r=%s, y=%y)", "#f = @all(x=%x, w=%w, r=%s, y=%z)"),),
    ),
    "it writes more of an output": Case(
        "C2",
        r"the write of 'f' to %y bytes \[0, 16\) is new",
        before=(("kernel @opaque", HALVES + "kernel @opaque"), ("#plus = @times(w=%s", "#plus = @low(w=%b, r=%s")),
        after=(("kernel @opaque", HALVES + "kernel @opaque"),),
        status="unsupported",
    ),
    "it writes another temporary": Case(
        "C2",
        "the write of 'f' to %c .* is new",
        before=(("buffer %b", "buffer %c : f32[4] temp\nbuffer %b"), BOTH),
        after=(("buffer %b", "buffer %c : f32[4] temp\nbuffer %b"), BOTH, ("#f = @all(", "#f = @both(t=%c, ")),
        status="unsupported",
    ),
    "it passes a write of what it reads": Case(
        "C3",
        "node f: reads %s .* after 'update', no longer before it",
        before=(("node #update = fill %s with 0\n", ""), ("node #other", "node #update = fill %s with 0\nnode #other")),
    ),
    "its parts are on both sides of a write": Case(
        "C3",
        "no longer before it",
        before=(
            ("node #update = fill %s with 0\n", ""),
            ("node #plus", "node #update = fill %s with 0\nnode #plus"),
            ("@times(w=%w, x=%a", "@times(w=%s, x=%a"),
        ),
        after=(("w=%w, r=%s", "w=%s, r=%s"),),
    ),
    "its parts are on both sides of an event: after it": Case(
        "C5", "node f: may not be complete when event node 'event' starts", before=(FENCE,), after=(AT_FIRST,)
    ),
    "its parts are on both sides of an event: before it": Case(
        "C5", "node f: may begin before event node 'event' is complete", before=(FENCE,), after=(AT_LAST,)
    ),
    "its kernel says something else of known code": Case(
        "C11",
        "kernel 'all' contradicts 'all': phase 'dot' reads x, r, but is declared to read x",
        before=(("phase dot reads x, r uses", "phase dot reads x uses"),),
    ),
    "it drops an operand": Case(
        "C12",
        r"node f: does not read %s bytes \[0, 16\), which 'plus' reads",
        after=(("w=%w, r=%s", "w=%w, r=%x"),),
    ),
    "it reads a part of an operand": Case(
        "C12",
        r"does not read %s bytes \[0, 16\)",
        after=(("reads x, r uses", "reads x, r[0:2] uses"),),
        before=(("reads x, r uses", "reads x, r[0:2] uses"),),
        status="unsupported",
    ),
    "it reads something else": Case(
        "C13",
        "node f: reads %z .*, which nothing that it stands for reads from others",
        after=(("w=%w, r=%s", "w=%z, r=%s"),),
    ),
    "it reads what is computed on the way": Case(
        "C13", "reads %a .*, which nothing", after=(("@all(x=%x", "@all(x=%a"),), status="refuted"
    ),
    "two nodes write for one": Case(
        "C14",
        "%y, which 'plus' wrote, is written by 'f', 'g'",
        after=(("node #other", "node #g = @all(x=%x, w=%w, r=%s, y=%y)\nnode #other"),),
        fusions={**PARTS, "g": PARTS["f"]},
    ),
    "two nodes write a half each for one": Case(
        "C14",
        "%y, which 'plus' wrote, is written by 'f', 'g'",
        after=(
            ("kernel @opaque", HALVES + "kernel @opaque"),
            ("#f = @all(", "#f = @low("),
            ("node #other", "node #g = @high(x=%x, w=%w, r=%s, y=%y)\nnode #other"),
        ),
        fusions={**PARTS, "g": PARTS["f"]},
    ),
    "the node that it stands for writes, too": Case(
        "C14",
        "%y, which 'plus' wrote, is written by 'f', 'plus'",
        after=(("node #other", "node #plus = @times(w=%s, x=%b, y=%y)\nnode #other"),),
    ),
    "it stands for nobody that is known": Case(
        "C15",
        "'more', which is not a kernel node of before",
        fusions={"f": (*PARTS["f"], "more")},
        status="unsupported",
    ),
    "it stands for a fill": Case(
        "C15", "'update', which is not a kernel node", fusions={"f": (*PARTS["f"], "update")}, status="unsupported"
    ),
    "it stands for one of them twice": Case(
        "C15", "one of them twice", fusions={"f": (*PARTS["f"], "plus")}, status="unsupported"
    ),
    "it stands for nothing": Case("C15", "stands for none", fusions={"f": ()}, status="unsupported"),
    "it stands for a node that has changed": Case(
        "C15",
        "'other', which has changed",
        after=(("#other = @norm(x=%x", "#other = @norm(x=%s"),),
        fusions={"f": (*PARTS["f"], "other")},
        status="unsupported",
    ),
    "its accesses are not known": Case(
        "C15", "its accesses are not known exactly", after=(("@all(x=%x, w", "@opaque(x=%x, w"),), status="unsupported"
    ),
    "what is handed on is partly from somebody else": Case(
        "C15",
        "'times' reads %a in part from nodes that it is fused with",
        before=(
            ("phase run reads x writes y\n", "phase run reads x[0:2] writes y[0:2]\n"),
            ("#update = fill %s", "#update = fill %a"),
        ),
        after=(
            ("phase run reads x writes y\n", "phase run reads x[0:2] writes y[0:2]\n"),
            ("#update = fill %s", "#update = fill %a"),
        ),
        status="unsupported",
    ),
    "it writes what it reads for another part": Case(
        "C16",
        r"node f: stands for 'plus', which writes %s bytes \[0, 16\), but they are read by 'norm'",
        before=(("y=%y", "y=%s"), ("@times(w=%s", "@times(w=%w"), ("#norm = @norm(x=%x", "#norm = @norm(x=%s")),
        after=(("x=%x, w=%w, r=%s, y=%y", "x=%s, w=%w, r=%w, y=%s"),),
        status="unsupported",
    ),
    "what is handed on lies where something else was": Case(
        "C16",
        "stands for 'norm', which writes %a .*, but they are written twice",
        before=(("@times(w=%w, x=%a, y=%b)", "@times(w=%w, x=%a, y=%a)"), ("w=%s, x=%b", "w=%s, x=%a")),
        status="unsupported",
    ),
    "nothing is claimed": Case("C8", "'f' is new", fusions={}, status="unsupported"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_wrong_fusions(case: Case) -> None:
    verdict = verdict_of(case)
    said = "\n".join(map(str, verdict.findings))
    assert case.code in {finding.code for finding in verdict.findings}, said
    assert re.search(case.said, said), said
    assert verdict.status == case.status, said


RIGHT = {
    "three in one": Case("", ""),
    "somebody in between reads what only the last one writes": Case(
        "",
        "",
        before=(("node #times", "node #between = @norm(x=%y, y=%z)\nnode #times"),),
        after=(("node #f", "node #between = @norm(x=%y, y=%z)\nnode #f"),),
    ),
    "the write comes after both": Case(
        "",
        "",
        before=(("node #update = fill %s with 0\n", ""), ("node #other", "node #update = fill %s with 0\nnode #other")),
        after=(("node #update = fill %s with 0\n", ""), ("node #other", "node #update = fill %s with 0\nnode #other")),
    ),
    "a node is recomputed, and stays": Case(
        "",
        "",
        before=(TWO,),
        after=(TWO, ("node #f", "node #norm = @norm(x=%x, y=%a)\nnode #f")),
    ),
    "a node is recomputed in two": Case(
        "",
        "",
        before=(("#other = @norm(x=%x, y=%z)", "#other = @times(w=%w, x=%a, y=%z)"),),
        after=(("#other = @norm(x=%x, y=%z)", "#g = @times(w=%w, x=%x, y=%z)"),),
        fusions={**PARTS, "g": ("norm", "other")},
    ),
    "the temporary is used again": Case(
        "",
        "",
        before=(("#other = @norm(x=%x, y=%z)", "#clear = fill %a with 1\nnode #other = @norm(x=%a, y=%z)"),),
        after=(("#other = @norm(x=%x, y=%z)", "#clear = fill %a with 1\nnode #other = @norm(x=%a, y=%z)"),),
    ),
    "all on one side of an event": Case(
        "",
        "",
        before=(("node #update", 'node #event = event_wait "e"\nnode #update'),),
        after=(("node #update", 'node #event = event_wait "e"\nnode #update'),),
    ),
    "an old claim": Case("", "", fusions={**PARTS, "update": ("norm",), "gone": ("plus",)}),
}


@pytest.mark.parametrize("case", RIGHT.values(), ids=RIGHT.keys())
def test_right_fusions(case: Case) -> None:
    verdict = verdict_of(case)
    assert verdict == Verdict("proved"), [str(finding) for finding in verdict.findings]


LOADED = """\
node #norm = @norm(x=%x, y=%a)
node #put = @row(x=%a, y=%rows, pos=load(%pos[0]))
node #next = fill %pos with 1
"""


def test_a_scalar_that_is_written_later_is_the_same_in_all_parts() -> None:
    before = serial(LOADED, ())
    after = serial("node #f = @norm_row(x=%x, y=%rows, pos=load(%pos[0]))\nnode #next = fill %pos with 1\n", ())
    assert certify(before, after, fusions={"f": ("norm", "put")}).proved
    late = serial("node #next = fill %pos with 1\nnode #f = @norm_row(x=%x, y=%rows, pos=load(%pos[0]))\n", ())
    verdict = certify(before, late, fusions={"f": ("norm", "put")})
    assert [finding.code for finding in verdict.findings] == ["C3"]
    elsewhere = serial("node #f = @norm_row(x=%x, y=%rows, pos=load(%pos[0] + 1))\nnode #next = fill %pos with 1\n", ())
    codes = {finding.code for finding in certify(before, elsewhere, fusions={"f": ("norm", "put")}).findings}
    assert {"C1", "C2"} <= codes


def test_what_is_written_in_part_at_an_unknown_position_is_not_known_exactly() -> None:
    """All that is known of a part of the past rows is its hull."""
    part = ("writes y[pos:pos + 1, :]", "writes y[0:pos, 0:2]")
    before = serial(LOADED, (part,))
    after = serial("node #f = @norm_row(x=%x, y=%rows, pos=load(%pos[0]))\nnode #next = fill %pos with 1\n", (part,))
    verdict = certify(before, after, fusions={"f": ("norm", "put")})
    assert verdict.status == "unsupported"
    (finding,) = [finding for finding in verdict.findings if finding.code == "C15"]
    assert finding.message == "stands for 'put', whose accesses are not known exactly"


def test_the_edit_carries_the_claim_also_in_bodies() -> None:
    before = serial(BEFORE, ())
    edit = before.edit()
    edit.add_node(serial(AFTER, ()).nodes["f"], before="other")
    for name in PARTS["f"]:
        edit.remove_node(name)
    edit.record_fusion("f", PARTS["f"])
    after = edit.commit()
    assert claims(after) == PARTS
    codes = [finding.code for finding in certify(before, after).findings]
    assert set(codes) == {"R1"}, "dependencies were not reconnected; all else is right"
    tables = before.allocations.values(), before.buffers.values(), before.kernels.values()
    outer = [
        Graph("outer", *tables, [ChildGraphNode("body", Graph("b", nodes=g, dependencies=g.dependencies))])
        for g in (before, serial(AFTER, ()))
    ]
    assert {finding.code for finding in certify(*outer).findings} >= {"C8"}
