"""``hoist-loads`` leaves black boxes alone, also behind programmatic dependencies."""

from __future__ import annotations

from forerun.ir.text import parse_graph
from forerun.passes.infra.manager import PassManager


def test_a_black_box_that_reads_and_writes_one_allocation_stays() -> None:
    graph = parse_graph("""
forerun 1
graph g
buffer %x : f32[4] input
buffer %t : f32[4] temp
buffer %y : f32[4] output
kernel @first(a: f32[4], b: f32[4]) {
  role main {
    phase run reads a writes b
  }
}
kernel @library(a: f32[4], b: f32[4]) opaque
node #first = @first(a=%x, b=%t)
node #call = @library(a=%t, b=%y)
  after #first full
node #again = @library(a=%t, b=%y)
  after #call programmatic
""")
    result = PassManager("hoist-loads", []).run(graph)
    assert result.graph == graph
