"""The CUDA C++ of the batched kernels, run on the CPU, against NumPy, and each vector against it alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forerun.ir.nodes import Launch
from tests.kernels.batched.batched_cases import few_cases
from tests.kernels.cuda_cases import Case
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel
from tests.kernels.test_fast_on_cpu import require_values

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")]


@pytest.mark.parametrize("case", list(few_cases()), ids=str)
def test_values_are_those_of_numpy(case: Case, tmp_path: Path) -> None:
    require_values(case, tmp_path)


def outputs(case: Case, folder: Path, launch: Launch | None = None) -> dict[str, np.ndarray]:
    """What a case writes, in its last run."""
    operands, launch = case.operands(0), launch or case.launch
    CpuKernel(folder, case.kernel, case.shapes, launch, **case.constants)(operands, **case.loaded[-1])
    return {name: operands[name] for name in case.written}


def test_a_vector_has_the_bits_that_it_has_alone(tmp_path: Path) -> None:
    """Whichever of the vectors it is: the order of sums is that of columns, and no sum has two vectors."""
    case = next(case for case in few_cases() if case.name.startswith("batched_projection-bf16-2-"))
    operands, together = case.operands(0), outputs(case, tmp_path / "two")
    shared = {"w", "scale"}
    one = {name: shape if name in shared else (1, *shape[1:]) for name, shape in case.shapes.items()}
    alone = CpuKernel(tmp_path / "one", case.kernel, one, case.launch)
    for number in range(2):
        arrays = {name: a.copy() if name in shared else a[number : number + 1].copy() for name, a in operands.items()}
        alone(arrays)
        for name, found in together.items():
            np.testing.assert_array_equal(arrays[name][0], found[number], name)


@pytest.mark.parametrize(
    ("stem", "launches"),
    [
        ("batched_projection-bf16-1-24x1024", [(1, 1, 20000), (4, 4, 20000)]),  # four blocks, or a CTA for each
        ("batched_attention-bf16-2x1-4", [(16, 8, 0), (4, 2, 0), (8, 4, 0)]),  # one span a CTA, four, two
    ],
)
def test_how_many_ctas_a_cluster_has_changes_no_bit(
    stem: str, launches: list[tuple[int, int, int]], tmp_path: Path
) -> None:
    case = next(case for case in few_cases() if case.name.startswith(stem))
    found = []
    for number, (ctas, cluster, shared) in enumerate(launches):
        clusters = None if cluster == 1 else (cluster, 1, 1)
        launch = Launch((ctas, 1, 1), case.launch.block, shared, clusters)
        found.append(outputs(case, tmp_path / str(number), launch)["y"])
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
