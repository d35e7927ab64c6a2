"""Certificates of moved temporaries: each read sees the same writes, and nothing races on the bytes that are shared."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from forerun.ir.explain.witness import witness
from forerun.ir.graph import Graph
from forerun.ir.refinement.certificate import certify
from forerun.ir.semantics import Verdict, check
from forerun.ir.text import parse_graph
from forerun.ir.verify import verify
from forerun.support.diagnostics import Severity

BASE = """\
forerun 1
graph base

alloc $v : 32
buffer %x : f32[4] input
buffer %a : f32[4] temp
buffer %b : f32[4] temp
buffer %c : f32[4] temp
buffer %v : f32[8] temp at $v
buffer %heads : f32[2, 4] temp at $v
buffer %p : f32[4] temp
buffer %k : f32[4] temp
buffer %i : f32[4] temp
buffer %q : f32[4] temp
buffer %r : f32[4] temp
buffer %s : f32[4] state
buffer %y : f32[4] output
buffer %z : f32[4] output
buffer %w : f32[4] output

kernel @map(x: f32[D], y: f32[D]) {
  role main {
    wait
    phase work reads x writes y
  }
}
kernel @split(x: f32[D], y: f32[E]) {
  role main {
    phase work reads x writes y
  }
}
kernel @merge(x: f32[H, E], y: f32[D]) {
  role main {
    phase work reads x writes y
  }
}
kernel @library(x: f32[D], y: f32[D]) opaque

node #one = @map(x=%x, y=%a)
node #two = @map(x=%a, y=%b)
  after #one programmatic
node #three = @map(x=%b, y=%c)
  after #two programmatic
node #four = @split(x=%c, y=%v)
  after #three full
node #five = @merge(x=%heads, y=%y)
  after #four full
node #part = fill %p[0:2] with 1
  after #five full
node #use = @map(x=%p, y=%s)
  after #part full
node #box = @library(x=%x, y=%k)
  after #use full
node #loop = child {
  graph inside
  node #in = @map(x=%x, y=%i)
}
  after #box full
node #ones = fill %q with 1
  after #loop full
node #twos = fill %r with 2
  after #ones full
node #first = @map(x=%q, y=%z)
  after #twos full
node #second = copy %r -> %w
  after #first full
"""

TWO = "alloc $arena : 64\n"


def moved(*places: str) -> Graph:
    """BASE with buffers at other places: ``a: arena + 16``."""
    text = BASE.replace("alloc $v", f"{TWO}alloc $v")
    for place in places:
        name, where = place.split(": ")
        text = re.sub(rf"(buffer %{name} : \S+(?: \d\])? \w+)( at .*)?\n", rf"\1 at ${where}\n", text)
    for name, size in (("v", 32), ("arena", 64)):
        if not re.search(rf"at \${name}\b", text):
            text = text.replace(f"alloc ${name} : {size}\n", "")
    return parse_graph(text)


def judged(*places: str) -> Verdict:
    after = moved(*places)
    assert verify(after) == []
    return certify(parse_graph(BASE), after)


@pytest.mark.parametrize(
    "places",
    [
        ("a: arena",),
        ("a: arena", "b: arena + 16", "c: arena"),
        ("v: arena + 32", "heads: arena + 32"),
        ("a: arena", "b: arena + 16", "c: arena", "v: arena + 16", "heads: arena + 16"),
        ("a: v", "b: v + 16"),
    ],
    ids=str,
)
def test_temporaries_may_share_bytes_when_the_others_are_complete(places: tuple[str, ...]) -> None:
    verdict = judged(*places)
    assert verdict.proved, verdict.findings
    assert certify(moved(*places), parse_graph(BASE)).proved  # and part again


@dataclass(frozen=True)
class Wrong:
    """Places of temporaries, the code that finds what is wrong with them, and the verdict."""

    code: str
    places: tuple[str, ...]
    said: str
    status: str = "refuted"


WRONG = {
    "a writer comes in between": Wrong(
        "C17",
        ("q: arena", "r: arena + 8"),
        r"first: reads bytes \[8, 16\) of %q as 'twos' wrote them through %r; before the move, as 'ones' wrote them "
        "through %q",
    ),
    "a node reads what it writes": Wrong(
        "C17", ("a: arena", "b: arena + 8"), "two: reads %a, and writes the same bytes through another", "unsupported"
    ),
    "a view is shifted": Wrong(
        "C17", ("v: arena", "heads: arena + 16"), "buffer heads: .* read where nothing is known", "unsupported"
    ),
    "it is read before it is written": Wrong(
        "C17", ("p: arena",), "buffer p: .*read where nothing is known to have been written", "unsupported"
    ),
    "what shares bytes with it is read before it is written": Wrong(
        "C17",
        ("a: p",),
        r"use: reads bytes \[8, 16\) of %p as 'one' wrote them through %a; before the move, as they were before the",
        "unsupported",
    ),
    "a black box may reach it": Wrong("C17", ("k: arena",), "buffer k: .* not all .* is known exactly", "unsupported"),
    "a body uses it": Wrong("C17", ("i: arena",), "buffer i: .* a body of a node uses it", "unsupported"),
    "what is no temporary moves": Wrong("C9", ("s: arena",), "buffer 's' is not as before", "unsupported"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_wrong_places(case: Wrong) -> None:
    verdict = judged(*case.places)
    said = "\n".join(map(str, verdict.findings))
    assert verdict.status == case.status, said
    assert case.code in {finding.code for finding in verdict.findings}, said
    assert re.search(case.said, said), said


def test_a_race_on_shared_bytes_has_a_witness() -> None:
    early = "    phase work reads x writes y\n    wait\n"
    text = BASE.replace("    wait\n    phase work reads x writes y\n", early)
    before = parse_graph(text.replace("programmatic", "full"))
    assert check(before).proved
    after = parse_graph(
        text.replace("alloc $v", f"{TWO}alloc $v")
        .replace("%a : f32[4] temp", "%a : f32[4] temp at $arena")
        .replace("%c : f32[4] temp", "%c : f32[4] temp at $arena")
        .replace("after #one programmatic", "after #one full")
    )
    verdict = certify(before, after)
    assert verdict.status == "refuted"
    race = next(race for race in verdict.races if race.later.buffer == "c" and race.earlier.buffer == "a")
    assert "writes %c bytes [0, 16)" in str(witness(after, race))


def test_another_device_is_not_the_same_place() -> None:
    text = BASE.replace("alloc $v", "alloc $far : 16 on device:1\nalloc $v")
    text = text.replace("%a : f32[4] temp", "%a : f32[4] temp at $far")
    verdict = certify(parse_graph(BASE), parse_graph(text))
    assert verdict.status == "unsupported"
    assert {finding.code for finding in verdict.findings} == {"C9"}


def test_temporaries_of_the_host_do_not_move() -> None:
    text = """\
