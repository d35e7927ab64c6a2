"""Which writes the reads of temporaries see, byte by byte, and what is said not to be known."""

from __future__ import annotations

from forerun.ir.semantics.reaching_writes import BODY, MANAGED, UNKNOWN, reaching_writes
from forerun.ir.text import parse_graph

HEAD = """\
forerun 1
graph reaching_writes
alloc $m : 32
alloc $k : 32
buffer %x : f32[4] input
buffer %a : f32[8] temp at $m
buffer %b : f32[4] temp at $m + 16
buffer %p : i32[1] input in 0..1
buffer %s : f32[4] state at $k + 16
buffer %t : f32[4] temp at $k
buffer %y : f32[8] output
kernel @library(x: f32[D]) opaque
kernel @row(i: scalar i32, x: f32[N], y: f32[M]) {
  role main {
    phase run reads x[i:i + 1] writes y
  }
}
"""


def seen(nodes: str) -> list[tuple[str, object]]:
    """For each read of a temporary its node, and its parts."""
    return [(read.access.node, read.parts) for read in reaching_writes(parse_graph(HEAD + nodes)).reads]


def test_parts_come_from_the_last_write_of_each_byte() -> None:
    found = seen("node #w = fill %a with 0\nnode #v = fill %b[0:2] with 1\nnode #r = copy %a -> %y\n")
    assert found == [("r", ((0, 16, ((0, "a", 0),)), (16, 24, ((1, "b", -16),)), (24, 32, ((0, "a", 0),))))]


def test_neighbours_that_see_the_same_are_one_part() -> None:
    found = seen("node #v = fill %b[0:2] with 1\nnode #w = fill %a with 0\nnode #r = copy %a -> %y\n")
    assert found == [("r", ((0, 32, ((1, "a", 0),)),))]


def test_what_was_never_written_is_exposed() -> None:
    graph = parse_graph(HEAD + "node #w = fill %a[0:4] with 0\nnode #r = copy %a -> %y\n")
    assert reaching_writes(graph).exposed == {"a"}
    assert reaching_writes(graph).reads[0].parts[1] == (16, 32, (None,))


def test_a_node_sees_its_own_writes_and_what_was_there() -> None:
    graph = parse_graph(HEAD + "node #w = fill %a with 0\nnode #r = copy %a[4:8] -> %b\n")
    (read,) = reaching_writes(graph).reads
    assert read.parts == ((16, 32, ((0, "a", 0),)),)
    assert read.own == ((1, "b", -16),)


def unknown(nodes: str) -> dict[str, str]:
    return dict(reaching_writes(parse_graph(HEAD + nodes)).unknown)


def test_what_is_not_known_is_said_of_the_allocation() -> None:
    assert unknown("node #w = fill %a with 0\n") == {}
    assert unknown("node #f = fill %s with 0\n") == {}
    assert unknown("node #l = @library(x=%b)\n") == {"m": UNKNOWN}
    assert unknown("node #l = @library(x=%s)\n") == {"k": UNKNOWN}
    assert unknown("node #m = alloc $m\n") == {"m": MANAGED}
    assert unknown("node #c = child {\n  graph body\n  node #w = fill %a with 0\n}\n") == {"m": BODY}
    assert unknown("node #r = @row(i=load(%p[0]), x=%a, y=%y)\n") == {"m": UNKNOWN}


def test_users_are_positions_in_launch_order() -> None:
    graph = parse_graph(HEAD + "node #w = fill %a with 0\nnode #e = empty\nnode #r = copy %a[4:8] -> %b\n")
    uses = reaching_writes(graph).uses
    assert (uses["a"].users, uses["b"].users, uses["t"].users) == ([0, 2], [2], [])


def test_a_node_that_reads_a_temporary_twice_uses_it_once() -> None:
    kernel = "kernel @sum(x: f32[N], y: f32[M]) {\n  role main {\n    phase run reads x[0:2], x[6:8] writes y\n  }\n}\n"
    graph = parse_graph(HEAD + kernel + "node #w = fill %a with 0\nnode #r = @sum(x=%a, y=%y)\n")
    assert reaching_writes(graph).uses["a"].users == [0, 1]
