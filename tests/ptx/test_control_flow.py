"""Control flow of small kernels: blocks, and the branches at which threads part."""

from __future__ import annotations

import pytest

from forerun.ptx.cfg import ControlFlow, control_flow
from forerun.ptx.divergence import divergence
from forerun.ptx.parser import parse_module
from forerun.support.diagnostics import InvalidInput
from tests.ptx.small_kernel import HEAD


def flow_of(*lines: str) -> ControlFlow:
    return control_flow(parse_module(HEAD + "\n".join(lines) + "\n}\n").entry("k"))


def test_blocks_of_a_loop_with_an_early_return() -> None:
    flow = flow_of("@%p1 ret;", "$L:", "add.u32 %r1, %r1, 1;", "@%p2 bra $L;", "trap;")
    assert flow.graph.successors == ((1,), (1, 2), ())
    assert flow.graph.exits == {0, 2}
    assert [flow.branch_of(block).base for block in range(3)] == ["ret", "bra", "trap"]


def test_labels_and_registers_of_scopes() -> None:
    lines = ("{ .reg .pred P; .reg .b32 t<2>; W: mov.b32 t0, %r1; @P bra W; }",)
    flow = flow_of(*lines, "{ .reg .pred P; W: @!P bra W; }", "ret;")
    assert flow.graph.successors == ((1,), (1, 2), (2, 3), ())
    texts = [str(one) for one in flow.instructions]
    assert "mov.b32 \tt0@1, %r1;" in texts
    assert "@P@1 bra \tW;" in texts
    assert "@!P@2 bra \tW;" in texts
    assert (flow.types["t0@1"], flow.types["P@2"], flow.types["%rd1"], flow.types["%tid"]) == (
        ".b32",
        ".pred",
        ".b64",
        "",
    )


def test_a_computed_branch_goes_to_its_targets_or_everywhere() -> None:
    ways = ("$A: ret;", "$B: ret;", "$C: ret;")
    assert flow_of("T: .branchtargets $A, $C;", "brx.idx %r1, T;", *ways).graph.successors[0] == (1, 3)
    assert flow_of("brx.idx %r1, nowhere;", *ways).graph.successors[0] == (1, 2, 3)


def test_a_branch_to_nowhere_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"function k, line 18: a branch to '\$M', which is not a label here"):
        flow_of("bra $M;", "{ $M: }", "ret;")
    with pytest.raises(InvalidInput, match="function helper has no body"):
        control_flow(parse_module(HEAD + "ret; }").functions[0])


# Divergence


def test_branches_that_depend_on_threads_and_those_that_do_not() -> None:
    flow = flow_of(
        "mov.u32 %r5, %ctaid.x; setp.eq.u32 %p3, %r5, %r3; @%p3 bra $A;",  # block 0
        "@%p1 bra $A;",
        "mov.u32 %r6, 1;",
        "$A: ld.global.u32 %r7, [%rd1]; setp.eq.u32 %p4, %r7, 0; @%p4 bra $B;",
        "@%p2 ret;",
        "$B: ret;",
    )
    found = divergence(flow)
    branches = {
        flow.block_of[index]: (set(sources), found.is_uniform(index)) for index, sources in found.branches.items()
    }
    assert branches == {0: ({"ctaid"}, True), 1: ({"tid"}, False), 3: ({"loaded"}, False), 4: (set(), True)}
    assert [found.is_convergent(block) for block in range(6)] == [True, True, False, True, False, False]
    assert found.registers["%r6"] == {"tid", "ctaid"}


@pytest.mark.parametrize("name", ["%laneid", "%lanemask_lt", "%clock64", "%warpid", "%smid", "%pm0", "nowhere"])
def test_special_registers_that_threads_see_differently(name: str) -> None:
    flow = flow_of(f"mov.u32 %r5, {name};", "setp.eq.u32 %p3, %r5, 1;", "@%p3 ret;", "ret;")
    uniform = name == "nowhere"  # the address of a variable
    assert divergence(flow).is_uniform(len(flow.instructions) - 2) == uniform


def test_parameters_of_device_functions_may_differ() -> None:
    text = ".version 9.0\n.func f(.param .b32 x) { .reg .b32 %r1; .reg .pred %p1;\n ld.param.b32 %r1, [x];"
    flow = control_flow(parse_module(text + "setp.eq.u32 %p1, %r1, 0; @%p1 ret; ret; }").functions[0])
    assert divergence(flow).is_uniform(2)
    assert not divergence(flow, is_entry=False).is_uniform(2)
