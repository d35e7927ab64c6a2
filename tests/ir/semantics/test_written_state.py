"""Which bytes of state a replay may write: none is forgotten, and rows are rows where that is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from forerun.frontends.decode import decode_graph
from forerun.frontends.llama import LlamaConfig
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import MemsetNode, ScalarLoad
from forerun.ir.region import BufferView, region
from forerun.ir.semantics.written_state import LoadedElement, WrittenRange, written_state
from forerun.ir.types import BufferRole, DType
from forerun.kernels.builtin import KERNELS
from forerun.runtime.reference import ReferenceTarget
from forerun.testing import graphs
from forerun.testing.random_values import inputs_of, weights_of
from tests.runtime.failing_programs import failing_programs

I32 = DType.I32


@given(graphs() | failing_programs(), st.integers(0, 3))
def test_what_a_replay_changes_is_in_it(graph: Graph, seed: int) -> None:
    found = written_state(graph)
    program = ReferenceTarget().load(graph, weights_of(graph))
    state = [b.name for b in graph.buffers.values() if b.role is BufferRole.STATE]
    for name in state:
        buffer = graph.buffers[name]
        program.write(name, np.arange(buffer.size // buffer.dtype.itemsize).reshape(buffer.shape) % 3)
    memory, _ = program._open()
    before = {name: memory.bytes_of(graph.buffers[name].allocation).copy() for name in state}
    inputs = inputs_of(graph, seed)
    loaded = {r: _moved(program, inputs, r) for r in found}
    program.run(inputs)
    for name in state:
        buffer = graph.buffers[name]
        changed = np.flatnonzero(before[name] != memory.bytes_of(buffer.allocation))
        for byte in changed[(changed >= buffer.offset) & (changed < buffer.stop)]:
            assert any(_holds(r, buffer.allocation, int(byte), loaded[r]) for r in found), (name, byte)


def _moved(program: Any, inputs: Mapping[str, Any], found: WrittenRange) -> int:
    element = found.element
    if element is None:
        return 0
    values = inputs[element.buffer] if element.buffer in inputs else program.read(element.buffer)
    return element.stride * int(np.asarray(values).reshape(-1)[element.index])


def _holds(found: WrittenRange, allocation: str, byte: int, moved: int) -> bool:
    start = found.start + moved
    return found.allocation == allocation and start <= byte < start + found.size


def rows(position: str, *, moved: bool = False) -> Graph:
    builder = GraphBuilder("rows")
    x, m = builder.input("x", I32, (4,)), builder.state("m", I32, (6, 4))
    builder.input("row", I32, (2,), bounds=(0, 4))
    builder.state("at", I32, (1,))
    if moved:
        builder.fill("at", 3)
    builder.launch(KERNELS["scale_row_i32"], x=x, m=m, row=ScalarLoad(position, 1 if position == "row" else 0, 1))
    return builder.build()


def test_a_row_that_is_loaded() -> None:
    whole = 0, 96
    (row,) = written_state(rows("row"))
    assert row == WrittenRange(row.allocation, 16, 16, LoadedElement("row", 1, 16), whole)
    (row,) = written_state(rows("at"))
    assert row == WrittenRange(row.allocation, 16, 16, LoadedElement("at", 0, 16), whole)


def test_a_row_whose_number_was_written_before_may_be_any() -> None:
    assert {(r.start, r.size, r.element) for r in written_state(rows("at", moved=True))} == {
        (0, 96, None),
        (0, 4, None),
    }


def test_columns_are_runs_and_equal_bytes_count_once() -> None:
    builder = GraphBuilder("columns")
    m = builder.state("m", I32, (3, 4))
    builder.add(MemsetNode("columns", BufferView(m, region(None, (1, 3))), 1))
    builder.add(MemsetNode("again", BufferView(m, region((1, 2), (2, 4))), 1))
    assert [(r.start, r.size) for r in written_state(builder.build())] == [(4, 8), (20, 12), (36, 8)]


def test_nothing_is_written() -> None:
    builder = GraphBuilder("nothing")
    x, y = builder.input("x", I32, (4,)), builder.output("y", I32, (4,))
    builder.copy(builder.state("s", I32, (4,)), y)
    builder.launch(KERNELS["add_i32"], a=x, b="s", y=y)
    assert written_state(builder.build()) == written_state(Graph("empty")) == ()


def test_a_decode_step_writes_a_row_of_each_cache() -> None:
    for steps in (1, 3):
        graph = decode_graph(LlamaConfig("tiny", 2, 16, 2, 1, 8, 24, 40, 32), steps=steps)
        found = written_state(graph)
        assert {r.element for r in found} == {LoadedElement("position", 0, 32)}
        assert sum(r.size for r in found) == steps * 2 * 2 * 32
