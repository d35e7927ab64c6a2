"""Constants of a graph on the CUDA target: where they lie, and that no replay copies them once they are folded."""

from __future__ import annotations

import numpy as np
import pytest

import forerun
from forerun.ir.graph import Graph
from forerun.ir.nodes import MemcpyNode, ScalarLoad
from forerun.ir.types import DEVICE0, BufferRole
from forerun.kernels.builtin import KERNELS
from forerun.support.diagnostics import InvalidInput
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.support import X, load

N = len(X)


def uploading() -> Graph:
    """A row of a matrix that a constant chooses gets three times itself and another constant; a third is added."""
    builder = forerun.GraphBuilder("uploading")
    x, y = builder.input("x", "i32", N), builder.output("y", "i32", N)
    m, sums = builder.state("m", "i32", (4, N)), builder.temp("sums", "i32", N)
    builder.constant("array", "i32", list(range(10, 10 + N)))
    builder.constant("row", "i32", [2])
    resident = builder.constant("resident", "i32", [100] * N, place=DEVICE0)
    builder.temp("p", "i32", N)
    builder.buffer("r", "i32", 1, BufferRole.TEMP, bounds=(0, 3))
    builder.copy("array", "p")
    builder.copy("row", "r")
    builder.launch(KERNELS["scale_row_i32"], x="p", m=m, row=ScalarLoad("r"))
    builder.launch(KERNELS["add_i32"], a=x, b=resident, y=sums)
    builder.launch(KERNELS["copy_i32"], x=sums, y=y)
    return builder.build()


@pytest.mark.parametrize("pipeline", ["", "fold-params", "exact", "fast"])
def test_values_on_the_device(api: FakeCuda, pipeline: str) -> None:
    target = forerun.CudaTarget(prove=False, arch="sm_90")
    with forerun.compile(uploading(), target, pipeline, tuning=None) as program:
        assert sum(isinstance(node, MemcpyNode) for node in program.graph) == (0 if pipeline else 2)
        for replay in (1, 2):
            np.testing.assert_array_equal(program(x=X)["y"], X + 100)
            factor = 1 if replay == 1 else 4
            np.testing.assert_array_equal(program.read("m")[2], factor * (10 + np.arange(N)))
        for name, first in (("array", 10), ("resident", 100), ("row", 2)):
            assert program.read(name)[0] == first


def test_a_value_for_a_constant_is_refused_before_anything_is_made(api: FakeCuda) -> None:
    with pytest.raises(InvalidInput, match="weight '%row' is given, but the graph says what it holds"):
        load(uploading(), {"row": np.array([1], np.int32)})
    assert not [name for name in api.log if name.startswith("cuMem")]
