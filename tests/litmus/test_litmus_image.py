"""The machine code of litmus kernels: made of their steps, in their order."""

from __future__ import annotations

import pytest

from forerun.runtime.cuda.codegen.specialise import specialise
from forerun.runtime.litmus import TESTS, graph_of
from forerun.runtime.litmus.image import compile_faithful, require_faithful, shown_kinds, steps_as_kinds
from forerun.runtime.litmus.notation import kernel_of
from forerun.runtime.toolchain import Instruction, compile_unit, missing_toolchain
from forerun.support.diagnostics import Unsupported

COMPILED = [
    ("L3d", "B"),
    ("L4b", "B"),
    ("L5e", "B"),
    ("L7y", "A"),
    ("L10c", "C"),
    ("L13b", "C"),
    ("L16b", "B"),
    ("L3n", "B"),
]
"""Tests and nodes that have all words and all kinds of bodies between them."""


def code(*opcodes):
    return [Instruction(16 * i, opcode, opcode) for i, opcode in enumerate(opcodes)]


def test_steps_become_instructions():
    kernel = kernel_of("wait, trigger, sleep, store x, copy y")
    assert steps_as_kinds(kernel) == ("load", "wait", "trigger", "store", "bulk", "store")


def test_faithful_code():
    require_faithful(kernel_of("load x, wait"), code("S2R", "LDG.E", "ACQBULK", "STG.E", "EXIT"))
    require_faithful(kernel_of("poll y, load x"), code("LDG.E", "LDG.E", "LDG.E", "STG.E", "STG.E"))
    require_faithful(kernel_of("wait | load x"), code("LDG.E", "STG.E", "ACQBULK"))


@pytest.mark.parametrize(
    ("body", "opcodes"),
    [
        ("load x, wait", ("ACQBULK", "LDG.E", "STG.E")),  # the load was sunk
        ("load x, wait", ("LDG.E", "STG.E")),  # the wait was left out
        ("trigger", ()),
        ("sleep", ("ACQBULK",)),  # a wait that nobody wrote
        ("wait | load x", ("LDG.E", "STG.E")),
        ("poll x, trigger", ("LDG.E", "STG.E")),
    ],
)
def test_other_code_is_refused(body, opcodes):
    with pytest.raises(Unsupported, match="made something else"):
        require_faithful(kernel_of(body), code(*opcodes))


def test_loads_without_order_are_refused():
    with pytest.raises(Unsupported, match="nothing orders"):
        require_faithful(kernel_of("load x"), code("LDG.E.CONSTANT", "STG.E"))


@pytest.mark.parametrize(("name", "node"), COMPILED)
def test_the_assembler_keeps_the_steps(name, node):
    reason = missing_toolchain()
    if reason is not None:
        pytest.skip(reason)
    graph = graph_of(TESTS[name])
    kernel = graph.kernels[graph.nodes[node].kernel]
    unit = specialise(graph, graph.nodes[node])
    entry = compile_unit(unit.source).entries[unit.entry]
    require_faithful(kernel, entry.instructions)
    assert entry.waits == ("wait" in steps_as_kinds(kernel))
    assert bool(shown_kinds(entry.instructions)) == bool(steps_as_kinds(kernel))


def test_a_dormant_wait_is_in_the_code_but_does_not_wait():
    reason = missing_toolchain()
    if reason is not None:
        pytest.skip(reason)
    graph = graph_of(TESTS["L3d"])
    unit = specialise(graph, graph.nodes["B"])
    entry = compile_unit(unit.source).entries[unit.entry]
    assert entry.waits
    assert not entry.always_waits


def test_many_kernels_are_compiled_once_each():
    reason = missing_toolchain()
    if reason is not None:
        pytest.skip(reason)
    told = []
    compile_faithful(
        [graph_of(TESTS[name]) for name in ("L3d", "L3d", "L13b")], "sm_90", lambda *done: told.append(done)
    )
    assert told[-1] == (6, 6)  # those of L3d, and those of L13b
