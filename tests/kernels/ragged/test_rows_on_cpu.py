"""The CUDA C++ of the kernels over rows, run on the CPU, against the NumPy functions; behind the rows is NaN."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels.ragged import (
    argmax_rows,
    batch_rows,
    gather_rows,
    matmul_rows,
    rmsnorm_rows,
    rope_append_rows,
    silu_mul_rows,
)
from tests.kernels.cuda_cases import Case, Make
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")]

BF16, F16 = DType.BF16, DType.F16


def given(*values: int) -> Make:
    return lambda chooser, shape: np.array(values).reshape(shape)


def product(kernel: Kernel, most: int, outputs: int, inputs: int, ctas: int = 3) -> Case:
    shapes = {"rows": (1,), "x": (most, inputs), "w": (outputs, inputs), "y": (most, outputs)}
    shapes |= {"residual": (most, outputs), "bias": (outputs,)}
    shapes = {p.name: shapes[p.name] for p in kernel.buffer_parameters}
    launch = replace(matmul_rows.launch_for(most, outputs, inputs), grid=(ctas, 1, 1), shared_bytes=96 * 1024)
    scale = float(np.sqrt(inputs))
    return Case(f"{kernel.name}-{outputs}x{inputs}", kernel, shapes, launch, scale=scale)


PRODUCTS = {
    "small and large tiles, rings that turn": (product(matmul_rows.declare_add(BF16), 65, 40, 264, ctas=1), (64, 65)),
    "tiny, small and medium tiles": (product(matmul_rows.declare_add(F16), 70, 40, 136), (16, 17, 65)),
    "a ring of tiny tiles that turns": (product(matmul_rows.declare_add(BF16), 4, 24, 1608), (3,)),
    "a ring of small tiles that turns": (product(matmul_rows.declare_add(BF16), 18, 8, 1608, ctas=1), (18,)),
    "odd outputs, short rows": (product(matmul_rows.declare(F16), 20, 37, 72), (0, 17, 20)),
    "wide tiles of few rows": (product(matmul_rows.declare_bias(BF16), 2, 8192, 48), (1,)),
    "less wide tiles of few rows": (product(matmul_rows.declare(BF16), 3, 4096, 48), (3,)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str, tmp_path: Path) -> None:
    """Sums of the same products in another order, and rows whose bits do not depend on how many there are."""
    case, counts = PRODUCTS[name]
    kernel = CpuKernel(tmp_path, case.kernel, case.shapes, case.launch)
    operands = case.operands(0)
    first: np.ndarray | None = None
    for count in counts:
        arrays = {**operands, "rows": np.array([count], np.int32), "y": operands["y"].copy()}
        expected = case.expected(arrays, {})
        arrays["x"] = arrays["x"].copy()
        arrays["x"][count:] = np.nan
        kernel(arrays)
        case.compare({"y": arrays["y"]}, expected)
        if first is not None:
            both = min(len(first), count)
            np.testing.assert_array_equal(arrays["y"][:both], first[:both])
        first = arrays["y"][:count]


OTHERS = {
    "rmsnorm_rows": (rmsnorm_rows.declare(BF16), {"x": (5, 200), "w": (200,), "y": (5, 200)}, (64, 1)),
    "rmsnorm_rows, odd": (rmsnorm_rows.declare(F16), {"x": (4, 37), "w": (37,), "y": (4, 37)}, (32, 4)),
    "silu_mul_rows": (silu_mul_rows.declare(F16), dict.fromkeys(("gate", "up", "y"), (3, 1100)), (64, 6)),
    "silu_mul_rows, odd": (silu_mul_rows.declare(BF16), dict.fromkeys(("gate", "up", "y"), (4, 7)), (32, 2)),
    "argmax_rows": (argmax_rows.KERNEL, {"logits": (4, 300), "token": (4,)}, (64, 3)),
    "gather_rows": (gather_rows.declare(F16), {"index": (5,), "table": (9, 40), "y": (5, 40)}, (32, 5)),
    "gather_rows, f32": (gather_rows.declare(), {"index": (5,), "table": (9, 40), "y": (5, 40)}, (32, 2)),
    "rope_append_rows": (
        rope_append_rows.declare(BF16),
        {
            "positions": (4,),
            "places": (4,),
            "q": (4, 6, 16),
            "k": (4, 2, 16),
            "v": (4, 2, 16),
            "frequencies": (8,),
            "q_out": (4, 6, 16),
            "k_cache": (3, 4, 2, 16),
            "v_cache": (3, 4, 2, 16),
        },
        (64, 2),
    ),
}
MADE = {
    "index": given(3, 8, -1, 9, 0),
    "positions": given(0, 700, 3, -1),
    "places": given(11, 2, 4, -1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others(name: str, tmp_path: Path) -> None:
    kernel, shapes, (threads, ctas) = OTHERS[name]
    shapes, launch = {"rows": (1,), **shapes}, Launch((ctas, 1, 1), (threads, 1, 1))
    constants = {p.name: 1e-5 for p in kernel.scalar_parameters}
    run = CpuKernel(tmp_path, kernel, shapes, launch, **constants)
    for count in (0, 1, 3):
        make = {key: value for key, value in MADE.items() if key in shapes} | {"rows": given(count)}
        case = Case(name, kernel, shapes, launch, constants, make=make)
        operands = case.operands(count)
        expected = case.expected(operands, {})
        run(operands)
        case.compare({written: operands[written] for written in case.written}, expected)


def test_rows_of_a_batch(tmp_path: Path) -> None:
    """A request without rows, pages anywhere, one CTA and fewer threads than rows; and a batch that is bad."""
    shapes = {"requests": (1,), "query_pointers": (5,), "kv_lengths": (4,), "page_pointers": (5,), "pages": (24,)}
    shapes |= {"status": (2,), "rows": (1,), "answers": (1,), "positions": (80,), "places": (80,), "last": (4,)}
    constants, launch = {"page_size": 4, "most_rows": 80}, Launch((1, 1, 1), (64, 1, 1))
    run = CpuKernel(tmp_path, batch_rows.KERNEL, shapes, launch, **constants)
    for status, requests, rows in ((0, 3, 70), (64, 1, 3), (9, 3, 0)):
        make = {
            "requests": given(requests),
            "query_pointers": given(0, 3, 3, 70, -9),
            "kv_lengths": given(9, 2, 67, -9),
            "page_pointers": given(0, 3, 4, 21, -9),
            "pages": lambda chooser, shape: chooser.permutation(shape[0]),
            "status": given(status, -1),
        }
        case = Case("batch_rows", batch_rows.KERNEL, shapes, launch, constants, make=make)
        operands = case.operands(0)
        expected = case.expected(operands, {})
        assert expected["rows"][0] == rows
        run(operands)
        case.compare({written: operands[written] for written in case.written}, expected)
