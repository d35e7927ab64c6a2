"""Folded copies: that readers have the same constants is checked, not believed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import BufferArgument, ConstantArgument, KernelNode
from forerun.ir.refinement.certificate import certify
from forerun.ir.refinement.folded import folds
from forerun.ir.semantics import Verdict, check
from forerun.ir.text import parse_graph
from forerun.ir.verify import require_valid, verify
from forerun.passes.fold_params import FoldParams
from forerun.passes.infra.base import PassContext

BEFORE = """\
forerun 1
graph folded
alloc $arena : 32
buffer %k : i32[4] weight holds [1, 2, 3, 4] on host
buffer %given : i32[2] weight on host
buffer %state : i32[2] state on host
buffer %slot : i32[2] temp at $arena
buffer %whole : i32[4] temp at $arena
buffer %n : i32[1] temp in 0..9
buffer %x : f32[4] input
buffer %y : f32[4] state
buffer %z : f32[4] state
buffer %seen : i32[2] state
kernel @scale(p: i32[P], x: f32[D], y: f32[D], n: scalar i32) {
  role all {
    phase run reads p, x writes y scalars n
  }
}
kernel @count(p: i32[P], x: f32[D], y: f32[D], n: scalar i32) {
  role all {
    phase run reads p, x writes y, p scalars n
  }
}
kernel @box(p: i32[P], x: f32[D], y: f32[D], n: scalar i32) opaque
node #upload = copy %k[1:3] -> %slot
node #number = copy %k[0:1] -> %n
  after #upload full
node #first = @scale(p=%slot, x=%x, y=%y, n=load(%n[0] + 1))
  after #number full
node #last = fill %z with 0
  after #first full
