"""The bytes that a launch may access: compared with what threads do that run random programs, and cases by hand."""

from __future__ import annotations

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ptx.accesses import summarise
from forerun.ptx.cfg import control_flow
from forerun.ptx.launched import AtLaunch
from forerun.ptx.parser import parse_module
from forerun.ptx.ranges import Ranges
from tests.ptx.indexed import indexed_programs
from tests.ptx.machine import Thread, programs
from tests.ptx.texts import DATA

POINTERS = {"a": 0x7F0000001000, "b": 0x7E0000000100}
NUMBERS = st.sampled_from([0, 1, 3, 7, 12, 64, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0])


@given(programs() | indexed_programs(), NUMBERS, st.sampled_from([(2, 4), (1, 1), (3, 2)]))
def test_every_address_lies_in_its_range(text: str, n: int, shape: tuple[int, int]) -> None:
    entry = parse_module(text).entry("k")
    flow = control_flow(entry)
    summary = summarise(entry, flow)
    grid, block = shape
    found = Ranges(flow, summary).of(AtLaunch((grid, 1, 1), (block, 1, 1), {"n": n.to_bytes(4, "little")}))
    places = {one.index: one for one in summary.global_accesses}

    def compare(thread: Thread, index: int, number: int) -> None:
        access = places[index]
        if access.parameter not in found:
            return
        address = flow.instructions[index].operands[number]
        actual = (thread.registers[str(address.base)] + address.offset) % (1 << 64)  # type: ignore[union-attr, operator]
        low, high = found[access.parameter]
        assert low <= actual - POINTERS[access.parameter] <= high - (access.bytes or 0)

    for cta in range(grid):
        for tid in range(block):
            special = {"%tid.x": tid, "%ctaid.x": cta, "%ntid.x": block}
            Thread(flow, special, {**POINTERS, "n": n}).run(compare)
    event(f"known: {len(found)}")
    event(f"a loop in a known one: {bool(found) and bool(flow.graph.loops)}")


HEAD = """\
.version 9.0
.target sm_90a
.entry k(.param .u64 .ptr .global a, .param .u64 .ptr .global b, .param .u32 n, .param .u32 m)
{
.reg .b32 %r<12>; .reg .b64 %rd<12>; .reg .pred %p<9>;
ld.param.u64 %rd1, [a];
ld.param.u64 %rd2, [b];
ld.param.u32 %r1, [n];
ld.param.u32 %r2, [m];
mov.u32 %r3, %tid.x;
mov.u32 %r4, %ctaid.x;
mad.lo.s32 %r5, %r4, 128, %r3;
mad.wide.s32 %rd3, %r5, 4, %rd1;
"""
LOOP = "mov.u32 %r6, {begin}; $L: mad.wide.s32 %rd4, %r6, 4, %rd1; ld.global.u32 %r7, [%rd4];"

