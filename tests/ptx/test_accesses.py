"""Accesses of small kernels: what is named, what is unknown, and on which side of the wait it is."""

from __future__ import annotations

import pytest

from forerun.ptx.accesses import Access, AccessSummary, summarise
from forerun.ptx.parser import parse_module
from tests.ptx.small_kernel import HEAD
from tests.ptx.texts import DATA


def summary(*lines: str) -> AccessSummary:
    return summarise(parse_module(HEAD + "\n".join(lines) + "\n}\n").entry("k"))


def only(*lines: str) -> Access:
    (access,) = summary(*lines).accesses
    return access


def test_nothing_to_do() -> None:
    found = summarise(parse_module(".version 9.0\n.entry k() { }").entry("k"))
    assert (found.accesses, found.always_waits, found.waits_before_trigger) == ((), False, True)


# What an address derives from

READS = {
    "a parameter that is declared a pointer": ("ld.global.u32 %r5, [%rd1+4];", "a", "+4"),
    "one that cvta takes": ("ld.global.u32 %r5, [%rd12];", "b", "0"),
    "a pointer in a struct": ("ld.global.u32 %r5, [%rd14];", "s", "0"),
    "a pointer in a struct by a register": ("mov.u64 %rd5, s; add.s64 %rd6, %rd5, 16; ld.param.u64 %rd7, [%rd6-8];"
                                            "cvta.to.global.u64 %rd8, %rd7; ld.global.u32 %r5, [%rd8];", "s", "0"),
    "numbers that are added": ("add.s64 %rd5, %rd1, %rd3; ld.global.u32 %r5, [%rd5];", "a", "n"),
    "numbers that are loaded": ("ld.global.u64 %rd6, [%rd12]; mad.lo.u64 %rd5, %rd6, 8, %rd1;"
                                "ld.global.u32 %r5, [%rd5];", "a", "8*result(10:%rd6)"),
    "an index": ("mad.wide.u32 %rd5, %r1, 4, %rd1; ld.global.u32 %r5, [%rd5];", "a", "4*%tid.x"),
    "an index that may overflow": ("mad.wide.s32 %rd5, %r3, 4, %rd1; ld.global.u32 %r5, [%rd5];", "a", "4*sext.32(m)"),
    "a loop": ("mov.u64 %rd5, %rd1; $L: add.s64 %rd5, %rd5, 32; ld.global.u32 %r5, [%rd5];"
               "@%p2 bra $L;", "a", "32*turn(1)+32"),
    "a loop in a loop": ("mov.u64 %rd5, %rd1; $O: mov.u64 %rd6, %rd5; $L: ld.global.u32 %r5, [%rd6];"
                         "add.s64 %rd6, %rd6, 8; @%p2 bra $L; add.s64 %rd5, %rd5, 64; @%p1 bra $O;",
                         "a", "64*turn(1)+8*turn(2)"),
    "a pointer or nothing": ("selp.b64 %rd5, %rd1, 0, %p1; ld.global.u32 %r5, [%rd5];", "a", None),
    "a guard": ("mov.u64 %rd5, %rd1; @%p1 add.s64 %rd5, %rd5, 4; ld.global.u32 %r5, [%rd5];", "a", None),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "parameter", "offset"), READS.values(), ids=READS)
def test_the_parameter_of_an_address(lines: str, parameter: str, offset: str | None) -> None:
    access = summary(lines, "ret;").accesses[-1]
    assert (access.kind, access.space, access.bytes) == ("read", "global", 4)
    assert access.parameter == parameter
    assert access.offset is None if offset is None else str(access.offset) == offset.removeprefix("+")
    assert access.parameter_offset == (8 if parameter == "s" else 0)


UNKNOWN = {
    "a pointer from memory": "ld.global.u64 %rd5, [%rd1];",
    "a pointer from memory that cvta takes": "ld.global.u64 %rd6, [%rd1]; cvta.to.global.u64 %rd5, %rd6;",
    "bits of a pointer": "and.b64 %rd5, %rd1, -16;",
    "two pointers": "add.s64 %rd5, %rd1, %rd12;",
    "a difference of pointers": "sub.s64 %rd5, %rd3, %rd1;",
    "two numbers, either may be a pointer": "ld.param.u64 %rd7, [s]; add.s64 %rd5, %rd3, %rd7;",
    "halves": "mov.b64 {%r5, %r6}, %rd1; mov.b64 %rd5, {%r5, %r6};",
    "the other half": "mov.b64 {_, %r5}, %rd1; mad.wide.u32 %rd5, %r5, 1, 0;",
    "a parameter that another hides": ".param .b64 b; ld.param.u64 %rd5, [b];",
    "a number": "mov.u64 %rd5, 4096;",
    "nothing that is written": "",
    "what only one way writes": "@%p1 bra $L; mov.u64 %rd5, %rd1; $L:",
    "what only a guard writes": "@%p1 mov.u64 %rd5, %rd1;",
    "a lane's pointer": "shfl.sync.idx.b32 %r5, %r1, 0, 31, -1; cvt.u64.u32 %rd5, %r5;",
    "a call": "call (%rd5), helper, (%rd1);",
    "part of a struct at a computed offset": "mov.u64 %rd6, s; add.s64 %rd7, %rd6, %rd3; ld.param.u64 %rd5, [%rd7];",
    "what lies before a struct": "mov.u64 %rd6, s; ld.param.u64 %rd5, [%rd6-8];",
    "a hidden parameter by a register": ".param .b64 b; mov.u64 %rd6, b; ld.param.u64 %rd5, [%rd6];",
    "more than a parameter has": "ld.param.u64 %rd5, [s+28];",
    "a loop with two ways in": "@%p1 bra $B; $A: mov.u64 %rd5, %rd1; $B: @%p2 bra $A; mov.u64 %rd5, %rd1;",
}


