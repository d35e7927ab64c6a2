"""Kernels are right in every launch that they accept, on memory that is aligned as they say and to no more.

Their CUDA C++ is compiled for random launches, run on the CPU, and compared with the NumPy functions.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from forerun.frontends.llama_config import LLAMA_3_2_1B
from forerun.ir.kernel import Kernel
from forerun.ir.launches import ANY_LAUNCH, WHOLE_WARPS, Launches, Span
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels import attention_cluster, row_stream
from forerun.kernels.builtin import KERNELS
from forerun.support.diagnostics import InvalidInput
from tests.kernels.cuda_cases import Case, small_cases
from tests.kernels.discovered import derived
from tests.kernels.fast_cases import cases_of_model, few_cases
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel, NotCompiledError, graph_of
from tests.strategies import portion

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")


def exactly(kernel: Kernel) -> Case:
    """A launch of a kernel whose results are whole numbers, or halves of them."""
    case = derived(kernel, {p.name: 1 for p in kernel.scalar_parameters}, (37, 3))
    return replace(case, make=dict.fromkeys(case.shapes, _whole_numbers), tolerance=0.0)


def _whole_numbers(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return chooser.integers(-9, 9, shape)


CASES: dict[str, list[Case]] = {}
"""By the kernels' code."""
for _case in (*small_cases(), *few_cases(), *map(exactly, KERNELS.values())):
    CASES.setdefault(_case.kernel.implementations[0].entry, []).append(_case)

_THREADS = 256  # more are slow on a CPU


