"""What holds for the declaration of every kernel: names, arities, and which phases are independent."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import forerun.kernels
from forerun.ir.kernel import Kernel
from tests.kernel_runner import phase_function

MODULES = [name for _, name, _ in pkgutil.iter_modules(forerun.kernels.__path__)]
KERNELS: dict[str, Kernel] = {
    name: module.KERNEL
    for name in MODULES
    if hasattr(module := importlib.import_module(f"forerun.kernels.{name}"), "KERNEL")
}
DECODE = ("embedding", "rmsnorm", "gemv", "rope_append", "attention", "add", "silu_mul", "argmax")

# The phases that may stand ahead of the wait, and what they read: never what the kernel before has just written.
INDEPENDENT = {
    ("rmsnorm", "load_scale"): {"w"},
    ("gemv", "load_weights"): {"w"},
    ("rope_append", "load_table"): {"frequencies"},
    ("attention", "load_past"): {"k_cache", "v_cache"},
    ("add", "load"): {"a"},
}


def test_every_kernel_of_a_decode_step_is_there() -> None:
    assert set(DECODE) <= set(KERNELS)


@pytest.mark.parametrize("name", DECODE)
def test_kernel_is_named_for_its_module_and_has_one_role(name: str) -> None:
    kernel = KERNELS[name]
    assert kernel.name == name
    assert kernel.roles is not None
    assert len(kernel.roles) == 1


@pytest.mark.parametrize("name", DECODE)
def test_phases_name_declared_parameters_and_earlier_locals(name: str) -> None:
    kernel = KERNELS[name]
    scalars = {p.name for p in kernel.scalar_parameters}
    dims = {d for p in kernel.buffer_parameters for d in p.dims or () if isinstance(d, str)}
    given: set[str] = set()
    for phase in kernel.phases:
        for access in (*phase.reads, *phase.writes):
            assert kernel.parameter(access.parameter) in kernel.buffer_parameters
            assert set(access.region.symbols) <= scalars | dims
        assert set(phase.takes) <= given
        assert not given & set(phase.gives)
        given |= set(phase.gives)


@pytest.mark.parametrize("name", DECODE)
def test_phase_functions_take_reads_then_locals_then_scalars(name: str) -> None:
    for phase in KERNELS[name].phases:
        parameters = list(inspect.signature(phase_function(phase)).parameters)
        assert len(parameters) == len(phase.reads) + len(phase.takes) + len(phase.scalars)
        assert parameters[len(phase.reads) :] == [*phase.takes, *phase.scalars]


@pytest.mark.parametrize(("kernel", "phase"), INDEPENDENT)
def test_loads_that_can_be_hoisted_stand_first_and_alone(kernel: str, phase: str) -> None:
    first = KERNELS[kernel].phases[0]
    assert first.name == phase
    assert {access.parameter for access in first.reads} == INDEPENDENT[kernel, phase]
    assert not first.writes
    assert not first.takes


def test_attention_reads_the_past_and_the_present_apart() -> None:
    past, attend = KERNELS["attention"].phases
    assert [str(access) for access in past.reads] == ["k_cache[0:pos]", "v_cache[0:pos]"]
    assert [str(access) for access in attend.reads[1:]] == ["k_cache[pos:pos + 1]", "v_cache[pos:pos + 1]"]
