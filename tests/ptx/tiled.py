"""Programs that cover memory in tiles, as compilers write them, nearly: some leave gaps, some threads or turns out."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["tiled_programs"]

_HEAD = """\
.version 9.0
.target sm_90
.entry k(.param .u64 .ptr .global a, .param .u64 .ptr .global b, .param .u32 n)
{
.reg .b32 %r<30>; .reg .b64 %rd<12>; .reg .pred %p<9>;
ld.param.u64 %rd0, [a];
ld.param.u32 %r0, [n];
mov.u32 %r1, %tid.x;
mov.u32 %r2, %ctaid.x;
mov.u32 %r3, 0;
and.b32 %r4, %r1, 1;
shr.u32 %r5, %r1, 1;
and.b32 %r6, %r1, 3;
rem.u32 %r7, %r1, 3;
div.u32 %r8, %r1, 3;
mov.u32 %r10, 0;
mov.u32 %r11, 1;
mov.u32 %r12, 2;
mov.u32 %r13, 3;
"""
_THREADS = [[("%r1", 1)], [("%r4", 1), ("%r5", 2)], [("%r5", 1)], [("%r7", 1), ("%r8", 3)], [("%r6", 1)]]
"""Registers that depend on the thread, and their weights: all numbers once, twice, or again and again."""
_FACTORS = st.sampled_from([1, 1, 2, 2, 3, 4, 8])
_VECTORS = {"": "%r10", ".v2": "{%r10, %r11}", ".v4": "{%r10, %r11, %r12, %r13}"}


@st.composite
def tiled_programs(draw: st.DrawFn) -> str:
    """A kernel that accesses an element of ``a`` for each thread, CTA and turn of a loop, most times."""
    has_loop = draw(st.booleans())
    lines = [*draw(_addresses(has_loop)), *draw(_predicates()), *draw(_accesses())]
    return "\n".join([_HEAD, *(draw(_loops(lines)) if has_loop else lines), "ret;\n}\n"])


@st.composite
def _addresses(draw: st.DrawFn, has_loop: bool) -> list[str]:
    """The index, and the address in ``%rd2``."""
    factor = draw(_FACTORS)
    terms = [(name, weight * factor) for name, weight in draw(st.sampled_from(_THREADS))]
    terms.append(("%r2", draw(st.sampled_from([1, 2, 4, 8, 12, 16]))))
    terms += [("%r3", draw(_FACTORS))] if has_loop else []
    lines = [f"mad.lo.s32 %r9, {name}, {weight}, %r9;" for name, weight in terms]
    last = draw(st.sampled_from(["", "", "or.b32 %r9, %r9, 1;", "min.s32 %r9, %r9, %r0;", "xor.b32 %r9, %r9, 3;"]))
    return ["mov.u32 %r9, 0;", *lines, last, "mad.wide.s32 %rd2, %r9, 4, %rd0;"]


@st.composite
def _predicates(draw: st.DrawFn) -> list[str]:
    """What decides about accesses: ``%p1``."""
    relation = draw(st.sampled_from(["lt.s32", "lt.u32", "ge.s32", "ne.s32", "eq.s32"]))
    left, right = draw(st.sampled_from(["%r1", "%r2", "%r9", "%r3"])), draw(st.sampled_from(["%r0", "3", "100", "0"]))
    both = "setp.lt.s32 %p2, %r1, 5;\nand.pred %p1, %p1, %p2;"
    return [f"setp.{relation} %p1, {left}, {right};", draw(st.sampled_from(["", "not.pred %p1, %p1;", both]))]


@st.composite
def _accesses(draw: st.DrawFn) -> list[str]:
    """Loads or stores next to each other or not, under a guard or behind a branch at times, and one more at times."""
    vector = draw(st.sampled_from(list(_VECTORS)))
    guard = draw(st.sampled_from(["", "", "@%p1 ", "@!%p1 "]))
    store = f"st.global{vector}.u32 [%rd2+{{}}], {_VECTORS[vector]};"
    load = f"ld.global{vector}.u32 {_VECTORS[vector]}, [%rd2+{{}}];"
    one = draw(st.sampled_from([store, load]))
    offsets = draw(st.sampled_from([[0], [0, 4], [0, 8, 16], [-4], [0, 64]]))
    lines = [guard + one.replace("{}", str(offset)) for offset in offsets]
    branch = draw(st.sampled_from(["", "", "@%p1 bra $S;", "@!%p1 bra $S;", "@%p1 ret;"]))
    again = draw(st.sampled_from(["", one.replace("{}", "0")]))
    return [branch, *lines, "$S:", again] if branch else lines


@st.composite
def _loops(draw: st.DrawFn, lines: list[str]) -> list[str]:
    """The lines in a loop that counts in ``%r3``, tested first or last, and left on another way at times."""
    end, step = draw(st.sampled_from(["1", "3", "4", "%r0", "%r1"])), draw(st.sampled_from([1, 1, 2]))
    early = draw(st.sampled_from(["", "", "@%p4 bra $E;", "@%p4 ret;"]))
    lines = [*lines, "setp.gt.s32 %p4, %r2, 0;", early, f"add.s32 %r3, %r3, {step};"]
    if draw(st.booleans()):
        return ["$L:", f"setp.ge.s32 %p3, %r3, {end};\n@%p3 bra $E;", *lines, "bra $L;", "$E:"]
    return ["$L:", *lines, f"setp.lt.s32 %p3, %r3, {end};\n@%p3 bra $L;", "$E:"]
