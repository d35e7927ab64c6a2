"""Faults in the order of copies, tiles and barriers of the fused kernels are noticed when they run on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from forerun.runtime.cuda.codegen import sources as codegen_sources
from tests.kernels.fast_cases import few_cases
from tests.kernels.on_cpu.runner import COMPILER
from tests.kernels.test_fast_on_cpu import require_values

pytestmark = pytest.mark.slow

MULTIPLY = """\
    Rows::multiply(
        tile_at(slot), whole ? batch : rows - first, shared_vector(), part_of_row(), lane(), x, values);
    const float sum = sum_of_each(values);
"""
SUM = """\
    const int own = lane() * batch / 32;
    if (lane() % (32 / batch) == 0 && first + own < rows) {
        sums()[((first + own) * groups + group()) * split + part_of_row()] = sum;
    }
"""
REASON = """\
    // Only now: the sums have needed the whole tiles. A copy that begins right after the loads of a tile may overtake
    // them, since they queue behind the loads of the vector.
"""
REFILL = """\
    if (lane() == 0 && first + depth < rows) {
        free_for_copies();
#pragma unroll
        for (int i = 0; i < batch; ++i) {
            if (first + i + depth < rows) begin_tile(a, first + i + depth, slot + i);
        }
    }
"""


@dataclass(frozen=True)
class Fault:
    """A change of one file, and the kernel to run with it."""

    name: str
    file: str
    before: str
    after: str
    kernel: str
    said: str

    def __str__(self) -> str:
        return self.name


FAULTS = (
    Fault(
        "refilled_too_early",
        "row_stream.cuh",
        MULTIPLY + SUM + REASON + REFILL,
        REFILL + MULTIPLY + SUM,
        "projection_add",
        "nan",
    ),
    Fault(
        "not_awaited",
        "row_stream.cuh",
        "        if (whole || first + i < rows) await_arrival(arrival_at(slot + i), parity);\n",
        "",
        "projection_add",
        "reads outside",
    ),
    Fault(
        "a_tile_that_nobody_has_begun_is_awaited",
        "row_stream.cuh",
        "await_arrival(arrival_at(slot - tiles_on_their_way), 0);",
        "await_arrival(arrival_at(slot), 0);",
        "norm_qkv_rope",
        "wait for each other for ever",
    ),
    Fault("one_parity", "row_stream.cuh", "            parity ^= 1;\n", "", "projection_add", "reads outside"),
    Fault(
        "no_barrier_before_the_sums",
        "projection_add.cu",
        "    multiply_rows(a, l.x);\n    __syncthreads();\n",
        "    multiply_rows(a, l.x);\n",
        "projection_add",
        "nan",
    ),
    Fault(
        "no_barrier_before_the_vector",
        "norm_stream.cuh",
        "    __syncthreads();\n",
        "",
        "norm_gate_up",
        "nan",
    ),
    Fault(
        "sent_before_the_neighbours_are_ready",
        "attention_cluster.cu",
        "Dims::KV - 1), l);\n    await_cluster();\n",
        "Dims::KV - 1), l);\n",
        "attention_cluster",
        "reads outside",
    ),
    Fault(
        "not_waited_for_the_neighbours",
        "attention_cluster.cu",
        "        await_arrival(&shared.arrival, turn % 2);\n",
        "",
        "attention_cluster",
        "reads outside",
    ),
    Fault(
        "not_opened_again",
        "attention_cluster.cu",
        "            open_exchange(false);\n",
        "",
        "attention_cluster",
        "wait for each other for ever",
    ),
    Fault(
        "a_tile_is_not_loaded",
        "attention_cluster.cu",
        "if (number + ahead < tiles) load_tile",
        "if (number + ahead + 1 < tiles) load_tile",
        "attention_cluster",
        "Not equal to tolerance",
    ),
)


@pytest.fixture
def _fresh_sources() -> Iterator[None]:
    codegen_sources.included.cache_clear()
    yield
    codegen_sources.included.cache_clear()


@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
@pytest.mark.usefixtures("_fresh_sources")
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_fault_is_noticed(fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = f"forerun.kernels.cuda:{fault.file}"
    text = codegen_sources.read_source(location).decode()
    assert text.count(fault.before) == 1
    changed = text.replace(fault.before, fault.after).encode()
    original = codegen_sources.read_source
    monkeypatch.setattr(codegen_sources, "read_source", lambda name: changed if name == location else original(name))
    found = []
    for number, case in enumerate(case for case in few_cases() if case.name.startswith(fault.kernel)):
        try:
            require_values(case, tmp_path / str(number))
        except AssertionError as error:
            found.append(str(error))
            if fault.said in str(error):
                return
    pytest.fail(f"not noticed; said: {found}")