CASES: dict[str, tuple[str, tuple[int, int] | None]] = {
    "all threads": ("ld.global.u32 %r7, [%rd3];", (0, 2048)),
    "a guard": ("setp.lt.s32 %p1, %r5, %r1; @%p1 ld.global.u32 %r7, [%rd3];", (0, 1200)),
    "two guards": ("setp.ge.s32 %p1, %r5, 10; setp.lt.s32 %p2, %r5, %r1; and.pred %p3, %p1, %p2;"
                   "@%p3 ld.global.u32 %r7, [%rd3];", (40, 1200)),
    "one guard of two": ("setp.ge.s32 %p1, %r5, %r1; setp.gt.s32 %p2, %r4, 7; or.pred %p3, %p1, %p2;"
                         "not.pred %p4, %p3; @%p4 ld.global.u32 %r7, [%rd3];", (0, 1200)),
    "either of two": ("setp.lt.s32 %p1, %r5, 3; setp.lt.s32 %p2, %r5, 8; or.pred %p3, %p1, %p2;"
                      "@%p3 ld.global.u32 %r7, [%rd3];", (0, 2048)),
    "a return": ("setp.ge.s32 %p1, %r5, %r1; @%p1 ret; ld.global.u32 %r7, [%rd3];", (0, 1200)),
    "a branch": ("setp.lt.u32 %p1, %r5, %r1; @!%p1 bra $E; ld.global.u32 %r7, [%rd3]; $E:", (0, 1200)),
    "a branch behind which paths meet": ("setp.lt.u32 %p1, %r5, %r1; @%p1 bra $E; mov.u32 %r7, 1; $E: "
                                         "ld.global.u32 %r7, [%rd3];", (0, 2048)),
    "a predicate that is written again": ("setp.lt.s32 %p1, %r5, %r1; setp.lt.s32 %p1, %r5, %r2; "
                                          "@%p1 ld.global.u32 %r7, [%rd3];", (0, 800)),
    "a predicate that is written on some ways": ("setp.lt.s32 %p1, %r5, %r1; setp.lt.s32 %p2, %r4, 1;"
                                                 "@%p2 setp.lt.s32 %p1, %r5, %r2; "
                                                 "@%p1 ld.global.u32 %r7, [%rd3];", (0, 2048)),
    "never": ("setp.gt.s32 %p1, %r5, 1000; @%p1 ld.global.u32 %r7, [%rd3]; st.global.u32 [%rd1], 1;", (0, 4)),
    "what may overflow before it is compared": ("mul.lo.s32 %r6, %r5, 0x1000000; setp.lt.s32 %p1, %r6, 4;"
                                                "@%p1 ld.global.u32 %r7, [%rd3];", (0, 2048)),
    "what was made unsigned": ("sub.s32 %r6, %r5, 1; setp.lt.u32 %p1, %r6, 4; @%p1 ld.global.u32 %r7, [%rd3];",
                               (0, 2048)),
    "a loop that counts up": (LOOP.format(begin="%r3") + "add.s32 %r6, %r6, 128; setp.lt.s32 %p1, %r6, %r1;"
                              "@%p1 bra $L;", (0, 1536)),
    "a loop that is tested first": ("mov.u32 %r6, %r3; $L: setp.ge.s32 %p1, %r6, %r1; @%p1 bra $E;"
                                    "mad.wide.s32 %rd4, %r6, 4, %rd1; ld.global.u32 %r7, [%rd4]; "
                                    "add.s32 %r6, %r6, 128; bra $L; $E:", (0, 1200)),
    "a loop that counts down": (LOOP.format(begin="%r1") + "sub.s32 %r6, %r6, 1; setp.ne.s32 %p1, %r6, 0;"
                                "@%p1 bra $L;", (4, 1204)),
    "a loop that counts down past what it ends at": (
        LOOP.format(begin="%r1") + "sub.s32 %r6, %r6, 7; setp.ne.s32 %p1, %r6, 0; @%p1 bra $L;", None),
    "a loop that counts from each thread's number": (
        "setp.eq.s32 %p2, %r3, 0; @%p2 ret;" + LOOP.format(begin="%r3") + "sub.s32 %r6, %r6, 1;"
        "setp.ne.s32 %p1, %r6, 0; @%p1 bra $L;", (-500, 512)),
    "one that may begin where it ends": (LOOP.format(begin="%r3") + "sub.s32 %r6, %r6, 1; setp.ne.s32 %p1, %r6, 0;"
                                         "@%p1 bra $L;", None),
    "one that goes on while it is small": (LOOP.format(begin="%r3") + "sub.s32 %r6, %r6, 1; setp.lt.s32 %p1, %r6, 900;"
                                           "@%p1 bra $L;", None),
    "a loop whose end is loaded": (LOOP.format(begin="%r3") + "add.s32 %r6, %r6, 1; setp.lt.s32 %p1, %r6, %r7;"
                                   "@%p1 bra $L;", None),
    "one that is left at the top only": (LOOP.format(begin="%r3") + "setp.gt.s32 %p2, %r6, %r1; @%p2 bra $E;"
                                         "$M: add.s32 %r6, %r6, 1; bra $L; $E:", (0, 4 * 429)),
    "one that is left on some ways only": (LOOP.format(begin="%r3") + "setp.gt.s32 %p1, %r7, 3; @%p1 bra $M;"
                                           "setp.gt.s32 %p2, %r6, %r1; @%p2 bra $E; $M: add.s32 %r6, %r6, 1;"
                                           "bra $L; $E:", None),
    "one that is left when it is another number each time": (
        LOOP.format(begin="10") + "rem.u32 %r8, %r7, 4; sub.s32 %r6, %r6, 1; setp.ne.s32 %p1, %r6, %r8; @%p1 bra $L;",
        None),
    "a branch that is not taken": ("setp.lt.s32 %p1, %r5, 10; @%p1 bra $E; ld.global.u32 %r7, [%rd3]; $E:", (40, 2048)),
    "a predicate that was not written on all ways": (
        "setp.lt.s32 %p2, %r4, 1; @%p2 bra $M; setp.lt.s32 %p1, %r5, %r2; $M: @%p1 ld.global.u32 %r7, [%rd3];",
        (0, 2048)),
    "the greater": ("max.s32 %r6, %r3, %r5; mad.wide.u32 %rd4, %r6, 4, %rd1; ld.global.u32 %r7, [%rd4];", (0, 2048)),
    "an index that was loaded": ("ld.global.u32 %r7, [%rd3]; mad.wide.s32 %rd4, %r7, 4, %rd1;"
                                 "ld.global.u32 %r8, [%rd4];", None),
    "the rest of a division": ("rem.u32 %r6, %r5, 100; mad.wide.u32 %rd4, %r6, 4, %rd1; ld.global.u32 %r7, [%rd4];",
                               (0, 400)),
    "a quotient": ("div.s32 %r6, %r5, 100; mad.wide.u32 %rd4, %r6, 4, %rd1; ld.global.u32 %r7, [%rd4];", (0, 24)),
    "the smaller": ("min.s32 %r6, %r5, 99; mad.wide.u32 %rd4, %r6, 4, %rd1; ld.global.u32 %r7, [%rd4];", (0, 400)),
    "either": ("setp.lt.s32 %p1, %r5, %r1; selp.b32 %r6, %r3, %r4, %p1; mad.wide.s32 %rd4, %r6, 4, %rd1;"
               "ld.global.u32 %r7, [%rd4];", (0, 512)),
    "either that was made negative": ("setp.lt.s32 %p1, %r5, %r1; sub.s32 %r6, %r3, 5; selp.b32 %r6, %r6, %r4, %p1;"
                                      "mad.wide.s32 %rd4, %r6, 4, %rd1; ld.global.u32 %r7, [%rd4];",
                                      None),
    "a size that is not known": ("prefetch.global.L2 [%rd1];", None),
    "one of two pointers": ("setp.lt.s32 %p1, %r5, %r1; selp.b64 %rd4, %rd1, %rd2, %p1; ld.global.u32 %r7, [%rd4];",
                            None),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), CASES.values(), ids=CASES)