@pytest.mark.parametrize("lines", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_unknown(lines: str) -> None:
    access = summary(lines, "st.global.u32 [%rd5], %r1;", "ret;").accesses[-1]
    assert access.kind == "write"
    assert access.parameter is None
    assert "?" in access.roots
    assert access.offset is None


def test_one_of_several_parameters() -> None:
    access = only("selp.b64 %rd5, %rd1, %rd12, %p1;", "ld.global.u32 %r5, [%rd5];")
    assert (access.parameter, access.roots) == (None, {"a", "b"})


def test_generic_addresses() -> None:
    assert only("ld.u32 %r5, [%rd1];").space == "generic"
    assert only("ld.u32 %r5, [%rd1];").parameter == "a"
    shared = only("mov.u64 %rd5, tile;", "cvta.shared.u64 %rd6, %rd5;", "st.v2.b32 [%rd6+8], {%r1, %r1};")
    assert (shared.space, shared.roots, shared.bytes, shared.may_be_global) == ("shared", {"&tile"}, 8, False)
    assert only("mov.u64 %rd5, counter;", "atom.global.add.u32 %r5, [%rd5], 1;").roots == {"&counter"}


# How memory is accessed

FAMILIES = {
    "ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1];": [("read", "global", 16)],
    "ld.volatile.shared.u16 %r1, [tile];": [("read", "shared", 2)],
    "ld.const.f64 %rd5, [x];": [("read", "const", 8)],
    "st.global.cs.bf16x2 [%rd1], %r1;": [("write", "global", 4)],
    "red.global.add.f32 [%rd1], %r1;": [("update", "global", 4)],
    "atom.global.cas.b128 %rd5, [%rd1], %rd2, %rd3;": [("update", "global", 16)],
    "cp.async.cg.shared.global [%r1], [%rd1], 16, %r2;": [("read", "global", 16), ("write", "shared", 16)],
    "cp.async.ca.shared.global [%r1], [%rd1], 16, 4;": [("read", "global", 4), ("write", "shared", 16)],
    "cp.async.ca.shared.global [%r1], [%rd1], 16, 0;": [("write", "shared", 16)],
    "cp.async.ca.shared.global [%r1], [%rd1], 8, !%p1;": [("read", "global", 8), ("write", "shared", 8)],
    "cp.async.ca.shared.global.L2::cache_hint [%r1], [%rd1], 16, %rd2;": [
        ("read", "global", 16),
        ("write", "shared", 16),
    ],
    "cp.async.ca.shared.global.L2::cache_hint [%r1], [%rd1], 16, 8, %rd2;": [
        ("read", "global", 8),
        ("write", "shared", 16),
    ],
    "cp.async.wait_group 1;": [],
    "cp.async.mbarrier.arrive.shared.b64 [tile];": [("update", "shared", None)],
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1], 128, [tile];": [
        ("read", "global", 128),
        ("write", "shared", 128),
    ],
    "cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r1], %r2;": [
        ("read", "shared", None),
        ("write", "global", None),
    ],
    "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%rd1], [%r1], 64;": [
        ("read", "shared", 64),
        ("update", "global", 64),
    ],
    "cp.async.bulk.prefetch.L2.global [%rd1], 256;": [("prefetch", "global", 256)],
    "cp.async.bulk.commit_group;": [],
    "cp.async.bulk.wait_group.read 0;": [],
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r2, %r3}], [tile];": [
        ("write", "shared", None),
        ("read", "global", None),
        ("read", "generic", 128),
    ],
    "cp.async.bulk.tensor.1d.global.shared::cta.bulk_group [%rd1, {%r2}], [%r1];": [
        ("read", "shared", None),
        ("write", "global", None),
        ("read", "generic", 128),
    ],
    "prefetch.global.L2 [%rd1];": [("prefetch", "global", None)],
    "discard.global.L2 [%rd1], 128;": [("write", "global", 128)],
    "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1, %r2, %r3, %r4}, [%r5];": [("read", "shared", 16)],
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%r1, %r2}, %rd1, %rd2, %p1, 1, 1;": [
        ("read", "shared", None)
    ],
    "wmma.load.a.sync.aligned.row.m16n16k16.global.f16 {%r1, %r2}, [%rd1], %r3;": [("read", "global", None)],
    "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%r1}, {%r2}, {%r3}, {%r4};": [],
    "tex.1d.v4.f32.s32 {%r1, %r2, %r3, %r4}, [texture, {%r5}];": [("read", "global", None)],
    "multimem.red.global.add.f32 [%rd1], %r1;": [("update", "global", None)],
    "mbarrier.init.shared::cta.b64 [tile], 1;": [("update", "shared", None)],
    "fence.proxy.async;": [],
    "bar.sync 0;": [],
    "tensormap.replace.tile.global_address.global.b1024.b64 [%rd1], %rd2;": [("unknown", "any", None)],
    "call helper;": [("unknown", "any", None)],
    "st.bulk.weak.shared::cta [%rd1], 64, 0;": [("unknown", "any", None)],
    "frobnicate.global.u32 [%rd1], %r1;": [("unknown", "any", None)],
    "st [%rd1], %r1;": [("write", "generic", None)],
}


