"""Merged nodes: that the one computed what the other did is checked, not believed."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest

from forerun.ir.edit import GraphEdit
from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import BufferArgument, KernelNode
from forerun.ir.refinement import merged
from forerun.ir.refinement.certificate import certify
from forerun.ir.refinement.merged import TESTS, Merge
from forerun.ir.semantics import Verdict, check
from forerun.ir.text import parse_graph
from forerun.ir.verify import require_valid

BEFORE = """\
forerun 1
graph merged
alloc $arena : 64
buffer %x : f32[4] input
buffer %w : f32[4] weight
buffer %s : f32[4] state
buffer %a : f32[4] temp at $arena
buffer %b : f32[4] temp at $arena + 32
buffer %c : f32[4] temp
buffer %d : f32[4] temp
buffer %n : i32[1] temp in 0..3
buffer %y : f32[4] state
buffer %z : f32[4] state
kernel @norm(x: f32[D], y: f32[D], k: scalar i32) {
  role all {
    phase run reads x writes y scalars k
  }
}
kernel @other(x: f32[D], y: f32[D], k: scalar i32) {
  role all {
    phase run reads x writes y scalars k
  }
}
kernel @both(x: f32[D], y: f32[D], z: f32[D]) {
  role all {
    phase run reads x writes y, z
  }
}
kernel @times(w: f32[D], x: f32[D], y: f32[D]) {
  role all {
    phase run reads w, x writes y
  }
}
kernel @add(x: f32[D], y: f32[D]) {
  role all {
    phase run reads x, y writes y
  }
}
kernel @opaque(x: f32[D], y: f32[D], k: scalar i32) opaque
node #first = @norm(x=%x, y=%a, k=1)
node #between = @times(w=%w, x=%a, y=%y)
  after #first full
node #again = @norm(x=%x, y=%b, k=1)
  after #between full
node #reader = @times(w=%w, x=%b, y=%z)
  after #again full
node #last = fill %a with 0
  after #reader full