@st.composite
def _extents(draw: st.DrawFn, count: int) -> tuple[int, int, int]:
    """A number of threads or CTAs in one, two or three dimensions."""
    x = draw(st.sampled_from([count, count, *(d for d in range(1, count + 1) if count % d == 0)]))
    y = draw(st.sampled_from([d for d in range(1, count // x + 1) if count // x % d == 0]))
    z = count // x // y
    return (x, y, z) if z <= 64 else (x, z, y)


def _numbers(span: Span | None, least: int, most: int) -> st.SearchStrategy[int]:
    if span is None:
        return st.integers(least, most)
    first, last = max(span.start, least), min(span.stop, most)
    steps = range(-(-(first - span.start) // span.step), (last - span.start) // span.step + 1)
    return st.sampled_from(steps).map(lambda i: span.start + i * span.step)


@st.composite
def launches(draw: st.DrawFn, accepted: Launches) -> Launch:
    """Launches that a kernel accepts, as small as a CPU likes them."""
    block = draw(_extents(draw(_numbers(accepted.block, 1, _THREADS))))
    # Of dynamic shared memory only rings have any, which need some KB.
    shared = draw(_numbers(accepted.shared, 16_000, 200_000)) if accepted.shared is not None else 0
    cluster = draw(_numbers(accepted.cluster, 1, 8)) if accepted.cluster is not None else draw(st.sampled_from([1, 2]))
    if cluster == 1:
        return Launch(draw(_extents(draw(_numbers(accepted.grid, 1, 6)))), block, shared)
    x, y, z = draw(_extents(draw(st.integers(1, 3))))
    return Launch((cluster * x, y, z), block, shared, (cluster, 1, 1))


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("entry", sorted(CASES))
@settings(portion(2), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_values_are_those_of_numpy_in_every_launch(entry: str, tmp_path: Path, data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CASES[entry]))
    assert case.kernel.launches is not None
    launch = data.draw(launches(case.kernel.launches))
    assert refusals(case, launch) == []
    kernel = compiled(tmp_path / str(len(list(tmp_path.iterdir()))), case, launch)
    event(f"{entry}: {'compiled' if kernel is not None else 'refused when it is compiled'}")
    if kernel is None:
        return
    loaded = data.draw(st.sampled_from(case.loaded))
    operands = case.operands(0)
    expected = case.expected(operands, loaded)
    kernel(operands, **loaded)
    case.compare({name: operands[name] for name in case.written}, expected)


def compiled(folder: Path, case: Case, launch: Launch) -> CpuKernel | None:
    """The kernel, unless its code refuses the launch: a limit that depends on shapes."""
    try:
        return CpuKernel(folder, case.kernel, case.shapes, launch, **case.constants)
    except NotCompiledError as refused:
        if "static assertion failed" not in str(refused):
            raise
        return None


def refusals(case: Case, launch: Launch) -> list[str]:
    """The codes of what the verifier says of a launch."""
    try:
        graph_of(case.kernel, case.shapes, launch, **case.constants)
    except InvalidInput as refused:
        return [found.code for found in refused.diagnostics]
    return []


OUTSIDE = {
    "half a warp": lambda launch: replace(launch, block=(16, 1, 1)),
    "a warp and a half": lambda launch: replace(launch, block=(24, 2, 1)),
    "no rings": lambda launch: replace(launch, shared_bytes=0),
    "no clusters": lambda launch: replace(launch, cluster=None),
    "clusters in x": lambda launch: replace(launch, grid=(2, 2, 1), cluster=(2, 1, 1)),
    "clusters in y": lambda launch: replace(launch, grid=(2, 2, 1), cluster=(1, 2, 1)),
}
IN_CLUSTERS = frozenset({"clusters in x", "clusters in y"})
PARTS_OF_WARPS = frozenset({"half a warp", "a warp and a half"})
REFUSED: dict[Launches, frozenset[str]] = {
    ANY_LAUNCH: frozenset(),
    WHOLE_WARPS: PARTS_OF_WARPS | IN_CLUSTERS,
    row_stream.LAUNCHES: PARTS_OF_WARPS | IN_CLUSTERS | {"no rings"},
    attention_cluster.LAUNCHES: PARTS_OF_WARPS | {"no clusters", "clusters in y"},
}


def refused_of(entry: str) -> frozenset[str] | None:
    """What must be refused; ``None`` for a kernel with limits of its own."""
    launches = CASES[entry][0].kernel.launches
    assert launches is not None
    return REFUSED.get(launches)


@pytest.mark.parametrize("entry", sorted(CASES))
def test_other_launches_are_refused(entry: str) -> None:
    case = CASES[entry][0]
    found = {what for what, change in OUTSIDE.items() if refusals(case, change(case.launch)) == ["N16"]}
    assert refused_of(entry) in (found, None)
    assert refusals(case, case.launch) == []


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("entry", sorted(entry for entry in CASES if "half a warp" in (refused_of(entry) or ())))
def test_the_code_refuses_what_the_declaration_does(entry: str, tmp_path: Path) -> None:
    case = CASES[entry][0]
    kernel = replace(case.kernel, launches=None)
    with pytest.raises(NotCompiledError, match="static assertion failed"):
        CpuKernel(tmp_path, kernel, case.shapes, OUTSIDE["half a warp"](case.launch), **case.constants)


def _aligned_reads(case: Case) -> list[str]:
    """The parameters that need an alignment, and are read."""
    read = {access.parameter for phase in case.kernel.phases for access in phase.reads}
    return [p.name for p in case.kernel.buffer_parameters if p.align is not None and p.name in read]


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("entry", sorted(entry for entry, (case, *_) in CASES.items() if _aligned_reads(case)))
def test_the_declared_alignment_is_needed(entry: str, tmp_path: Path) -> None:
    case = CASES[entry][0]
    kernel = CpuKernel(tmp_path, case.kernel, case.shapes, case.launch, **case.constants)
    declared = dict(kernel.alignments)
    for name in _aligned_reads(case):
        kernel.alignments = {**declared, name: declared[name] // 2}
        with pytest.raises(AssertionError, match=r"not aligned|wait for each other"):
            kernel(case.operands(0), **case.loaded[-1])


def test_launches_of_models_are_accepted() -> None:
    for case in cases_of_model(LLAMA_3_2_1B, DType.BF16, DType.BF16, (0,)):
        assert refusals(case, case.launch) == []
