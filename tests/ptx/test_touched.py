"""What a launch accesses for certain: compared with what threads do that run random programs, and cases by hand."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from forerun.ptx.accesses import summarise
from forerun.ptx.cfg import ControlFlow, control_flow
from forerun.ptx.launched import AtLaunch
from forerun.ptx.parser import parse_module
from forerun.ptx.ranges import MOST_NUMBERS, Ranges
from forerun.ptx.touched import Runs
from tests.ptx.indexed import indexed_programs
from tests.ptx.machine import Thread, programs
from tests.ptx.test_ranges import HEAD, NUMBERS, POINTERS
from tests.ptx.tiled import tiled_programs


def bytes_in(runs: Runs) -> set[int]:
    return {byte for start, stop in zip(*runs, strict=True) for byte in range(int(start), int(stop))}


def touched_by_threads(
    flow: ControlFlow, sizes: Mapping[int, int], n: int, grid: int, block: int
) -> dict[int, set[int]]:
    """The addresses of the bytes that all threads of a launch access, by instruction."""
    found: dict[int, set[int]] = {}

    def note(thread: Thread, index: int, number: int) -> None:
        address = flow.instructions[index].operands[number]
        start = (thread.registers[str(address.base)] + address.offset) % (1 << 64)  # type: ignore[union-attr, operator]
        found.setdefault(index, set()).update(range(start, start + sizes.get(index, 0)))

    for cta in range(grid):
        for tid in range(block):
            thread = Thread(flow, {"%tid.x": tid, "%ctaid.x": cta, "%ntid.x": block}, {**POINTERS, "n": n})
            thread.run(note)
            assume(thread.next_block(thread.trace[-1][0]) is None)  # it has ended
    return found


@given(tiled_programs() | programs() | indexed_programs(), NUMBERS, st.sampled_from([(2, 4), (1, 1), (3, 2), (1, 8)]))
def test_what_is_certain_is_accessed(text: str, n: int, shape: tuple[int, int]) -> None:
    entry = parse_module(text).entry("k")
    flow = control_flow(entry)
    summary = summarise(entry, flow)
    grid, block = shape
    ranges = Ranges(flow, summary)
    launch = AtLaunch((grid, 1, 1), (block, 1, 1), {"n": n.to_bytes(4, "little")})
    by_index = {one.index: one for one in summary.global_accesses}
    actual = touched_by_threads(flow, {i: one.bytes or 0 for i, one in by_index.items()}, n, grid, block)
    touched = ranges._touched.at(launch, ranges._limits(launch), 1 << 20)
    exact = 0
    for index, one in by_index.items():
        if one.parameter not in POINTERS:
            continue
        own = {byte - POINTERS[one.parameter] for byte in actual.get(index, ())}
        runs, is_complete = touched.bytes_of([one])
        certain = bytes_in(runs)
        assert certain <= own
        if is_complete:
            assert certain == own
        exact += bool(certain)
    event(f"accesses of which bytes are certain: {min(exact, 5)}")
    reached = ranges.reached(launch)
    for name, found in reached.items():
        own = {
            byte - POINTERS[name] for i, one in by_index.items() if one.parameter == name for byte in actual.get(i, ())
        }
        assert all(found.start <= byte < found.stop for byte in own)
        if found.is_exact:
            assert own == set(range(found.start, found.stop))
    event(f"exact: {sum(one.is_exact for one in reached.values())}")
    event(f"exact in a loop: {any(one.is_exact for one in reached.values()) and bool(flow.graph.loops)}")


LOOP = "mov.u32 %r6, %r3; $L: mad.wide.s32 %rd4, %r6, 4, %rd1; ld.global.u32 %r7, [%rd4]; add.s32 %r6, %r6, 128;"
RETURNED = "st.global.u32 [%rd3], 1; ret; $F: trap;"

CASES: dict[str, tuple[str, tuple[int, int, bool] | None]] = {
    "all threads": ("ld.global.u32 %r7, [%rd3];", (0, 2048, True)),
    "every other element": ("mad.wide.s32 %rd4, %r5, 8, %rd1; ld.global.u32 %r7, [%rd4];", (0, 4092, False)),
    "and the others": ("mad.wide.s32 %rd4, %r5, 8, %rd1; ld.global.u32 %r7, [%rd4]; ld.global.u32 %r8, [%rd4+4];",
                       (0, 4096, True)),
    "a guard": ("setp.lt.s32 %p1, %r5, %r1; @%p1 ld.global.u32 %r7, [%rd3];", (0, 1200, True)),
    "a guard that was loaded": ("ld.global.u32 %r8, [%rd2]; setp.lt.s32 %p1, %r8, 0; @%p1 ld.global.u32 %r7, [%rd3];",
                                (0, 2048, False)),
    "a return before it": ("setp.ge.s32 %p1, %r5, %r1; @%p1 ret; ld.global.u32 %r7, [%rd3];", (0, 1200, True)),
    "a return that was loaded": ("ld.global.u32 %r8, [%rd2]; setp.ge.s32 %p1, %r8, 0; @%p1 ret;"
                                 "ld.global.u32 %r7, [%rd3];", (0, 2048, False)),
    "ways that meet again": ("ld.global.u32 %r8, [%rd2]; setp.ge.s32 %p1, %r8, 0; @%p1 bra $E; mov.u32 %r8, 1; $E:"
                             "ld.global.u32 %r7, [%rd3];", (0, 2048, True)),
    "a trap if what was loaded is wrong": ("ld.global.u32 %r8, [%rd2]; setp.ge.s32 %p1, %r8, 0; @%p1 bra $F;"
                                           + RETURNED, (0, 2048, True)),
    "a loop": (LOOP + "setp.lt.s32 %p1, %r6, 300; @%p1 bra $L;", (0, 1200, True)),
    "a loop that is left early": (LOOP + "setp.eq.s32 %p2, %r7, 0; @%p2 bra $E; setp.lt.s32 %p1, %r6, 300;"
                                  "@%p1 bra $L; $E:", (0, 1536, False)),
    "a return in a loop": (LOOP + "setp.eq.s32 %p2, %r7, 0; @%p2 ret; setp.lt.s32 %p1, %r6, 300; @%p1 bra $L;",
                           (0, 1536, False)),
    "one that ends where the launch says": (LOOP + "setp.lt.s32 %p1, %r6, %r1; @%p1 bra $L;", (0, 1200, True)),
    "after a loop": (LOOP + "setp.lt.s32 %p1, %r6, 300; @%p1 bra $L; ld.global.u32 %r7, [%rd3];", (0, 2048, True)),
    "where a loop has come to": ("mov.u32 %r6, %r3; $L: add.s32 %r6, %r6, 128; setp.lt.s32 %p1, %r6, 300;"
                                 "@%p1 bra $L; mad.wide.s32 %rd4, %r6, 4, %rd1; ld.global.u32 %r7, [%rd4];",
                                 (1200, 2048, False)),
    "loads of what is also stored": ("ld.global.u32 %r7, [%rd3]; setp.lt.s32 %p1, %r5, %r1;"
                                     "@%p1 st.global.u32 [%rd3], 1;", (0, 2048, False)),
    "stores of what is also loaded": ("st.global.u32 [%rd3], 1; setp.lt.s32 %p1, %r5, %r1;"
                                      "@%p1 ld.global.u32 %r7, [%rd3];", (0, 2048, True)),
    "an atomic": ("atom.global.add.u32 %r7, [%rd3], 1;", (0, 2048, False)),
    "an ordered load": ("ld.relaxed.gpu.global.u32 %r7, [%rd3];", (0, 2048, False)),
    "what is discarded": ("discard.global.L2 [%rd3], 128;", (0, 2172, False)),
    "the copy engine": ("cp.async.ca.shared.global [%r6], [%rd3], 4, %r7;", (0, 2048, False)),
    "before a wait and after it": ("ld.global.u32 %r7, [%rd3]; griddepcontrol.wait; ld.global.u32 %r7, [%rd3];",
                                   (0, 2048, True)),
    "some of it before a wait": ("ld.global.u32 %r7, [%rd1]; griddepcontrol.wait; ld.global.u32 %r7, [%rd3];",
                                 (0, 2048, False)),
    "on some ways after a wait": ("ld.global.u32 %r8, [%rd2]; setp.ge.s32 %p1, %r8, 0; @%p1 bra $E;"
                                  "griddepcontrol.wait; $E: ld.global.u32 %r7, [%rd3];", (0, 2048, False)),
    "limits that are too wide": ("and.b32 %r6, %r5, -32; sub.s32 %r6, %r5, %r6; mad.wide.s32 %rd4, %r6, 4, %rd1;"
                                 "ld.global.u32 %r7, [%rd4];", (0, 128, True)),
    "what is called may do anything": ("call.uni helper; ld.global.u32 %r7, [%rd3];", None),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), CASES.values(), ids=CASES)
def test_what_is_exact_by_hand(lines: str, expected: tuple[int, int, bool] | None) -> None:
    entry = parse_module(f"{HEAD}{lines}\nret;\n}}\n").entry("k")
    flow = control_flow(entry)
    numbers = {"n": (300).to_bytes(4, "little"), "m": (200).to_bytes(4, "little")}
    found = Ranges(flow, summarise(entry, flow)).reached(AtLaunch((4, 1, 1), (128, 1, 1), numbers)).get("a")
    assert (found and (found.start, found.stop, found.is_exact)) == expected


def test_what_would_take_too_long_is_not_exact() -> None:
    entry = parse_module(f"{HEAD}setp.lt.s32 %p1, %r5, %r1; @%p1 ld.global.u32 %r7, [%rd3];\nret;\n}}\n").entry("k")
    flow = control_flow(entry)
    ranges = Ranges(flow, summarise(entry, flow))
    launch = AtLaunch((4, 1, 1), (128, 1, 1), {"n": (300).to_bytes(4, "little")})
    assert not ranges.reached(launch, 100)["a"].is_exact
    assert ranges.computed <= 100
    assert ranges.reached(launch)["a"].is_exact
    large = AtLaunch((1 << 20, 1, 1), (128, 1, 1), {"n": (300).to_bytes(4, "little")})
    assert not ranges.reached(large)["a"].is_exact
    assert ranges.computed < MOST_NUMBERS
