"""Copies of buffers: what certificates prove of nodes that work on them, and each way in which that goes wrong."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from forerun.ir.refinement.certificate import certify
from forerun.ir.refinement.copied import copied
from forerun.ir.refinement.stale_bytes import StaleBytes
from forerun.ir.text import parse_graph
from forerun.ir.verify import verify

HEAD = """\
forerun 1
graph base

buffer %x : f32[4] input
buffer %a : f32[4] temp
buffer %s : f32[4] state
buffer %y : f32[4] output
"""
KERNELS = """
kernel @map(x: f32[D], y: f32[D]) {
  role main {
    phase run ref "numpy:positive" reads x writes y
  }
}
kernel @half(x: f32[D], y: f32[D]) {
  role main {
    phase run ref "numpy:positive" reads x writes y[0:2]
  }
}
kernel @opaque(x: f32[D], y: f32[D]) opaque

"""
BEFORE = (
    HEAD
    + KERNELS
    + """\
node #make = @map(x=%x, y=%a)
node #keep = @map(x=%a, y=%s)
  after #make full
node #use = @map(x=%s, y=%y)
  after #keep full
"""
)
COPIES = """\
buffer %a.host : f32[4] temp on host
buffer %s.host : f32[4] temp on host
"""
AFTER = (
    HEAD
    + COPIES
    + KERNELS
    + """\
node #make = @map(x=%x, y=%a)
node #a.to_host = copy %a -> %a.host
  after #make full
node #keep = @map(x=%a.host, y=%s.host) on host
  after #a.to_host full
node #s.to_device = copy %s.host -> %s
  after #keep full
node #use = @map(x=%s, y=%y)
  after #s.to_device full
"""
)


def verdict_of(before: str, after: str) -> tuple[str, set[str], str]:
    """The status, the codes, and all that is said."""
    graphs = [parse_graph(text) for text in (before, after)]
    for graph in graphs:
        assert verify(graph) == []
    verdict = certify(*graphs)
    return verdict.status, {finding.code for finding in verdict.findings}, "; ".join(map(str, verdict.findings))


def test_nodes_that_work_on_copies_are_proved() -> None:
    assert verdict_of(BEFORE, AFTER) == ("proved", set(), "")
    assert copied(parse_graph(BEFORE), parse_graph(AFTER)) == {"a.host": "a", "s.host": "s"}


@dataclass(frozen=True)
class Wrong:
    """Texts of AFTER that are replaced, and what is said."""

    edits: tuple[tuple[str, str], ...]
    said: str
    code: str = "C22"


WRONG = {
    "the copy comes before what it copies is written": Wrong(
        (
            ("node #make = @map(x=%x, y=%a)\n", ""),
            ("node #a.to_host = copy %a -> %a.host\n  after #make full\n", "node #a.to_host = copy %a -> %a.host\n"),
            ("node #keep", "node #make = @map(x=%x, y=%a)\n  after #a.to_host full\nnode #keep"),
            ("  after #a.to_host full\nnode #s", "  after #make full\nnode #s"),
            ("%a : f32[4] temp\n", "%a : f32[4] state\n"),
        ),
        "reads bytes of %a.host that may not be those of %a",
    ),
    "it is not returned": Wrong(
        (("copy %s.host -> %s", "copy %s -> %s.host"),),
        "reads bytes of %s that may not be those of %s",
    ),
    "it is returned too early for what others see": Wrong(
        (
            ("node #use = @map(x=%s, y=%y)\n  after #s.to_device full\n", ""),
            (
                "node #s.to_device",
                "node #use = @map(x=%s.host, y=%y)\n  after #keep full\nnode #s.to_device",
            ),
            ("copy %s.host -> %s\n  after #keep full", "copy %s -> %s.host\n  after #use full"),
        ),
        "%s may not hold at the end of the replay what it would",
    ),
    "only a part is written there": Wrong(
        (("#keep = @map(", "#keep = @half("),),
        "reads bytes of %s that may not be those of %s",
    ),
    "it is another buffer that is copied": Wrong(
        (("copy %a -> %a.host", "copy %x -> %a.host"),),
        "keep: is not the node that it was",
        "C7",
    ),
    "two buffers are copied to one": Wrong(
        (
            (
                "node #keep",
                "node #more = copy %x -> %a.host\n  after #a.to_host full\nnode #keep",
            ),
            ("  after #a.to_host full\nnode #s", "  after #more full\nnode #s"),
        ),
        "MemcpyNode 'more' is new",
        "C8",
    ),
    "the copies share bytes": Wrong(
        ((COPIES, "alloc $h : 16 on host\nbuffer %a.host : f32[4] temp at $h\nbuffer %s.host : f32[4] temp at $h\n"),),
        "uses %a.host and %s.host, which share bytes only in one of the graphs",
    ),
    "a copy is used by what is no kernel": Wrong(
        (("node #use = @map(x=%s, y=%y)", "node #use = copy %s.host -> %y"),),
        "uses %s.host, a copy of %s, but launches no kernel",
    ),
    "another kernel is launched at another place": Wrong(
        (("#keep = @map(", "#keep = @opaque("),), "is not the node that it was", "C7"
    ),
    "the copy is aligned to less": Wrong(
        (
            (
                "buffer %a.host : f32[4] temp on host",
                "alloc $h : 64 on host\nbuffer %a.host : f32[4] temp at $h + 16",
            ),
        ),
        "MemcpyNode 'a.to_host' is new",
        "C8",
    ),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_not_proved(case: Wrong) -> None:
    after, before = AFTER, BEFORE
    for old, new in case.edits:
        assert old in after, old
        after = after.replace(old, new)
        before = before.replace(old, new) if old in HEAD else before
    if "@half" in after:
        before = before.replace("#keep = @map(", "#keep = @half(")
    status, codes, said = verdict_of(before, after)
    assert status != "proved"
    assert case.code in codes, said
    assert case.said in said


def test_a_race_with_a_copy_is_refuted() -> None:
    after = AFTER.replace("%a.host\n  after #make full\n", "%a.host\n")
    status, codes, _ = verdict_of(BEFORE, after)
    assert status == "refuted"
    assert "race" in codes or codes


def test_what_lies_in_a_temporary_from_the_last_replay_is_not_trusted() -> None:
    """The first half of a temporary is written in each replay, by who works on a copy, and read as a whole."""
    before = BEFORE.replace("#make = @map(", "#make = @half(")
    after = AFTER.replace("#make = @map(x=%x, y=%a)\n", "#make = @half(x=%x, y=%a.host) on host\n")
    after = after.replace("copy %a -> %a.host", "copy %a.host -> %a")
    status, codes, said = verdict_of(before, after)
    assert (status, codes) == ("unsupported", {"C22"}), said


EVENTS = """\
node #write = @map(x=%x, y=%s)
node #record = event_record "done"
  after #write full