def test_ranges_by_hand(lines: str, expected: tuple[int, int] | None) -> None:
    entry = parse_module(f"{HEAD}{lines}\nret;\n}}\n").entry("k")
    flow = control_flow(entry)
    numbers = {"n": (300).to_bytes(4, "little"), "m": (200).to_bytes(4, "little")}
    assert Ranges(flow, summarise(entry, flow)).of(AtLaunch((4, 1, 1), (128, 1, 1), numbers)).get("a") == expected


def test_numbers_that_are_not_given_are_unknown() -> None:
    lines = "setp.lt.s32 %p1, %r5, %r1; @%p1 ld.global.u32 %r7, [%rd3];"
    entry = parse_module(f"{HEAD}{lines}\nret;\n}}\n").entry("k")
    flow = control_flow(entry)
    ranges = Ranges(flow, summarise(entry, flow))
    assert ranges.scalars == {"n"}
    assert ranges.of(AtLaunch((4, 1, 1), (128, 1, 1))) == {"a": (0, 2048)}
    # A CTA that is as large as it can be, in a grid whose indices overflow 32 bits.
    assert ranges.of(AtLaunch((1 << 26, 1, 1), (128, 1, 1))) == {}


@pytest.mark.parametrize(
    ("name", "launch", "expected"),
    [
        ("nvrtc130_rmsnorm_90", AtLaunch((16, 1, 1), (256, 1, 1)), [(0, 65536), (0, 4096), (0, 65536)]),
        ("triton_gemv", AtLaunch((16, 1, 1), (128, 1, 1)), [(0, 128), (0, 64 * 4096), (0, 4096)]),
        ("triton_row_softmax", AtLaunch((16, 1, 1), (128, 1, 1)), [(0, 65536), (0, 65536)]),
        ("triton_vec_add_pdl", AtLaunch((2, 1, 1), (128, 1, 1)), [(0, 8192)] * 3),
    ],
)
def test_kernels_of_compilers(name: str, launch: AtLaunch, expected: list[tuple[int, int]]) -> None:
    """Rows of 2,048 elements, bfloat16 or float."""
    entry = parse_module(DATA[name]).entries[0]
    flow = control_flow(entry)
    numbers = {one.name: (2048).to_bytes(one.bytes, "little") for one in entry.parameters or ()}
    found = Ranges(flow, summarise(entry, flow)).of(AtLaunch(launch.grid, launch.block, numbers))
    assert [found[one] for one in sorted(found)] == expected