"""

Edits = tuple[tuple[str, str], ...]


def graph_of(*edits: tuple[str, str]) -> Graph:
    text = BEFORE
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    graph = parse_graph(text)
    require_valid(graph)
    return graph


def _read_from(edit: GraphEdit, merge: Merge) -> None:
    """Readers that are kernel nodes read what is kept, whatever else there is."""
    for name in merge.readers:
        reader = edit.node(name)
        if isinstance(reader, KernelNode):
            bound = [(p, str(getattr(argument, "buffer", "")), argument) for p, argument in reader.arguments]
            arguments = tuple((p, BufferArgument(merge.moved[b]) if b in merge.moved else a) for p, b, a in bound)
            edit.replace_node(replace(reader, arguments=arguments))


def forced(graph: Graph, kept: str = "first", gone: str = "again") -> Graph:
    """The graph after a merge, right or wrong."""
    edit = graph.edit()
    _read_from(edit, Merge(graph, kept, gone))
    incoming, outgoing = edit.incoming(gone), edit.outgoing(gone)
    edit.remove_node(gone)
    for source in incoming:
        for target in outgoing:
            edit.add_dependency(Dependency(source.source, target.target))
    node = graph.nodes[kept]
    if isinstance(node, KernelNode):
        edit.replace_node(replace(node, fuses=(kept, gone)))
    return edit.commit()


@dataclass(frozen=True)
class Wrong:
    """A graph in which two nodes may not be merged, and why."""

    said: str
    edits: Edits


def node(name: str, text: str, after: str) -> tuple[str, str]:
    """An edit that puts a node before another one."""
    return f"node #{name} ", f"{text}\n  after #{after} full\nnode #{name} "


WRONG = {
    "another kernel": Wrong("launch different kernels", (("#again = @norm", "#again = @other"),)),
    "another launch": Wrong("launch different kernels", (("y=%b, k=1)", "y=%b, k=1) grid(2)"),)),
    "code that nobody knows": Wrong(
        "nobody says that the code of kernel 'opaque'",
        (("#first = @norm", "#first = @opaque"), ("#again = @norm", "#again = @opaque")),
    ),
    "code that somebody else wrote": Wrong(
        "nobody says that the code of kernel 'norm'",
        (
            (
                "@norm(x: f32[D], y: f32[D], k: scalar i32) {",
                '@norm(x: f32[D], y: f32[D], k: scalar i32) ptx("norm.ptx", "norm") {',
            ),
        ),
    ),
    "another input": Wrong("parameter 'x' is bound to different things", (("@norm(x=%x, y=%b", "@norm(x=%w, y=%b"),)),
    "another scalar": Wrong("parameter 'k' is bound to different things", (("y=%b, k=1", "y=%b, k=2"),)),
    "a scalar of other bits": Wrong(
        "parameter 'k' is bound",
        (("k: scalar i32", "k: scalar f32"), ("y=%a, k=1", "y=%a, k=0.0"), ("y=%b, k=1", "y=%b, k=-0.0")),
    ),
    "an input that is written in between": Wrong(
        "'between' writes %s, which they read",
        (("(x=%x, y=%a", "(x=%s, y=%a"), ("(x=%x, y=%b", "(x=%s, y=%b"), ("x=%a, y=%y", "x=%a, y=%s")),
    ),
    "an input that the kernel writes itself": Wrong(
        "'first' writes %s, which they read",
        (("(x=%x, y=%a", "(x=%s, y=%s"), ("(x=%x, y=%b", "(x=%s, y=%b"), ("x=%a, y=%y", "x=%w, y=%y")),
    ),
    "an input that the second one writes itself": Wrong(
        "'again' writes %s, which they read",
        (("(x=%x, y=%a", "(x=%s, y=%a"), ("(x=%x, y=%b", "(x=%s, y=%s"), ("x=%b, y=%z", "x=%s, y=%z")),
    ),
    "an input in pages": Wrong(
        "what they access is not known exactly",
        (
            (
                "%w : f32[4] weight",
                "%w : f32[4] weight\nbuffer %t : i32[4] input in 0..3\nbuffer %p : f32[4] input paged(%t, 1)",
            ),
            ("(x=%x, y=%a", "(x=%p, y=%a"),
            ("(x=%x, y=%b", "(x=%p, y=%b"),
        ),
    ),
    "an event in between": Wrong(
        "others may write what they read until 'go'", (node("again", 'node #go = event_wait "go"', "between"),)
    ),
    "a scalar that is loaded and written in between": Wrong(
        "'count' writes %n, which they read",
        (
            ("k=1", "k=load(%n[0])"),
            node("again", "node #count = fill %n with 1", "between"),
            ("node #first =", "node #begin = fill %n with 0\nnode #first ="),
            (
                "#first = @norm(x=%x, y=%a, k=load(%n[0]))",
                "#first = @norm(x=%x, y=%a, k=load(%n[0]))\n  after #begin full",
            ),
        ),
    ),
    "a first output that is seen": Wrong(
        "%a is seen by others", (("buffer %a : f32[4] temp at $arena", "buffer %a : f32[4] state"),)
    ),
    "an output that is seen": Wrong("%s is seen by others", (("y=%b, k", "y=%s, k"), ("x=%b, y=%z", "x=%s, y=%z"))),
    "outputs that change places": Wrong(
        "",
        (
            ("#first = @norm(x=%x, y=%a, k=1)", "#first = @both(x=%x, y=%a, z=%c)"),
            ("#again = @norm(x=%x, y=%b, k=1)", "#again = @both(x=%x, y=%c, z=%b)"),
        ),
    ),
    "outputs that both are one": Wrong(
        "one buffer is bound to several",
        (
            ("#first = @norm(x=%x, y=%a, k=1)", "#first = @both(x=%x, y=%a, z=%a)"),
            ("#again = @norm(x=%x, y=%b, k=1)", "#again = @both(x=%x, y=%b, z=%d)"),
        ),
    ),
    "an output of another kind": Wrong(
        "%b and %a differ",
        (
            ("@norm(x: f32[D], y: f32[D]", "@norm(x: f32[D], y: f32[T]"),
            ("buffer %a : f32[4] temp at $arena", "buffer %a : f32[8] temp at $arena"),
            ("x=%a, y=%y", "x=%x, y=%y"),
        ),
    ),
    "an output that is aligned to less": Wrong(
        "%a is aligned to less than %b", (("%a : f32[4] temp at $arena", "%a : f32[4] temp at $arena + 4"),)
    ),
    "an output that is written in part": Wrong(
        "does not write all of %a",
        (
            (
                "reads x writes y scalars k\n  }\n}\nkernel @other",
                "reads x writes y[0:2] scalars k\n  }\n}\nkernel @other",
            ),
        ),
    ),
    "bytes that are written twice": Wrong(
        "'first' writes bytes of %a twice",
        (
            ("#first = @norm(x=%x, y=%a, k=1)", "#first = @both(x=%x, y=%a, z=%a)"),
            ("#again = @norm(x=%x, y=%b, k=1)", "#again = @both(x=%x, y=%a, z=%a)"),
            ("x=%b, y=%z", "x=%a, y=%z"),
        ),
    ),
    "a writer before": Wrong(
        "'early' writes %b",
        (node("between", "node #early = fill %b with 0", "first"), ("y=%y)\n  after #first", "y=%y)\n  after #early")),
    ),
    "a writer later": Wrong("'reader' writes %b", (("@times(w=%w, x=%b, y=%z)", "@add(x=%x, y=%b)"),)),
    "a reader of some of its bytes": Wrong(
        "'reader' reads it in another way",
        (("buffer %c : f32[4] temp", "buffer %c : f32[4] temp at $arena + 32"), ("x=%b, y=%z", "x=%c, y=%z")),
    ),
    "a copy that reads it": Wrong(
        "'reader' reads it in another way",
        (("node #reader = @times(w=%w, x=%b, y=%z)", "node #reader = copy %b -> %z"),),
    ),
    "a first output that is written before": Wrong(
        "'early' writes %a before all have read it",
        (
            node("reader", "node #early = fill %a[0:1] with 0", "again"),
            ("y=%z)\n  after #again full", "y=%z)\n  after #again full\n  after #early full"),
        ),
    ),
    "a first output that the reader writes": Wrong(
        "'reader' writes %a before all",
        (("x=%b, y=%z", "x=%b, y=%a"), ("node #last = fill %a", "node #last = fill %y")),
    ),
    "a dependency that is not full": Wrong(
        "dependencies of 'again' are not full",
        (
            ("y=%z)\n  after #again full", "y=%z)\n  after #between full\n  after #again launch_order"),
            ("x=%b, y=%z", "x=%x, y=%z"),
        ),
    ),
}


def certified(edits: Edits) -> Verdict:
    graph = graph_of(*edits)
    return certify(graph, forced(graph))


def test_the_right_merge_is_proved() -> None:
    assert certified(()).proved
    graph = graph_of()
    assert check(forced(graph)).proved
    reader = forced(graph).nodes["reader"]
    assert isinstance(reader, KernelNode)
    assert str(reader.argument("x")) == "BufferArgument(buffer='a', partial=False)"


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_wrong_merges(case: Wrong) -> None:
    graph = graph_of(*case.edits)
    reason = Merge(graph, "first", "again").refusal()
    assert reason
    assert re.search(re.escape(case.said), reason), reason
    verdict = certify(graph, forced(graph))
    assert not verdict.proved
    assert "C20" in {finding.code for finding in verdict.findings}, [str(one) for one in verdict.findings]


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.__name__)
def test_a_checker_without_a_test_believes_something_wrong(test: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merged, "TESTS", tuple(one for one in TESTS if one is not test))

    assert any(not Merge(graph_of(*case.edits), "first", "again").refusal() for case in WRONG.values())


def test_what_is_read_with_another_name_by_nobody_is_lost() -> None:
    """Without the claim, or with one about another node, a node that is gone is gone."""
    graph = graph_of()
    after = forced(graph)
    assert {one.code for one in certify(graph, after, fusions={}).findings} >= {"C8"}
    wrong = certify(graph, after, fusions={"between": ("between", "again")})
    assert "C20" in {one.code for one in wrong.findings}
    assert not wrong.proved


def test_readers_that_still_read_the_old_buffer() -> None:
    graph = graph_of()
    edit = forced(graph).edit()
    edit.replace_node(graph.nodes["reader"])
    assert not certify(graph, edit.commit()).proved


def test_what_is_written_again_to_the_same_bytes() -> None:
    same: Edits = (("(x=%x, y=%b", "(x=%x, y=%a"), ("x=%b, y=%z", "x=%a, y=%z"))
    assert certified(same).proved
    seen: Edits = (
        ("%a : f32[4] temp at $arena", "%a : f32[4] state at $arena"),
        ("buffer %b : f32[4] temp at $arena + 32", "buffer %b : f32[4] temp"),
    )
    assert certified((*same, *seen)).proved


def test_what_was_complete_before_an_event_through_the_node_stays_so() -> None:
    edits = (node("reader", 'node #done = event_record "done"', "again"),)
    graph = graph_of(*edits)
    assert certify(graph, forced(graph)).proved
    edit = forced(graph).edit()
    edit.remove_dependency("between", "done")
    assert "C5" in {one.code for one in certify(graph, edit.commit()).findings}
