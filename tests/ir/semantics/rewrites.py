"""A graph with a bit of everything, and rewrites of it: replacements in its text."""

from __future__ import annotations

from forerun.ir.graph import Graph
from forerun.ir.refinement.certificate import certify
from forerun.ir.semantics import Verdict
from forerun.ir.text import parse_graph
from forerun.ir.verify import require_valid

__all__ = ["BASE", "SWAPPED_FILLS", "Edit", "codes", "rewritten", "verdict_of"]

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
    phase load reads w defines tile
    phase apply reads x uses tile defines acc
    phase put writes s[0:4]
    barrier
    phase get reads s[2:6] defines old
    phase store uses acc, old writes y
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


SWAPPED_FILLS: tuple[Edit, ...] = (
    ("node #clear = fill %z with 0\n", ""),
    ("with 1\n  after #clear full\n", "with 1\nnode #clear = fill %z with 0\n  after #mark full\n"),
)
"""Two fills of the same bytes in the other order."""
