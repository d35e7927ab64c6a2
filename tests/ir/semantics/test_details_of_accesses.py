"""Accesses, orders and races: what mutation testing asked for (docs/evidence.md)."""

from __future__ import annotations

import re

import pytest

from forerun.ir.buffer import Buffer
from forerun.ir.explain.witness import prerequisites
from forerun.ir.graph import Graph
from forerun.ir.region import WHOLE, region
from forerun.ir.semantics import (
    ByteSet,
    accesses,
    always_waits,
    bytes_of,
    check,
    conflicts,
    event_order,
)
from forerun.ir.text import parse_graph
from forerun.ir.types import BufferRole, DType
from forerun.support.diagnostics import Unsupported
from forerun.testing.explorer import explore


def parsed(text: str) -> Graph:
    return parse_graph(f"forerun 1\ngraph g\n{text}")


def test_nodes_of_one_kernel_have_dimensions_of_their_own() -> None:
    graph = parsed("""
buffer %a : f32[4] state
buffer %b : f32[8] state
kernel @last(x: f32[N]) {
  role main {
    phase read reads x[N - 1:N]
  }
}
node #first = @last(x=%a)
node #second = @last(x=%b)
""")
    assert [str(a.bytes) for found in accesses(graph).values() for a in found] == ["[12, 16)", "[28, 32)"]


RELEASE = """
buffer %x : f32[4] state
buffer %y : f32[4] state
kernel @store(x: f32[N]) {
  role main {
    phase store writes x
    barrier
    trigger fence
  }
}
kernel @idle(y: f32[N]) {
  role main {
    trigger fence
    phase read reads y
  }
}
kernel @load(x: f32[N]) {
  role main {
    wait
    phase load reads x
  }
}
node #store = @store(x=%x)
node #idle = @idle(y=%y)
  after #store programmatic
node #load = @load(x=%x)
  after #idle programmatic
node #end = empty
  after #store
  after #load
"""


def test_what_a_fenced_trigger_releases_passes_through_a_kernel_that_never_waits() -> None:
    """T of #store is before S of #idle, so before C of #idle, so before W of #load (H8); C of #store is not."""
    graph = parsed(RELEASE)
    assert [race.earlier.node for race in check(graph).races] == ["store"]
    assert check(graph, assumptions={"H8"}).proved


def test_bodies_keep_constant_bytes() -> None:
    graph = parsed("""
buffer %go : i32[1] state in 0..1
buffer %x : f32[8] state
node #choice = if %go {
  graph then
  node #half = fill %x[0:4] with 1
}
node #other = fill %x[4:8] with 1
""")
    assert [str(a.bytes) for a in accesses(graph)["choice"]] == ["[0, 4)", "[0, 16)"]
    assert check(graph).proved


def test_bodies_touch_rows_at_any_position_that_their_scalars_may_take() -> None:
    graph = parsed("""
buffer %pos : i32[1] state in 0..7
buffer %x : f32[8] state
kernel @past(x: f32[N], p: scalar i32) {
  role main {
    phase read reads x[0:p]
  }
}
node #loop = while %pos {
  graph body
  node #past = @past(x=%x, p=load(%pos[0]))
}
""")
    (found,) = [a for a in accesses(graph)["loop"] if a.buffer == "x"]
    assert (str(found.bytes), found.bytes.exact, found.certain) == ("[0, 32)", False, False)


BOX = """
buffer %x : f32[4] state
buffer %y : f32[4] state
kernel @box(x: f32) opaque
kernel @load(x: f32[N]) {
  role main {
    phase load reads x
  }
}
node #box = @box(x=%x)
node #load = @load(x=%x)
  after #box programmatic
"""


@pytest.mark.parametrize("assumptions", [{"H8"}, {"H6", "H8"}])
def test_a_black_box_releases_nothing(assumptions: set[str]) -> None:
    """Even where its start and end are known to be before: its stores may come after any trigger that it has."""
    assert [race.earlier.node for race in check(parsed(BOX), assumptions).races] == ["box"]


def test_a_black_box_in_between_hides_no_race() -> None:
    """It may write what the fill wrote; if it does not, the load still meets the fill."""
    graph = parsed(
        BOX.replace("  after #box programmatic\n", "").replace("node #box", "node #fill = fill %x with 1\nnode #box")
    )
    assert check(graph).status == "refuted"
    assert [(race.earlier.node, race.later.node) for race in check(graph).races if race.certain] == [("fill", "load")]


def test_constants_of_any_type_may_stand_before_buffers() -> None:
    graph = parsed("""
buffer %pos : i32[1] state in 0..3
buffer %x : f32[4] state
kernel @row(a: scalar f32, p: scalar i32, x: f32[N]) {
  role main {
    phase store writes x[p:p + 1]
  }
}
kernel @last(a: scalar f32, x: f32[N]) {
  role main {
    phase store writes x[N - 1:N]
  }
}
node #row = @row(a=0.5, p=load(%pos[0]), x=%x)
node #last = @last(a=0.5, x=%x)
  after #row full
""")
    assert [str(a.bytes) for a in accesses(graph)["last"]] == ["[12, 16)"]
    assert check(graph).proved