node #wait = event_wait "go"
  after #record full
node #read = @map(x=%s, y=%y)
  after #wait full
"""
EVENTS_AFTER = """\
node #write = @map(x=%x, y=%s.host) on host
node #back = copy %s.host -> %s
  after #write full
node #record = event_record "done"
  after #back full
node #wait = event_wait "go"
  after #record full
node #again = copy %s -> %s.host
  after #wait full
node #read = @map(x=%s.host, y=%y) on host
  after #again full
"""


def test_others_may_look_and_write_at_events() -> None:
    before, head = HEAD + KERNELS + EVENTS, HEAD + COPIES.split("\n")[1] + KERNELS
    assert verdict_of(before, head + EVENTS_AFTER)[0] == "proved"
    kept = EVENTS_AFTER.replace("node #again = copy %s -> %s.host\n  after #wait full\n", "").replace("#again", "#wait")
    assert "reads bytes of %s.host that may not be" in verdict_of(before, head + kept)[2]
    late = EVENTS_AFTER.replace("node #back = copy %s.host -> %s\n  after #write full\n", "").replace("#back", "#write")
    late = late.replace("node #wait", "node #back = copy %s.host -> %s\n  after #record full\nnode #wait")
    late = late.replace('#wait = event_wait "go"\n  after #record', '#wait = event_wait "go"\n  after #back')
    assert "%s may not hold when it runs" in verdict_of(before, head + late)[2]
    beside = EVENTS_AFTER.replace("after #back full", "after #write full").replace(
        "node #again = copy %s -> %s.host\n  after #wait full",
        "node #again = copy %s -> %s.host\n  after #wait full\n  after #back full",
    )
    assert "copies while event node 'record' may run" in verdict_of(before, head + beside)[2]


def test_memory_may_lie_elsewhere() -> None:
    after = BEFORE.replace("%s : f32[4] state", "%s : f32[4] state on host")
    assert verdict_of(BEFORE, after)[0] == "proved"


def test_stale_bytes_are_sets_of_ranges() -> None:
    stale, bytes_ = StaleBytes(), set[int]()
    for number, (start, length) in enumerate([(4, 4), (10, 2), (8, 2), (0, 20), (5, 3), (30, 0), (7, 1), (3, 30)]):
        (stale.remove if number % 3 == 2 else stale.add)(start, start + length)
        change = set(range(start, start + length))
        bytes_ = bytes_ - change if number % 3 == 2 else bytes_ | change
        assert {i for a, b in stale.ranges for i in range(a, b)} == bytes_
        assert stale.meets(6, 9) == bool(bytes_ & {6, 7, 8})
        assert {i for a, b in stale.within(6, 9) for i in range(a, b)} == bytes_ & {6, 7, 8}