@pytest.mark.parametrize(("line", "expected"), FAMILIES.items(), ids=FAMILIES)
def test_families_of_opcodes(line: str, expected: list[tuple[str, str, int | None]]) -> None:
    found = summary(line, "ret;")
    assert [(one.kind, one.space, one.bytes) for one in found.accesses] == expected
    of_parameters = [one.parameter for one in found.accesses if one.space == "global" and one.bytes]
    assert of_parameters == ["a" for _, space, size in expected if space == "global" and size]
    assert all(one.is_asynchronous == line.startswith(("cp.", "wgmma")) for one in found.accesses)
    assert bool(found.strict) == any(kind == "unknown" for kind, _, _ in expected)


def test_how_a_load_is_made() -> None:
    access = only("@!%p1 ld.relaxed.gpu.global.nc.L1::evict_last.L2::cache_hint.u32 %r5, [%rd1], %rd3;")
    assert access.is_nc
    assert access.guard == "@!%p1"
    assert access.cache == ("relaxed", "L1::evict_last", "L2::cache_hint")
    assert (
        str(access)
        == "line 18: @!%p1 read global 4 bytes at a + 0, before the wait relaxed L1::evict_last L2::cache_hint nc"
    )


# The wait

LOAD, STORE, WAIT, TRIGGER = (
    "ld.global.u32 %r5, [%rd1];",
    "st.global.u32 [%rd12], %r1;",
    "griddepcontrol.wait;",
    "griddepcontrol.launch_dependents;",
)
SIDES = {
    "before and after": ((LOAD, WAIT, STORE, "ret;"), [False, True], True),
    "none": ((LOAD, STORE, "ret;"), [False, False], False),
    "under a guard": (("@%p1 griddepcontrol.wait;", STORE, "ret;"), [False], False),
    "on one way": (("@%p1 bra $L;", WAIT, LOAD, "$L:", STORE, "ret;"), [True, False], False),
    "on both": (("@%p1 bra $A;", WAIT, "bra $B;", "$A:", WAIT, "$B:", STORE, "ret;"), [False], True),
    "in a loop": (("$L:", LOAD, WAIT, STORE, "@%p2 bra $L;", LOAD, "ret;"), [False, True, True], True),
    "an early return": (("@%p1 ret;", WAIT, STORE, "ret;"), [True], False),
    "an early return after it": ((WAIT, "@%p1 exit;", STORE, "ret;"), [True], True),
    "where nothing comes": (("ret;", WAIT, STORE), [], False),
    "before an endless loop": (("$L: bra $L;",), [], True),
    "after a call, which may end the thread": (("call helper;", WAIT, "ret;"), [False], False),
    "before a call": ((WAIT, "call helper;", "ret;"), [True], True),
    "a trap, which is no exit": (("@%p1 bra $L;", WAIT, STORE, "ret;", "$L: trap;"), [True], True),
    "a trap on some ways": (("@%p1 trap;", "@%p2 ret;", WAIT, STORE, "ret;"), [True], False),
    "a failed assertion": (("@%p1 bra $L;", WAIT, STORE, "ret;", "$L: call __assertfail, (%rd1);"), [True], True),
    "an assertion that holds": (("@%p1 call __assertfail, (%rd1);", "ret;", WAIT), [], False),
    "in a function that is called": (("call helper;", STORE, "ret;"), [False, False], False),
}


