"""Which temporaries are state in the body of a node: those that somebody outside the body, or another round, sees."""

from __future__ import annotations

from forerun.ir.semantics.nested import inner_graph
from forerun.ir.text import parse_graph
from forerun.ir.types import BufferRole

CHOICE = parse_graph("""\
forerun 1
graph g
buffer %go : i32[1] state in 0..1
buffer %x : f32[4] state
buffer %own : f32[4] temp
buffer %handed : f32[4] temp
node #choice = if %go {
  graph then
  node #keep = fill %own with 1
  node #copy = copy %own -> %handed
    after #keep full
} else {
  graph else
  node #use = copy %handed -> %x
}
""")


def test_what_one_branch_leaves_for_the_other_is_state() -> None:
    buffers = inner_graph(CHOICE, "choice", 0).buffers
    assert (buffers["handed"].role, buffers["own"].role) == (BufferRole.STATE, BufferRole.TEMP)


def test_the_first_body_is_meant_if_none_is_named() -> None:
    assert inner_graph(CHOICE, "choice") is inner_graph(CHOICE, "choice", 0)


def test_what_a_body_reads_before_it_writes_it_is_of_the_round_before() -> None:
    graph = parse_graph("""\
forerun 1
graph g
buffer %go : i32[1] state in 0..1
buffer %x : f32[4] state
buffer %old : f32[4] temp
buffer %new : f32[4] temp
node #loop = while %go {
  graph body
  node #fill = fill %new with 1
  node #read = copy %old -> %x
  node #next = copy %new -> %old
    after #fill full
    after #read full
}
""")
    roles = {buffer.name: buffer.role for buffer in inner_graph(graph, "loop").buffers.values()}
    assert (roles["old"], roles["new"]) == (BufferRole.STATE, BufferRole.TEMP)
