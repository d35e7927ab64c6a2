"""Faults 01 to 04, 06 and 09 to 11, and relatives: what was proved and is not so, or the other way round.

Each ``NN-name.fir`` beside this file is an input that an attack found; the others are made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from forerun.ir.explain import repairs
from forerun.ir.graph import Graph
from forerun.ir.refinement.certificate import certify
from forerun.ir.semantics import check
from forerun.ir.semantics.hazards import conflicts
from forerun.ir.text import parse_graph
from forerun.ir.verify import verify
from forerun.passes.infra.manager import PassManager

HERE = Path(__file__).parent


def text(name: str) -> str:
    return (HERE / f"{name}.fir").read_text(encoding="utf-8")


def changed(name: str, *replacements: tuple[str, str]) -> str:
    found = text(name)
    for old, new in replacements:
        assert old in found
        found = found.replace(old, new)
    return found


def verdict(before: str, after: str, fusions: Mapping[str, tuple[str, ...]] | None = None) -> tuple[str, set[str]]:
    graphs = parse_graph(before), parse_graph(after)
    assert all(verify(graph) == [] for graph in graphs)
    found = certify(*graphs, fusions=fusions)
    return found.status, {finding.code for finding in found.findings}


# 01: the order of a body


@pytest.mark.parametrize("old", ["writes h async", "writes h"])
def test_a_phase_that_writes_keeps_its_place(old: str) -> None:
    before, after = (changed(f"01-async-write.{end}", ("writes h async", old)) for end in ("before", "after"))
    assert verdict(before, after) == ("refuted", {"C4"})
    assert verdict(after, before) == ("refuted", {"C4"})
    assert verdict(before, before) == ("proved", set())


def test_two_asynchronous_writes_keep_their_order() -> None:
    phases = "    phase append reads x writes h async\n", "    phase look reads h writes y\n"
    body = "".join(phases)
    second = phases[0].replace("append", "again")
    pair = [changed("01-async-write.before", (body, order)) for order in (phases[0] + second, second + phases[0])]
    graphs = [graph.replace("buffer %y : f32[4] output\n", "").replace(", y: f32[N]", "") for graph in pair]
    graphs = [graph.replace(", y=%y", "") for graph in graphs]
    assert verdict(*graphs) == ("refuted", {"C4"})


def test_asynchronous_reads_without_writes_may_change_places() -> None:
    loads = ["    phase one reads x defines a async\n", "    phase two reads h defines b async\n"]
    use = "    phase use uses a, b writes y\n"
    phases = "    phase append reads x writes h async\n    phase look reads h writes y\n"
    before, after = (
        changed("01-async-write.before", (phases, "".join(order) + use)) for order in (loads, reversed(loads))
    )
    assert verdict(before, after) == ("proved", set())


# 02: what covers


def test_what_is_written_through_a_page_table_covers_nothing() -> None:
    pair = text("02-uncertain-cover.before"), text("02-uncertain-cover.after")
    assert verdict(*pair, fusions={"F": ("P", "Q")}) == ("refuted", {"C1"})


def test_what_is_written_exactly_covers() -> None:
    plain = ("temp paged(%table, 1) at", "temp at")
    pair = (changed(f"02-uncertain-cover.{end}", plain) for end in ("before", "after"))
    assert verdict(*pair, fusions={"F": ("P", "Q")}) == ("proved", set())


@pytest.mark.parametrize("ragged", [False, True])
def test_a_read_behind_an_uncertain_write_conflicts_with_what_came_before(ragged: bool) -> None:
    index = ("paged(%table, 1)", "ragged(%table)" if ragged else "paged(%table, 1)")
    graph = parse_graph(changed("02-uncertain-cover.before", index))
    assert {(c.earlier.node, c.later.node) for c in conflicts(graph)} >= {("P", "R"), ("W", "R")}


def test_a_branch_covers_nothing_and_a_child_graph_does() -> None:
    body = "{\n  graph b\n  node #inside = fill %h with 2\n}"
    for kind, pairs in ((f"child {body}", {("n", "end")}), (f"if %c {body}", {("n", "end"), ("zero", "end")})):
        graph = parse_graph(f"""
forerun 1
graph g
buffer %c : i32[1] input
buffer %h : f32[4] temp
buffer %y : f32[4] output
node #zero = fill %h with 0
node #n = {kind}
  after #zero
node #end = copy %h -> %y
  after #n