@pytest.mark.parametrize(("lines", "after", "always"), SIDES.values(), ids=SIDES)
def test_sides_of_the_wait(lines: tuple[str, ...], after: list[bool], always: bool) -> None:
    found = summary(*lines)
    assert [one.after_wait for one in found.accesses] == after
    assert found.always_waits == always


def test_triggers() -> None:
    assert summary(WAIT, TRIGGER, "ret;").waits_before_trigger
    assert not summary(TRIGGER, WAIT, "ret;").waits_before_trigger
    assert len(summary(TRIGGER, "@%p1 griddepcontrol.launch_dependents;", "ret;").triggers) == 2


# The texts of others


TENSOR_MEMORY = {name for name, text in DATA.items() if "tcgen05" in text}
WITH_TENSOR_MAPS = {"triton_persistent_tensor_maps", "triton_persistent_tma"}


@pytest.mark.parametrize("name", sorted(TENSOR_MEMORY))
def test_kernels_that_allocate_tensor_memory_are_treated_strictly(name: str) -> None:
    """One that does so ahead of its wait could keep from a primary, which it waits for, what that is to allocate."""
    (found,) = (summarise(entry) for entry in parse_module(DATA[name]).entries)
    assert "tcgen05.alloc" in "".join(found.strict)
    assert any("?" in one.roots for one in found.global_accesses)


@pytest.mark.parametrize("name", sorted(DATA.keys() - TENSOR_MEMORY - WITH_TENSOR_MAPS))
def test_every_global_access_is_named(name: str) -> None:
    found = [one for entry in parse_module(DATA[name]).entries for one in summarise(entry).global_accesses]
    assert found
    assert all("?" not in one.roots for one in found)
    several = [one.roots for one in found if one.parameter is None]
    assert all(len(roots) > 1 or roots == {"&__cudart_i2opi_f"} for roots in several)
    assert all("rope" in root for roots in several for root in roots - {"&__cudart_i2opi_f"})


@pytest.mark.parametrize("name", sorted(WITH_TENSOR_MAPS))
def test_what_tensor_maps_reach_is_unknown(name: str) -> None:
    (kernel,) = parse_module(DATA[name]).entries
    found = [access for access in summarise(kernel).accesses if ".tensor." in access.opcode and "?" in access.roots]
    copies = {access.kind for access in found if access.space == "global"}
    assert copies == {"read", "write"}
    assert all(access.parameter is None for access in found)


def test_triton_waits_and_triggers() -> None:
    found = summarise(parse_module(DATA["triton_vec_add_pdl"]).entries[0])
    assert found.always_waits
    assert all(one.after_wait for one in found.global_accesses)
    assert len(found.triggers) == 1
    reads = [one for one in found.accesses if one.kind == "read"]
    assert {one.parameter for one in reads} == {"vec_add_pdl_param_0", "vec_add_pdl_param_1"}
    assert str(reads[0].offset) == "4*sext.32(1024*%ctaid.x+4*%tid.x)"


# Limits


def offset_with(directive: str, *lines: str) -> str:
    text = HEAD.replace("s[32])", f"s[32]) {directive}") + "\n".join(lines)
    text += " cvt.u64.u32 %rd5, %r5; add.s64 %rd5, %rd1, %rd5; ld.global.u8 %r6, [%rd5]; ret; }"
    found = summarise(parse_module(text).entry("k"))
    return str(found.accesses[-1].offset)


def test_threads_are_limited_by_what_the_head_says() -> None:
    mask = "and.b32 %r5, %r1, 127;"
    assert offset_with("", mask) == "and(%tid.x, 127)"
    assert offset_with(".maxntid 1, 128", mask) == "%tid.x"  # the product counts
    assert offset_with(".maxntid 2, 128", mask) == "and(%tid.x, 127)"
    assert offset_with(".reqntid 128", mask) == "%tid.x"
    assert offset_with(".reqntid 128", "mov.u32 %r5, %ntid.x;") == "128"
    assert offset_with(".reqntid 128", "mov.u32 %r5, %tid.y; and.b32 %r5, %r5, 1;") == "0"


def test_what_is_known_of_shifts() -> None:
    assert offset_with("", "shl.b32 %r5, %r1, 40;") == "0"
    assert offset_with("", "shl.b32 %r5, %r1, 4; or.b32 %r5, %r5, 8;") == "16*%tid.x+8"
    assert offset_with("", "shl.b32 %r5, %r1, 3; or.b32 %r5, %r5, 8;") == "or(8*%tid.x, 8)"
    assert offset_with("", "shr.u32 %r5, %r1, 5; and.b32 %r5, %r5, 31;") == "shr(%tid.x, 5)"
    # A number below zero has its highest bits set.
    assert offset_with("", "neg.s32 %r5, %r1; shr.u32 %r5, %r5, 28; and.b32 %r5, %r5, 7;") == "and(shr(-%tid.x, 28), 7)"
