"""The CUDA C++ of examples/own_family.py, run on the CPU: a schedule by forerun's headers, and sums by it."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from forerun.ir.nodes import Launch
from forerun.schedules.schedule import POISON, capacity_for, make_schedule
from forerun.schedules.status import Status
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")]

MOST, ROWS = 4000, 40
SCHEDULE = ("status", "counts", "pointers", "items", "counters")


def test_sums_by_a_schedule_that_the_device_makes(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "examples"))
    own = importlib.import_module("own_family")
    family = own.RowSums(MOST)
    capacity = capacity_for(family, ROWS, ROWS, 0, 4)
    shapes = own.shapes_of(MOST, capacity)

    def compiled(kernel, launch: Launch, **scalars: int) -> CpuKernel:
        bound = {p.name: shapes[p.name] for p in kernel.buffer_parameters}
        return CpuKernel(tmp_path / kernel.name, kernel, bound, launch, **scalars)

    make = compiled(own.MAKE, Launch((2, 1, 1), (32, 1, 1), 16 * (ROWS + 1)), **own.scalars_of(MOST, capacity))
    add = compiled(own.ADD, Launch((3, 1, 1), (64, 1, 1)))
    arrived = np.zeros(shapes["arrived"], np.int32)

    @settings(max_examples=6)
    @example([0] * 39 + [3900])
    @example([5, -3, *[1] * 38])
    @given(st.lists(st.one_of(st.just(0), st.integers(1, 120)), min_size=ROWS, max_size=ROWS))
    def holds(lengths: list[int]) -> None:
        pointers = np.cumsum([0, *lengths]).astype(np.int32)
        arrays = {name: np.full(shapes[name], POISON, np.int32) for name in SCHEDULE}
        make({"row_pointers": pointers, **arrays})
        wanted = make_schedule(family, pointers, capacity)
        assert all(np.array_equal(arrays[name], getattr(wanted, name)) for name in SCHEDULE)
        event(wanted.finding.status.name)
        values = np.full(MOST, np.nan, np.float32)
        values[: max(0, sum(lengths))] = 1
        y, partial = np.full(ROWS, np.nan, np.float32), np.full(shapes["partial"], np.nan, np.float32)
        work = {name: arrays[name] for name in ("pointers", "items", "counters")}
        add({"values": values, "row_pointers": pointers, **work, "arrived": arrived, "y": y, "partial": partial})
        good = wanted.finding.status is Status.OK
        np.testing.assert_array_equal(y, [length if good and length else np.nan for length in lengths])
        assert not arrived.any()

    holds()
