"""The CUDA C++ of the kernels, run on a GPU, against the NumPy functions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

import forerun
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import BufferParameter
from forerun.ir.nodes import ScalarLoad
from forerun.ir.types import DType
from tests.kernels.cuda_cases import Case, all_cases, small_cases


def graph_of(case: Case) -> Graph:
    """A graph that launches the kernel alone. What it writes is copied in before, and out afterwards."""
    builder = GraphBuilder("alone")
    arguments: dict[str, str | int | float | ScalarLoad] = {}
    outputs: list[str] = []
    for parameter in case.kernel.parameters:
        name = parameter.name
        if name in case.loaded[0]:
            arguments[name] = ScalarLoad(builder.input(f"{name}.value", DType.I32, (1,)))
        elif not isinstance(parameter, BufferParameter):
            arguments[name] = case.constants[name]
        elif name in case.written:
            before = builder.input(f"{name}.before", parameter.dtype, case.shapes[name])
            arguments[name] = builder.state(name, parameter.dtype, case.shapes[name])
            builder.copy(before, name)
            outputs.append(name)
        else:
            arguments[name] = builder.input(name, parameter.dtype, case.shapes[name])
    builder.launch(case.kernel, node="kernel", launch=case.launch, **arguments)
    for name in outputs:
        after = builder.output(f"{name}.after", _dtype_of(case, name), case.shapes[name])
        builder.copy(name, after)
    return builder.build()


def _dtype_of(case: Case, name: str) -> DType:
    parameter = case.kernel.parameter(name)
    assert parameter is not None
    return parameter.dtype


def inputs_of(case: Case, operands: Mapping[str, np.ndarray], loaded: Mapping[str, int]) -> dict[str, np.ndarray]:
    arrays = {f"{name}.before" if name in case.written else name: array for name, array in operands.items()}
    return arrays | {f"{name}.value": np.array([value], np.int32) for name, value in loaded.items()}


def require_values(case: Case, target: str) -> None:
    with forerun.compile(graph_of(case), target=target, pipeline=None) as executable:
        for seed, loaded in enumerate(case.loaded):
            operands = case.operands(seed)
            outputs = executable.run(inputs_of(case, operands, loaded))
            found = {name: outputs[f"{name}.after"] for name in case.written}
            case.compare(found, case.expected(operands, loaded))


@pytest.mark.parametrize("case", list(small_cases()), ids=str)
def test_the_graphs_compute_this_on_the_reference_target(case: Case) -> None:
    require_values(case, "reference")


@pytest.mark.gpu
@pytest.mark.parametrize("case", list(all_cases()), ids=str)
def test_values_are_those_of_numpy(case: Case) -> None:
    require_values(case, "cuda")