"""

AFTER = """\
alloc $params : 512
buffer %c : i32[2] weight holds [2, 3] at $params
buffer %d : i32[1] weight in 0..9 holds [1] at $params + 256
"""


def before(*edits: tuple[str, str]) -> Graph:
    text = BEFORE
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    graph = parse_graph(text)
    require_valid(graph)
    return graph


def after(graph: Graph, tables: str = AFTER, p: str = "c", n: int | str = 2) -> Graph:
    """The graph without its copies, with new tables and a reader that is bound to them."""
    declared = parse_graph(f"forerun 1\ngraph tables\n{tables}")
    edit = graph.edit()
    for allocation in declared.allocations.values():
        edit.set_allocation(allocation)
    for buffer in declared.buffers.values():
        edit.set_buffer(buffer)
    first = graph.nodes["first"]
    assert isinstance(first, KernelNode)
    number = ConstantArgument(n) if isinstance(n, int) else replace(first.argument("n"), buffer=n)  # type: ignore[type-var]
    bound = {"p": BufferArgument(p), "n": number}
    edit.replace_node(replace(first, arguments=tuple((name, bound.get(name, a)) for name, a in first.arguments)))
    for name in ("upload", "number"):
        edit.remove_node(name)
    return edit.commit()


def findings(verdict: Verdict) -> str:
    return "\n".join(str(finding) for finding in verdict.findings)


@pytest.mark.parametrize("n", [2, "d"])
def test_the_right_folds_are_proved(n: int | str) -> None:
    folded = after(before(), n=n)
    assert not verify(folded)
    assert check(folded).proved
    verdict = certify(before(), folded)
    assert verdict.proved, findings(verdict)


BINDINGS = {
    "other contents": ("does not hold what it copied", AFTER.replace("[2, 3]", "[2, 4]"), "c", 2),
    "the start of the source": ("does not hold what it copied", AFTER.replace("[2, 3]", "[1, 2]"), "c", 2),
    "another type": ("does not hold what it copied", AFTER.replace("%c : i32[2]", "%c : u32[2]"), "c", 2),
    "another shape": (
        "does not hold what it copied",
        AFTER.replace("%c : i32[2] weight holds [2, 3]", "%c : i32[3] weight holds [2, 3, 4]"),
        "c",
        2,
    ),
    "other bounds": ("does not hold what it copied", AFTER.replace("holds [2, 3]", "in 0..9 holds [2, 3]"), "c", 2),
    "no contents": ("does not hold what it copied", AFTER.replace("weight holds [2, 3]", "weight"), "c", 2),
    "state": ("does not hold what it copied", AFTER.replace("weight holds [2, 3]", "state"), "c", 2),
    "another place": ("lies at another place", AFTER.replace("$params : 512", "$params : 512 on host"), "c", 2),
    "less aligned": ("is aligned to less", AFTER.replace("at $params\n", "at $params + 8\n"), "c", 2),
    "the old slot": ("does not hold what it copied", AFTER, "slot", 2),
    "a scalar without what is added": ("another scalar than the one that it loaded", AFTER, "c", 1),
    "another scalar": ("another scalar than the one that it loaded", AFTER, "c", 3),
    "a load of another buffer": (
        "does not hold what it copied",
        AFTER.replace("holds [1] at", "holds [2] at"),
        "c",
        "d",
    ),
}


@pytest.mark.parametrize(("said", "tables", "p", "n"), BINDINGS.values(), ids=BINDINGS)
def test_readers_that_are_bound_to_something_else(said: str, tables: str, p: str, n: int | str) -> None:
    verdict = certify(before(), after(before(), tables, p, n))
    assert not verdict.proved
    assert said in findings(verdict), findings(verdict)
    assert "C21" in {finding.code for finding in verdict.findings}


def inserted(before_node: str, text: str) -> tuple[str, str]:
    return f"node #{before_node} ", f"{text}\nnode #{before_node} "


COPIES = {
    "a weight whose value is not known": ("the graph does not say what it holds", [("copy %k[1:3]", "copy %given")]),
    "state of the host": ("may change between replays: it is state", [("copy %k[1:3]", "copy %state")]),
    "a destination that is seen": ("%seen is seen by others", [("-> %slot", "-> %seen"), ("p=%slot", "p=%seen")]),
    "another writer": (
        "where others write, too",
        [
            inserted("first", "node #other = fill %whole[0:1] with 0\n  after #number full"),
            ("#number full\nnode #last", "#other full\nnode #last"),
        ],
    ),
    "a copy of a part": (
        "of which it writes a part",
        [
            inserted("upload", "node #zero = fill %whole with 0"),
            ("copy %k[1:3] -> %slot", "copy %k[0:3] -> %whole[0:3]\n  after #zero full"),
            ("reads p, x writes y scalars", "reads p[0:2], x writes y scalars"),
            ("p=%slot", "p=%whole"),
        ],
    ),
    "a reader that writes": ("others write, too", [("#first = @scale", "#first = @count")]),
    "a black box": ("not all that is read and written", [("#first = @scale", "#first = @box")]),
    "a reader that is a copy": (
        "which is not a kernel node",
        [inserted("last", "node #on = copy %slot -> %seen\n  after #first full")],
    ),
    "bounds that are broken": ("out of the bounds of %n", [("%n : i32[1] temp in 0..9", "%n : i32[1] temp in 4..9")]),
    "an index of others": (
        "says where others lie",
        [("buffer %x", "buffer %pages : f32[4] state paged(%slot, 2)\nbuffer %x")],
    ),
}


@pytest.mark.parametrize(("said", "edits"), COPIES.values(), ids=COPIES)
def test_copies_that_must_stay(said: str, edits: list[tuple[str, str]]) -> None:
    graph = before(*edits)
    reasons = [fold.refusal for fold in folds(graph).values()]
    assert any(said in reason for reason in reasons), reasons
    verdict = certify(graph, after(graph))
    assert not verdict.proved
    assert "C21" in {finding.code for finding in verdict.findings}, findings(verdict)
    left = FoldParams().apply(graph, PassContext(FoldParams()))
    assert certify(graph, left).proved or not check(graph).proved


def test_what_was_complete_before_an_event_through_the_copy_stays_so() -> None:
    early = "node #early = fill %z with 1\nnode #upload = copy %k[1:3] -> %slot\n  after #early full"
    edits = [
        ("node #upload = copy %k[1:3] -> %slot", early),
        inserted("first", 'node #done = event_record "done"\n  after #number full'),
    ]
    graph = before(*edits)
    edit = after(graph).edit()
    lost = edit.commit()
    assert "C5" in {finding.code for finding in certify(graph, lost).findings}
    edit.add_dependency(Dependency("early", "done"))
    assert "C5" not in {finding.code for finding in certify(graph, edit.commit()).findings}


def test_a_copy_that_is_gone_with_a_reader_left_alone() -> None:
    edit = before().edit()
    for name in ("upload", "number"):
        edit.remove_node(name)
    assert not certify(before(), edit.commit()).proved


def test_other_new_buffers_are_not_for_this_rule() -> None:
    edit = after(before()).edit()
    edit.set_allocation(replace(before().allocations["x"], name="w"))
    edit.set_buffer(replace(before().buffers["x"], name="w", allocation="w"))
    assert {finding.code for finding in certify(before(), edit.commit()).findings} == {"C9"}