""")
        assert verify(graph) == []
        assert {(c.earlier.node, c.later.node) for c in conflicts(graph) if c.later.node == "end"} == pairs


def test_a_write_of_a_weight_through_a_page_table_is_one() -> None:
    weight = ("buffer %pg : f32[4, 2] temp paged(%table, 1) at $a", "buffer %pg : f32[4, 2] weight paged(%table, 1)")
    assert "F1" in {found.code for found in verify(parse_graph(changed("02-uncertain-cover.before", weight)))}


# 03: writes means must


SCATTER = """kernel @scatter(x: f32[N], y: f32[N]) {
  role r {
    phase p reads x, y writes y
  }
}
node #zero ="""


def test_what_a_write_covers_may_be_moved_under_and_what_it_reads_may_not() -> None:
    before, after = (text(f"03-partial-write-moved.{end}") for end in ("before", "after"))
    assert verdict(before, after) == ("proved", set())
    pair = ("node #zero =", SCATTER), ("node #scatter = @copy", "node #scatter = @scatter")
    before, after = (changed(f"03-partial-write-moved.{end}", *pair) for end in ("before", "after"))
    assert verdict(before, after) == ("unsupported", {"C17"})


# 04: H8 and the copy engine


@pytest.mark.parametrize("wait", ["    wait\n", ""])
def test_a_wait_that_changes_nothing_changes_no_verdict(wait: str) -> None:
    graph = parse_graph(changed("04-h8-async", ("    wait\n", wait)))
    assert check(graph, {"H8"}).status == "unsupported"
    assert check(graph).status == "refuted"


def test_a_wait_that_covers_the_source_orders_the_copy_engine_too() -> None:
    graph = changed(
        "04-h8-async", ("node #w = @w(h=%h, y=%y)\n", "node #w = @w(h=%h, y=%y)\n  after #u programmatic\n")
    )
    assert check(parse_graph(graph), {"H8"}).status == "proved"
    assert check(parse_graph(changed("04-h8-async", (" async", ""))), {"H8"}).status == "proved"


# 06: host calls

CALL = 'host "m:tell_the_scheduler_that_y_is_ready"'


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (CALL, ("refuted", {"C5"})),
        (f"{CALL} reads %s", ("refuted", {"C5"})),
        (f"{CALL} writes %s", ("refuted", {"C5"})),
        (f"{CALL} pure reads %s", ("proved", set())),
    ],
)
def test_a_host_call_keeps_its_order_unless_it_is_pure(call: str, expected: tuple[str, set[str]]) -> None:
    before, after = (changed(f"06-host-call-moved.{end}", (CALL, call)) for end in ("before", "after"))
    assert verdict(before, after) == expected
    first = before.replace(f"node #k = @copy(x=%x, y=%y)\nnode #notify = {call}\n  after #k full", "")
    moved = f"{first}node #notify = {call}\nnode #k = @copy(x=%x, y=%y)\n  after #notify full\n"
    assert verdict(before, moved) == expected


def test_a_host_call_in_a_child_graph_keeps_its_order() -> None:
    body = f"child {{\n  graph b\n  node #tell = {CALL}\n}}"
    before, after = (changed(f"06-host-call-moved.{end}", (CALL, body)) for end in ("before", "after"))
    assert verdict(before, after) == ("refuted", {"C5"})


# 09: allocations


def test_memory_is_used_between_its_allocation_and_its_end() -> None:
    graph = parse_graph(text("09-use-before-alloc-after-free"))
    assert [(d.code, d.location.name) for d in verify(graph)] == [("F4", "early"), ("F4", "late")]


@pytest.mark.parametrize("node", ["early", "late"])
def test_bodies_use_it_in_between_too(node: str) -> None:
    name = "09-use-before-alloc-after-free"
    line = next(line for line in text(name).splitlines() if line.startswith(f"node #{node}"))
    inside = line.replace("node", "  node")
    nested = f"node #{node} = child {{\n  graph b\n{inside}\n}}"
    found = verify(parse_graph(changed(name, (line, nested))))
    assert (f"{node}/{node}", "F4") in {(d.location.name, d.code) for d in found}


