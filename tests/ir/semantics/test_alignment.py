"""Alignment is declared by kernels, checked at each node, and kept by what moves buffers."""

from __future__ import annotations

import pytest

from forerun.ir.refinement.certificate import certify
from forerun.ir.semantics.alignment import needed_alignments
from forerun.ir.text import parse_graph
from forerun.ir.verify import require_valid, verify

GRAPH = """
forerun 1
graph g
alloc $a : 320
buffer %x : f32[4] input
buffer %u : f32[4] temp at $a + {offset}
buffer %z : f32[4] output
kernel @copy(x: f32[N]{align}, y: f32[N]{align}) {{
  role r {{
    phase p reads x writes y
  }}
}}
{more}
node #p = @copy(x=%x, y=%u)
node #q = @copy(x=%u, y=%z)
  after #p
"""


def at(offset: int, align: str = "", more: str = "") -> str:
    return GRAPH.format(offset=offset, align=align, more=more)


def verdict_of(before: str, after: str) -> tuple[str, set[str]]:
    graphs = parse_graph(before), parse_graph(after)
    for graph in graphs:
        require_valid(graph)
    verdict = certify(*graphs)
    return verdict.status, {finding.code for finding in verdict.findings}


def test_a_node_that_binds_a_misaligned_buffer_is_invalid() -> None:
    found = verify(parse_graph(at(36, " align 16")))
    assert [(d.code, d.location.name, d.location.detail) for d in found] == [("N15", "p", "%u"), ("N15", "q", "%u")]
    assert found[0].message == "'y' needs a multiple of 16 bytes, but %u begins at byte 36 of $a"
    assert found[0].hint == "put it at + 48, or into an allocation of its own"
    assert verify(parse_graph(at(48, " align 16"))) == []


def test_nodes_in_bodies_are_checked() -> None:
    child = "node #c = child {{ graph b\nnode #in = @copy(x=%x, y=%u) }}"
    text = at(36, " align 16").replace("node #p = @copy(x=%x, y=%u)", child.format()).replace("#p", "#c")
    found = verify(parse_graph(text))
    assert {(d.code, d.location.name) for d in found} == {("G6", "c"), ("N15", "q")}
    assert "'y' needs a multiple of 16 bytes" in next(d.message for d in found if d.code == "G6")


@pytest.mark.parametrize(("old", "new"), [(32, 36), (0, 4), (16, 24), (64, 40), (256, 8), (8, 4)])
def test_a_move_that_lowers_the_alignment_is_not_proved(old: int, new: int) -> None:
    assert verdict_of(at(old), at(new)) == ("unsupported", {"C19"})


@pytest.mark.parametrize(("old", "new"), [(36, 32), (4, 0), (32, 16), (256, 16), (8, 24), (4, 36), (16, 48)])
def test_a_move_that_keeps_what_accesses_may_need_is_proved(old: int, new: int) -> None:
    assert verdict_of(at(old), at(new)) == ("proved", set())


def test_a_kernel_that_says_what_it_needs_may_be_taken_at_its_word() -> None:
    assert verdict_of(at(32, " align 4"), at(36, " align 4")) == ("proved", set())
    assert verdict_of(at(32, " align 8"), at(40, " align 8")) == ("proved", set())


def test_one_parameter_that_says_nothing_is_enough() -> None:
    silent = "kernel @silent(x: f32[N]) { role r { phase p reads x } }\n"
    one = at(32, " align 4", silent) + "node #r = @silent(x=%u)\n  after #q\n"
    assert verdict_of(one, one.replace("+ 32", "+ 36")) == ("unsupported", {"C19"})


def test_a_kernel_that_declares_less_than_before_is_another_kernel() -> None:
    before, after = at(32), at(36, " align 4")
    assert verdict_of(before, after)[0] == "unsupported"
    assert "C7" in verdict_of(before, after)[1]


def test_what_allocations_need() -> None:
    graph = parse_graph(at(64, " align 64"))
    assert needed_alignments(graph) == {"a": 64, "x": 64, "z": 64}
    assert needed_alignments(parse_graph(at(64))) == {"a": 4, "x": 4, "z": 4}
