"""Through which pointers machine code accesses memory: hand-written listings, and PTX whose accesses are known."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from forerun.ptx import parse_module, summarise
from forerun.runtime.toolchain.facts import EntryFacts
from forerun.runtime.toolchain.image import facts_of_image
from forerun.runtime.toolchain.locate import require_compiler
from forerun.runtime.toolchain.ptxas import assemble
from forerun.runtime.toolchain.sass import parse_listing
from forerun.runtime.toolchain.sass_reach import Linked, Reach, linked_of, reach_of
from forerun.runtime.toolchain.unit import Source

BASE = 0x210
# The kernel's parameters: pointers at 0, 8 and 16, then numbers; a null pointer at 40.
POINTERS = frozenset({0, 8, 16})
NULLS = frozenset({40})
A, B, NUMBER, NULL = "c[0x0][0x210]", "c[0x0][0x218]", "c[0x0][0x228]", "c[0x0][0x238]"
LOAD, STORE = "LDG.E R0, desc[UR4][R2.64]", "STG.E desc[UR4][R2.64], R0"
INDEX = "LDG.E.64 R6, desc[UR4][R4.64]"  # what it loads is in R6 and R7


def facts_of(*lines: str) -> EntryFacts:
    """A line is an instruction, or a label if it ends with a colon."""
    offsets = iter(range(0, 16 * len(lines), 16))
    rows = [line if line.endswith(":") else f"  /*{next(offsets):04x}*/ {line} ;" for line in lines]
    listing = parse_listing("\n".join([".text.k:", *rows]))
    return EntryFacts(8, instructions=listing["k"])


def reach(*lines: str, nulls: Iterable[int] = NULLS, linked: Linked | None = None) -> Reach:
    return reach_of(facts_of(*lines, "EXIT"), POINTERS, BASE, frozenset(nulls), linked)


def reads(*lines: str, linked: Linked | None = None) -> set[int] | None:
    """What is read through, where nothing is written; ``None`` if that is not known."""
    found = reach(*lines, linked=linked)
    assert not found.writes
    return None if found.unknown else set(found.reads)


def load(pointer: str, register: str = "R2") -> str:
    return f"LDC.64 {register}, {pointer}"


ALL = {0, 8, 16}
SUMS: dict[str, tuple[set[int], tuple[str, ...]]] = {
    "a constant": ({0}, (load(A),)),
    "the upper half by itself": ({8}, ("MOV R2, c[0x0][0x218]", "MOV R3, c[0x0][0x21c]")),
    "a uniform constant": ({0}, ("ULDC.64 UR6, c[0x0][0x210]", "IMAD.U32 R2, RZ, RZ, UR6", "MOV R3, UR7")),
    "several words at once": ({8}, ("LDC.128 R0, c[0x0][0x210]",)),
    "an index": ({0}, ("S2R R0, SR_TID.X", load(A, "R4"), "IMAD.WIDE R2, R0, 0x4, R4")),
    "an index and a constant operand": ({8}, ("S2R R0, SR_TID.X", f"IMAD.WIDE.U32 R2, R0, 0x4, {B}")),
    "a shifted index": ({0}, (load(A, "R4"), "LEA R2, P0, R0, R4, 0x2", "LEA.HI.X R3, R0, R5, R1, 0x2, P0")),
    "a sum with carry": ({0}, (load(A, "R4"), "IADD3 R2, P0, R8, R4, RZ", "IADD3.X R3, R9, R5, RZ, P0, !PT")),
    "a sum of 64 bits": ({8}, (load(B, "R4"), "IADD.64 R2, R4, R8")),
    "a loaded index": ({0, 8}, (
        load(B, "R4"), INDEX, load(A), "IADD3 R2, P0, R6, R2, RZ", "IMAD.X R3, R7, 0x1, R3, P0",
    )),
    "a loaded index that is multiplied": ({0, 8}, (load(B, "R4"), INDEX, load(A, "R8"), "IMAD.WIDE R2, R6, 0x4, R8")),
    "a lane's index": ({0}, ("SHFL.IDX PT, R6, R5, 0x1, 0x1f", load(A, "R8"), "IMAD.WIDE R2, R6, 0x4, R8")),
    "a difference of pointers": ({0, 8, 16}, (
        "LDC.64 R2, c[0x0][0x220]", load(A, "R4"), load(B, "R6"),
        "IADD3 R4, P0, R4, -R6, RZ", "IADD3.X R5, R5, ~R7, RZ, P0, !PT",
        "IADD3 R2, P0, R2, R4, RZ", "IADD3.X R3, R3, R5, RZ, P0, !PT",
    )),
    "one or another": ({0, 8}, (
        load(A, "R4"), load(B, "R6"), "SEL R2, R4, R6, P0", "SEL R3, R5, R7, P0",
    )),
    "a pointer or nothing": ({0}, ("CS2R R2, SRZ", "@P0 BRA `(.L_x)", load(A), ".L_x:")),
    "ways that meet": ({0, 8}, (load(A), "@P0 BRA `(.L_x)", load(B), ".L_x:")),
    "a loop": ({0}, (load(A), ".L_x:", "IADD3 R2, P1, R2, 0x80, RZ", "IMAD.X R3, RZ, RZ, R3, P1", "@P0 BRA `(.L_x)")),
    "a predicated pointer": ({0, 8}, (load(A), "@P0 LDC.64 R2, c[0x0][0x218]")),
    "any of the pointers": (ALL, ("S2R R0, SR_CTAID.X", "LDC.64 R2, c[0x0][R0+0x210]")),
    "any of the pointers, and a loaded number": ({8}, (
        "LDC R0, c[0x0][R9+0x250]", "I2F.U32.RP R1, R0", "F2I.FTZ.U32.TRUNC.NTZ R1, R1", load(B, "R4"),
        "IMAD.WIDE.U32 R2, R1, 0x2, R4",
    )),
    "null": (set(), (load(NULL), "IMAD.WIDE R2, R0, 0x4, R2")),
    "what a call changes": ({0}, (
        load(B), "MOV R20, 0x20", "CALL.REL.NOINC `(.L_f)", LOAD, "EXIT",
        ".L_f:", load(A), "RET.REL.NODEC R20 `(k)",
    )),
    "what is not a pair": ({0}, (load(A), "CS2R.32 R1, SR_CLOCKLO", "MUFU.RCP64H R1, R5")),
    "an opcode that nobody knows": ({0}, (load(A), "FUTURE R20, R8, R9")),
    "a store to shared memory, whose address is no target": ({0}, (load(A), "STS [R2], R7", "STL [R3], R7")),
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "lines"), SUMS.values(), ids=SUMS)
def test_what_an_address_is_made_of(wanted: set[int], lines: tuple[str, ...]) -> None:
    assert reads(*lines, LOAD) == wanted


UNKNOWN = {
    "a pointer from memory": (load(A, "R4"), INDEX, "MOV R2, R6", "MOV R3, R7"),
    "a pointer from memory, by an index": (load(A, "R4"), INDEX, "IMAD.WIDE R2, R0, 0x8, R6"),
    "a pointer from shared memory": (load(A), "STS.64 [R9], R2", "LDS.64 R2, [R9]"),
    "a pointer from the stack": (load(A), "STL.64 [R1], R2", "LDL.64 R2, [R1]"),
    "one half from memory": (load(A), "LDS R3, [R9]"),
    "a pointer or one from memory": (load(A), "@P0 LDS.64 R2, [R9]"),
    "ways that meet, one from memory": (load(A), "@P0 BRA `(.L_x)", "LDS.64 R2, [R9]", ".L_x:"),
    "a lane's pointer": (load(A, "R4"), "SHFL.IDX PT, R2, R4, 0x1, 0x1f", "SHFL.IDX PT, R3, R5, 0x1, 0x1f"),
    "a matrix from shared memory": (load(A), "LDSM.16.M88.4 R0, [R9]"),
    "an atomic's result": (load(A, "R4"), "ATOMS.ADD R2, [R9], R8", "MOV R3, R5"),
    "bits of a pointer": (load(A), "LOP3.LUT R2, R2, 0xfffffff0, RZ, 0xc0, !PT"),
    "a multiple of a pointer": (load(A), "IMAD R2, R2, 0x3, RZ"),
    "a difference of pointers that is added to one from memory": (
        load(A, "R4"), INDEX, load(B, "R8"), "IADD3 R8, P0, R4, -R8, RZ", "IADD3.X R9, R5, ~R9, RZ, P0, !PT",
        "IADD3 R2, P0, R6, R8, RZ", "IADD3.X R3, R7, R9, RZ, P0, !PT",
    ),
    "a word at a place that a register says, and one from memory": (
        load(A, "R4"), INDEX, "LDC.64 R8, c[0x0][R0+0x210]", "IADD3 R2, P0, R6, R8, RZ", "IMAD.X R3, R7, 0x1, R9, P0",
    ),
    "a number": (load(NUMBER),),
    "a driver's constant": ("LDC.64 R2, c[0x0][0x208]",),
    "nothing": (),
    "user's constant memory": ("LDC.64 R2, c[0x3][0x8]",),
    "a variable": ("ULDC.64 UR6, c[0x4][0x8]", "MOV R2, UR6", "MOV R3, UR7"),
    "a bindless constant": ("LDC.64 R2, cx[UR4][0x10]",),
    "part of a pointer": (load(A), "LDC.U16 R2, c[0x0][0x212]"),
    "what only the other case sets": ("LDS.64 R2, [R9]", "@P0 LDC.64 R2, c[0x0][0x210]"),
    "an opcode that nobody knows": (load(A), "FUTURE R2, R8"),
    "wide results of an opcode that nobody knows": (load(A), "FUTURE R0, R8"),
    "what a call changes": (
        load(A), "CALL.REL.NOINC `(.L_f)", LOAD, "EXIT", ".L_f:", "LDS.64 R2, [R9]", "RET.REL.NODEC R20 `(k)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("lines", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_known(lines: tuple[str, ...]) -> None:
    found = reach(*lines, STORE)
    assert re.match(r"'(STG|LDG)\.E .*' accesses an? (address that|variable)", found.unknown)
    assert (found.reads, found.writes) == (frozenset(), frozenset())


def test_a_reason_tells_the_instruction() -> None:
    found = reach(load(A, "R4"), INDEX, "IADD3 R2, R6, 0x8, RZ", "MOV R3, R7", f"@!P0 {STORE}")
    assert found.unknown == (
        "'@!P0 STG.E desc[UR4][R2.64], R0' accesses an address that may come from memory, or from bits of a pointer"
    )


# What accesses how

ACCESSES = {
    "LDG.E.128.CONSTANT R8, desc[UR4][R2.64+0x10]": "read",
    "@!P0 LDG.E.ENL2.256 R12, R8, desc[UR4][R2.64]": "read",
    "LD.E R8, [R2]": "read",
    "LDG.E R8, desc[UR4][R2.64+UR10]": "read",
    "LDGSTS.E.BYPASS.128 [R9+UR8], desc[UR4][R2.64], P0": "read",
    "LDGSTS.E.LTC128B [R9], [R2.64+-0x8], P0": "read",
    "LDGMC.E.ADD.F32 R8, desc[UR4][R2.64]": "read",
    "STG.E.128 desc[UR4][R2.64], R4": "write",
    "ST.E.64 [R2], R4": "write",
    "ATOMG.E.ADD.STRONG.GPU PT, R4, desc[UR4][R2.64], R5": "update",
    "ATOM.E.CAS.64 PT, R4, [R2], R6, R8": "update",
    "RED.E.ADD.F32.FTZ.RN.STRONG.GPU desc[UR4][R2.64], R5": "update",
    "REDG.E.ADD.STRONG.GPU desc[UR4][R2.64], R5": "update",
    "CCTL.E.PF2 [R2]": "",
    "CCTL.IVALL": "",
    "LDS.128 R4, [R2+UR6]": "",
    "STS [R2], R4": "",
    "ATOMS.ADD R4, [R2], R5": "",
    "STL [R2], R4": "",
    "UTMAPF.L2.2D [UR8], [UR6]": "",
}


@pytest.mark.parametrize(("line", "wanted"), ACCESSES.items(), ids=ACCESSES)
def test_what_accesses_global_memory(line: str, wanted: str) -> None:
    found = reach(load(A), line)
    assert found == Reach(
        frozenset({0} if wanted in ("read", "update") else ()), frozenset({0} if wanted in ("write", "update") else ())
    )


@pytest.mark.parametrize("line", ["UTMALDG.2D [UR8], [UR4]", "UBLKCP.S.G [UR8], [UR4], UR6", "TEX R0, R2, 0x1, 2D"])
def test_tensor_maps_and_bulk_copies(line: str) -> None:
    assert reach(line).unknown == f"'{line}' accesses memory in bulk, or through a descriptor"


def test_an_address_of_two_registers() -> None:
    uniform = ("ULDC.64 UR12, c[0x0][0x218]",)
    assert reads(*uniform, "LDG.E R0, desc[UR4][R2.U32+UR12]") == {8}
    assert reads(*uniform, "LDS R2, [R9]", "LDG.E R0, [R2.U32+UR12]") == {8}
    assert reads(*uniform, "LDG.E R0, [RZ.U32+UR12]") == {8}
    assert reads(load(A), *uniform, "LDG.E R0, desc[UR4][R2.64+UR12]") == {0, 8}


def test_a_result_of_several_registers_replaces_them() -> None:
    for line in (
        "LDG.E.128 R0, desc[UR4][R8.64]",
        "LDS.128 R0, [R9]",
        "ATOMG.E.CAS.64 PT, R2, desc[UR4][R8.64], R4, R6",
    ):
        assert reach(load(A, "R8"), load(A), line, LOAD).unknown.startswith("'LDG.E R0")
    assert reach(load(A), "LDTM.x8 R0, tmem[UR4]", LOAD).unknown
    assert reach(load(A), "LDTM.x2 R0, tmem[UR4]", LOAD).reads == {0}
    assert reach(load(A), "F2I.S64.TRUNC R2, R8", LOAD).unknown
    assert reach(load(A), "I2F.F64.S64 R2, R8", LOAD).unknown
    for line in (
        "CS2R R2, SRZ",
        "DADD R2, R8, R10",
        "FADD2 R2, R8, R10",
        "FRND.F64 R2, R8",
        "IMAD.WIDE R2, R8, R9, R10",
    ):
        assert reach(load(A), line, LOAD).unknown
    for line in ("SHFL.BFLY PT, R1, R2, 0x1, 0x1f", "REDUX UR4, R2", "DADD R0, R2, R4", "SHF.R.U64 R1, R2, 0x1, R3"):
        assert reads(load(A), line, LOAD) == {0}


def test_instructions_that_set_nothing() -> None:
    lines = ("BAR.SYNC.DEFER_BLOCKING R2, R3", "WARPSYNC R2", "R2P PR, R2, 0x7f", "NANOSLEEP R2", "STS.64 [R2], R2")
    assert reads(load(A), *lines, "ISETP.NE.AND P0, PT, R2, RZ, PT", "FCHK P0, R2, R3", LOAD) == {0}


# Predicates


def test_a_pointer_that_is_set_and_used_under_the_same_predicate() -> None:
    junk = ("LDS.64 R2, [R9]", "@!P1 LDC.64 R2, c[0x0][0x210]")
    assert reads(*junk, f"@!P1 {LOAD}") == {0}
    assert reads(*junk, "@!P1 IADD3 R2, P2, R2, 0x8, RZ", "@!P1 IADD3.X R3, RZ, R3, RZ, P2, !PT", f"@!P1 {LOAD}") == {0}
    assert reads(*junk, "BSSY B0, `(.L_x)", "@P0 BRA `(.L_x)", "NOP", ".L_x:", f"@!P1 {LOAD}") == {0}
    assert reads(*junk, LOAD) is None
    assert reads(*junk, f"@P1 {LOAD}") is None
    assert reads(*junk, f"@!P2 {LOAD}") is None


def test_a_pointer_that_is_set_in_either_case() -> None:
    either = ("LDS.64 R2, [R9]", "@P1 LDC.64 R2, c[0x0][0x210]", "@!P1 LDC.64 R2, c[0x0][0x218]")
    assert reads(*either, LOAD) == {0, 8}
    assert reads(*either[:2], "ISETP.NE.AND P1, PT, R8, RZ, PT", either[2], LOAD) is None


CHANGES = ("ISETP.NE.AND P1, PT, R8, RZ, PT", "IADD3 R8, P1, R9, R10, RZ", "R2P PR, R8, 0x2", "FUTURE R8, R9, P1",
           "SHFL.UP P1, R8, R9, 0x1, RZ", "PLOP3.LUT P0, P1, PT, PT, PT, 0x8, 0x0")  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_predicate_that_changes_in_between(change: str) -> None:
    lines = ("LDS.64 R2, [R20]", "@!P1 LDC.64 R2, c[0x0][0x210]")
    assert reads(*lines, change, f"@!P1 {LOAD}") is None
    assert reads(*lines, "@P0 BRA `(.L_x)", change, ".L_x:", f"@!P1 {LOAD}") is None


# Calls


def test_code_elsewhere() -> None:
    assert reach("CALL.ABS.NOINC R2").unknown == "'CALL.ABS.NOINC R2' goes to code that is not the kernel's"
    assert reach("CALL.REL.NOINC `(helper)").unknown
    assert reach("JMP `(helper)").unknown
    assert reach("EXIT", "CALL.ABS.NOINC R2").unknown == ""


def test_functions_of_the_driver() -> None:
    call = ("LDC.64 R8, c[0x4][R0]", "LEPC R20, `(.L_x)", "CALL.ABS.NOINC R8", ".L_x:", load(A), LOAD)
    assert reads(*call, linked=Linked(calls=True)) == {0}
    assert reads(*call) is None
    assert reach("LDS.64 R8, [R9]", *call[2:], linked=Linked(calls=True)).unknown


def test_variables_that_only_the_module_can_name() -> None:
    address = ("ULDC.64 UR6, c[0x4][0x8]", "IMAD.WIDE R2, R0, 0x4, UR6")
    linked = Linked(variables=frozenset({8}))
    assert reads(*address, LOAD, linked=linked) == set()
    assert reads(*address, LOAD, linked=Linked(variables=frozenset({16}))) is None
    assert reach(*address, STORE, linked=linked).unknown.endswith("accesses a variable of its module")


def test_null_pointers() -> None:
    lines = (load(NULL), LOAD, load(A), STORE)
    assert reach(*lines) == Reach(frozenset(), frozenset({0}))
    assert reach(*lines, nulls=()).unknown.endswith("accesses an address that comes from no pointer")
    added = (load(NULL), load(A, "R4"), INDEX, "IADD3 R2, P0, R2, R6, RZ", "IMAD.X R3, R3, 0x1, R7, P0", LOAD)
    assert reach(*added).unknown.startswith("'LDG.E R0")


def test_what_is_never_executed() -> None:
    assert reads(load(A), LOAD, "EXIT", "LDS.64 R2, [R9]", LOAD) == {0}
    assert reach_of(EntryFacts(8), POINTERS, BASE) == Reach()


def test_parameters_begin_elsewhere() -> None:
    facts = facts_of("LDC.64 R2, c[0x0][0x388]", LOAD, "EXIT")
    assert reach_of(facts, POINTERS, 0x380).reads == {8}
    assert reach_of(facts, POINTERS, BASE).unknown


# Code that ptxas makes

PTX = """\
.version 8.6
.target %s
.address_size 64
.extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);
.global .align 4 .b32 table[4] = {1, 2, 3, 4};
.entry k(.param .u64 .ptr .global a, .param .u64 .ptr .global b, .param .u64 .ptr .global c,
         .param .u64 .ptr .global d, .param .u64 n)
{
.reg .b32 %%r<9>; .reg .b64 %%d<19>; .reg .pred %%p<9>; .shared .align 8 .b8 tile[64];
ld.param.u64 %%d1, [a]; ld.param.u64 %%d2, [b]; ld.param.u64 %%d3, [c]; ld.param.u64 %%d4, [d]; ld.param.u64 %%d5, [n];
mov.u32 %%r1, %%tid.x;
mul.wide.u32 %%d6, %%r1, 8;
add.s64 %%d7, %%d1, %%d6;
ld.global.u64 %%d8, [%%d7];
setp.lt.u64 %%p1, %%d8, %%d5;
@%%p1 bra GOOD;
{ .param .b64 p0; st.param.b64 [p0], %%d5; .param .b64 p1; st.param.b64 [p1], %%d5; .param .b32 p2;
  st.param.b32 [p2], %%r1; .param .b64 p3; st.param.b64 [p3], %%d5; .param .b64 p4; st.param.b64 [p4], %%d5;
  call.uni __assertfail, (p0, p1, p2, p3, p4); }
GOOD:
div.u64 %%d9, %%d8, %%d5;
mov.u64 %%d10, table;
and.b32 %%r2, %%r1, 3;
mul.wide.u32 %%d11, %%r2, 4;
add.s64 %%d10, %%d10, %%d11;
ld.global.u32 %%r3, [%%d10];
shl.b64 %%d9, %%d9, 2;
add.s64 %%d12, %%d2, %%d9;
LOOP:
ld.global.u32 %%r4, [%%d12];
add.s32 %%r3, %%r3, %%r4;
add.s64 %%d12, %%d12, 128;
add.s32 %%r1, %%r1, -32;
setp.gt.s32 %%p2, %%r1, 0;
@%%p2 bra LOOP;
add.s64 %%d13, %%d3, %%d9;
st.global.u32 [%%d13], %%r3;
setp.eq.u32 %%p3, %%r3, 7;
@%%p3 red.global.add.u32 [%%d4], 1;
ret;
}
"""


@pytest.mark.toolchain
@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize(("arch", "base"), [("sm_90", 0x210), ("sm_100", 0x380)])
def test_machine_code_reaches_what_its_text_does(arch: str, base: int) -> None:
    text = PTX % arch
    entry = parse_module(text).entry("k")
    places = {one.name: 8 * number for number, one in enumerate(entry.parameters or ())}
    wanted: dict[str, set[int]] = {"read": set(), "write": set(), "update": set()}
    for access in summarise(entry).global_accesses:
        wanted[access.kind] |= {places[root] for root in access.roots if root in places}
    assert wanted == {"read": {0, 8}, "write": {16}, "update": {24}}
    code, _ = assemble(text, Source("k", ""), arch, require_compiler().ptxas.path, ())
    facts = facts_of_image(code, "k")
    assert facts is not None
    pointers, linked = frozenset({0, 8, 16, 24}), linked_of(code)
    assert linked.calls
    assert len(linked.variables) == 1
    assert reach_of(facts, pointers, base, linked=linked) == Reach(frozenset({0, 8, 24}), frozenset({16, 24}))
    assert "is not the kernel's" in reach_of(facts, pointers, base).unknown
    with pytest.raises(ValueError, match="not a cubin"):
        linked_of(b"")
