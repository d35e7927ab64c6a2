"""Every invariant of the verifier has a graph here that breaks it, and it alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from forerun.ir.affine import Affine, affine
from forerun.ir.buffer import Allocation, Buffer, Paged
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import (
    Access,
    Barrier,
    Phase,
    Role,
    Wait,
)
from forerun.ir.launches import Span
from forerun.ir.nodes import (
    AllocNode,
    BufferArgument,
    ChildGraphNode,
    ConditionalNode,
    ConstantArgument,
    EmptyNode,
    FreeNode,
    HostCallbackNode,
    KernelNode,
    Launch,
    MemcpyNode,
    MemsetNode,
    ScalarLoad,
)
from forerun.ir.region import BufferView, Region, Slice, region
from forerun.ir.types import HOST, BufferRole, DependencyKind, DType
from forerun.ir.verify import RULES, require_valid, verify
from forerun.support.diagnostics import InvalidInput
from tests.ir.verify.small_graphs import (
    ALLOCATIONS,
    ARENA,
    ARGUMENTS,
    BUFFERS,
    EDGE,
    F32,
    FIRST,
    I32,
    INPUT,
    LOAD,
    NAMED_ROW,
    OUTPUT,
    ROW,
    SECOND,
    STORE,
    TEMP,
    WEIGHT,
    accepting,
    aligned,
    allocated_late,
    clustered,
    given_to_a_black_box,
    graph,
    holding,
    holding_twice,
    named,
    with_arguments,
    with_body,
    with_buffer,
    with_node,
    with_roles,
    with_steps,
    written_pointers,
)

BROKEN: list[tuple[str, str, Callable[[], Graph]]] = [
    ("G1", "no name", lambda: graph(name="")),
    ("G1", "no name", lambda: graph(nodes=[FIRST, SECOND, EmptyNode("")])),
    ("G1", "no name", lambda: graph(allocations=[*ALLOCATIONS, Allocation("", 1)])),
    ("G2", "no node 'frist'", lambda: graph(dependencies=[EDGE, Dependency("frist", "second")])),
    ("G3", "#first -> #second -> #first", lambda: graph(dependencies=[EDGE, Dependency("second", "first")])),
    ("G3", "#first -> #first", lambda: graph(dependencies=[EDGE, Dependency("first", "first")])),
    ("G4", "against the launch order", lambda: graph(dependencies=[Dependency("second", "first")])),
    (
        "G5",
        "'fill' is a MemsetNode",
        lambda: graph(
            nodes=[FIRST, MemsetNode("fill", BufferView("y"))],
            dependencies=[Dependency("first", "fill", DependencyKind.PROGRAMMATIC)],
        ),
    ),
    (
        "G5",
        "'second' runs on the host",
        lambda: graph(
            nodes=[replace(FIRST, place=HOST), replace(SECOND, place=HOST)],
            dependencies=[Dependency("first", "second", DependencyKind.PROGRAMMATIC)],
        ),
    ),
    ("G6", "tables of its own", lambda: with_body(graph())),
    (
        "G6",
        "no node 'b'",
        lambda: with_body(Graph("body", nodes=[EmptyNode("a")], dependencies=[Dependency("a", "b")])),
    ),
    ("G6", "(N1)", lambda: with_body(Graph("body", nodes=[KernelNode("k", "rwo")]))),
    (
        "G7",
        "arguments is a list, not a tuple",
        lambda: graph(nodes=[replace(FIRST, arguments=list(ARGUMENTS)), SECOND]),  # type: ignore[arg-type]
    ),
    (
        "G7",
        "launch.grid is a list, not a tuple",
        lambda: graph(nodes=[replace(FIRST, launch=Launch(grid=[1, 1, 1])), SECOND]),  # type: ignore[arg-type]
    ),
    (
        "G7",
        "roles[0].steps[0].reads is a list, not a tuple",
        lambda: with_steps(replace(LOAD, reads=list(LOAD.reads)), STORE),  # type: ignore[arg-type]
    ),
    (
        "G7",
        "roles[0].steps[0].reads[0].region.slices[0].start is not in canonical form",
        lambda: with_steps(Phase("load", (Access("x", Region((Slice(Affine(0, (("r", 0),)), affine(4)),))),))),
    ),
    (
        "G7",
        "destination.region.slices[0].stop is not in canonical form",
        lambda: with_node(
            MemsetNode("f", BufferView("y", Region((Slice(affine(0), Affine(0, (("b", 1), ("a", 1)))),))))
        ),
    ),
    ("G7", "shape is a list", lambda: with_buffer(shape=[4, 4])),
    (
        "G7",
        "hazards is a list",
        lambda: graph(dependencies=[replace(EDGE, hazards=[])]),  # type: ignore[arg-type]
    ),
    (
        "G6",
        "(G7)",
        lambda: with_body(Graph("body", nodes=[KernelNode("k", "row", list(ARGUMENTS))])),  # type: ignore[arg-type]
    ),
    ("M1", "0 bytes", lambda: graph(allocations=[*ALLOCATIONS, Allocation("none", 0)])),
    ("M2", "no allocation 'X'", lambda: with_buffer(allocation="X")),
    ("M3", "bytes 4 to 68 are outside", lambda: with_buffer(offset=4)),
    ("M3", "bytes -4 to 60 are outside", lambda: with_buffer(offset=-4)),
    (
        "M4",
        "byte offset 2",
        lambda: graph(allocations=ARENA, buffers=[*BUFFERS, Buffer("m", F32, (4,), TEMP, "a", 2)]),
    ),
    ("M5", "extents must be positive", lambda: with_buffer(shape=(4, 0))),
    (
        "M6",
        "output and input must not share bytes",
        lambda: graph(
            allocations=ARENA,
            buffers=[*BUFFERS, Buffer("p", F32, (4,), INPUT, "a"), Buffer("q", F32, (4,), OUTPUT, "a", 12)],
        ),
    ),
    ("M7", "no buffer 'tabel'", lambda: with_buffer(index=Paged("tabel", 2))),
    ("M7", "plain integer buffer", lambda: with_buffer(index=Paged("y", 2))),
    ("M7", "0 rows", lambda: with_buffer(index=Paged("i", 0))),
    ("M8", "on a buffer of f32", lambda: with_buffer(bounds=(0, 1))),
    ("M8", "are empty", lambda: graph(buffers=[*BUFFERS, Buffer("e", I32, (1,), INPUT, "h", bounds=(2, 1))][-1:])),
    (
        "M8",
        "do not fit u8",
        lambda: graph(buffers=[*BUFFERS[:3], Buffer("e", DType.U8, (1,), INPUT, "h", bounds=(-1, 1))]),
    ),
    ("M9", "has contents, but is not a plain weight", lambda: holding(role=INPUT)),
    ("M9", "has contents, but is not a plain weight", lambda: holding(index=Paged("i", 1))),
    ("M9", "has 4 bytes, but contents of 3", lambda: holding(contents=bytes(3))),
    ("M9", "has contents of more than 65536 bytes", lambda: holding(shape=(1 << 15,), contents=bytes(1 << 17))),
    ("M9", "holds 0, which is out of its bounds 1..2", lambda: holding(bounds=(1, 2))),
    ("M9", "overlaps %c, but contents that are declared are nobody else's", lambda: holding_twice()),
    ("M10", "ascends, but is not a plain integer buffer", lambda: with_buffer(ascending=True)),
    ("M10", "ascends, but is not a plain integer buffer", lambda: holding(ascending=True, index=Paged("i", 1))),
    (
        "M10",
        "ascends, but is state",
        lambda: graph(
            allocations=[*ALLOCATIONS, Allocation("p", 4)],
            buffers=[*BUFFERS, Buffer("p", I32, (1,), BufferRole.STATE, "p", ascending=True)],
        ),
    ),
    ("M10", "holds 1 behind 2", lambda: holding(shape=(2,), contents=bytes([2, 0, 0, 0, 1, 0, 0, 0]), ascending=True)),
    (
        "K1",
        "parameter 'x' occurs twice",
        lambda: graph(kernel=replace(ROW, parameters=(*ROW.parameters, ROW.parameters[0]))),
    ),
    ("K1", "role 'main' occurs twice", lambda: with_roles(*(ROW.roles or ()), Role("main"))),
    ("K1", "phase 'load' occurs twice", lambda: with_steps(LOAD, replace(LOAD, defines=()), STORE)),
    ("K2", "no buffer parameter 'z'", lambda: with_steps(Phase("load", (Access("z"),)))),
    ("K2", "no buffer parameter 'r'", lambda: with_steps(Phase("load", (Access("r"),)))),
    ("K2", "2 slices of 'y'", lambda: with_steps(Phase("load", (Access("y", Region((None, None))),)))),
    ("K3", "'q' in x[q:4]", lambda: with_steps(Phase("load", (Access("x", region(("q", 4))),)))),
    ("K4", "no scalar parameter 'x'", lambda: with_steps(Phase("load", scalars=("x",)))),
    ("K5", "local 'v' is defined twice", lambda: with_steps(LOAD, replace(LOAD, name="again"), STORE)),
    ("K6", "no phase defines local 'w'", lambda: with_steps(LOAD, replace(STORE, uses=("w",)))),
    ("K6", "before it is defined", lambda: with_steps(STORE, LOAD)),
    ("K6", "without a barrier", lambda: with_roles(Role("a", (LOAD,)), Role("b", (STORE,)))),
    ("K7", "'a': 1, 'b': 0", lambda: with_roles(Role("a", (LOAD, STORE, Barrier())), Role("b"))),
    ("K8", "scope 'warp'", lambda: with_steps(LOAD, STORE, Barrier("warp"))),
    ("K9", "has no role", lambda: with_roles()),
    ("K10", "waits 2 times", lambda: with_steps(Wait(), LOAD, Wait(), STORE)),
    ("K11", "'x' is aligned to 12 bytes", lambda: aligned(12)),
    ("K11", "powers of two from 4 to 256", lambda: aligned(2)),
    ("K11", "powers of two from 4 to 256", lambda: aligned(512)),
    ("K11", "'x' is aligned to 0 bytes", lambda: aligned(0)),
    ("K12", "block(64..32) is not in order, from 1 on", lambda: accepting(block=Span(64, 32))),
    ("K12", "grid(0..4) is not in order", lambda: accepting(grid=Span(0, 4))),
    ("K12", "shared(-1) is not in order, from 0 on", lambda: accepting(shared=Span(-1, -1))),
    ("K12", "block(32..128 step 0)", lambda: accepting(block=Span(32, 128, 0))),
    ("N1", "no kernel 'rwo'", lambda: with_node(replace(SECOND, kernel="rwo"))),
    ("N2", "(x, y) do not match the parameters (x, y, r)", lambda: with_arguments(*ARGUMENTS[:2])),
    ("N3", "no buffer 'z'", lambda: with_arguments(("x", BufferArgument("z")), *ARGUMENTS[1:])),
    ("N3", "'y' is f32, but %i is i32", lambda: with_arguments(ARGUMENTS[0], ("y", BufferArgument("i")), ARGUMENTS[2])),
    ("N3", "is a pointer", lambda: with_arguments(("x", ConstantArgument(1)), *ARGUMENTS[1:])),
    ("N4", "has 2 dimensions, but %h has 1", lambda: with_arguments(("x", BufferArgument("h")), *ARGUMENTS[1:])),
    (
        "N4",
        "dimension 'C' of 'y' is 4 as in %x, but %t has 2",
        lambda: graph(
            allocations=ARENA,
            buffers=[*BUFFERS, Buffer("t", F32, (2,), TEMP, "a")],
            nodes=[FIRST, replace(SECOND, arguments=(ARGUMENTS[0], ("y", BufferArgument("t")), ARGUMENTS[2]))],
        ),
    ),
    ("N5", "'r' is i32, but 0.5 is bound", lambda: with_arguments(*ARGUMENTS[:2], ("r", ConstantArgument(0.5)))),
    ("N5", "no buffer 'j'", lambda: with_arguments(*ARGUMENTS[:2], ("r", ScalarLoad("j")))),
    ("N5", "both must be integers", lambda: with_arguments(*ARGUMENTS[:2], ("r", ScalarLoad("y")))),
    ("N5", "element 1 of %i, which has 1", lambda: with_arguments(*ARGUMENTS[:2], ("r", ScalarLoad("i", 1)))),
    ("N5", "is a scalar", lambda: with_arguments(*ARGUMENTS[:2], ("r", BufferArgument("y")))),
    ("N6", "ends at 5, its extent is 4", lambda: with_arguments(*ARGUMENTS[:2], ("r", ConstantArgument(4)))),
    ("N6", "begins at -1", lambda: with_arguments(*ARGUMENTS[:2], ("r", ConstantArgument(-1)))),
    ("N6", "ends at 5, its extent is 4", lambda: with_arguments(*ARGUMENTS[:2], ("r", ScalarLoad("i", 0, 1)))),
    ("N7", "grid.y is 65536", lambda: with_node(replace(SECOND, launch=Launch((1, 65536, 1))))),
    ("N7", "2048 threads", lambda: with_node(replace(SECOND, launch=Launch(block=(512, 4, 1))))),
    ("N7", "shared memory", lambda: with_node(replace(SECOND, launch=Launch(shared_bytes=300_000)))),
    ("N7", "does not divide", lambda: with_node(replace(SECOND, launch=Launch((3, 1, 1), cluster=(2, 1, 1))))),
    ("N8", "claim 8 warps", lambda: with_roles(Role("main", (LOAD, STORE), warps=8))),
    ("N9", "copies 16 elements to 4", lambda: with_node(MemcpyNode("c", BufferView("x"), BufferView("y")))),
    ("N9", "copies f32 to i32", lambda: with_node(MemcpyNode("c", BufferView("y", region((0, 1))), BufferView("i")))),
    ("N9", "no buffer 'z'", lambda: with_node(MemcpyNode("c", BufferView("z"), BufferView("y")))),
    ("N9", "is not constant", lambda: with_node(MemcpyNode("c", BufferView("h", region((0, "n"))), BufferView("y")))),
    ("N9", "ends at 9", lambda: with_node(MemcpyNode("c", BufferView("h", region((5, 9))), BufferView("y")))),
    ("N10", "value 1.0 does not fit", lambda: with_node(MemsetNode("f", BufferView("y"), 1.0))),  # type: ignore[arg-type]
    ("N10", "value True does not fit", lambda: with_node(MemsetNode("f", BufferView("y"), True))),
    ("N5", "'r' is i32, but 2147483648", lambda: with_arguments(*ARGUMENTS[:2], ("r", ConstantArgument(1 << 31)))),
    ("N10", "value -1 does not fit", lambda: with_node(MemsetNode("f", BufferView("y"), -1))),
    (
        "N10",
        "elements of 8 bytes",
        lambda: graph(
            allocations=ARENA,
            buffers=[*BUFFERS, Buffer("d", DType.F64, (2,), TEMP, "a")],
            nodes=[FIRST, SECOND, MemsetNode("f", BufferView("d"))],
        ),
    ),
    ("N11", "not of the form", lambda: with_node(HostCallbackNode("h", "print"))),
    ("N11", "lives on device:0", lambda: with_node(HostCallbackNode("h", "m:f", (BufferView("y"),)))),
    ("N12", "no allocation 'b'", lambda: with_node(AllocNode("a", "b"))),
    ("N12", "twice", lambda: graph(nodes=[AllocNode("a", "x"), AllocNode("b", "x"), FIRST, SECOND])),
    ("N12", "before it is allocated", lambda: graph(nodes=[FreeNode("a", "x"), AllocNode("b", "x"), FIRST, SECOND])),
    ("N13", "unknown kind 'whlie'", lambda: with_body(Graph("body"), kind="whlie")),
    ("N13", "no buffer 'j'", lambda: with_body(Graph("body"), condition="j")),
    ("N13", "not an integer", lambda: with_body(Graph("body"), condition="h")),
    ("N13", "'while' with 2 bodies", lambda: with_node(ConditionalNode("l", "while", "i", (Graph("a"), Graph("b"))))),
    ("N14", "a HostCallbackNode", lambda: with_body(Graph("body", nodes=[HostCallbackNode("h", "m:f")]))),
    (
        "N14",
        "'h', a kernel of the host",
        lambda: with_body(Graph("body", nodes=[replace(FIRST, name="h", place=HOST)])),
    ),
    (
        "N14",
        "a HostCallbackNode",
        lambda: with_body(
            Graph("body", nodes=[ChildGraphNode("c", Graph("inner", nodes=[HostCallbackNode("h", "m:f")]))])
        ),
    ),
    ("N15", "'x' needs a multiple of 16 bytes, but %x begins at byte 4 of $a", lambda: aligned(16, offset=4)),
    ("N15", "'x' needs a multiple of 256 bytes, but %x begins at byte 16 of $a", lambda: aligned(256, offset=16)),
    ("N16", "'row' does not accept the launch: 128 threads a CTA", lambda: accepting(block=Span(32, 96))),
    ("N16", "128 threads a CTA, accepted are 32..1024 step 64", lambda: accepting(block=Span(32, 1024, 64))),
    ("N16", "1 CTAs, accepted are 2", lambda: accepting(grid=Span(2, 2))),
    ("N16", "0 bytes of shared memory a CTA", lambda: accepting(shared=Span(16, 64))),
    ("N16", "1 CTAs a cluster", lambda: accepting(cluster=Span(2, 8))),
    ("N16", "accepted are clusters in x", lambda: clustered((1, 2, 1))),
    ("N17", "'s' is 2 (i32) here, and 1 (i32) elsewhere", lambda: named("1", "2")),
    ("N17", "'s' is 1.0 (f32) here, and 1 (i32) elsewhere", lambda: named("1", "1.0", other="f32")),
    ("N17", "'s' may change, but a region of 'row' depends on it", lambda: with_arguments(*NAMED_ROW)),
    (
        "F1",
        "writes %y, a weight",
        lambda: graph(buffers=[BUFFERS[0], replace(BUFFERS[1], role=WEIGHT), *BUFFERS[2:]]),
    ),
    (
        "F2",
        "a temporary that nothing has written",
        lambda: graph(buffers=[replace(BUFFERS[0], role=TEMP), *BUFFERS[1:]]),
    ),
    ("F3", "an output that no node writes", lambda: graph(nodes=[], dependencies=[])),
    ("F5", "may write %c, whose contents are declared", lambda: given_to_a_black_box()),
    ("F6", "may write %alias, bytes of what ascends", lambda: written_pointers()),
    ("F4", "uses memory of $m before 'late' allocates it", lambda: allocated_late()),
]


def test_the_graph_that_the_cases_break_is_valid() -> None:
    assert verify(graph()) == []
    require_valid(graph())


def test_what_kernels_need_may_be_given() -> None:
    for align, offset in ((4, 4), (16, 48), (64, 0), (256, 256), (256, 0)):
        assert verify(aligned(align, offset)) == []
    for spans in ({}, {"block": Span(32, 1024, 32)}, {"grid": Span(1, 4), "cluster": Span(1, 1), "shared": Span(0, 9)}):
        assert verify(accepting(**spans)) == []
    assert verify(clustered((2, 1, 1))) == []


@pytest.mark.parametrize(("code", "words", "build"), BROKEN, ids=[f"{c}-{i}" for i, (c, _, _) in enumerate(BROKEN)])
def test_broken(code: str, words: str, build: Callable[[], Graph]) -> None:
    found = verify(build())
    assert any(d.code == code and words in d.message for d in found), "\n".join(map(str, found))
    assert all(d.code in RULES for d in found)


def test_every_rule_has_a_case() -> None:
    assert {code for code, _, _ in BROKEN} == set(RULES)


def test_require_valid_reports_all_errors() -> None:
    with pytest.raises(InvalidInput) as raised:
        require_valid(graph(name="", allocations=[*ALLOCATIONS, Allocation("none", 0)]))
    assert {d.code for d in raised.value.diagnostics} == {"G1", "M1"}
    assert raised.value.exit_status == 2


@pytest.mark.parametrize(
    ("code", "hint"), [("G2", "'#first'"), ("N1", "'@row'"), ("M7", "valid names"), ("N13", "'while'")]
)
def test_hints_offer_the_closest_name(code: str, hint: str) -> None:
    builds = [build for found, _, build in BROKEN if found == code]
    assert any(hint in d.hint for build in builds for d in verify(build()) if d.code == code)
