"""What holds for the declaration of every kernel: names, arities, and which phases are independent."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from forerun.ir.kernel import Implementation
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels import attention, attention_split, embedding, gemv, rope_append
from forerun.runtime.cuda.codegen.sources import included
from tests.kernel_runner import phase_function
from tests.kernels.discovered import KERNELS, MODULES, derived, variants
from tests.kernels.test_cuda_values import require_values

DECODE = ("embedding", "rmsnorm", "gemv", "rope_append", "attention", "add", "silu_mul", "argmax")
DECODE += ("attention_split", "attention_merge", "argmax_partial", "argmax_merge", "advance")

# The phases that may stand ahead of the wait, and what they read: never what the kernel before has just written.
INDEPENDENT = {
    ("rmsnorm", "load_scale"): {"w"},
    ("gemv", "load_weights"): {"w"},
    ("rope_append", "load_table"): {"frequencies"},
    ("attention", "load_past"): {"k_cache", "v_cache"},
    ("attention_split", "load_past"): {"k_cache", "v_cache"},
    ("add", "load"): {"a"},
}


def test_every_kernel_of_a_decode_step_is_there() -> None:
    assert set(DECODE) <= set(KERNELS)


@pytest.mark.parametrize("name", ["add", "silu_mul", "rmsnorm", "gemv", "embedding", "argmax", "read_all"])
def test_a_launch_can_be_derived_from_the_declaration(name: str) -> None:
    for kernel in variants(MODULES[name]):
        require_values(derived(kernel), "reference")


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_is_named_for_its_module_and_has_one_role(name: str) -> None:
    kernel = KERNELS[name]
    assert kernel.name.removesuffix("_q8_0") == name  # of blocks there is no plain kind
    assert kernel.roles is not None
    assert len(kernel.roles) == 1


@pytest.mark.parametrize("name", KERNELS)
def test_phases_name_declared_parameters_and_earlier_locals(name: str) -> None:
    kernel = KERNELS[name]
    scalars = {p.name for p in kernel.scalar_parameters}
    dims = {d for p in kernel.buffer_parameters for d in p.dims or () if isinstance(d, str)}
    given: set[str] = set()
    for phase in kernel.phases:
        for access in (*phase.reads, *phase.writes):
            assert kernel.parameter(access.parameter) in kernel.buffer_parameters
            assert set(access.region.symbols) <= scalars | dims
        assert set(phase.uses) <= given
        assert not given & set(phase.defines)
        given |= set(phase.defines)


@pytest.mark.parametrize("name", KERNELS)
def test_phase_functions_take_reads_then_locals_then_scalars(name: str) -> None:
    for phase in KERNELS[name].phases:
        parameters = list(inspect.signature(phase_function(phase)).parameters)
        assert len(parameters) == len(phase.reads) + len(phase.uses) + len(phase.scalars)
        assert parameters[len(phase.reads) :] == [*phase.uses, *phase.scalars]


@pytest.mark.parametrize(("kernel", "phase"), INDEPENDENT)
def test_loads_that_can_be_hoisted_stand_first_and_alone(kernel: str, phase: str) -> None:
    first = KERNELS[kernel].phases[0]
    assert first.name == phase
    assert {access.parameter for access in first.reads} == INDEPENDENT[kernel, phase]
    assert not first.writes
    assert not first.uses


@pytest.mark.parametrize("name", ["attention", "attention_split"])
def test_attention_loads_only_the_past_early_and_attends_to_the_present_too(name: str) -> None:
    past, attend = KERNELS[name].phases
    assert [str(access) for access in past.reads] == ["k_cache[0:pos]", "v_cache[0:pos]"]
    assert [str(access) for access in attend.reads[1:]] == ["k_cache[0:pos + 1]", "v_cache[0:pos + 1]"]


@pytest.mark.parametrize("name", KERNELS)
def test_cuda_source_of_every_kernel_defines_its_phases(name: str) -> None:
    (implementation,) = KERNELS[name].implementations
    assert implementation == Implementation("cuda", f"forerun.kernels.cuda:{name}.cu", name)
    text = "".join(text for _, text in included(implementation.source))
    for phase in KERNELS[name].phases:
        assert f"__forceinline__ void {phase.name}(const Arguments& a, Locals&" in text
    for forbidden in ("__restrict__", "__ldg", "ld.global.nc", "cooperative_groups"):
        assert forbidden not in text


@pytest.mark.parametrize("module", [embedding, gemv, rope_append, attention, attention_split])
def test_kernels_exist_for_each_floating_point_type(module: Any) -> None:
    stem = module.KERNEL.name
    found = {dtype: module.declare(dtype) for dtype in (DType.F32, DType.BF16, DType.F16)}
    assert [kernel.name for kernel in found.values()] == [stem, f"{stem}_bf16", f"{stem}_f16"]
    for dtype, kernel in found.items():
        assert dtype in {p.dtype for p in kernel.buffer_parameters}
        assert all(callable(phase_function(phase)) for phase in kernel.phases)


@pytest.mark.parametrize(
    ("rows", "columns", "dtype", "ctas"),
    [
        (128256, 2048, DType.BF16, 8016),  # a warp has 4 rows of 4 KB
        (2048, 8192, DType.BF16, 512),  # 4 warps share rows of 16 KB
        (2048, 2048, DType.BF16, 128),
        (512, 2048, DType.BF16, 128),  # one row a warp, so that there are enough CTAs
        (576, 576, DType.BF16, 144),
        (49152, 576, DType.BF16, 1536),  # 8 rows of 1,152 bytes
        (1536, 576, DType.BF16, 192),
        (2048, 2048, DType.F32, 256),
        (3, 20000, DType.F16, 3),
        (1, 8, DType.BF16, 1),
    ],
)
def test_launches_of_gemv_fill_the_gpu_with_wide_tiles(rows: int, columns: int, dtype: DType, ctas: int) -> None:
    assert gemv.launch_for(rows, columns, dtype) == Launch((ctas, 1, 1), (128, 1, 1))
