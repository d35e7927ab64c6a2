"""Graphs of varying shapes are folded, loaded and closed in bounded memory: nothing outlives its owner."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

import forerun
from forerun.ir.graph import Graph
from forerun.ir.nodes import MemcpyNode, ScalarLoad
from forerun.ir.types import BufferRole
from forerun.kernels.builtin import KERNELS

FOLDINGS = 900
"""``python -m benchmarks.fold_params --foldings`` makes ten thousand."""

BOUND = 60_000
"""Bytes. What the foldings after the first third may add: 100 bytes each, where a folded graph has 50,000."""


def uploading(number: int) -> Graph:
    """A few launches on vectors of some length, each after copies of constants that no other graph has."""
    length, launch = 1 + number % 61, forerun.Launch((1 + number, 1, 1))
    builder = forerun.GraphBuilder("step")
    x, m = builder.input("x", "i32", length), builder.state("m", "i32", (4, length))
    for turn in range(3):
        array = builder.constant(f"k{turn}", "i32", [number + i for i in range(length)])
        row = builder.constant(f"r{turn}", "i32", [(number + turn) % 4])
        builder.temp(f"p{turn}", "i32", length)
        builder.buffer(f"n{turn}", "i32", 1, BufferRole.TEMP, bounds=(0, 3))
        builder.copy(array, f"p{turn}")
        builder.copy(row, f"n{turn}")
        builder.launch(KERNELS["scale_row_i32"], x=f"p{turn}", m=m, row=ScalarLoad(f"n{turn}"), launch=launch)
    builder.launch(KERNELS["copy_i32"], x=x, y=builder.output("y", "i32", length))
    return builder.build()


def fold(number: int) -> None:
    graph = uploading(number)
    with forerun.compile(graph, pipeline="fold-params", instruments=()) as program:
        assert not any(isinstance(node, MemcpyNode) for node in program.graph)
        if number % 500 == 0:
            length = 1 + number % 61
            program(x=np.zeros(length, np.int32))
            expected = np.zeros((4, length), np.int64)
            for turn in range(3):
                expected[(number + turn) % 4] += number + np.arange(length)
            np.testing.assert_array_equal(program.read("m"), expected)


@pytest.mark.slow
def test_foldings_leave_nothing_behind() -> None:
    settled = FOLDINGS // 3
    tracemalloc.start()
    try:
        for number in range(settled):
            fold(number)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(settled, FOLDINGS):
            fold(number)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < BOUND, f"{after - before} bytes more after {FOLDINGS - settled} foldings"