STEP = """
buffer %pos : i32[1] state in 0..3
buffer %x : f32[8] state
kernel @append(p: scalar i32, x: f32[N]) {
  role main {
    phase store writes x[p:p + 1]
  }
}
kernel @advance(x: i32[N]) {
  role main {
    phase count reads x writes x
  }
}
node #row = @append(p=load(%pos[0]), x=%x)
node #advance = @advance(x=%pos)
  after #row full
node #next = @append(p=load(%pos[0] + 1), x=%x)
  after #advance full
"""


def test_a_kernel_that_writes_the_position_makes_its_rows_incomparable() -> None:
    """#advance has no other argument; the row of #next may be that of #row."""
    pairs = {(c.earlier.node, c.later.node) for c in conflicts(parsed(STEP))}
    assert ("row", "next") in pairs


def test_columns_of_a_matrix_do_not_overlap() -> None:
    matrix = Buffer("m", DType.F32, (4, 4), BufferRole.STATE, "m")
    first, second, both = (bytes_of(matrix, region(None, bounds)) for bounds in ((0, 1), (1, 2), (0, 2)))
    assert first.overlaps(second) is False
    assert second.overlaps(first) is False
    assert both.overlaps(first) is both.overlaps(second) is True
    assert (first.start, first.stop, second.start, second.stop) == (0, 52, 4, 56)
    last = bytes_of(matrix, region(None, (3, 4)))
    assert bytes_of(matrix, WHOLE).covers(last)
    assert not bytes_of(matrix, region((0, 3))).covers(last)


def test_a_part_of_one_row_is_one_run() -> None:
    matrix = Buffer("m", DType.F32, (4, 4), BufferRole.STATE, "m")
    part = bytes_of(matrix, region((2, 3), (1, 3)))
    assert part == ByteSet(36, 44)
    assert part.covers(bytes_of(matrix, region((2, 3), (2, 3))))


ARENA = """
alloc $arena : 16
buffer %x : f32[4] temp at $arena + 0
node #begin = alloc $arena
node #fill = fill %x with 1
  after #begin full
node #end = free $arena
  after #fill full
"""


def test_memory_is_used_between_its_allocation_and_its_release() -> None:
    assert check(parsed(ARENA)).proved
    for edge, ends in (("  after #begin full\n", ("begin", "fill")), ("  after #fill full\n", ("fill", "end"))):
        races = check(parsed(ARENA.replace(edge, ""))).races
        assert ends in [(race.earlier.node, race.later.node) for race in races]


def test_what_writes_all_of_an_allocation_stands_between_its_ends() -> None:
    races = check(parsed(re.sub("  after .*\n", "", ARENA))).races
    assert [(race.earlier.node, race.later.node) for race in races] == [("begin", "fill"), ("fill", "end")]


def test_names_that_are_not_declared_yield_no_access() -> None:
    graph = parsed("""
buffer %x : f32[4] state
kernel @row(p: scalar i32, x: f32[N], y: f32[N]) {
  role main {
    phase load reads x, y[p:p + 1] defines v
  }
}
node #row = @row(p=load(%lost[0]), x=%x, y=%gone)
node #fill = fill %gone with 1
node #copy = copy %x -> %gone
node #begin = alloc $gone
""")
    found = {name: [(a.verb, a.buffer) for a in found] for name, found in accesses(graph).items()}
    assert found == {"row": [("reads", "x")], "fill": [], "copy": [("reads", "x")], "begin": []}


def test_only_kernels_wait() -> None:
    graph = parsed(RELEASE)
    assert [always_waits(graph, node) for node in graph] == [False, False, True, False]


def test_the_explorer_gives_up_beyond_its_limit() -> None:
    graph = parsed(RELEASE)
    states = explore(graph).states
    assert explore(graph, limit=states) == explore(graph)
    with pytest.raises(Unsupported, match=f"more than {states - 1} states"):
        explore(graph, limit=states - 1)


VIEWS = """
alloc $arena : 32
buffer %pos : i32[1] state in 0..3
buffer %low : f32[4] state at $arena + 0
buffer %high : f32[4] state at $arena + 16
buffer %all : f32[8] state at $arena + 0
kernel @row(p: scalar i32, x: f32[N]) {
  role main {
    phase store writes x[p:p + 1]
  }
}
node #row = @row(p=load(%pos[0]), x=%low)
node #other = fill %high with 1
"""


@pytest.mark.parametrize(
    ("other", "status"),
    [
        ("fill %high with 1", "unsupported"),
        ("fill %all[3:5] with 1", "refuted"),
        ("fill %all[4:6] with 1", "unsupported"),
        ("@row(p=0, x=%high)", "unsupported"),
        ("@row(p=load(%pos[0]), x=%all)", "refuted"),
    ],
)
def test_only_what_stays_in_its_view_is_evidence(other: str, status: str) -> None:
    """The row is compared as if it could be anywhere, but a graph is not called wrong for that."""
    assert check(parsed(VIEWS.replace("fill %high with 1", other))).status == status
    assert check(parsed(VIEWS.replace("fill %high with 1", f"{other}\n  after #row full"))).proved


def test_a_race_is_certain_or_not() -> None:
    (race,) = check(parsed(BOX)).races
    assert race.certain is False
    (race,) = check(parsed(RELEASE)).races
    assert race.certain is True


def test_a_node_that_is_no_kernel_waits_for_nothing() -> None:
    graph = parsed("buffer %x : f32[4] state\nnode #fill = fill %x with 1\n")
    order = event_order(graph)
    assert not order.always_waits("fill")
    assert set(prerequisites(graph, order, ("C", "fill"))) == {("S", "fill")}
