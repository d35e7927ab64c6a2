"""Every generated unit compiles, and the machine code waits and triggers exactly where the body does."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel, Phase, Role, Trigger, Wait
from forerun.ir.nodes import KernelNode, Launch
from forerun.kernels.builtin import KERNELS
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda.codegen.specialise import Unit, specialise
from forerun.runtime.toolchain import EntryFacts, Source, compile_unit, missing_toolchain
from forerun.testing import graphs
from tests.runtime.cuda.test_codegen import stream_of, two_roles, unit_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.toolchain,
    pytest.mark.skipif(missing_toolchain() is not None, reason=f"no toolchain: {missing_toolchain()}"),
]

DEFAULT = PassManager("exact", [])


def facts_of(unit: Unit) -> EntryFacts:
    assert isinstance(unit.source, Source)
    cubin = compile_unit(unit.source)
    assert cubin.log == ""
    return cubin.entries[unit.entry]


def has_what_the_body_has(kernel: Kernel, unit: Unit) -> EntryFacts:
    facts = facts_of(unit)
    kinds = {instruction.kind for instruction in facts.instructions}
    assert ("wait" in kinds) == kernel.has(Wait)
    assert ("trigger" in kinds) == kernel.has(Trigger)
    assert not any(instruction.constant for instruction in facts.instructions)
    return facts


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_builtin_kernels(name: str) -> None:
    kernel = KERNELS[name]
    for count, launch in ((300, Launch((3, 1, 1), (32, 2, 1))), (70_000, Launch(block=(48, 1, 1)))):
        graph = stream_of(kernel, kernel.buffer_parameters[0].dtype, count, launch)
        for node in graph:
            assert isinstance(node, KernelNode)
            has_what_the_body_has(kernel, specialise(graph, node))


def test_loads_ahead_of_the_wait_stay_there() -> None:
    for name in ("add_i32", "accumulate_f32", "spread_i32"):
        kernel = KERNELS[name]
        load, *rest = kernel.phases
        for steps, ahead in (((load, Wait(), *rest), True), ((Wait(), load, *rest), False)):
            body = kernel.with_roles(f"{name}.hoisted", (Role("all", (Trigger(), *steps)),))
            facts = has_what_the_body_has(body, unit_of(body, launch=Launch((2, 1, 1), (64, 1, 1)), extent=512))
            kinds = [instruction.kind for instruction in facts.instructions]
            assert ("load" in kinds[: kinds.index("wait")]) == ahead
            assert kinds.index("trigger") < kinds.index("load")
            assert "store" not in kinds[: kinds.index("wait")]


def test_roles_wait_and_trigger_apart() -> None:
    kernel = two_roles()
    for delays in (False, True):
        facts = has_what_the_body_has(kernel, unit_of(kernel, launch=Launch(block=(128, 1, 1)), delays=delays))
        kinds = [instruction.kind for instruction in facts.instructions]
        assert kinds.count("wait") == 1
        assert kinds.count("trigger") == 1
        assert facts.spill_load_bytes == facts.spill_store_bytes == 0
        fences = [i for i in facts.instructions if i.opcode.startswith("MEMBAR")]
        assert fences


def test_delays_are_between_all_steps() -> None:
    kernel = KERNELS["add_i32"].with_roles(
        "add_i32.pdl", (Role("all", (Trigger(), Wait(), *KERNELS["add_i32"].phases)),)
    )
    facts = has_what_the_body_has(kernel, unit_of(kernel, delays=True))
    spins = [instruction for instruction in facts.instructions if "CLOCK" in instruction.text]
    assert spins


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(max_nodes=2, nodes=["kernel"]), st.booleans())
def test_random_kernels(graph: Graph, delays: bool) -> None:
    for made in {graph, DEFAULT.run(graph).graph}:
        for node in made:
            assert isinstance(node, KernelNode)
            kernel = made.kernels[node.kernel]
            has_what_the_body_has(kernel, specialise(made, node, delays=delays))
            event(f"waits: {kernel.has(Wait)}, triggers: {kernel.has(Trigger)}")


def test_phases_may_have_any_name() -> None:
    """Also one that C++, device.cuh or the compiler uses."""
    names = ["load_global", "word", "Hash", "int", "wait", "memcpy", "delay", "threadIdx", "k", "a", "l", "hash"]
    phases = [Phase(n, defines=(f"{n}",), reference="forerun.testing.hashing:digest") for n in names]
    kernel = Kernel("printf", (), (Role("all", (*phases, Wait())),))
    for delays in (False, True):
        has_what_the_body_has(kernel, unit_of(kernel, delays=delays))