SPREAD = """forerun 1
graph g
alloc $m : 16
buffer %h : f32[4] temp at $m
buffer %y : f32[4] output
node #begin = child {
  graph a
  node #al = alloc $m
}
node #fill = fill %h with 0
  after #begin
node #look = copy %h -> %y
  after #fill
node #end = child {
  graph c
  node #fr = free $m
}
  after #look
"""


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("node #fr = free $m", "node #fr = free $m", set()),
        ("node #fr = free $m", "node #fr = free $m\n  node #late = fill %h with 1\n    after #fr", {"end/late"}),
        ("node #fr = free $m", "node #al = alloc $m", {"end/al"}),
        ("node #al = alloc $m", "node #early = fill %h with 1\n  node #al = alloc $m", {"begin/early"}),
        ("node #al = alloc $m", "node #fr = free $m", {"end/fr", "fill", "look"}),
    ],
)
def test_child_graphs_allocate_use_and_free(old: str, new: str, found: set[str]) -> None:
    """Within one child graph as well as between several, since their bodies are looked at in place."""
    assert {d.location.name for d in verify(parse_graph(SPREAD.replace(old, new, 1))) if d.code == "F4"} == found


def test_what_a_child_graph_just_allocated_holds_nothing() -> None:
    unwritten = SPREAD.replace("node #fill = fill %h with 0\n  after #begin\n", "").replace(
        "after #fill", "after #begin"
    )
    assert [(d.code, d.location.name) for d in verify(parse_graph(unwritten))] == [("F2", "look")]


def test_what_was_just_allocated_holds_nothing() -> None:
    graph = changed("09-use-before-alloc-after-free", ("node #w = @map(x=%x, y=%h)", "node #w = @map(x=%h, y=%y)"))
    graph = graph.replace("node #early = @map(x=%x, y=%h)\n", "").replace("  after #early full\n", "")
    graph = graph.split("node #late")[0]
    assert "F2" in {found.code for found in verify(parse_graph(graph))}


@pytest.mark.parametrize("role", ["input", "state", "weight"])
def test_what_outlives_a_replay_does_not_lie_where_a_node_allocates(role: str) -> None:
    name = "09-use-before-alloc-after-free"
    graph = changed(name, ("buffer %x : f32[8] input", f"alloc $n : 32\nbuffer %x : f32[8] {role} at $n"))
    graph = graph.replace("node #early", "node #begin = alloc $n\nnode #early").replace("%x, y=%h)\n", "%x, y=%h)\n", 1)
    assert f"is {'an' if role == 'input' else 'a'} {role}" in " ".join(d.message for d in verify(parse_graph(graph)))


def test_a_free_that_races_is_repaired_behind_the_use() -> None:
    lines = text("09-use-before-alloc-after-free")
    use, free = "node #late = @map(x=%h, y=%y)\n  after #fr full\n", "node #fr = free $m\n  after #w full\n"
    assert use in lines
    graph = lines.replace(use, "").replace(free, use.replace("#fr", "#w") + free)
    graph = graph.replace("node #early = @map(x=%x, y=%h)\n", "").replace("  after #early full\n", "")
    found = parse_graph(graph)
    assert verify(found) == []
    (race,) = check(found).races
    sentences = [repair.sentence for repair in repairs(found, race)]
    assert sentences == ["add a full dependency 'late' -> 'fr'"]
    ordered = PassManager("infer-dependencies").run(found).graph
    assert ("late", "fr") in {d.pair for d in ordered.dependencies}


# 10: F2 judges certainty


def test_a_write_more_makes_no_graph_invalid() -> None:
    for name in ("10-f2-called-invalid", "10-f2-without-the-write"):
        assert verify(parse_graph(text(name))) == []


def test_what_certainly_was_not_written_is_invalid() -> None:
    nothing = ("node #a = @row(x=%x, h=%h, n=load(%pos[0]))\n", ""), ("  after #a full\n", "")
    found = verify(parse_graph(changed("10-f2-called-invalid", *nothing)))
    assert [d.code for d in found] == ["F2"]


# 11: names that passes make up


@pytest.mark.parametrize("pipeline", ["plan-memory", "fast"])
@pytest.mark.parametrize("names", [("arena",), ("arena", "arena2")])
def test_an_arena_of_the_users_stays(pipeline: str, names: tuple[str, ...]) -> None:
    others = names[1:]
    extra = "".join(f"alloc ${name} : 16\nbuffer %{name} : f32[4] output at ${name}\n" for name in others)
    fills = "".join(f"node #{name} = fill %{name} with 0\n" for name in others)
    replacements = ("buffer %low", f"{extra}buffer %low"), ("node #clear_low", f"{fills}node #clear_low")
    result = PassManager(pipeline).run(parse_graph(changed("11-arena-replanned", *replacements)))
    assert set(others) <= set(result.graph.allocations)
    assert verify(result.graph) == []


def graph_of(name: str) -> Graph:
    return parse_graph(text(name))


def test_every_file_here_is_read() -> None:
    for path in HERE.glob("*.fir"):
        assert len(graph_of(path.stem)) > 0