forerun 1
graph g
alloc $one : 16 on host
buffer %x : f32[4] input
buffer %t : f32[4] temp at $one
buffer %y : f32[4] output
node #out = copy %x -> %t
node #back = copy %t -> %y
  after #out full
"""
    verdict = certify(parse_graph(text), parse_graph(text.replace("$one", "$other")))
    assert {finding.code for finding in verdict.findings} == {"C9"}
    assert certify(parse_graph(text), parse_graph(text)).proved


EVENT = """\
forerun 1
graph event
buffer %w : f32[4] weight
buffer %x : f32[4] state
buffer %t : f32[4] temp
buffer %y : f32[4] output
kernel @first(x: f32[N]) {
  role main {
    phase store writes x
  }
}
kernel @second(w: f32[N], x: f32[N], y: f32[N]) {
  role main {
    wait
    phase load reads w defines v
    phase store reads x uses v writes y
  }
}
node #go = event_wait "weights are there"
node #first = @first(x=%t)
  after #go full
node #second = @second(w=%w, x=%t, y=%y)
  after #first programmatic
node #third = fill %x with 1
  after #second full
node #fourth = fill %x with 1
  after #third full
"""


@pytest.mark.parametrize(
    ("edits", "codes"),
    [
        ([], set()),
        ([("wait\n    phase load reads w defines v", "phase load reads w defines v\n    wait")], {"C5"}),
        (
            [
                ("#third =", "#last ="),
                ("#fourth =", "#third ="),
                ("#last =", "#fourth ="),
                ("after #third", "after #fourth"),
            ],
            {"C3"},
        ),
    ],
    ids=["nothing", "a load moves ahead of a wait", "nodes change places"],
)
def test_a_move_hides_nothing_else_that_changes(edits: list[tuple[str, str]], codes: set[str]) -> None:
    text, arena = EVENT, ("graph event\n", "graph event\nalloc $arena : 64\n")
    for old, new in [arena, ("%t : f32[4] temp", "%t : f32[4] temp at $arena + 16"), *edits]:
        assert old in text, old
        text = text.replace(old, new)
    verdict = certify(parse_graph(EVENT), parse_graph(text))
    assert {finding.code for finding in verdict.findings if finding.severity is Severity.ERROR} == codes
    assert verdict.status == ("refuted" if codes else "proved")
