"""What nodes must move, and the rows of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forerun.frontends.decode import decode_graph
from forerun.frontends.llama import LlamaConfig
from forerun.ir.nodes import KernelNode
from forerun.ir.types import DType
from forerun.measure.node_table import by_kernel, node_rows, total
from forerun.measure.traffic import Traffic, traffic_of, volume
from tests.measure.steps import chain, made_up

bounds = st.tuples(st.integers(0, 6), st.integers(0, 6))


@given(st.lists(st.tuples(bounds, bounds, bounds), max_size=5))
def test_volume_counts_every_element_once(boxes: list[tuple[tuple[int, int], ...]]) -> None:
    space = np.zeros((6, 6, 6), bool)
    for box in boxes:
        space[tuple(slice(*ends) for ends in box)] = True
    assert volume(boxes) == space.sum()


def test_volume_of_scalars() -> None:
    assert volume([(), ()]) == 1
    assert volume([]) == 0


@pytest.mark.parametrize("position", [0, 1, 20])
def test_a_decode_step_moves_weights_rows_and_activations(position: int) -> None:
    config = LlamaConfig("tiny", 2, 64, 2, 1, 32, 96, 128, 64)
    graph = decode_graph(config, context=32, dtype=DType.BF16)
    asked: list[str] = []

    def read(buffer: str) -> Any:
        asked.append(buffer)
        return np.array([position if buffer == "position" else 5], np.int32)

    found = {n.name: traffic_of(graph, n, read) for n in graph if isinstance(n, KernelNode)}
    kernels = {n.name: n.kernel for n in graph if isinstance(n, KernelNode)}
    row = 32 * 4  # one KV head of 32, in f32
    for name, kernel in kernels.items():
        if kernel.startswith("attention"):
            assert found[name].state == 2 * (position + 1) * row
        elif kernel.startswith("rope_append"):
            assert found[name].state == 2 * row
        elif kernel.startswith("embedding"):
            assert found[name] == Traffic(64 * 2, 0, 64 * 4)
        else:
            assert found[name].state == 0
    head = next(t for name, t in found.items() if t.weights == 128 * 64 * 2)
    assert head.activations == 4 * (64 + 128)
    matrices = sum(t.weights for name, t in found.items() if kernels[name].startswith("gemv"))
    assert matrices == 2 * (128 * 64 + 2 * (64 * 64 * 2 + 2 * 32 * 64 + 3 * 64 * 96))
    assert set(asked) == {"position", "token"}


def test_rows_add_up() -> None:
    rows = node_rows(chain(), made_up(), lambda buffer: np.zeros(1, np.int32))
    a, b, c = rows
    assert (a.traffic, b.traffic, c.traffic) == (Traffic(0, 0, 64), Traffic(32, 0, 64), Traffic(0, 0, 96))
    assert [(row.share, row.work, row.gap, row.overlap) for row in rows] == [
        (1100, 1100, 0, 0),
        (1400, 1350, 50, 200),
        (500, 450, 50, 1000),
    ]
    assert b.bandwidth == pytest.approx(96 / 1400e-9)
    step = total("step", rows)
    assert (step.share, step.nodes, step.traffic.total) == (made_up().nanoseconds, 3, 256)
    groups = by_kernel([*rows, *rows])
    assert [(row.label, row.nodes) for row in groups] == [("add_f32", 2), ("copy_f32", 2), ("accumulate_f32", 2)]
    assert total("step", groups).share == 2 * step.share
    told = b.to_json(1e9)
    assert (told["bytes"], told["weight_bytes"], told["share_us"], told["gap_us"]) == (96, 32, 1.4, 0.05)
    assert told["of_ceiling"] == pytest.approx(96 / 1400)
