"""Fused nodes that use what a new node has prepared in new memory (C23): what is right, and each thing that is not."""

from __future__ import annotations

import pytest

from forerun.ir.refinement.certificate import certify
from forerun.ir.semantics import Verdict, check
from forerun.ir.text import parse_graph
from forerun.ir.verify import verify

HALF = """
kernel @half(x: f32[N], p: i32[_], y: f32[N], begin: scalar i32, end: scalar i32) {
  role main {
    phase run reads x[begin:end], p writes y[begin:end]
  }
}
"""
TABLES = """
forerun 1
graph ragged
buffer %p : i32[3] input in 0..8 ascending
buffer %q : i32[3] input in 0..8 ascending
buffer %x : f32[8] state
buffer %z : f32[8] state
buffer %y : f32[8] output
"""
BEFORE = f"""{TABLES}{HALF}
node #tell = event_record "e"
node #again = fill %z with 0
  after #tell full
node #first = @half(x=%x, p=%p, y=%y, begin=load(%p[0]), end=load(%p[1]))
  after #again full
node #second = @half(x=%x, p=%p, y=%y, begin=load(%p[1]), end=load(%p[2]))
  after #first full
"""
AFTER = f"""{TABLES}
buffer %size : i32[1] weight holds [2]
buffer %plan : i32[4] state
buffer %left : i32[1] state
kernel @plan(size: i32[1], p: i32[_], plan: i32[4]) {{
  role main {{
    phase plan reads size, p writes plan
  }}
}}
kernel @both(x: f32[N], p: i32[_], plan: i32[4], left: i32[1], y: f32[N], begin: scalar i32, end: scalar i32) {{
  role main {{
    phase run reads x[begin:end], p, plan, left writes y[begin:end], left
  }}
}}
node #tell = event_record "e"
node #again = fill %z with 0
  after #tell full
node #plan = @plan(size=%size, p=%p, plan=%plan)
  after #again full
node #both = @both(x=%x, p=%p, plan=%plan, left=%left, y=%y, begin=load(%p[0]), end=load(%p[2])) fuses #first, #second
  after #plan full
"""

WRONG = {
    "somebody else reads it": (
        "C23",
        [
            ("  after #plan full\n", "  after #plan full\nnode #look = copy %plan -> %seen\n  after #both full\n"),
            ("buffer %left", "buffer %seen : i32[4] temp\nbuffer %left"),
        ],
        "reads %plan, which is scratch memory of other nodes",
    ),
    "it is prepared from something else": (
        "C23",
        [("@plan(size=%size, p=%p", "@plan(size=%size, p=%q")],
        "reads %q bytes [0, 12), which 'both', for which it prepares, does not",
    ),
    "what it is prepared from changes": (
        "C23",
        [
            ("reads x[begin:end], p, plan", "reads x, p, plan"),
            ("reads size, p writes plan", "reads size, p, x writes plan"),
            ("@plan(size: i32[1], p: i32[_]", "@plan(size: i32[1], p: i32[_], x: f32[8]"),
            ("#plan = @plan(size=%size, p=%p", "#plan = @plan(size=%size, p=%p, x=%x"),
            ("node #both", "node #change = fill %x with 0\n  after #plan full\nnode #both"),
            (") fuses #first, #second\n", ") fuses #first, #second\n  after #change full\n"),
        ],
        "'change' writes what it reads before 'both', for which it prepares",
    ),
    "it is prepared too early": (
        "C23",
        [
            ("  after #again full\nnode #both", "node #both"),
            ("node #both", "  \nnode #both"),
            (") fuses #first, #second\n", ") fuses #first, #second\n  after #again full\n"),
        ],
        "may begin before 'tell' is complete, and 'both', for which it prepares, may not",
    ),
    "a part of it is prepared": (
        "C23",
        [("writes plan\n", "writes plan[0:3]\n")],
        "reads %plan bytes [0, 16), of which 'plan' prepares a part",
    ),
    "it is not known what prepares": (
        "C23",
        [("@plan(size=%size, p=%p, plan=%plan)", "@plan(size=%size, p=%p, plan=some %plan)")],
        "prepares scratch memory, but what it accesses is not known exactly",
    ),
    "the fused node writes it, too": (
        "C23",
        [("left writes y[begin:end], left", "left writes y[begin:end], left, plan")],
        "prepares $plan, but 'plan', 'both' write it",
    ),
    "rows are missing": ("C1", [("end=load(%p[2])", "end=load(%p[1])")], "the write of 'second'"),
    "there are other rows": ("C2", [("begin=load(%p[0]), end=load(%p[2])", "begin=0, end=load(%p[2])")], "is new"),
    "rows of another pointer": ("C1", [("end=load(%p[2])", "end=load(%q[2])")], "is lost"),
    "the memory is not new": (
        "C13",
        [
            ("plan=%plan, left=%left, y", "plan=%plan, left=%q0, y"),
            ("buffer %q :", "buffer %q0 : i32[1] state\nbuffer %q :"),
        ],
        "reads %q0",
    ),
}


def verdict_of(*edits: tuple[str, str]) -> Verdict:
    before, text = BEFORE, AFTER
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
        if old.startswith("buffer %q"):
            before = before.replace(old, new)
    graphs = parse_graph(before), parse_graph(text)
    assert [verify(graph) for graph in graphs] == [[], []]
    assert check(graphs[1]).proved
    return certify(*graphs)


def test_what_is_prepared_from_the_same_bytes_is_proved() -> None:
    verdict = verdict_of()
    assert verdict.proved, verdict.findings


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rewrites(name: str) -> None:
    code, edits, said = WRONG[name]
    verdict = verdict_of(*edits)
    found = [str(finding) for finding in verdict.findings]
    assert not verdict.proved
    assert any(f"[{code}]" in one and said in one for one in found), "\n".join(found)
