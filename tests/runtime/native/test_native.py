"""Kernels of the host as machine code compute what their NumPy functions do; without a compiler nothing does."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import KernelNode
from forerun.ir.types import DType
from forerun.kernels import expert_gemv, expert_sum, gemv, router, silu_mul
from forerun.runtime.dtypes import numpy_dtype
from forerun.runtime.native import build, kernels, native_call
from forerun.runtime.reference import ReferenceTarget
from forerun.support.diagnostics import InternalError

needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "gemv": {"w": (37, 65), "x": (65,), "y": (37,)},
    "expert_gemv": {"w": (5, 7, 33), "x": (2, 33), "chosen": (3,), "y": (3, 7)},
    "expert_sum": {"x": (4, 19), "share": (4,), "y": (19,)},
    "silu_mul": {"gate": (41,), "up": (41,), "y": (41,)},
}
CASES = [
    *(gemv.declare(dtype) for dtype in (DType.F32, DType.BF16, DType.F16)),
    *(expert_gemv.declare(dtype) for dtype in (DType.F32, DType.BF16)),
    expert_sum.KERNEL,
    silu_mul.KERNEL,
]


def alone(kernel: Kernel, shapes: dict[str, tuple[int, ...]]) -> tuple[Graph, KernelNode]:
    builder = GraphBuilder("alone")
    for parameter in kernel.buffer_parameters:
        make = builder.output if parameter.name == "y" else builder.input
        make(parameter.name, parameter.dtype, shapes[parameter.name])
    builder.launch(kernel, node="only", **{name: name for name in shapes})
    graph = builder.build()
    node = graph.nodes["only"]
    assert isinstance(node, KernelNode)
    return graph, node


def operands(graph: Graph) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    return {
        b.name: random.normal(size=b.shape).astype(numpy_dtype(b.dtype))
        if b.dtype.is_float
        else random.integers(-1, 9, b.shape, np.int32)
        for b in graph.buffers.values()
    }


@needs_compiler
@pytest.mark.parametrize("kernel", CASES, ids=lambda kernel: kernel.name)
def test_values_are_those_of_numpy(kernel: Kernel) -> None:
    graph, node = alone(kernel, SHAPES[kernel.implementations[0].entry])
    arrays = operands(graph)
    given = {name: array for name, array in arrays.items() if name != "y"}
    expected = ReferenceTarget().load(graph, {}).run(given)["y"]
    call = native_call(graph, node, {name: array.ctypes.data for name, array in arrays.items()})
    assert call is not None
    call()
    np.testing.assert_allclose(arrays["y"], expected, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_many_threads_may_call_at_once() -> None:
    graph, node = alone(gemv.KERNEL, SHAPES["gemv"])
    found: list[bytes] = []

    def work() -> None:
        arrays = operands(graph)
        call = native_call(graph, node, {name: array.ctypes.data for name, array in arrays.items()})
        assert call is not None
        for _ in range(50):
            call()
        found.append(arrays["y"].tobytes())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_what_has_no_code_for_the_host_is_left_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.source_of(router.KERNEL) is None
    graph, node = alone(gemv.KERNEL, SHAPES["gemv"])
    monkeypatch.setattr(kernels, "compiler", lambda: None)
    assert native_call(graph, node, {}) is None


@needs_compiler
def test_code_that_is_wrong_is_an_internal_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    with pytest.raises(InternalError, match="refuses the code of a kernel of the host"):
        build.library("this is no C++")
    assert list((tmp_path / "native").iterdir()) == []


@needs_compiler
def test_a_library_that_others_could_have_written_is_made_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    text = 'extern "C" int answer() { return 42; }'
    assert build.library.__wrapped__(text).answer() == 42
    (file,) = (tmp_path / "native").iterdir()
    begun = file.stat().st_mtime_ns
    file.chmod(0o777)
    assert build.library.__wrapped__(text).answer() == 42
    assert file.stat().st_mtime_ns > begun
