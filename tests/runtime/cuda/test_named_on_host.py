"""Named launch parameters of programs with work for the host: all nodes get the value, however these are launched."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import pytest

import forerun
from forerun.ir.graph import Graph
from forerun.kernels import rmsnorm
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda import CudaTarget
from forerun.runtime.cuda.driver.errors import CudaError
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.fake_graphs import BAD

Way = Literal["graph", "signals", "plans", "synchronous", "measured"]

X = np.arange(1, 9, dtype=np.float32)
WEIGHTS = {"w": np.ones(8, np.float32), "hw": np.ones(8, np.float32)}


def norms(passes: str = 'place{host="#n1"},splits') -> Graph:
    """Three norms with one eps, one after the other; the second one is on the host."""
    builder = forerun.GraphBuilder("norms")
    x, eps = builder.input("x", "f32", 8), builder.parameter("eps", 1.0)
    weights = {name: builder.weight(name, "f32", 8) for name in WEIGHTS}
    for number, w in enumerate((weights["w"], weights["hw"], weights["w"])):
        y = builder.output("y", "f32", 8) if number == 2 else builder.temp(f"y{number}", "f32", 8)
        builder.launch(rmsnorm, node=f"n{number}", x=x, w=w, y=y, eps=eps)
        x = y
    return PassManager(passes).run(builder.build()).graph


def expected(*eps: float) -> np.ndarray:
    """What the three norms make, with an eps each."""
    x = X
    for number in eps:
        x = x / np.sqrt(np.mean(x * x) + np.float32(number))
    return x


@pytest.mark.parametrize("splits", get_args(Way))
def test_all_nodes_get_the_value_in_all_ways(splits: Way, api: FakeCuda) -> None:
    program = CudaTarget(splits=splits).load(norms(), WEIGHTS)
    for eps in (1.0, 0.25, 3.0):
        program.assign({"eps": eps})
        for _ in range(30 if splits == "measured" else 2):
            np.testing.assert_allclose(program.run({"x": X})["y"], expected(eps, eps, eps), rtol=1e-5)
    program.close()


@pytest.mark.parametrize("splits", get_args(Way))
def test_replays_in_flight_have_the_values_that_they_were_launched_with(splits: Way, api: FakeCuda) -> None:
    program = CudaTarget(splits=splits).load(norms(), WEIGHTS)
    program.buffer("x").assign(X)
    program.launch()
    program.assign({"eps": 7.0})
    np.testing.assert_allclose(program.read("y"), expected(1.0, 1.0, 1.0), rtol=1e-5)
    np.testing.assert_allclose(program.run({"x": X})["y"], expected(7.0, 7.0, 7.0), rtol=1e-5)
    program.close()


@pytest.mark.parametrize("splits", get_args(Way))
def test_if_the_driver_refuses_one_node_no_node_has_the_value(
    splits: Way, api: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = CudaTarget(splits=splits).load(norms(), WEIGHTS)
    change, given = api.cuGraphExecNodeSetParams, []

    def refuse_the_second(*arguments: Any) -> Any:
        given.append(arguments)
        return (BAD,) if len(given) == 2 else change(*arguments)

    monkeypatch.setattr(api, "cuGraphExecNodeSetParams", refuse_the_second)
    with pytest.raises(CudaError):
        program.assign({"eps": 7.0})
    for _ in range(30 if splits == "measured" else 2):
        np.testing.assert_allclose(program.run({"x": X})["y"], expected(1.0, 1.0, 1.0), rtol=1e-5)
    program.close()


def test_nodes_that_are_launched_one_by_one_get_the_value(api: FakeCuda) -> None:
    program = CudaTarget().load_streamed(norms("infer-dependencies"), WEIGHTS)
    for eps in (1.0, 0.25):
        program.assign({"eps": eps})
        np.testing.assert_allclose(program.run({"x": X})["y"], expected(eps, eps, eps), rtol=1e-5)
    program.close()
